//! Cancellation inside long loops.
use pgrx::pg_sys;

/// Raises the error of a cancelled statement or a terminated session; does nothing otherwise.
#[inline]
pub fn check() {
    pg_sys::check_for_interrupts!();
}

/// `check` at every 1024th of the items numbered `n`.
#[inline(always)]
pub fn check_at(n: usize) {
    if n.is_multiple_of(1024) {
        check();
    }
}
