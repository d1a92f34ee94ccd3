//! A process that serves one owner: runs the rollups of the owner's that are due, makes partitions, and lets old rows go
//! between the runs. It leaves when there has been nothing to do for a while, and after a turn where others wait.
use super::expiry::Turns;
use super::partitions::Partitions;
use super::work::{self, Found, Known, Quiet, Settings};
use crate::pg::background;
use crate::pg::lock::Turn;
use crate::pg::told;
use crate::rollup::settings::naptime;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// A process without work leaves after this.
const PATIENCE: Duration = Duration::from_secs(20);

crate::worker_entry!(rollup_helper_main, main);

/// The argument is the oid of the owner and, in its lower half, that of the database.
fn main(argument: u64) {
    background::take_signals();
    background::connect(Some(pg_sys::Oid::from(argument as u32)));
    let owner = pg_sys::Oid::from((argument >> 32) as u32);
    // A scheduler that was restarted does not know of those that the one before has started.
    let Some(turn) = Turn::of(owner) else { background::exit_done() };
    told::serve(owner);
    let name = background::own_database_name();
    let mut expiry = Turns::new(owner);
    let mut partitions = Partitions::new(owner);
    let mut worked = Instant::now();
    let mut settings = Settings::known();
    let (mut known, mut quiet) = (Known::default(), Quiet::default());
    while worked.elapsed() < PATIENCE {
        background::report("rollup worker", None);
        let mut more = false;
        match known.look(&name) {
            Ok(Found::Ready(due)) => {
                quiet.begin(known.at());
                let sources = work::with_rows(due.iter().filter(|d| d.owner == Some(owner)), &mut quiet);
                // Of a rollup in a cluster only such a process can tell whether there is something to do.
                if !sources.is_empty() || due.iter().any(|d| d.owner == Some(owner) && d.on_nodes) {
                    worked = Instant::now();
                }
                more = work::run_all(sources);
                partitions.work();
                expiry.work();
            }
            Ok(Found::ReadOnly) => {
                work::wait_while_read_only(&name, "rollup worker", &mut known, &mut settings);
                break;
            }
            Ok(_) => break,
            Err(e) => log!("rollup worker: {}", e.message),
        }
        background::report_statistics();
        background::report("rollup worker", None);
        // What the owner defines may have given it back, and another process have taken it.
        if !turn.again() || Turn::is_awaited() || settings.have_changed(known.at()) {
            break;
        }
        background::pause(if more || expiry.has_begun() { 0 } else { naptime().min(1000) });
    }
    background::exit_done();
}
