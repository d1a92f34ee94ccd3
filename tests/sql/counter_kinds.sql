\set VERBOSITY terse
SET client_min_messages = notice;
-- The executor's own road; tests/batch.rs has the other.
SET rollup.batch = off;

-- every kind of number finds its aggregate, literals included
SELECT jsonb_counter_agg(k, n::smallint), jsonb_counter_agg(k, n::integer), jsonb_counter_agg(k, n::bigint),
       jsonb_counter_agg(k, n::numeric), jsonb_counter_agg(k, n::real), jsonb_counter_agg(k, n::double precision)
FROM (VALUES ('a', 1), ('b', -2), ('a', 41)) v(k, n);
SELECT jsonb_counter_agg('a', 1), jsonb_counter_agg('a', 1.5), jsonb_counter_agg('a', '7'), jsonb_counter_agg('a', NULL) IS NULL AS none,
       jsonb_counter_agg('a', 1, 5), jsonb_counter_agg('a', 2.50, 5), jsonb_counter_agg('a', 1e0::float8, NULL), jsonb_counter_agg('a', '7', 5)
FROM generate_series(1, 3);
PREPARE typed AS SELECT jsonb_counter_agg($1, $2::bigint), jsonb_counter_agg($1, $3::numeric, $4);
EXECUTE typed('k', 3, 4.5, 1);
DEALLOCATE typed;

-- decimals keep numeric's decimals; what does not fit 64 bits goes on as numeric, and comes back
SELECT jsonb_counter_agg(k, n) FROM (VALUES ('a', 1.50), ('a', 2.5), ('b', 1e30), ('b', -1e30), ('c', 0.00000000000000000001), ('d', 0.1), ('d', 0.2)) v(k, n);
SELECT jsonb_counter_agg('a', n) FROM (VALUES (9223372036854775807), (1), (-1)) v(n);
SELECT jsonb_counter_agg('a', n) FROM (VALUES (922337203685477580.7), (0.1), (0.01), (1e-16)) v(n);
SELECT count(*), bool_and(c->>'k' = expected::text) AS exact
FROM (SELECT i, jsonb_counter_agg('k', n) AS c, sum(n) AS expected
      FROM generate_series(0, 18) i, LATERAL (SELECT ((j * 7919 - 30000) * 1000003::numeric ^ (i % 4)::int * 10::numeric ^ (-i))::numeric(60, 20) * CASE WHEN j % 2 = 0 THEN 1 ELSE 1.0 END AS n FROM generate_series(1, 20) j
                                              UNION ALL SELECT round(j / 7.0, i) FROM generate_series(1, 9) j) n GROUP BY i) s;
SELECT record_image_eq(ROW(c), ROW(c::text::jsonb)) AS image
FROM (SELECT jsonb_counter_agg('k' || i, round((i - 500) * 12345.678901234567890123 / 10 ^ (i % 9)::numeric, i % 19)) AS c FROM generate_series(1, 1000) i) s;

