-- names that a query goes by are renamed: rollup, live view, check, expiry and changes go on
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA tools;
CREATE FUNCTION tools.size(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 10';
CREATE TYPE tools.mood AS ENUM ('good', 'bad');
CREATE TABLE lookup (id int PRIMARY KEY, country text);
INSERT INTO lookup VALUES (1, 'fr'), (2, 'de');
CREATE TABLE event (at timestamptz, ms int, mood tools.mood, id int);
SELECT rollup.create('event_1h', $$SELECT date_trunc('hour', at) AS at, tools.size(ms) AS size, count(*) AS n, sum(ms) AS total, avg(ms) AS mean, max(mood) AS worst,
  count(*) FILTER (WHERE mood = 'bad') AS bad FROM event WHERE ms > 0 AND id IS NOT NULL GROUP BY 1, 2$$, every => NULL, on_change => 'recompute', coarser => '{"event_1d": "1 day"}') > 0 AS made;
SELECT rollup.create('joined_1h', $$SELECT date_trunc('hour', e.at) AS at, l.country, count(*) AS n, sum(e.ms) AS total FROM event e JOIN lookup l ON l.id = e.id WHERE e.ms > 0 GROUP BY 1, 2$$,
  every => NULL, joins => 'snapshot') > 0 AS made;
CREATE FUNCTION differ() RETURNS TABLE (hours bigint, joins bigint, live bigint) LANGUAGE sql AS $$
  SELECT (SELECT count(*) FROM rollup.check('event_1h')), (SELECT count(*) FROM rollup.check('joined_1h')),
   (SELECT count(*) FROM (SELECT at, size, n, total, mean, worst, bad FROM event_1h EXCEPT SELECT at, size, n, total, mean, worst, bad FROM event_1h_live) d) $$;
INSERT INTO event VALUES ('2026-01-01', 5, 'good', 1), (now(), 7, 'bad', 2);
SELECT rollup.run('event') AS rows;
SELECT rollup.retain('event', '7 days'), rollup.expire('event') AS gone;
-- a column, before the next run; the raw rows of one group are gone for good
ALTER TABLE event RENAME COLUMN ms TO duration;
INSERT INTO event VALUES (now(), 1, 'good', 1);
SELECT sum(n) AS n, sum(total) AS total FROM event_1h_live;
SELECT rollup.run('event') AS rows; SELECT sum(n) AS n, sum(total) AS total, max(worst) AS worst FROM event_1h; SELECT sum(total) AS total FROM joined_1h;
-- the same query, in the names of today: nothing is lost
SELECT rollup.replace('event_1h', $$SELECT date_trunc('hour', at) AS at, tools.size(duration) AS size, count(*) AS n, sum(duration) AS total, avg(duration) AS mean, max(mood) AS worst,
  count(*) FILTER (WHERE mood = 'bad') AS bad FROM event WHERE duration > 0 AND id IS NOT NULL GROUP BY 1, 2$$);
SELECT sum(n) AS n, sum(total) AS total FROM event_1h;
-- the time column, of which changes are told
ALTER TABLE event RENAME COLUMN at TO ts;
SELECT relation, time_column FROM rollup.source; SELECT relation, time_column FROM rollup.retention;
UPDATE event SET duration = duration + 100 WHERE id = 1;
INSERT INTO event VALUES (now(), 1, 'good', 1), (now() - interval '20 days', 2, 'good', 1);
SELECT sum(n) AS n, sum(total) AS total FROM event_1h_live;
SELECT rollup.run('event') AS rows; SELECT sum(n) AS n, sum(total) AS total FROM event_1h; SELECT sum(n) AS n, sum(total) AS total FROM event_1d;
SELECT rollup.expire('event') AS gone;
SELECT * FROM differ();
SELECT rollup.replace('event_1h', $$SELECT date_trunc('hour', ts) AS at, tools.size(duration) AS size, count(*) AS n, sum(duration) AS total, avg(duration) AS mean, max(mood) AS worst,
  count(*) FILTER (WHERE mood = 'bad') AS bad FROM event WHERE duration > 0 AND id IS NOT NULL GROUP BY 1, 2$$);
SELECT sum(n) AS n, sum(total) AS total FROM event_1h;
-- two names are exchanged: values stay with their columns
ALTER TABLE event RENAME COLUMN duration TO x; ALTER TABLE event RENAME COLUMN id TO duration; ALTER TABLE event RENAME COLUMN x TO id;
INSERT INTO event VALUES (now(), 1000, 'good', 1);
SELECT rollup.run('event') AS rows; SELECT sum(n) AS n, sum(total) AS total FROM event_1h; SELECT country, sum(total) AS total FROM joined_1h GROUP BY 1 ORDER BY 1;
-- a function, its schema, a type, a label, a looked-up column, the tables
ALTER FUNCTION tools.size(int) RENAME TO tenth; ALTER SCHEMA tools RENAME TO kit; ALTER TYPE kit.mood RENAME TO feeling; ALTER TYPE kit.feeling RENAME VALUE 'bad' TO 'awful';
ALTER TABLE lookup RENAME COLUMN country TO land; ALTER TABLE lookup RENAME TO lands; ALTER TABLE event RENAME TO happening; CREATE SCHEMA elsewhere; ALTER TABLE happening SET SCHEMA elsewhere;
INSERT INTO elsewhere.happening VALUES (now(), 2000, 'awful', 25);
SELECT rollup.run('elsewhere.happening') AS rows; SELECT sum(n) AS n, sum(total) AS total, sum(bad) AS bad, max(worst) AS worst FROM event_1h; SELECT max(size) FROM event_1d;
SELECT * FROM differ();
SELECT rollup.explain('event_1h') ~ 'kit.tenth' AS told;
-- while nobody is told of commands
ALTER EVENT TRIGGER rollup_watch_children DISABLE;
ALTER TABLE elsewhere.happening RENAME COLUMN ts TO moment; ALTER TABLE elsewhere.happening RENAME COLUMN id TO span;
INSERT INTO elsewhere.happening VALUES (now(), 1, 'good', 10);
SELECT sum(n) AS n, sum(total) AS total FROM event_1h_live;
SELECT rollup.run('elsewhere.happening') AS rows; SELECT sum(n) AS n, sum(total) AS total FROM event_1h;
SELECT relation, time_column FROM rollup.source; SELECT relation, time_column FROM rollup.retention;
SELECT * FROM differ();
ALTER EVENT TRIGGER rollup_watch_children ENABLE ALWAYS;
-- what it needs cannot go by accident
ALTER TABLE elsewhere.happening DROP COLUMN span;
DROP FUNCTION kit.tenth(int);
-- a column of the same query is added
SELECT rollup.add_column('event_1h', 'greatest', 'max(span)');
INSERT INTO elsewhere.happening VALUES (now(), 1, 'good', 11);
SELECT rollup.run('elsewhere.happening') AS rows; SELECT max(greatest) FROM event_1h;
SELECT * FROM differ();
-- retention of any table
CREATE TABLE other (at timestamptz, v int);
SELECT rollup.retain('other', '1 day', 'at'); INSERT INTO other VALUES ('2020-01-01', 1);
ALTER TABLE other RENAME COLUMN at TO moment;
SELECT rollup.expire('other');
-- columns of a rollup's own tables: who renames one is told, and runs say what to do, with nothing lost
CREATE TABLE kept (at timestamptz NOT NULL, site int, v int);
SELECT rollup.create('kept_d', 'SELECT date_trunc(''day'', at) AS day, site, count(*) AS "N", sum(v) AS total FROM kept GROUP BY 1, 2', every => NULL, coarser => '{"kept_w": "7 days"}') IS NOT NULL AS made;
\set VERBOSITY default
INSERT INTO kept VALUES ('2026-01-01Z', 1, 1);
SELECT rollup_kept();
ALTER TABLE kept_d RENAME COLUMN total TO sum_v;
INSERT INTO kept VALUES ('2026-01-01Z', 1, 2), ('2026-01-02Z', 2, 3);
SELECT rollup_kept();
SELECT rollup.check('kept_d');
SELECT rollup.rebuild('kept_d');
SELECT sum("N") AS want_3, sum(total) AS want_6 FROM kept_d_live;
ALTER TABLE kept_d ADD COLUMN mine bigint, ADD COLUMN other bigint;
SELECT rollup_kept();
ALTER TABLE public.kept_d RENAME COLUMN "sum_v" TO "total";
SELECT rollup_kept() AS want_2;
ALTER TABLE kept_w RENAME COLUMN "N" TO "n";
SELECT rollup.run('kept');
INSERT INTO kept VALUES ('2026-01-03Z', 2, 4);
SELECT rollup_kept();
ALTER TABLE kept_w RENAME COLUMN n TO "N";
SELECT rollup_kept() AS want_1;
-- one that is no matter, and the name in the view
ALTER TABLE kept_d RENAME COLUMN mine TO hers;
ALTER VIEW kept_d_live RENAME COLUMN total TO sum_v;
INSERT INTO kept VALUES ('2026-01-03Z', 2, 5);
SELECT rollup_kept() AS want_1;
SELECT sum(sum_v) AS want_15, (SELECT sum(total) FROM kept_w) AS want_15_too, (SELECT count(*) FROM rollup.check('kept_d')) AS want_0 FROM kept_d_live;
SELECT rollup.drop('kept_d');
DROP TABLE kept;
-- a time column that has become one of another type, which a view on it would have kept from happening
CREATE TABLE retyped (at timestamptz, v int);
SELECT rollup.create('retyped_d', $$SELECT date_trunc('day', at) AS day, count(*) AS n FROM retyped GROUP BY 1$$, every => NULL, on_change => 'recompute') IS NOT NULL AS made;
INSERT INTO retyped VALUES ('2026-01-01Z', 1);
SELECT rollup_retyped() AS want_1;
DROP VIEW retyped_d_live;
DROP INDEX retyped_at_rollup_stamp_idx;
ALTER TABLE retyped ALTER at TYPE text USING at::text;
UPDATE retyped SET v = 2;
\set VERBOSITY default
SELECT rollup_retyped();
ALTER TABLE retyped ALTER at TYPE bigint USING 9223372036854775806;
SELECT rollup_retyped();
ALTER TABLE retyped ALTER at TYPE timestamp USING '2026-01-01';
SELECT rollup_retyped();
\set VERBOSITY terse
ALTER TABLE retyped ALTER at TYPE timestamptz USING '2026-01-02Z';
SELECT rollup_retyped() IS NOT NULL AS goes_on;
SELECT day, n FROM retyped_d;
SELECT rollup.drop('retyped_d');
DROP TABLE retyped;
