-- rollups: aggregates

CREATE FUNCTION rollup_internal.first_trans(internal, anyelement, timestamptz) RETURNS internal
AS 'MODULE_PATHNAME', 'rollup_first_trans' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.first_trans(internal, anyelement, timestamptz) IS 'transition of rollup.first';
CREATE FUNCTION rollup_internal.first_trans(internal, anyelement, timestamp) RETURNS internal
AS 'MODULE_PATHNAME', 'rollup_first_trans' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.first_trans(internal, anyelement, timestamp) IS 'transition of rollup.first';
CREATE FUNCTION rollup_internal.last_trans(internal, anyelement, timestamptz) RETURNS internal
AS 'MODULE_PATHNAME', 'rollup_last_trans' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.last_trans(internal, anyelement, timestamptz) IS 'transition of rollup.last';
CREATE FUNCTION rollup_internal.last_trans(internal, anyelement, timestamp) RETURNS internal
AS 'MODULE_PATHNAME', 'rollup_last_trans' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.last_trans(internal, anyelement, timestamp) IS 'transition of rollup.last';
CREATE FUNCTION rollup_internal.extreme_final(internal, anyelement, timestamptz) RETURNS anyelement
AS 'MODULE_PATHNAME', 'rollup_extreme_final' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.extreme_final(internal, anyelement, timestamptz) IS 'result of rollup.first and rollup.last';
CREATE FUNCTION rollup_internal.extreme_final(internal, anyelement, timestamp) RETURNS anyelement
AS 'MODULE_PATHNAME', 'rollup_extreme_final' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.extreme_final(internal, anyelement, timestamp) IS 'result of rollup.first and rollup.last';

