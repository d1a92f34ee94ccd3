//! Waits with an end.
use crate::pg::ctext::c_text;
use crate::pg::deparse::set_local;
use pgrx::pg_sys;

/// Runs `f`; what it waits for locks, names and rows of other transactions ends after so many milliseconds each time,
/// or sooner where the session says so.
pub fn within<T>(milliseconds: i32, f: impl FnOnce() -> T) -> T {
    // SAFETY: reads a variable of this process; the level that is opened is closed again, by the transaction's end where
    // an error unwinds.
    unsafe {
        let own = pg_sys::LockTimeout;
        let limit = if own > 0 { own.min(milliseconds) } else { milliseconds };
        let level = pg_sys::NewGUCNestLevel();
        set_local(c"lock_timeout", &c_text(limit.to_string()));
        let out = f();
        pg_sys::AtEOXact_GUC(true, level);
        out
    }
}
