//! What a merge rule that was added calls. Its texts name functions, whose names may become free and be taken by others, and
//! who makes a rollup has not written them.
//!
//! Invariant: a rule is used only while each function that it names is the one that was given when it was added, or a
//! superuser's, with the same types of arguments.
use super::catalog;
use super::error::{Result, fail, internal};
use super::strangers;
use crate::pg::plan::called::{self, Called};
use hll_rollup::routines::{Known, Record};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

/// The record of these functions, as JSON; those of PostgreSQL and of this extension are left out.
pub fn of(functions: &[pg_sys::Oid]) -> Result<String> {
    let ours = |called: &Called| called.oid >= pg_sys::FirstNormalObjectId && !called.is_of(c"hll");
    let called = functions.iter().map(|oid| Called::function(*oid)).filter(ours).filter_map(strangers::known);
    let record = Record { home: Some(strangers::here()), called: called.collect() };
    serde_json::to_string(&record).map_err(internal)
}

thread_local! {
    static USED: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// What rules name that were looked at since this was asked last.
pub fn used() -> Vec<Known> {
    USED.take()
}

/// Refuses the rule of an aggregate if a name in it is another's now.
pub fn check(aggregate: &str, noted: &str) -> Result<()> {
    let record: Record = serde_json::from_str(noted).map_err(internal)?;
    for was in &record.called {
        let now = catalog::maybe::<pg_sys::Oid>(
            "SELECT pg_catalog.to_regprocedure($1)::pg_catalog.oid",
            &[was.name.as_str().into()],
        )?;
        let now = now.map(Called::function);
        let is_superusers = |called: Called| called.owner().is_some_and(called::is_superuser);
        let holds =
            |called| strangers::known(called).is_some_and(|known| record.holds(strangers::here(), &known));
        if now.is_some_and(|called| is_superusers(called) || holds(called)) {
            continue;
        }
        return fail(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!(
                "the merge rule of aggregate {aggregate} calls {}, which is not the function that it was added with",
                was.name
            ),
            "Add the rule anew: SELECT rollup.drop_merge_rule(aggregate), then rollup.add_merge_rule(aggregate, combine, unite).",
        );
    }
    USED.with_borrow_mut(|used| used.extend(record.called));
    Ok(())
}
