-- the index of rolled-up tables: an access method that any table can have
CREATE EXTENSION hll;
SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0; SET timezone = 'UTC'; SET datestyle = 'ISO, MDY';
CREATE TABLE t (n bigint, at timestamptz, local timestamp, day date, filler text) WITH (fillfactor = 10, autovacuum_enabled = off);
CREATE INDEX t_zones ON t USING rollup_zonemap (n, at, local, day);
INSERT INTO t SELECT i, timestamptz '2026-01-01' + i * interval '1 hour', timestamp '2026-01-01' + i * interval '1 hour', date '2026-01-01' + i / 24, repeat('x', 600) FROM generate_series(-600, 599) i;
-- what matches a condition, by the index and by the table alone, and of how many pages the index speaks
CREATE FUNCTION found(condition text, OUT by_index bigint, OUT by_table bigint, OUT pages bigint) LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
  PERFORM set_config('enable_seqscan', 'off', true);
  EXECUTE 'SELECT count(*) FROM t WHERE ' || condition INTO by_index;
  EXECUTE 'EXPLAIN (FORMAT JSON, ANALYZE, TIMING OFF) SELECT count(*) FROM t WHERE ' || condition INTO plan;
  pages := coalesce(plan #>> '{0,Plan,Plans,0,Lossy Heap Blocks}', '0')::bigint;
  IF plan::text !~ 't_zones' THEN pages := -1; END IF;
  PERFORM set_config('enable_seqscan', 'on', true);
  PERFORM set_config('enable_bitmapscan', 'off', true);
  EXECUTE 'SELECT count(*) FROM t WHERE ' || condition INTO by_table;
  PERFORM set_config('enable_bitmapscan', 'on', true);
  PERFORM set_config('enable_seqscan', 'off', true);
END $$;
SELECT pg_relation_size('t') / 8192 AS pages, count(*) FILTER (WHERE closed) AS closed FROM rollup.zones('t_zones');
SELECT * FROM found('n = 5');
VACUUM t;
SELECT * FROM rollup.zones('t_zones') WHERE first_page IN (0, 608, 1184);
SELECT condition, f.* FROM unnest(ARRAY['n = 5', 'n < -590', 'n <= -590', 'n > 590', 'n >= 590', 'n = 700', 'n < -600', 'n > 599', 'n IN (-600, 0, 599)', 'n > 100 AND n < 110',
  'n = 5::int', 'n > 590::int', 'n = 2.5', 'n < NULL', 'n IS NULL',
  'at < ''2025-12-07 02:00Z''', 'at = ''2026-01-01''', 'at >= ''2026-01-25 20:00Z''', 'at > ''infinity''', 'at < ''-infinity''', 'at >= ''-infinity'' AND n = 1',
  'local <= ''2025-12-07 02:00''', 'local > ''2026-01-25 20:00''', 'day = ''2026-01-01''', 'day < ''2025-12-08''', 'day > ''infinity''',
  'at >= date ''2026-01-25''', 'at < date ''2025-12-08''', 'at = date ''2026-01-03''', 'at <= timestamp ''2025-12-08''', 'at > timestamp ''2026-01-25''', 'at = timestamp ''2026-01-03''',
  'local >= date ''2026-01-25''', 'local = timestamptz ''2026-01-03''', 'local < timestamptz ''2025-12-08''', 'local > timestamptz ''2026-01-25''',
  'day = timestamp ''2026-01-03''', 'day <= timestamptz ''2025-12-08''', 'day > timestamp ''2026-01-24 01:00''', 'day >= timestamptz ''2026-01-25''']) condition, found(condition) f;
-- days that the time zone of the session shifts
SET timezone = 'Asia/Kolkata';
SELECT * FROM found('at >= date ''2026-01-25''');
RESET timezone; SET timezone = 'UTC';
-- a row that comes late opens the entry of its zone, and no other; so does one that changes
DELETE FROM t WHERE n BETWEEN -500 AND -490;
VACUUM t;
INSERT INTO t (n, at) VALUES (1000, '2027-01-01');
SELECT first_page, "column" FROM rollup.zones('t_zones') WHERE NOT closed AND first_page < 1184;
SELECT * FROM found('n = 1000');
SELECT * FROM found('at > ''2026-12-31''');
VACUUM t;
SELECT * FROM found('n = 1000');
UPDATE t SET n = 2000 WHERE n = 7;
UPDATE t SET filler = 'y' WHERE n = 8;
SELECT * FROM found('n = 2000');
SELECT * FROM found('n = 8');
-- values that nobody sees are in the map all the same, until the zone is written to again and read again
BEGIN; INSERT INTO t (n) VALUES (3000); ROLLBACK;
SELECT * FROM found('n = 3000');
BEGIN; SAVEPOINT a; INSERT INTO t (n) VALUES (3001); ROLLBACK TO a; INSERT INTO t (n) VALUES (3002); COMMIT;
SELECT * FROM found('n >= 3000');
-- all NULL, and a column that older rows lack
CREATE TABLE bare (id int, filler text) WITH (fillfactor = 10);
INSERT INTO bare SELECT i, repeat('x', 600) FROM generate_series(1, 100) i;
ALTER TABLE bare ADD COLUMN n bigint DEFAULT 42, ADD COLUMN nothing bigint, DROP COLUMN id;
CREATE INDEX bare_zones ON bare USING rollup_zonemap (n, nothing);
SELECT * FROM rollup.zones('bare_zones');
SELECT count(*) FROM bare WHERE n = 42;
SELECT count(*) FROM bare WHERE n = 43;
SELECT count(*) FROM bare WHERE nothing = 1;
INSERT INTO bare (n, nothing) VALUES (43, 1);
SELECT count(*) FROM bare WHERE n = 43;
SELECT count(*) FROM bare WHERE nothing = 1;
-- the table is written anew, emptied, and so is the index
VACUUM FULL t;
SELECT count(*) > 0 AS closed FROM rollup.zones('t_zones') WHERE closed;
SELECT * FROM found('n > 590');
REINDEX INDEX t_zones;
REINDEX INDEX CONCURRENTLY t_zones;
SELECT * FROM found('n > 590');
BEGIN; TRUNCATE t; INSERT INTO t (n) SELECT i FROM generate_series(1, 10) i; SELECT * FROM found('n = 5'); ROLLBACK;
TRUNCATE t;
INSERT INTO t (n) SELECT i FROM generate_series(1, 10) i;
SELECT * FROM found('n = 5');
BEGIN; CREATE TABLE young (n bigint); CREATE INDEX ON young USING rollup_zonemap (n); INSERT INTO young VALUES (1); TRUNCATE young; INSERT INTO young VALUES (2);
SELECT count(*) FROM young WHERE n = 2; COMMIT;
-- temporary and unlogged tables, a domain, partitions
CREATE TEMP TABLE mine (n bigint, filler text) WITH (fillfactor = 10);
CREATE INDEX mine_zones ON mine USING rollup_zonemap (n);
INSERT INTO mine SELECT i, repeat('x', 600) FROM generate_series(1, 100) i;
VACUUM mine;
INSERT INTO mine VALUES (1000);
SELECT count(*) FROM mine WHERE n >= 100;
CREATE UNLOGGED TABLE light (n bigint);
CREATE INDEX ON light USING rollup_zonemap (n);
INSERT INTO light VALUES (1);
SELECT count(*) FROM light WHERE n = 1;
CREATE DOMAIN instant AS timestamptz CHECK (VALUE > '2000-01-01');
CREATE TABLE parted (at instant, n bigint) PARTITION BY RANGE (n);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE INDEX parted_zones ON parted USING rollup_zonemap (at, n);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO parted VALUES ('2026-01-01', 5), ('2026-01-02', 15);
SELECT count(*) FROM parted WHERE at > '2026-01-01 12:00Z';
-- scans are counted, so that the index does not look unused
SELECT pg_stat_force_next_flush();
SELECT idx_scan > 0 AS counted FROM pg_stat_user_indexes WHERE indexrelid = 't_zones'::regclass;
-- what it is not for
\set VERBOSITY default
CREATE INDEX ON t USING rollup_zonemap (filler);
CREATE INDEX ON t USING rollup_zonemap ((n + 1));
CREATE INDEX ON t USING rollup_zonemap (n) WHERE n > 1;
CREATE INDEX ON t USING rollup_zonemap (n) WITH (pages_per_range = 32);
CREATE UNIQUE INDEX ON t USING rollup_zonemap (n);
CREATE INDEX ON t USING rollup_zonemap (n) INCLUDE (at);
CREATE OPERATOR CLASS text_zone_ops FOR TYPE text USING rollup_zonemap AS OPERATOR 1 <;
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'text_zone_ops';
CREATE INDEX ON t USING rollup_zonemap (filler text_zone_ops);
SELECT rollup.zones('t');
SELECT rollup.zones('rollup.definition_pkey');
SELECT count(*) AS classes, bool_and(amvalidate(o.oid)) AS valid FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod WHERE a.amname = 'rollup_zonemap' AND o.opcname <> 'text_zone_ops';
CREATE ROLE zone_reader; SET ROLE zone_reader;
SELECT rollup.zones('t_zones');
RESET ROLE; DROP ROLE zone_reader;
-- times that clocks jump over are instants after later times: at 3:00 it is 1:00 UTC, at 2:30, which never is, 1:30
CREATE TABLE jump (id int, local timestamp, filler text) WITH (fillfactor = 10);
CREATE INDEX jump_zones ON jump USING rollup_zonemap (local);
INSERT INTO jump SELECT i, CASE WHEN i = 10 THEN '2026-03-29 02:30' WHEN i <= 32 THEN '2026-03-29 03:00' ELSE '2026-04-05' END::timestamp, repeat('x', 600) FROM generate_series(1, 64) i;
VACUUM jump;
SET timezone = 'Europe/Berlin';
SELECT id FROM jump WHERE local > timestamptz '2026-03-29 01:15Z' AND local < '2026-03-30';
SELECT id FROM jump WHERE local = timestamptz '2026-03-29 01:30Z';
SELECT count(*) FROM jump WHERE local = timestamptz '2026-03-29 01:00Z';
-- who monitors sees which entries are closed, and the values with the right to read the table
CREATE ROLE zone_reader; GRANT pg_monitor TO zone_reader; SET ROLE zone_reader;
SELECT count(*) FILTER (WHERE closed) > 0 AS closed, count(least) AS shown FROM rollup.zones('jump_zones');
RESET ROLE; GRANT SELECT ON jump TO zone_reader; SET ROLE zone_reader;
SELECT count(*) FILTER (WHERE closed) > 0 AS closed, count(least) > 0 AS shown FROM rollup.zones('jump_zones');
RESET ROLE; ALTER TABLE jump ENABLE ROW LEVEL SECURITY; SET ROLE zone_reader;
SELECT count(*) FILTER (WHERE closed) > 0 AS closed, count(least) AS shown FROM rollup.zones('jump_zones');
RESET ROLE; ALTER TABLE jump DISABLE ROW LEVEL SECURITY; REVOKE ALL ON jump FROM zone_reader; DROP ROLE zone_reader;
-- an UPDATE that finds room in its page is HOT: from PostgreSQL 16 on also of an indexed column, which opens the entry
CREATE TABLE hot (n bigint, at date, v int, filler text) WITH (fillfactor = 10, autovacuum_enabled = off);
CREATE INDEX hot_zones ON hot USING rollup_zonemap (n, at);
INSERT INTO hot SELECT i, NULL, 0, repeat('x', 600) FROM generate_series(1, 160) i;
VACUUM hot;
CREATE FUNCTION hot_updates(before_16 bigint, since bigint) RETURNS boolean LANGUAGE sql AS $$
  SELECT pg_stat_get_xact_tuples_hot_updated('hot'::regclass) = CASE WHEN current_setting('server_version_num')::int < 160000 THEN before_16 ELSE since END $$;
BEGIN;
UPDATE hot SET v = 1 WHERE n = 5;
UPDATE hot SET n = n WHERE n = 6;
SELECT hot_updates(2, 2), count(*) FILTER (WHERE closed) AS closed FROM rollup.zones('hot_zones') WHERE "column" = 'n';
UPDATE hot SET n = 1000 WHERE n = 40;
UPDATE hot SET at = '2026-01-01' WHERE n = 70;
SELECT hot_updates(2, 4);
COMMIT;
SELECT pg_stat_force_next_flush();
SELECT first_page, closed FROM rollup.zones('hot_zones') WHERE "column" = 'n';
SELECT n, at, ctid FROM hot WHERE n = 1000 OR at = '2026-01-01';
-- the last of a chain is found, before and after VACUUM, which closes the entries with it; and one that was undone is not
BEGIN;
DO $$ BEGIN FOR i IN 1001..1005 LOOP UPDATE hot SET n = i WHERE n = i - 1; END LOOP; END $$;
SELECT hot_updates(0, 5);
COMMIT;
BEGIN; UPDATE hot SET n = 2000 WHERE n = 100; ROLLBACK;
SELECT n, (SELECT count(*) FROM hot WHERE hot.n = v.n) FROM unnest(ARRAY[40, 100, 1000, 1004, 1005, 2000]) v (n);
VACUUM hot;
SELECT * FROM rollup.zones('hot_zones') WHERE first_page IN (32, 64, 96);
SELECT n, (SELECT count(*) FROM hot WHERE hot.n = v.n) FROM unnest(ARRAY[40, 100, 1000, 1004, 1005, 2000]) v (n);
UPDATE hot SET n = 3000 WHERE n = 1005;
SELECT n, (SELECT count(*) FROM hot WHERE hot.n = v.n) FROM unnest(ARRAY[1005, 3000]) v (n);
EXPLAIN (COSTS OFF) SELECT FROM hot WHERE n = 3000;
