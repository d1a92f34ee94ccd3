//! Settings that a function changes for the rest of the session.
use pgrx::pg_sys;
use std::ffi::CStr;

/// Sets the configuration parameter `name` so that it survives ROLLBACK and reaches parallel workers.
///
/// PostgreSQL keeps what a source up to PGC_S_OVERRIDE sets as the session's default: it is not put on the
/// stack that a rollback unwinds, and it is sent to parallel workers like any changed parameter.
pub fn override_setting(name: &CStr, value: &CStr) {
    // SAFETY: both strings are NUL-terminated and copied by the callee.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_BACKEND,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        )
    }
}
