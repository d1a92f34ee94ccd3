//! The scheduler of one database: runs what is due, each rollup in a transaction of its own, so that one that
//! fails stops no other. An idle tick reads and takes no transaction id.
use super::naptime;
use crate::pg::{background, xact};
use crate::rollup::{expire, run};
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// Expiry is looked at this often.
const EXPIRY: Duration = Duration::from_secs(5);

crate::worker_entry!(rollup_scheduler_main, main);

/// A scheduler; the argument is the oid of its database.
fn main(database: u32) {
    background::take_signals();
    background::connect(Some(pg_sys::Oid::from(database)));
    let mut last_expiry = Instant::now();
    loop {
        background::report("rollup scheduler", None);
        match xact::in_transaction(background::extension_installed) {
            Ok(true) => {}
            Ok(false) => background::exit_done(),
            Err(e) => log!("rollup scheduler: {}", e.message),
        }
        run_due();
        if last_expiry.elapsed() > EXPIRY {
            expire_old();
            last_expiry = Instant::now();
        }
        background::report_statistics();
        background::report("rollup scheduler", None);
        background::pause(naptime());
    }
}

fn raise<T>(result: crate::rollup::error::Result<T>) -> T {
    result.unwrap_or_else(|report| {
        report.report(PgLogLevel::ERROR);
        unreachable!("an error ends the transaction")
    })
}

fn run_due() {
    let due = match xact::in_transaction(|| raise(run::due())) {
        Ok(due) => due,
        Err(e) => return log!("rollup scheduler: {}", e.message),
    };
    for (id, name, _) in due {
        background::report(&format!("rollup: {name}"), Some(&format!("rollup.run of {name}")));
        if let Err(e) = xact::in_transaction(|| raise(run::run_one(id, run::Backlog::Piece))) {
            log!("rollup {name} failed: {}", e.message);
            if let Err(e) = xact::in_transaction(|| raise(run::store_failure(id, &e.message))) {
                log!("rollup {name}: its failure could not be stored: {}", e.message);
            }
        }
        background::report_statistics();
    }
}

fn expire_old() {
    let relations = match xact::in_transaction(|| raise(expire::retained())) {
        Ok(relations) => relations,
        Err(e) => return log!("rollup scheduler: {}", e.message),
    };
    for relation in relations {
        background::report("rollup: expiry", Some(&format!("rollup.expire of {}", relation.to_u32())));
        loop {
            match xact::in_transaction(|| raise(expire::expire(relation, expire::BATCH, false))) {
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
