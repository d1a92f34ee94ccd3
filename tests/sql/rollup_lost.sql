\set VERBOSITY terse
-- partitions that others drop or detach take raw rows along: what was counted stays, and nothing is said to differ
SET timezone = 'UTC';
CREATE TABLE trip (at timestamptz NOT NULL, city int, km int) PARTITION BY RANGE (at);
CREATE TABLE trip_1 PARTITION OF trip FOR VALUES FROM ('2026-01-01') TO ('2026-01-11');
CREATE TABLE trip_2 PARTITION OF trip FOR VALUES FROM ('2026-01-11') TO ('2026-01-21');
CREATE TABLE trip_3 PARTITION OF trip FOR VALUES FROM ('2026-01-21') TO ('2026-02-11');
CREATE TABLE trip_rest PARTITION OF trip DEFAULT;
SELECT rollup.create('trips', $$SELECT date_trunc('day', at) AS at, city, count(*) AS n, sum(km) AS km FROM trip GROUP BY 1, 2$$, every => NULL, coarser => '{"trips_month": "1 month"}') IS NOT NULL AS made;
SELECT rollup.create('follows', $$SELECT date_trunc('month', at) AS at, count(*) AS n, sum(km) AS km FROM trip GROUP BY 1$$, every => NULL, on_change => 'recompute') IS NOT NULL AS made;
INSERT INTO trip SELECT timestamptz '2026-01-01' + i * interval '6 hours', i % 2, i FROM generate_series(0, 159) i;
SELECT rollup_trip();
CREATE FUNCTION counted() RETURNS TABLE (days bigint, months bigint, followed bigint, live bigint, followed_live bigint) LANGUAGE sql AS
  'SELECT (SELECT sum(n) FROM trips)::bigint, (SELECT sum(n) FROM trips_month)::bigint, (SELECT sum(n) FROM follows)::bigint, (SELECT sum(n) FROM trips_live)::bigint, (SELECT sum(n) FROM follows_live)::bigint';
