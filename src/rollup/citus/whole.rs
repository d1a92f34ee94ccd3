//! Levels without the key that a rollup is distributed by: their groups are of rows of every node.
//!
//! Such a level is a plain table of the node that owns the definition. There it is written in the transaction that writes the
//! state, into the same log: it is not a part of what is committed in two phases but of what decides about them, so that a
//! crash, or a node in doubt, leaves it with the state and the state with it. It has no shards, hence none that move. A run
//! brings the groups that the nodes make of their new rows there, by a statement with the bounds, as constants, by which the
//! rollup's own table is merged: whichever snapshots the nodes take for the one and the other, the rows within them are the
//! same, since what has such a stamp was there for good, or never will be, before the first of them.
//!
//! The rollup's own table comes first: from that statement on no shard moves until the run has ended.
use super::{Place, place, place_now};
use crate::pg::kept::with_rows;
use crate::pg::node;
use crate::pg::query::set_local;
use crate::pg::xact::{ActingAs, current_user};
use crate::rollup::error::{Result, internal};
use crate::rollup::naming;
use hll_rollup::{Level, Plan, gathered, statements};
use pgrx::spi::SpiClient;
use std::ffi::CString;

/// Whether the level lies on this node while the rollup lies in shards by `key`: the level has no such key.
pub fn is_here(at: &Place, key: Option<&str>, level: &Level) -> bool {
    matches!(at, Place::Distributed(_)) && key.is_some_and(|key| !level.has_key(key))
}

/// Has what is made of such a level made on this node alone, as its table is, until what is returned is dropped: Citus would say
/// of every view that it cannot bring it to other nodes.
pub fn made_here(level: Option<&Level>) -> Result<Option<ActingAs>> {
    let Some(level) = level.filter(|level| level.keys.is_some()) else { return Ok(None) };
    if !node::citus_loaded() || place(naming::relation(&level.target)?)?.is_some() {
        return Ok(None);
    }
    let acting = ActingAs::role(current_user());
    set_local(c"citus.enable_ddl_propagation", c"off");
    Ok(Some(acting))
}

/// Of the levels of a rollup those that a statement of their own merges on every node, and those that lie on this node alone,
/// as its own table `target` does not.
pub fn parted(target: &str, levels: Vec<Level>) -> Result<(Vec<Level>, Vec<Level>)> {
    let (mut beside, mut here) = (Vec::new(), Vec::new());
    let narrow = levels.iter().any(|level| level.keys.is_some());
    let in_shards = narrow && place_now(naming::relation(target)?)?.is_some();
    for level in levels {
        let alone =
            in_shards && level.keys.is_some() && place_now(naming::relation(&level.target)?)?.is_none();
        if alone { here.push(level) } else { beside.push(level) }
    }
    Ok((beside, here))
}

/// Merges the groups of the rows that satisfy `bounds` into levels that lie on this node.
pub fn merge(plan: &Plan, source: &str, levels: &[Level], bounds: &str) -> Result<()> {
    if levels.is_empty() {
        return Ok(());
    }
    let groups = CString::new(gathered::gather(plan, source, levels, bounds)).map_err(internal)?;
    let merged = gathered::merge_gathered(plan, levels);
    let merged = |client: &mut SpiClient, groups| match groups {
        0 => Ok(()),
        _ => client.update(&*merged, None, &[]).map(drop),
    };
    with_rows(&groups, statements::DELTA, merged).map_err(internal)
}

/// The statements that do so, for people.
pub fn explain(plan: &Plan, source: &str, levels: &[Level], bounds: &str) -> Option<String> {
    (!levels.is_empty()).then(|| {
        format!(
            "-- Groups for levels on this node, which are called delta:\n{};\n-- Merges them:\n{}",
            gathered::gather(plan, source, levels, bounds),
            gathered::merge_gathered(plan, levels)
        )
    })
}

/// A level with the groups that a query without that key asks for, as the option COARSER has it.
pub fn example(plan: &Plan) -> String {
    let keys: Vec<&str> =
        plan.keys().map(|c| c.name.as_str()).filter(|name| *name != plan.time_key).collect();
    serde_json::json!({ "totals": { "width": plan.bucket.width().unwrap_or("1 day".into()), "keys": keys } })
        .to_string()
}
