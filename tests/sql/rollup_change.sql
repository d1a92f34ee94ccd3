\set VERBOSITY terse
\pset format unaligned
\pset tuples_only
-- raw rows that change: rollups that follow, one that does not, one that forbids it
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
CREATE TABLE event (site int, at timestamptz, ms int, name text, seen timestamp DEFAULT '2026-05-05 10:10');
INSERT INTO event (site, at, ms, name) SELECT i % 3, timestamptz '2026-01-01' + i * interval '7 minutes', i, 'n' || i % 9 FROM generate_series(1, 600) i;
INSERT INTO event (site, at, ms, name) VALUES (1, NULL, 1, 'none'), (1, 'infinity', 2, 'late'), (NULL, '-infinity', 3, 'early');
\set columns ' AS at, site, count(*) AS n, sum(ms) AS total, sum(hashtext(name)::bigint) AS hash, min(ms) AS least, max(name) AS most, count(ms) FILTER (WHERE ms > 100) AS slow, hll_add_agg(hll_hash_text(name)) AS names FROM event WHERE name <> ''hidden'' GROUP BY 1, 2'
\set by_minute 'SELECT date_trunc(''minute'', at)' :columns
\set by_hour 'SELECT date_trunc(''hour'', at)' :columns
\set by_day 'SELECT date_trunc(''day'', at)' :columns
SELECT rollup.create('minutes', :'by_minute', every => NULL, on_change => 'recompute', coarser => '{"hours": "1 hour", "days": "1 day"}') IS NOT NULL AS made;
-- others of the same table: by local days, by another column, and one that does not mind
\set berlin 'SELECT date_trunc(''day'', at, ''Europe/Berlin'') AS at, count(*) AS n, sum(ms) AS total FROM event GROUP BY 1'
SELECT rollup.create('local_days', :'berlin', every => NULL, on_change => 'recompute', timezone => 'Europe/Berlin', coarser => '{"local_months": "1 month"}') IS NOT NULL AS made;
\set seen 'SELECT date_trunc(''hour'', seen) AS seen, count(*) AS n, sum(ms) AS total FROM event GROUP BY 1'
SELECT rollup.create('by_seen', :'seen', every => NULL, on_change => 'recompute') IS NOT NULL AS made;
SELECT rollup.create('careless', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL) IS NOT NULL AS made;
CREATE FUNCTION all_differ(suffix text, minute text, hour text, day text, berlin text, seen text) RETURNS bigint[] LANGUAGE sql AS $$
  SELECT ARRAY[differs('minutes' || suffix, minute), differs('hours' || suffix, hour), differs('days' || suffix, day), differs('local_days' || suffix, berlin),
    differs('local_months' || suffix, replace(berlin, '''day''', '''month''')), differs('by_seen' || suffix, seen)] $$;
