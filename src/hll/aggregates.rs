//! The aggregates. Their state is a sketch in the aggregate's own memory, and no row ever re-encodes it.
//!
//! No state (NULL) means that no sketch has been seen: `hll_union_agg` then answers NULL. `hll_add_agg` makes
//! an empty sketch of its first row even where the element is NULL.
use super::settings::{estimator, params_from, session};
use crate::pg::{
    aggregate::state_datum,
    error::{OrRaise, fail},
    memory::ContextMemory,
    v1::Call,
    value::float8,
};
use crate::v1;
use hll_sketch::Sketch;
use pgrx::{PgSqlErrorCode, pg_sys::Datum};

type State = Sketch<ContextMemory>;

/// The aggregate's memory, or the error that `who` was called outside an aggregate.
fn memory(call: &Call, who: &str, place: &str) -> ContextMemory {
    call.aggregate_memory().unwrap_or_else(|| {
        fail(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, format!("{who} outside {place} context"))
    })
}

v1!(hll_add_trans0, add_trans0);
#[inline(always)]
fn add_trans0(call: &mut Call) -> Datum {
    add_trans(call, "hll_add_trans0")
}

v1!(hll_add_trans1, add_trans1);
fn add_trans1(call: &mut Call) -> Datum {
    add_trans(call, "hll_add_trans1")
}

v1!(hll_add_trans2, add_trans2);
fn add_trans2(call: &mut Call) -> Datum {
    add_trans(call, "hll_add_trans2")
}

v1!(hll_add_trans3, add_trans3);
fn add_trans3(call: &mut Call) -> Datum {
    add_trans(call, "hll_add_trans3")
}

v1!(hll_add_trans4, add_trans4);
fn add_trans4(call: &mut Call) -> Datum {
    add_trans(call, "hll_add_trans4")
}

/// Adds the element in argument 1; the parameters after it count on the group's first row only.
#[inline(always)]
fn add_trans(call: &mut Call, who: &str) -> Datum {
    let element = call.i64(1);
    match call.arg(0) {
        Some(state) => {
            if let (Some(element), Some(sketch)) = (element, call.state_mut::<State>()) {
                sketch.add(element);
            }
            state
        }
        None => first_element(call, element, who),
    }
}

#[cold]
fn first_element(call: &Call, element: Option<i64>, who: &str) -> Datum {
    let memory = memory(call, who, "transition");
    let mut sketch = Sketch::empty(params_from(call, 2), memory);
    if let Some(element) = element {
        sketch.add(element);
    }
    state_datum(memory, sketch)
}

v1!(hll_union_trans, union_trans);
fn union_trans(call: &mut Call) -> Datum {
    let Some(state) = call.arg(0) else { return first_sketch(call) };
    call.with_state_and_bytes(1, |sketch: &mut State, bytes| sketch.union_bytes(bytes)).or_raise();
    state
}

#[cold]
fn first_sketch(call: &mut Call) -> Datum {
    let memory = memory(call, "hll_union_trans", "transition");
    match call.bytes(1) {
        Some(bytes) => state_datum(memory, Sketch::decode(bytes, memory).or_raise()),
        None => call.null(),
    }
}

v1!(hll_union_internal, union_internal);
fn union_internal(call: &mut Call) -> Datum {
    let memory = memory(call, "hll_union_internal", "aggregate");
    let kept = call.arg(0);
    match (call.states::<State>(), kept) {
        ((Some(left), Some(right)), Some(kept)) => {
            left.union(right).or_raise();
            kept
        }
        // The right state dies with its input row, so it is copied.
        ((None, Some(right)), _) => {
            let mut copy = Sketch::empty(right.params(), memory);
            copy.union(right).or_raise();
            state_datum(memory, copy)
        }
        (_, Some(kept)) => kept,
        _ => call.null(),
    }
}

v1!(hll_serialize, serialize);
fn serialize(call: &mut Call) -> Datum {
    memory(call, "hll_serialize", "transition");
    match call.state::<State>(0).map(State::to_state_bytes) {
        Some(bytes) => call.varlena(&bytes),
        None => call.null(),
    }
}

v1!(hll_deserialize, deserialize);
fn deserialize(call: &mut Call) -> Datum {
    memory(call, "hll_deserialize", "transition");
    // Short-lived on purpose: the combine function unites it with, or copies it to, the aggregate's state.
    let memory = ContextMemory::current();
    match call.bytes(0) {
        Some(bytes) => state_datum(memory, State::from_state_bytes(bytes, memory).or_raise()),
        None => call.null(),
    }
}

v1!(hll_pack, pack);
fn pack(call: &mut Call) -> Datum {
    memory(call, "hll_pack", "aggregate");
    match call.state::<State>(0).map(|sketch| sketch.encode(session().max_sparse)) {
        Some(bytes) => call.varlena(&bytes),
        None => call.null(),
    }
}

v1!(hll_card_unpacked, card_unpacked);
fn card_unpacked(call: &mut Call) -> Datum {
    match estimate(call, "hll_card_unpacked") {
        Some(count) => float8(count),
        None => call.null(),
    }
}

v1!(hll_floor_card_unpacked, floor_card_unpacked);
fn floor_card_unpacked(call: &mut Call) -> Datum {
    match estimate(call, "hll_floor_card_unpacked") {
        Some(count) => Datum::from(count.floor() as i64),
        None => call.null(),
    }
}

v1!(hll_ceil_card_unpacked, ceil_card_unpacked);
fn ceil_card_unpacked(call: &mut Call) -> Datum {
    match estimate(call, "hll_ceil_card_unpacked") {
        Some(count) => Datum::from(count.ceil() as i64),
        None => call.null(),
    }
}

fn estimate(call: &Call, who: &str) -> Option<f64> {
    memory(call, who, "aggregate");
    call.state::<State>(0).and_then(|sketch| sketch.cardinality(estimator()).or_raise())
}
