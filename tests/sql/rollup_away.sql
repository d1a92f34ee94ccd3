\set VERBOSITY terse
-- what changes while a partition or child is detached is followed once it is back
SET timezone = 'UTC';
CREATE TABLE ride (at timestamptz, city int, km int) PARTITION BY RANGE (at);
CREATE TABLE ride_1 PARTITION OF ride FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE ride_2 PARTITION OF ride FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE ride_rest PARTITION OF ride DEFAULT;
SELECT rollup.create('days', $$SELECT date_trunc('day', at) AS at, city, count(*) AS n, sum(km) AS km FROM ride GROUP BY 1, 2$$, every => NULL, on_change => 'recompute', coarser => '{"months": "1 month"}') IS NOT NULL AS made;
SELECT rollup.create('plain', $$SELECT date_trunc('month', at) AS at, count(*) AS n, sum(km) AS km FROM ride GROUP BY 1$$, every => NULL) IS NOT NULL AS made;
INSERT INTO ride SELECT timestamptz '2026-01-01' + i * interval '6 hours', i % 2, i FROM generate_series(0, 199) i;
INSERT INTO ride VALUES (NULL, 7, 7);
SELECT rollup_ride();
CREATE FUNCTION same() RETURNS TABLE (days boolean, months boolean, live boolean, differ bigint) LANGUAGE sql AS
  'SELECT (SELECT (count(*), sum(km)) FROM ride) = (SELECT (sum(n)::bigint, sum(km)::bigint) FROM days), (SELECT (count(*), sum(km)) FROM ride) = (SELECT (sum(n)::bigint, sum(km)::bigint) FROM months),
     (SELECT (count(*), sum(km)) FROM ride) = (SELECT (sum(n)::bigint, sum(km)::bigint) FROM days_live), (SELECT count(*) FROM rollup.check(''days''))';
SELECT * FROM same();
-- truncated
ALTER TABLE ride DETACH PARTITION ride_1;
TRUNCATE ride_1;
SELECT sum(n) FROM days;
ALTER TABLE ride ATTACH PARTITION ride_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT live FROM same();
SELECT rollup_ride();
SELECT * FROM same();
-- changed, deleted and added to, with stamps of its own and without
ALTER TABLE ride DETACH PARTITION ride_2;
UPDATE ride_2 SET km = km + 100 WHERE at < '2026-02-05';
UPDATE ride_2 SET at = at + interval '14 days' WHERE at < '2026-02-03';
DELETE FROM ride_2 WHERE at = '2026-02-10';
INSERT INTO ride_2 SELECT at, city, 1000, rollup_stamp FROM ride_2 WHERE at = '2026-02-08';
INSERT INTO ride_2 VALUES ('2026-02-27', 3, 5000);
ALTER TABLE ride ATTACH PARTITION ride_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT live FROM same();
SELECT rollup_ride();
SELECT * FROM same();
-- with other bounds, and rows that were moved out of the old ones
ALTER TABLE ride DETACH PARTITION ride_2;
UPDATE ride_2 SET at = at + interval '30 days' WHERE at >= '2026-02-15';
ALTER TABLE ride ATTACH PARTITION ride_2 FOR VALUES FROM ('2026-02-01') TO ('2026-04-15');
SELECT rollup_ride();
SELECT * FROM same();
-- another in its place, in the same transaction
CREATE TABLE ride_3 (LIKE ride INCLUDING ALL);
INSERT INTO ride_3 SELECT at, city, km * 2, rollup_stamp FROM ride_2 WHERE city = 0;
BEGIN;
ALTER TABLE ride DETACH PARTITION ride_2;
ALTER TABLE ride ATTACH PARTITION ride_3 FOR VALUES FROM ('2026-02-01') TO ('2026-04-15');
COMMIT;
SELECT live FROM same();
SELECT rollup_ride();
SELECT * FROM same();
-- the default partition, with rows that have no time
ALTER TABLE ride DETACH PARTITION ride_rest;
UPDATE ride_rest SET km = 70 WHERE at IS NULL;
ALTER TABLE ride ATTACH PARTITION ride_rest DEFAULT;
SELECT rollup_ride();
SELECT * FROM same();
-- and back, undone
BEGIN;
ALTER TABLE ride DETACH PARTITION ride_3;
DELETE FROM ride_3;
ALTER TABLE ride ATTACH PARTITION ride_3 FOR VALUES FROM ('2026-02-01') TO ('2026-04-15');
ROLLBACK;
SELECT rollup_ride();
SELECT * FROM same();
-- a child that inherits
CREATE TABLE walk (at timestamptz NOT NULL, km int);
CREATE TABLE walk_old () INHERITS (walk);
SELECT rollup.create('walks', $$SELECT date_trunc('day', at) AS at, count(*) AS n, sum(km) AS km FROM walk GROUP BY 1$$, every => NULL, on_change => 'recompute') IS NOT NULL AS made;
INSERT INTO walk_old SELECT timestamptz '2026-01-01' + i * interval '6 hours', i FROM generate_series(0, 39) i;
SELECT rollup_walk();
ALTER TABLE walk_old NO INHERIT walk;
DELETE FROM walk_old WHERE km % 2 = 0;
ALTER TABLE walk_old INHERIT walk;
SELECT rollup_walk();
SELECT (SELECT (sum(n)::bigint, sum(km)::bigint) FROM walks) = (SELECT (count(*), sum(km)) FROM walk) AS same;
DROP TABLE ride, ride_2, walk CASCADE;
SELECT rollup.drop('days'), rollup.drop('plain'), rollup.drop('walks');
DROP FUNCTION same();
