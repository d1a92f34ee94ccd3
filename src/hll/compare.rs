//! Operator classes: the order and the hashes that GROUP BY, DISTINCT, ORDER BY, joins and indexes go by.
//!
//! Sketches are ordered by their stored bytes, as `=` compares them; a shorter one comes before a longer one
//! that it begins. The order means nothing, but everyone agrees on it.
use crate::pg::v1::Call;
use crate::v1;
use pgrx::pg_sys::Datum;
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64_with_seed;

v1!(hll_eq, eq);
v1!(hll_ne, ne);
v1!(hll_lt, lt);
v1!(hll_le, le);
v1!(hll_ge, ge);
v1!(hll_gt, gt);
v1!(hll_cmp, cmp);
v1!(hll_sketch_hash, sketch_hash);
v1!(hll_sketch_hash_extended, sketch_hash_extended);
v1!(hll_hashval_lt, hashval_lt);
v1!(hll_hashval_le, hashval_le);
v1!(hll_hashval_ge, hashval_ge);
v1!(hll_hashval_gt, hashval_gt);
v1!(hll_hashval_cmp, hashval_cmp);
v1!(hll_hashval_hash, hashval_hash);
v1!(hll_hashval_hash_extended, hashval_hash_extended);

fn order(call: &Call) -> Ordering {
    call.bytes(0).cmp(&call.bytes(1))
}

/// Whether the bytes are the same.
pub fn eq(call: &mut Call) -> Datum {
    Datum::from(call.bytes(0) == call.bytes(1))
}

/// Whether they are not.
pub fn ne(call: &mut Call) -> Datum {
    Datum::from(call.bytes(0) != call.bytes(1))
}

/// Whether the first are less.
pub fn lt(call: &mut Call) -> Datum {
    Datum::from(order(call).is_lt())
}

/// Whether the first are less, or both the same.
pub fn le(call: &mut Call) -> Datum {
    Datum::from(order(call).is_le())
}

/// Whether the first are greater, or both the same.
pub fn ge(call: &mut Call) -> Datum {
    Datum::from(order(call).is_ge())
}

/// Whether the first are greater.
pub fn gt(call: &mut Call) -> Datum {
    Datum::from(order(call).is_gt())
}

/// Below 0, 0 or above 0.
pub fn cmp(call: &mut Call) -> Datum {
    Datum::from(order(call) as i32)
}

/// Stored in hash indexes and hash partitions: never to be changed. With seed 0, the low half is the plain hash.
fn stable_hash(bytes: &[u8], seed: i64) -> u64 {
    xxh3_64_with_seed(bytes, seed as u64)
}

/// A hash of the bytes.
pub fn sketch_hash(call: &mut Call) -> Datum {
    Datum::from(stable_hash(call.bytes(0).unwrap_or_default(), 0) as u32)
}

/// A hash of the bytes with a seed.
pub fn sketch_hash_extended(call: &mut Call) -> Datum {
    Datum::from(stable_hash(call.bytes(0).unwrap_or_default(), call.i64(1).unwrap_or(0)))
}

fn hashval_order(call: &Call) -> Ordering {
    call.i64(0).cmp(&call.i64(1))
}

fn hashval_lt(call: &mut Call) -> Datum {
    Datum::from(hashval_order(call).is_lt())
}

fn hashval_le(call: &mut Call) -> Datum {
    Datum::from(hashval_order(call).is_le())
}

fn hashval_ge(call: &mut Call) -> Datum {
    Datum::from(hashval_order(call).is_ge())
}

fn hashval_gt(call: &mut Call) -> Datum {
    Datum::from(hashval_order(call).is_gt())
}

fn hashval_cmp(call: &mut Call) -> Datum {
    Datum::from(hashval_order(call) as i32)
}

fn hashval_hash(call: &mut Call) -> Datum {
    Datum::from(stable_hash(&call.i64(0).unwrap_or(0).to_le_bytes(), 0) as u32)
}

fn hashval_hash_extended(call: &mut Call) -> Datum {
    let seed = call.i64(1).unwrap_or(0);
    Datum::from(stable_hash(&call.i64(0).unwrap_or(0).to_le_bytes(), seed))
}
