//! Counters of rows that come by pages.
use super::error::{NUMBER, refused};
use super::state::State;
use crate::pg::batch::{self, Column, Kernel, Rows, States};
use crate::pg::decimal::{Decimal, Number};

/// Called once when the library is loaded.
pub fn init() {
    batch::know(
        &[
            Kernel { symbol: "jsonb_counter_agg_trans", arguments: 1, add: count },
            Kernel { symbol: "jsonb_counter_agg_trans_int4", arguments: 2, add: sum },
            Kernel { symbol: "jsonb_counter_agg_trans_int8", arguments: 2, add: sum },
        ],
        &[],
    );
}

fn count(states: &mut States, rows: Rows, arguments: &[&Column]) {
    for (row, group) in rows.iter() {
        if let Some(key) = arguments[0].bytes(row) {
            add(states, group, key, 1);
        }
    }
}

/// A row without a key or without a number counts nothing: it does not even make the state.
fn sum(states: &mut States, rows: Rows, arguments: &[&Column]) {
    for (row, group) in rows.iter() {
        if let (Some(key), Some(n)) = (arguments[0].bytes(row), arguments[1].word(row)) {
            add(states, group, key, n as i64);
        }
    }
}

#[inline(always)]
fn add(states: &mut States, group: usize, key: &[u8], n: i64) {
    let state = states.expanded(group, |context| State::new(context, None));
    state
        .add(key, Number::Small(Decimal::whole(n)), usize::MAX)
        .unwrap_or_else(|why| refused(why, &[key], NUMBER));
}
