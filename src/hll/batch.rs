//! Sketches of rows that come by pages.
use super::agg::Group;
use super::{ops, settings};
use crate::pg::batch::{self, Column, Function, Hash, Kernel, Rows, States};
use hll_sketch::{Sketch, murmur3};

/// Called once when the library is loaded.
pub fn init() {
    batch::know(
        &[
            Kernel { symbol: "hll_add_trans0", arguments: 1, add },
            Kernel { symbol: "hll_add_trans1", arguments: 2, add: add_with::<1> },
            Kernel { symbol: "hll_add_trans2", arguments: 3, add: add_with::<2> },
            Kernel { symbol: "hll_add_trans3", arguments: 4, add: add_with::<3> },
            Kernel { symbol: "hll_add_trans4", arguments: 5, add: add_with::<4> },
        ],
        &[
            Function { symbol: "hll_hash_varlena", hash: Hash::Bytes(murmur3::hash) },
            Function { symbol: "hll_hash_4byte", hash: Hash::Four(murmur3::hash_i32) },
            Function { symbol: "hll_hash_8byte", hash: Hash::Eight(murmur3::hash_i64) },
        ],
    );
}

/// As `hll_add_trans0`. A NULL element makes the state too.
fn add(states: &mut States, rows: Rows, arguments: &[&Column]) {
    let params = settings::defaults();
    for (row, group) in rows.iter() {
        let state = states.internal(group, |memory| Group::<true>::new(Sketch::empty(params, memory)));
        if let Some(hash) = arguments[0].word(row) {
            state.add(hash as i64);
        }
    }
}

/// As `hll_add_trans1` to `4`: `N` arguments after the hash name the parameters, of which those of a group's first row count.
fn add_with<const N: usize>(states: &mut States, rows: Rows, arguments: &[&Column]) {
    for (row, group) in rows.iter() {
        let state = states.internal(group, |memory| {
            let params = ops::params_of(N, |n| arguments[1 + n].word(row).unwrap_or(0) as i64);
            Group::<true>::new(Sketch::empty(params, memory))
        });
        if let Some(hash) = arguments[0].word(row) {
            state.add(hash as i64);
        }
    }
}
