//! Constraints that are deferred. What a rollup's owner has defined runs as that owner and no longer than the statement of
//! ours that it belongs to: PostgreSQL refuses to put it off until the transaction ends, where it would run as somebody
//! else. So the constraints of a table that we write to are checked with each statement, whatever they are declared as.
//!
//! In a transaction of the worker, which does this first of all, nothing waits. In one of a caller's, checks that wait
//! are made now, as the caller; only where a table that is written to has triggers or constraints of its owner's at all.
use super::catalog;
use super::error::Result;
use crate::pg::xact::{ActingAs, check_constraints_at_once};
use pgrx::pg_sys;

/// Has constraints checked with each statement, from now until the transaction ends, where the tables of a rollup have
/// triggers that are not ours. The caller does not act as another role.
pub fn of_rollup(id: i64) -> Result<()> {
    let tables = "SELECT relation::pg_catalog.oid FROM rollup.definition WHERE id = $1 AND relation IS NOT NULL \
        UNION SELECT relation FROM rollup.level WHERE definition = $1";
    where_fired(&any_trigger(tables), id.into())
}

/// The same where a table, or one below it, has such triggers.
pub fn of_table(table: pg_sys::Oid) -> Result<()> {
    where_fired(&any_trigger("SELECT $1::pg_catalog.oid"), table.into())
}

fn where_fired(any: &str, of: pgrx::datum::DatumWithOid) -> Result<()> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::read_often(any, &[of], |row| row.get::<bool>(1))?
    };
    if found.first() == Some(&Some(true)) {
        check_constraints_at_once();
    }
    Ok(())
}

fn any_trigger(tables: &str) -> String {
    format!(
        "WITH RECURSIVE t (oid) AS ({tables} UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger g JOIN t ON t.oid = g.tgrelid WHERE NOT pg_catalog.starts_with(g.tgname::pg_catalog.text, 'zz_rollup'))"
    )
}
