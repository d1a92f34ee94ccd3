//! A helper of a scheduler: runs sources that nobody works on, and leaves when there has been nothing to do for
//! a while.
use super::settings::naptime;
use super::work::{self, Found};
use crate::pg::background;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// A helper without work leaves after this.
const PATIENCE: Duration = Duration::from_secs(20);

crate::worker_entry!(rollup_helper_main, main);

/// A helper; the argument is the oid of its database.
fn main(database: u32) {
    background::take_signals();
    background::connect(Some(pg_sys::Oid::from(database)));
    let name = background::own_database_name();
    let mut worked = Instant::now();
    while worked.elapsed() < PATIENCE {
        background::report("rollup worker", None);
        let mut more = false;
        match work::look(&name) {
            Ok(Found::Ready(due)) => {
                let sources = work::with_rows(due);
                if !sources.is_empty() {
                    worked = Instant::now();
                }
                more = work::run_all(sources);
            }
            Ok(_) => break,
            Err(e) => log!("rollup worker: {}", e.message),
        }
        background::report_statistics();
        background::report("rollup worker", None);
        background::pause(if more { 0 } else { naptime().min(1000) });
    }
    background::exit_done();
}
