//! Percentiles of rows that come by pages.
use super::agg::Group;
use super::approx::Asked;
use crate::pg::batch::{self, Column, Kernel, Rows, States};
use crate::pg::error::OrRaise;
use crate::pg::memory::ContextMemory;

/// Called once when the library is loaded.
pub fn init() {
    batch::know(
        &[
            Kernel { symbol: "ddsketch_agg_trans", arguments: 1, add },
            Kernel { symbol: "approx_percentile_trans", arguments: 2, add: ask },
        ],
        &[],
    );
}

/// A row with NULL counts nothing: it does not even make the state.
fn add(states: &mut States, rows: Rows, arguments: &[&Column]) {
    for (row, group) in rows.iter() {
        if let Some(value) = arguments[0].word(row) {
            let state = states.expanded(group, |context| Group::new(ContextMemory::of(context)));
            state.sketch().add(f64::from_bits(value)).or_raise();
        }
    }
}

fn ask(states: &mut States, rows: Rows, arguments: &[&Column]) {
    for (row, group) in rows.iter() {
        if let Some(value) = arguments[0].word(row) {
            let share = Asked::given(arguments[1].word(row).map(f64::from_bits));
            let state = states.expanded(group, |context| Asked::new(share, ContextMemory::of(context)));
            state.add(share, f64::from_bits(value));
        }
    }
}
