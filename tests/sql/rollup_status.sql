-- What rollup.status computes for all rollups at once is what a statement of its own gives for each, and a rollup whose
-- facts cannot be read says so and hides no other.
CREATE SCHEMA st; SET search_path TO st, public; SET timezone TO 'UTC'; SET client_min_messages TO warning;

CREATE TABLE plain (at timestamptz NOT NULL, site int);
CREATE TABLE local (day date, site int);
CREATE TABLE parted (at timestamp NOT NULL, site int) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE parent (at timestamptz NOT NULL, site int);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE empty (at timestamptz);
SELECT count(rollup.create(name, format('SELECT date_trunc(%L, %s) AS b, count(*) AS n FROM %s GROUP BY 1', width, of, source), every => NULL, on_change => on_change, coarser => coarser::jsonb))
  FROM (VALUES ('plain_h', 'hour', 'at', 'plain', 'ignore', '{"plain_d": "1 day"}'), ('plain_m', 'minute', 'at', 'plain', 'recompute', NULL),
    ('local_m', 'month', 'day', 'local', 'ignore', NULL), ('parted_h', 'hour', 'at', 'parted', 'error', NULL), ('parent_h', 'hour', 'at', 'parent', 'ignore', NULL),
    ('child_h', 'hour', 'at', 'child', 'recompute', NULL), ('empty_h', 'hour', 'at', 'empty', 'ignore', NULL)) r (name, width, of, source, on_change, coarser);
INSERT INTO plain SELECT timestamptz '2026-01-05' + g * interval '1 min', g % 3 FROM generate_series(1, 9000) g;
INSERT INTO parted SELECT timestamp '2026-01-31' + g * interval '1 h', g FROM generate_series(1, 40) g;
INSERT INTO parent VALUES ('2026-01-01', 1); INSERT INTO child VALUES ('2026-01-02', 1), ('2026-01-03', 1);
SELECT rollup.run('plain') + rollup.run('parted') + rollup.run('parent') + rollup.run('child') AS merged;
INSERT INTO plain VALUES ('2026-01-04 10:00', 7), ('2026-01-20', 7);
INSERT INTO local VALUES ('2026-01-09', 1), ('2026-01-08', 1), (NULL, 1);
INSERT INTO parted VALUES ('2026-02-02', 1); INSERT INTO child VALUES ('2026-01-01 08:00', 1);

-- Each by itself: the rows by their stamps, and who writes by the tables below.
CREATE FUNCTION alone(d rollup.definition, OUT lag_rows bigint, OUT oldest_row timestamptz, OUT open_writers text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SELECT count(*), min(%I)::timestamptz FROM %s WHERE rollup_stamp >= $1 OR rollup_stamp = ANY ($2)', d.plan->>'time_column', d.source)
    INTO lag_rows, oldest_row USING d.seen_xmax, d.seen_xip;
  WITH RECURSIVE t (id) AS (SELECT d.source::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN t ON i.inhparent = t.id)
  SELECT string_agg(DISTINCT 'process ' || k.pid, ', ') INTO open_writers FROM pg_locks k JOIN t ON k.relation = t.id WHERE k.locktype = 'relation' AND k.mode = 'RowExclusiveLock' AND k.granted;
END $$;
CREATE VIEW compared AS
  SELECT s.name, s.lag_rows, s.oldest_row, s.open_writers IS NOT NULL AS written, (s.lag_rows, s.oldest_row, s.open_writers) IS NOT DISTINCT FROM (a.lag_rows, a.oldest_row, a.open_writers) AS same
    FROM rollup.status s JOIN rollup.definition d USING (name), alone(d) a WHERE d.source::text !~ '\.' ORDER BY 1;
BEGIN; INSERT INTO parted_2 VALUES ('2026-02-03', 1); DELETE FROM child WHERE site = 99; TABLE compared; ROLLBACK;
SELECT name, lag_rows, oldest_row, open_writers FROM rollup.status WHERE name = 'local_m';

-- Of triggers: what the rollups of a source ask of each table of it. Child is a source below another, which does not ask for what it asks for.
CREATE FUNCTION lacking(root regclass) RETURNS text LANGUAGE sql AS $$
  WITH RECURSIVE t (id) AS (SELECT root::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN t ON i.inhparent = t.id)
  SELECT string_agg(DISTINCT k.name || ' on st.' || c.relname, ', ') FROM t JOIN pg_class c ON c.oid = t.id JOIN rollup.definition d ON d.source = root,
    LATERAL (VALUES ('zz_rollup_kept', true), ('zz_rollup_change', d.on_change <> 'ignore'), ('zz_rollup_truncate', d.on_change <> 'ignore' AND c.relkind = 'r')) k (name, wanted)
   WHERE k.wanted AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.id AND g.tgname = k.name AND g.tgenabled = 'A') $$;
CREATE VIEW watched AS
  SELECT s.name, s.unwatched, s.unwatched IS NOT DISTINCT FROM l || ' is missing' AS same FROM rollup.status s, LATERAL lacking(s.source) l WHERE s.source::text !~ '\.' ORDER BY 1;
