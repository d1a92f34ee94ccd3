\set VERBOSITY terse
-- every merge rule against the query itself: rows arrive in three pieces, some groups late, some values NULL
CREATE TYPE mood AS ENUM ('low', 'fair', 'high');
CREATE TABLE sample (at timestamptz NOT NULL, site int, i2 int2, i4 int4, i8 int8, n numeric, f4 real, f8 float8, m money, d interval,
  b bool, v bit(5), t text, day date, mood mood, a int[], ip inet, r int4range, seen timestamp);
CREATE FUNCTION piece(p int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO sample SELECT timestamptz '2026-01-01 00:00+00' + (i * p % 50) * interval '10 minutes', nullif(i % 4, 3),
    i % 30 - 15, i * 7919 % 1000 - 300, i::int8 * 1000000007 % 100000000000, (i * 31 % 997) / 8.0 - 20 + p, i % 64 / 4.0, i * p % 4096 / 16.0,
    (i % 100)::money, i % 90 * interval '1 minute', i % 3 > 0, (i % 31 + 1)::bit(5), 'word ' || i * 13 % 40, date '2026-01-01' + i % 9,
    (ARRAY['low', 'fair', 'high'])[1 + i % 3]::mood, ARRAY[i % 5, i % 7], ('10.0.0.' || i % 200)::inet, int4range(i % 40 * 10, i % 40 * 10 + i % 12 + 1),
    timestamp '2026-01-01' + (i * 37 % 1000) * interval '1 second' FROM generate_series(1, 400) i;
  INSERT INTO sample (at, site) SELECT timestamptz '2026-01-01 00:00+00' + p * interval '3 hours' + i * interval '1 minute', 1 FROM generate_series(1, 3) i $$;
-- differences between a relation and the query, both ways, as text
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
-- three pieces: after each, before and after a run, the live views equal the query; at the end the table does
CREATE PROCEDURE prove(what text, columns text) LANGUAGE plpgsql AS $$
DECLARE q text := 'SELECT site, date_trunc(''hour'', at) AS at, ' || columns || ' FROM sample GROUP BY 1, 2'; wrong bigint := 0; merged bigint := 0;
  day text := 'SELECT site, date_trunc(''day'', at, ''UTC'') AS at, ' || columns || ' FROM sample GROUP BY 1, 2';
BEGIN
  TRUNCATE sample;
  PERFORM rollup.create('probe', q, every => NULL, coarser => '{"probe_1day": "1 day"}');
  COMMIT;
  FOR p IN 1..3 LOOP
    PERFORM piece(p);
    COMMIT;
    wrong := wrong + differs('probe_live', q) + differs('probe_1day_live', day);
    merged := merged + rollup_sample();
    COMMIT;
    wrong := wrong + differs('probe_live', q) + differs('probe_1day_live', day);
  END LOOP;
  -- the table itself, where it has every column, in the order of the query
  EXECUTE format('CREATE TEMP VIEW stored AS SELECT %s FROM probe', (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute v
    WHERE attrelid = 'probe_live'::regclass AND attnum > 0 AND EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = 'probe'::regclass AND p.attname = v.attname)));
  IF (SELECT count(*) FROM pg_attribute WHERE attrelid = 'stored'::regclass) = (SELECT count(*) FROM pg_attribute WHERE attrelid = 'probe_live'::regclass) THEN
    wrong := wrong + differs('stored', q);
  END IF;
  DROP VIEW stored;
  RAISE NOTICE '%: % rows merged, % differ; hidden: %', what, merged, wrong, (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute p WHERE attrelid = 'probe'::regclass
    AND attnum > 0 AND NOT EXISTS (SELECT FROM pg_attribute v WHERE v.attrelid = 'probe_live'::regclass AND p.attname = v.attname));
  PERFORM rollup.drop('probe');
