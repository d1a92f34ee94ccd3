//! Aggregate support: transition, combine, serialize, final.
//!
//! The state is a sketch in the group's memory context and stays one from the first row to the last; it is
//! encoded once, by the final function.
use crate::hll::{ops, settings};
use crate::pg::aggregate::{self, State};
use crate::pg::error::{OrRaise, raise};
use crate::pg::memory::ContextMemory;
use crate::pg::v1::Call;
use crate::v1;
use hll_sketch::{Growing, Params, Sketch};
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

/// The state of one group. Those whose sketches may be stored hash by MurmurHash3; no other may meet them.
pub struct Group<const STORABLE: bool>(Growing<ContextMemory>);

impl<const STORABLE: bool> Group<STORABLE> {
    /// Of a sketch, which is to be added to.
    pub fn new(sketch: Sketch<ContextMemory>) -> Self {
        Group(Growing::new(sketch))
    }

    /// Adds one element by its hash.
    #[inline(always)]
    pub fn add(&mut self, hash: i64) {
        self.0.add(hash);
    }

    /// The sketch of all that was added.
    pub fn sketch(&mut self) -> &mut Sketch<ContextMemory> {
        self.0.sketch()
    }
}

impl<const STORABLE: bool> State for Group<STORABLE> {
    const TAG: u64 = u64::from_be_bytes(if STORABLE { *b"hllgroup" } else { *b"distinct" });
}

/// The state of the aggregates that give a sketch.
type Stored = Group<true>;

v1!(hll_add_trans0, add_trans0);
v1!(hll_add_trans1, add_trans1);
v1!(hll_add_trans2, add_trans2);
v1!(hll_add_trans3, add_trans3);
v1!(hll_add_trans4, add_trans4);
v1!(hll_union_trans, union_trans);
v1!(hll_union_internal, union_internal);
v1!(hll_serialize, serialize);
v1!(hll_deserialize, deserialize);
v1!(hll_pack, pack);
v1!(hll_card_unpacked, card_unpacked);
v1!(hll_floor_card_unpacked, floor_card_unpacked);
v1!(hll_ceil_card_unpacked, ceil_card_unpacked);

/// Adds argument 1 to the state. `N` arguments after it name the parameters, read at the first row only.
#[inline(always)]
fn add_trans<const N: usize>(call: &mut Call) -> Datum {
    // What most rows of a large group come to, apart: this path makes no call and saves no registers for one.
    if let (Some(state), Some(hash)) = (call.arg(0), call.i64(1))
        && aggregate::state_mut::<Stored>(call, 0).is_some_and(|group| group.0.add_to_registers(hash))
    {
        return state;
    }
    add_any::<N>(call)
}

#[inline(never)]
fn add_any<const N: usize>(call: &mut Call) -> Datum {
    let (state, hash) = (call.arg(0), call.i64(1));
    if let (Some(group), Some(state)) = (aggregate::state_mut::<Stored>(call, 0), state) {
        if let Some(hash) = hash {
            group.add(hash);
        }
        return state;
    }
    first_add::<N>(call)
}

/// The first row of a group. A NULL element makes the state too: all NULLs give an empty sketch.
#[cold]
#[inline(never)]
fn first_add<const N: usize>(call: &mut Call) -> Datum {
    let memory = aggregate::context_or_raise(call, &format!("hll_add_trans{N}"), "transition");
    let params: Params = if N == 0 { settings::defaults() } else { ops::argument_params(call, 2, N) };
    let mut sketch = Sketch::empty(params, memory);
    if let Some(hash) = call.i64(1) {
        sketch.add(hash);
    }
    aggregate::new_state(memory, Group::<true>::new(sketch))
}

fn add_trans0(call: &mut Call) -> Datum {
    add_trans::<0>(call)
}

fn add_trans1(call: &mut Call) -> Datum {
    add_trans::<1>(call)
}

fn add_trans2(call: &mut Call) -> Datum {
    add_trans::<2>(call)
}

fn add_trans3(call: &mut Call) -> Datum {
    add_trans::<3>(call)
}

fn add_trans4(call: &mut Call) -> Datum {
    add_trans::<4>(call)
}

