//! Which functions a statement calls.
use super::tree;
use crate::pg::expression::nodes;
use pgrx::pg_sys;

/// The functions outside pg_catalog that a SELECT calls, by operators, aggregates and casts too, with the names in it
/// looked up as they are now. What aggregates call in turn is the aggregates' affair. The statement is analysed and not run.
pub fn outside(text: &str) -> Vec<pg_sys::Oid> {
    unsafe extern "C-unwind" fn visit(function: pg_sys::Oid, found: *mut std::ffi::c_void) -> bool {
        if function.to_u32() >= pg_sys::FirstNormalObjectId {
            // SAFETY: `found` is the vector below.
            unsafe { (*found.cast::<Vec<pg_sys::Oid>>()).push(function) };
        }
        false
    }
    let query = tree::parsed(text, &[]);
    let mut found: Vec<pg_sys::Oid> = Vec::new();
    // SAFETY: the tree is ours; its select list and what stands behind FROM are expressions to the walker.
    unsafe {
        let parts = [(*query).targetList.cast::<pg_sys::Node>(), (*query).jointree.cast()];
        for node in parts.into_iter().filter(|part| !part.is_null()).flat_map(|part| nodes(part)) {
            pg_sys::check_functions_in_node(node, Some(visit), (&raw mut found).cast());
        }
    }
    found.sort_unstable_by_key(|oid| oid.to_u32());
    found.dedup();
    found
}
