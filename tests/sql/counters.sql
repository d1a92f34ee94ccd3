\set VERBOSITY terse
SET client_min_messages = notice;
-- The executor's own road; tests/batch.rs has the other.
SET rollup.batch = off;

-- counting rows: NULL keys are skipped, keys come in jsonb's order (length, then bytes)
SELECT jsonb_counter_agg(k) FROM (VALUES ('de'), ('fr'), (NULL), ('de'), ('austria'), ('')) v(k);
SELECT jsonb_counter_agg(k) IS NULL AS no_rows FROM (SELECT 'a'::text WHERE false) v(k);
SELECT jsonb_counter_agg(k) IS NULL AS only_nulls FROM (VALUES (NULL::text), (NULL)) v(k);

-- summing: a NULL number counts nothing, and makes no key; zero makes one
SELECT jsonb_counter_agg(k, n) FROM (VALUES ('a', 1), ('b', NULL), ('a', 41), (NULL, 7), ('z', 0), ('m', -3)) v(k, n);
SELECT jsonb_counter_agg(k, n) IS NULL AS nothing FROM (VALUES ('a', NULL::bigint), (NULL, 1)) v(k, n);
SELECT jsonb_counter_agg(k, 9223372036854775807) FROM (VALUES ('a'), ('a'), ('a'), ('b')) v(k);
SELECT jsonb_counter_agg(k, (-9223372036854775808)::bigint) FROM (VALUES ('a'), ('a'), ('a'), ('b')) v(k);
SELECT jsonb_counter_agg(k) FILTER (WHERE k <> 'b'), jsonb_counter_agg(DISTINCT k) FROM (VALUES ('a'), ('b'), ('a')) v(k);
SELECT i, jsonb_counter_agg((i % 2)::text) OVER (ORDER BY i) FROM generate_series(1, 4) i;

