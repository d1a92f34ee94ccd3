-- The type ddsketch: percentiles that merge exactly. A DDSketch whose limits are powers of 2^(2^-scale), as in the exponential
-- histograms of OpenTelemetry and Prometheus.

CREATE TYPE ddsketch;

CREATE FUNCTION ddsketch_in(cstring) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_in' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_in(cstring) IS
'Input of ddsketch: text such as scale=5 count=3 sum=6 min=1 max=3 positive=-1:1,31:1,50:1; SQLSTATE 22P02 where it is none';

CREATE FUNCTION ddsketch_out(ddsketch) RETURNS cstring
AS 'MODULE_PATHNAME', 'ddsketch_out' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_out(ddsketch) IS
'Output of ddsketch: scale, count, sum, min, max, and index:count of the buckets below and above zero; ? is what is not known. It reads back as the same bytes';

CREATE FUNCTION ddsketch_recv(internal) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_recv' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_recv(internal) IS
'Binary input of ddsketch: the stored bytes, checked; SQLSTATE 22P03 where they are no sketch';

CREATE FUNCTION ddsketch_send(ddsketch) RETURNS bytea
AS 'MODULE_PATHNAME', 'ddsketch_send' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_send(ddsketch) IS
'Binary output of ddsketch: the stored bytes, the same on every machine';

CREATE TYPE ddsketch (
  INTERNALLENGTH = variable,
  INPUT = ddsketch_in,
  OUTPUT = ddsketch_out,
  RECEIVE = ddsketch_recv,
  SEND = ddsketch_send,
  STORAGE = extended
);
COMMENT ON TYPE ddsketch IS 'Counts of numbers in buckets of equal relative width: percentiles within a known relative error, whatever order the numbers came in';

-- aggregates

-- The state is a ddsketch, an expanded object while it grows: Citus splits an aggregate between nodes only where its state is no internal.

CREATE FUNCTION ddsketch_agg_trans(ddsketch, double precision) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_agg_trans' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_agg_trans(ddsketch, double precision) IS
'transition of ddsketch_agg(double precision); an error outside of an aggregate';

CREATE FUNCTION ddsketch_agg_trans(ddsketch, double precision, bigint) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_agg_trans_weight' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_agg_trans(ddsketch, double precision, bigint) IS
'transition of ddsketch_agg(double precision, bigint); an error outside of an aggregate';

CREATE FUNCTION ddsketch_agg_trans(ddsketch, double precision, bigint, integer) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_agg_trans_scale' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_agg_trans(ddsketch, double precision, bigint, integer) IS
'transition of ddsketch_agg(double precision, bigint, integer); an error outside of an aggregate';

CREATE FUNCTION ddsketch_combine(ddsketch, ddsketch) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_combine' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_combine(ddsketch, ddsketch) IS
'adds the second sketch to the state of an aggregate, the first; NULL is the state of no rows; an error outside of an aggregate';

CREATE FUNCTION ddsketch_final(ddsketch) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_final' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_final(ddsketch) IS
'Final function: the sketch; NULL where no row counts';

-- SSPACE: counts of a few hundred buckets in four bytes each.

