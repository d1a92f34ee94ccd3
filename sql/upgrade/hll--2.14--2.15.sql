\echo Use "ALTER EXTENSION hll UPDATE TO '2.15'" to load this file. \quit
-- Aggregation in parallel.

CREATE FUNCTION hll_union_internal(internal, internal) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_union_internal' LANGUAGE c VOLATILE PARALLEL SAFE;

CREATE FUNCTION hll_serialize(internal) RETURNS bytea
AS 'MODULE_PATHNAME', 'hll_serialize' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION hll_deserialize(bytea, internal) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_deserialize' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

ALTER FUNCTION hll_in(cstring, oid, integer) PARALLEL SAFE;
ALTER FUNCTION hll_out(hll) PARALLEL SAFE;
ALTER FUNCTION hll_recv(internal) PARALLEL SAFE;
ALTER FUNCTION hll_send(hll) PARALLEL SAFE;
ALTER FUNCTION hll_typmod_in(cstring[]) PARALLEL SAFE;
ALTER FUNCTION hll_typmod_out(integer) PARALLEL SAFE;
ALTER FUNCTION hll_hashval_in(cstring, oid, integer) PARALLEL SAFE;
ALTER FUNCTION hll_hashval_out(hll_hashval) PARALLEL SAFE;
ALTER FUNCTION hll(hll, integer, boolean) PARALLEL SAFE;
ALTER FUNCTION hll_hashval(bigint) PARALLEL SAFE;
ALTER FUNCTION hll_hashval_int4(integer) PARALLEL SAFE;
ALTER FUNCTION hll_eq(hll, hll) PARALLEL SAFE;
ALTER FUNCTION hll_ne(hll, hll) PARALLEL SAFE;
ALTER FUNCTION hll_hashval_eq(hll_hashval, hll_hashval) PARALLEL SAFE;
ALTER FUNCTION hll_hashval_ne(hll_hashval, hll_hashval) PARALLEL SAFE;
ALTER FUNCTION hll_cardinality(hll) PARALLEL SAFE;
ALTER FUNCTION hll_union(hll, hll) PARALLEL SAFE;
ALTER FUNCTION hll_add(hll, hll_hashval) PARALLEL SAFE;
ALTER FUNCTION hll_add_rev(hll_hashval, hll) PARALLEL SAFE;
ALTER FUNCTION hll_empty() PARALLEL SAFE;
ALTER FUNCTION hll_empty(integer) PARALLEL SAFE;
ALTER FUNCTION hll_empty(integer, integer) PARALLEL SAFE;
ALTER FUNCTION hll_empty(integer, integer, bigint) PARALLEL SAFE;
ALTER FUNCTION hll_empty(integer, integer, bigint, integer) PARALLEL SAFE;
ALTER FUNCTION hll_print(hll) PARALLEL SAFE;
ALTER FUNCTION hll_schema_version(hll) PARALLEL SAFE;
ALTER FUNCTION hll_type(hll) PARALLEL SAFE;
ALTER FUNCTION hll_log2m(hll) PARALLEL SAFE;
ALTER FUNCTION hll_regwidth(hll) PARALLEL SAFE;
ALTER FUNCTION hll_expthresh(hll) PARALLEL SAFE;
ALTER FUNCTION hll_sparseon(hll) PARALLEL SAFE;
ALTER FUNCTION hll_hash_boolean(boolean, integer) PARALLEL SAFE;
ALTER FUNCTION hll_hash_smallint(smallint, integer) PARALLEL SAFE;
ALTER FUNCTION hll_hash_integer(integer, integer) PARALLEL SAFE;
ALTER FUNCTION hll_hash_bigint(bigint, integer) PARALLEL SAFE;
ALTER FUNCTION hll_hash_bytea(bytea, integer) PARALLEL SAFE;
ALTER FUNCTION hll_hash_text(text, integer) PARALLEL SAFE;
ALTER FUNCTION hll_hash_any(anyelement, integer) PARALLEL SAFE;
ALTER FUNCTION hll_add_trans0(internal, hll_hashval) PARALLEL SAFE;
ALTER FUNCTION hll_add_trans1(internal, hll_hashval, integer) PARALLEL SAFE;
ALTER FUNCTION hll_add_trans2(internal, hll_hashval, integer, integer) PARALLEL SAFE;
ALTER FUNCTION hll_add_trans3(internal, hll_hashval, integer, integer, bigint) PARALLEL SAFE;
ALTER FUNCTION hll_add_trans4(internal, hll_hashval, integer, integer, bigint, integer) PARALLEL SAFE;
ALTER FUNCTION hll_union_trans(internal, hll) PARALLEL SAFE;
ALTER FUNCTION hll_pack(internal) PARALLEL SAFE;
ALTER FUNCTION hll_card_unpacked(internal) PARALLEL SAFE;
ALTER FUNCTION hll_floor_card_unpacked(internal) PARALLEL SAFE;
ALTER FUNCTION hll_ceil_card_unpacked(internal) PARALLEL SAFE;

CREATE OR REPLACE AGGREGATE hll_union_agg(hll) (
  SFUNC = hll_union_trans, STYPE = internal, FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval) (
  SFUNC = hll_add_trans0, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer) (
  SFUNC = hll_add_trans1, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer) (
  SFUNC = hll_add_trans2, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint) (
  SFUNC = hll_add_trans3, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint, integer) (
  SFUNC = hll_add_trans4, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);
