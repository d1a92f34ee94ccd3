//! Histograms that others made.
use super::stored;
use crate::pg::error::{OrRaise, raise_with_hint};
use crate::pg::memory::ContextMemory;
use crate::pg::native;
use crate::pg::v1::Call;
use crate::v1;
use hll_ddsketch::{DdSketch, Exponential, Native, Spans};
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

v1!(ddsketch_from_otel, from_otel);
v1!(ddsketch_from_prometheus, from_prometheus);

/// An argument that must be known.
fn needed<T>(value: Option<T>, name: &str) -> T {
    value.unwrap_or_else(|| {
        raise_with_hint(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{name} of the histogram is NULL"),
            "sum, min and max alone may be unknown; a half without values may be NULL as a whole.",
        )
    })
}

/// The elements of an array, none of them NULL; none of NULL.
fn elements<T>(values: Vec<Option<T>>, name: &str) -> Vec<T> {
    values.into_iter().map(|value| needed(value, &format!("an element of {name}"))).collect()
}

fn from_otel(call: &mut Call) -> Datum {
    let positive = elements(native::bigints(call, 3), "positive_counts");
    let negative = elements(native::bigints(call, 5), "negative_counts");
    let offset = |n: usize, counts: &[i64], name: &str| match counts {
        [] => call.i32(n).unwrap_or_default(),
        _ => needed(call.i32(n), name),
    };
    let histogram = Exponential {
        scale: needed(call.i32(0), "scale"),
        zero_count: needed(call.i64(1), "zero_count"),
        positive_offset: offset(2, &positive, "positive_offset"),
        positive: &positive,
        negative_offset: offset(4, &negative, "negative_offset"),
        negative: &negative,
        sum: call.f64(6),
        min: call.f64(7),
        max: call.f64(8),
    };
    stored(&DdSketch::from_otel(&histogram, ContextMemory::current()).or_raise())
}

/// Offsets, lengths and deltas.
type Owned = (Vec<i32>, Vec<i32>, Vec<i64>);

fn spans_of((offsets, lengths, deltas): &Owned) -> Spans<'_> {
    Spans { offsets, lengths, deltas }
}

fn from_prometheus(call: &mut Call) -> Datum {
    let spans = |first: usize, half: &str| {
        (
            elements(native::integers(call, first), &format!("{half}_span_offsets")),
            elements(native::integers(call, first + 1), &format!("{half}_span_lengths")),
            elements(native::bigints(call, first + 2), &format!("{half}_deltas")),
        )
    };
    let (positive, negative) = (spans(2, "positive"), spans(5, "negative"));
    let histogram = Native {
        schema: needed(call.i32(0), "schema"),
        zero_count: needed(call.i64(1), "zero_count"),
        positive: spans_of(&positive),
        negative: spans_of(&negative),
        sum: call.f64(8),
    };
    stored(&DdSketch::from_prometheus(&histogram, ContextMemory::current()).or_raise())
}
