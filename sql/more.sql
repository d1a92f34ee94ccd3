-- Beyond postgresql-hll: what an upgrade from it adds. New names only.

-- binary input and output of hashes

CREATE FUNCTION hll_hashval_recv(internal) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hashval_recv' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_recv(internal) IS 'Binary input of hll_hashval: a bigint';

CREATE FUNCTION hll_hashval_send(hll_hashval) RETURNS bytea
AS 'MODULE_PATHNAME', 'hll_hashval_send' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_send(hll_hashval) IS 'Binary output of hll_hashval: a bigint';

ALTER TYPE hll_hashval SET (RECEIVE = hll_hashval_recv, SEND = hll_hashval_send);

CREATE CAST (hll AS bytea) WITHOUT FUNCTION;
COMMENT ON CAST (hll AS bytea) IS 'The stored bytes';

-- operator classes: GROUP BY, DISTINCT, ORDER BY, joins, unique and hash indexes

CREATE FUNCTION hll_lt(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_lt' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_lt(hll, hll) IS 'Compares the stored bytes of two sketches: whether the first is less';

CREATE FUNCTION hll_le(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_le' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_le(hll, hll) IS 'Compares the stored bytes of two sketches: whether the first is less or they are equal';

CREATE FUNCTION hll_ge(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_ge' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_ge(hll, hll) IS 'Compares the stored bytes of two sketches: whether the first is greater or they are equal';

CREATE FUNCTION hll_gt(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_gt' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_gt(hll, hll) IS 'Compares the stored bytes of two sketches: whether the first is greater';

CREATE FUNCTION hll_cmp(hll, hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_cmp' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_cmp(hll, hll) IS 'Compares the stored bytes of two sketches: below 0, 0 or above 0';

CREATE FUNCTION hll_sketch_hash(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_sketch_hash' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_sketch_hash(hll) IS 'Hash for hash tables and hash indexes; no element hash, never add it to a sketch';

CREATE FUNCTION hll_sketch_hash_extended(hll, bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'hll_sketch_hash_extended' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_sketch_hash_extended(hll, bigint) IS 'Hash with a seed for hash partitions; no element hash, never add it to a sketch';

CREATE OPERATOR < (
  FUNCTION = hll_lt, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = >, NEGATOR = >=,
  RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR < (hll, hll) IS 'less than';

CREATE OPERATOR <= (
  FUNCTION = hll_le, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = >=, NEGATOR = >,
  RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR <= (hll, hll) IS 'less than or equal';

CREATE OPERATOR >= (
  FUNCTION = hll_ge, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = <=, NEGATOR = <,
  RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR >= (hll, hll) IS 'greater than or equal';

CREATE OPERATOR > (
  FUNCTION = hll_gt, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = <, NEGATOR = <=,
  RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR > (hll, hll) IS 'greater than';

CREATE OPERATOR CLASS hll_ops DEFAULT FOR TYPE hll USING btree AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
  FUNCTION 1 hll_cmp(hll, hll);
COMMENT ON OPERATOR CLASS hll_ops USING btree IS 'Order of stored bytes';
COMMENT ON OPERATOR FAMILY hll_ops USING btree IS 'Order of stored bytes';

CREATE OPERATOR CLASS hll_ops DEFAULT FOR TYPE hll USING hash AS
  OPERATOR 1 =,
  FUNCTION 1 hll_sketch_hash(hll),
  FUNCTION 2 hll_sketch_hash_extended(hll, bigint);
COMMENT ON OPERATOR CLASS hll_ops USING hash IS 'Equality of stored bytes';
COMMENT ON OPERATOR FAMILY hll_ops USING hash IS 'Equality of stored bytes';

CREATE FUNCTION hll_hashval_lt(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_lt' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_lt(hll_hashval, hll_hashval) IS 'Compares two hashes as numbers: whether the first is less';

CREATE FUNCTION hll_hashval_le(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_le' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_le(hll_hashval, hll_hashval) IS 'Compares two hashes as numbers: whether the first is less or they are equal';

CREATE FUNCTION hll_hashval_ge(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_ge' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_ge(hll_hashval, hll_hashval) IS 'Compares two hashes as numbers: whether the first is greater or they are equal';

CREATE FUNCTION hll_hashval_gt(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_gt' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_gt(hll_hashval, hll_hashval) IS 'Compares two hashes as numbers: whether the first is greater';

CREATE FUNCTION hll_hashval_cmp(hll_hashval, hll_hashval) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_hashval_cmp' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_cmp(hll_hashval, hll_hashval) IS 'Compares two hashes as numbers: below 0, 0 or above 0';

CREATE FUNCTION hll_hashval_hash(hll_hashval) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_hashval_hash' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_hash(hll_hashval) IS 'Hash for hash tables and hash indexes; no element hash, never add it to a sketch';

CREATE FUNCTION hll_hashval_hash_extended(hll_hashval, bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'hll_hashval_hash_extended' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_hash_extended(hll_hashval, bigint) IS 'Hash with a seed for hash partitions; no element hash, never add it to a sketch';

CREATE OPERATOR < (
  FUNCTION = hll_hashval_lt, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = >, NEGATOR = >=,
  RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR < (hll_hashval, hll_hashval) IS 'less than';

CREATE OPERATOR <= (
  FUNCTION = hll_hashval_le, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = >=, NEGATOR = >,
  RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR <= (hll_hashval, hll_hashval) IS 'less than or equal';

CREATE OPERATOR >= (
  FUNCTION = hll_hashval_ge, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = <=, NEGATOR = <,
  RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR >= (hll_hashval, hll_hashval) IS 'greater than or equal';

CREATE OPERATOR > (
  FUNCTION = hll_hashval_gt, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = <, NEGATOR = <=,
  RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR > (hll_hashval, hll_hashval) IS 'greater than';

CREATE OPERATOR CLASS hll_hashval_ops DEFAULT FOR TYPE hll_hashval USING btree AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
  FUNCTION 1 hll_hashval_cmp(hll_hashval, hll_hashval);
COMMENT ON OPERATOR CLASS hll_hashval_ops USING btree IS 'Order of numbers';
COMMENT ON OPERATOR FAMILY hll_hashval_ops USING btree IS 'Order of numbers';

CREATE OPERATOR CLASS hll_hashval_ops DEFAULT FOR TYPE hll_hashval USING hash AS
  OPERATOR 1 =,
  FUNCTION 1 hll_hashval_hash(hll_hashval),
  FUNCTION 2 hll_hashval_hash_extended(hll_hashval, bigint);
COMMENT ON OPERATOR CLASS hll_hashval_ops USING hash IS 'Equality of numbers';
COMMENT ON OPERATOR FAMILY hll_hashval_ops USING hash IS 'Equality of numbers';

-- Hash joins need the mark HASHES on "=". The operators are older than it: ALTER OPERATOR can set it from
-- PostgreSQL 17 on only, and dropping them would take views and indexes along.
UPDATE pg_catalog.pg_operator SET oprcanhash = true
 WHERE oid OPERATOR(pg_catalog.=) ANY (ARRAY['=(hll, hll)'::pg_catalog.regoperator::pg_catalog.oid, '=(hll_hashval, hll_hashval)'::pg_catalog.regoperator::pg_catalog.oid]);

-- sets

CREATE FUNCTION hll_union_cardinality(hll, hll) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_union_cardinality' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_union_cardinality(hll, hll) IS 'Estimated number of distinct elements of two sketches together, by joint maximum likelihood: more exact than #(a || b). NULL where one is undefined; an error (22000) where their parameters differ, see hll_fold';

CREATE FUNCTION hll_intersection_cardinality(hll, hll) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_intersection_cardinality' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_intersection_cardinality(hll, hll) IS 'Estimated number of distinct elements that are in both sketches, by joint maximum likelihood; exact where both are explicit, never negative. NULL where one is undefined; an error (22000) where their parameters differ, see hll_fold';

CREATE FUNCTION hll_difference_cardinality(hll, hll) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_difference_cardinality' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_difference_cardinality(hll, hll) IS 'Estimated number of distinct elements of the first sketch that the second lacks, by joint maximum likelihood: more exact than #(a || b) - #b; exact where both are explicit, never negative. NULL where one is undefined; an error (22000) where their parameters differ, see hll_fold';

CREATE FUNCTION hll_jaccard(hll, hll) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_jaccard' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_jaccard(hll, hll) IS 'Similarity of two sketches, elements of both divided by elements of either, 0 to 1; two empty ones are alike (1). NULL where one is undefined; an error (22000) where their parameters differ, see hll_fold';

CREATE FUNCTION hll_fold(hll, log2m integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_fold' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_fold(hll, integer) IS 'The sketch as it would be with 2^log2m registers, at most as many as it has, so that sketches of different log2m can be united; an error (22023) for more';

CREATE FUNCTION hll_add_array(hll, hll_hashval[]) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_add_array' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_add_array(hll, hll_hashval[]) IS 'Adds all hashed elements of an array; NULL elements are skipped';

CREATE FUNCTION hll_info(hll, OUT type text, OUT log2m integer, OUT regwidth integer, OUT filled integer, OUT bytes integer, OUT estimate double precision, OUT standard_error double precision) RETURNS record
AS 'MODULE_PATHNAME', 'hll_info' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_info(hll) IS 'What a sketch is: its stored form, parameters, number of hashes or filled registers, size in bytes, estimate, and the relative standard error to expect of it (0.02 is 2 %; 0 where it is exact). Estimate and error are NULL where it is undefined';

-- hashing

CREATE FUNCTION hll_hash_uuid(uuid, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_uuid' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_uuid(uuid, integer) IS 'Hashes a value of type uuid with a seed, as hll_hash_any does';

-- distinct values in one step

CREATE FUNCTION approx_count_distinct_trans(internal, anyelement) RETURNS internal
AS 'MODULE_PATHNAME', 'approx_count_distinct_trans' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_trans(internal, anyelement) IS 'Transition function of approx_count_distinct';

CREATE FUNCTION approx_count_distinct_trans(internal, anyelement, integer) RETURNS internal
AS 'MODULE_PATHNAME', 'approx_count_distinct_trans' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_trans(internal, anyelement, integer) IS 'Transition function of approx_count_distinct';

CREATE FUNCTION approx_count_distinct_combine(internal, internal) RETURNS internal
AS 'MODULE_PATHNAME', 'approx_count_distinct_combine' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_combine(internal, internal) IS 'Combines two states of approx_count_distinct';

CREATE FUNCTION approx_count_distinct_serialize(internal) RETURNS bytea
AS 'MODULE_PATHNAME', 'approx_count_distinct_serialize' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_serialize(internal) IS 'Writes the state of approx_count_distinct';

CREATE FUNCTION approx_count_distinct_deserialize(bytea, internal) RETURNS internal
AS 'MODULE_PATHNAME', 'approx_count_distinct_deserialize' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_deserialize(bytea, internal) IS 'Reads the state of approx_count_distinct';

CREATE FUNCTION approx_count_distinct_final(internal) RETURNS bigint
AS 'MODULE_PATHNAME', 'approx_count_distinct_final' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_final(internal) IS 'Final function: the estimate';

CREATE AGGREGATE approx_count_distinct(anyelement) (
  SFUNC = approx_count_distinct_trans, STYPE = internal, SSPACE = 2600,
  FINALFUNC = approx_count_distinct_final,
  COMBINEFUNC = approx_count_distinct_combine,
  SERIALFUNC = approx_count_distinct_serialize, DESERIALFUNC = approx_count_distinct_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE approx_count_distinct(anyelement) IS 'About how many distinct values there are, as count(DISTINCT value) counts them: NULLs are skipped, no rows give 0. Exact up to 192 values, then with a standard error of 2.3 %; an error (42883) for types without a hash function';

CREATE AGGREGATE approx_count_distinct(anyelement, integer) (
  SFUNC = approx_count_distinct_trans, STYPE = internal, SSPACE = 2600,
  FINALFUNC = approx_count_distinct_final,
  COMBINEFUNC = approx_count_distinct_combine,
  SERIALFUNC = approx_count_distinct_serialize, DESERIALFUNC = approx_count_distinct_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE approx_count_distinct(anyelement, integer) IS 'About how many distinct values there are: value, log2m (0 to 17). 2^log2m bytes a group; the standard error is 1.04 / sqrt(2^log2m), 0.81 % at 14';

-- Two parts, into which Citus splits it: src/pg/plan/split.rs puts them in its place.

CREATE FUNCTION approx_count_distinct_hash(anyelement) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'approx_count_distinct_hash' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_hash(anyelement) IS 'What approx_count_distinct counts: a hash of a value of any type, equal where the values are. Not that of hll_hash_any: no sketch that is stored is to be made of it. NULL gives NULL; an error (42883) for types without a hash function';

CREATE FUNCTION approx_count_distinct_estimate(hll) RETURNS bigint
AS 'MODULE_PATHNAME', 'approx_count_distinct_estimate' LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION approx_count_distinct_estimate(hll) IS 'The number that approx_count_distinct gives, from a sketch of what approx_count_distinct_hash gives; 0 for NULL, the sketch of no rows';
