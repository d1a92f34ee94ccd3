\set VERBOSITY terse
-- a table, a rollup, and what an error leaves behind: nothing
CREATE TABLE event (site int NOT NULL, at timestamptz NOT NULL, country text, ms int, ok bool);
INSERT INTO event SELECT i % 3, timestamptz '2026-01-01 00:00:00+00' + i * interval '7 seconds', (ARRAY['USA', 'NL', NULL])[i % 3 + 1], i, i % 5 = 0 FROM generate_series(1, 300) i;
SELECT rollup.create('bad', 'SELECT site, at FROM event GROUP BY 1, 2');
SELECT rollup.create('bad', 'SELECT site, count(*) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, count(DISTINCT ms) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, array_agg(ms) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, string_agg(country, '','' ORDER BY ms) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM event GROUP BY 1, site');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM event GROUP BY 1 HAVING count(*) > 1');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM event GROUP BY 1 LIMIT 1');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM event GROUP BY 1 ORDER BY 1');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM event WHERE random() < 0.5 GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, sum(ms * random()) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT a.at, count(*) FROM event a JOIN event b USING (site) GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM event GROUP BY 1 UNION ALL SELECT now(), 1');
SELECT rollup.create('bad', 'WITH w AS (SELECT 1) SELECT at, count(*) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM no_such_table GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, at::date AS day, count(*) FROM event GROUP BY 1, 2');
SELECT rollup.create('bad', 'DELETE FROM event');
SELECT rollup.create('bad', 'SELECT 1; DROP TABLE event');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM pg_stat_activity, event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT backend_start, count(*) FROM pg_stat_activity GROUP BY 1');
SELECT rollup.create('event', 'SELECT at, count(*) FROM event GROUP BY 1');
SELECT rollup.create(NULL, 'SELECT at, count(*) FROM event GROUP BY 1');
SELECT rollup.create('bad', 'SELECT at, count(*) FROM event GROUP BY 1', timezone => 'Mars/Olympus');
SELECT rollup.retain('event', '7 days');
SELECT rollup.run('event');
SELECT rollup.pause('bad');
SELECT count(*) AS left_behind FROM pg_attribute WHERE attrelid = 'event'::regclass AND attname = 'rollup_stamp';
SELECT count(*) FROM rollup.definition;

-- NULL keys, every kind of aggregate
SELECT rollup.create('event_5min', $$
  SELECT site, country, date_bin('5 minutes', at, timestamptz '2000-01-01 00:00:00+00') AS at,
         count(*) AS n, count(ms) FILTER (WHERE ok) AS n_ok, sum(ms) AS total, min(ms) AS lo, max(ms) AS hi,
         bool_and(ok) AS all_ok, bool_or(ok) AS any_ok
    FROM event GROUP BY 1, 2, 3 $$, every => NULL) IS NOT NULL AS created;
CREATE VIEW raw AS
  SELECT site, country, date_bin('5 minutes', at, timestamptz '2000-01-01 00:00:00+00') AS at,
         count(*) AS n, count(ms) FILTER (WHERE ok) AS n_ok, sum(ms) AS total, min(ms) AS lo, max(ms) AS hi,
         bool_and(ok) AS all_ok, bool_or(ok) AS any_ok
    FROM event GROUP BY 1, 2, 3;