END $$;
CALL prove('count', 'count(*) AS n, count(i4) AS n4, count(*) FILTER (WHERE b) AS n_b');
CALL prove('sum', 'sum(i2) AS s2, sum(i4) AS s4, sum(i8) AS s8, sum(n) AS sn, sum(f4) AS sf4, sum(f8) AS sf8, sum(m) AS sm, sum(d) AS sd, sum(i4) FILTER (WHERE i4 > 0) AS positive');
CALL prove('min and max', 'min(i2) AS a, max(i8) AS b, min(n) AS c, max(f4) AS d, min(f8) AS e, max(m) AS f, min(d) AS g, max(t) AS h, min(day) AS i, max(mood) AS j, min(a) AS k, max(ip) AS l, min(seen) AS m');
CALL prove('booleans', 'bool_and(b) AS every_b, bool_or(b) AS any_b, every(b) AS e');
CALL prove('bits', 'bit_and(i2) AS a, bit_or(i4) AS b, bit_xor(i8) AS c, bit_and(v) AS d, bit_or(v) AS e, bit_xor(v) AS f');
CALL prove('avg', 'avg(i2) AS a2, avg(i4) AS a4, avg(i8) AS a8, avg(n) AS an, avg(f4) AS af4, avg(f8) AS af8, avg(d) AS ad, avg(i4) FILTER (WHERE b) AS a_b');
CALL prove('variance of exact numbers', 'variance(i2) AS a, var_samp(i4) AS b, var_pop(i8) AS c, variance(n) AS d, var_pop(n) FILTER (WHERE n > 50) AS e');
CALL prove('deviation of exact numbers', 'stddev(i2) AS a, stddev_samp(i4) AS b, stddev_pop(i8) AS c, stddev(n) AS d, stddev_pop(i4) AS e, avg(i4) AS f');
CALL prove('floats', 'round((variance(f4))::numeric, 6) AS a, round((stddev(f8))::numeric, 6) AS b, round((var_pop(f8))::numeric, 6) AS c, round((stddev_pop(f4))::numeric, 6) AS d');
CALL prove('pairs', 'round((corr(f8, f4))::numeric, 6) AS a, round((covar_pop(f8, i4))::numeric, 6) AS b, round((covar_samp(i4, f8))::numeric, 6) AS c, round((regr_slope(f8, f4))::numeric, 6) AS d, round((regr_intercept(f8, f4))::numeric, 6) AS e, round((regr_r2(f8, f4))::numeric, 6) AS f,
  round((regr_count(f8, f4))::numeric, 6) AS g, round((regr_avgx(f8, f4))::numeric, 6) AS h, round((regr_avgy(f8, f4))::numeric, 6) AS i, round((regr_sxx(f8, f4))::numeric, 6) AS j, round((regr_sxy(f8, f4))::numeric, 6) AS k, round((regr_syy(f8, f4))::numeric, 6) AS l');
CALL prove('first and last', 'rollup.first(t, at) AS first_t, rollup.last(i4, at) AS last_i4, rollup.last(mood, seen) AS last_mood, rollup.first(a, at) FILTER (WHERE b) AS first_a, rollup.last(day, day) AS last_day');
CALL prove('ranges', 'range_agg(r) AS covered, range_intersect_agg(r) AS common');
CALL prove('sketches and counters', 'hll_add_agg(hll_hash_text(t)) AS words, hll_add_agg(hll_hash_integer(i4), 12) AS wide, jsonb_counter_agg(t) AS by_word, jsonb_counter_agg(t, i4) AS by_value,
  hll_union_agg(hll_empty() || hll_hash_text(t)) AS united, jsonb_counter_merge_agg(jsonb_build_object(coalesce(t, ''none''), 2)) AS merged');
-- expressions over aggregates and keys; equal parts are kept once
CALL prove('expressions', 'sum(i4) / count(*) AS mean, avg(i4) AS exact_mean, hll_cardinality(hll_add_agg(hll_hash_text(t))) AS words, sum(i4) AS total, site * count(*) AS odd,
  round(100.0 * count(*) FILTER (WHERE b) / count(*), 2) AS share, coalesce(max(n), 0) - coalesce(min(n), 0) AS spread, count(*) AS n');
-- not immutable: a column of the view
CALL prove('not immutable', 'count(*) AS n, to_char(max(at), ''YYYY'') AS year');
-- zero in one piece, not in the whole
CALL prove('division', 'sum(i4) / nullif(count(i4), 0) AS guarded, count(*) % (count(*) FILTER (WHERE i4 > 0) + 1) AS rest');
TRUNCATE sample;
SELECT rollup.create('share', $$ SELECT date_trunc('hour', at) AS at, sum(i4) / count(*) FILTER (WHERE b) AS per_b, count(*) AS n FROM sample GROUP BY 1 $$, every => NULL) IS NOT NULL AS made;
INSERT INTO sample (at, i4, b) VALUES ('2026-01-01', 10, false);
SELECT rollup_sample();
SELECT per_b, n FROM share_live;
INSERT INTO sample (at, i4, b) VALUES ('2026-01-01', 10, true);
SELECT rollup_sample();
SELECT per_b, n FROM share;
SELECT rollup.drop('share');
-- a value at one time: the order of rows does not matter
SELECT rollup.first(x, at), rollup.last(x, at), rollup.first(x::text, at), rollup.last(x, NULL::timestamptz) FROM (VALUES (2, timestamptz '2026-01-01'), (1, '2026-01-01'), (3, '2026-01-02'), (9, '2026-01-02'), (NULL, '2025-01-01'), (0, NULL)) v (x, at);
SELECT rollup.first(p, timestamptz '2026-01-01') FROM (VALUES (point '(1,2)'), (point '(2,3)')) v (p);
SELECT rollup.first(p, timestamptz '2026-01-01') FROM (VALUES (point '(1,2)')) v (p);
-- rules of one's own
CREATE FUNCTION longer(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS 'SELECT CASE WHEN (length($1), $1) >= (length($2), $2) THEN $1 ELSE $2 END';
CREATE FUNCTION longer_late(text, text) RETURNS text LANGUAGE sql STABLE STRICT AS 'SELECT $1';
CREATE AGGREGATE longest(text) (SFUNC = longer, STYPE = text);
CREATE FUNCTION halve(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1 + $2) / 2';
CREATE FUNCTION nothing(bigint[], int) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS 'SELECT ARRAY[coalesce($1[1], 0) + coalesce($2, 0), coalesce($1[2], 0) + ($2 IS NOT NULL)::int]';
CREATE FUNCTION half_of(bigint[]) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $1[2] > 0 THEN halve($1[1], $1[2]) END';
CREATE AGGREGATE halved(int) (SFUNC = nothing, STYPE = bigint[], FINALFUNC = half_of);
SELECT rollup.create('own', 'SELECT date_trunc(''hour'', at) AS at, longest(t) AS t FROM sample GROUP BY 1');
SELECT rollup.add_merge_rule('longest(text)', 'longer_late(text,text)', 'longest(text)'::regprocedure);
SELECT rollup.add_merge_rule('longest(text)', 'int4pl(int,int)', 'longest(text)'::regprocedure);
SELECT rollup.add_merge_rule('longest(text)', 'longer(text,text)', 'sum(int)'::regprocedure);
SELECT rollup.add_merge_rule('longer(text,text)', 'longer(text,text)', 'longest(text)'::regprocedure);
SELECT rollup.add_merge_rule('sum(int)', 'int8pl(bigint,bigint)', 'sum(bigint)'::regprocedure);
SELECT rollup.add_merge_rule('longest(text)', 'longer(text,text)', 'longest(text)'::regprocedure);
SELECT rollup.add_merge_rule('longest(text)', 'longer(text,text)', 'longest(text)'::regprocedure);
SELECT rollup.add_merge_rule('halved(int)', ARRAY['sum(int)', 'count("any")']::regprocedure[], 'halve(bigint,bigint)');
SELECT rollup.add_merge_rule('halved(int)', ARRAY['sum(int)', 'avg(int)']::regprocedure[], 'halve(bigint,bigint)');
CREATE AGGREGATE how_many(int) (SFUNC = int8inc_any, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE plus(bigint) (SFUNC = int8pl, STYPE = bigint);
SELECT rollup.add_merge_rule('how_many(int)', 'int8pl(bigint,bigint)', 'plus(bigint)'::regprocedure);
SELECT rollup.add_merge_rule('halved(int)', ARRAY['sum(int)', 'how_many(int)']::regprocedure[], 'halve(bigint,bigint)');
CALL prove('of one''s own', 'longest(t) AS longest_word, halved(i4) AS half, how_many(i4) AS n');
SELECT aggregate, labels, combine, unite, parts, result, added_by = current_user AS ours FROM rollup.merge_rule WHERE added_by IS NOT NULL ORDER BY 1;
SELECT rollup.drop_merge_rule('longest(text)');
SELECT rollup.drop_merge_rule('longest(text)');
SELECT rollup.drop_merge_rule('sum(int)');
CREATE ROLE regress_rules_guest;
SET ROLE regress_rules_guest;
SELECT rollup.add_merge_rule('longest(text)', 'longer(text,text)', 'longest(text)'::regprocedure);
SELECT rollup.drop_merge_rule('halved(int)');
RESET ROLE;
DROP ROLE regress_rules_guest;
-- the tutorial's table reads as it says
CREATE TABLE http_request (site_id int, ingest_time timestamptz DEFAULT now(), url text, request_country text, ip_address text, status_code int, response_time_msec int);
SELECT rollup.create('http_request_1min', $$
  SELECT site_id, date_trunc('minute', ingest_time) AS ingest_time, count(*) AS request_count,
         count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS success_count, count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299) AS error_count,
         sum(response_time_msec) / count(*) AS average_response_time_msec, hll_add_agg(hll_hash_text(ip_address)) AS distinct_ip_addresses,
         jsonb_counter_agg(request_country) AS country_counters FROM http_request GROUP BY 1, 2 $$, every => NULL) IS NOT NULL AS made;
INSERT INTO http_request SELECT i % 2, timestamptz '2026-01-01' + i * interval '1 second', '/', 'USA', '10.0.0.' || i % 9, 200 + i % 2 * 300, i FROM generate_series(1, 100) i;
SELECT rollup_http_request();
SELECT site_id, ingest_time, request_count, error_count, average_response_time_msec, #distinct_ip_addresses AS visitors, country_counters FROM http_request_1min ORDER BY 1, 2;
\d http_request_1min
SELECT a.attname, a.attstorage AS storage, col_description(a.attrelid, a.attnum) FROM pg_attribute a WHERE a.attrelid = 'http_request_1min'::regclass AND a.attnum > 0 ORDER BY a.attnum;
SELECT reloptions FROM pg_class WHERE oid = 'http_request_1min'::regclass;
