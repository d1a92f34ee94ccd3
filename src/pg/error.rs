//! Errors of the pure crates, raised with their SQLSTATE.
use hll_sketch::{Class, Error};
use pgrx::prelude::*;
use std::io::Write;

/// Raises `message` under `code`; never returns.
#[cold]
#[inline(never)]
pub fn raise(code: PgSqlErrorCode, message: impl Into<String>) -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(code, message.into(), "hll").report(PgLogLevel::ERROR);
    unreachable!("an ERROR report does not return")
}

/// The same, with what to do instead.
#[cold]
#[inline(never)]
pub fn raise_with_hint(code: PgSqlErrorCode, message: impl Into<String>, hint: impl Into<String>) -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(code, message.into(), "hll")
        .set_hint(hint.into())
        .report(PgLogLevel::ERROR);
    unreachable!("an ERROR report does not return")
}

/// Characters of a text of others that are kept and shown.
pub const LONGEST: usize = 1000;

/// A text of others, which may have any length, as it is stored and written into the log.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_string(),
        Some((end, _)) => format!("{}... ({} characters)", &text[..end], text.chars().count()),
    }
}

/// What to do where a publication leaves out columns that are computed in the table, and whole rows tell its rows apart.
const UNPUBLISHED: &str = "SELECT pg_catalog.format('ALTER PUBLICATION %I SET (publish_generated_columns = stored)', pubname) FROM pg_catalog.pg_publication WHERE pubgencols = 'n' writes the commands that publish them. On subscribers they are ordinary columns: ALTER TABLE … ALTER COLUMN … DROP EXPRESSION.";

/// The hint of an error. PostgreSQL has none where a row cannot be changed that is published in part: from 18 on publications
/// leave out what is computed in the table, unless told.
pub fn hint(report: &pgrx::pg_sys::panic::ErrorReportWithLevel) -> Option<&str> {
    // A constraint that ON CONFLICT lacks has the same code, and no detail.
    let in_part = cfg!(feature = "pg18")
        && report.sql_error_code() == PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE
        && report.detail().is_some();
    report.hint().or_else(|| in_part.then_some(UNPUBLISHED))
}

/// Keeps traces out of errors. For the start of the library.
///
/// An error, PostgreSQL's own too, unwinds this library's frames as a panic, and pgrx's hook records a trace of each where
/// RUST_BACKTRACE or RUST_LIB_BACKTRACE is set: pgrx appends it to what the client gets as DETAIL, and finding it takes
/// milliseconds. In the hook's place stands one that records nothing. A panic that is no error on its way is a mistake
/// in this library; where it happened goes to the server's log. The hook is that of this library's copy of std alone.
pub fn keep_traces_out() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        if payload.is::<&str>() || payload.is::<String>() {
            // Not eprintln!, which would panic again where there is nothing to write to.
            let _ = writeln!(std::io::stderr(), "hll: {panic}");
        }
    }));
}

/// Raises an error of the sketch crate under the class it names.
#[cold]
#[inline(never)]
pub fn raise_sketch(error: &Error) -> ! {
    let code = match error.class() {
        Class::InvalidParameter => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        Class::Data => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
    };
    raise(code, error.to_string())
}

/// Raises an error of the percentile crate under the class it names, with its hint.
#[cold]
#[inline(never)]
pub fn raise_ddsketch(error: &hll_ddsketch::Error) -> ! {
    let code = match error.class() {
        hll_ddsketch::Class::InvalidParameter => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        hll_ddsketch::Class::OutOfRange => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        hll_ddsketch::Class::Text => PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
        hll_ddsketch::Class::Binary => PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
    };
    raise_with_hint(code, error.to_string(), error.hint())
}

/// Turns a pure crate's `Result` into a value or a PostgreSQL error.
pub trait OrRaise<T> {
    /// The value, or the error raised.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Error> {
    #[inline(always)]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise_sketch(&error),
        }
    }
}

impl<T> OrRaise<T> for Result<T, hll_ddsketch::Error> {
    #[inline(always)]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise_ddsketch(&error),
        }
    }
}
