//! Errors of the rollup functions: a SQLSTATE, what disagrees, and what to write instead.
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// What every rollup function returns.
pub type Result<T> = std::result::Result<T, ErrorReport>;

/// An error with a hint.
#[track_caller]
pub fn fail<T>(code: PgSqlErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Result<T> {
    Err(report(code, message, hint))
}

/// The report itself.
#[track_caller]
pub fn report(code: PgSqlErrorCode, message: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "rollup").set_hint(hint.into())
}

/// A failure of the server programming interface itself; SQL errors never come this way, they unwind.
#[track_caller]
pub fn internal(e: impl std::fmt::Display) -> ErrorReport {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("rollup: {e}"), "rollup")
}

/// Ends a call that PostgreSQL made by raising its error.
pub fn raise<T>(e: pgrx::pg_sys::panic::ErrorReport) -> T {
    e.report(PgLogLevel::ERROR);
    unreachable!("an error ends the call")
}
