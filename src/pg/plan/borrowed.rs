//! Code that a reader would run without having named it.
//!
//! Invariant: what is put into a query calls nothing that the query does not call itself, but what is PostgreSQL's, this
//! extension's, a superuser's or the reader's own. Tables of a rollup belong to its owner, who may give their columns other
//! types, with casts of the owner's making; a function of a rollup's query may be replaced by one of a better fit. Both run as
//! the reader, since what is put in runs in the reader's query.
use super::called::{self, Called, is_superuser};
use super::tree::Node;
use crate::pg::batch::is_ours;
use crate::pg::xact::current_user;
use pgrx::pg_sys;

/// What of these trees the reader would run for others; None where there is nothing such.
///
/// # Safety
/// All are NULL or trees; `typed` is the query as the reader wrote it.
pub(super) unsafe fn code(typed: Node, made: &[Node]) -> Option<Called> {
    // SAFETY: as the caller's.
    unsafe {
        let mut foreign: Vec<Called> = made.iter().flat_map(|tree| called::of(*tree)).collect();
        foreign.retain(|called| match called.is_type {
            true => !called.is_of(c"hll"),
            false => !is_ours(pg_sys::Oid::from(called.oid)),
        });
        if foreign.is_empty() {
            return None;
        }
        let named = called::of(typed);
        let reader = current_user();
        let trusted =
            |called: &Called| called.owner().is_some_and(|owner| owner == reader || is_superuser(owner));
        foreign.into_iter().find(|called| !named.contains(called) && !trusted(called))
    }
}
