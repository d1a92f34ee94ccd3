//! Functions and operators over stored values.
use crate::hll::{settings, typmod};
use crate::pg::error::OrRaise;
use crate::pg::memory::ContextMemory;
use crate::pg::v1::Call;
use crate::v1;
use hll_sketch::{Heap, Memory, Params, Sketch};
use pgrx::pg_sys::Datum;
use std::cell::Cell;

v1!(hll_cardinality, cardinality);
v1!(hll_union, union);
v1!(hll_add, add);
v1!(hll_add_rev, add_rev);
v1!(hll_empty0, empty0);
v1!(hll_empty1, empty1);
v1!(hll_empty2, empty2);
v1!(hll_empty3, empty3);
v1!(hll_empty4, empty4);
v1!(hll_hashval, hashval);
v1!(hll_hashval_int4, hashval_int4);
v1!(hll_hashval_eq, hashval_eq);
v1!(hll_hashval_ne, hashval_ne);

/// `sketch` in its stored form.
pub fn stored<M: Memory>(sketch: &Sketch<M>) -> Datum {
    with_scratch(|out| sketch.encode_into(settings::max_sparse(), out))
}

/// What `write` writes as a varlena. The buffer is kept for the next call, unless it has become large.
fn with_scratch(write: impl FnOnce(&mut Vec<u8>)) -> Datum {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // An error that unwinds from `write` takes the buffer along; the next call begins with a new one.
    let mut buffer = SCRATCH.take();
    buffer.clear();
    write(&mut buffer);
    let datum = crate::pg::v1::new_varlena(&buffer);
    if buffer.capacity() <= 64 << 10 {
        SCRATCH.set(buffer);
    }
    datum
}

/// The sketch in argument `n`, all of it checked.
pub fn decoded(call: &Call, n: usize) -> Sketch {
    Sketch::decode(call.bytes(n).unwrap_or_default(), Heap).or_raise()
}

fn cardinality(call: &mut Call) -> Datum {
    let bytes = call.scanned(0).unwrap_or_default();
    match hll_sketch::cardinality_of(bytes, settings::estimator()).or_raise() {
        Some(estimate) => Datum::from(estimate.to_bits()),
        None => call.null(),
    }
}

fn union(call: &mut Call) -> Datum {
    let bytes = call.scanned(0).unwrap_or_default();
    // Freed with the row that it is made for.
    let mut sketch = Sketch::decode(bytes, ContextMemory::current()).or_raise();
    sketch.union_bytes(call.bytes(1).unwrap_or_default()).or_raise();
    stored(&sketch)
}

fn added(call: &Call, sketch: usize, hash: usize) -> Datum {
    let (bytes, hash) = (call.scanned(sketch).unwrap_or_default(), call.i64(hash).unwrap_or(0));
    with_scratch(|out| hll_sketch::add_to_stored(bytes, hash, settings::max_sparse(), out).or_raise())
}

fn add(call: &mut Call) -> Datum {
    added(call, 0, 1)
}

fn add_rev(call: &mut Call) -> Datum {
    added(call, 1, 0)
}

fn empty(params: Params) -> Datum {
    stored(&Sketch::empty(params, Heap))
}

fn empty0(_call: &mut Call) -> Datum {
    empty(settings::defaults())
}

fn empty1(call: &mut Call) -> Datum {
    empty(argument_params(call, 0, 1))
}

fn empty2(call: &mut Call) -> Datum {
    empty(argument_params(call, 0, 2))
}

fn empty3(call: &mut Call) -> Datum {
    empty(argument_params(call, 0, 3))
}

fn empty4(call: &mut Call) -> Datum {
    empty(argument_params(call, 0, 4))
}

/// Sketch parameters from `count` arguments starting at `first`. NULL reads as 0, as it always has.
pub fn argument_params(call: &Call, first: usize, count: usize) -> Params {
    params_of(count, |n| call.i64(first + n).unwrap_or(0))
}

/// Sketch parameters from so many values, each in a word.
pub fn params_of(count: usize, value: impl Fn(usize) -> i64) -> Params {
    let mut given = [0i64; 4];
    for (n, place) in given.iter_mut().enumerate().take(count) {
        // expthresh alone is a bigint
        *place = if n == 2 { value(n) } else { i64::from(value(n) as i32) };
    }
    typmod::params(&given[..count])
}

fn hashval(call: &mut Call) -> Datum {
    Datum::from(call.i64(0).unwrap_or(0))
}

fn hashval_int4(call: &mut Call) -> Datum {
    Datum::from(i64::from(call.i32(0).unwrap_or(0)))
}

fn hashval_eq(call: &mut Call) -> Datum {
    Datum::from(call.i64(0) == call.i64(1))
}

fn hashval_ne(call: &mut Call) -> Datum {
    Datum::from(call.i64(0) != call.i64(1))
}
