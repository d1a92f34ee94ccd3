\set VERBOSITY terse
-- levels: from the same groups in the same transaction; added, dropped, expired
CREATE TABLE event (at timestamptz NOT NULL, site int, ms int, who text);
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
\set aggregates 'count(*) AS n, sum(ms) AS total, sum(hashtext(who)) AS hash, avg(ms) AS mean, stddev(ms) AS spread, rollup.last(ms, at) AS latest, hll_add_agg(hll_hash_text(who)) AS people, jsonb_counter_agg(who) AS by_person FROM event GROUP BY 1, 2'
CREATE FUNCTION by(unit text, aggregates text) RETURNS text LANGUAGE sql AS $$ SELECT format('SELECT date_trunc(%L, at, ''UTC'') AS at, site, %s', unit, aggregates) $$;
SELECT rollup.create('event_1min', by('minute', :'aggregates'), every => NULL, coarser => '{"event_1day": "1 day", "event_1hour": "1 hour", "event_1week": "7 days", "event_1month": "1 month"}') IS NOT NULL AS made;
SELECT name, width, relation FROM rollup.level ORDER BY width;
INSERT INTO event SELECT timestamptz '2026-01-30' + i * interval '7 minutes', i % 3, i % 900, 'p' || i % 31 FROM generate_series(1, 1500) i;
SELECT differs('event_1min_live', by('minute', :'aggregates')), differs('event_1hour_live', by('hour', :'aggregates')), differs('event_1month_live', by('month', :'aggregates'));
SELECT rollup_event();
SELECT differs('event_1min_live', by('minute', :'aggregates')), differs('event_1hour_live', by('hour', :'aggregates')), differs('event_1day_live', by('day', :'aggregates')),
  differs('event_1week_live', by('week', :'aggregates')), differs('event_1month_live', by('month', :'aggregates'));
INSERT INTO event SELECT at - interval '90 seconds', site, ms + 1, who FROM event WHERE ms % 50 = 0;
BEGIN; INSERT INTO event VALUES ('2026-01-30 00:01', 1, 5, 'p1'); SELECT rollup_event(); ROLLBACK;
SELECT rollup_event();
SELECT differs('event_1min_live', by('minute', :'aggregates')), differs('event_1hour_live', by('hour', :'aggregates')), differs('event_1day_live', by('day', :'aggregates')),
  differs('event_1week_live', by('week', :'aggregates')), differs('event_1month_live', by('month', :'aggregates'));
-- the chain: days from hours, weeks from days, months from days
SELECT regexp_matches(rollup.explain('event_1min'), 'delta_\d AS MATERIALIZED|FROM delta\w* GROUP', 'g');
-- who names one of them in the place of the source is told which it is
\set VERBOSITY default
SELECT rollup.run('event_1hour');
SELECT rollup.rebase('event_1min_live');
\set VERBOSITY terse
-- later
SELECT rollup.add_level('event_1min', 'event_1year', '1 year');
SELECT rollup.add_level('event_1min', 'event_1year', '1 year');
SELECT rollup.add_level('event_1min', 'event_90min', '90 minutes');
SELECT rollup.add_level('event_1min', 'event_15min', '15 minutes');
SELECT differs('event_15min_live', replace(by('minute', :'aggregates'), 'date_trunc(''minute'', at, ''UTC'')', 'date_bin(''15 minutes'', at, ''2000-01-01 00:00Z'')'));
INSERT INTO event SELECT at + interval '3 days', site, ms + 1, who FROM event WHERE ms % 50 = 0;
SELECT differs('event_1year_live', by('year', :'aggregates')), rollup_event(), differs('event_1year_live', by('year', :'aggregates'));
SELECT rollup.drop_level('event_1min', 'event_1week');
SELECT rollup.drop_level('event_1min', 'event_1week');
SELECT rollup.drop_level('event_1min', 'event_1day', keep_data => true);
SELECT to_regclass('event_1week'), to_regclass('event_1day'), to_regclass('event_1day_live');
INSERT INTO event VALUES ('2026-01-30 00:01', 1, 5, 'p1');
SELECT rollup_event();
SELECT differs('event_1min_live', by('minute', :'aggregates')), differs('event_1hour_live', by('hour', :'aggregates')), differs('event_1month_live', by('month', :'aggregates'));
SELECT (SELECT sum(n) FROM event_1day) AS kept, (SELECT sum(n) FROM event_1hour) AS going_on;
-- a level keeps what the rollup lets go
SELECT rollup.retain('event_1min', '1 day'), rollup.retain('event_1hour', '10 years');
SELECT rollup.expire('event_1min') > 0 AS gone;
SELECT count(*) FROM event_1min;
SELECT differs('event_1hour_live', by('hour', :'aggregates'));
\d event_1hour
SELECT a.attname, a.attstorage AS storage, col_description(a.attrelid, a.attnum) FROM pg_attribute a WHERE a.attrelid = 'event_1hour'::regclass AND a.attnum > 0 ORDER BY a.attnum;
SELECT reloptions FROM pg_class WHERE oid = 'event_1hour'::regclass;
SELECT obj_description('event_1hour'::regclass), obj_description('event_1hour_live'::regclass);
DROP TABLE event_1hour CASCADE;
INSERT INTO event VALUES ('2026-01-30 00:01', 1, 5, 'p1');
SELECT rollup_event();
SELECT rollup.drop_level('event_1min', 'event_1hour');
SELECT rollup_event();
SELECT rollup.drop('event_1min');
SELECT count(*) AS left_behind FROM pg_class WHERE relname LIKE 'event\_%' AND relkind IN ('r', 'v');
