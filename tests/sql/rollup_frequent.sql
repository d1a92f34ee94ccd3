-- Bounded counters in a rollup: the busiest keys with an error that is known, whatever was merged in whatever order.
\set VERBOSITY terse
-- by themselves: of more keys than max_keys the largest number that has to go is taken from all
SELECT jsonb_counter_bounded_agg(k, n, 2) FROM (VALUES ('a', 5), ('b', 3), ('c', 2), (NULL, 9)) v(k, n);
SELECT jsonb_counter_bounded_agg(k, n, 3), jsonb_counter_bounded_agg(k, n, 0), jsonb_counter_bounded_agg(k, n, NULL) FROM (VALUES ('a', 5), ('b', 3), ('c', 2)) v(k, n);
SELECT jsonb_counter_bounded_agg(k, n, 1) IS NULL AS nothing FROM (VALUES (NULL, 1)) v(k, n);
-- both limits: what a key has at least, and at most
SELECT t.* FROM (SELECT jsonb_counter_bounded_agg(k, n, 2) FROM (VALUES ('a', 5), ('b', 3), ('c', 2)) v(k, n)) s(c), jsonb_counter_top(c, 5) t;
SELECT t.*, jsonb_counter_total(c) FROM (VALUES ('{"a": 5, "b": 2, "*": 7}'::jsonb), ('{"a": 5, "*": [7, 2]}'), ('{"a": 5, "*": [7, 2, 3]}'), ('{"a": 5}'), ('{"a": 5, "*": -1}'), ('{"a": 5, "*": {"x": 2}}'), ('{"a": 1.5, "*": [0.7, 1]}')) v(c), jsonb_counter_top(c, 5) t;
-- decimals, doubles, numbers beyond 64 bits
SELECT jsonb_counter_bounded_agg(k, n, 1), jsonb_counter_bounded_agg(k, n::float8, 1), jsonb_counter_bounded_agg(k, n * 1e20, 1) FROM (VALUES ('a', 5.25), ('b', 3.5), ('a', 0.25)) v(k, n);
SELECT t.* FROM (SELECT jsonb_counter_bounded_agg(k, n * 1e20 + 0.5, 1) FROM (VALUES ('a', 5.25), ('b', 3.5), ('a', 0.25)) v(k, n)) s(c), jsonb_counter_top(c, 5) t;
-- k = 1, ten of a, and a hundred times nine of x: kept whole, a would have been the largest each time
SELECT c, t.key, t.n <= 900 AND 900 <= t.at_most AS within FROM (SELECT jsonb_counter_merge_agg(c) FROM (SELECT jsonb_counter_bounded_agg('a', 10, 1) UNION ALL SELECT jsonb_counter_bounded_agg('x', 9, 1) FROM generate_series(1, 100) g GROUP BY g) s(c)) m(c), jsonb_counter_top(c, 1) t;
DO $$
DECLARE c jsonb := '{"a": 10, "*": [0, 1]}';
BEGIN
  FOR i IN 1..100 LOOP c := c + '{"x": 9, "*": [0, 1]}'; END LOOP;
  RAISE NOTICE '%, % at most', c, (SELECT at_most FROM jsonb_counter_top(c, 1));
