//! Expiry in pieces: which rows and partitions of a table are old, and how they go, a transaction each.
//!
//! Interlock: the row of `rollup.source` is held in share mode from before the definitions are read until the
//! removal commits, and rollup.create takes it in update mode. So no rollup can come into being between the
//! two, and what each rollup has seen only grows: a row that every one of them had merged stays merged.
//!
//! Invariant: what is kept from one transaction to the next are oids, and nothing is removed for what an earlier one
//! saw. The transaction that removes takes the locks first, on the row of `rollup.retention` and by oid on the tables,
//! and looks again beneath them: that a retention is set, and how long; that the oid is a partition of this table, or
//! lies below it; that its bound lies before the cutoff; and what each is called. Under a lock a table keeps its name
//! in its schema, and its place below others: ATTACH, DETACH, INHERIT, RENAME and SET SCHEMA of a table wait for
//! whoever has any of these locks on it. A schema may be renamed all the same: so the statements, which go by name,
//! are told the oid, or it is asked afterwards what became of it.
use super::catalog;
use super::error::{Result, internal};
use super::merged::Merged;
use super::place::{Cluster, OneServer};
use super::retention::{Retention, old_rows};
use crate::pg::xact::ActingAs;
use pgrx::pg_sys;

/// A partition that lies wholly before the cutoff.
#[derive(Debug, Clone)]
pub struct Partition {
    /// The partition.
    pub oid: pg_sys::Oid,
    /// What it was called when it was looked at, qualified and quoted: for people.
    pub name: String,
    /// Where it ends, as text of a timestamptz.
    pub upto: String,
}

/// Pages that one statement clears: some ten thousand rows, some ten milliseconds.
pub const PAGES: i64 = 200;

/// Old rows of one table without partitions.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The table.
    pub oid: pg_sys::Oid,
    /// What it was called when it was looked at: for people.
    pub name: String,
    /// Which of them are left.
    pub left: Left,
}

/// What is left of the old rows of a table.
#[derive(Debug, Clone)]
pub enum Left {
    /// Those on pages `next` to `last`.
    Pages {
        /// The first.
        next: i64,
        /// The last.
        last: i64,
    },
    /// Of a table that Citus keeps, which has no pages of its own, pieces of time, before each of `ends`.
    Times {
        /// Where they end, oldest first; never empty.
        ends: Vec<String>,
        /// Where the first one begins; None: without bound.
        from: Option<String>,
    },
}

/// How rows of a table go where it lies: on this server, or on the nodes of a Citus cluster.
pub trait Removal {
    /// Begins a transaction that removes, which the state of the retention is stored in.
    fn begin(&self) -> Result<()>;

    /// Limits how long this transaction waits for a table, while the role lasts: others who want it wait behind.
    fn wait_shortly(&self) -> Result<()>;

    /// Takes the locks on the rows of a partition that is locked here; `rolled_up` where somebody counts them.
    fn lock_partition(&self, p: &Partition, rolled_up: bool) -> Result<()>;

    /// Comes before the statement that drops a partition of `r`.
    fn before_drop(&self, r: &Retention, p: &Partition) -> Result<()>;

    /// Comes before the statement that empties a partition.
    fn before_truncate(&self) -> Result<()>;

    /// Comes after either.
    fn after(&self) -> Result<()>;

    /// Whether these tables, which were to be emptied, are empty.
    fn are_empty(&self, tables: &[pg_sys::Oid]) -> Result<bool>;

    /// The tables below `r`, itself included, that hold rows which may go, `old`; without those partitions, which wait to
    /// be dropped.
    fn leaves(&self, r: &Retention, old: &str, without: &[Partition]) -> Result<Vec<Leaf>>;

    /// Why old rows of other tables below `r` stay, without those partitions; None where they have none.
    fn beside(&self, r: &Retention, old: &str, without: &[Partition]) -> Result<Option<String>>;

    /// Removes the next of the old rows of a table that is locked; returns how many.
    fn clear(&self, r: &Retention, leaf: &Leaf, old: &str) -> Result<i64>;
}

/// Where the table of a retention lies, as far as it matters to how its rows go.
pub fn of(r: &Retention) -> &'static dyn Removal {
    if r.cutoff.is_some() { &Cluster } else { &OneServer }
}

/// What holds in the transaction that removes: the retention as it is now, and the rules for rows that may go.
pub struct Rule {
    /// The retention.
    pub r: Retention,
    /// The condition that a row may go.
    pub old: String,
    /// What every rollup has merged.
    pub merged: Merged,
}

/// Takes the interlock and the row of the retention, and gives what holds beneath them; None where no retention is set
/// any more.
pub fn rule(relation: pg_sys::Oid, force: bool) -> Result<Option<Rule>> {
    {
        let _acting = ActingAs::catalog();
        catalog::execute("SELECT FROM rollup.source WHERE relation = $1 FOR SHARE", &[relation.into()])?;
    }
    let Some(r) = Retention::locked(relation)? else { return Ok(None) };
    of(&r).begin()?;
    let definitions = if force { Vec::new() } else { catalog::of_source(relation, true)? };
    let merged = Merged::by_all(&definitions)?;
    Ok(Some(Rule { old: old_rows(&r, &merged), r, merged }))
}

/// The name of a relation that is locked, qualified and quoted.
pub fn name_now(oid: pg_sys::Oid) -> Result<String> {
    let _acting = ActingAs::catalog();
    catalog::write(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
        &[oid.into()],
        |row| row.get::<String>(1),
    )?
    .pop()
    .flatten()
    .ok_or_else(|| internal("a table that is locked is gone"))
}

impl Leaf {
    /// What is left after the rows that were just cleared; None after the last.
    pub fn after(&self) -> Option<Leaf> {
        let left = match &self.left {
            Left::Pages { next, last } => {
                let next = next + PAGES;
                (next <= *last).then_some(Left::Pages { next, last: *last })
            }
            Left::Times { ends, from } => {
                let ends = ends.get(1..).unwrap_or_default().to_vec();
                (!ends.is_empty()).then(|| Left::Times { ends, from: from.clone() })
            }
        };
        left.map(|left| Leaf { left, ..self.clone() })
    }

    /// How far it is, for people.
    pub fn progress(&self) -> String {
        match &self.left {
            Left::Pages { next, last } => format!("{}, page {next} of {}", self.name, last + 1),
            Left::Times { ends, .. } => format!("{}, {} pieces left", self.name, ends.len()),
        }
    }
}
