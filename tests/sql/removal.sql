-- the extension goes: the tables of events stay, and take rows
CREATE TABLE kept (at timestamptz, v int);
CREATE TABLE parted (at timestamptz, v int) PARTITION BY RANGE (at);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
SELECT rollup.create('kept_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM kept GROUP BY 1', every => NULL) > 0 AS made;
SELECT rollup.create('parted_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM parted GROUP BY 1', every => NULL) > 0 AS made;
INSERT INTO kept VALUES ('2026-01-01 10:00Z', 1); INSERT INTO parted VALUES ('2026-01-01 10:00Z', 1);
SELECT rollup_kept(), rollup_parted();
-- refused, with all that hangs on it
DROP EXTENSION hll;
-- by force: the default is gone, the column is not
BEGIN;
SET client_min_messages = warning;
DROP EXTENSION hll CASCADE;
INSERT INTO kept VALUES ('2026-01-01 11:00Z', 2);
ROLLBACK;
-- in order
SELECT rollup.drop('kept_1h'), rollup.drop('parted_1h', keep_data => true);
SELECT format('ALTER TABLE %s DROP COLUMN rollup_stamp;', attrelid::regclass) AS statement
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE attname = 'rollup_stamp' AND NOT attisdropped AND relkind IN ('r', 'p') AND NOT relispartition
  AND relnamespace <> 'rollup'::regnamespace ORDER BY 1 \gexec
SELECT count(*) AS indexes FROM pg_index WHERE indrelid IN ('kept'::regclass, 'parted'::regclass, 'parted_rest'::regclass);
DROP EXTENSION hll;
INSERT INTO kept VALUES ('2026-01-01 11:00Z', 2); INSERT INTO parted VALUES ('2026-01-01 11:00Z', 2);
SELECT (SELECT count(*) FROM kept) AS kept, (SELECT count(*) FROM parted) AS parted, (SELECT sum(n) FROM parted_1h) AS rolled_up;