END $$;
-- of two bounds the smaller one; a key that is called *; a counter of unknown making: of what that has under * one key may have had all
SELECT '{"a": 5, "b": 4, "*": [3, 3]}'::jsonb + '{"a": 1, "c": 2, "*": [1, 1]}', '{"a": 5, "b": 4, "*": [3, 3]}'::jsonb + NULL;
SELECT jsonb_counter_bounded_agg(k, 1, 1), jsonb_counter_total(jsonb_counter_bounded_agg(k, 1, 1)) FROM (VALUES ('a'), ('*'), ('a'), ('*'), ('b')) v(k);
SELECT s, t.* FROM (SELECT '{"a": 5, "*": [3, 1]}'::jsonb + '{"a": 1, "b": 1, "*": 4}') v(s), jsonb_counter_top(s, 5) t;
SELECT jsonb_counter_merge_agg(c), jsonb_counter_merge_agg(c, 2) FROM (VALUES ('{"a": 5, "*": [3, 2]}'::jsonb), ('{"b": 1}'), ('{"c": 2, "*": 1}'), ('{"d": 2, "*": [1, 2, 5]}')) v(c);
-- cut by hand: of the keys that went nothing is known any more
SELECT jsonb_counter_limit('{"a": 5, "b": 4, "c": 1, "*": [3, 3]}', 1), jsonb_counter_limit('{"a": 5, "*": [3, 3]}', NULL), jsonb_counter_limit('{"a": 5, "*": [3, 3]}', 9);
-- what is no bounded counter
SELECT jsonb_counter_total(c::jsonb) FROM (VALUES ('{"*": [1]}')) v(c);
SELECT jsonb_counter_total('{"*": [1, "2"]}');
SELECT jsonb_counter_total('{"*": [-1, 2]}');
SELECT jsonb_counter_total('{"*": [1, 2.5]}');
SELECT jsonb_counter_total('{"*": [1, 2, -3]}');
SELECT jsonb_counter_total('{"*": [1, 2, 3, 4]}');
SELECT jsonb_counter_total('{"a": [1, 2]}'), 1;
SELECT '{"a": [1, 2]}'::jsonb + '{"b": 1}';
SELECT '{"a": {"b": 1}, "*": [1, 2]}'::jsonb + '{"b": 1}';
SELECT '{"a": {"*": [1, 2]}}'::jsonb + '{"b": 1}';
SELECT jsonb_counter_merge_agg(c, 3) FROM (VALUES ('{"a": [1, 2]}'::jsonb)) v(c);
-- with max_keys numbers are from 0 on
SELECT jsonb_counter_bounded_agg('a', -1, 5);
SELECT jsonb_counter_agg('a', -0.5, 5);
SELECT jsonb_counter_merge_agg('{"a": -1}', 5);
SELECT jsonb_counter_agg('a', -1, NULL), jsonb_counter_bounded_agg('a', 0, 5);
-- far more keys than a state holds: the bound holds, none that is heavy is missing
CREATE TABLE flood AS SELECT i, CASE WHEN i % 3 = 0 THEN 'heavy' || i % 30 ELSE 'once' || i END AS k, 1 + i % 4 AS n FROM generate_series(1, 100000) i;
CREATE FUNCTION judge(c jsonb) RETURNS TABLE (few boolean, total boolean, heavy bigint, within boolean) LANGUAGE sql AS $$
  SELECT count(*) <= 20, jsonb_counter_total(c) = (SELECT sum(n) FROM flood), count(*) FILTER (WHERE t.key LIKE 'heavy%'), bool_and(s.n BETWEEN t.n AND t.at_most)
  FROM jsonb_counter_top(c, NULL) t JOIN (SELECT k, sum(n) AS n FROM flood GROUP BY 1) s ON s.k = t.key $$;
