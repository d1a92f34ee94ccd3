//! Operator classes. A set of values has one byte string at a scale, so that stored bytes are equal where sketches are.
//! Their order means nothing, but everyone agrees on it.
use crate::hll::compare;
use crate::v1;

v1!(ddsketch_eq, compare::eq);
v1!(ddsketch_ne, compare::ne);
v1!(ddsketch_lt, compare::lt);
v1!(ddsketch_le, compare::le);
v1!(ddsketch_ge, compare::ge);
v1!(ddsketch_gt, compare::gt);
v1!(ddsketch_cmp, compare::cmp);
v1!(ddsketch_hash, compare::sketch_hash);
v1!(ddsketch_hash_extended, compare::sketch_hash_extended);
