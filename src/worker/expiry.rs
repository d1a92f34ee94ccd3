//! Expiry by an owner's process: a little at a time, so that runs do not wait for it.
use super::settings::expire_sleep;
use super::work::timed;
use crate::pg::background;
use crate::pg::xact::Failure;
use crate::rollup::expire::{self, Retention};
use crate::rollup::old_partitions::{self, Dropped, Partition};
use crate::rollup::sweep::{self, Leaf};
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// Tables are looked at this often.
const EVERY: Duration = Duration::from_secs(5);
/// Runs are looked at, at least, this often.
const TURN: Duration = Duration::from_millis(500);

/// The table at which expiry is, and what is left to do there.
struct Table {
    retention: Retention,
    partitions: Vec<Partition>,
    waiting: Vec<Partition>,
    /// Somebody uses it: partitions are emptied, and dropped another time.
    busy: bool,
    leaves: Option<Vec<Leaf>>,
    removed: i64,
    /// Why a partition could not go. Others can.
    failure: Option<Failure>,
}

/// Where expiry is.
pub struct Expiry {
    owner: pg_sys::Oid,
    looked: Option<Instant>,
    tables: Vec<pg_sys::Oid>,
    current: Option<Table>,
}

impl Expiry {
    pub fn new(owner: pg_sys::Oid) -> Expiry {
        Expiry { owner, looked: None, tables: Vec::new(), current: None }
    }

    /// There is more to do right now.
    pub fn has_begun(&self) -> bool {
        self.current.is_some() || !self.tables.is_empty()
    }

    /// Works for a turn, if there is something to do.
    pub fn work(&mut self) {
        if !self.has_begun() {
            if self.looked.is_some_and(|at| at.elapsed() < EVERY) {
                return;
            }
            self.looked = Some(Instant::now());
            match timed(expire::retained) {
                Ok(tables) => {
                    self.tables = tables
                        .into_iter()
                        .filter(|(_, o)| *o == self.owner)
                        .map(|(table, _)| table)
                        .collect();
                }
                Err(e) => return log!("rollup: expiry: {}", e.message),
            }
        }
        let turn = Instant::now();
        while self.has_begun() && turn.elapsed() < TURN {
            let table = self.current.take().or_else(|| self.next_table());
            self.current = table.and_then(step);
        }
    }

    fn next_table(&mut self) -> Option<Table> {
        let oid = self.tables.pop()?;
        background::report("rollup: expiry", Some(&format!("rollup.expire of table {}", oid.to_u32())));
        match timed(|| expire::find(oid)) {
            Ok((retention, partitions)) => Some(Table {
                retention,
                partitions,
                waiting: Vec::new(),
                busy: false,
                leaves: None,
                removed: 0,
                failure: None,
            }),
            Err(e) => {
                failed(oid, &format!("table {}", oid.to_u32()), &e);
                None
            }
        }
    }
}

/// Stores why rows of a table could not go, and says so in the log once, not at each attempt.
fn failed(oid: pg_sys::Oid, name: &str, e: &Failure) {
    // Somebody uses the table: the next look is another attempt.
    if sweep::in_use(e.code) {
        return;
    }
    match timed(|| expire::failed(oid, &e.message)) {
        Ok(true) => log!("rollup: expiry of {name} failed, and rests: {}", e.message),
        Ok(false) => {}
        Err(e) => log!("rollup: expiry of {name}: its failure could not be stored: {}", e.message),
    }
}

/// One transaction of the work on a table; gives the table back while something is left.
fn step(mut table: Table) -> Option<Table> {
    let (oid, name) = (table.retention.oid, table.retention.relation.clone());
    let ended = one_step(&mut table).and_then(|more| match (more, table.failure.take()) {
        (true, failure) => {
            table.failure = failure;
            Ok(true)
        }
        (false, None) => timed(|| expire::succeeded(oid)).map(|()| false),
        (false, Some(e)) => Err(e),
    });
    match ended {
        Ok(more) => more.then_some(table),
        Err(e) => {
            failed(oid, &name, &e);
            None
        }
    }
}

fn one_step(table: &mut Table) -> Result<bool, Failure> {
    let r = table.retention.clone();
    if let Some(p) = (!table.partitions.is_empty()).then(|| table.partitions.remove(0)) {
        background::report(
            "rollup: expiry",
            Some(&format!("rollup.expire of {}: drops {}", r.relation, p.name)),
        );
        let mut fails = None;
        if !table.busy {
            match timed(|| old_partitions::drop_partition(r.oid, &p, false)) {
                Ok(Dropped::Yes | Dropped::NotOld) => return Ok(true),
                Ok(Dropped::Unmerged) => {}
                Err(e) if sweep::in_use(e.code) => table.busy = true,
                Err(e) => fails = Some(e),
            }
        }
        if table.busy {
            match timed(|| old_partitions::empty_partition(r.oid, &p, false)) {
                Ok(rows) => table.removed += rows,
                // The partition itself is in use: the next look is another attempt.
                Err(e) if sweep::in_use(e.code) => {}
                Err(e) => fails = Some(e),
            }
        }
        if let Some(mut e) = fails {
            e.message = format!("partition {} stays: {}", p.name, e.message);
            table.failure.get_or_insert(e);
        }
        table.waiting.push(p);
        return Ok(true);
    }
    let Some(leaves) = &mut table.leaves else {
        let waiting = &table.waiting;
        table.leaves = Some(timed(|| expire::find_rows(&r, false, waiting))?);
        return Ok(true);
    };
    let Some(leaf) = leaves.pop() else {
        if table.removed > 0 {
            timed(|| expire::store_swept(r.oid, &r.keep))?;
        }
        return Ok(false);
    };
    background::report(
        "rollup: expiry",
        Some(&format!("rollup.expire of {}: {}", r.relation, leaf.progress())),
    );
    table.removed += timed(|| sweep::clear(r.oid, &leaf, false))?;
    leaves.extend(leaf.after());
    background::report_statistics();
    if expire_sleep() > 0 {
        background::pause(expire_sleep());
    }
    Ok(true)
}
