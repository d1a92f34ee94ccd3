//! Names and rows that an open, or a prepared, transaction has taken: whoever needs them waits for it, but not for ever,
//! and is told in words what the matter is.
use super::error::{Result, report};
use crate::pg::interrupt;
use crate::pg::patience::within;
use crate::pg::xact::in_subtransaction;
use pgrx::PgTryBuilder;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::prelude::*;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// How long one wait lasts, in milliseconds. Prepared transactions stay for as long as it pleases somebody.
const PATIENCE: i32 = 10_000;

/// Unique indexes of which a violation says that another transaction was faster, and what it has taken.
const TAKEN: [(&str, PgSqlErrorCode); 7] = [
    ("pg_class_relname_nsp_index", PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE),
    ("pg_type_typname_nsp_index", PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE),
    ("definition_name_key", PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE),
    ("definition_relation_key", PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE),
    ("level_pkey", PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE),
    ("level_relation_key", PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE),
    ("pg_proc_proname_args_nsp_index", PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT),
];

/// Does what takes names and rows; `what` is that, for people.
pub fn patiently<T>(what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    PgTryBuilder::new(AssertUnwindSafe(|| within(PATIENCE, body)))
        .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, |e| Err(told(what, e)))
        .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |e| Err(told(what, e)))
        .execute()
}

/// Attempts something again and again where a table is in use. Each attempt waits for locks as shortly as it is made to,
/// and gives back what it has taken where it fails, so that nobody waits longer behind it. The last one is none that can
/// fail alone: its error is the caller's.
pub fn until_free<T>(patience: Duration, attempt: impl Fn() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        match in_subtransaction(AssertUnwindSafe(&attempt)) {
            Ok(done) => return Ok(done),
            Err(e) if IN_USE.contains(&e.code) => {}
            Err(_) => break,
        }
        interrupt::check();
        std::thread::sleep(Duration::from_millis(20));
    }
    attempt()
}

/// What a table that somebody uses is told by.
pub const IN_USE: [PgSqlErrorCode; 2] =
    [PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED];

/// The error in words; as it is where it has some, or has nothing to do with this. It ends the transaction: nothing
/// happens between.
fn told(what: &str, caught: CaughtError) -> ErrorReport {
    let (code, message) = match &caught {
        CaughtError::PostgresError(e) | CaughtError::ErrorReport(e) if e.hint().is_none() => {
            (e.sql_error_code(), e.message().to_string())
        }
        _ => caught.rethrow(),
    };
    if code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE {
        return report(
            code,
            format!("{what} has to wait: another transaction holds a table, a name or a row that it needs"),
            "SELECT pid, xact_start, query FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start shows the open transactions, \
             TABLE pg_prepared_xacts the prepared ones; call again when they have ended.",
        );
    }
    match TAKEN.iter().find(|(index, _)| message.contains(&format!("\"{index}\""))) {
        Some((_, code)) => report(
            *code,
            format!("{what} cannot be had: another transaction has just taken the name"),
            "Call again, which names what is there, or choose another name.",
        ),
        None => caught.rethrow(),
    }
}

/// True of the errors that say that somebody uses a table: the next attempt may do better.
pub fn in_use(code: PgSqlErrorCode) -> bool {
    IN_USE.contains(&code)
}