CREATE FUNCTION differ() RETURNS bigint LANGUAGE sql AS 'SELECT (SELECT count(*) FROM rollup.check(''trips'')) + (SELECT count(*) FROM rollup.check(''follows''))';
SELECT *, differ() FROM counted();
-- an empty one leaves nothing behind, be its rows deleted or moved
CREATE TABLE trip_9 PARTITION OF trip FOR VALUES FROM ('2026-09-01') TO ('2026-10-01');
INSERT INTO trip VALUES ('2026-09-05', 1, 1);
WITH gone AS (DELETE FROM trip_9 RETURNING *) INSERT INTO trip_1 SELECT '2026-01-05', city, km, rollup_stamp FROM gone;
DELETE FROM trip_1 WHERE km = 1 AND at = '2026-01-05';
DROP TABLE trip_9;
SELECT count(*) FROM rollup.lost;
-- dropped, with a row that was not counted
INSERT INTO trip VALUES ('2026-01-03', 1, 1000);
DROP TABLE trip_1;
SELECT d.name, l.relation, l.since, l.until FROM rollup.lost l JOIN rollup.definition d ON d.id = l.definition ORDER BY 1;
SELECT rollup_trip();
SELECT *, differ() FROM counted();
SELECT name, missing_rows, refused_changes FROM rollup.status ORDER BY name;
-- rows that change in a bucket that has lost rows do not take it along; in others they do
UPDATE trip SET km = km + 1 WHERE at >= '2026-01-15' AND at < '2026-01-16' OR at >= '2026-02-01';
SELECT sum(km) FROM follows_live;
SELECT rollup_trip();
SELECT *, differ() FROM counted();
SELECT f.at, f.km - (SELECT sum(km) FROM trip t WHERE date_trunc('month', t.at) = f.at) AS more FROM follows f ORDER BY 1;
SELECT name, refused_changes FROM rollup.status ORDER BY name;
-- rebuild does not either, unless it is told to
SELECT rollup.rebuild('trips');
SELECT rollup.rebuild('trips', '2026-01-10');
SELECT rollup.rebuild('trips', '2026-01-11 00:00:00+00');
SELECT *, differ() FROM counted();
-- nor does a new column, which is not known there
SELECT rollup.add_column('trips', 'least', 'min(km)');
SELECT count(*) FILTER (WHERE least IS NULL) AS unknown, count(*) FROM trips;
-- detached, and dropped later; it may come back before that
ALTER TABLE trip DETACH PARTITION trip_2;
SELECT *, differ() FROM counted();
SELECT count(*) FROM rollup.lost WHERE relation = 'trip_2'::regclass;
ALTER TABLE trip ATTACH PARTITION trip_2 FOR VALUES FROM ('2026-01-11') TO ('2026-01-21');
SELECT count(*) FROM rollup.lost WHERE relation = 'trip_2'::regclass;
SELECT rollup_trip(), differ();
INSERT INTO trip VALUES ('2026-01-12', 1, 1000);
ALTER TABLE trip DETACH PARTITION trip_2;
DROP TABLE trip_2;
SELECT rollup_trip();
SELECT *, differ() FROM counted();
SELECT name, missing_rows FROM rollup.status ORDER BY name;
-- detached beside readers
CREATE TABLE trip_7 PARTITION OF trip FOR VALUES FROM ('2026-07-01') TO ('2026-08-01');
INSERT INTO trip VALUES ('2026-07-02', 1, 7), ('2026-07-02', 1, 8);
DROP TABLE trip_rest;
SELECT rollup_trip();
ALTER TABLE trip DETACH PARTITION trip_7 CONCURRENTLY;
SELECT since FROM rollup.lost WHERE relation = 'trip_7'::regclass;
SELECT rollup_trip(), differ();
CREATE TABLE trip_rest PARTITION OF trip DEFAULT;
-- exchanged in one transaction: nothing is lost
CREATE TABLE trip_3b (LIKE trip INCLUDING ALL);
INSERT INTO trip_3b SELECT * FROM trip_3;
BEGIN;
ALTER TABLE trip DETACH PARTITION trip_3;
DROP TABLE trip_3;
ALTER TABLE trip ATTACH PARTITION trip_3b FOR VALUES FROM ('2026-01-21') TO ('2026-02-11');
COMMIT;
SELECT rollup_trip(), differ(), (SELECT max(until) FROM rollup.lost) AS until, (SELECT count(*) FROM rollup.lost) AS noted;
-- one that is empty takes nobody's place
BEGIN;
DROP TABLE trip_3b;
CREATE TABLE trip_3 PARTITION OF trip FOR VALUES FROM ('2026-01-21') TO ('2026-02-11');
ROLLBACK;
SELECT count(*) FROM rollup.lost;
-- newcomers where rows have left: all were counted or none, else they are left out
CREATE TABLE trip_1 (LIKE trip INCLUDING ALL);
INSERT INTO trip_1 (at, city, km) SELECT timestamptz '2026-01-03' + i * interval '1 minute', 7, i FROM generate_series(1, 5) i;
INSERT INTO trip_1 (at, city, km) SELECT timestamptz '2026-01-04' + i * interval '1 minute', 1, i FROM generate_series(1, 3) i;
INSERT INTO trip VALUES ('2026-02-05', 1, 1);
SELECT rollup_trip();
ALTER TABLE trip ATTACH PARTITION trip_1 FOR VALUES FROM ('2026-01-01') TO ('2026-01-11');
SELECT rollup_trip(), differ();
SELECT at, city, n FROM trips WHERE at IN ('2026-01-03', '2026-01-04') ORDER BY 1, 2;
SELECT name, left_out, refused_changes FROM rollup.status ORDER BY name;
-- a rollup that is made now has lost nothing; forced, another forgets what it has
SELECT rollup.create('later', $$SELECT date_trunc('day', at) AS at, count(*) AS n FROM trip GROUP BY 1$$, every => NULL) IS NOT NULL AS made;
SELECT rollup_trip(), (SELECT count(*) FROM rollup.check('later'));
SELECT rollup.rebuild('trips', force => true) > 0 AS groups;
SELECT name, missing_rows FROM rollup.status ORDER BY name;
SELECT (SELECT count(*) FROM trip) - (SELECT sum(n) FROM trips) AS differ, (SELECT sum(n) FROM trips_month) - (SELECT sum(n) FROM trips) AS level, (SELECT count(*) FROM rollup.check('trips')) AS checked;
-- children, by NO INHERIT and by DROP SCHEMA; and what a rollup has lost goes with it
CREATE TABLE log (at timestamp, x int);
CREATE SCHEMA old;
CREATE TABLE old.log_1 () INHERITS (log);
CREATE TABLE log_2 () INHERITS (log);
SELECT rollup.create('logs', $$SELECT date_trunc('hour', at) AS at, count(*) AS n FROM log GROUP BY 1$$, every => NULL, timezone => 'Europe/Berlin') IS NOT NULL AS made;
INSERT INTO old.log_1 VALUES ('2026-03-01 12:00', 1), (NULL, 2), ('-infinity', 3);
INSERT INTO log_2 VALUES ('2026-03-02 12:00', 1), ('2026-03-02 13:00', 2);
SELECT rollup_log();
ALTER TABLE log_2 NO INHERIT log;
DROP SCHEMA old CASCADE;
SELECT relation, since, until FROM rollup.lost WHERE definition = (SELECT id FROM rollup.definition WHERE name = 'logs') ORDER BY since;
INSERT INTO log VALUES ('2026-03-03 12:00', 1), (NULL, 2);
SELECT rollup_log(), (SELECT count(*) FROM rollup.check('logs')) AS differ, (SELECT sum(n) FROM logs) AS n;
SELECT rollup.drop('logs');
SELECT count(*) FROM rollup.lost l WHERE NOT EXISTS (SELECT FROM rollup.definition d WHERE d.id = l.definition);
-- one child goes and another comes in one transaction: it may be anything, and takes nobody's place
CREATE TABLE gate (at timestamptz, x int);
CREATE TABLE gate_old () INHERITS (gate);
SELECT rollup.create('gates', $$SELECT date_trunc('day', at) AS at, count(*) AS n FROM gate GROUP BY 1$$, every => NULL, on_change => 'recompute') IS NOT NULL AS made;
INSERT INTO gate_old VALUES ('2025-01-05', 1), ('2025-01-06', 2);
SELECT rollup_gate();
CREATE TABLE gate_new (LIKE gate INCLUDING ALL);
INSERT INTO gate_new (at) VALUES ('2026-02-05');
BEGIN;
ALTER TABLE gate_old NO INHERIT gate;
ALTER TABLE gate_new INHERIT gate;
COMMIT;
SELECT rollup_gate();
SELECT at, n FROM gates ORDER BY at;
SELECT missing_rows FROM rollup.status WHERE name = 'gates';
SELECT rollup.drop('gates');
DROP TABLE gate, gate_old, gate_new CASCADE;
-- what expires by our own hand is no loss
SELECT rollup.retain('trip', '1 day'), rollup.drop('follows'), rollup.drop('later');
TRUNCATE trip_rest;
SELECT count(*) FROM rollup.lost;
DO $$ BEGIN PERFORM rollup.expire('trip'); END $$;
SELECT count(*) AS lost, (SELECT count(*) FROM trip) AS rows, (SELECT count(*) FROM rollup.check('trips')) AS differ FROM rollup.lost;
DROP TABLE trip CASCADE;
SELECT count(*) FROM rollup.lost WHERE relation IS NOT NULL;
