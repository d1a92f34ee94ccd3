//! `jsonb_counter_agg`: counts rows, or sums a number, by a text key in one pass.
use super::error::{NUMBER, negative, negative_number, not_finite, refused, unequal_bounds};
use super::state::{own, unchanged};
use crate::pg::decimal::{Decimal, Number};
use crate::pg::v1::Call;
use crate::v1;
use pgrx::pg_sys::Datum;

v1!(jsonb_counter_agg_trans, count);
v1!(jsonb_counter_agg_trans_int4, sum_int4);
v1!(jsonb_counter_agg_trans_int8, sum_int8);
v1!(jsonb_counter_agg_trans_numeric, sum_numeric);
v1!(jsonb_counter_agg_trans_float8, sum_float8);

fn count(call: &mut Call) -> Datum {
    add(call, |_, _| Some(Number::Small(Decimal::whole(1))))
}

fn sum_int4(call: &mut Call) -> Datum {
    add(call, |call, _| Some(Number::Small(Decimal::whole(i64::from(call.i32(2)?)))))
}

fn sum_int8(call: &mut Call) -> Datum {
    add(call, |call, _| Some(Number::Small(Decimal::whole(call.i64(2)?))))
}

fn sum_numeric(call: &mut Call) -> Datum {
    add(call, |call, key| {
        Some(Number::read(call.bytes(2)?).unwrap_or_else(|| not_finite(key, "NaN or infinite")))
    })
}

fn sum_float8(call: &mut Call) -> Datum {
    add(call, |call, key| {
        let n = call.f64(2)?;
        Some(Number::from_f64(n).unwrap_or_else(|| not_finite(key, &n.to_string())))
    })
}

/// A row without a key or without a number counts nothing: it does not even make the key.
#[inline(always)]
fn add(call: &mut Call, number: impl Fn(&Call, &[u8]) -> Option<Number>) -> Datum {
    let Some(key) = call.bytes(1) else { return unchanged(call) };
    let Some(n) = number(call, key) else { return unchanged(call) };
    let max_keys = max_keys(call, 3);
    let state = own(call, max_keys);
    let counted = state.value_mut();
    if max_keys.is_some() && n.is_negative() {
        negative_number(key);
    }
    check_bound(counted.bound.as_ref().map(|b| b.max_keys()), max_keys);
    counted.add(key, n, usize::MAX).unwrap_or_else(|why| refused(why, &[key], NUMBER));
    state.datum()
}

/// Argument `n`, the bound, if there is one.
#[inline(always)]
pub fn max_keys(call: &Call, n: usize) -> Option<u32> {
    call.i32(n).map(|k| u32::try_from(k).unwrap_or_else(|_| negative("max_keys", k)))
}

/// One group has one bound.
#[inline(always)]
pub fn check_bound(before: Option<u32>, now: Option<u32>) {
    if before != now {
        unequal_bounds(before, now);
    }
}