\set args :'by_minute', :'by_hour', :'by_day', :'berlin', :'seen'
SELECT rollup_event();
SELECT all_differ('', :args), all_differ('_live', :args);
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'event'::regclass ORDER BY 1;
-- values, times, filters, rows that go; the views are right before the run, the tables after
UPDATE event SET ms = ms + 1000 WHERE ms BETWEEN 50 AND 60;
UPDATE event SET at = at + interval '36 hours', seen = seen + interval '1 hour' WHERE ms BETWEEN 100 AND 110;
UPDATE event SET name = 'hidden' WHERE ms = 120;
DELETE FROM event WHERE ms BETWEEN 200 AND 210;
UPDATE event SET ms = 77 WHERE at IS NULL OR at IN ('infinity', '-infinity');
UPDATE event SET at = NULL WHERE ms = 300;
INSERT INTO event (site, at, ms, name) VALUES (2, '2026-01-01 06:00', 5, 'new'), (2, '2026-02-01 06:00', 5, 'new');
SELECT all_differ('_live', :args);
SELECT (all_differ('', :args))[1] > 20 AS behind, (SELECT count(DISTINCT time_column) FROM rollup.change);
SELECT rollup_event();
SELECT all_differ('', :args), all_differ('_live', :args);
SELECT count(*) AS notes FROM rollup.change;
SELECT rollup_event();
-- which no other rollup of the table is told of
SELECT differs('careless', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM event GROUP BY 1') > 0 AS stale;
-- an idle run takes no transaction id
BEGIN; SELECT rollup_event(); SELECT pg_current_xact_id_if_assigned(); COMMIT;
-- what is undone is no change; what a part of the transaction did is
BEGIN; DELETE FROM event WHERE ms < 100; ROLLBACK;
BEGIN; SAVEPOINT a; DELETE FROM event WHERE ms = 401; ROLLBACK TO a; SAVEPOINT b; UPDATE event SET ms = 0 WHERE ms = 401; RELEASE b; UPDATE event SET site = 9 WHERE ms = 0; COMMIT;
SELECT all_differ('_live', :args);
SELECT rollup_event(), all_differ('', :args);
-- rows that are not yet merged
INSERT INTO event (site, at, ms, name) VALUES (2, '2026-01-01 07:00', 6, 'new');
UPDATE event SET at = '2026-01-01 09:00', ms = 7 WHERE ms = 6 AND name = 'new';
SELECT all_differ('_live', :args);
SELECT rollup_event(), all_differ('', :args);
-- in the writer's own transaction: its rows and changes come together, with the next run
BEGIN;
UPDATE event SET ms = ms + 1 WHERE site = 1;
SELECT rollup_event();
SELECT all_differ('_live', :args);
INSERT INTO event (site, at, ms, name) VALUES (2, '2026-01-01 07:00', 6, 'new');
DELETE FROM event WHERE site = 2 AND ms % 2 = 0;
COMMIT;
SELECT all_differ('_live', :args);
SELECT rollup_event(), all_differ('', :args);
-- paused: the notes stay for it alone
SELECT rollup.pause('minutes');
UPDATE event SET ms = ms + 1 WHERE ms % 3 = 0;
SELECT rollup_event() IS NOT NULL AS ran, all_differ('_live', :args);
SELECT count(*) > 0 AS kept FROM rollup.change;
SELECT rollup.resume('minutes');
SELECT rollup_event() IS NOT NULL AS ran, all_differ('', :args);
SELECT count(*) AS notes FROM rollup.change;
-- rebuild, and columns that come and go
UPDATE event SET ms = ms + 1 WHERE ms % 5 = 0;
SELECT rollup.rebuild('minutes') > 0 AS rebuilt;
SELECT all_differ('_live', :args);
SELECT rollup_event() IS NOT NULL AS ran, all_differ('', :args);
CREATE ROLE regress_change_reader; GRANT SELECT ON minutes_live TO regress_change_reader WITH GRANT OPTION; GRANT SELECT (at, n, names) ON hours_live TO PUBLIC; ALTER VIEW days_live OWNER TO regress_change_reader;
SELECT rollup.drop_column('minutes', 'names');
SELECT rollup.add_column('minutes', 'names', 'hll_add_agg(hll_hash_text(name))');
-- (17 has one privilege more, MAINTAIN)
SELECT relname, pg_get_userbyid(relowner) = current_user AS ours, replace(relacl::text, 'tm/', 't/') AS relacl, (SELECT array_agg(attname ORDER BY attname) FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL) AS columns FROM pg_class c WHERE relname IN ('minutes_live', 'hours_live', 'days_live') ORDER BY 1;
ALTER VIEW days_live OWNER TO postgres; REVOKE ALL ON minutes_live FROM regress_change_reader; DROP ROLE regress_change_reader;
UPDATE event SET ms = ms + 1 WHERE ms % 7 = 0;
SELECT all_differ('_live', :args);
SELECT rollup_event() IS NOT NULL AS ran, all_differ('', :args);
SELECT count(*) FROM rollup.check('minutes');
-- many minutes at once become few pieces
INSERT INTO event (site, at, ms, name) SELECT 1, timestamptz '2026-03-01' + i * interval '3 hours', i, 'far' FROM generate_series(1, 300) i;
SELECT rollup_event();
UPDATE event SET ms = ms + 1 WHERE name = 'far' AND ms % 4 = 0;
SELECT rollup_event() IS NOT NULL AS ran, all_differ('', :args), all_differ('_live', :args);
-- expiry is no change, and waits for those that are
SELECT rollup.retain('event', '2 days');
UPDATE event SET ms = ms + 1 WHERE site = 1;
SELECT expire_event();
SELECT rollup_event() IS NOT NULL AS ran;
SELECT all_differ('', :args);
CREATE TABLE before AS SELECT * FROM minutes;
INSERT INTO event (site, at, ms, name) VALUES (1, now(), 1, 'now'), (1, now(), 2, 'now');
SELECT rollup_event();
SELECT expire_event() > 500 AS gone, (SELECT count(*) FROM rollup.change) AS notes;
SELECT count(*) FROM (TABLE before EXCEPT TABLE minutes) b;
-- buckets of which rows have expired are not computed again, and told of
INSERT INTO event (site, at, ms, name) VALUES (1, '2026-01-01 00:07', 1, 'late');
SELECT rollup_event();
UPDATE event SET ms = 1000 WHERE name = 'late';
UPDATE event SET ms = 500 WHERE name = 'now' AND ms = 1;
SELECT rollup_event();
SELECT name, refused_changes FROM rollup.status WHERE name IN ('minutes', 'by_seen') ORDER BY name;
SELECT n, total FROM minutes WHERE at = '2026-01-01 00:07' AND site = 1;
SELECT total, sum(l.total) OVER () = total AS same FROM minutes_live l WHERE most = 'now';
-- TRUNCATE: what raw rows cannot say stays
TRUNCATE event;
SELECT count(*) > 100 AS history, count(*) FILTER (WHERE at > now() - interval '1 day') AS new FROM minutes_live;
SELECT rollup_event();
SELECT count(*) > 100 AS history, count(*) FILTER (WHERE at > now() - interval '1 day') AS new FROM minutes;
SELECT rollup.drop('minutes'), rollup.drop('local_days'), rollup.drop('by_seen');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'event'::regclass;
-- a table without expiry is empty everywhere
TRUNCATE event;
SELECT rollup.retain('event', NULL), rollup.drop('careless');
DELETE FROM rollup.expired;
SELECT rollup.create('minutes', :'by_minute', every => NULL, on_change => 'recompute', coarser => '{"hours": "1 hour"}') IS NOT NULL AS made;
INSERT INTO event (site, at, ms, name) SELECT i % 3, now() - i * interval '7 minutes', i, 'n' || i % 9 FROM generate_series(1, 100) i;
INSERT INTO event (site, at, ms, name) VALUES (1, NULL, 1, 'none'), (1, 'infinity', 2, 'late'), (NULL, '-infinity', 3, 'early');
SELECT rollup_event();
TRUNCATE event;
INSERT INTO event (site, at, ms, name) VALUES (1, now(), 1, 'after');
SELECT differs('minutes_live', :'by_minute'), differs('hours_live', :'by_hour');
SELECT rollup_event(), differs('minutes', :'by_minute'), differs('hours', :'by_hour');
SELECT rollup.drop('minutes');
-- partitions: rows written to a leaf, rows that move, leaves that come later or are truncated, sub-partitions
CREATE TABLE parted (at timestamptz NOT NULL, k int, v int) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-01-02') TO ('2026-01-03') PARTITION BY LIST (k);
CREATE TABLE parted_2a PARTITION OF parted_2 FOR VALUES IN (1);
CREATE TABLE parted_2b PARTITION OF parted_2 DEFAULT;
\set parts 'SELECT date_bin(''15 minutes'', at, ''2000-01-01 00:00Z''::timestamptz) AS at, k, count(*) AS n, sum(v) AS s, sum(hashint4(v)::bigint) AS h FROM parted GROUP BY 1, 2'
SELECT rollup.create('parted_15min', :'parts', every => NULL, on_change => 'recompute', coarser => '{"parted_day": "1 day"}') IS NOT NULL AS made;
\set days 'SELECT date_trunc(''day'', at) AS at, k, count(*) AS n, sum(v) AS s, sum(hashint4(v)::bigint) AS h FROM parted GROUP BY 1, 2'
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM ('2026-01-03') TO ('2026-01-04');
CREATE TABLE parted_4 (k int, v int, at timestamptz NOT NULL, rollup_stamp bigint NOT NULL DEFAULT rollup.stamp());
ALTER TABLE parted ATTACH PARTITION parted_4 FOR VALUES FROM ('2026-01-04') TO ('2026-01-05');
SELECT tgrelid::regclass::text AS t, tgname, tgenabled FROM pg_trigger WHERE tgname LIKE 'zz%' ORDER BY 1, 2;
INSERT INTO parted SELECT timestamptz '2026-01-01' + i * interval '9 minutes', i % 4, i FROM generate_series(1, 600) i;
SELECT rollup_parted(), differs('parted_15min', :'parts'), differs('parted_day', :'days');
UPDATE parted SET at = at + interval '1 day' WHERE at < '2026-01-04' AND v % 10 = 0;
UPDATE parted_2a SET k = 1, v = -v WHERE v % 3 = 0;
UPDATE parted_2 SET k = k + 1 WHERE v % 5 = 0;
DELETE FROM parted_4 WHERE v % 2 = 0;
SELECT differs('parted_15min_live', :'parts'), differs('parted_day_live', :'days');
SELECT rollup_parted(), differs('parted_15min', :'parts'), differs('parted_day', :'days');
TRUNCATE parted_3, parted_2a;
SELECT differs('parted_15min_live', :'parts'), differs('parted_day_live', :'days');
SELECT rollup_parted(), differs('parted_15min', :'parts'), differs('parted_day', :'days');
INSERT INTO parted SELECT timestamptz '2026-01-01' + i * interval '9 minutes', i % 4, i FROM generate_series(1, 600) i;
MERGE INTO parted p USING (VALUES (10), (20), (30)) s(v) ON p.v = s.v WHEN MATCHED AND p.v = 20 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 1;
SELECT rollup_parted(), differs('parted_15min', :'parts'), differs('parted_day', :'days');
TRUNCATE parted;
SELECT differs('parted_15min_live', :'parts'), rollup_parted(), differs('parted_15min', :'parts'), differs('parted_day', :'days');
SELECT rollup.drop('parted_15min');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz%';
-- inheritance, dates, lookups
CREATE TABLE daily (day date, v int);
CREATE TABLE daily_child () INHERITS (daily);
CREATE TABLE title (v int PRIMARY KEY, title text);
INSERT INTO title SELECT i, 't' || i % 2 FROM generate_series(0, 3) i;
\set dates 'SELECT day, title, count(*) AS n, sum(d.v) AS s FROM daily d JOIN title t ON t.v = d.v % 4 GROUP BY 1, 2'
SELECT rollup.create('of_dates', :'dates', every => NULL, joins => 'snapshot', on_change => 'recompute', coarser => '{"of_weeks": "7 days"}') IS NOT NULL AS made;
CREATE TABLE daily_late () INHERITS (daily);
INSERT INTO daily SELECT date '2026-01-01' + i % 40, i FROM generate_series(1, 100) i;
INSERT INTO daily_child SELECT date '2026-01-01' + i % 40, i FROM generate_series(1, 100) i;
INSERT INTO daily_late SELECT date '2026-01-01' + i % 40, i FROM generate_series(1, 100) i;
SELECT rollup_daily();
UPDATE daily SET day = day + 3 WHERE v % 10 = 0;
DELETE FROM daily_late WHERE v > 50;
TRUNCATE daily_child;
\set weeks 'SELECT date_trunc(''week'', day)::date AS day, title, count(*) AS n, sum(d.v) AS s FROM daily d JOIN title t ON t.v = d.v % 4 GROUP BY 1, 2'
SELECT differs('of_dates_live', :'dates'), differs('of_weeks_live', :'weeks');
SELECT rollup_daily(), differs('of_dates', :'dates'), differs('of_weeks', :'weeks');
SELECT rollup.drop('of_dates');
-- forbidden, but for expiry
SELECT rollup.create('strict', :'by_hour', every => NULL, on_change => 'error') IS NOT NULL AS made;
SELECT rollup.create('minutes', :'by_minute', every => NULL, on_change => 'recompute') IS NOT NULL AS made;
INSERT INTO event (site, at, ms, name) VALUES (1, now() - interval '9 days', 1, 'x'), (1, now(), 1, 'y');
\set VERBOSITY default
UPDATE event SET ms = 2;
\set VERBOSITY terse
DELETE FROM event;
TRUNCATE event;
SELECT rollup_event(), rollup.retain('event', '2 days');
SELECT expire_event(), (SELECT count(*) FROM event);
SELECT rollup.drop('strict');
UPDATE event SET ms = 2;
SELECT rollup_event() IS NOT NULL AS ran;
SELECT sum(n), sum(total) FROM minutes WHERE at > now() - interval '1 day';
SELECT rollup.drop('minutes');
-- changes of which it cannot be told what they touch
SELECT rollup.create('bad', 'SELECT at + interval ''1 hour'' AS t, count(*) FROM event GROUP BY 1', on_change => 'recompute');
SELECT rollup.create('bad', 'SELECT date_trunc(name, at) AS t, count(*) FROM event GROUP BY 1', on_change => 'recompute');
SELECT rollup.create('bad', 'SELECT date_trunc(''day'', at + ms * interval ''1 s'') AS t, count(*) FROM event GROUP BY 1', on_change => 'recompute');
CREATE TABLE made (at timestamptz, day date GENERATED ALWAYS AS ((at AT TIME ZONE 'UTC')::date) STORED);
SELECT rollup.create('bad', 'SELECT day, count(*) FROM made GROUP BY 1', on_change => 'recompute');
SELECT rollup.create('bad', :'by_hour', on_change => 'sometimes');
SELECT rollup.create('bad', :'by_hour', on_change => NULL);
SELECT rollup_internal.note_change();
SELECT count(*) FROM rollup.definition, rollup.change;
