//! Expiry by an owner's process: a little at a time, so that runs do not wait for it.
use super::work::timed;
use crate::pg::background;
use crate::pg::xact::{Failure, clock};
use crate::rollup::error::Result;
use crate::rollup::expire::{Bracket, Expiry, Outcome, Step};
use crate::rollup::settings::expire_sleep;
use crate::rollup::{patience, retention};
use pgrx::prelude::*;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// Tables are looked at this often.
const EVERY: Duration = Duration::from_secs(5);
/// Runs are looked at, at least, this often.
const TURN: Duration = Duration::from_millis(500);

/// A step is a transaction.
struct Transactions;

impl Bracket for Transactions {
    type Error = Failure;

    fn alone<T>(
        &self,
        body: impl FnOnce() -> Result<T> + UnwindSafe + RefUnwindSafe,
    ) -> std::result::Result<T, Failure> {
        timed(body)
    }

    fn needed<T>(
        &self,
        body: impl FnOnce() -> Result<T> + UnwindSafe + RefUnwindSafe,
    ) -> std::result::Result<T, Failure> {
        timed(body)
    }
}

/// Where expiry is.
pub struct Turns {
    owner: pg_sys::Oid,
    looked: Option<Instant>,
    tables: Vec<pg_sys::Oid>,
    current: Option<Expiry>,
}

impl Turns {
    pub fn new(owner: pg_sys::Oid) -> Turns {
        Turns { owner, looked: None, tables: Vec::new(), current: None }
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
            match timed(retention::retained) {
                Ok(tables) => {
                    self.tables = tables
                        .into_iter()
                        .filter(|t| t.owner == self.owner && t.is_due(clock()))
                        .map(|t| t.table)
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

    fn next_table(&mut self) -> Option<Expiry> {
        let oid = self.tables.pop()?;
        background::report("rollup: expiry", Some(&format!("rollup.expire of table {}", oid.to_u32())));
        match timed(|| Expiry::of(oid, false)) {
            Ok(expiry) => Some(expiry),
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
    if patience::in_use(e.code) {
        return;
    }
    match timed(|| retention::failed(oid, &e.message)) {
        Ok(true) => log!("rollup: expiry of {name} failed, and rests: {}", e.message),
        Ok(false) => {}
        Err(e) => log!("rollup: expiry of {name}: its failure could not be stored: {}", e.message),
    }
}

/// One step of the work on a table; gives the table back while something is left.
fn step(mut expiry: Expiry) -> Option<Expiry> {
    let (oid, name) = (expiry.retention.oid, expiry.retention.relation.clone());
    let step = expiry.next_step();
    background::report("rollup: expiry", Some(&format!("rollup.expire of {name}: {step}")));
    let deletes = matches!(step, Step::Rows(_));
    let ended = match expiry.take(step, &Transactions) {
        Ok(Outcome::Done) => match (expiry.failure.take(), expiry.kept.take()) {
            (Some(e), _) => Err(e),
            (None, Some(why)) => timed(|| retention::kept(oid, &why)).map(|news| {
                if news {
                    log!("rollup: expiry of {name}: {why}");
                }
            }),
            (None, None) => timed(|| retention::succeeded(oid)),
        },
        Ok(_) => {
            if deletes {
                background::report_statistics();
                if expire_sleep() > 0 {
                    background::pause(expire_sleep());
                }
            }
            return Some(expiry);
        }
        Err(e) => Err(e),
    };
    if let Err(e) = ended {
        failed(oid, &name, &e);
    }
    None
}
