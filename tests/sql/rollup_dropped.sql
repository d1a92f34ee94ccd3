-- tables that are dropped by hand, by whichever command: nothing is left behind that acts on an oid of the past
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE ROLE dropped_a; CREATE ROLE dropped_b;
CREATE FUNCTION hour_of(name text, source text) RETURNS bigint LANGUAGE sql AS $$
  SELECT rollup.create(name, format('SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM %s GROUP BY 1', source), every => NULL, on_change => 'recompute') $$;
CREATE VIEW left_behind AS SELECT (SELECT count(*) FROM rollup.source) AS sources, (SELECT count(*) FROM rollup.definition) AS rollups,
  (SELECT count(*) FROM rollup.level) AS levels, (SELECT count(*) FROM rollup.retention) AS retentions, (SELECT count(*) FROM rollup.expired) AS expired,
  (SELECT count(*) FROM rollup.partitioning) AS partitioned, (SELECT count(*) FROM rollup.change) AS changes;
-- the rollup's table
CREATE TABLE event (at timestamptz, v int);
SELECT hour_of('event_1h', 'event') > 0 AS made;
SELECT rollup.retain('event_1h', '1 year'), rollup.retain('event', '1 year');
DROP TABLE event_1h CASCADE;
SELECT name, source, state FROM rollup.status;
TABLE left_behind;
SELECT rollup.run('event');
INSERT INTO event VALUES ('2026-01-01 10:00', 1);
SELECT rollup.run_due();
SELECT rollup.drop('event_1h');
TABLE left_behind;
-- the source, with a schema; a table that comes later under its name has nothing of it
CREATE SCHEMA gone CREATE TABLE event (at timestamptz, v int) PARTITION BY RANGE (at);
SELECT hour_of('gone_1h', 'gone.event') > 0 AS made, rollup.retain('gone.event', '1 day'), rollup.partition('gone.event', '1 day', '1 day') > 0 AS ahead;
SELECT rollup.add_level('gone_1h', 'public.gone_1d', '1 day');
INSERT INTO gone.event VALUES (now(), 1); SELECT rollup.run('gone.event');
UPDATE gone.event SET v = 2;
DROP SCHEMA gone CASCADE;
CREATE SCHEMA gone CREATE TABLE event (at timestamptz, v int);
INSERT INTO gone.event VALUES ('2020-01-01', 1);
SELECT rollup.expire('gone.event');
SELECT name, source, state, owner = current_user AS mine FROM rollup.status;
SELECT count(*) > 0 AS metrics FROM rollup.metrics;
SELECT rollup.run_due();
SELECT to_regclass('gone.gone_1h'), (SELECT sum(n) FROM gone_1d) AS kept;
SELECT rollup.run('gone.event');
SELECT rollup.check('gone_1h');
SELECT rollup.rebuild('gone_1h');
SELECT rollup.drop('gone_1h');
TABLE left_behind;
-- a level's table: the others go on
SELECT hour_of('event_1h', 'event') > 0 AS made; SELECT rollup.add_level('event_1h', 'event_1d', '1 day');
DROP TABLE event_1d CASCADE;
INSERT INTO event VALUES ('2026-01-01 11:00', 1);
SELECT rollup.run('event');
SELECT sum(n) FROM event_1h;
SELECT rollup.drop('event_1h');
DROP TABLE event;
TABLE left_behind;
-- in a transaction that does not commit nothing is forgotten
CREATE TABLE event (at timestamptz, v int);
SELECT hour_of('event_1h', 'event') > 0 AS made, rollup.retain('event', '1 year');
BEGIN; DROP TABLE event, event_1h CASCADE; TABLE left_behind; ROLLBACK;
TABLE left_behind;
SELECT state FROM rollup.status;
SELECT rollup.drop('event_1h'), rollup.retain('event', NULL);
-- all that a role owns
CREATE SCHEMA AUTHORIZATION dropped_a;
SET ROLE dropped_a;
CREATE TABLE dropped_a.event (at timestamptz, v int);
SELECT rollup.create('dropped_a.mine', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM dropped_a.event GROUP BY 1', every => NULL) > 0 AS made;
RESET ROLE;
REASSIGN OWNED BY dropped_a TO dropped_b;
SELECT name, owner, state FROM rollup.status;
DROP OWNED BY dropped_b CASCADE;
SELECT name, owner, state FROM rollup.status;
SET ROLE dropped_a;
SELECT rollup.drop('mine');
SET ROLE dropped_b;
SELECT rollup.drop('mine');
RESET ROLE;
TABLE left_behind;
DROP OWNED BY dropped_a, dropped_b; DROP ROLE dropped_a, dropped_b;
-- the extension by CASCADE, in each way: tables take rows, and can be rolled up again
SELECT hour_of('event_1h', 'event') > 0 AS made;
CREATE TABLE parted (at timestamptz, v int) PARTITION BY RANGE (at); CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
SELECT hour_of('parted_1h', 'parted') > 0 AS made;
INSERT INTO event VALUES ('2026-01-01 10:00', 1); INSERT INTO parted VALUES ('2026-01-01 10:00', 1);
BEGIN; DROP EXTENSION hll CASCADE; INSERT INTO event VALUES ('2026-01-01 10:00', 2); INSERT INTO parted VALUES ('2026-01-01 10:00', 2); ROLLBACK;
BEGIN; DROP SCHEMA rollup CASCADE; INSERT INTO event VALUES ('2026-01-01 10:00', 2); ROLLBACK;
DROP EXTENSION hll CASCADE;
INSERT INTO event VALUES ('2026-01-01 10:00', 2); INSERT INTO parted VALUES ('2026-01-01 10:00', 2);
DROP TABLE event_1h, parted_1h;
CREATE EXTENSION hll;
SELECT hour_of('event_1h', 'event') > 0 AS made, hour_of('parted_1h', 'parted') > 0 AS parted_made;
INSERT INTO event VALUES ('2026-01-01 10:00', 3);
SELECT rollup.run('event'), rollup.run('parted');
SELECT (SELECT sum(n) FROM event_1h) AS event, (SELECT count(*) FROM event) AS raw, (SELECT sum(n) FROM parted_1h) AS parted;
