//! Who is served: a process for each owner that has something to do, at most one an owner at a time.
//!
//! Invariant: a process runs what one owner has defined and no other, from its start to its end. So whatever an owner's
//! code leaves in it (settings, temporary objects, prepared statements, seeds, locks) meets nobody else. Owners come in the order in
//! which they were seen to wait. While some wait, processes leave after each turn; where none leaves, since its owner's
//! code is slow, there may be twice as many as the settings say, and in the end the oldest is cancelled, and ended where that
//! does not help.
use super::work::{self, Quiet, timed};
use crate::pg::background;
use crate::pg::lock::Turn;
use crate::pg::xact::{Moment, clock};
use crate::rollup::attempt::Due;
use crate::rollup::error::Result;
use crate::rollup::retention::Retained;
use crate::rollup::settings::{longest_turn, max_workers};
use crate::rollup::{partition, retention};
use pgrx::bgworkers::DynamicBackgroundWorker;
use pgrx::prelude::*;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// An owner of tables whose rows expire, or whose partitions are made ahead, is served at least this often.
const TENDED: Duration = Duration::from_secs(10);
/// Owners who have waited this long are served in addition to those that the settings allow.
const PATIENCE: Duration = Duration::from_secs(1);
/// One that has not left a sixth of `longest_turn` after it was cancelled is ended: code that its owner defined may catch the
/// cancellation, but not this.
fn grace() -> Duration {
    longest_turn() / 6
}

struct Process {
    worker: DynamicBackgroundWorker,
    started: Instant,
    cancelled: Option<Instant>,
}

/// What owners have that is tended: tables with a retention, and the owners of tables whose partitions are made ahead.
struct Kept {
    retained: Vec<Retained>,
    partitioned: Vec<pg_sys::Oid>,
}

impl Kept {
    fn read() -> Result<Kept> {
        let partitioned = partition::kept()?.into_iter().map(|(_, owner)| owner).collect();
        Ok(Kept { retained: retention::retained()?, partitioned })
    }
}

/// The owners that are served, and those that wait.
pub struct Owners {
    database: u64,
    running: HashMap<pg_sys::Oid, Process>,
    waiting: Vec<(pg_sys::Oid, Instant)>,
    tended: HashMap<pg_sys::Oid, Instant>,
    quiet: Quiet,
    kept: Option<(Moment, Kept)>,
    sign: Option<Turn>,
    cancelled: Instant,
    warned: bool,
}

impl Owners {
    pub fn new(database: u64) -> Owners {
        Owners {
            database,
            running: HashMap::new(),
            waiting: Vec::new(),
            tended: HashMap::new(),
            quiet: Quiet::default(),
            kept: None,
            sign: None,
            cancelled: Instant::now(),
            warned: false,
        }
    }

    /// Starts processes for owners who have something to do; `at` is when the look began that has found what is due.
    pub fn serve(&mut self, due: &[Due], at: Option<Moment>) {
        self.running.retain(|_, process| background::lives(&process.worker));
        let wanted = self.wanted(due, at);
        self.waiting.retain(|(owner, _)| wanted.contains(owner));
        for owner in wanted {
            if !self.waiting.iter().any(|(o, _)| *o == owner) {
                self.waiting.push((owner, Instant::now()));
            }
        }
        while let Some(&(owner, since)) = self.waiting.first() {
            if self.running.len() >= room(since) || !self.start(owner) {
                break;
            }
            self.waiting.remove(0);
        }
        // Those who are at work see it when their turn ends.
        self.sign = match self.waiting.is_empty() {
            true => None,
            false => self.sign.take().or_else(Turn::sign),
        };
        self.end_the_cancelled();
        self.cancel_the_oldest();
    }

