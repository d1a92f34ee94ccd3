\echo Use "ALTER EXTENSION hll UPDATE TO '2.11'" to load this file. \quit
-- The planner learns what a group's state takes.

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval) (
  SFUNC = hll_add_trans0, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer) (
  SFUNC = hll_add_trans1, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer) (
  SFUNC = hll_add_trans2, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint) (
  SFUNC = hll_add_trans3, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack
);

CREATE OR REPLACE AGGREGATE hll_add_agg(hll_hashval, integer, integer, bigint, integer) (
  SFUNC = hll_add_trans4, STYPE = internal, SSPACE = 131120, FINALFUNC = hll_pack
);
