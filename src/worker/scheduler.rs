//! The scheduler of one database: runs what is due, and lets old rows go between the runs. An idle tick reads and
//! takes no transaction id; ticks that were missed become one.
use super::settings::{max_workers, naptime};
use super::work::{self, Found, timed};
use crate::pg::background;
use crate::rollup::{attempt, expire};
use pgrx::bgworkers::DynamicBackgroundWorker;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// Expiry is looked at this often.
const EXPIRY: Duration = Duration::from_secs(5);
/// The database is looked at this often, if only to leave it to those who want to drop it.
const LOOK: i64 = 1000;

crate::worker_entry!(rollup_scheduler_main, main);

/// A scheduler; the argument is the oid of its database.
fn main(database: u32) {
    background::take_signals();
    background::connect(Some(pg_sys::Oid::from(database)));
    let name = background::own_database_name();
    let mut last_expiry = Instant::now();
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
                if last_expiry.elapsed() > EXPIRY {
                    expire_old();
                    last_expiry = Instant::now();
                }
            }
            Err(e) => log!("rollup scheduler: {}", e.message),
        }
        background::report_statistics();
        match &other_version {
            None => background::report("rollup scheduler", None),
            Some(version) => background::report("rollup scheduler", Some(&disagreement(version))),
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

fn expire_old() {
    let relations = match timed(expire::retained) {
        Ok(relations) => relations,
        Err(e) => return log!("rollup scheduler: {}", e.message),
    };
    for relation in relations {
        background::report("rollup: expiry", Some(&format!("rollup.expire of {}", relation.to_u32())));
        loop {
            match timed(|| expire::expire(relation, expire::BATCH, false)) {
                Ok(removed) if removed == expire::BATCH => continue,
                Ok(_) => break,
                Err(e) => {
                    log!("rollup: expiry of {} failed: {}", relation.to_u32(), e.message);
                    break;
                }
            }
        }
    }
}
