//! Partitions ahead by an owner's process, a transaction each.
use super::work::timed;
use crate::pg::background;
use crate::rollup::partition;
use crate::rollup::patience::in_use;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// Tables are looked at this often.
const EVERY: Duration = Duration::from_secs(5);

/// When partitions were looked at.
pub struct Partitions {
    owner: pg_sys::Oid,
    next: Instant,
}

impl Partitions {
    pub fn new(owner: pg_sys::Oid) -> Partitions {
        Partitions { owner, next: Instant::now() }
    }

    /// Makes what is missing, if it is time to look.
    pub fn work(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        match timed(partition::kept) {
            Ok(tables) => {
                tables.into_iter().filter(|(_, o)| *o == self.owner).for_each(|(table, _)| make(table))
            }
            Err(e) => log!("rollup: partitions: {}", e.message),
        }
    }
}

fn make(table: pg_sys::Oid) {
    let what = format!("rollup.partition of table {}", table.to_u32());
    background::report("rollup: partitions", Some(&what));
    loop {
        match timed(|| partition::step(table)) {
            Ok(true) => {}
            Ok(false) => return,
            // Somebody uses the table: the next look is another attempt.
            Err(e) if in_use(e.code) => return,
            Err(e) => {
                match timed(|| partition::failed(table, &e.message)) {
                    Ok(true) => log!("{what} failed: {}", e.message),
                    Ok(false) => {}
                    Err(e) => log!("{what}: its failure could not be stored: {}", e.message),
                }
                return;
            }
        }
    }
}
