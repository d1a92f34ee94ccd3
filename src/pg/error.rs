//! Errors of the pure crates, raised with their SQLSTATE.
use hll_sketch::{Class, Error};
use pgrx::prelude::*;

/// Raises `message` under `code`; never returns.
#[cold]
#[inline(never)]
pub fn raise(code: PgSqlErrorCode, message: impl Into<String>) -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(code, message.into(), "hll").report(PgLogLevel::ERROR);
    unreachable!("an ERROR report does not return")
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

/// Turns the sketch crate's `Result` into a value or a PostgreSQL error.
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
