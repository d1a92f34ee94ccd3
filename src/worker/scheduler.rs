//! The scheduler of one database: sees which owners have something to do, and starts a process for each. It runs nothing
//! that an owner has defined and waits for no lock of theirs, so that no owner can stop it; it keeps what it knows
//! between looks. A tick takes no transaction id, and where no transaction with one has finished since the tick before, it runs no
//! statement; ticks that were missed become one.
use super::owners::Owners;
use super::work::{self, Found, Known, Settings, timed};
use crate::pg::background;
use crate::rollup::attempt;
use crate::rollup::settings::naptime;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// The database is looked at this often, if only to leave it to those who want to drop it.
const LOOK: i64 = 1000;

crate::worker_entry!(rollup_scheduler_main, main);

/// A scheduler; the argument is the oid of its database.
fn main(database: u64) {
    background::take_signals();
    background::connect(Some(pg_sys::Oid::from(database as u32)));
    let name = background::own_database_name();
    let mut owners = Owners::new(database);
    let mut other_version = None;
    let mut knows_crashes = false;
    let mut settings = Settings::known();
    let mut known = Known::default();
    loop {
        background::report("rollup scheduler", None);
        match known.look(&name) {
            Ok(Found::Leave) => background::exit_done(),
            Ok(Found::ReadOnly) => {
                log!("rollups of database {name} wait: default_transaction_read_only is on");
                work::wait_while_read_only(&name, "rollup scheduler", &mut known, &mut settings);
                background::exit_done();
            }
            Ok(Found::OtherVersion(version)) => wait_for_update(&mut other_version, version),
            Ok(Found::Ready(due)) => {
                other_version = None;
                knows_crashes = knows_crashes || look_for_crashes();
                owners.serve(&due, known.at());
            }
            Err(e) => log!("rollup scheduler: {}", e.message),
        }
        if settings.have_changed(known.at()) {
            background::exit_done();
        }
        background::report_statistics();
        match &other_version {
            None => background::report("rollup scheduler", None),
            Some(version) => background::report("rollup scheduler", Some(&disagreement(version))),
        }
        let next = Instant::now() + Duration::from_millis(naptime().unsigned_abs());
        while let Some(left) = next.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            background::pause((left.as_millis() as i64 + 1).min(LOOK));
            if left.as_millis() as i64 > LOOK && !matches!(known.look(&name), Ok(Found::Ready(_))) {
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
