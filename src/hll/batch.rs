//! Sketches of rows that come by pages.
use super::agg::Group;
use super::settings;
use crate::pg::batch::{self, Column, Function, Hash, Kernel, Rows, States};
use hll_sketch::{Sketch, murmur3};

/// Called once when the library is loaded.
pub fn init() {
    batch::know(
        &[Kernel { symbol: "hll_add_trans0", arguments: 1, add }],
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
