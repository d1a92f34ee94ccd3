//! `approx_count_distinct`: about how many distinct values there are, in one step.
//!
//! Its sketches never leave the query, so they may hash by XXH3, which stored sketches must not, and keep
//! registers of six bits, which no number of values fills.
use crate::hll::agg::{self, Group};
use crate::pg::aggregate;
use crate::pg::distinct;
use crate::pg::error::{OrRaise, raise};
use crate::pg::v1::Call;
use crate::v1;
use hll_sketch::{Estimator, Heap, Params, Sketch};
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

v1!(approx_count_distinct_trans, trans);
v1!(approx_count_distinct_combine, combine);
v1!(approx_count_distinct_serialize, serialize);
v1!(approx_count_distinct_deserialize, deserialize);
v1!(approx_count_distinct_final, finish);
v1!(approx_count_distinct_hash, hash);
v1!(approx_count_distinct_estimate, estimate);

/// A state that is never stored.
type Values = Group<false>;

/// Adds argument 1; argument 2, where there is one, is log2m and is read at the first row that is not NULL.
fn trans(call: &mut Call) -> Datum {
    let state = call.arg(0);
    let Some(hash) = distinct::hash(call, 1) else {
        return state.unwrap_or_else(|| call.null());
    };
    if let (Some(values), Some(state)) = (aggregate::state_mut::<Values>(call, 0), state) {
        values.add(hash);
        return state;
    }
    let memory = aggregate::context_or_raise(call, "approx_count_distinct_trans", "transition");
    let log2m = match (call.nargs(), call.i32(2)) {
        (3.., None) => {
            raise(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "log2m of approx_count_distinct is NULL")
        }
        (3.., Some(given)) => i64::from(given),
        _ => i64::from(Params::DEFAULT.log2m),
    };
    let mut sketch = Sketch::empty(Params::new(log2m, 6, -1, 1).or_raise(), memory);
    sketch.add(hash);
    aggregate::new_state(memory, Group::<false>::new(sketch))
}

fn combine(call: &mut Call) -> Datum {
    agg::combine::<false>(call, "approx_count_distinct_combine")
}

fn serialize(call: &mut Call) -> Datum {
    agg::to_bytes::<false>(call, "approx_count_distinct_serialize")
}

fn deserialize(call: &mut Call) -> Datum {
    agg::from_bytes::<false>(call, "approx_count_distinct_deserialize")
}

/// No row, no value: 0, as `count` says.
fn finish(call: &mut Call) -> Datum {
    aggregate::context_or_raise(call, "approx_count_distinct_final", "aggregate");
    let estimate = match aggregate::state_mut::<Values>(call, 0) {
        Some(values) => values.sketch().cardinality(Estimator::Improved).or_raise().unwrap_or(0.0),
        None => 0.0,
    };
    Datum::from(estimate.round() as i64)
}

/// What `approx_count_distinct` counts, as an argument of `hll_add_agg`.
fn hash(call: &mut Call) -> Datum {
    distinct::hash(call, 0).map_or_else(|| call.null(), Datum::from)
}

/// What `approx_count_distinct` says of a sketch of such hashes.
fn estimate(call: &mut Call) -> Datum {
    let estimate = call.bytes(0).and_then(|bytes| {
        let sketch = Sketch::decode(bytes, Heap).or_raise();
        sketch.cardinality(Estimator::Improved).or_raise()
    });
    Datum::from(estimate.unwrap_or(0.0).round() as i64)
}
