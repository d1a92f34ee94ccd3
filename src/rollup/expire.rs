//! Expiry: old rows go, and a raw row never before every rollup of its table has counted it.
//!
//! There is one way that the old rows of a table go, step by step: partitions that lie wholly before the cutoff are dropped,
//! oldest first; once somebody is found to use the table, they are emptied instead, and wait to be dropped another time;
//! then old rows of what is left are deleted, a few pages at a time. The worker makes each step a transaction,
//! `rollup.expire` a part of its own. What holds between two steps is written at the head of `sweep`.
use super::archive::{self, Waiting};
use super::catalog;
use super::error::Result;
use super::merged::Merged;
use super::old_partitions::{self, Dropped, First};
use super::progress::Progress;
use super::removal::{self, Leaf, Partition};
use super::retention::{self, Retention, any_old, old_rows, store_swept};
use super::{patience, sweep};
use crate::pg::xact::{Failure, in_subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};

/// What makes a step a whole that is done or undone.
pub trait Bracket {
    /// What is left of an error that ends the work on a table.
    type Error;

    /// A step whose failure leaves the next ones possible.
    fn alone<T>(
        &self,
        body: impl FnOnce() -> Result<T> + UnwindSafe + RefUnwindSafe,
    ) -> std::result::Result<T, Failure>;

    /// A step whose failure ends the work on the table.
    fn needed<T>(
        &self,
        body: impl FnOnce() -> Result<T> + UnwindSafe + RefUnwindSafe,
    ) -> std::result::Result<T, Self::Error>;
}

/// The next step.
pub enum Step {
    /// Hand a partition that was detached to the function that archives it, and drop it.
    Archive(Waiting),
    /// Drop a partition, or detach it to be archived.
    Drop(Partition),
    /// Empty a partition: it could not be dropped, since somebody uses the table.
    Drain(Partition),
    /// Look for old rows in what is left.
    Look,
    /// Delete some of them.
    Rows(Leaf),
    /// Nothing is left to do.
    Done,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Archive(w) => write!(f, "archives {}", w.name),
            Step::Drop(p) => write!(f, "drops {}", p.name),
            Step::Drain(p) => write!(f, "empties {}", p.name),
            Step::Look => f.write_str("looks for old rows"),
            Step::Rows(leaf) => f.write_str(&leaf.progress()),
            Step::Done => f.write_str("done"),
        }
    }
}

/// What became of a step.
pub enum Outcome {
    /// A partition is gone.
    Dropped(Partition),
    /// A partition was archived, and is gone; what it was called.
    Archived(String),
    /// A partition stays for now, and why.
    Stays(String, String),
    /// The work goes on.
    More,
    /// Everything that may go has gone.
    Done,
}

/// The work on one table: what is left to do, and what was done.
pub struct Expiry {
    /// The retention as it was when the work began. Each step reads it again.
    pub retention: Retention,
    /// Rows go whether rollups have them or not.
    force: bool,
    /// Partitions that are detached, and wait to be archived.
    archives: VecDeque<Waiting>,
    partitions: VecDeque<Partition>,
    /// Partitions that could not be dropped.
    waiting: Vec<Partition>,
    /// Why partitions are emptied instead of dropped: somebody uses the table.
    in_use: Option<String>,
    leaves: Option<VecDeque<Leaf>>,
    /// Rows that were removed, those of dropped partitions aside.
    pub removed: i64,
    /// The first reason why a partition could not go that is no other session's.
    pub failure: Option<Failure>,
    /// Why old rows stay though there was no error.
    pub kept: Option<String>,
}

impl Expiry {
    /// What may go of a table, as the calling statement sees it. An error where no retention is set.
    pub fn of(relation: pg_sys::Oid, force: bool) -> Result<Expiry> {
        let retention = retention::retention(relation)?;
        let partitions = old_partitions::partitions(&retention)?.into();
        Ok(Expiry {
            retention,
            force,
            archives: archive::waiting(relation)?.into(),
            partitions,
            waiting: Vec::new(),
            in_use: None,
            leaves: None,
            removed: 0,
            failure: None,
            kept: None,
        })
    }