-- odd keys
SELECT jsonb_counter_agg(k) FROM (VALUES ('a b'), ('"'), ('\'), (E'\n'), ('{"a": 1}'), (' '), ('null')) v(k);
SELECT sum(length(k)), count(*), bool_and(v = '2') FROM jsonb_each((SELECT jsonb_counter_agg(repeat('k', i)) FROM generate_series(0, 40) i, generate_series(1, 2) j)) AS e(k, v);
SELECT length(k), v FROM jsonb_each((SELECT jsonb_counter_agg(repeat('x', 1000000)) FROM generate_series(1, 3))) AS e(k, v);

-- merge
SELECT jsonb_counter_merge('{"a": 1, "b": 2}', '{"b": 40, "c": -1}');
SELECT jsonb_counter_merge('{}', '{}'), jsonb_counter_merge('{"a": 0}', '{}');
SELECT jsonb_counter_merge(NULL, '{"a": 1}'), jsonb_counter_merge('{"a": 1}', NULL), jsonb_counter_merge(NULL, NULL) IS NULL AS both;
SELECT jsonb_counter_merge('{"a": 1.50, "b": 1e3, "c": 0.1, "d": 2.0, "e": -0.5}', '{"a": 2.5, "b": 1, "c": 0.2, "d": 3, "e": 0.5}');
SELECT jsonb_counter_merge('{"a": 9223372036854775807}', '{"a": 1}');
SELECT jsonb_counter_merge('{"a": -9223372036854775808}', '{"a": -1}');
SELECT jsonb_counter_merge('{"a": 170141183460469231731687303715884105727}', '{"a": 1}');
SELECT jsonb_counter_merge('{"a": 999999999999999999999999999999999999}', '{"a": 1}');
SELECT jsonb_counter_merge('{"a": 1e30}', '{"a": -1e30}'), jsonb_counter_merge('{"a": 10000}', '{"a": 100000000}');
SELECT jsonb_counter_merge('{"a": {"x": 1, "y": {"z": 1}}, "n": 1}', '{"a": {"x": 2, "y": {"z": 0.5, "w": 3}}, "b": {}}');

-- i128 itself overflows into numeric inside an aggregate: 200 times almost 10^36
SELECT jsonb_counter_merge_agg('{"a": 999999999999999999999999999999999999}') FROM generate_series(1, 200);
SELECT 200 * 999999999999999999999999999999999999::numeric AS expected;

-- the reading of whole numbers, at every length, against numeric's own text
SELECT count(*), bool_and(jsonb_counter_merge(jsonb_build_object('k', v), NULL) = jsonb_build_object('k', v)) AS same,
       bool_and(jsonb_counter_merge(jsonb_build_object('k', v), jsonb_build_object('k', w))->>'k' = (v + w)::text) AS sums
FROM (SELECT s * (10::numeric ^ e)::numeric(50, 0) + d AS v, (10::numeric ^ f)::numeric(50, 0) + d AS w
      FROM generate_series(0, 40) e, generate_series(0, 40, 3) f, (VALUES (1), (-1), (7)) s(s), (VALUES (0), (1), (-1), (0.25)) d(d)) x;

-- merge_agg
SELECT jsonb_counter_merge_agg(c) FROM (VALUES ('{"a": 1}'::jsonb), (NULL), ('{"a": 2, "b": {"c": 1}}'), ('{"b": {"c": 0.5}}')) v(c);
SELECT jsonb_counter_merge_agg(c) IS NULL AS nothing FROM (VALUES (NULL::jsonb)) v(c);
SELECT jsonb_counter_merge_agg(c) FROM (VALUES ('{}'::jsonb)) v(c);

-- laws, and an oracle in SQL
CREATE TEMP TABLE c AS
    SELECT i, (SELECT jsonb_object_agg('k' || (i * j % 17), CASE WHEN (i + j) % 3 = 0 THEN (i * j)::numeric / 8 ELSE (i * 1000003 - j * 77777)::numeric END)
               FROM generate_series(1, i % 11) j) AS c
    FROM generate_series(1, 40) i;
CREATE FUNCTION pg_temp.oracle(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN a IS NULL AND b IS NULL THEN NULL ELSE coalesce((SELECT jsonb_object_agg(key, n) FROM
        (SELECT key, sum(value::numeric) AS n FROM (SELECT * FROM jsonb_each(a) UNION ALL SELECT * FROM jsonb_each(b)) e GROUP BY key) s), '{}') END
$$;
SELECT count(*),
       bool_and(jsonb_counter_merge(a.c, b.c) IS NOT DISTINCT FROM pg_temp.oracle(a.c, b.c)) AS oracle,
       bool_and(jsonb_counter_merge(a.c, b.c)::text IS NOT DISTINCT FROM jsonb_counter_merge(b.c, a.c)::text) AS commutative,
       bool_and(jsonb_counter_merge(a.c, NULL) IS NOT DISTINCT FROM a.c AND coalesce(jsonb_counter_merge(a.c, '{}'), '{}') = coalesce(a.c, '{}')) AS neutral
FROM c a, c b;
SELECT count(*), bool_and(jsonb_counter_merge(jsonb_counter_merge(a.c, b.c), d.c)::text IS NOT DISTINCT FROM jsonb_counter_merge(a.c, jsonb_counter_merge(b.c, d.c))::text) AS associative
FROM c a, c b, c d WHERE a.i <= 12 AND b.i <= 12 AND d.i <= 12;
SELECT jsonb_counter_merge_agg(c) = (SELECT jsonb_object_agg(key, n) FROM (SELECT key, sum(value::numeric) n FROM c, jsonb_each(c) GROUP BY key) s) AS oracle FROM c;
SELECT (SELECT jsonb_counter_agg(k) FROM (VALUES ('a'), ('b'), ('a')) v(k))
     = jsonb_counter_merge((SELECT jsonb_counter_agg(k) FROM (VALUES ('a')) v(k)), (SELECT jsonb_counter_agg(k) FROM (VALUES ('b'), ('a')) v(k))) AS parts_make_the_whole;

-- errors name the key and carry 22023
CREATE FUNCTION pg_temp.try(a jsonb, b jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE h text; m text; s text;
BEGIN
    RAISE NOTICE 'no error: %', jsonb_counter_merge(a, b);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT, m = MESSAGE_TEXT, s = RETURNED_SQLSTATE;
    RAISE NOTICE '% % | %', s, m, h;
END $$;
DO $$ BEGIN
    PERFORM pg_temp.try('[1]', '{}');
    PERFORM pg_temp.try('{}', '1');
    PERFORM pg_temp.try('"a"', NULL);
    PERFORM pg_temp.try('null', NULL);
    PERFORM pg_temp.try('{"a": "1"}', '{}');
    PERFORM pg_temp.try('{}', '{"a": {"b c": [1, 2]}}');
    PERFORM pg_temp.try('{"a": null}', NULL);
    PERFORM pg_temp.try('{"a": true}', NULL);
    PERFORM pg_temp.try('{"q\"\\": false}', NULL);
    PERFORM pg_temp.try('{"a": 1}', '{"a": {"b": 1}}');
    PERFORM pg_temp.try('{"x": {"a": {"b": 1}}}', '{"x": {"a": 1}}');
    PERFORM pg_temp.try(jsonb_build_object(repeat('k', 200), 'no'), NULL);
    PERFORM pg_temp.try((repeat('{"a":', 32) || '1' || repeat('}', 32))::jsonb, (repeat('{"a":', 32) || '1' || repeat('}', 32))::jsonb);
    PERFORM pg_temp.try((repeat('{"a":', 33) || '1' || repeat('}', 33))::jsonb, NULL);
    PERFORM pg_temp.try((repeat('{"a":', 1000) || '1' || repeat('}', 1000))::jsonb, NULL);
END $$;
SELECT jsonb_counter_merge_agg(c) FROM (VALUES ('{"a": 1}'::jsonb), ('{"a": {}}')) v(c);
-- the session is well after the errors
SELECT jsonb_counter_merge('{"a": 1}', '{"a": 1}');

-- 100,000 keys
SELECT count(*), sum(value::int), min(value::int), max(value::int)
FROM jsonb_each((SELECT jsonb_counter_agg('key' || i % 100000) FROM generate_series(1, 300000) i));
SELECT count(*), sum(value::int) FROM jsonb_each((SELECT jsonb_counter_merge(x, x) FROM (SELECT jsonb_object_agg('key' || i, i % 10) AS x FROM generate_series(1, 100000) i) s));

-- stored values: short, compressed in line, and out of line, as counters and as keys
CREATE TEMP TABLE stored (c jsonb, k text);
INSERT INTO stored SELECT jsonb_object_agg('key' || i, i), repeat(m::text, 100 * m) FROM (VALUES (1), (300), (20000)) m(m), generate_series(1, m) i GROUP BY m;
SELECT jsonb_counter_merge_agg(c) = (SELECT jsonb_object_agg(key, n) FROM (SELECT key, sum(value::numeric) n FROM stored, jsonb_each(c) GROUP BY key) s) AS merged,
       jsonb_counter_agg(k) = jsonb_object_agg(k, 1) AS counted FROM stored;

-- many groups, hashed and sorted, against SQL
CREATE TEMP TABLE r AS SELECT i % 5000 AS g, CASE WHEN i % 29 <> 0 THEN 'k' || (i * 7919 % 101) END AS k, CASE WHEN i % 31 <> 0 THEN i * 1000000007 END AS n
    FROM generate_series(1, 200000::bigint) i;
ANALYZE r;
CREATE TEMP TABLE expected AS
    SELECT g, jsonb_object_agg(k, rows) FILTER (WHERE rows > 0) AS rows, jsonb_object_agg(k, total) FILTER (WHERE total IS NOT NULL) AS total
    FROM (SELECT g, k, count(*) AS rows, sum(n) AS total FROM r WHERE k IS NOT NULL GROUP BY g, k) s GROUP BY g;
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT g, jsonb_counter_agg(k), jsonb_counter_agg(k, n) FROM r GROUP BY g;
SELECT count(*), bool_and(a = rows) AS rows, bool_and(b = total) AS totals
FROM (SELECT g, jsonb_counter_agg(k) AS a, jsonb_counter_agg(k, n) AS b FROM r GROUP BY g) s JOIN expected USING (g);
SET work_mem = '64kB';
SELECT count(*), bool_and(a = rows) AS rows, bool_and(b = total) AS totals
FROM (SELECT g, jsonb_counter_agg(k) AS a, jsonb_counter_agg(k, n) AS b FROM r GROUP BY g) s JOIN expected USING (g);
RESET work_mem;
RESET enable_sort;
SET enable_hashagg = off;
SELECT count(*), bool_and(a = rows) AS rows, bool_and(b = total) AS totals
FROM (SELECT g, jsonb_counter_agg(k) AS a, jsonb_counter_agg(k, n) AS b FROM r GROUP BY g) s JOIN expected USING (g);
RESET enable_hashagg;

-- parallel: the same answer through combine, serialize and deserialize
CREATE TABLE counters_parallel AS
    SELECT k, n, jsonb_build_object(coalesce(k, '-'), coalesce(n, 1) / 3.0, 'in', jsonb_build_object('n', n / 2)) - CASE WHEN n IS NULL THEN 'in' ELSE '' END AS c FROM r;
ANALYZE counters_parallel;
CREATE TEMP TABLE serial AS SELECT jsonb_counter_agg(k) a, jsonb_counter_agg(k, n) b, jsonb_counter_merge_agg(c) c FROM counters_parallel;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT jsonb_counter_agg(k), jsonb_counter_agg(k, n), jsonb_counter_merge_agg(c) FROM counters_parallel;
SELECT p.a = s.a AS counted, p.b = s.b AS summed, p.c::text = s.c::text AS merged
FROM (SELECT jsonb_counter_agg(k) a, jsonb_counter_agg(k, n) b, jsonb_counter_merge_agg(c) c FROM counters_parallel) p, serial s;
SET parallel_leader_participation = off;
SELECT p.a = s.a AS counted, p.b = s.b AS summed, p.c::text = s.c::text AS merged
FROM (SELECT jsonb_counter_agg(k) a, jsonb_counter_agg(k, n) b, jsonb_counter_merge_agg(c) c FROM counters_parallel) p, serial s;
SELECT jsonb_counter_agg(k) IS NULL AS nothing FROM counters_parallel WHERE n < 0;
DROP TABLE counters_parallel;

-- every function and aggregate is described, safe to run in parallel, and found in whichever schema it lives
SELECT p.oid::regprocedure::text COLLATE "C" AS name, p.prokind AS kind, p.provolatile AS volatile, p.proisstrict AS strict, p.proparallel AS parallel,
       obj_description(p.oid, 'pg_proc') IS NOT NULL AS described
FROM pg_proc p WHERE p.proname LIKE 'jsonb\_counter\_%' ORDER BY 1;
-- what is stored is, to the byte, what jsonb itself stores
CREATE TABLE image AS SELECT i, jsonb_counter_agg(left(md5(k::text), 1 + k % 20), CASE k % 7 WHEN 0 THEN 0 WHEN 1 THEN -k WHEN 2 THEN 10000 WHEN 3 THEN k::bigint * 123456789012 WHEN 4 THEN -9223372036854775807 ELSE k END) AS c
  FROM generate_series(1, 200) i, generate_series(1, 200) k WHERE k <= i GROUP BY i;
INSERT INTO image SELECT i, jsonb_build_object('a', c, 'b', 1.50, repeat('key', 9), jsonb_build_object('x', jsonb_build_object(), 'yy', c)) FROM image WHERE i % 3 = 0;
SELECT count(*), bool_and(record_image_eq(ROW(c), ROW(c::text::jsonb))) AS counted,
       bool_and(record_image_eq(ROW(jsonb_counter_merge(c, c)), ROW(jsonb_counter_merge(c, c)::text::jsonb))) AS doubled,
       bool_and(record_image_eq(ROW(jsonb_counter_merge(c, NULL)), ROW(c))) AS alone,
       bool_and(record_image_eq(ROW(jsonb_counter_merge(c, '{}')), ROW(jsonb_counter_merge('{}', c)))) AS empty FROM image;
SELECT record_image_eq(ROW(s), ROW(s::text::jsonb)) AS summed, s = (SELECT jsonb_counter_merge_agg(c ORDER BY i DESC) FROM image WHERE NOT c ? 'b' ) AS in_any_order
  FROM (SELECT jsonb_counter_merge_agg(c) AS s FROM image WHERE NOT c ? 'b') x;
