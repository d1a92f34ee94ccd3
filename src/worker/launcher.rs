//! The launcher: sees that each database has its scheduler. It connects to no database, so that it stands in
//! the way of none.
use crate::pg::xact::{self, Failure, Moment};
use crate::pg::{background, lock};
use crate::rollup::settings::{naptime, serves};
use pgrx::bgworkers::DynamicBackgroundWorker;
use pgrx::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A database without the extension is looked at again after this, doubling up to `LONGEST`.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

struct Slot {
    worker: Option<DynamicBackgroundWorker>,
    started: Instant,
    again: Duration,
}

crate::worker_entry!(rollup_launcher_main, main);

fn main(_: u64) {
    background::take_signals();
    background::connect(None);
    background::report("rollup launcher", None);
    let mut slots: HashMap<u32, Slot> = HashMap::new();
    let mut warned = false;
    let mut known = None;
    loop {
        match served(&mut known) {
            Err(e) => log!("rollup launcher: {}", e.message),
            Ok(databases) => {
                slots.retain(|oid, s| {
                    s.worker.as_ref().is_some_and(background::lives)
                        || databases.iter().any(|(o, _)| o == oid)
                });
                for (oid, name) in databases {
                    look_after(slots.entry(oid), oid, &name, &mut warned);
                }
            }
        }
        background::pause(naptime().min(1000));
    }
}

/// The databases that take connections, as they were at a moment: see `Known` in `work`.
type Databases = (Moment, Vec<(u32, String)>);

/// The databases that are to have a scheduler, now that nobody waits for everyone to leave them.
fn served(known: &mut Option<Databases>) -> Result<Vec<(u32, String)>, Failure> {
    let at = xact::in_transaction(Moment::now)?;
    let all = match known.take() {
        Some((then, all)) if then == at => all,
        _ => xact::in_transaction(background::databases)?,
    };
    let mut databases = known.insert((at, all)).1.clone();
    databases.retain(|(_, name)| serves(name));
    xact::in_transaction(|| {
        databases.retain(|(oid, _)| !lock::asked_to_leave((*oid).into()));
        databases
    })
}

fn look_after(
    slot: std::collections::hash_map::Entry<'_, u32, Slot>,
    oid: u32,
    name: &str,
    warned: &mut bool,
) {
    let slot = slot.or_insert_with(|| Slot { worker: None, started: Instant::now(), again: Duration::ZERO });
    if slot.worker.as_ref().is_some_and(background::lives) {
        return;
    }
    if slot.started.elapsed() < slot.again {
        return;
    }
    // A scheduler that stayed for a while had work: the next one comes soon.
    let stayed = slot.worker.is_some() && slot.started.elapsed() > slot.again + Duration::from_secs(5);
    slot.again = if stayed || slot.again.is_zero() { FIRST } else { (slot.again * 2).min(LONGEST) };
    slot.started = Instant::now();
    slot.worker = background::start_worker(
        &format!("rollup scheduler {name}"),
        "rollup scheduler",
        "rollup_scheduler_main",
        u64::from(oid),
    );
    if slot.worker.is_none() && !*warned {
        *warned = true;
        warning!(
            "no background worker slot is free for the rollups of database {name}; raise max_worker_processes"
        );
    } else if slot.worker.is_some() {
        *warned = false;
    }
}