    /// The next step, which `take` is to be given.
    pub fn next_step(&mut self) -> Step {
        if let Some(w) = self.archives.pop_front() {
            return Step::Archive(w);
        }
        if let Some(p) = self.partitions.pop_front() {
            let empties = self.in_use.is_some() && self.first() == First::Nothing;
            return if empties { Step::Drain(p) } else { Step::Drop(p) };
        }
        match &mut self.leaves {
            None => Step::Look,
            Some(leaves) => leaves.pop_front().map_or(Step::Done, Step::Rows),
        }
    }

    /// Takes a step.
    pub fn take<B: Bracket>(&mut self, step: Step, bracket: &B) -> std::result::Result<Outcome, B::Error> {
        let (relation, force) = (self.retention.oid, self.force);
        match step {
            Step::Archive(w) => {
                bracket.needed(AssertUnwindSafe(|| archive::hand_over(relation, &w)))?;
                return Ok(Outcome::Archived(w.name));
            }
            Step::Drop(p) => {
                let first = self.first();
                match bracket
                    .alone(AssertUnwindSafe(|| old_partitions::drop_partition(relation, &p, force, first)))
                {
                    Ok(Dropped::Yes) if first == First::Archive => {
                        self.archives.push_back(Waiting { oid: p.oid, name: p.name });
                    }
                    Ok(Dropped::Yes) => return Ok(Outcome::Dropped(p)),
                    // It has been detached, or is kept for longer by now.
                    Ok(Dropped::NotOld) => {}
                    Ok(Dropped::Unmerged) => {
                        return Ok(self.stays(p, "rows of it are not rolled up yet".to_string()));
                    }
                    // The table is in use; this partition may not be.
                    Err(e) if patience::in_use(e.code) && first == First::Archive => {
                        return Ok(self.stays(p, e.message));
                    }
                    Err(e) if patience::in_use(e.code) => {
                        self.in_use = Some(e.message);
                        self.partitions.push_front(p);
                    }
                    Err(e) => return Ok(self.fails(p, e)),
                }
            }
            Step::Drain(p) => {
                match bracket.alone(AssertUnwindSafe(|| old_partitions::empty_partition(relation, &p, force)))
                {
                    Ok(rows) => {
                        self.removed += rows;
                        let why = self.in_use.clone().unwrap_or_else(|| "it was emptied".into());
                        return Ok(self.stays(p, format!("{why}; its rows are gone")));
                    }
                    // The partition itself is in use: the next look is another attempt.
                    Err(e) if patience::in_use(e.code) => return Ok(self.stays(p, e.message)),
                    Err(e) => return Ok(self.fails(p, e)),
                }
            }
            Step::Look => {
                let (r, waiting) = (&self.retention, &self.waiting);
                let (leaves, kept) = bracket.needed(AssertUnwindSafe(|| find_rows(r, force, waiting)))?;
                (self.leaves, self.kept) = (Some(leaves.into()), kept);
            }
            Step::Rows(leaf) => {
                let cleared = bracket.needed(AssertUnwindSafe(|| sweep::clear(relation, &leaf, force)))?;
                self.cleared(cleared, &leaf);
            }
            Step::Done => {
                if self.removed > 0 {
                    let keep = &self.retention.keep;
                    bracket.needed(AssertUnwindSafe(|| store_swept(relation, keep)))?;
                }
                return Ok(Outcome::Done);
            }
        }
        Ok(Outcome::More)
    }

    fn cleared(&mut self, what: sweep::Cleared, leaf: &Leaf) {
        self.removed += what.removed;
        self.kept = self.kept.take().or(what.kept);
        if let (Some(leaves), Some(after)) = (&mut self.leaves, leaf.after()) {
            leaves.push_front(after);
        }
    }

