-- Percentiles: the type, its forms, what is read off it, and what is refused.
\set VERBOSITY terse
-- The executor's own road; tests/batch.rs has the other.
SET rollup.batch = off;
CREATE FUNCTION no(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'accepted';
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || ' ' || SQLERRM || ': ' || hint;
END $$;
CREATE TABLE event (k int, ms double precision);
INSERT INTO event SELECT i % 7, i FROM generate_series(1, 1000) i;

-- text says everything, and reads back
SELECT ddsketch_agg(x) FROM unnest('{3,1,-5,0}'::float8[]) x;
SELECT ddsketch_agg(x) FROM unnest('{0.1,0.2,0.3}'::float8[]) x;
SELECT ddsketch_agg(x) FROM unnest('{-Infinity,Infinity,-0,1e-320}'::float8[]) x;
SELECT 'scale=5 count=3 sum=6 min=1 max=3 positive=-1:1,31:1,50:1'::ddsketch = ddsketch_agg(i) AS same FROM generate_series(1, 3) i;
SELECT bool_and(s::text::ddsketch = s) AS round_trip FROM (SELECT k, ddsketch_agg(ms / 7) AS s FROM event GROUP BY k) q;
SELECT ddsketch_send(ddsketch_agg(i)) FROM generate_series(1, 3) i;

-- NULLs, no rows, weights, scales
SELECT ddsketch_agg(x) FROM (VALUES (NULL::float8), (NULL)) v(x);
SELECT ddsketch_agg(ms) FROM event WHERE false;
SELECT ddsketch_agg(x) FROM (VALUES (1::float8), (NULL)) v(x);
SELECT ddsketch_agg(x, w) FROM (VALUES (1::float8, 5::bigint), (2, 0), (NULL, 7), (3, NULL)) v(x, w);
SELECT ddsketch_agg(1, 0);
SELECT ddsketch_agg(i, 1, 10) FROM generate_series(1, 3) i;
SELECT s, ddsketch_scale(ddsketch_agg(i, 1, s)) FROM generate_series(1, 9) i, unnest('{-4,0,10}'::int[]) s GROUP BY s ORDER BY s;
SELECT ddsketch_agg(i, 1, i) FROM generate_series(4, 6) i;
-- more buckets than there may be: a smaller scale, whatever the order
SELECT ddsketch_scale(up) AS scale, up = down AS same, ddsketch_max(up) FROM (
  SELECT ddsketch_agg(1.003 ^ i, 1, 10 ORDER BY i) AS up, ddsketch_agg(1.003 ^ i, 1, 10 ORDER BY -i) AS down FROM generate_series(1, 9000) i) q;

-- percentiles beside the sorted rows
SELECT p, round(ddsketch_percentile(s, p)::numeric, 2) AS near, exact, abs(ddsketch_percentile(s, p) / exact - 1) <= 0.0109 AS within
FROM (SELECT ddsketch_agg(ms) AS s FROM event) q, unnest('{0,0.01,0.5,0.95,0.99,0.999,1}'::float8[]) p,
     LATERAL (SELECT percentile_disc(p) WITHIN GROUP (ORDER BY ms) AS exact FROM event) e;
SELECT ddsketch_percentile(ddsketch_agg(ms), ARRAY[0, NULL, 1]) FROM event;
SELECT ddsketch_percentile(ddsketch_agg(ms), 0.99) = approx_percentile(ms, 0.99) AS in_one_step FROM event;
SELECT ddsketch_count(s), ddsketch_sum(s), ddsketch_avg(s), ddsketch_min(s), ddsketch_max(s), ddsketch_scale(s) FROM (SELECT ddsketch_agg(ms) AS s FROM event) q;
SELECT round(ddsketch_rank(s, 300)::numeric, 3) AS rank, ddsketch_rank(s, 0.5) AS below, ddsketch_rank(s, 1000) AS all, round(ddsketch_fraction_between(s, 100, 300)::numeric, 3) AS between,
       round(ddsketch_trimmed_avg(s, 0.1, 0.9)::numeric, 0) AS trimmed, ddsketch_trimmed_avg(s, 0, 1) AS mean FROM (SELECT ddsketch_agg(ms) AS s FROM event) q;
SELECT * FROM ddsketch_buckets('scale=0 count=9 sum=? min=? max=? zero=1 negative=0:2 positive=-1:1,1:5');
SELECT sum(count), min(lower), max(upper) FROM (SELECT ddsketch_agg(ms) AS s FROM event) q, ddsketch_buckets(s);
-- nothing is known of no values
SELECT ddsketch_count(s), ddsketch_sum(s), ddsketch_avg(s), ddsketch_min(s), ddsketch_max(s), ddsketch_percentile(s, 0.5), ddsketch_percentile(s, ARRAY[0, 1]), ddsketch_rank(s, 1), ddsketch_fraction_between(s, 0, 1), ddsketch_trimmed_avg(s, 0, 0.5),
       (SELECT count(*) FROM ddsketch_buckets(s)) FROM (SELECT 'scale=5'::ddsketch AS s) q;
-- sums are exact: the order of rows does not matter
SELECT ddsketch_sum(ddsketch_agg(x)), ddsketch_avg(ddsketch_agg(x)) FROM unnest('{1e300,1,-1e300,1e-300}'::float8[]) x;
SELECT ddsketch_sum(ddsketch_agg(x)) AS inf, ddsketch_sum(ddsketch_agg(-x)) AS minus FROM unnest('{1,Infinity}'::float8[]) x;

-- unions: the same bytes as of all rows, however they were split
SELECT ddsketch_union_agg(s) = (SELECT ddsketch_agg(ms) FROM event) AS same FROM (SELECT ddsketch_agg(ms) AS s FROM event GROUP BY k) q;
SELECT (a || b) = (b || a) AS commutes, ddsketch_count(a || b) AS count, (a || 'scale=3') AS coarser FROM (SELECT ddsketch_agg(1), ddsketch_agg(2)) q(a, b);
SELECT ddsketch_union_agg(s) FROM (VALUES (NULL::ddsketch), (NULL)) v(s);
SELECT count(DISTINCT s) FROM (SELECT ddsketch_agg(ms) AS s FROM event GROUP BY k UNION ALL SELECT ddsketch_agg(ms) FROM event GROUP BY k) q;
SELECT k, ddsketch_count(s) FROM (SELECT k, ms, ddsketch_agg(ms) OVER (PARTITION BY k ORDER BY ms) AS s FROM event) w WHERE ms > 993 ORDER BY k;
SELECT opcname, amname, amvalidate(c.oid) FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod WHERE c.opcintype = 'ddsketch'::regtype ORDER BY amname;

-- parallel workers give the same bytes
CREATE TABLE many AS SELECT i % 3 AS k, sqrt(i) AS ms FROM generate_series(1, 200000) i;
ANALYZE many;
CREATE TABLE serial AS SELECT k, ddsketch_agg(ms) AS s, approx_percentile(ms, 0.9) AS p, ddsketch_agg(ms, k, 7) AS w FROM many GROUP BY k;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT k, ddsketch_agg(ms) FROM many GROUP BY k;
SELECT count(*) FROM (TABLE serial INTERSECT SELECT k, ddsketch_agg(ms), approx_percentile(ms, 0.9), ddsketch_agg(ms, k, 7) FROM many GROUP BY k) q;
RESET ALL;

-- what others have counted
SELECT ddsketch_from_otel(5, 1, 31, '{2,0,1}', 0, NULL, 6.2, 0, 2.1);
SELECT ddsketch_from_otel(20, 0, 1023, '{1,1}', 0, '{}');
SELECT ddsketch_from_otel(0, 0, 0, '{1}', 3, '{1,2}') || ddsketch_agg(-9) AS united FROM (VALUES (1)) v;
SELECT ddsketch_from_prometheus(5, 2, '{1,3}', '{2,1}', '{4,-1,-2}', sum => 20);
SELECT ddsketch_from_prometheus(0, 0, '{}', '{}', '{}', '{1}', '{1}', '{3}');
SELECT ddsketch_from_otel(5, 0, 0, NULL, 0, NULL, 0) = 'scale=5' AS of_nothing;

-- refused, with what to do instead
\pset format unaligned
\pset tuples_only on
SELECT no(call) FROM unnest(ARRAY[
  $$ 'scale=11'::ddsketch $$,
  $$ ''::ddsketch $$,
  $$ 'scale=5 positive=2:1,1:1'::ddsketch $$,
  $$ 'scale=5 count=9'::ddsketch $$,
  $$ ddsketch_agg('NaN') $$,
  $$ ddsketch_agg(1, -1) $$,
  $$ ddsketch_agg(1, 1, 11) $$,
  $$ ddsketch_agg(1, 1, NULL) $$,
  $$ ddsketch_agg(x, 9223372036854775807) FROM generate_series(1, 2) x $$,
  $$ ddsketch_percentile('scale=5', 1.5) $$,
  $$ ddsketch_percentile('scale=5 positive=1:1', ARRAY[0, 'NaN'::float8]) $$,
  $$ ddsketch_rank('scale=5', 'NaN') $$,
  $$ ddsketch_fraction_between('scale=5', 2, 1) $$,
  $$ ddsketch_trimmed_avg('scale=5', 0.5, 0.5) $$,
  $$ approx_percentile(1, 2) $$,
  $$ approx_percentile(1, NULL) $$,
  $$ approx_percentile(x, x / 9.0) FROM generate_series(1, 2) x $$,
  $$ approx_percentile_final('\x00') $$,
  $$ ddsketch_agg_trans(NULL, 1) $$,
  $$ ddsketch_combine('scale=5', 'scale=5') $$,
  $$ approx_percentile_trans(NULL, 1, 1) $$,
  $$ ddsketch_from_otel(21, 0, 0, NULL, 0, NULL) $$,
  $$ ddsketch_from_otel(-5, 0, 0, NULL, 0, NULL) $$,
  $$ ddsketch_from_otel(5, -1, 0, NULL, 0, NULL) $$,
  $$ ddsketch_from_otel(5, 0, 0, '{NULL}', 0, NULL) $$,
  $$ ddsketch_from_otel(5, 0, NULL, '{1}', 0, NULL) $$,
  $$ ddsketch_from_otel(0, 0, 1025, '{1}', 0, NULL) $$,
  $$ ddsketch_from_otel(0, 0, 1, '{1}', 0, NULL, NULL, 100, NULL) $$,
  $$ ddsketch_from_prometheus(-53, 0, NULL, NULL, NULL) $$,
  $$ ddsketch_from_prometheus(9, 0, NULL, NULL, NULL) $$,
  $$ ddsketch_from_prometheus(5, 0, '{0}', '{2}', '{1}') $$,
  $$ ddsketch_from_prometheus(5, 0, '{0,1}', '{2}', '{1}') $$,
  $$ ddsketch_from_prometheus(5, 0, '{0}', '{-1}', '{}') $$,
  $$ ddsketch_from_prometheus(5, 0, '{0}', '{2}', '{1,-2}') $$]) WITH ORDINALITY c(call, n) ORDER BY n;
