//! The type `ddsketch`: percentiles that merge exactly.
//!
//! Each file is one concern, each SQL function one short body: decode, call `crates/ddsketch`, encode. A value is its stored
//! bytes; in a running aggregate it is an expanded object, so that no row reads or writes those.
mod agg;
mod approx;
mod batch;
mod compare;
mod io;
mod outside;
mod read;

use crate::pg::error::OrRaise;
use crate::pg::memory::ContextMemory;
use crate::pg::v1::{Call, new_varlena};
use hll_ddsketch::DdSketch;
use pgrx::pg_sys::Datum;

/// Called once when the library is loaded.
pub fn init() {
    batch::init();
}

/// A sketch in a memory context.
type Sketch = DdSketch<ContextMemory>;

/// The sketch in argument `n`, all of it checked, for as long as the call lasts.
fn decoded(call: &Call, n: usize) -> Sketch {
    DdSketch::decode(call.bytes(n).unwrap_or_default(), ContextMemory::current()).or_raise()
}

/// A sketch in its stored form.
fn stored(sketch: &Sketch) -> Datum {
    new_varlena(&sketch.encode())
}

/// A number, or NULL.
fn float(call: &mut Call, value: Option<f64>) -> Datum {
    match value {
        Some(value) => Datum::from(value.to_bits()),
        None => call.null(),
    }
}
