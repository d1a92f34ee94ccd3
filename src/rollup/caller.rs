//! What a caller may do, and the rollup that they name.
use super::catalog::{self, Definition};
use super::citus;
use super::deferred;
use super::error::{self, Result};
use crate::pg::xact::ActingAs;
use pgrx::prelude::*;
use std::cell::RefCell;

pub fn required<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| {
        error::report(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{what} must not be NULL"),
            "Give a value.",
        )
    })
}

/// The rollup of this name, if the caller may act for its owner.
pub fn owned(name: &str) -> Result<Definition> {
    let d = catalog::by_name(name)?;
    catalog::check_owner(d.owner, &format!("rollup {name}"))?;
    Ok(d)
}

/// Acts as the owner of a rollup, who defined what is planned and run from here on; as the caller where its tables
/// are gone, and with them all that could be run.
pub fn as_owner(d: &Definition) -> Option<ActingAs> {
    d.owner.map(ActingAs::role)
}

/// The same, locked against runs.
pub fn locked(name: &str) -> Result<Definition> {
    lock(owned(name)?.id)
}

/// The rollup with this id, which is the caller's, locked against runs. The caller does not act as another role.
pub fn lock(id: i64) -> Result<Definition> {
    deferred::of_rollup(id)?;
    let d = catalog::lock(id)?.ok_or_else(|| error::internal("the rollup has just been dropped"))?;
    check_not_busy(&d)?;
    if d.state.nodes().is_some() {
        citus::commit::in_two_phases_with_tables()?;
        // Readers of a live view on several nodes must not see a change half.
        crate::pg::lock::take_state(d.id);
    }
    Ok(d)
}

/// Says so where what is to go, if it is there, is not; true then.
pub fn skips(what: &str, there: bool) -> bool {
    if !there {
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("{what} does not exist, skipping")
        );
    }
    !there
}

thread_local! {
    /// Rollups that this process is computing.
    static BUSY: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
}

/// A rollup is being computed, until this is dropped. Functions and triggers of its owner's run meanwhile, and may call what
/// computes the same rollup: that would merge rows that are being merged, and neither would know of the other.
pub struct Busy(i64);

impl Busy {
    /// From now on.
    pub fn with(d: &Definition) -> Busy {
        BUSY.with_borrow_mut(|busy| busy.push(d.id));
        Busy(d.id)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.with_borrow_mut(|busy| {
            if let Some(at) = busy.iter().rposition(|id| *id == self.0) {
                busy.remove(at);
            }
        });
    }
}

/// Refuses a rollup that is being computed by the statement that the caller is a part of.
pub fn check_not_busy(d: &Definition) -> Result<()> {
    if BUSY.with_borrow(|busy| !busy.contains(&d.id)) {
        return Ok(());
    }
    error::fail(
        PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        format!("rollup {} is being computed by a statement that this call is a part of", d.name),
        "A function, trigger or constraint of its query or its tables makes the call: take it out there.",
    )
}
