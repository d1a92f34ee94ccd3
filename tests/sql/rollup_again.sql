-- Migrations that are run twice: what is there stays, and what differs is said; or it becomes what is asked for.
CREATE TABLE event (at timestamptz NOT NULL, site int NOT NULL, kind text, n int);
INSERT INTO event SELECT timestamptz '2026-01-01+00' + g * interval '7 min', g % 3, 'k' || g % 4, g FROM generate_series(1, 600) g;
\set query 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, sum(n) AS total FROM event GROUP BY 1, 2'
SELECT rollup.create('by_hour', :'query', every => '1 minute', coarser => '{"by_day": "1 day"}', if_not_exists => true) AS id \gset
SELECT rollup.run('event');
-- The same once more, in other words too.
SELECT rollup.create('by_hour', :'query', every => '60 seconds', coarser => '{"by_day": "24 hours"}', if_not_exists => true) = :id AS same;
SELECT rollup.create('public.by_hour', 'SELECT site, date_trunc(''hour'', e.at) AS at, sum(e.n) AS total, count(*) AS n FROM event AS e GROUP BY 2, 1', every => '1 minute', timezone => 'utc', if_not_exists => true) = :id AS same;
SELECT rollup.create('by_hour', :'query', every => '1 minute', coarser => '{"by_day": "1 day"}', replace => true) = :id AS same;
SELECT runs, rows_total FROM rollup.status;
-- Every difference has both values.
SELECT rollup.create('by_hour', 'SELECT date_trunc(''day'', at) AS at, kind, count(*) FILTER (WHERE n > 3) AS n, max(n) AS most FROM event WHERE n > 0 GROUP BY 1, 2',
  every => NULL, coarser => '{"by_day": "2 days", "by_month": "1 month"}', timezone => 'Europe/Berlin', on_change => 'recompute', notify => true, if_not_exists => true) = :id AS same;