CREATE AGGREGATE ddsketch_agg(double precision) (
  SFUNC = ddsketch_agg_trans, STYPE = ddsketch, SSPACE = 3072,
  FINALFUNC = ddsketch_final, COMBINEFUNC = ddsketch_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE ddsketch_agg(double precision) IS
'Sketch of numbers at scale 5, whose percentiles have a relative error of 1.08 %. NULLs are skipped; NULL where there is no other; NaN is an error, SQLSTATE 22023';

CREATE AGGREGATE ddsketch_agg(double precision, weight bigint) (
  SFUNC = ddsketch_agg_trans, STYPE = ddsketch, SSPACE = 3072,
  FINALFUNC = ddsketch_final, COMBINEFUNC = ddsketch_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE ddsketch_agg(double precision, weight bigint) IS
'Sketch of numbers that count weight times each, at scale 5. Rows with a NULL are skipped; a weight of 0 adds nothing, one below 0 is an error, SQLSTATE 22023';

CREATE AGGREGATE ddsketch_agg(double precision, weight bigint, scale integer) (
  SFUNC = ddsketch_agg_trans, STYPE = ddsketch, SSPACE = 3072,
  FINALFUNC = ddsketch_final, COMBINEFUNC = ddsketch_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE ddsketch_agg(double precision, weight bigint, scale integer) IS
'Sketch of numbers that count weight times each, at a scale from -4 to 10: the relative error is (g-1)/(g+1), g = 2^(2^-scale), 0.54 % at 6, 0.27 % at 7. A sketch with more than 4,096 buckets above or below zero goes to a smaller scale; of several scales in a group the smallest counts; NULL for a scale is an error, SQLSTATE 22004';

CREATE AGGREGATE ddsketch_union_agg(ddsketch) (
  SFUNC = ddsketch_combine, STYPE = ddsketch, SSPACE = 3072,
  FINALFUNC = ddsketch_final, COMBINEFUNC = ddsketch_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE ddsketch_union_agg(ddsketch) IS
'Sketch of all the numbers whose sketches these are, the same bytes in any order; NULLs are skipped, NULL where there is no other';

CREATE FUNCTION ddsketch_union(ddsketch, ddsketch) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_union' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_union(ddsketch, ddsketch) IS
'Sketch of the numbers of both: exactly the one that ddsketch_agg would make of all of them, at the smaller of the two scales';

CREATE OPERATOR || (FUNCTION = ddsketch_union, LEFTARG = ddsketch, RIGHTARG = ddsketch, COMMUTATOR = ||);
COMMENT ON OPERATOR || (ddsketch, ddsketch) IS 'union';

-- reading

CREATE FUNCTION ddsketch_percentile(ddsketch, p double precision) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_percentile' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_percentile(ddsketch, double precision) IS
'The number at share p of all, ascending, p from 0 to 1: that of percentile_disc, within the relative error of the scale. 0 gives the least, 1 the greatest number exactly, where they are known. NULL of no numbers; SQLSTATE 22023 for another p';

CREATE FUNCTION ddsketch_percentile(ddsketch, p double precision[]) RETURNS double precision[]
AS 'MODULE_PATHNAME', 'ddsketch_percentiles' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_percentile(ddsketch, double precision[]) IS
'The numbers at several shares of all, in their order; NULL for NULL';

CREATE FUNCTION ddsketch_rank(ddsketch, x double precision) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_rank' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_rank(ddsketch, double precision) IS
'The share of numbers that are at most x, 0 to 1: exact except for those in the bucket of x, which are taken to be spread evenly over it. NULL of no numbers; SQLSTATE 22023 for NaN';

CREATE FUNCTION ddsketch_fraction_between(ddsketch, a double precision, b double precision) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_fraction_between' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_fraction_between(ddsketch, double precision, double precision) IS
'The share of numbers above a, up to b: ddsketch_rank of b less that of a. NULL of no numbers; SQLSTATE 22023 where a is above b, and for NaN';

CREATE FUNCTION ddsketch_count(ddsketch) RETURNS bigint
AS 'MODULE_PATHNAME', 'ddsketch_count' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_count(ddsketch) IS
'How many numbers were added';

CREATE FUNCTION ddsketch_sum(ddsketch) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_sum' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_sum(ddsketch) IS
'Sum of the numbers, exact except for rounding to a double at the end. NULL of no numbers, and where a part came without';

CREATE FUNCTION ddsketch_avg(ddsketch) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_avg' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_avg(ddsketch) IS
'Mean of the numbers, exact except for rounding to a double at the end. NULL of no numbers, and where a part came without sum';

CREATE FUNCTION ddsketch_min(ddsketch) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_min' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_min(ddsketch) IS
'The least number, exactly. NULL of no numbers, and where a part came without';

CREATE FUNCTION ddsketch_max(ddsketch) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_max' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_max(ddsketch) IS
'The greatest number, exactly. NULL of no numbers, and where a part came without';

CREATE FUNCTION ddsketch_trimmed_avg(ddsketch, lo double precision, hi double precision) RETURNS double precision
AS 'MODULE_PATHNAME', 'ddsketch_trimmed_avg' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_trimmed_avg(ddsketch, double precision, double precision) IS
'Mean of the numbers between two shares of all, ascending, such as 0.05 and 0.95, within the relative error of the scale; that of all numbers, 0 to 1, is exact. NULL of no numbers; SQLSTATE 22023 where lo is not below hi, and for other shares';

CREATE FUNCTION ddsketch_scale(ddsketch) RETURNS integer
AS 'MODULE_PATHNAME', 'ddsketch_scale' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_scale(ddsketch) IS
'The scale: buckets end at powers of g = 2^(2^-scale), and a percentile is off by at most (g-1)/(g+1) of itself';

CREATE FUNCTION ddsketch_buckets(ddsketch, OUT lower double precision, OUT upper double precision, OUT count bigint) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ddsketch_buckets' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 300;
COMMENT ON FUNCTION ddsketch_buckets(ddsketch) IS
'The buckets that have numbers, ascending, for histograms and heat maps: numbers above lower, up to upper; below zero those from lower on, below upper; zeros have a bucket of their own, 0 to 0';

-- what others have counted

CREATE FUNCTION ddsketch_from_otel(scale integer, zero_count bigint, positive_offset integer, positive_counts bigint[], negative_offset integer, negative_counts bigint[], sum double precision DEFAULT NULL, min double precision DEFAULT NULL, max double precision DEFAULT NULL) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_from_otel' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_from_otel(integer, bigint, integer, bigint[], integer, bigint[], double precision, double precision, double precision) IS
'Sketch of an exponential histogram of OpenTelemetry, scale -4 to 20; scales above 10 are folded to 10, exactly. What zero_threshold has put among the zeros counts as 0. A half without values may be NULL; NULL for sum, min or max is not known, nor is a sum that is not finite. SQLSTATE 22023 for what is no such histogram';

CREATE FUNCTION ddsketch_from_prometheus(schema integer, zero_count bigint, positive_span_offsets integer[], positive_span_lengths integer[], positive_deltas bigint[], negative_span_offsets integer[] DEFAULT NULL, negative_span_lengths integer[] DEFAULT NULL, negative_deltas bigint[] DEFAULT NULL, sum double precision DEFAULT NULL) RETURNS ddsketch
AS 'MODULE_PATHNAME', 'ddsketch_from_prometheus' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_from_prometheus(integer, bigint, integer[], integer[], bigint[], integer[], integer[], bigint[], double precision) IS
'Sketch of a native histogram of Prometheus as its client libraries expose it, schema -4 to 8: spans of buckets, and what each count has more than the one before. Custom buckets (schema -53) are refused. What the zero threshold has put among the zeros counts as 0. min and max are not known, nor is a sum that is NULL or not finite. Client libraries round limits to the nearest double where the rest of the world rounds down: a number that is such a limit may lie one bucket off. SQLSTATE 22023 for what is no such histogram';

-- in one step

CREATE FUNCTION approx_percentile_trans(bytea, double precision, double precision) RETURNS bytea
AS 'MODULE_PATHNAME', 'approx_percentile_trans' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION approx_percentile_trans(bytea, double precision, double precision) IS
'transition of approx_percentile; an error outside of an aggregate';

CREATE FUNCTION approx_percentile_combine(bytea, bytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'approx_percentile_combine' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION approx_percentile_combine(bytea, bytea) IS
'combines two states of approx_percentile; an error outside of an aggregate';

CREATE FUNCTION approx_percentile_final(bytea) RETURNS double precision
AS 'MODULE_PATHNAME', 'approx_percentile_final' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION approx_percentile_final(bytea) IS
'Final function of approx_percentile';

CREATE AGGREGATE approx_percentile(double precision, p double precision) (
  SFUNC = approx_percentile_trans, STYPE = bytea, SSPACE = 3072,
  FINALFUNC = approx_percentile_final, COMBINEFUNC = approx_percentile_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE approx_percentile(double precision, p double precision) IS
'The number at share p of all, ascending, within 1.08 % of itself: what ddsketch_percentile(ddsketch_agg(x), p) gives, in one step. NULLs are skipped; NULL where there is no other; SQLSTATE 22023 where p is not from 0 to 1 or differs within a group, 22004 where it is NULL';

-- operator classes: GROUP BY, DISTINCT, ORDER BY, joins, unique and hash indexes

CREATE FUNCTION ddsketch_eq(ddsketch, ddsketch) RETURNS boolean
AS 'MODULE_PATHNAME', 'ddsketch_eq' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_eq(ddsketch, ddsketch) IS
'Compares the stored bytes of two sketches: whether they are equal';

CREATE FUNCTION ddsketch_ne(ddsketch, ddsketch) RETURNS boolean
AS 'MODULE_PATHNAME', 'ddsketch_ne' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_ne(ddsketch, ddsketch) IS
'Compares the stored bytes of two sketches: whether they differ';

CREATE FUNCTION ddsketch_lt(ddsketch, ddsketch) RETURNS boolean
AS 'MODULE_PATHNAME', 'ddsketch_lt' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_lt(ddsketch, ddsketch) IS
'Compares the stored bytes of two sketches: whether the first is less';

CREATE FUNCTION ddsketch_le(ddsketch, ddsketch) RETURNS boolean
AS 'MODULE_PATHNAME', 'ddsketch_le' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_le(ddsketch, ddsketch) IS
'Compares the stored bytes of two sketches: whether the first is less or they are equal';

CREATE FUNCTION ddsketch_ge(ddsketch, ddsketch) RETURNS boolean
AS 'MODULE_PATHNAME', 'ddsketch_ge' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_ge(ddsketch, ddsketch) IS
'Compares the stored bytes of two sketches: whether the first is greater or they are equal';

CREATE FUNCTION ddsketch_gt(ddsketch, ddsketch) RETURNS boolean
AS 'MODULE_PATHNAME', 'ddsketch_gt' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_gt(ddsketch, ddsketch) IS
'Compares the stored bytes of two sketches: whether the first is greater';

CREATE FUNCTION ddsketch_cmp(ddsketch, ddsketch) RETURNS integer
AS 'MODULE_PATHNAME', 'ddsketch_cmp' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_cmp(ddsketch, ddsketch) IS
'Compares the stored bytes of two sketches: below 0, 0 or above 0';

CREATE FUNCTION ddsketch_hash(ddsketch) RETURNS integer
AS 'MODULE_PATHNAME', 'ddsketch_hash' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_hash(ddsketch) IS
'Hash for hash tables and hash indexes';

CREATE FUNCTION ddsketch_hash_extended(ddsketch, bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'ddsketch_hash_extended' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ddsketch_hash_extended(ddsketch, bigint) IS
'Hash with a seed for hash partitions';

CREATE OPERATOR = (
  FUNCTION = ddsketch_eq, LEFTARG = ddsketch, RIGHTARG = ddsketch,
  COMMUTATOR = =, NEGATOR = <>,
  RESTRICT = eqsel, JOIN = eqjoinsel,
  HASHES, MERGES
);
COMMENT ON OPERATOR = (ddsketch, ddsketch) IS 'equal: of the same scale, and of the same numbers as far as buckets, sum, min and max tell';

CREATE OPERATOR <> (
  FUNCTION = ddsketch_ne, LEFTARG = ddsketch, RIGHTARG = ddsketch,
  COMMUTATOR = <>, NEGATOR = =,
  RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (ddsketch, ddsketch) IS 'not equal';

CREATE OPERATOR < (
  FUNCTION = ddsketch_lt, LEFTARG = ddsketch, RIGHTARG = ddsketch,
  COMMUTATOR = >, NEGATOR = >=,
  RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR < (ddsketch, ddsketch) IS 'less than';

CREATE OPERATOR <= (
  FUNCTION = ddsketch_le, LEFTARG = ddsketch, RIGHTARG = ddsketch,
  COMMUTATOR = >=, NEGATOR = >,
  RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR <= (ddsketch, ddsketch) IS 'less than or equal';

CREATE OPERATOR >= (
  FUNCTION = ddsketch_ge, LEFTARG = ddsketch, RIGHTARG = ddsketch,
  COMMUTATOR = <=, NEGATOR = <,
  RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR >= (ddsketch, ddsketch) IS 'greater than or equal';

CREATE OPERATOR > (
  FUNCTION = ddsketch_gt, LEFTARG = ddsketch, RIGHTARG = ddsketch,
  COMMUTATOR = <, NEGATOR = <=,
  RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR > (ddsketch, ddsketch) IS 'greater than';

CREATE OPERATOR CLASS ddsketch_ops DEFAULT FOR TYPE ddsketch USING btree AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
  FUNCTION 1 ddsketch_cmp(ddsketch, ddsketch);
COMMENT ON OPERATOR CLASS ddsketch_ops USING btree IS 'Order of stored bytes';
COMMENT ON OPERATOR FAMILY ddsketch_ops USING btree IS 'Order of stored bytes';

CREATE OPERATOR CLASS ddsketch_ops DEFAULT FOR TYPE ddsketch USING hash AS
  OPERATOR 1 =,
  FUNCTION 1 ddsketch_hash(ddsketch),
  FUNCTION 2 ddsketch_hash_extended(ddsketch, bigint);
COMMENT ON OPERATOR CLASS ddsketch_ops USING hash IS 'Equality of stored bytes';
COMMENT ON OPERATOR FAMILY ddsketch_ops USING hash IS 'Equality of stored bytes';
