-- The type hll: HyperLogLog sketches in the storage format, and under the names, of postgresql-hll.

-- types

CREATE TYPE hll;

CREATE FUNCTION hll_in(cstring, oid, integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_in' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_in(cstring, oid, integer) IS 'Input of hll: bytea text (hex or escape) that is checked to be a sketch';

CREATE FUNCTION hll_out(hll) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_out' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_out(hll) IS 'Output of hll: bytea text, as bytea_output says';

CREATE FUNCTION hll_recv(internal) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_recv' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_recv(internal) IS 'Binary input of hll: the stored bytes, checked';

CREATE FUNCTION hll_send(hll) RETURNS bytea
AS 'MODULE_PATHNAME', 'hll_send' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_send(hll) IS 'Binary output of hll: the stored bytes';

CREATE FUNCTION hll_typmod_in(cstring[]) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_typmod_in' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_typmod_in(cstring[]) IS 'Reads hll(log2m, regwidth, expthresh, sparseon); what is left out has the session defaults';

CREATE FUNCTION hll_typmod_out(integer) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_typmod_out' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_typmod_out(integer) IS 'Writes the type modifier of hll';

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
COMMENT ON TYPE hll IS 'HyperLogLog sketch: hll(log2m = 11, regwidth = 5, expthresh = -1, sparseon = 1)';

CREATE TYPE hll_hashval;

CREATE FUNCTION hll_hashval_in(cstring, oid, integer) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hashval_in' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_in(cstring, oid, integer) IS 'Input of hll_hashval: a bigint';

CREATE FUNCTION hll_hashval_out(hll_hashval) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_hashval_out' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_out(hll_hashval) IS 'Output of hll_hashval: a bigint';

CREATE TYPE hll_hashval (
  INTERNALLENGTH = 8,
  PASSEDBYVALUE,
  ALIGNMENT = double,
  INPUT = hll_hashval_in,
  OUTPUT = hll_hashval_out
);
COMMENT ON TYPE hll_hashval IS '64-bit hash of an element: what is added to a sketch';

-- casts

CREATE FUNCTION hll(hll, integer, boolean) RETURNS hll
AS 'MODULE_PATHNAME', 'hll' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll(hll, integer, boolean) IS 'Checks a sketch against the type modifier of its column and returns it unchanged';

CREATE CAST (hll AS hll) WITH FUNCTION hll(hll, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (hll AS hll) IS 'Checks the parameters of a sketch against those of the column';

CREATE CAST (bytea AS hll) WITHOUT FUNCTION;
COMMENT ON CAST (bytea AS hll) IS 'Takes the bytes as they are; whatever uses the sketch checks them';

CREATE FUNCTION hll_hashval(bigint) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hashval' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval(bigint) IS 'Takes a bigint that is a hash already';

CREATE FUNCTION hll_hashval_int4(integer) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hashval_int4' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_int4(integer) IS 'Takes an integer that is a hash already';

CREATE CAST (bigint AS hll_hashval) WITHOUT FUNCTION;
COMMENT ON CAST (bigint AS hll_hashval) IS 'Takes a bigint that is a hash already';

CREATE CAST (integer AS hll_hashval) WITH FUNCTION hll_hashval_int4(integer);
COMMENT ON CAST (integer AS hll_hashval) IS 'Takes an integer that is a hash already';

-- comparison

CREATE FUNCTION hll_eq(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_eq' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_eq(hll, hll) IS 'Whether the stored bytes are equal';

CREATE FUNCTION hll_ne(hll, hll) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_ne' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_ne(hll, hll) IS 'Whether the stored bytes differ';

CREATE FUNCTION hll_hashval_eq(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_eq' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_eq(hll_hashval, hll_hashval) IS 'Whether two hashes are equal';

CREATE FUNCTION hll_hashval_ne(hll_hashval, hll_hashval) RETURNS boolean
AS 'MODULE_PATHNAME', 'hll_hashval_ne' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hashval_ne(hll_hashval, hll_hashval) IS 'Whether two hashes differ';

CREATE OPERATOR = (
  FUNCTION = hll_eq, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = =, NEGATOR = <>,
  RESTRICT = eqsel, JOIN = eqjoinsel, MERGES
);
COMMENT ON OPERATOR = (hll, hll) IS 'equal';

CREATE OPERATOR <> (
  FUNCTION = hll_ne, LEFTARG = hll, RIGHTARG = hll,
  COMMUTATOR = <>, NEGATOR = =,
  RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (hll, hll) IS 'not equal';

CREATE OPERATOR = (
  FUNCTION = hll_hashval_eq, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = =, NEGATOR = <>,
  RESTRICT = eqsel, JOIN = eqjoinsel, MERGES
);
COMMENT ON OPERATOR = (hll_hashval, hll_hashval) IS 'equal';

CREATE OPERATOR <> (
  FUNCTION = hll_hashval_ne, LEFTARG = hll_hashval, RIGHTARG = hll_hashval,
  COMMUTATOR = <>, NEGATOR = =,
  RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (hll_hashval, hll_hashval) IS 'not equal';

-- counting, uniting, adding

CREATE FUNCTION hll_cardinality(hll) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_cardinality' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_cardinality(hll) IS 'Estimated number of distinct elements; NULL for an undefined sketch';

CREATE FUNCTION hll_union(hll, hll) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_union' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_union(hll, hll) IS 'Sketch of the elements of both';

CREATE FUNCTION hll_add(hll, hll_hashval) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_add' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_add(hll, hll_hashval) IS 'Adds one hashed element';

CREATE FUNCTION hll_add_rev(hll_hashval, hll) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_add_rev' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_add_rev(hll_hashval, hll) IS 'Adds one hashed element';

CREATE OPERATOR || (FUNCTION = hll_union, LEFTARG = hll, RIGHTARG = hll);
COMMENT ON OPERATOR || (hll, hll) IS 'union';

CREATE OPERATOR || (FUNCTION = hll_add, LEFTARG = hll, RIGHTARG = hll_hashval);
COMMENT ON OPERATOR || (hll, hll_hashval) IS 'add an element';

CREATE OPERATOR || (FUNCTION = hll_add_rev, LEFTARG = hll_hashval, RIGHTARG = hll);
COMMENT ON OPERATOR || (hll_hashval, hll) IS 'add an element';

CREATE OPERATOR # (FUNCTION = hll_cardinality, RIGHTARG = hll);
COMMENT ON OPERATOR # (NONE, hll) IS 'estimated number of distinct elements';

-- making and inspecting sketches

CREATE FUNCTION hll_empty() RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty0' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_empty() IS 'Empty sketch with the session defaults';

CREATE FUNCTION hll_empty(integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty1' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_empty(integer) IS 'Empty sketch: log2m';

CREATE FUNCTION hll_empty(integer, integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty2' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_empty(integer, integer) IS 'Empty sketch: log2m, regwidth';

CREATE FUNCTION hll_empty(integer, integer, bigint) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty3' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_empty(integer, integer, bigint) IS 'Empty sketch: log2m, regwidth, expthresh';

CREATE FUNCTION hll_empty(integer, integer, bigint, integer) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_empty4' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_empty(integer, integer, bigint, integer) IS 'Empty sketch: log2m, regwidth, expthresh, sparseon';

CREATE FUNCTION hll_print(hll) RETURNS cstring
AS 'MODULE_PATHNAME', 'hll_print' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_print(hll) IS 'Content of a sketch for people to read';

CREATE FUNCTION hll_schema_version(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_schema_version' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_schema_version(hll) IS 'Version of the storage format: 1';

CREATE FUNCTION hll_type(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_type' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_type(hll) IS 'Representation: 0 undefined, 1 empty, 2 explicit, 3 sparse, 4 full';

CREATE FUNCTION hll_log2m(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_log2m' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_log2m(hll) IS 'Binary logarithm of the number of registers';

CREATE FUNCTION hll_regwidth(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_regwidth' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_regwidth(hll) IS 'Bits in a register';

CREATE FUNCTION hll_expthresh(hll, OUT specified bigint, OUT effective bigint) RETURNS record
AS 'MODULE_PATHNAME', 'hll_expthresh' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_expthresh(hll, OUT specified bigint, OUT effective bigint) IS 'Most elements that are kept exactly: as specified, and what -1 (automatic) comes to';

CREATE FUNCTION hll_sparseon(hll) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_sparseon' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_sparseon(hll) IS '1 where sparse registers may be stored sparsely, else 0';

-- session defaults: they outlive ROLLBACK, and parallel workers get them

CREATE FUNCTION hll_set_output_version(integer) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_set_output_version' LANGUAGE c IMMUTABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION hll_set_output_version(integer) IS 'Sets the storage format to write (only 1 exists); returns the former one';

CREATE FUNCTION hll_set_max_sparse(integer) RETURNS integer
AS 'MODULE_PATHNAME', 'hll_set_max_sparse' LANGUAGE c IMMUTABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION hll_set_max_sparse(integer) IS 'Sets the most registers that are stored sparsely (-1: when it is smaller); returns the former value';

CREATE FUNCTION hll_set_defaults(i_log2m integer, i_regwidth integer, i_expthresh bigint, i_sparseon integer, OUT o_log2m integer, OUT o_regwidth integer, OUT o_expthresh bigint, OUT o_sparseon integer) RETURNS record
AS 'MODULE_PATHNAME', 'hll_set_defaults' LANGUAGE c IMMUTABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION hll_set_defaults(i_log2m integer, i_regwidth integer, i_expthresh bigint, i_sparseon integer, OUT o_log2m integer, OUT o_regwidth integer, OUT o_expthresh bigint, OUT o_sparseon integer) IS 'Sets the parameters of new sketches where a call gives none; returns the former ones';

-- hashing: MurmurHash3 (x64, 128 bits, the first half)

CREATE FUNCTION hll_hash_boolean(boolean, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_1byte' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_boolean(boolean, integer) IS 'Hashes a value of type boolean with a seed';

CREATE FUNCTION hll_hash_smallint(smallint, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_2byte' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_smallint(smallint, integer) IS 'Hashes a value of type smallint with a seed';

CREATE FUNCTION hll_hash_integer(integer, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_4byte' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_integer(integer, integer) IS 'Hashes a value of type integer with a seed';

CREATE FUNCTION hll_hash_bigint(bigint, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_8byte' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_bigint(bigint, integer) IS 'Hashes a value of type bigint with a seed';

CREATE FUNCTION hll_hash_bytea(bytea, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_varlena' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_bytea(bytea, integer) IS 'Hashes a value of type bytea with a seed';

CREATE FUNCTION hll_hash_text(text, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_varlena' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_text(text, integer) IS 'Hashes a value of type text with a seed';

CREATE FUNCTION hll_hash_any(anyelement, integer DEFAULT 0) RETURNS hll_hashval
AS 'MODULE_PATHNAME', 'hll_hash_any' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_hash_any(anyelement, integer) IS 'Hashes a value of any type: by its bytes when passed by value or of variable length, else by its binary output';

-- aggregates

CREATE FUNCTION hll_add_trans0(internal, hll_hashval) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans0' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_add_trans0(internal, hll_hashval) IS 'Transition function of hll_add_agg';

CREATE FUNCTION hll_add_trans1(internal, hll_hashval, integer) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans1' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_add_trans1(internal, hll_hashval, integer) IS 'Transition function of hll_add_agg';

CREATE FUNCTION hll_add_trans2(internal, hll_hashval, integer, integer) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans2' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_add_trans2(internal, hll_hashval, integer, integer) IS 'Transition function of hll_add_agg';

CREATE FUNCTION hll_add_trans3(internal, hll_hashval, integer, integer, bigint) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans3' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_add_trans3(internal, hll_hashval, integer, integer, bigint) IS 'Transition function of hll_add_agg';

CREATE FUNCTION hll_add_trans4(internal, hll_hashval, integer, integer, bigint, integer) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_add_trans4' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_add_trans4(internal, hll_hashval, integer, integer, bigint, integer) IS 'Transition function of hll_add_agg';

CREATE FUNCTION hll_union_trans(internal, hll) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_union_trans' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_union_trans(internal, hll) IS 'Transition function of hll_union_agg';

CREATE FUNCTION hll_union_internal(internal, internal) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_union_internal' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_union_internal(internal, internal) IS 'Combines two states of a sketch aggregate';

CREATE FUNCTION hll_serialize(internal) RETURNS bytea
AS 'MODULE_PATHNAME', 'hll_serialize' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_serialize(internal) IS 'Writes the state of a sketch aggregate';

CREATE FUNCTION hll_deserialize(bytea, internal) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_deserialize' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION hll_deserialize(bytea, internal) IS 'Reads the state of a sketch aggregate';

CREATE FUNCTION hll_pack(internal) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_pack' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_pack(internal) IS 'Final function: the sketch';

CREATE FUNCTION hll_card_unpacked(internal) RETURNS double precision
AS 'MODULE_PATHNAME', 'hll_card_unpacked' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_card_unpacked(internal) IS 'Final function for aggregates of your own: the estimate';

CREATE FUNCTION hll_floor_card_unpacked(internal) RETURNS bigint
AS 'MODULE_PATHNAME', 'hll_floor_card_unpacked' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_floor_card_unpacked(internal) IS 'Final function for aggregates of your own: the estimate, rounded down';

CREATE FUNCTION hll_ceil_card_unpacked(internal) RETURNS bigint
AS 'MODULE_PATHNAME', 'hll_ceil_card_unpacked' LANGUAGE c VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION hll_ceil_card_unpacked(internal) IS 'Final function for aggregates of your own: the estimate, rounded up';
