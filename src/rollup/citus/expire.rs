//! Partitions of a table that lies on several nodes go whole, as elsewhere: under a lock on every shard.
//!
//! A lock on the table that the statement names would not do: a node may go on with a statement whose origin has ended,
//! and commit rows to a shard. Whoever writes a row holds a lock on its shard until the row can be seen or never will,
//! transactions that are prepared included. So what is seen under locks on all shards of a partition is all there is.
use crate::pg::query::set_local;
use crate::rollup::catalog;
use crate::rollup::error::Result;
use crate::rollup::sql::{STAMP, ident};

/// Limits how long statements of this transaction wait for a lock, on this node until the current role ends and on others
/// until `wait_again`.
pub fn wait_shortly() -> Result<()> {
    // One connection a node, which keeps the locks for the statements that follow.
    set_local(c"citus.multi_shard_modify_mode", c"sequential");
    propagated("50ms")
}

/// Ends that limit on other nodes.
pub fn wait_again() -> Result<()> {
    propagated("0")
}

/// Sets `lock_timeout` on this node and on those that take part. Citus hands SET LOCAL on only where a block shows that
/// more statements follow, which a background worker's transaction has none of.
fn propagated(time: &str) -> Result<()> {
    set_local(c"citus.propagate_set_commands", c"local");
    catalog::execute(&format!("DO 'BEGIN SET LOCAL lock_timeout TO ''{time}''; END'"), &[])
}

/// Takes the lock that nobody reads or writes beside on every shard of a table that is rolled up: by a change that changes
/// nothing, since the column is that already.
pub fn lock_shards(table: &str) -> Result<()> {
    catalog::execute(&format!("ALTER TABLE {table} ALTER COLUMN {} SET NOT NULL", ident(STAMP)), &[])
}
