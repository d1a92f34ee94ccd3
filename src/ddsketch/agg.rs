//! `ddsketch_agg` and `ddsketch_union_agg`.
//!
//! The state is of type `ddsketch`, too: a plain type is what Citus splits an aggregate by, and workers send. It is a
//! sketch in the group's memory from the first row to the last.
use super::{Sketch, decoded, stored};
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use crate::pg::error::{OrRaise, raise_with_hint};
use crate::pg::expanded::{Argument, Expanded, Flatten};
use crate::pg::memory::ContextMemory;
use crate::pg::v1::{Call, copied};
use crate::v1;
use hll_ddsketch::{DEFAULT_SCALE, DdSketch};
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

v1!(ddsketch_agg_trans, trans);
v1!(ddsketch_agg_trans_weight, trans_weight);
v1!(ddsketch_agg_trans_scale, trans_scale);
v1!(ddsketch_combine, combine);
v1!(ddsketch_final, finish);
v1!(ddsketch_union, union);

/// The state of one group.
pub struct Group(Sketch);

type State = Expanded<Group>;

impl Group {
    /// Of no numbers, at the scale that is taken where none is given.
    pub fn new(memory: ContextMemory) -> Group {
        Group(DdSketch::new(DEFAULT_SCALE, memory).or_raise())
    }

    /// The sketch, to be changed.
    #[inline(always)]
    pub fn sketch(&mut self) -> &mut Sketch {
        &mut self.0
    }
}

impl Flatten for Group {
    const TAG: u64 = u64::from_be_bytes(*b"ddsketch");

    fn flatten(&self, out: &mut Array<u8>, context: Context) {
        out.extend(context, &self.0.encode());
    }
}

/// The aggregate's own state in argument 0, made where there is none; `scale` is that of a new one.
#[inline(always)]
fn own<'a>(call: &Call, scale: i32) -> &'a mut State {
    match State::argument(call, 0) {
        Argument::Own(state) => state,
        _ => first(call, scale),
    }
}

#[cold]
#[inline(never)]
fn first<'a>(call: &Call, scale: i32) -> &'a mut State {
    let made = |make: &dyn Fn(ContextMemory) -> Sketch| {
        State::create(call, |context| Group(make(ContextMemory::of(context))))
    };
    match call.bytes(0) {
        Some(bytes) => made(&|memory| DdSketch::decode(bytes, memory).or_raise()),
        None => made(&|memory| DdSketch::new(scale, memory).or_raise()),
    }
}

/// The state as it came, for a row that counts nothing.
fn unchanged(call: &mut Call) -> Datum {
    Context::check_aggregate(call);
    match call.arg(0) {
        Some(state) => state,
        None => call.null(),
    }
}

fn trans(call: &mut Call) -> Datum {
    let Some(value) = call.f64(1) else { return unchanged(call) };
    let state = own(call, DEFAULT_SCALE);
    state.value_mut().0.add(value).or_raise();
    state.datum()
}

fn trans_weight(call: &mut Call) -> Datum {
    weighted(call, DEFAULT_SCALE)
}

/// A row is a sketch of its scale: of several scales in a group the smallest counts, in whatever order they come.
fn trans_scale(call: &mut Call) -> Datum {
    let Some(scale) = call.i32(3) else {
        raise_with_hint(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "scale of ddsketch_agg is NULL",
            "Scale 5, that of ddsketch_agg(x), gives a relative error of 1.08 %.",
        )
    };
    weighted(call, scale)
}

fn weighted(call: &mut Call, scale: i32) -> Datum {
    let (Some(value), Some(weight)) = (call.f64(1), call.i64(2)) else { return unchanged(call) };
    let state = own(call, scale);
    let sketch = &mut state.value_mut().0;
    sketch.coarsen(scale).or_raise();
    sketch.add_times(value, weight).or_raise();
    state.datum()
}

/// Adds the sketch in argument 1 to the state.
fn combine(call: &mut Call) -> Datum {
    if call.arg(1).is_none() {
        return unchanged(call);
    }
    if let Argument::Own(state) = State::argument(call, 0) {
        state.value_mut().0.union_bytes(call.bytes(1).unwrap_or_default()).or_raise();
        return state.datum();
    }
    let bytes = call.bytes(1).unwrap_or_default();
    let state = State::create(call, |context| {
        let memory = ContextMemory::of(context);
        let mut sketch = DdSketch::decode(bytes, memory).or_raise();
        call.bytes(0).into_iter().for_each(|bytes| sketch.union_bytes(bytes).or_raise());
        Group(sketch)
    });
    state.datum()
}

/// The sketch of a group, for whoever asked for it. NULL where no row counts.
fn finish(call: &mut Call) -> Datum {
    match State::argument(call, 0) {
        Argument::Nothing => call.null(),
        Argument::Own(state) => stored(&state.value().0),
        Argument::Shared(state) => stored(&state.value().0),
        Argument::Flat(_) => {
            decoded(call, 0);
            copied(call, 0)
        }
    }
}

/// Two sketches as one.
fn union(call: &mut Call) -> Datum {
    let mut sketch = decoded(call, 0);
    sketch.union_bytes(call.bytes(1).unwrap_or_default()).or_raise();
    stored(&sketch)
}