-- doubles add as the shortest decimals that read back as them, in any order, whatever the session's settings
SELECT jsonb_counter_agg('a', n) FROM (VALUES (0.1::float8), (0.2), (0.3), (1e20), (-1e20), (1e-20), (123456.789), (-0.0)) v(n);
SET extra_float_digits = -10;
SELECT jsonb_counter_agg('a', n), jsonb_counter_agg('r', n::real) FROM (VALUES (0.1234567890123456::float8), (9007199254740993)) v(n);
RESET extra_float_digits;
SELECT count(*), bool_and(c->>'k' = (to_jsonb(n)#>>'{}') OR abs(n) > 1e15) AS as_jsonb_writes_them, bool_and((c->>'k')::float8 = n) AS read_back
FROM (SELECT n, jsonb_counter_agg('k', n) AS c FROM (SELECT (i * 7919 % 10007 - 5000) / 7.0::float8 * 10.0::float8 ^ (i % 40 - 20) AS n FROM generate_series(1, 2000) i) s GROUP BY n) t;

SELECT jsonb_counter_agg('k', 2::float8 ^ 62), jsonb_counter_agg('k', -2::float8 ^ 63), jsonb_counter_agg('k', 5e-324::float8)->>'k' = 5e-324::numeric::text AS least, jsonb_counter_agg('k', 1.7976931348623157e308::float8) AS most;

-- NaN and infinities are refused by name
\set VERBOSITY default
SELECT jsonb_counter_agg('de', 'NaN'::float8);
SELECT jsonb_counter_agg('de', '-Infinity'::float8);
SELECT jsonb_counter_agg('de', 'NaN'::numeric);
SELECT jsonb_counter_agg('de', 'Infinity'::numeric, 3);
SELECT jsonb_counter_agg('de', 1e131071::numeric * 9) FROM generate_series(1, 20);
\set VERBOSITY sqlstate
SELECT jsonb_counter_agg('de', 1e131071::numeric * 9) FROM generate_series(1, 20);
SELECT jsonb_counter_agg('de', 'NaN'::float8);
SELECT '{"\u0000": 1}'::jsonb + '{"a": 1}';
\set VERBOSITY terse

-- +
SELECT '{"a": 1}'::jsonb + '{"a": 2, "b": {"c": 1}}', '{"a": 1}'::jsonb || '{"a": 2}' AS not_the_sum, NULL + '{"a": 1}'::jsonb;

-- total
SELECT jsonb_counter_total('{"a": 1, "b": {"c": 2.50, "d": {"e": 3}}, "*": 4}'), jsonb_counter_total('{}'), jsonb_counter_total(NULL);
SELECT jsonb_counter_total('{"a": 9223372036854775807, "b": 9223372036854775807}');
SELECT jsonb_counter_total('{"a": {"b": "x"}}');
SELECT jsonb_counter_total('[1]');

-- top
SELECT * FROM jsonb_counter_top('{"a": 1, "b": 5, "cc": 5.0, "d": -1, "*": 100, "e": {"x": 2, "y": 2}}', 4);
SELECT * FROM jsonb_counter_top('{"a": 1e40, "b": 1e39, "c": -1e40}', NULL);
SELECT * FROM jsonb_counter_top('{"a": 1}', 0);
SELECT * FROM jsonb_counter_top(NULL, 3);
SELECT i, t.* FROM generate_series(1, 2) i, jsonb_counter_top(jsonb_build_object('a', i, 'b', 3 - i), 1) t;
SELECT (jsonb_counter_top('{"a": 1, "b": 2}', 2)).*;
SELECT * FROM jsonb_counter_top('{"a": 1}', -1);
SELECT * FROM jsonb_counter_top('{"a": null}', 1);

-- limit
SELECT jsonb_counter_limit(c, k) FROM (VALUES ('{"a": 3, "b": 2.5, "c": 1, "d": 2.5}'::jsonb)) v(c), generate_series(0, 5) k;
SELECT jsonb_counter_limit('{"a": 3, "b": 2, "*": 100}', 1), jsonb_counter_limit('{"a": 3, "*": 1}', 1), jsonb_counter_limit('{"a": 1}', NULL), jsonb_counter_limit(NULL, 1) IS NULL AS nothing;
SELECT jsonb_counter_limit('{"a": {"x": 5}, "b": {"x": 1, "y": 1}, "c": {"z": 1}}', 1);
SELECT jsonb_counter_limit('{"a": 7, "b": {"x": 1}, "c": 1}', 1);
SELECT jsonb_counter_limit('{"a": 1}', -1);
SELECT count(*), bool_and(jsonb_counter_total(l) = jsonb_counter_total(c)) AS same_total, bool_and(jsonb_counter_limit(l, k) = l) AS settled,
       bool_and((SELECT count(*) FROM jsonb_object_keys(l - '*')) = least(k, (SELECT count(*) FROM jsonb_object_keys(c)))) AS keys
FROM (SELECT c, k, jsonb_counter_limit(c, k) AS l FROM (SELECT i, jsonb_counter_agg('k' || j, i * j % 13) AS c FROM generate_series(1, 30) i, generate_series(1, 40) j WHERE j <= i GROUP BY i) s, generate_series(1, 40, 3) k) t;

-- max_keys: few keys are exact; the rest goes under "*"
SELECT jsonb_counter_agg(k, 1, 2) FROM (VALUES ('a'), ('b'), ('a'), ('c'), ('b'), ('a'), ('*'), (NULL)) v(k);
SELECT jsonb_counter_agg(k, 1, 0), jsonb_counter_agg(k, 1, 3), jsonb_counter_agg(k, 1, NULL) FROM (VALUES ('a'), ('b'), ('a'), ('c')) v(k);
SELECT jsonb_counter_merge_agg(c, 1), jsonb_counter_merge_agg(c, 2), jsonb_counter_merge_agg(c, NULL) FROM (VALUES ('{"a": 1, "b": 5}'::jsonb), (NULL), ('{"a": 1.5, "c": 2, "*": 7}')) v(c);
SELECT jsonb_counter_agg(k, 1, 5) IS NULL AS nothing FROM (VALUES (NULL::text)) v(k);
SELECT jsonb_counter_agg('k' || i % 464, i, 100) = jsonb_counter_limit(jsonb_counter_agg('k' || i % 464, i), 100) AS exact FROM generate_series(1, 20000) i;
SELECT jsonb_counter_agg('a', 1, -1);
SELECT jsonb_counter_agg('a', 1, i) FROM generate_series(5, 6) i;
SELECT jsonb_counter_agg('a', 1, nullif(i, 6)) FROM generate_series(5, 6) i;
SELECT jsonb_counter_merge_agg('{"a": {"b": 1}}', 3);
SELECT jsonb_counter_merge_agg('{"a": "b"}', 3);

-- max_keys under a flood of keys that come once: the heavy ones are found, the total is exact, and the documented bound holds
CREATE TABLE flood AS
    SELECT i, CASE WHEN i % 3 = 0 THEN 'heavy' || i % 30 ELSE 'once' || i END AS k, 1 + i % 4 AS n FROM generate_series(1, 300000) i;
ANALYZE flood;
CREATE FUNCTION judge(c jsonb, k int) RETURNS TABLE (keys bigint, total boolean, heavy bigint, within boolean) LANGUAGE sql AS $$
    SELECT (SELECT count(*) FROM jsonb_object_keys(c)), jsonb_counter_total(c) = (SELECT sum(n) FROM flood),
           (SELECT count(*) FROM jsonb_object_keys(c) AS o(key) WHERE key LIKE 'heavy%'),
           (SELECT bool_and(s.n - coalesce((c->>s.k)::numeric, 0) BETWEEN 0 AND (SELECT sum(n) FROM flood) / (2 * judge.k + 33.0)) FROM (SELECT flood.k, sum(flood.n) AS n FROM flood WHERE flood.k LIKE 'heavy%' GROUP BY 1) s)
$$;
SELECT j.* FROM (SELECT jsonb_counter_agg(k, n, 20) AS c FROM flood) s, judge(c, 20) j;
SELECT j.* FROM (SELECT jsonb_counter_agg(k, n, 20 ORDER BY k) AS c FROM flood) s, judge(c, 20) j;
SELECT j.* FROM (SELECT jsonb_counter_merge_agg(c, 20) AS c FROM (SELECT jsonb_counter_agg(k, n) AS c FROM flood GROUP BY i / 1000) g) s, judge(c, 20) j;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT jsonb_counter_agg(k, n, 20) FROM flood;
SELECT j.* FROM (SELECT jsonb_counter_agg(k, n, 20) AS c FROM flood) s, judge(c, 20) j;
-- every kind of number and object crosses between processes
SELECT jsonb_counter_agg(k, n * 1e30) = (SELECT jsonb_object_agg(k, s) FROM (SELECT k, sum(n * 1e30) AS s FROM flood WHERE i % 3 = 0 GROUP BY k) t) AS big,
       jsonb_counter_agg(k, n / 8.0::float8) = (SELECT jsonb_object_agg(k, s) FROM (SELECT k, sum(n / 8.0) AS s FROM flood WHERE i % 3 = 0 GROUP BY k) t) AS doubles,
       jsonb_counter_agg('клавіша ' || k, -n) = (SELECT jsonb_object_agg('клавіша ' || k, s) FROM (SELECT k, sum(-n) AS s FROM flood WHERE i % 3 = 0 GROUP BY k) t) AS negative
FROM flood WHERE i % 3 = 0;
RESET max_parallel_workers_per_gather;
DROP FUNCTION judge;
DROP TABLE flood;

-- the state as a type of its own: an aggregate without the last step, stored, read, sent, combined
CREATE AGGREGATE counter_state(text, numeric, integer) (SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state);
CREATE AGGREGATE from_states(jsonb_counter_state) (SFUNC = jsonb_counter_combine, STYPE = jsonb_counter_state, FINALFUNC = jsonb_counter_final);
CREATE TABLE state AS SELECT i % 3 AS g, counter_state('k' || i % 7, i / 4.0, NULL) AS s FROM generate_series(1, 1000) i GROUP BY 1;
SELECT from_states(s) = (SELECT jsonb_counter_agg('k' || i % 7, i / 4.0) FROM generate_series(1, 1000) i) AS combined, from_states(s::text::jsonb_counter_state) = from_states(s) AS read,
       bool_and(jsonb_counter_state_send(s)::text = s::text) AS sent FROM state;
SELECT counter_state('a', 1.5, 3), jsonb_counter_final(counter_state('a', 1.5, 3)), jsonb_counter_final(NULL) IS NULL AS nothing;
SELECT jsonb_counter_final('\x01000101610005'), jsonb_counter_final('\x010002016100020162010f');
SELECT jsonb_counter_final(s::jsonb_counter_state) FROM (VALUES ('')) v(s);
SELECT '\x02'::jsonb_counter_state;
SELECT '\x0100'::jsonb_counter_state;
SELECT '\x010001016100'::jsonb_counter_state;
SELECT '\x01000101610002ff'::jsonb_counter_state;
SELECT '\x01000101000002'::jsonb_counter_state;
SELECT '\x01000101ff0002'::jsonb_counter_state;
SELECT '\x0100ffffffffffffffffff01'::jsonb_counter_state;
SELECT ('\x010001016120034e614e')::jsonb_counter_state;
SELECT ('\x0100' || repeat('01016121', 40) || '00')::text::jsonb_counter_state;
SELECT '\x0104000000000000f07f00'::jsonb_counter_state;
SELECT from_states(s) FROM (VALUES ('\x0104000000000000000000'::jsonb_counter_state), ('\x01000101610002')) v(s);
SELECT jsonb_counter_combine(s, s) FROM state;
SELECT jsonb_counter_agg_trans(NULL, 'a');
DROP TABLE state;
DROP AGGREGATE counter_state(text, numeric, integer);
DROP AGGREGATE from_states(jsonb_counter_state);

-- running totals: the state goes on after each result
SELECT i, jsonb_counter_agg('k' || i % 3, i, 1) OVER (ORDER BY i) FROM generate_series(1, 5) i;
SELECT g, i % 2 AS h, jsonb_counter_agg('k' || i % 3) FROM generate_series(1, 12) i, LATERAL (SELECT i % 2 AS g) g GROUP BY GROUPING SETS ((g, i % 2), (g), ()) ORDER BY 1 NULLS LAST, 2 NULLS LAST, 3;
