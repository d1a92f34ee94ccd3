//! `hll_hash_*`: MurmurHash3 of the bytes that a value has in memory.
use crate::pg::anyhash::{self, Value};
use crate::pg::v1::Call;
use crate::v1;
use hll_sketch::murmur3;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

v1!(hll_hash_1byte, one);
v1!(hll_hash_2byte, two);
v1!(hll_hash_4byte, four);
v1!(hll_hash_8byte, eight);
v1!(hll_hash_varlena, varlena);
v1!(hll_hash_any, any);
v1!(hll_hash_uuid, uuid);

/// The seed in argument 1. A negative one still hashes, as 2^32 more; the original implementation and its
/// clients in other languages differ there, hence the warning.
#[inline(always)]
fn seed(call: &Call) -> i32 {
    let seed = call.i32(1).unwrap_or(0);
    if seed < 0 {
        warn_negative();
    }
    seed
}

#[cold]
#[inline(never)]
fn warn_negative() {
    warning!("negative seed values not compatible");
}

fn one(call: &mut Call) -> Datum {
    Datum::from(murmur3::hash(&[call.i32(0).unwrap_or(0) as u8], seed(call)))
}

fn two(call: &mut Call) -> Datum {
    Datum::from(murmur3::hash(&(call.i32(0).unwrap_or(0) as u16).to_ne_bytes(), seed(call)))
}

#[inline]
fn four(call: &mut Call) -> Datum {
    Datum::from(murmur3::hash_i32(call.i32(0).unwrap_or(0), seed(call)))
}

#[inline]
fn eight(call: &mut Call) -> Datum {
    Datum::from(murmur3::hash_i64(call.i64(0).unwrap_or(0), seed(call)))
}

/// Values that lie in line under a seed that calls for no warning take a path without calls, which saves no registers.
#[inline]
fn varlena(call: &mut Call) -> Datum {
    match (call.short_bytes(0), call.i32(1)) {
        (Some(bytes), Some(seed)) if seed >= 0 => Datum::from(murmur3::hash(bytes, seed)),
        _ => any_varlena(call),
    }
}

#[inline(never)]
fn any_varlena(call: &mut Call) -> Datum {
    Datum::from(murmur3::hash(call.bytes(0).unwrap_or_default(), seed(call)))
}

fn uuid(call: &mut Call) -> Datum {
    Datum::from(murmur3::hash(&call.uuid(0).unwrap_or_default(), seed(call)))
}

fn any(call: &mut Call) -> Datum {
    let seed = seed(call);
    let Some(value) = anyhash::value(call, 0) else { return call.null() };
    Datum::from(match value {
        Value::One(v) => murmur3::hash(&[v], seed),
        Value::Two(v) => murmur3::hash(&v.to_ne_bytes(), seed),
        Value::Four(v) => murmur3::hash_i32(v, seed),
        Value::Eight(v) => murmur3::hash_i64(v, seed),
        Value::Bytes(v) => murmur3::hash(v, seed),
    })
}