    /// Owners without a process who need one, those first whose rollups have waited longest.
    fn wanted(&mut self, due: &[Due], at: Option<Moment>) -> Vec<pg_sys::Oid> {
        let mut wanted: Vec<pg_sys::Oid> = Vec::new();
        let clock = clock();
        self.quiet.begin(at);
        for d in due.iter().filter(|d| d.is_due(clock)) {
            let Some(owner) = d.owner else { continue };
            if !self.running.contains_key(&owner) && !wanted.contains(&owner) && self.quiet.may_have_rows(d) {
                wanted.push(owner);
            }
        }
        for owner in self.tenders(at) {
            if !wanted.contains(&owner) {
                wanted.push(owner);
            }
        }
        wanted
    }

    /// Owners without a process whose retention and partitions nobody has looked at for a while.
    fn tenders(&mut self, at: Option<Moment>) -> Vec<pg_sys::Oid> {
        if self.kept.as_ref().is_none_or(|(then, _)| Some(*then) != at) {
            self.kept = match timed(Kept::read) {
                Ok(kept) => at.map(|at| (at, kept)),
                Err(e) => {
                    log!("rollup scheduler: {}", e.message);
                    None
                }
            };
        }
        let Some((_, kept)) = &self.kept else { return Vec::new() };
        let clock = clock();
        let retained = kept.retained.iter().filter(|t| t.is_due(clock)).map(|t| t.owner);
        let owners: HashSet<pg_sys::Oid> = retained.chain(kept.partitioned.iter().copied()).collect();
        for owner in self.running.keys() {
            self.tended.insert(*owner, Instant::now());
        }
        self.tended.retain(|owner, _| owners.contains(owner));
        let rested = |owner: &pg_sys::Oid| self.tended.get(owner).is_none_or(|at| at.elapsed() >= TENDED);
        owners.into_iter().filter(rested).collect()
    }

    fn start(&mut self, owner: pg_sys::Oid) -> bool {
        let argument = u64::from(owner.to_u32()) << 32 | self.database;
        let started =
            background::start_worker("rollup worker", "rollup worker", "rollup_helper_main", argument);
        let Some(worker) = started else {
            if !std::mem::replace(&mut self.warned, true) {
                warning!(
                    "no background worker slot is free for rollups; raise max_worker_processes or lower rollup.max_workers"
                );
            }
            return false;
        };
        self.warned = false;
        self.running.insert(owner, Process { worker, started: Instant::now(), cancelled: None });
        self.tended.insert(owner, Instant::now());
        true
    }

    /// Ends processes that were cancelled and have not left.
    fn end_the_cancelled(&mut self) {
        for process in self.running.values_mut() {
            let Some(at) = process.cancelled.filter(|at| at.elapsed() >= grace()) else { continue };
            let Ok(pid) = process.worker.pid() else { continue };
            log!(
                "rollup scheduler: ends process {pid}, which was cancelled {} s ago",
                at.elapsed().as_secs()
            );
            process.cancelled = Some(Instant::now());
            if let Err(e) = timed(|| work::end(pid)) {
                log!("rollup scheduler: {}", e.message);
            }
        }
    }

    /// Where an owner waits and no process has left for long, cancels what the oldest of them does: it has failed then,
    /// and rests.
    fn cancel_the_oldest(&mut self) {
        let waits = self.waiting.first().is_some_and(|(_, since)| since.elapsed() >= longest_turn());
        if !waits || self.cancelled.elapsed() < longest_turn() {
            return;
        }
        let oldest = self.running.values_mut().filter(|p| p.cancelled.is_none()).min_by_key(|p| p.started);
        let Some(oldest) = oldest.filter(|p| p.started.elapsed() >= longest_turn()) else { return };
        let Ok(pid) = oldest.worker.pid() else { return };
        self.cancelled = Instant::now();
        oldest.cancelled = Some(self.cancelled);
        log!(
            "rollup scheduler: cancels process {pid}: other owners have waited for {} s",
            longest_turn().as_secs()
        );
        if let Err(e) = timed(|| work::cancel(pid)) {
            log!("rollup scheduler: {}", e.message);
        }
    }
}

/// How many processes there may be for one who has waited since then.
fn room(since: Instant) -> usize {
    let usual = max_workers().max(1);
    if since.elapsed() >= PATIENCE { 2 * usual } else { usual }
}
