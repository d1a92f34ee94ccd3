\set VERBOSITY terse
-- sources of every kind, each against its query
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
-- lookup tables are joined as they are when a row is counted
CREATE TABLE event (at timestamptz NOT NULL, site int, ms int);
CREATE TABLE site (site int PRIMARY KEY, name text, zone int);
CREATE TABLE zone (id int PRIMARY KEY, title text NOT NULL);
INSERT INTO site VALUES (1, 'one', 1), (2, 'two', 1), (3, 'three', NULL);
INSERT INTO zone VALUES (1, 'west');
\set joined 'SELECT date_trunc(''hour'', e.at) AS at, s.name, title, count(*) AS n, sum(ms * zone) AS weighted, avg(e.ms) AS mean FROM event e JOIN site s USING (site) LEFT JOIN zone z ON z.id = s.zone WHERE e.ms > 0 AND s.name <> ''none'' GROUP BY 1, 2, 3'
SELECT rollup.create('joined', :'joined', every => NULL, joins => 'snapshot', coarser => '{"joined_day": "1 day"}') IS NOT NULL AS made;
INSERT INTO event SELECT timestamptz '2026-01-01' + i * interval '1 minute', i % 5, i % 100 FROM generate_series(1, 500) i;
SELECT differs('joined_live', :'joined');
SELECT rollup_event();
SELECT differs('joined_live', :'joined'), (SELECT sum(n) FROM joined) = (SELECT sum(n) FROM joined_day) AS levels_agree;
UPDATE site SET name = 'new' WHERE site = 1;
INSERT INTO event VALUES ('2026-01-01 00:10', 1, 5);
SELECT rollup_event();
SELECT name, sum(n) FROM joined_live WHERE name IN ('one', 'new') GROUP BY 1 ORDER BY 1;
-- under whatever names the tables have come to have
ALTER TABLE site RENAME TO "rollup_table $1 place";
CREATE SCHEMA lookup;
ALTER TABLE zone SET SCHEMA lookup;
ALTER TABLE event RENAME TO happened;
INSERT INTO happened VALUES ('2026-01-01 00:11', 2, 7), ('2026-01-01 00:12', 3, 9);
SELECT rollup.run('happened');
SELECT rollup.rebuild('joined');
SELECT differs('joined_live', replace(replace(replace(:'joined', 'JOIN site', 'JOIN "rollup_table $1 place"'), 'JOIN zone', 'JOIN lookup.zone'), 'FROM event', 'FROM happened'));
SELECT rollup.add_column('joined', 'most', 'max(e.ms)');
SELECT name, sum(n), max(most) FROM joined_live GROUP BY 1 ORDER BY 1;
SELECT count(*) AS differences FROM rollup.check('joined');
SELECT substring(rollup.explain('joined') FROM 'FROM (.*?) WHERE') AS tables;
ALTER TABLE happened RENAME TO event;
SELECT rollup.drop('joined');
-- partitions, also one that comes later, and rows written to a leaf
CREATE TABLE parted (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
\set parts 'SELECT date_bin(''15 minutes'', at, ''2000-01-01 00:00Z''::timestamptz) AS at, count(*) AS n, sum(v) AS s FROM parted GROUP BY 1'
SELECT rollup.create('parted_15min', :'parts', every => NULL, coarser => '{"parted_day": "1 day", "parted_hour": "1 hour"}') IS NOT NULL AS made;
INSERT INTO parted SELECT timestamptz '2026-01-01' + i * interval '5 minutes', i FROM generate_series(1, 200) i;
INSERT INTO parted_1 VALUES ('2026-01-01 12:00', 5);
SELECT rollup_parted();
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
INSERT INTO parted_2 VALUES ('2026-01-02 12:00', 7);
INSERT INTO parted VALUES ('2026-01-01 12:01', 9);
SELECT differs('parted_15min_live', :'parts'), rollup_parted(), differs('parted_15min', :'parts');
-- quoted names, a schema, domains, enums, generated and array columns, a collation of its own
CREATE SCHEMA "Odd ""schema";
CREATE DOMAIN "Odd ""schema".percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN moment AS timestamp;
CREATE TYPE "Odd ""schema"."Mood" AS ENUM ('low', 'High $1');
CREATE COLLATION "Odd ""schema"."C too" (provider = libc, locale = 'C');
CREATE TABLE "Odd ""schema"."Event's $1" ("At" moment NOT NULL, "mood of $1" "Odd ""schema"."Mood", share "Odd ""schema".percent, tags text[], tag text COLLATE "Odd ""schema"."C too",
  twice int GENERATED ALWAYS AS (share * 2) STORED, code varchar(7), ratio numeric(6, 2));
\set odd 'SELECT date_trunc(''day'', "At") AS "Day $1", "mood of $1", tags, tag, code, count(*) FILTER (WHERE tag <> ''$1''''"\\'') AS "n $1", max(share) AS share, sum(twice) AS "twice""d", min(ratio) AS ratio, max("mood of $1") AS mood, avg(share) AS "mean $2" FROM "Odd ""schema"."Event''s $1" AS "The ""event" GROUP BY 1, 2, 3, 4, 5'
SELECT rollup.create('"Event $1 day"', :'odd', every => NULL, coarser => '{"\"Event $1 month\"": "1 month"}') IS NOT NULL AS made;
INSERT INTO "Odd ""schema"."Event's $1" ("At", "mood of $1", share, tags, tag, code, ratio) SELECT timestamp '2026-01-30' + i * interval '3 hours', (ARRAY['low', 'High $1'])[1 + i % 2]::"Odd ""schema"."Mood", i % 100,
  ARRAY['t', (i % 3)::text], 'tag', 'c' || i % 2, i / 3.0 FROM generate_series(1, 60) i;
SELECT differs('"Odd ""schema"."Event $1 day_live"', :'odd');
SELECT "Odd ""schema"."rollup_Event's $1"();
SELECT differs('"Odd ""schema"."Event $1 day_live"', :'odd');
SELECT "Day $1", "mood of $1", tags, code, "n $1", share, "twice""d", ratio, mood, "mean $2" FROM "Odd ""schema"."Event $1 month" ORDER BY 1, 2, 3, 4 LIMIT 3;
SELECT column_name, data_type, domain_name, collation_name, numeric_precision, character_maximum_length FROM information_schema.columns WHERE table_name = 'Event $1 day' ORDER BY ordinal_position;
SELECT name FROM rollup.definition;
-- time zones: everyone sees the buckets of the rollup's
CREATE TABLE tick (at timestamptz NOT NULL, v int);
SET timezone = 'Europe/Berlin';
SELECT rollup.create('tick_day', 'SELECT date_trunc(''day'', at) AS at, extract(hour FROM at) AS hour, count(*) AS n FROM tick GROUP BY 1, 2', every => NULL, timezone => 'Europe/Berlin', coarser => '{"tick_month": "1 month", "tick_week": "7 days"}') IS NOT NULL AS made;
INSERT INTO tick SELECT timestamptz '2026-03-28 00:00+01' + i * interval '20 minutes', i FROM generate_series(1, 300) i;
SET timezone = 'Asia/Kolkata';
\set berlin 'SELECT date_trunc(''day'', at, ''Europe/Berlin'') AS at, extract(hour FROM at AT TIME ZONE ''Europe/Berlin'') AS hour, count(*) AS n FROM tick GROUP BY 1, 2'
SELECT differs('tick_day_live', :'berlin'), rollup_tick(), differs('tick_day_live', :'berlin');
SET timezone = 'UTC';
SELECT differs('tick_day', :'berlin'), differs('tick_day_live', :'berlin');
SELECT differs('tick_month_live', replace(:'berlin', '''day''', '''month''')), differs('tick_week_live', replace(:'berlin', '''day''', '''week'''));
SELECT at AT TIME ZONE 'Europe/Berlin' AS local, sum(n) FROM tick_month GROUP BY 1 ORDER BY 1;
-- a day of the session is a day of the rollup
SELECT rollup.create('tick_date', 'SELECT at::date AS day, count(*) AS n FROM tick GROUP BY 1', every => NULL, timezone => 'Asia/Kolkata', coarser => '{"tick_quarter": "3 months", "tick_years": "24 months"}') IS NOT NULL AS made;
SELECT rollup_tick();
SELECT differs('tick_date_live', 'SELECT (at AT TIME ZONE ''Asia/Kolkata'')::date AS day, count(*) AS n FROM tick GROUP BY 1'), (SELECT array_agg(day ORDER BY day) FROM tick_quarter), (SELECT array_agg(day) FROM tick_years);
-- buckets of fixed length in UTC: what is run is date_bin, which is equal to date_trunc
SET timezone = 'UTC';
SELECT setseed(0.5);
CREATE TEMP TABLE moment_of AS SELECT timestamptz '4714-12-01 00:00:00+00 BC' + random() * interval '200000 years' AS t FROM generate_series(1, 100000)
  UNION ALL SELECT timestamptz '1970-01-01 00:00:00+00' + i * interval '10 minutes' - (i % 3) * interval '1 microsecond' FROM generate_series(-200000, 200000) i
  UNION ALL SELECT unnest(ARRAY['infinity', '-infinity', '0001-01-01 00:00:00+00', '0001-12-31 23:59:59.999999+00 BC', NULL]::timestamptz[]);
SELECT unit, count(*) AS compared, count(*) FILTER (WHERE date_trunc(unit, t) IS DISTINCT FROM date_bin(length::interval, t, '0001-01-01 00:00:00+00')) AS differ
  FROM moment_of, (VALUES ('milliseconds', '1 millisecond'), ('second', '1 second'), ('minute', '1 minute'), ('hour', '1 hour'), ('day', '1 day'), ('week', '7 days')) u (unit, length) GROUP BY unit, length ORDER BY length::interval;
SELECT rollup.create('utc_' || lower(unit), format('SELECT date_trunc(%L, at) AS at, count(*) AS n FROM tick GROUP BY 1', unit), every => NULL) IS NOT NULL AS made,
  substring(rollup.explain('utc_' || lower(unit)) from 'date_\w+[^)]*\)') AS run
  FROM unnest(ARRAY['milliseconds', 'second', 'MINUTE', 'hour', 'day', 'week', 'month']) unit;
-- an expression over keys and aggregates in the rollup's time zone
SELECT rollup.create('tick_odd', 'SELECT date_trunc(''day'', at) AS at, v, v * count(*) AS product, extract(hour FROM max(at)) AS last_hour, count(*) FILTER (WHERE extract(hour FROM at) < 6) AS night FROM tick WHERE date_trunc(''day'', at) > ''2026-03-28'' GROUP BY 1, 2', every => NULL, timezone => 'Europe/Berlin') IS NOT NULL AS made;
SELECT rollup_tick();
SET timezone = 'Europe/Berlin';
SELECT differs('(SELECT at, v, product, last_hour, night FROM tick_odd)', r), differs('tick_odd_live', r) FROM (VALUES ('SELECT date_trunc(''day'', at) AS at, v, v * count(*) AS product, extract(hour FROM max(at)) AS last_hour, count(*) FILTER (WHERE extract(hour FROM at) < 6) AS night FROM tick WHERE date_trunc(''day'', at) > ''2026-03-28'' GROUP BY 1, 2')) r (r);