CREATE TABLE other (at timestamptz NOT NULL, site int NOT NULL, kind text, n int);
SELECT rollup.create('by_hour', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM other GROUP BY 1', if_not_exists => true) = :id AS same;
SELECT d.name, d.every, d.timezone, s.channel FROM rollup.definition d JOIN rollup.status s USING (name);
-- Not both, nor NULL; what has the name and is no rollup is in the way; so is the query.
SELECT rollup.create('by_hour', :'query', if_not_exists => true, replace => true);
SELECT rollup.create('by_hour', :'query', if_not_exists => NULL);
SELECT rollup.create('other', :'query', if_not_exists => true);
SELECT rollup.create('event', :'query', replace => true);
SELECT rollup.create('by_hour', 'SELECT 1', if_not_exists => true);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT rollup.create('by_hour', :'query', if_not_exists => true);
ROLLBACK;

-- Replaced where it is: settings, columns, levels; the id and what was counted stay.
GRANT SELECT ON by_hour, by_hour_live TO PUBLIC;
SELECT rollup.create('by_hour', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, max(n) AS most FROM event GROUP BY 1, 2',
  every => NULL, coarser => '{"by_day": "2 days", "by_month": "1 month"}', notify => true, replace => true) = :id AS same;
SELECT name, every, channel, rows_total FROM rollup.status;
SELECT name, width FROM rollup.level ORDER BY width;
SELECT count(*) AS differences FROM rollup.check('by_hour');
SELECT (SELECT sum(n) FROM by_hour) AS hours, (SELECT max(most) FROM by_day) AS days, (SELECT sum(n) FROM by_month_live) AS months;
-- Without COARSER levels are nobody's matter; an empty one has none.
SELECT rollup.create('by_hour', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, max(n) AS most FROM event GROUP BY 1, 2', every => NULL, replace => true) = :id AS same;
SELECT count(*) AS levels FROM rollup.level;
SELECT rollup.create('by_hour', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, max(n) AS most FROM event GROUP BY 1, 2', every => NULL, coarser => '{}', replace => true) = :id AS same;
SELECT count(*) AS levels FROM rollup.level;

-- Made anew: it counts other rows, by other keys, in another zone; with its grants and its retention, and complete.
CREATE ROLE reader_of_again;
REVOKE SELECT ON by_hour, by_hour_live FROM PUBLIC;
GRANT SELECT ON by_hour TO reader_of_again WITH GRANT OPTION;
GRANT SELECT (n) ON by_hour_live TO reader_of_again;
ALTER VIEW by_hour_live SET (security_barrier = true);
SELECT rollup.retain('by_hour', '1000 years');
INSERT INTO event VALUES ('2026-01-01+00', 1, 'new', 1000);
SELECT rollup.create('by_hour', 'SELECT date_trunc(''day'', at) AS day, kind, count(*) AS n FROM event WHERE n > 100 GROUP BY 1, 2',
  every => '1 hour', timezone => 'Europe/Berlin', coarser => '{"by_month": "1 month"}', on_change => 'recompute', replace => true) <> :id AS another;
SELECT d.name, d.every, d.timezone, d.on_change, d.rows_total, s.lag_rows FROM rollup.definition d JOIN rollup.status s USING (name);
SELECT count(*) AS differences FROM rollup.check('by_hour');
SELECT (SELECT sum(n) FROM by_hour) AS days, (SELECT sum(n) FROM by_month) AS months, (SELECT count(*) FROM event WHERE n > 100) AS rows;
SELECT has_table_privilege('reader_of_again', 'by_hour', 'SELECT WITH GRANT OPTION') AS reads, has_any_column_privilege('reader_of_again', 'by_hour_live', 'SELECT') AS reads_one, reloptions
  FROM pg_class WHERE oid = 'by_hour_live'::regclass;
SELECT relation, time_column, keep FROM rollup.retention;
UPDATE event SET n = 0 WHERE n > 600;
SELECT rollup.run('event');
SELECT (SELECT sum(n) FROM by_hour) AS days, (SELECT count(*) FROM event WHERE n > 100) AS rows;
-- A view that stands on it is in the way, and all is as it was. So is a publication.
CREATE VIEW stands AS SELECT * FROM by_hour;
SELECT rollup.create('by_hour', :'query', replace => true);
DROP VIEW stands;
SET client_min_messages = error; CREATE PUBLICATION sends FOR TABLE by_hour; RESET client_min_messages;
SELECT rollup.create('by_hour', :'query', replace => true);
DROP PUBLICATION sends;
SELECT name, timezone, on_change FROM rollup.definition;
-- What was counted and is not there any more is not thrown away.
SELECT rollup.create('by_hour', :'query', every => NULL, replace => true) > 0 AS back;
DELETE FROM event WHERE at < '2026-01-02+00';
SELECT rollup.create('by_hour', :'query', every => NULL, timezone => 'Asia/Tokyo', replace => true);
SELECT rollup.create('by_hour', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, sum(n) AS total, min(n) AS least FROM event GROUP BY 1, 2', every => NULL, replace => true) > 0 AS a_column_comes;
SELECT rollup.retain('event', '1 minute');
SELECT rollup.expire('event') > 0 AS expired;
\set VERBOSITY sqlstate
SELECT rollup.create('by_hour', :'query', every => NULL, on_change => 'error', replace => true);
\set VERBOSITY default
SELECT rollup.add_level('by_hour', 'by_day', '1 day');
SELECT rollup.retain('by_hour', '1 minute');
SELECT rollup.expire('by_hour') > 0 AS expired;
\set VERBOSITY sqlstate
SELECT rollup.create('by_hour', :'query', every => NULL, coarser => '{}', replace => true);
\set VERBOSITY default
SELECT count(*) > 0 AS kept FROM by_day;
-- One whose source, or whose table, is gone.
DROP TABLE by_hour CASCADE;
SELECT rollup.create('by_hour', :'query', every => NULL, if_not_exists => true);
SELECT rollup.create('by_hour', :'query', every => NULL, replace => true) > 0 AS made;
SELECT name, state FROM rollup.status;

-- Levels and columns.
SELECT rollup.drop('by_hour');
SELECT rollup.create('by_hour', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n FROM other GROUP BY 1, 2', every => NULL) > 0 AS made;
SELECT rollup.add_level('by_hour', 'by_week', '7 days', if_not_exists => true), rollup.add_level('by_hour', 'by_week', '168 hours', if_not_exists => true);
SELECT rollup.add_level('by_hour', 'by_week', '14 days', if_not_exists => true);
SELECT rollup.add_level('by_hour', 'by_week', '7 days');
SELECT rollup.add_column('by_hour', 'mean', 'avg(n)', if_not_exists => true), rollup.add_column('by_hour', 'mean', 'avg(other.n)', if_not_exists => true);
SELECT rollup.add_column('by_hour', 'mean', 'sum(n) / count(*)', if_not_exists => true);
SELECT rollup.add_column('by_hour', 'mean', 'no such', if_not_exists => true);
SELECT rollup.drop_column('by_hour', 'mean', if_exists => true), rollup.drop_column('by_hour', 'mean', if_exists => true);
SELECT rollup.drop_level('by_hour', 'by_week', if_exists => true), rollup.drop_level('by_hour', 'by_week', if_exists => true);
SELECT rollup.drop_level('by_hour', 'by_week');
SELECT rollup.drop('by_hour', if_exists => true), rollup.drop('by_hour', if_exists => true);
SELECT rollup.drop('by_hour');
-- A table that was there before.
CREATE TABLE kept (at timestamptz PRIMARY KEY, n bigint);
SELECT rollup.create('kept', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL, into_table => 'kept', if_not_exists => i) > 0 AS made FROM unnest('{t,t}'::bool[]) i;
SELECT rollup.create('kept', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM event WHERE n > 1 GROUP BY 1', every => NULL, into_table => 'kept', replace => true);
SELECT rollup.drop('kept');
DROP TABLE event, other, kept, by_day;
DROP ROLE reader_of_again;