SELECT j.* FROM (SELECT jsonb_counter_bounded_agg(k, n, 20) FROM flood) s(c), judge(c) j;
SELECT j.* FROM (SELECT jsonb_counter_bounded_agg(k, n / 8.0, 20) FROM flood) s(c), LATERAL (SELECT bool_and(s.n BETWEEN t.n AND t.at_most) AS within, count(*) <= 20 AS few FROM jsonb_counter_top(c, NULL) t JOIN (SELECT k, sum(n / 8.0) AS n FROM flood GROUP BY 1) s ON s.k = t.key) j;
SELECT j.* FROM (SELECT jsonb_counter_merge_agg(c) FROM (SELECT jsonb_counter_bounded_agg(k, n, 20) AS c FROM flood GROUP BY i / 1000) g) s(c), judge(c) j;
SELECT j.* FROM (SELECT jsonb_counter_merge_agg(c) FROM (SELECT jsonb_counter_merge_agg(c) AS c FROM (SELECT i / 500 AS g, jsonb_counter_bounded_agg(k, n, 20) AS c FROM flood GROUP BY 1) a GROUP BY g % 7) b) s(c), judge(c) j;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT j.* FROM (SELECT jsonb_counter_bounded_agg(k, n, 20) FROM flood) s(c), judge(c) j;
CREATE TABLE part AS SELECT jsonb_counter_bounded_agg(k, n, 20) AS c FROM flood GROUP BY i / 500;
ALTER TABLE part SET (parallel_workers = 2);
SELECT j.* FROM (SELECT jsonb_counter_merge_agg(c) FROM part) s(c), judge(c) j;
-- the state with a bounded counter in it, as it is sent
CREATE AGGREGATE merge_state(jsonb) (SFUNC = jsonb_counter_merge_agg_trans, STYPE = jsonb_counter_state);
SELECT merge_state(c) FROM (VALUES ('{"a": 5, "*": [3, 2]}'::jsonb), ('{"a": 1, "*": [1.5, 2, 7]}')) v(c);
SELECT jsonb_counter_final('\x020201240010010161000c'), jsonb_counter_final('\x02020002000000');
SELECT '\x0202'::jsonb_counter_state;
SELECT '\x02020103'::jsonb_counter_state;
DROP AGGREGATE merge_state(jsonb);
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
-- in a rollup
CREATE TABLE visit (at timestamptz NOT NULL, site int, url text, bytes bigint);
SELECT rollup.create('visit_1min', $$
  SELECT site, date_trunc('minute', at) AS at, count(*) AS visits,
         jsonb_counter_agg(url, 1, 20)                          AS urls,
         jsonb_counter_agg(url, bytes, 5) FILTER (WHERE site > 0) AS traffic,
         jsonb_counter_total(jsonb_counter_agg(url, 1, 20))     AS total
  FROM visit GROUP BY 1, 2 $$, every => NULL, coarser => '{"visit_1hour": "1 hour"}', on_change => 'recompute');
