//! `jsonb_counter_agg`: counts rows, or sums a bigint, by a text key in one pass.
use super::state::cannot_add;
use crate::pg::aggcontext::Context;
use crate::pg::counter_map::CounterMap;
use crate::pg::v1::Call;
use crate::v1;
use pgrx::pg_sys::Datum;

v1!(jsonb_counter_agg_trans, count);
v1!(jsonb_counter_agg_trans_n, sum);

fn count(call: &mut Call) -> Datum {
    add(call, Some(1))
}

fn sum(call: &mut Call) -> Datum {
    let n = call.i64(2);
    add(call, n)
}

/// A row without a key or without a number counts nothing: it does not even make the key.
#[inline(always)]
fn add(call: &mut Call, n: Option<i64>) -> Datum {
    let state = CounterMap::state(call, 0);
    let (Some(key), Some(n)) = (call.bytes(1), n) else {
        return match state {
            Some(map) => map.datum(),
            None => call.null(),
        };
    };
    let map = match state {
        Some(map) => map,
        None => CounterMap::create(Context::of_aggregate(call)),
    };
    if map.add_whole(key, i128::from(n)).is_err() {
        cannot_add(&[key], "a number", "an object");
    }
    map.datum()
}
