\set VERBOSITY terse
-- levels without some of the keys: of the same groups in the same transaction
CREATE TABLE hit (at timestamptz NOT NULL, country text, page int, ms int, who text);
CREATE FUNCTION differs(relation text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('WITH q AS (SELECT query_row::text FROM (%2$s) query_row), k AS (SELECT kept_row::text FROM %1$s kept_row)
    SELECT count(*) FROM ((TABLE q EXCEPT ALL TABLE k) UNION ALL (TABLE k EXCEPT ALL TABLE q)) d', relation, query) INTO n;
  RETURN n;
END $$;
CREATE FUNCTION asks(unit text, keys text) RETURNS text LANGUAGE sql AS $$
  SELECT format('SELECT date_trunc(%L, at, ''UTC'') AS at, %s count(*) AS n, sum(ms) AS total, avg(ms) AS mean, stddev(ms) AS spread, rollup.last(ms, at) AS latest,
    hll_add_agg(hll_hash_text(who)) AS people, ddsketch_agg(ms) AS pct, jsonb_counter_agg(who) AS by_person FROM hit GROUP BY 1%s',
    unit, keys, (SELECT string_agg(', ' || n + 1, '') FROM generate_series(1, array_length(string_to_array(keys, ','), 1) - 1) n)) $$;
CREATE VIEW differing AS SELECT differs('hit_1h_live', asks('hour', 'country, page % 5 AS "Page",')) AS own, differs('hit_1h_site_live', asks('hour', '')) AS hours,
  differs('hit_1h_country_live', asks('hour', 'country,')) AS country_hours, differs('hit_1d_live', asks('day', 'country, page % 5 AS "Page",')) AS days,
  differs('hit_1d_country_live', asks('day', 'country,')) AS country_days, differs('hit_1d_site_live', asks('day', '')) AS site_days,
  differs('hit_1mon_page_live', asks('month', 'page % 5 AS "Page",')) AS page_months;
SELECT rollup.create('hit_1h', asks('hour', 'country, page % 5 AS "Page",'), every => NULL, coarser => '{"hit_1h_site": {"width": "1 hour", "keys": []},
  "hit_1d": "1 day", "hit_1d_country": {"width": "1 day", "keys": ["country", "at"]}, "hit_1mon_page": {"keys": ["Page"], "width": "1 month"}, "hit_1d_site": {"width": "24 hours", "keys": []},
  "hit_1h_country": {"width": "1 hour", "keys": ["country"]}, "hit_1w": {"width": "7 days", "keys": ["Page", "country"]}}') IS NOT NULL AS made;
SELECT name, width, keys FROM rollup.level ORDER BY width, cardinality(keys) DESC NULLS FIRST;
INSERT INTO hit SELECT timestamptz '2026-01-30' + i * interval '7 minutes', CASE WHEN i % 7 > 0 THEN 'c' || i % 4 END, nullif(i % 13, 4), i % 900, 'p' || i % 31 FROM generate_series(1, 1500) i;
TABLE differing;
SELECT rollup_hit();
TABLE differing;
SELECT * FROM rollup.check('hit_1h');
-- late rows, rows that are rolled back, keys that are new
INSERT INTO hit SELECT at - interval '90 minutes', country, page, ms + 1, who FROM hit WHERE ms % 50 = 0;
INSERT INTO hit VALUES ('2026-01-30 00:01', NULL, NULL, NULL, NULL), ('2026-03-01', 'new', 77, 5, 'somebody');
BEGIN; INSERT INTO hit VALUES ('2026-01-30 00:01', 'never', 1, 5, 'p1'); SELECT rollup_hit(); ROLLBACK;
TABLE differing;
SELECT rollup_hit();
TABLE differing;
-- each from the coarsest that has its keys
SELECT regexp_matches(rollup.explain('hit_1h'), 'delta_\d AS MATERIALIZED|FROM delta\w* (?:GROUP|WHERE)|INTO public.hit\w*', 'g');
\d hit_1d_country
\d hit_1h_site
SELECT obj_description('hit_1d_country'::regclass), obj_description('hit_1d_site_live'::regclass), col_description('hit_1mon_page'::regclass, 2);
-- what is stored otherwise is found, and put right
UPDATE hit_1d_site SET n = n + 1 WHERE at = '2026-02-01';
DELETE FROM hit_1h_country WHERE at = '2026-02-01 05:00Z' AND country IS NULL;
SELECT relation::text, keys, column_name, stored, recomputed FROM rollup.check('hit_1h') WHERE column_name = 'n' ORDER BY 1;
SELECT rollup.rebuild('hit_1h', '2026-02-01', '2026-02-02') > 0 AS rebuilt;
SELECT * FROM rollup.check('hit_1h');
TABLE differing;
-- a level that is added later, of the rollup's rows
SELECT rollup.add_level('hit_1h', 'hit_1y', '1 year', keys => '{country}'), differs('hit_1y_live', asks('year', 'country,'));
INSERT INTO hit SELECT at + interval '3 days', country, page, ms + 1, who FROM hit WHERE ms % 50 = 0;
SELECT differs('hit_1y_live', asks('year', 'country,')), rollup_hit(), differs('hit_1y_live', asks('year', 'country,'));
SELECT rollup.add_level('hit_1h', 'hit_1y', '1 year', if_not_exists => true, keys => '{country,at}'), rollup.add_level('hit_1h', 'hit_1y', '12 months', true, '{country}');
SELECT rollup.add_level('hit_1h', 'hit_1y', '1 year', if_not_exists => true);
SELECT rollup.add_level('hit_1h', NULL, '1 year'), rollup.add_level('hit_1h', 'hit_2y', NULL, keys => '{}'), to_regclass('hit_2y');
-- columns come and go; what is computed from a key is where the key is
SELECT rollup.add_column('hit_1h', 'most', 'max(ms)'), rollup.add_column('hit_1h', 'label', 'coalesce(country, ''?'') || '' '' || count(*)'), rollup.add_column('hit_1h', 'share', 'max(ms)::numeric / count(*)'), rollup.add_column('hit_1h', 'long', 'length(country) + count(*)');
SELECT relation::text, string_agg(attname, ' ' ORDER BY attnum) FROM rollup.level JOIN pg_attribute ON attrelid = live WHERE attnum > 0 GROUP BY 1 ORDER BY 1;
SELECT differs('(SELECT at, most, n, share FROM hit_1h_site_live)', 'SELECT date_trunc(''hour'', at, ''UTC''), max(ms), count(*), max(ms)::numeric / count(*) FROM hit GROUP BY 1'),
  differs('(SELECT at, country, label FROM hit_1d_country_live)', 'SELECT date_trunc(''day'', at, ''UTC''), country, coalesce(country, ''?'') || '' '' || count(*) FROM hit GROUP BY 1, 2'),
  differs('(SELECT at, country, long, most FROM hit_1d_country)', 'SELECT date_trunc(''day'', at, ''UTC''), country, length(country) + count(*), max(ms) FROM hit GROUP BY 1, 2');
INSERT INTO hit SELECT at, country, page, ms + 1000, who FROM hit WHERE ms % 50 = 0;
SELECT rollup_hit(), differs('(SELECT at, country, label FROM hit_1d_country_live)', 'SELECT date_trunc(''day'', at, ''UTC''), country, coalesce(country, ''?'') || '' '' || count(*) FROM hit GROUP BY 1, 2'),
  differs('(SELECT at, country, long, most FROM hit_1d_country)', 'SELECT date_trunc(''day'', at, ''UTC''), country, length(country) + count(*), max(ms) FROM hit GROUP BY 1, 2');
SELECT * FROM rollup.check('hit_1h');
SELECT rollup.drop_column('hit_1h', 'label'), rollup.drop_column('hit_1h', 'share'), rollup.drop_column('hit_1h', 'most'), rollup.drop_column('hit_1h', 'long');
TABLE differing;
-- names of the raw table are followed
ALTER TABLE hit RENAME COLUMN country TO land;
INSERT INTO hit VALUES ('2026-02-02', 'c1', 3, 5, 'p1');
SELECT rollup_hit(), (SELECT count(*) FROM rollup.check('hit_1h')), (SELECT sum(n) FROM hit_1d_country_live) = (SELECT count(*) FROM hit) AS all_there;
ALTER TABLE hit RENAME COLUMN land TO country;
-- those of the rollup are not
ALTER TABLE hit_1d_country RENAME COLUMN country TO land;
INSERT INTO hit VALUES ('2026-02-02', 'c1', 3, 5, 'p1');
SELECT rollup_hit();
ALTER TABLE hit_1d_country RENAME COLUMN land TO country;
SELECT rollup_hit();
-- series: of the coarsest level that has the keys, of others merged over the rest, with the ends cut
SELECT differs($$rollup.series(NULL::hit_1d_site_live, '2026-02-01 03:20', '2026-02-04 05:00', points => 3, fill => 'none')$$, asks('day', '') || $$ HAVING true$$) > 0 AS cut;
SELECT differs($$rollup.series(NULL::hit_1d_site_live, '2026-02-01 03:00', '2026-02-04 05:00', points => 3, fill => 'none')$$,
  replace(asks('day', ''), 'GROUP BY', $$WHERE at >= '2026-02-01 03:00' AND at < '2026-02-04 05:00' GROUP BY$$)) AS site,
 differs($$rollup.series(NULL::hit_1h_site_live, '2026-02-01 03:00', '2026-02-04 05:00', points => 50, fill => 'none')$$,
  replace(asks('hour', ''), 'GROUP BY', $$WHERE at >= '2026-02-01 03:00' AND at < '2026-02-04 05:00' GROUP BY$$)) AS hours,
 differs($$rollup.series(NULL::hit_1d_country_live, '2026-01-30 03:00', '2026-03-04 05:00', points => 1, fill => 'none')$$,
  replace(asks('week', 'country,'), 'GROUP BY', $$WHERE at >= '2026-01-30 03:00' AND at < '2026-03-04 05:00' GROUP BY$$)) AS weeks,
 differs($$rollup.series(NULL::hit_1mon_page_live, '2026-02-01 03:00', '2026-02-04 05:00', points => 60, fill => 'none')$$,
  replace(asks('hour', 'page % 5 AS "Page",'), 'GROUP BY', $$WHERE at >= '2026-02-01 03:00' AND at < '2026-02-04 05:00' GROUP BY$$)) AS of_the_rollup,
 differs($$rollup.series(NULL::hit_1mon_page_live, '2026-02-01 03:00', '2026-02-04 05:00', points => 3, fill => 'none')$$,
  replace(asks('day', 'page % 5 AS "Page",'), 'GROUP BY', $$WHERE at >= '2026-02-01 03:00' AND at < '2026-02-04 05:00' GROUP BY$$)) AS of_a_level,
 differs($$rollup.series(NULL::hit_1h_live, '2026-02-01 03:00', '2026-02-04 05:00', points => 3, fill => 'none')$$,
  replace(asks('day', 'country, page % 5 AS "Page",'), 'GROUP BY', $$WHERE at >= '2026-02-01 03:00' AND at < '2026-02-04 05:00' GROUP BY$$)) AS all_keys;
SELECT at, n FROM rollup.series(NULL::hit_1d_site_live, '2026-02-27', '2026-03-03', points => 4, fill => 'zero');
-- refusals, each with what may be done
\set VERBOSITY default
SELECT rollup.add_level('hit_1h', 'x', '1 day', keys => '{country,nobody}');
SELECT rollup.add_level('hit_1h', 'x', '1 day', keys => '{n}');
SELECT rollup.add_level('hit_1h', 'x', '24 hours', keys => '{country}');
SELECT rollup.add_level('hit_1h', 'x', '1 hour', keys => '{country,Page}');
SELECT rollup.add_level('hit_1h', 'x', '30 minutes', keys => '{}');
SELECT rollup.add_level('hit_1h', 'hit_1y', '1 day', keys => '{}');
SELECT rollup.create('x', 'SELECT date_trunc(''day'', at) AS at, page, count(*) AS n FROM hit GROUP BY 1, 2', coarser => '{"y": {"keys": []}}');
SELECT rollup.create('x', 'SELECT date_trunc(''day'', at) AS at, page, count(*) AS n FROM hit GROUP BY 1, 2', coarser => '{"y": {"width": "7 days", "key": []}}');
SELECT rollup.create('x', 'SELECT date_trunc(''day'', at) AS at, page, count(*) AS n FROM hit GROUP BY 1, 2', coarser => '{"y": {"width": "7 days", "keys": ["at", "pages"]}}');
SELECT rollup.create('x', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM hit GROUP BY 1', coarser => '{"y": {"width": "1 day", "keys": []}}');
SELECT rollup.create('x', 'SELECT date_trunc(''day'', at) AS at, page, count(*) AS n FROM hit GROUP BY 1, 2', coarser => '{"y": "7 days", "z": "168 hours"}');
SELECT rollup.create('x', 'SELECT date_trunc(''day'', at) AS at, page, count(*) AS n FROM hit GROUP BY 1, 2', coarser => '{"y": {"width": "7 days", "keys": []}}') IS NOT NULL AS as_told, rollup.drop('x');
\set VERBOSITY terse
-- twice: as it is, with other keys, without some
SELECT rollup.create('hit_1h', asks('hour', 'country, page % 5 AS "Page",'), every => NULL, if_not_exists => true, coarser => '{"hit_1h_site": {"width": "1 hour", "keys": ["at"]}, "hit_1y": "1 year"}') IS NOT NULL AS there;
SELECT rollup.create('hit_1h', asks('hour', 'country, page % 5 AS "Page",'), every => NULL, replace => true, coarser => '{"hit_1h_site": {"width": "1 hour", "keys": []}, "hit_1d": "1 day", "hit_1d_country": {"width": "1 day", "keys": ["Page"]}}') IS NOT NULL AS there;
SELECT name, width, keys FROM rollup.level ORDER BY width, cardinality(keys) DESC NULLS FIRST;
SELECT differs('hit_1d_country_live', asks('day', 'page % 5 AS "Page",')), (SELECT count(*) FROM rollup.check('hit_1h'));
GRANT SELECT ON hit_1d_country_live, hit_1d_country TO PUBLIC; GRANT SELECT ("Page") ON hit_1h_live TO PUBLIC;
SELECT rollup.create('hit_1h', asks('hour', 'country, page AS "Page",'), every => NULL, replace => true, coarser => '{"hit_1h_site": {"width": "1 hour", "keys": []}, "hit_1d": "1 day", "hit_1d_country": {"width": "1 day", "keys": ["country"]}}') IS NOT NULL AS there;
SELECT differs('hit_1d_country_live', asks('day', 'country,')), (SELECT count(*) FROM rollup.check('hit_1h')), has_table_privilege('pg_monitor', 'hit_1d_country_live', 'SELECT');
-- a level keeps what the rollup lets go, and expires by itself
SELECT rollup.retain('hit_1h', now() - '2026-02-03'), rollup.retain('hit_1h_site', '10 years'), rollup.retain('hit_1d_country', now() - '2026-02-02');
SELECT rollup.expire('hit_1h') > 0 AS gone, rollup.expire('hit_1d_country') > 0 AS gone_too;
SELECT (SELECT min(at) < '2026-02-01' FROM hit_1h_site) AS kept, (SELECT min(at) > '2026-02-01' FROM hit_1d_country) AS expired, (SELECT count(*) FROM rollup.check('hit_1h'));
SELECT sum(n) = (SELECT count(*) FROM hit WHERE at < '2026-02-10') AS all_there FROM rollup.series(NULL::hit_1h_site_live, '2026-01-01', '2026-02-10', points => 900, fill => 'none');
-- dropped, with and without what it has
SELECT rollup.drop_level('hit_1h', 'hit_1h_site', keep_data => true), rollup.drop_level('hit_1h', 'hit_1d_country');
SELECT to_regclass('hit_1h_site'), to_regclass('hit_1d_country'), to_regclass('hit_1h_site_live');
INSERT INTO hit VALUES (now(), 'c1', 1, 1, 'p1');
SELECT rollup_hit(), (SELECT count(*) FROM hit_1h_site WHERE at > now() - interval '1 day') AS not_kept;
SELECT rollup.drop('hit_1h');
DROP TABLE hit CASCADE;

-- changes of raw rows are followed; bounded counters; keys that cannot be NULL; a zone; a level of the rollup's own buckets
CREATE TABLE move (at timestamptz, site int NOT NULL, kind text NOT NULL, who text);
SELECT rollup.create('move_d', $$SELECT date_trunc('day', at) AS day, site, kind, count(*) AS n, jsonb_counter_bounded_agg(who, 1, 5) AS top, hll_add_agg(hll_hash_text(who)) AS people FROM move GROUP BY 1, 2, 3$$,
  every => NULL, on_change => 'recompute', timezone => 'Europe/Berlin', coarser => '{"move_d_kind": {"width": "1 day", "keys": ["kind"]}, "move_d_whole": {"width": "1 day", "keys": []}, "move_m_whole": {"width": "1 month", "keys": []}}') IS NOT NULL AS made;
CREATE VIEW moving AS SELECT count(*) FILTER (WHERE a IS DISTINCT FROM b) AS differ, count(*) AS compared FROM (
  SELECT * FROM (SELECT 1, day, kind, n, people FROM move_d_kind_live UNION ALL SELECT 2, day, NULL, n, people FROM move_d_whole_live UNION ALL SELECT 3, day, NULL, n, people FROM move_m_whole_live) a (l, day, kind, n, people)
  FULL JOIN (SELECT 1, date_trunc('day', at, 'Europe/Berlin'), kind, count(*), hll_add_agg(hll_hash_text(who)) FROM move GROUP BY 2, 3 UNION ALL SELECT 2, date_trunc('day', at, 'Europe/Berlin'), NULL, count(*), hll_add_agg(hll_hash_text(who)) FROM move GROUP BY 2
    UNION ALL SELECT 3, date_trunc('month', at, 'Europe/Berlin'), NULL, count(*), hll_add_agg(hll_hash_text(who)) FROM move GROUP BY 2) b (l, day, kind, n, people)
  ON (a.l, coalesce(a.day, 'infinity'), coalesce(a.kind, '')) = (b.l, coalesce(b.day, 'infinity'), coalesce(b.kind, '')) ) j (l1, d1, k1, n1, p1, l2, d2, k2, n2, p2), LATERAL (SELECT ROW (n1, p1)::text AS a, ROW (n2, p2)::text AS b) c;
INSERT INTO move SELECT nullif(timestamptz '2026-03-27' + i * interval '11 minutes', '2026-03-27 11:00Z'), i % 3, (ARRAY['in', 'out'])[1 + i % 2], 'p' || i % 23 FROM generate_series(1, 900) i;
TABLE moving;
SELECT rollup_move();
TABLE moving;
SELECT * FROM rollup.check('move_d');
UPDATE move SET kind = 'out' WHERE site = 1 AND kind = 'in' AND at < '2026-03-30';
UPDATE move SET at = at + interval '2 days' WHERE site = 2 AND who = 'p3';
DELETE FROM move WHERE who = 'p4'; UPDATE move SET site = 9 WHERE at IS NULL;
TABLE moving;
SELECT rollup_move();
TABLE moving;
SELECT * FROM rollup.check('move_d');
\d move_d_whole
DROP VIEW moving;
SELECT rollup.drop('move_d');
SELECT count(*) AS left_behind FROM pg_class WHERE relname ~ '^(hit|move)_' AND relkind IN ('r', 'v');