    fn first(&self) -> First {
        if self.retention.archive.is_some() { First::Archive } else { First::Nothing }
    }

    fn stays(&mut self, p: Partition, why: String) -> Outcome {
        let name = p.name.clone();
        self.waiting.push(p);
        Outcome::Stays(name, why)
    }

    fn fails(&mut self, p: Partition, e: Failure) -> Outcome {
        let why = e.message.clone();
        let message = format!("partition {} stays: {why}", p.name);
        self.failure.get_or_insert(Failure { message, ..e });
        self.stays(p, why)
    }
}

/// Tables with rows to remove, beside partitions that could not be dropped just now and will be; and why old rows of others
/// stay.
fn find_rows(r: &Retention, force: bool, waiting: &[Partition]) -> Result<(Vec<Leaf>, Option<String>)> {
    // What is archived goes with its partition, and no row before.
    if r.archive.is_some() {
        return Ok((Vec::new(), None));
    }
    let old = old_rows(r, &merged_by(r.oid, force)?);
    if !any_old(r, &old)? {
        return Ok((Vec::new(), None));
    }
    Ok((removal::of(r).leaves(r, &old, waiting)?, removal::of(r).beside(r, &old, waiting)?))
}

fn merged_by(relation: pg_sys::Oid, force: bool) -> Result<Merged> {
    Merged::by_all(&if force { Vec::new() } else { catalog::of_source(relation, false)? })
}

/// The caller's transaction: a partition that cannot go is undone alone, any other error ends the call.
struct Call;

impl Bracket for Call {
    type Error = ErrorReport;

    fn alone<T>(
        &self,
        body: impl FnOnce() -> Result<T> + UnwindSafe + RefUnwindSafe,
    ) -> std::result::Result<T, Failure> {
        in_subtransaction(body)
    }

    fn needed<T>(&self, body: impl FnOnce() -> Result<T> + UnwindSafe + RefUnwindSafe) -> Result<T> {
        body()
    }
}

/// Removes, in the caller's transaction, everything that may go; returns the rows removed. `force` does not ask
/// whether rollups have them; `dry_run` removes nothing, and tells of what would go.
pub fn expire(relation: pg_sys::Oid, dry_run: bool, force: bool) -> Result<i64> {
    let mut expiry = Expiry::of(relation, force)?;
    let r = &expiry.retention;
    catalog::check_owner(Some(r.owner), &format!("table {}", r.relation))?;
    if dry_run {
        for p in &expiry.partitions {
            let what = if r.archive.is_some() { "archived, and dropped" } else { "dropped" };
            notice!("partition {} would be {what}", p.name);
        }
        if r.archive.is_some() {
            return Ok(0);
        }
        let old = old_rows(r, &merged_by(relation, force)?);
        let _acting = r.acting();
        return catalog::one(&format!("SELECT pg_catalog.count(*) FROM {} WHERE {old}", r.relation), &[]);
    }
    super::deferred::of_table(relation)?;
    let mut progress = Progress::of(format!("rollup.expire of {}", r.relation));
    loop {
        let step = expiry.next_step();
        progress.tell(&step.to_string());
        match expiry.take(step, &Call)? {
            Outcome::Dropped(p) => notice!("partition {} was dropped", p.name),
            Outcome::Archived(name) => notice!("partition {name} was archived"),
            Outcome::Stays(name, why) => notice!("partition {name} stays: {why}"),
            Outcome::More => {}
            Outcome::Done => {
                // As the worker does, so that `rollup.status` shows it whoever called.
                match (&expiry.failure, &expiry.kept) {
                    (Some(e), _) => _ = retention::failed(relation, &e.message)?,
                    (None, Some(why)) => {
                        notice!("{why}");
                        _ = retention::kept(relation, why)?;
                    }
                    (None, None) => retention::succeeded(relation)?,
                }
                return Ok(expiry.removed);
            }
        }
    }
}
