//! Texts as C has them.
use pgrx::PgSqlErrorCode;
use std::ffi::CString;

/// The text with a NUL byte behind it. Texts that PostgreSQL gave, and those made of such, have none inside.
pub fn c_text(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_else(|_| {
        crate::pg::error::raise(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            "a text that PostgreSQL gave has a NUL byte",
        )
    })
}
