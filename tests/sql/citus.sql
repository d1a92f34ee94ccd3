-- What a Citus cluster relies on, without one: it finds functions by name and number of arguments, runs the default of
-- a column where the row comes in, and takes nothing but immutable functions in DO UPDATE SET.
\set VERBOSITY terse
\pset format unaligned
\pset footer off
SELECT extname, extrelocatable FROM pg_extension WHERE extname = 'hll';
SELECT p.proname, p.pronargs, p.provolatile, p.prorettype::regtype FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
 WHERE (p.proname, p.pronargs) IN (('hll_add_agg', 2), ('hll_union_agg', 1), ('hll_cardinality', 1), ('hll_hash_integer', 2), ('hll_hash_bigint', 2), ('hll_hash_text', 2), ('hll_hash_any', 2))
 ORDER BY 1;
-- one argument is passed to the hash functions: the other has a default
SELECT p.proname, p.pronargdefaults FROM pg_proc p WHERE p.proname LIKE 'hll\_hash\_%' AND p.proname IN ('hll_hash_integer', 'hll_hash_bigint', 'hll_hash_text', 'hll_hash_any') ORDER BY 1;
-- by name where the state is internal, by combine function where it is a type that travels
SELECT a.aggfnoid::regprocedure, a.aggtranstype::regtype, a.aggcombinefn <> 0 AS combines, t.typsend <> 0 AND t.typreceive <> 0 AS travels
  FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid JOIN pg_type t ON t.oid = a.aggtranstype
 WHERE p.proname IN ('hll_add_agg', 'hll_union_agg', 'jsonb_counter_agg', 'jsonb_counter_merge_agg', 'approx_count_distinct') ORDER BY a.aggfnoid::regprocedure::text COLLATE "C";
SELECT typname, typsend, typreceive FROM pg_type WHERE typname IN ('hll', 'hll_hashval', 'jsonb_counter_state') ORDER BY 1;
-- log2m that an error rate comes to: 4 to 17
SELECT n, hll_log2m(hll_add_agg(hll_hash_integer(1), n)) FROM generate_series(4, 17) n GROUP BY n ORDER BY n;
-- what the library puts in the place of approx_count_distinct on a cluster gives the same number
SELECT n, approx_count_distinct(v) AS number, approx_count_distinct_estimate(hll_add_agg(approx_count_distinct_hash(v), 11, 6, -1, 1)) = approx_count_distinct(v) AS same,
       approx_count_distinct_estimate(hll_add_agg(approx_count_distinct_hash(v), 14, 6, -1, 1)) = approx_count_distinct(v, 14) AS same_14
  FROM unnest(ARRAY[0, 1, 190, 3000, 50000]) n LEFT JOIN LATERAL (SELECT 'v' || g AS v FROM generate_series(1, n) g) v ON true GROUP BY n ORDER BY n;
SELECT approx_count_distinct_estimate(NULL), approx_count_distinct_hash(NULL::text) IS NULL AS null, approx_count_distinct_hash(1.0) = approx_count_distinct_hash(1.00) AS equal;
-- what merges two values of the extension's own aggregates is immutable
SELECT p.oid::regprocedure, p.provolatile, p.proparallel FROM pg_proc p WHERE p.proname IN ('hll_union', 'jsonb_counter_merge') ORDER BY 1::text;
SELECT proname, provolatile FROM pg_proc WHERE oid = 'rollup.stamp()'::regprocedure;
-- without Citus a stamp is the transaction's id, and no more
BEGIN;
SELECT rollup.stamp() = pg_current_xact_id()::text::bigint AS same;
COMMIT;
SELECT rollup_internal.flush_log();
SELECT rollup_internal.look_at_shards('{0}', 'at', NULL, '{}', '{}', NULL, 1, true);
CREATE ROLE citus_regress;
SET ROLE citus_regress;
SELECT rollup_internal.flush_log();
SELECT rollup_internal.look_at_shards('{}', 'at', NULL, '{}', '{}', NULL, 1, true);
RESET ROLE;
DROP ROLE citus_regress;
SELECT * FROM rollup_internal.rest(1);
