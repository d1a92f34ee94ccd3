\echo Use "CREATE EXTENSION hll VERSION '2.10'" to load this file. \quit
-- The objects of version 2.10, for databases that begin there.

-- types

CREATE TYPE hll;

CREATE FUNCTION hll_in(cstring, oid, integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_in' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_out(hll) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_out' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_recv(internal) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_recv' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_send(hll) RETURNS bytea
AS 'MODULE_PATHNAME', 'hll_send' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_typmod_in(cstring[]) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_typmod_in' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_typmod_out(integer) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_typmod_out' LANGUAGE c IMMUTABLE STRICT;

CREATE TYPE hll (
  INTERNALLENGTH = variable,
  INPUT = hll_in,
  OUTPUT = hll_out,
  RECEIVE = hll_recv,
  SEND = hll_send,
  TYPMOD_IN = hll_typmod_in,
  TYPMOD_OUT = hll_typmod_out,
  STORAGE = external
);

CREATE TYPE hll_hashval;

CREATE FUNCTION hll_hashval_in(cstring, oid, integer) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hashval_in' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hashval_out(hll_hashval) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_hashval_out' LANGUAGE c IMMUTABLE STRICT;

CREATE TYPE hll_hashval (
  INTERNALLENGTH = 8,
  PASSEDBYVALUE,
  ALIGNMENT = double,
  INPUT = hll_hashval_in,
  OUTPUT = hll_hashval_out
);

-- casts

CREATE FUNCTION hll(hll, integer, boolean) RETURNS hll
AS 'MODULE_PATHNAME', 'hll' LANGUAGE c IMMUTABLE STRICT;

CREATE CAST (hll AS hll) WITH FUNCTION hll(hll, integer, boolean) AS IMPLICIT;

CREATE CAST (bytea AS hll) WITHOUT FUNCTION;

CREATE FUNCTION hll_hashval(bigint) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hashval' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hashval_int4(integer) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hashval_int4' LANGUAGE c IMMUTABLE STRICT;

CREATE CAST (bigint AS hll_hashval) WITHOUT FUNCTION;

CREATE CAST (integer AS hll_hashval) WITH FUNCTION hll_hashval_int4(integer);

-- comparison

CREATE FUNCTION hll_eq(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_eq' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_ne(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_ne' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hashval_eq(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_eq' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hashval_ne(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_ne' LANGUAGE c IMMUTABLE STRICT;

CREATE OPERATOR = (
  FUNCTION = hll_eq, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = =, NEGATOR = <>,
  RESTRICT = eqsel, JOIN = eqjoinsel, MERGES
);

CREATE OPERATOR <> (
  FUNCTION = hll_ne, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = <>, NEGATOR = =,
  RESTRICT = neqsel, JOIN = neqjoinsel
);

CREATE OPERATOR = (
  FUNCTION = hll_hashval_eq, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = =, NEGATOR = <>,
  RESTRICT = eqsel, JOIN = eqjoinsel, MERGES
);

CREATE OPERATOR <> (
  FUNCTION = hll_hashval_ne, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = <>, NEGATOR = =,
  RESTRICT = neqsel, JOIN = neqjoinsel
);

-- counting, uniting, adding

CREATE FUNCTION hll_cardinality(hll) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_cardinality' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_union(hll, hll) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_union' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_add(hll, hll_hashval) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_add' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_add_rev(hll_hashval, hll) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_add_rev' LANGUAGE c IMMUTABLE STRICT;

CREATE OPERATOR || (FUNCTION = hll_union, LEFTARG = hll, RIGHTARG = hll);

CREATE OPERATOR || (FUNCTION = hll_add, LEFTARG = hll, RIGHTARG = hll_hashval);

CREATE OPERATOR || (FUNCTION = hll_add_rev, LEFTARG = hll_hashval, RIGHTARG = hll);

CREATE OPERATOR # (FUNCTION = hll_cardinality, RIGHTARG = hll);

-- making and inspecting sketches

CREATE FUNCTION hll_empty() RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty0' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_empty(integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty1' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_empty(integer, integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty2' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_empty(integer, integer, bigint) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty3' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_empty(integer, integer, bigint, integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty4' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_print(hll) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_print' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_schema_version(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_schema_version' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_type(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_type' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_log2m(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_log2m' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_regwidth(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_regwidth' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_expthresh(hll, OUT specified bigint, OUT effective bigint) RETURNS record
AS 'MODULE_PATHNAME', 'hll_expthresh' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_sparseon(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_sparseon' LANGUAGE c IMMUTABLE STRICT;

-- session defaults: they outlive ROLLBACK, and parallel workers get them

CREATE FUNCTION hll_set_output_version(integer) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_set_output_version' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_set_max_sparse(integer) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_set_max_sparse' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_set_defaults(i_log2m integer, i_regwidth integer, i_expthresh bigint, i_sparseon integer, OUT o_log2m integer, OUT o_regwidth integer, OUT o_expthresh bigint, OUT o_sparseon integer) RETURNS record
AS 'MODULE_PATHNAME', 'hll_set_defaults' LANGUAGE c IMMUTABLE STRICT;

-- hashing: MurmurHash3 (x64, 128 bits, the first half)

CREATE FUNCTION hll_hash_boolean(boolean, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_1byte' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hash_smallint(smallint, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_2byte' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hash_integer(integer, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_4byte' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hash_bigint(bigint, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_8byte' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hash_bytea(bytea, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_varlena' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hash_text(text, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_varlena' LANGUAGE c IMMUTABLE STRICT;

CREATE FUNCTION hll_hash_any(anyelement, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_any' LANGUAGE c IMMUTABLE STRICT;

-- aggregates

CREATE FUNCTION hll_add_trans0(internal, hll_hashval) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans0' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_add_trans1(internal, hll_hashval, integer) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans1' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_add_trans2(internal, hll_hashval, integer, integer) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans2' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_add_trans3(internal, hll_hashval, integer, integer, bigint) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans3' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_add_trans4(internal, hll_hashval, integer, integer, bigint, integer) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans4' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_union_trans(internal, hll) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_union_trans' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_pack(internal) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_pack' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_card_unpacked(internal) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_card_unpacked' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_floor_card_unpacked(internal) RETURNS bigint
AS 'MODULE_PATHNAME', 'hll_floor_card_unpacked' LANGUAGE c VOLATILE;

CREATE FUNCTION hll_ceil_card_unpacked(internal) RETURNS bigint
AS 'MODULE_PATHNAME', 'hll_ceil_card_unpacked' LANGUAGE c VOLATILE;

CREATE AGGREGATE hll_union_agg(hll) (
  SFUNC = hll_union_trans, STYPE = internal, FINALFUNC = hll_pack
);

CREATE AGGREGATE hll_add_agg(hll_hashval) (
  SFUNC = hll_add_trans0, STYPE = internal, FINALFUNC = hll_pack
);

CREATE AGGREGATE hll_add_agg(hll_hashval, integer) (
  SFUNC = hll_add_trans1, STYPE = internal, FINALFUNC = hll_pack
);

CREATE AGGREGATE hll_add_agg(hll_hashval, integer, integer) (
  SFUNC = hll_add_trans2, STYPE = internal, FINALFUNC = hll_pack
);

CREATE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint) (
  SFUNC = hll_add_trans3, STYPE = internal, FINALFUNC = hll_pack
);

CREATE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint, integer) (
  SFUNC = hll_add_trans4, STYPE = internal, FINALFUNC = hll_pack
);
