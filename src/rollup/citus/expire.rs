//! Partitions of a table that lies on several nodes go whole, as elsewhere: under a lock on every shard.
//!
//! A lock on the table that the statement names would not do: a node may go on with a statement whose origin has ended,
//! and commit rows to a shard. Whoever writes a row holds a lock on its shard until the row can be seen or never will,
//! transactions that are prepared included. So what is seen under locks on all shards of a partition is all there is.
//!
//! Such a table has no pages of its own: its old rows are deleted in pieces of equal time.
use crate::pg::query::set_local;
use crate::rollup::catalog::{self, Must};
use crate::rollup::error::{Result, internal};
use crate::rollup::place::Cluster;
use crate::rollup::removal::{Leaf, Left, Partition, Removal, name_now};
use crate::rollup::retention::Retention;
use hll_rollup::sql::{STAMP, ident, literal};
use pgrx::pg_sys;

/// Rows of one batch, about.
const BATCH: i64 = 50_000;

impl Cluster {
    /// One connection a node, which keeps the locks for the statements that follow, until the current role ends.
    pub fn one_connection(&self) {
        set_local(c"citus.multi_shard_modify_mode", c"sequential");
    }
}

impl Removal for Cluster {
    fn begin(&self) -> Result<()> {
        super::commit::in_two_phases()
    }

    fn wait_shortly(&self) -> Result<()> {
        self.one_connection();
        propagated("50ms")
    }

    fn lock_partition(&self, p: &Partition, rolled_up: bool) -> Result<()> {
        self.wait_shortly()?;
        catalog::execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", p.name), &[])?;
        if !rolled_up {
            return Ok(());
        }
        // Takes the lock that nobody reads or writes beside on every shard, by a change that changes nothing, since the
        // column is that already.
        catalog::execute(&format!("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL", p.name, ident(STAMP)), &[])
    }

    fn before_drop(&self, _: &Retention, _: &Partition) -> Result<()> {
        self.wait_shortly()
    }

    fn before_truncate(&self) -> Result<()> {
        self.wait_shortly()
    }

    /// Ends the limit on other nodes.
    fn after(&self) -> Result<()> {
        propagated("0")
    }

    /// Citus names the table to its shards by its oid.
    fn are_empty(&self, _: &[pg_sys::Oid]) -> Result<bool> {
        Ok(true)
    }

    fn leaves(&self, r: &Retention, old: &str, without: &[Partition]) -> Result<Vec<Leaf>> {
        let _acting = r.acting();
        // Partitions go oldest first: what is to be dropped ends where the last of them does.
        let from = without.last().map(|p| p.upto.clone());
        let (time, since) = (ident(&r.time_column), since(r, from.as_deref()));
        let mut all = Vec::new();
        for (oid, name) in tables(r)?.into_iter().filter(|(t, _)| without.iter().all(|p| p.oid != *t)) {
            let found = catalog::read(
                &format!(
                    "SELECT ARRAY(SELECT (a + (z - a) * (n::pg_catalog.float8 / pieces))::pg_catalog.text FROM pg_catalog.generate_series(1, pieces - 1) n) || 'infinity'::pg_catalog.text \
                     FROM (SELECT a, z, least(rows / {BATCH} + 1, 1000) AS pieces FROM \
                     (SELECT pg_catalog.min({time}) AS a, pg_catalog.max({time}) AS z, pg_catalog.count(*) AS rows FROM {name} WHERE {old}{since}) o) p WHERE a IS NOT NULL"
                ),
                &[],
                |row| row.get::<Vec<String>>(1),
            )?;
            let leaf =
                |ends| Leaf { oid, name: name.clone(), left: Left::Times { ends, from: from.clone() } };
            all.extend(found.into_iter().flatten().map(leaf));
        }
        Ok(all)
    }

    /// Partitions that are stored by columns go as a whole, when they are old as a whole.
    fn beside(&self, _: &Retention, _: &str, _: &[Partition]) -> Result<Option<String>> {
        Ok(None)
    }

    fn clear(&self, r: &Retention, leaf: &Leaf, old: &str) -> Result<i64> {
        let Left::Times { ends, from } = &leaf.left else { return Err(internal("pages of several nodes")) };
        let Some(end) = ends.first() else { return Ok(0) };
        let name = name_now(leaf.oid)?;
        let _acting = r.acting();
        catalog::modify(&format!(
            "DELETE FROM {name} WHERE {old}{} AND {} OPERATOR(pg_catalog.<) {}::pg_catalog.timestamptz",
            since(r, from.as_deref()),
            ident(&r.time_column),
            literal(end)
        ))
    }
}

/// Where rows may be deleted: the table itself, or, where some of its partitions are stored by columns, the others.
fn tables(r: &Retention) -> Result<Vec<(pg_sys::Oid, String)>> {
    let found = catalog::read(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid WHERE NOT i.inhdetachpending) \
         SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), h.amname = 'heap' FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am h ON h.oid = c.relam WHERE c.relkind = 'r' ORDER BY c.oid",
        &[r.oid.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<String>(2)?, row.get::<bool>(3)? == Some(true))),
    )?;
    if found.iter().all(|(.., heap)| *heap) {
        return Ok(vec![(r.oid, r.relation.clone())]);
    }
    Ok(found.into_iter().filter(|(.., heap)| *heap).map(|(oid, name, _)| (oid, name)).collect())
}

/// The condition that a row is not older than `from`.
fn since(r: &Retention, from: Option<&str>) -> String {
    let condition = |from| {
        format!(
            " AND {} OPERATOR(pg_catalog.>=) {}::pg_catalog.timestamptz",
            ident(&r.time_column),
            literal(from)
        )
    };
    from.map(condition).unwrap_or_default()
}

/// Sets `lock_timeout` on this node and on those that take part. Citus hands SET LOCAL on only where a block shows that
/// more statements follow, which a background worker's transaction has none of.
fn propagated(time: &str) -> Result<()> {
    set_local(c"citus.propagate_set_commands", c"local");
    catalog::execute(&format!("DO 'BEGIN SET LOCAL lock_timeout TO ''{time}''; END'"), &[])
}