TABLE watched;
DROP TRIGGER zz_rollup_truncate ON plain; TABLE watched;
DROP TRIGGER zz_rollup_change ON child; TABLE watched;
SELECT count(rollup.run(source)) FROM (SELECT DISTINCT source FROM rollup.definition WHERE source::text !~ '\.') d; TABLE watched;
-- Switched off on a partition; a function of another in the place of ours; no index; a table that a crash empties; a source that has become a partition.
ALTER TABLE parted_1 DISABLE TRIGGER zz_rollup_change;
CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
DROP TRIGGER zz_rollup_kept ON empty; CREATE TRIGGER zz_rollup_kept BEFORE UPDATE ON empty FOR EACH ROW EXECUTE FUNCTION other(); ALTER TABLE empty ENABLE ALWAYS TRIGGER zz_rollup_kept;
DO $$ DECLARE i regclass; BEGIN FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid IN ('st.child'::regclass, 'st.local'::regclass) LOOP EXECUTE 'DROP INDEX ' || i; END LOOP; END $$;
ALTER TABLE plain SET UNLOGGED;
SELECT name, unwatched FROM rollup.status ORDER BY 1;
SELECT name, unwatched FROM rollup.status WHERE name = 'parted_h';
ALTER TABLE plain SET LOGGED;
CREATE TABLE whole (LIKE plain INCLUDING DEFAULTS) PARTITION BY RANGE (at);
ALTER TABLE whole ATTACH PARTITION plain FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
SELECT name, unwatched FROM rollup.status WHERE source = 'plain'::regclass ORDER BY 1;
ALTER TABLE whole DETACH PARTITION plain;
SELECT name, unwatched FROM rollup.status WHERE source = 'plain'::regclass ORDER BY 1;

-- Expiry, of the rollup's tables and of its source.
SELECT rollup.retain('plain', '1000 years'), rollup.retain('plain_h', '2000 years'), rollup.retain('plain_d', '3000 years');
SELECT rollup.pause('plain_m'); UPDATE rollup.attempt SET failures = 1 WHERE id = (SELECT id FROM rollup.definition WHERE name = 'empty_h');
UPDATE rollup.retention SET late_ignored = 5, last_error = 'of the level', last_removed = '2126-01-01Z' WHERE relation = 'plain_d'::regclass;
UPDATE rollup.retention SET late_ignored = 3, last_error = 'of the rollup', last_removed = '2125-01-01Z' WHERE relation = 'plain_h'::regclass;
UPDATE rollup.retention SET late_ignored = 9, last_error = 'of the source', last_removed = '2127-01-01Z' WHERE relation = 'plain'::regclass;
SELECT name, state, late_ignored, expiry_held_by, ARRAY(SELECT e FROM unnest(string_to_array(expiry_error, '; ')) e ORDER BY 1) AS expiry_error, updated_at > '2100-01-01' AS removed, updated_at AT TIME ZONE 'UTC' AS at
  FROM (SELECT name, state, late_ignored, expiry_held_by, expiry_error, CASE WHEN updated_at > '2100-01-01' THEN updated_at END AS updated_at FROM rollup.status) s ORDER BY 1;

-- One whose state cannot be read, and one whose partitions are in a time zone that this server does not know.
SELECT rollup.partition('parted', '1 month', '1 month') > 0 AS made;
UPDATE rollup.definition SET nodes = '{"no": "state"}' WHERE name = 'child_h';
UPDATE rollup.partitioning SET timezone = 'Nowhere/None' WHERE relation = 'parted'::regclass;
CREATE ROLE status_looker; GRANT USAGE ON SCHEMA st TO status_looker; GRANT SELECT ON ALL TABLES IN SCHEMA st TO status_looker;
SELECT name, lag_rows, last_error, partitions_until IS NOT NULL AS until, partitions_error FROM rollup.status ORDER BY 1;
SELECT name, labels->>'rollup' AS rollup, labels->>'relation' AS relation FROM rollup.metrics WHERE name IN ('rollup_lag_rows', 'rollup_rows_total', 'rollup_partitions_ahead_seconds') ORDER BY 1, 2, 3;
SELECT count(*), count(DISTINCT held_back_by), count(DISTINCT expiry_error) FROM rollup.status;
SET ROLE status_looker;
SELECT name, lag_rows, last_error, partitions_error FROM rollup.status ORDER BY 1;
RESET ROLE;

-- A scraper reads no more than it shows.
CREATE FUNCTION reads(sql text, what text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE line text; BEGIN FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || sql LOOP IF strpos(line, what) > 0 THEN RETURN true; END IF; END LOOP; RETURN false; END $$;
SELECT of, what, reads(sql, what) FROM (VALUES ('status', 'SELECT * FROM rollup.status'), ('metrics', 'SELECT * FROM rollup.metrics')) v (of, sql),
  unnest(ARRAY['.waiting(', '.unwatched(', '.writers(', 'pg_stat_get_activity(']) what ORDER BY 1 DESC, 2;
UPDATE rollup.definition SET nodes = NULL WHERE name = 'child_h'; UPDATE rollup.partitioning SET timezone = 'UTC';
SELECT count(rollup.drop(name)) FROM rollup.status;
DROP OWNED BY status_looker; DROP ROLE status_looker; DROP SCHEMA st CASCADE;
