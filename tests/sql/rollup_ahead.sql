-- Up to when rows find a partition: the same by the relation cache as by bounds read as text, whatever bounds there are.
SET client_min_messages TO warning; SET timezone TO 'UTC'; SET datestyle TO 'ISO, MDY';
CREATE SCHEMA pa; SET search_path TO pa, public;

CREATE TABLE none (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE ends (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE ends_1 PARTITION OF ends FOR VALUES FROM (MINVALUE) TO ('3000-01-01');
CREATE TABLE ends_2 PARTITION OF ends FOR VALUES FROM ('3000-01-01') TO ('3001-01-01');
CREATE TABLE ends_3 PARTITION OF ends FOR VALUES FROM ('3001-01-02') TO (MAXVALUE);
CREATE TABLE endless (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE endless_1 PARTITION OF endless FOR VALUES FROM ('2000-01-01') TO ('3000-01-01');
CREATE TABLE endless_2 PARTITION OF endless FOR VALUES FROM ('3000-01-01') TO (MAXVALUE);
CREATE TABLE infinite (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE infinite_1 PARTITION OF infinite FOR VALUES FROM (MINVALUE) TO ('-infinity');
CREATE TABLE infinite_2 PARTITION OF infinite FOR VALUES FROM ('-infinity') TO ('infinity');
CREATE TABLE infinite_3 PARTITION OF infinite FOR VALUES FROM ('infinity') TO (MAXVALUE);
CREATE TABLE past (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE past_1 PARTITION OF past FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');
CREATE TABLE past_d PARTITION OF past DEFAULT;
CREATE TABLE future (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE future_1 PARTITION OF future FOR VALUES FROM ('3000-01-01') TO ('3001-01-01');
-- Below the one that is asked about nothing counts.
CREATE TABLE deep (at timestamptz, site int) PARTITION BY RANGE (at);
CREATE TABLE deep_1 PARTITION OF deep FOR VALUES FROM ('2000-01-01') TO ('3000-01-01') PARTITION BY LIST (site);
CREATE TABLE deep_d PARTITION OF deep DEFAULT PARTITION BY HASH (site);
CREATE TABLE local (at timestamp) PARTITION BY RANGE (at);
CREATE TABLE local_1 PARTITION OF local FOR VALUES FROM ('2000-01-01') TO ('3000-07-01 12:00:00.000001');
CREATE TABLE local_d PARTITION OF local DEFAULT;
CREATE TABLE dates (at date) PARTITION BY RANGE (at);
CREATE TABLE dates_1 PARTITION OF dates FOR VALUES FROM ('0044-03-15 BC') TO ('3000-07-01');
CREATE TABLE dates_2 PARTITION OF dates FOR VALUES FROM ('3000-07-01') TO ('3000-07-02');
CREATE TABLE forever (at date) PARTITION BY RANGE (at);
CREATE TABLE forever_1 PARTITION OF forever FOR VALUES FROM ('-infinity') TO ('infinity');
CREATE DOMAIN day AS date;
CREATE TABLE ofdomain (at day) PARTITION BY RANGE (at);
CREATE TABLE ofdomain_1 PARTITION OF ofdomain FOR VALUES FROM ('2000-01-01') TO ('3000-01-01');
-- Not by one column of time.
CREATE TABLE two (at timestamptz, site int) PARTITION BY RANGE (at, site);
CREATE TABLE two_1 PARTITION OF two FOR VALUES FROM ('2000-01-01', MINVALUE) TO ('3000-01-01', MAXVALUE);
CREATE TABLE list (at date) PARTITION BY LIST (at);
CREATE TABLE list_1 PARTITION OF list FOR VALUES IN ('2000-01-01', NULL);
CREATE TABLE hash (at timestamptz) PARTITION BY HASH (at);
CREATE TABLE hash_1 PARTITION OF hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE number (at bigint) PARTITION BY RANGE (at);
CREATE TABLE number_1 PARTITION OF number FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
CREATE TABLE formula (at timestamp) PARTITION BY RANGE (date_trunc('day', at));
CREATE TABLE formula_1 PARTITION OF formula FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
CREATE TABLE plain (at timestamptz);
INSERT INTO rollup.partitioning (relation, width, ahead, timezone)
  SELECT c.oid, '1 day', '1 day', 'America/New_York' FROM pg_class c WHERE c.relnamespace = 'pa'::regnamespace AND NOT c.relispartition AND c.relkind IN ('r', 'p');

CREATE VIEW told AS SELECT k.relation, a.until, a.why, (SELECT coalesce(timezone(z.of_bounds, timezone('UTC', rollup_internal.covered_until(k.relation, timezone('UTC', timezone(z.of_bounds, now()))))), now())
    FROM rollup_internal.partition_zones(k.relation) z WHERE z.of_bounds IS NOT NULL) AS by_text
  FROM rollup.partitioning k, rollup_internal.partitions_ahead(k.relation, k.timezone) a;
SELECT relation, CASE WHEN until = now() THEN 'now' ELSE until::text END AS until, until IS NOT DISTINCT FROM by_text AS same, why FROM told ORDER BY relation::text;

-- Bounds in all orders, with gaps, some of them without an end.
CREATE FUNCTION odd(seed int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE kind text; cuts text[]; name text; n int; wrong int := 0;
BEGIN
  PERFORM setseed(seed / 1000.0);
  FOR n IN 1..40 LOOP
    kind := (ARRAY['date', 'timestamp', 'timestamptz'])[1 + floor(random() * 3)::int];
    name := 'odd_' || n;
    EXECUTE format('CREATE TABLE %I (at %s) PARTITION BY RANGE (at)', name, kind);
    SELECT array_agg(quote_literal(at) ORDER BY at) INTO cuts FROM (SELECT current_date + floor(random() * 20 - 8)::int FROM generate_series(1, 8)
      UNION SELECT e FROM unnest('{-infinity,infinity}'::date[]) e WHERE random() < 0.4) d (at);
    cuts := CASE WHEN random() < 0.3 THEN array_prepend('MINVALUE'::text, cuts) ELSE cuts END;
    cuts := CASE WHEN random() < 0.3 THEN array_append(cuts, 'MAXVALUE'::text) ELSE cuts END;
    FOR i IN 2..cardinality(cuts) LOOP
      IF random() < 0.85 THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)', name || '_' || i, name, cuts[i - 1], cuts[i]);
      END IF;
    END LOOP;
    INSERT INTO rollup.partitioning (relation, width, ahead, timezone) VALUES (name::regclass, '1 day', '1 day', (ARRAY['UTC', 'Asia/Kolkata', 'America/New_York'])[1 + floor(random() * 3)::int]);
  END LOOP;
  SELECT count(*) INTO wrong FROM told WHERE until IS DISTINCT FROM by_text OR why IS NOT NULL;
  RETURN wrong;
END $$;
SELECT odd(7) AS wrong;
SELECT count(*) > 5 AS some_now, count(*) FILTER (WHERE isfinite(until) AND until > now()) > 5 AS some_later, count(*) FILTER (WHERE until = 'infinity') > 3 AS some_endless FROM told WHERE relation::text ~ 'odd';

-- One whose time no timestamp holds, and one in a time zone that is not known, say why.
CREATE TABLE late (at date) PARTITION BY RANGE (at);
CREATE TABLE late_1 PARTITION OF late FOR VALUES FROM ('2000-01-01') TO ('5874897-12-31');
SELECT * FROM rollup_internal.partitions_ahead('late', 'UTC');
SELECT * FROM rollup_internal.partitions_ahead('local', 'Nowhere/None');
SELECT * FROM rollup_internal.partitions_ahead(NULL, 'UTC'), rollup_internal.partitions_ahead(0::regclass, 'UTC') z;
DELETE FROM rollup.partitioning;
DROP SCHEMA pa CASCADE;