fn union_trans(call: &mut Call) -> Datum {
    let state = call.arg(0);
    if let ((Some(group), bytes), Some(state)) = (aggregate::state_and_bytes::<Stored>(call), state) {
        if let Some(bytes) = bytes {
            group.sketch().union_bytes(bytes).or_raise();
        }
        return state;
    }
    let memory = aggregate::context_or_raise(call, "hll_union_trans", "transition");
    match call.bytes(1) {
        // the first value decides the parameters
        Some(bytes) => {
            aggregate::new_state(memory, Group::<true>::new(Sketch::decode(bytes, memory).or_raise()))
        }
        None => call.null(),
    }
}

fn union_internal(call: &mut Call) -> Datum {
    combine::<true>(call, "hll_union_internal")
}

fn serialize(call: &mut Call) -> Datum {
    to_bytes::<true>(call, "hll_serialize")
}

fn deserialize(call: &mut Call) -> Datum {
    from_bytes::<true>(call, "hll_deserialize")
}

/// Unites the states in arguments 0 and 1.
pub fn combine<const STORABLE: bool>(call: &mut Call, function: &str) -> Datum {
    let memory = aggregate::context_or_raise(call, function, "aggregate");
    match aggregate::state_pair::<Group<STORABLE>>(call) {
        (Some(left), Some(right)) => left.0.union(&right.0).or_raise(),
        (None, Some(right)) => {
            // the right state dies with its row, so it is copied and never adopted
            let mut copy = Group::<STORABLE>::new(Sketch::empty(right.0.params(), memory));
            copy.0.union(&right.0).or_raise();
            return aggregate::new_state(memory, copy);
        }
        (Some(_), None) => {}
        (None, None) => return call.null(),
    }
    match call.arg(0) {
        Some(left) => left,
        None => call.null(),
    }
}

/// The state in argument 0 for another process.
pub fn to_bytes<const STORABLE: bool>(call: &mut Call, function: &str) -> Datum {
    aggregate::context_or_raise(call, function, "transition");
    match aggregate::state_mut::<Group<STORABLE>>(call, 0) {
        Some(group) => crate::pg::v1::new_varlena(&group.sketch().to_state_bytes()),
        None => call.null(),
    }
}

/// The state that another process sent in argument 0.
pub fn from_bytes<const STORABLE: bool>(call: &mut Call, function: &str) -> Datum {
    aggregate::context_or_raise(call, function, "transition");
    // for the row only: combine copies what it keeps
    let memory = ContextMemory::current();
    let sketch = Sketch::from_state_bytes(call.bytes(0).unwrap_or_default(), memory).or_raise();
    aggregate::new_state(memory, Group::<STORABLE>::new(sketch))
}

fn pack(call: &mut Call) -> Datum {
    aggregate::context_or_raise(call, "hll_pack", "aggregate");
    match aggregate::state_mut::<Stored>(call, 0) {
        Some(group) => ops::stored(group.sketch()),
        None => call.null(),
    }
}

fn estimate(call: &mut Call, function: &str) -> Option<f64> {
    aggregate::context_or_raise(call, function, "aggregate");
    aggregate::state_mut::<Stored>(call, 0)?.sketch().cardinality(settings::estimator()).or_raise()
}

fn card_unpacked(call: &mut Call) -> Datum {
    match estimate(call, "hll_card_unpacked") {
        Some(estimate) => Datum::from(estimate.to_bits()),
        None => call.null(),
    }
}

/// An estimate without decimals; registers that are all at their end give none.
fn whole(call: &mut Call, estimate: Option<f64>) -> Datum {
    // the largest double below 2^63 leaves no more to round
    const END: f64 = 9_223_372_036_854_775_808.0;
    match estimate {
        Some(n) if n < END => Datum::from(n as i64),
        Some(n) => raise(
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("the estimate {n} is out of range for type bigint"),
        ),
        None => call.null(),
    }
}

fn floor_card_unpacked(call: &mut Call) -> Datum {
    let estimate = estimate(call, "hll_floor_card_unpacked").map(f64::floor);
    whole(call, estimate)
}

fn ceil_card_unpacked(call: &mut Call) -> Datum {
    let estimate = estimate(call, "hll_ceil_card_unpacked").map(f64::ceil);
    whole(call, estimate)
}
