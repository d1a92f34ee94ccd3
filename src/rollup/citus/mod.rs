//! Rollups of tables that a Citus cluster keeps: their rows are written on every node, and their rollup lies beside
//! them. How far such a rollup has come is a frontier of snapshots, two for each group of nodes (crate `hll-rollup`); how
//! nodes are asked is in `gather`, a run in `run`, and its tables in `create`.
use super::ask::{self, Must};
use super::error::{Result, raise};
use crate::pg::node;
use hll_rollup::{GROUP, SOURCE};
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

pub mod commit;
pub mod create;
pub mod expire;
pub mod finest;
pub mod gather;
pub mod leaving;
pub mod moment;
pub mod narrow;
mod places;
pub mod rebase;
pub mod run;
pub mod shards;
pub mod status;
pub mod view;
pub mod whole;

/// What is added to the id of this process's transactions to give the stamps of rows: the group of the node, and
/// whether the connection is one of Citus. 0 without Citus.
pub fn stamp_base() -> i64 {
    if !node::citus_loaded() {
        return 0;
    }
    let group = places::own_group().unwrap_or_else(raise);
    i64::from(group) * GROUP + if node::opened_by_citus() { SOURCE } else { 0 }
}

/// What is added to the id of transactions of this node's own sessions.
pub fn own_base() -> Result<i64> {
    if node::citus_loaded() { Ok(i64::from(places::own_group()?) * GROUP) } else { Ok(0) }
}

/// How Citus keeps a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In shards, by the values of this column.
    Distributed(String),
    /// In one shard, on some node.
    Single,
    /// Whole, on every node.
    Reference,
    /// On this node, known to the others.
    Local,
    /// In shards that grow by what is added to them.
    Appended,
}

/// How Citus keeps a table; None where it does not know it.
pub fn place(relation: pg_sys::Oid) -> Result<Option<Place>> {
    if !node::citus_loaded() {
        return Ok(None);
    }
    let there = "SELECT pg_catalog.to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL";
    if ask::read(there, &[], |row| row.get::<bool>(1))?.first() != Some(&Some(true)) {
        return Ok(None);
    }
    placed(ask::read(KEPT, &[relation.into()], kept)?)
}

/// The same of a table of a database that has Citus, whether or not the calling statement itself has given it to Citus.
pub fn place_now(relation: pg_sys::Oid) -> Result<Option<Place>> {
    placed(ask::write(KEPT, &[relation.into()], kept)?)
}

const KEPT: &str = "SELECT p.partmethod::pg_catalog.text, p.repmodel::pg_catalog.text, p.colocationid::pg_catalog.int4, \
  pg_catalog.column_to_column_name(p.logicalrelid, p.partkey) FROM pg_catalog.pg_dist_partition p WHERE p.logicalrelid = $1";

/// The method, the model, the column, and the number of those that lie together.
type Kept = ([String; 3], i32);

fn kept(row: &SpiHeapTupleData) -> SpiResult<Kept> {
    // Only a table that is distributed by a column has one.
    let column = row.get::<String>(4)?.unwrap_or_default();
    Ok(([row.must::<String>(1)?, row.must::<String>(2)?, column], row.must::<i32>(3)?))
}

fn placed(found: Vec<Kept>) -> Result<Option<Place>> {
    Ok(found.into_iter().next().map(|([method, model, column], colocation)| {
        match (method.as_str(), model.as_str(), colocation) {
            ("n", "t", _) => Place::Reference,
            ("n", _, 0) => Place::Local,
            ("n", ..) => Place::Single,
            ("a", ..) => Place::Appended,
            _ => Place::Distributed(column),
        }
    }))
}