SELECT a.attname, format_type(a.atttypid, NULL), a.attgenerated FROM pg_attribute a WHERE a.attrelid = 'visit_1min'::regclass AND a.attnum > 0 ORDER BY a.attnum;
CREATE FUNCTION put(first int, last int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO visit SELECT timestamptz '2026-01-01' + i * interval '1 s', i % 2, CASE WHEN i % 3 = 0 THEN '/' || i % 12 ELSE '/page/' || i * 7919 % 10007 END, i % 100 FROM generate_series(first, last) i $$;
-- keys of a relation that break a promise: beyond its limits, or heavy and missing, or too many; and totals that are wrong
CREATE FUNCTION broken(relation regclass, unit text) RETURNS TABLE (limits bigint, missing bigint, crowded bigint, totals bigint) LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format('WITH raw AS (SELECT site, date_trunc(%1$L, at) AS at, url, count(*) AS n FROM visit GROUP BY 1, 2, 3), kept AS (TABLE %2$s),
      pairs AS (SELECT k.total, r.n AS truth, t.n, t.at_most FROM raw r JOIN kept k USING (site, at) LEFT JOIN LATERAL jsonb_counter_top(k.urls, NULL) t ON t.key = r.url)
    SELECT (SELECT count(*) FROM pairs WHERE NOT truth BETWEEN n AND at_most), (SELECT count(*) FROM pairs WHERE truth > total / 21 AND n IS NULL),
           (SELECT count(*) FROM kept k WHERE (SELECT count(*) FROM jsonb_counter_top(k.urls, NULL)) > 20 OR (SELECT count(*) FROM jsonb_counter_top(k.traffic, NULL)) > 5),
           (SELECT count(*) FROM kept k WHERE k.total <> k.visits OR jsonb_counter_total(k.urls) <> k.visits)', unit, relation);
END $$;
SELECT put(1, 4000);
SELECT b.* FROM broken('visit_1min_live', 'minute') b UNION ALL SELECT b.* FROM broken('visit_1hour_live', 'hour') b;
SELECT rollup.run('visit');
-- late rows in many runs, and again what the live views say of them before
SELECT put(1, 500);
SELECT rollup.run('visit');
SELECT put(300, 301), rollup.run('visit'), put(2001, 3000), rollup.run('visit');
SELECT put(3500, 5000);
SELECT b.* FROM broken('visit_1min_live', 'minute') b UNION ALL SELECT b.* FROM broken('visit_1hour_live', 'hour') b;
SELECT rollup.run('visit');
SELECT b.* FROM broken('visit_1min', 'minute') b UNION ALL SELECT b.* FROM broken('visit_1hour', 'hour') b;
SELECT count(*) FROM visit_1hour h WHERE h.urls <> (SELECT jsonb_counter_bounded_agg(url, 1, 20) FROM visit v WHERE v.site = h.site AND date_trunc('hour', v.at) = h.at);
-- the raw rows give other numbers in one go; they agree within the error
SELECT count(*) FROM rollup.check('visit_1min');
SELECT rollup_internal.counters_agree('{"a": 5, "*": [6, 1]}', '{"a": 8, "b": 1, "*": [2, 1]}') AS within, rollup_internal.counters_agree('{"a": 5, "*": [6, 1]}', '{"a": 9, "b": 1, "*": [1, 1]}') AS too_far,
       rollup_internal.counters_agree('{"a": 5, "*": [6, 1]}', '{"a": 8, "b": 1, "*": [3, 1]}') AS total, rollup_internal.counters_agree('{"a": 5, "*": [6, 1]}', '{"a": 5, "*": [6, 2]}') AS bound,
       rollup_internal.counters_agree('{"a": 5}', '{"a": 5}') AS same, rollup_internal.counters_agree('{"a": 5}', '{"a": 6}') AS other, rollup_internal.counters_agree(NULL, '{}') IS NULL AS nothing;
-- changes are computed again
UPDATE visit SET url = '/moved' WHERE site = 1 AND bytes < 20;
DELETE FROM visit WHERE bytes = 50;
SELECT b.* FROM broken('visit_1min_live', 'minute') b UNION ALL SELECT b.* FROM broken('visit_1hour_live', 'hour') b;
SELECT rollup.run('visit');
SELECT b.* FROM broken('visit_1min', 'minute') b UNION ALL SELECT b.* FROM broken('visit_1hour', 'hour') b;
SELECT count(*) FROM rollup.check('visit_1min');
-- what was changed by hand beyond the error is found, and made anew
UPDATE visit_1min SET urls = urls + '{"/0": 30}' WHERE site = 0 AND at = '2026-01-01 00:10:00+00';
SELECT column_name, stored IS NOT NULL AS stored, recomputed IS NOT NULL AS recomputed FROM rollup.check('visit_1min');
SELECT rollup.rebuild('visit_1min') > 0 AS rebuilt;
SELECT count(*) FROM rollup.check('visit_1min');
-- a level and a column more; the busiest of a day with their limits
SELECT rollup.add_level('visit_1min', 'visit_1day', '1 day');
SELECT rollup.add_column('visit_1min', 'pages', $$ jsonb_counter_agg(split_part(url, '/', 2), 1, 3) $$);
SELECT b.* FROM broken('visit_1day', 'day') b;
SELECT d.site, t.key, t.n <= v.n AND v.n <= t.at_most AS within FROM visit_1day d, jsonb_counter_top(d.urls, 3) t, LATERAL (SELECT count(*) AS n FROM visit WHERE url = t.key AND site = d.site) v ORDER BY 1, t.n DESC, 2;
SELECT count(*) FROM rollup.check('visit_1min');
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT rollup.create('bad', $$ SELECT date_trunc('hour', at) AS at, jsonb_counter_merge_agg(jsonb_build_object(url, 1), 5) FROM visit GROUP BY 1 $$);