CREATE FUNCTION differences(relation text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM ((TABLE raw EXCEPT ALL TABLE %1$I) UNION ALL (TABLE %1$I EXCEPT ALL TABLE raw)) d', relation) INTO n;
  RETURN n;
END $$;
SELECT count(*) FROM event_5min;
SELECT differences('event_5min_live');
SELECT rollup_event();
SELECT differences('event_5min'), differences('event_5min_live');
SELECT rollup_event();
-- late rows, NULL values
INSERT INTO event SELECT site, at, country, CASE WHEN ms % 2 = 0 THEN ms * 10 END, NULL FROM event WHERE ms % 10 = 0;
SELECT differences('event_5min') > 0 AS behind, differences('event_5min_live');
SELECT rollup_event();
SELECT differences('event_5min'), differences('event_5min_live');
-- a transaction is not in its own snapshot: its rows come together, with the next run
BEGIN;
INSERT INTO event VALUES (1, '2026-02-01 00:00:00+00', 'NL', 1, true);
SELECT rollup_event();
SELECT differences('event_5min_live');
SAVEPOINT a;
INSERT INTO event VALUES (1, '2026-02-01 00:00:00+00', 'NL', 2, true);
SELECT rollup_event();
ROLLBACK TO a;
INSERT INTO event VALUES (1, '2026-02-01 00:00:00+00', 'NL', 4, true);
COMMIT;
SELECT differences('event_5min_live');
SELECT rollup_event();
SELECT differences('event_5min');
BEGIN; INSERT INTO event VALUES (1, '2026-02-01 00:00:00+00', 'NL', 8, true); SELECT rollup_event(); ROLLBACK;
SELECT rollup_event(), differences('event_5min');
-- a transaction that keeps one snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO event VALUES (1, '2026-02-01 00:00:00+00', 'NL', 16, true); SELECT rollup_event(); COMMIT;
SELECT rollup_event(), differences('event_5min');
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT rollup.create('bad', 'SELECT at, count(*) FROM event GROUP BY 1'); ROLLBACK;
-- an idle run takes no transaction id
BEGIN; SELECT rollup_event(); SELECT pg_current_xact_id_if_assigned(); COMMIT;
-- an update keeps the stamp; it is not counted again
UPDATE event SET ms = ms WHERE ms < 50;
SELECT rollup_event();
-- a second rollup of the same table starts from the rows that are there, and runs on its own
SELECT rollup.create('"Event per Day"', $$ SELECT date_trunc('day', at) AS day, count(*) AS n FROM event WHERE ms IS NOT NULL GROUP BY 1 $$, every => NULL) IS NOT NULL AS created;
SELECT rollup_event();
SELECT * FROM "Event per Day" ORDER BY day;
SELECT name, state, rows_total, lag_rows FROM rollup.status ORDER BY name;
-- expiry: not before every rollup has counted
SELECT rollup.retain('event', '1 day');
SELECT rollup.pause('event_5min');
INSERT INTO event VALUES (2, '2026-03-01 00:00:00+00', 'NL', 1, true);
SELECT rollup_event();
SELECT expire_event() > 300 AS gone;
SELECT count(*) FROM event;
SELECT name, state, expiry_held_by FROM rollup.status ORDER BY name;
SELECT rollup.resume('event_5min');
SELECT rollup_event();
SELECT expire_event();
SELECT count(*), sum(n) FROM event_5min_live;
-- another role: sees no query, runs nothing, drops nothing
CREATE ROLE regress_rollup_guest;
SET ROLE regress_rollup_guest;
SELECT rollup_event();
SELECT rollup.drop('event_5min');
SELECT rollup.pause('event_5min');
SELECT rollup.retain('event', '1 second');
SELECT rollup.expire('event');
SELECT query FROM rollup.definition;
UPDATE rollup.definition SET seen_xmax = 0;
SELECT name, lag_rows FROM rollup.status ORDER BY name;
RESET ROLE;
DROP ROLE regress_rollup_guest;
-- a stamp written by hand that no transaction has is refused; where the index is not there to do so, it is told of
INSERT INTO event (site, at, rollup_stamp) VALUES (1, now(), 1000000000000), (1, now(), rollup.stamp());
BEGIN;
DROP INDEX event_at_rollup_stamp_idx;
INSERT INTO event (site, at, rollup_stamp) VALUES (1, now(), 1000000000000), (1, now(), rollup.stamp());
CREATE INDEX event_at_rollup_stamp_idx ON event USING rollup_zonemap (at, rollup_stamp);
COMMIT;
SELECT rollup_event();
DELETE FROM event WHERE rollup_stamp = 1000000000000;
-- a column of that name that is not ours
CREATE TABLE taken (at timestamptz, rollup_stamp int);
SELECT rollup.create('taken_1day', 'SELECT date_trunc(''day'', at) AS day, count(*) FROM taken GROUP BY 1');
-- the engine's schema in the search_path changes nothing
SET search_path = rollup, public;
SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS h, count(*) AS n FROM event GROUP BY 1', every => NULL) IS NOT NULL AS created;
RESET search_path;
SELECT rollup.drop('event_1h');
-- drop
SELECT rollup.drop('event_5min', keep_data => true);
SELECT count(*) FROM event_5min;
SELECT rollup.drop('Event per Day');
SELECT to_regclass('"Event per Day"'), to_regprocedure('rollup_event()'), (SELECT count(*) FROM rollup.source);
