//! `approx_percentile`: a percentile in one step, where nothing is stored.
//!
//! The state is of type `bytea`, for the same reasons that make that of `ddsketch_agg` a plain type: the share that is asked for,
//! in eight bytes, and the stored form of the sketch.
use super::{Sketch, float};
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use crate::pg::error::{OrRaise, raise_with_hint};
use crate::pg::expanded::{Argument, Expanded, Flatten};
use crate::pg::memory::ContextMemory;
use crate::pg::v1::Call;
use crate::v1;
use hll_ddsketch::{DEFAULT_SCALE, DdSketch};
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

v1!(approx_percentile_trans, trans);
v1!(approx_percentile_combine, combine);
v1!(approx_percentile_final, finish);

/// The state of one group.
pub struct Asked {
    /// A share, from 0 to 1.
    share: f64,
    sketch: Sketch,
}

impl Asked {
    /// Of no values. A share that is none is refused.
    pub fn new(share: f64, memory: ContextMemory) -> Asked {
        let sketch = DdSketch::new(DEFAULT_SCALE, memory).or_raise();
        // Asked of no values, to have a share refused that is none.
        sketch.quantile(share).or_raise();
        Asked { share, sketch }
    }

    /// The share that a row asks for.
    #[inline(always)]
    pub fn given(share: Option<f64>) -> f64 {
        share.unwrap_or_else(|| {
            raise_with_hint(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "the share of approx_percentile is NULL",
                "The 99th percentile is asked for as 0.99.",
            )
        })
    }

    /// Adds a value of a row that asks for `share`.
    #[inline(always)]
    pub fn add(&mut self, share: f64, value: f64) {
        check_same(self.share, share);
        self.sketch.add(value).or_raise();
    }
}

type State = Expanded<Asked>;

impl Flatten for Asked {
    const TAG: u64 = u64::from_be_bytes(*b"percents");

    fn flatten(&self, out: &mut Array<u8>, context: Context) {
        out.extend(context, &self.share.to_le_bytes());
        out.extend(context, &self.sketch.encode());
    }
}

/// The parts of a state in its stored form.
fn parts(bytes: &[u8]) -> (f64, &[u8]) {
    let Some((share, sketch)) = bytes.split_first_chunk::<8>() else {
        raise_with_hint(
            PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
            "invalid state of approx_percentile: it ends early",
            "Only the aggregate itself makes one.",
        )
    };
    (f64::from_le_bytes(*share), sketch)
}

fn read(bytes: &[u8], memory: ContextMemory) -> Asked {
    let (share, sketch) = parts(bytes);
    Asked { share, sketch: DdSketch::decode(sketch, memory).or_raise() }
}

#[inline(always)]
fn check_same(one: f64, other: f64) {
    if one.to_bits() != other.to_bits() {
        differ(one, other);
    }
}

#[cold]
#[inline(never)]
fn differ(one: f64, other: f64) -> ! {
    raise_with_hint(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("the share is {one} and {other} within one group"),
        "Several percentiles of one group: ddsketch_percentile(ddsketch_agg(x), ARRAY[0.5, 0.99]).",
    )
}

fn unchanged(call: &mut Call) -> Datum {
    Context::check_aggregate(call);
    match call.arg(0) {
        Some(state) => state,
        None => call.null(),
    }
}

fn trans(call: &mut Call) -> Datum {
    let Some(value) = call.f64(1) else { return unchanged(call) };
    let share = Asked::given(call.f64(2));
    let state = match State::argument(call, 0) {
        Argument::Own(state) => state,
        _ => first(call, share),
    };
    state.value_mut().add(share, value);
    state.datum()
}

#[cold]
#[inline(never)]
fn first<'a>(call: &Call, share: f64) -> &'a mut State {
    State::create(call, |context| {
        let memory = ContextMemory::of(context);
        match call.bytes(0) {
            Some(bytes) => read(bytes, memory),
            None => Asked::new(share, memory),
        }
    })
}

fn combine(call: &mut Call) -> Datum {
    if call.arg(1).is_none() {
        return unchanged(call);
    }
    let (share, sketch) = parts(call.bytes(1).unwrap_or_default());
    let state = match State::argument(call, 0) {
        Argument::Own(state) => state,
        _ => first(call, share),
    };
    check_same(state.value().share, share);
    state.value_mut().sketch.union_bytes(sketch).or_raise();
    state.datum()
}

/// NULL where no row counts.
fn finish(call: &mut Call) -> Datum {
    let answer = |asked: &Asked| asked.sketch.quantile(asked.share).or_raise();
    let found = match State::argument(call, 0) {
        Argument::Nothing => None,
        Argument::Own(state) => answer(state.value()),
        Argument::Shared(state) => answer(state.value()),
        Argument::Flat(bytes) => answer(&read(bytes, ContextMemory::current())),
    };
    float(call, found)
}
