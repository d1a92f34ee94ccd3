//! Moments of numbers as values: what `rollup_internal.moments` makes, `rollup_internal.moments_union` and `rollup_internal.pair_moments_union` add up.
//!
//! PostgreSQL's own functions do it. They take what they get for what they made themselves, and end in an internal error
//! where it is not; a value that users can write is looked at before.
use crate::pg::aggcontext::Context;
use crate::pg::error::raise_with_hint;
use crate::pg::v1::{Call, copied};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

crate::v1!(rollup_moments_combine, combine);
crate::v1!(rollup_pair_moments_combine, combine_pairs);

fn combine(call: &mut Call) -> Datum {
    check(call, 3, "rollup_internal.moments(float8)");
    match only_one(call) {
        Some(one) => one,
        // SAFETY: two float8[], neither of them NULL, in a live call, whose context tells whether to write to the first.
        None => unsafe { pg_sys::float8_combine(call.raw()) },
    }
}

fn combine_pairs(call: &mut Call) -> Datum {
    check(call, 6, "rollup_internal.moments(float8, float8)");
    match only_one(call) {
        Some(one) => one,
        // SAFETY: as above.
        None => unsafe { pg_sys::float8_regr_combine(call.raw()) },
    }
}

/// What there is where one of the arguments is NULL.
fn only_one(call: &mut Call) -> Option<Datum> {
    match (call.arg(0), call.arg(1)) {
        (Some(_), Some(_)) => None,
        (Some(state), None) if Context::is_of_aggregate(call) => Some(state),
        (Some(_), None) => Some(copied(call, 0)),
        (None, _) => Some(copied(call, 1)),
    }
}

/// Raises an error where an argument is no array of so many numbers, none of them NULL.
fn check(call: &Call, items: u32, made_by: &str) {
    for payload in [0, 1].into_iter().filter_map(|n| call.bytes(n)) {
        // Behind the length word: dimensions, where values begin if some are NULL, their type, and the first length.
        let word = |at: usize| {
            let bytes = payload.get(4 * at..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        if (word(0), word(1), word(3)) != (Some(1), Some(0), Some(items)) {
            raise_with_hint(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("moments are an array of {items} numbers, none of them NULL"),
                format!("Moments are what {made_by} gives."),
            );
        }
    }
}