CREATE AGGREGATE rollup.first(anyelement, timestamptz) (
  SFUNC = rollup_internal.first_trans, STYPE = internal, SSPACE = 64, FINALFUNC = rollup_internal.extreme_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup.first(anyelement, timestamptz) IS
'Value at the earliest time; of several at one time the least. Rows whose value or time is NULL are skipped; NULL when there is none. Two rows of one time need values with an order';
CREATE AGGREGATE rollup.first(anyelement, timestamp) (
  SFUNC = rollup_internal.first_trans, STYPE = internal, SSPACE = 64, FINALFUNC = rollup_internal.extreme_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup.first(anyelement, timestamp) IS
'Value at the earliest time; of several at one time the least. Rows whose value or time is NULL are skipped; NULL when there is none. Two rows of one time need values with an order';
CREATE AGGREGATE rollup.last(anyelement, timestamptz) (
  SFUNC = rollup_internal.last_trans, STYPE = internal, SSPACE = 64, FINALFUNC = rollup_internal.extreme_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup.last(anyelement, timestamptz) IS
'Value at the latest time; of several at one time the greatest. Rows whose value or time is NULL are skipped; NULL when there is none. Two rows of one time need values with an order';
CREATE AGGREGATE rollup.last(anyelement, timestamp) (
  SFUNC = rollup_internal.last_trans, STYPE = internal, SSPACE = 64, FINALFUNC = rollup_internal.extreme_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup.last(anyelement, timestamp) IS
'Value at the latest time; of several at one time the greatest. Rows whose value or time is NULL are skipped; NULL when there is none. Two rows of one time need values with an order';

-- The state that PostgreSQL itself keeps for variances and regressions of float8, as a value: its own functions
-- add to it, combine two of it, and make the result of it.
CREATE AGGREGATE rollup_internal.moments(float8) (
  SFUNC = pg_catalog.float8_accum, STYPE = float8[], COMBINEFUNC = pg_catalog.float8_combine, INITCOND = '{0,0,0}', PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup_internal.moments(float8) IS 'Count, sum, and sum of squared deviations of numbers: what avg, variance and stddev are made of. NULLs are skipped';
CREATE FUNCTION rollup_internal.moments_combine(float8[], float8[]) RETURNS float8[]
AS 'MODULE_PATHNAME', 'rollup_moments_combine' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.moments_combine(float8[], float8[]) IS 'transition of rollup_internal.moments_union; NULL is the moments of no numbers; SQLSTATE 22023 for what are no moments of numbers';
CREATE FUNCTION rollup_internal.pair_moments_combine(float8[], float8[]) RETURNS float8[]
AS 'MODULE_PATHNAME', 'rollup_pair_moments_combine' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION rollup_internal.pair_moments_combine(float8[], float8[]) IS 'transition of rollup_internal.pair_moments_union; NULL is the moments of no pairs; SQLSTATE 22023 for what are no moments of pairs';
CREATE AGGREGATE rollup_internal.moments_union(float8[]) (
  SFUNC = rollup_internal.moments_combine, STYPE = float8[], PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup_internal.moments_union(float8[]) IS 'Moments of all the numbers whose moments these are; NULL when there are none';
CREATE AGGREGATE rollup_internal.moments(float8, float8) (
  SFUNC = pg_catalog.float8_regr_accum, STYPE = float8[], COMBINEFUNC = pg_catalog.float8_regr_combine, INITCOND = '{0,0,0,0,0,0}', PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup_internal.moments(float8, float8) IS 'Count, sums, and sums of squared deviations and products of pairs: what corr, covar_* and regr_* are made of. Pairs with a NULL are skipped';
CREATE AGGREGATE rollup_internal.pair_moments_union(float8[]) (
  SFUNC = rollup_internal.pair_moments_combine, STYPE = float8[], PARALLEL = SAFE);
COMMENT ON AGGREGATE rollup_internal.pair_moments_union(float8[]) IS 'Moments of all the pairs whose moments these are; NULL when there are none';

-- Of count, sum and sum of squares of exact numbers what PostgreSQL computes of the numbers, digit by digit. A root
-- has as many as the variance has, and is rounded once, from many more.
CREATE FUNCTION rollup_internal.var_samp(count bigint, sum numeric, sum_of_squares numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN count > 1 THEN
  CASE WHEN count * sum_of_squares - sum * sum > 0 THEN (count * sum_of_squares - sum * sum) / (count::numeric * (count - 1)) ELSE 0 END END;
COMMENT ON FUNCTION rollup_internal.var_samp(bigint, numeric, numeric) IS 'Sample variance of numbers of which count, sum and sum of squares are known; NULL for less than two';
CREATE FUNCTION rollup_internal.var_pop(count bigint, sum numeric, sum_of_squares numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN count > 0 THEN
  CASE WHEN count * sum_of_squares - sum * sum > 0 THEN (count * sum_of_squares - sum * sum) / (count::numeric * count) ELSE 0 END END;
COMMENT ON FUNCTION rollup_internal.var_pop(bigint, numeric, numeric) IS 'Population variance of numbers of which count, sum and sum of squares are known; NULL for none';
CREATE FUNCTION rollup_internal.root(variance numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN round(sqrt(round(variance, coalesce(scale(variance), 0) + 16)), coalesce(scale(variance), 0));
COMMENT ON FUNCTION rollup_internal.root(numeric) IS 'Square root with as many digits as the number has';
CREATE FUNCTION rollup_internal.stddev_samp(count bigint, sum numeric, sum_of_squares numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN rollup_internal.root(rollup_internal.var_samp(count, sum, sum_of_squares));
COMMENT ON FUNCTION rollup_internal.stddev_samp(bigint, numeric, numeric) IS 'Sample standard deviation of numbers of which count, sum and sum of squares are known; NULL for less than two';
CREATE FUNCTION rollup_internal.stddev_pop(count bigint, sum numeric, sum_of_squares numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN rollup_internal.root(rollup_internal.var_pop(count, sum, sum_of_squares));
COMMENT ON FUNCTION rollup_internal.stddev_pop(bigint, numeric, numeric) IS 'Population standard deviation of numbers of which count, sum and sum of squares are known; NULL for none';

-- rollups: merge rules of the extension

-- An aggregate without final function gives its state: PostgreSQL's own combine function merges two.
INSERT INTO rollup.merge_rule (aggregate, labels, combine, unite, never_null)
SELECT p.oid::regprocedure::text, ARRAY[p.proname::text],
       format('pg_catalog.%I($1, $2)', f.proname), format('pg_catalog.%I($1)', CASE p.proname WHEN 'count' THEN 'sum' ELSE p.proname END), p.proname = 'count'
  FROM pg_proc p JOIN pg_aggregate a ON a.aggfnoid = p.oid JOIN pg_proc f ON f.oid = a.aggcombinefn
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND a.aggkind = 'n' AND a.aggfinalfn = 0 AND a.aggtranstype = p.prorettype
   AND p.proname IN ('count', 'sum', 'min', 'max', 'bool_and', 'bool_or', 'every', 'bit_and', 'bit_or', 'bit_xor')
   AND p.oid <> 'sum(interval)'::regprocedure; -- that has a final function from PostgreSQL 17 on

INSERT INTO rollup.merge_rule (aggregate, labels, combine, unite) VALUES
  ('sum(bigint)', '{sum}', 'pg_catalog.numeric_add($1, $2)', 'pg_catalog.sum($1)'),
  ('sum(numeric)', '{sum}', 'pg_catalog.numeric_add($1, $2)', 'pg_catalog.sum($1)'),
  ('sum(interval)', '{sum}', 'pg_catalog.interval_pl($1, $2)', 'pg_catalog.sum($1)'),
  ('range_agg(anyrange)', '{ranges}', 'pg_catalog.multirange_union($1, $2)', 'pg_catalog.range_agg($1)'),
  ('range_agg(anymultirange)', '{ranges}', 'pg_catalog.multirange_union($1, $2)', 'pg_catalog.range_agg($1)'),
  ('range_intersect_agg(anyrange)', '{common}', 'pg_catalog.range_intersect($1, $2)', 'pg_catalog.range_intersect_agg($1)'),
  ('range_intersect_agg(anymultirange)', '{common}', 'pg_catalog.multirange_intersect($1, $2)', 'pg_catalog.range_intersect_agg($1)'),
  ('rollup_internal.moments(double precision)', '{moments}', 'pg_catalog.float8_combine($1, $2)', 'rollup_internal.moments_union($1)'),
  ('rollup_internal.moments(double precision,double precision)', '{moments}', 'pg_catalog.float8_regr_combine($1, $2)', 'rollup_internal.pair_moments_union($1)');

INSERT INTO rollup.merge_rule (aggregate, labels, combine, unite, companion)
SELECT format('rollup.%s(anyelement,%s)', f, t), ARRAY[f],
       format('CASE WHEN pg_catalog.record_%s(ROW($3, $1), ROW($4, $2)) THEN $1 ELSE $2 END', CASE f WHEN 'first' THEN 'le' ELSE 'ge' END),
       format('rollup.%s($1, $2)', f),
       format('pg_catalog.%s(CASE WHEN $1 IS NOT NULL THEN $2 END)', CASE f WHEN 'first' THEN 'min' ELSE 'max' END)
  FROM unnest(ARRAY['first', 'last']) f, unnest(ARRAY['timestamp with time zone', 'timestamp without time zone']) t;

-- The extension's own aggregates lie in its schema. With a bound of keys (max_keys) what is kept is a counter that merges within it.
INSERT INTO rollup.merge_rule (aggregate, labels, combine, unite)
SELECT p.oid::regprocedure::text, ARRAY[CASE WHEN p.proname LIKE 'hll%' THEN 'sketch' ELSE 'counters' END],
       format('%I.%I($1, $2)', n.nspname, CASE WHEN p.proname LIKE 'hll%' THEN 'hll_union' ELSE 'jsonb_counter_merge' END),
       format('%I.%I($1)', n.nspname, CASE WHEN p.proname LIKE 'hll%' THEN 'hll_union_agg' ELSE 'jsonb_counter_merge_agg' END)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'hll'
 WHERE p.prokind = 'a' AND (p.proname = 'jsonb_counter_bounded_agg' OR p.proname IN ('hll_add_agg', 'hll_union_agg', 'jsonb_counter_agg', 'jsonb_counter_merge_agg')
   AND pg_get_function_arguments(p.oid) NOT LIKE '%max_keys%');

INSERT INTO rollup.merge_rule (aggregate, parts, labels, result)
SELECT p.oid::regprocedure::text, ARRAY[format('%I.jsonb_counter_bounded_agg($1, $2, $3)', n.nspname)], '{counters}', '$1'
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'hll'
 WHERE p.prokind = 'a' AND p.proname = 'jsonb_counter_agg' AND pg_get_function_arguments(p.oid) LIKE '%max_keys%';

INSERT INTO rollup.merge_rule (aggregate, labels, combine, unite)
SELECT p.oid::regprocedure::text, '{percentiles}', format('%I.ddsketch_union($1, $2)', n.nspname), format('%I.ddsketch_union_agg($1)', n.nspname)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'hll'
 WHERE p.prokind = 'a' AND p.proname IN ('ddsketch_agg', 'ddsketch_union_agg');

INSERT INTO rollup.merge_rule (aggregate, parts, labels, result)
SELECT format('avg(%s)', t), ARRAY[format('pg_catalog.sum(%s)', CASE t WHEN 'real' THEN '$1::pg_catalog.float8' ELSE '$1' END), 'pg_catalog.count($1)'],
       '{sum,count}', CASE WHEN t IN ('smallint', 'integer', 'bigint', 'numeric') THEN '$1::pg_catalog.numeric' ELSE '$1' END || ' / NULLIF($2, 0)'
  FROM unnest(ARRAY['smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision', 'interval']) t;

INSERT INTO rollup.merge_rule (aggregate, parts, labels, result)
SELECT format('%s(%s)', f, t), ARRAY['pg_catalog.count($1)', 'pg_catalog.sum($1::pg_catalog.numeric)', 'pg_catalog.sum($1::pg_catalog.numeric * $1::pg_catalog.numeric)'],
       '{count,sum,sum_of_squares}',
       format('rollup_internal.%s($1, $2, $3)', CASE f WHEN 'variance' THEN 'var_samp' WHEN 'stddev' THEN 'stddev_samp' ELSE f END)
  FROM unnest(ARRAY['variance', 'var_samp', 'stddev', 'stddev_samp', 'var_pop', 'stddev_pop']) f, unnest(ARRAY['smallint', 'integer', 'bigint', 'numeric']) t;

INSERT INTO rollup.merge_rule (aggregate, parts, labels, result)
SELECT format('%s(%s)', f, t), ARRAY['rollup_internal.moments($1)'], '{moments}',
       format('pg_catalog.float8_%s($1)', CASE f WHEN 'variance' THEN 'var_samp' WHEN 'stddev' THEN 'stddev_samp' ELSE f END)
  FROM unnest(ARRAY['variance', 'var_samp', 'stddev', 'stddev_samp', 'var_pop', 'stddev_pop']) f, unnest(ARRAY['real', 'double precision']) t;

INSERT INTO rollup.merge_rule (aggregate, parts, labels, result)
SELECT format('%s(double precision,double precision)', f), ARRAY['rollup_internal.moments($1, $2)'], '{moments}', format('pg_catalog.float8_%s($1)', f)
  FROM unnest(ARRAY['corr', 'covar_pop', 'covar_samp', 'regr_avgx', 'regr_avgy', 'regr_intercept', 'regr_r2', 'regr_slope', 'regr_sxx', 'regr_sxy', 'regr_syy']) f;
INSERT INTO rollup.merge_rule (aggregate, labels, combine, unite, never_null) VALUES
  ('regr_count(double precision,double precision)', '{count}', 'pg_catalog.int8pl($1, $2)', 'pg_catalog.sum($1)', true);

