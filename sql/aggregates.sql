-- The sketch aggregates. REPLACE keeps the ones an older version made, and with them the views that use them.
-- SSPACE is the size of a state with 2^11 registers, which is what the planner reckons a group to take.

CREATE FUNCTION hll_moving_add(internal, hll) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_moving_add' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION hll_moving_add(internal, hll) IS 'Transition function of hll_union_agg in a window frame that moves';

CREATE FUNCTION hll_moving_remove(internal, hll) RETURNS internal
AS 'MODULE_PATHNAME', 'hll_moving_remove' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION hll_moving_remove(internal, hll) IS 'Inverse transition function of hll_union_agg: the oldest sketch leaves the window frame';

CREATE FUNCTION hll_moving_union(internal) RETURNS hll
AS 'MODULE_PATHNAME', 'hll_moving_union' LANGUAGE c IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION hll_moving_union(internal) IS 'Final function of hll_union_agg in a window frame that moves';

CREATE OR REPLACE AGGREGATE hll_union_agg(hll) (
  SFUNC = hll_union_trans, STYPE = internal, SSPACE = 2600,
  FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  MSFUNC = hll_moving_add, MINVFUNC = hll_moving_remove, MSTYPE = internal, MSSPACE = 65536, MFINALFUNC = hll_moving_union,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE hll_union_agg(hll) IS 'Union of sketches; NULL when there is none. In a window frame that moves, such as the last 30 days of each day, each row costs the same however long the frame is';

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval) (
  SFUNC = hll_add_trans0, STYPE = internal, SSPACE = 2600,
  FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE hll_add_agg(hll_hashval) IS 'Sketch of hashed elements with the session defaults';

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer) (
  SFUNC = hll_add_trans1, STYPE = internal, SSPACE = 2600,
  FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE hll_add_agg(hll_hashval, integer) IS 'Sketch of hashed elements: log2m';

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer) (
  SFUNC = hll_add_trans2, STYPE = internal, SSPACE = 2600,
  FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE hll_add_agg(hll_hashval, integer, integer) IS 'Sketch of hashed elements: log2m, regwidth';

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint) (
  SFUNC = hll_add_trans3, STYPE = internal, SSPACE = 2600,
  FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint) IS 'Sketch of hashed elements: log2m, regwidth, expthresh';

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint, integer) (
  SFUNC = hll_add_trans4, STYPE = internal, SSPACE = 2600,
  FINALFUNC = hll_pack,
  COMBINEFUNC = hll_union_internal, SERIALFUNC = hll_serialize, DESERIALFUNC = hll_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint, integer) IS 'Sketch of hashed elements: log2m, regwidth, expthresh, sparseon';
