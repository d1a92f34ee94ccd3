//! The scheduler of one database: runs what is due, and lets old rows go between the runs. An idle tick reads and
//! takes no transaction id; ticks that were missed become one.
use super::expiry::Expiry;
use super::partitions::Partitions;
use super::settings::{max_workers, naptime};
use super::work::{self, Found, timed};
use crate::pg::background;
use crate::rollup::attempt;
use pgrx::bgworkers::DynamicBackgroundWorker;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// The database is looked at this often, if only to leave it to those who want to drop it.
const LOOK: i64 = 1000;

crate::worker_entry!(rollup_scheduler_main, main);

/// A scheduler; the argument is the oid of its database.
fn main(database: u32) {
    background::take_signals();
    background::connect(Some(pg_sys::Oid::from(database)));
    let name = background::own_database_name();
    let mut expiry = Expiry::new();
    let mut partitions = Partitions::new();
    let mut helpers = Helpers::new(database);
    let mut other_version = None;
    let mut knows_crashes = false;
    loop {
        background::report("rollup scheduler", None);
        match work::look(&name) {
            Ok(Found::Leave) => background::exit_done(),
            Ok(Found::OtherVersion(version)) => wait_for_update(&mut other_version, version),
            Ok(Found::Ready(due)) => {
                other_version = None;
                knows_crashes = knows_crashes || look_for_crashes();
                let alone = due.iter().all(|d| d.source == due[0].source);
                let sources = work::with_rows(due);
                // Another source may become due while this process is busy.
                let others = sources.len().saturating_sub(1).max(usize::from(!alone));
                helpers.call(if sources.is_empty() { 0 } else { others });
                work::run_all(sources);
                partitions.work();
                expiry.work();
            }
            Err(e) => log!("rollup scheduler: {}", e.message),
        }
        background::report_statistics();
        match &other_version {
            None => background::report("rollup scheduler", None),
            Some(version) => background::report("rollup scheduler", Some(&disagreement(version))),
        }
        if expiry.has_begun() {
            background::pause(0);
            continue;
        }
        let next = Instant::now() + Duration::from_millis(naptime().unsigned_abs());
        while let Some(left) = next.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            background::pause((left.as_millis() as i64 + 1).min(LOOK));
            if left.as_millis() as i64 > LOOK && !matches!(work::look(&name), Ok(Found::Ready(_))) {
                break;
            }
        }
    }
}

fn disagreement(catalog: &str) -> String {
    format!("waiting: the library is version {}, the extension {catalog}", attempt::LIBRARY_VERSION)
}

fn wait_for_update(known: &mut Option<String>, version: String) {
    if known.as_ref() == Some(&version) {
        return;
    }
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "rollups of this database wait: the library is version {}, the extension {version}",
            attempt::LIBRARY_VERSION
        ),
        "ALTER EXTENSION hll UPDATE; where the library is the older one, restart the server."
    );
    *known = Some(version);
}

/// True once it is known which runs a crash has cut off.
fn look_for_crashes() -> bool {
    match timed(attempt::after_start) {
        Ok(names) => {
            for name in names {
                log!("rollup {name} rests: the server crashed while it ran");
            }
            true
        }
        Err(e) => {
            log!("rollup scheduler: {}", e.message);
            false
        }
    }
}

/// Processes that run sources beside the scheduler.
struct Helpers {
    database: u32,
    running: Vec<DynamicBackgroundWorker>,
    warned: bool,
}

impl Helpers {
    fn new(database: u32) -> Helpers {
        Helpers { database, running: Vec::new(), warned: false }
    }

    /// Sees that there are `wanted` of them, as far as the settings and the server allow. Without them the
    /// scheduler runs one source after another.
    fn call(&mut self, wanted: usize) {
        self.running.retain(background::lives);
        while self.running.len() < wanted.min(max_workers()) {
            let started = background::start_worker(
                "rollup worker",
                "rollup worker",
                "rollup_helper_main",
                self.database,
            );
            match started {
                Some(worker) => self.running.push(worker),
                None => {
                    if !std::mem::replace(&mut self.warned, true) {
                        warning!(
                            "no background worker slot is free for rollups to run at once; raise max_worker_processes or lower rollup.max_workers"
                        );
                    }
                    return;
                }
            }
        }
    }
}
