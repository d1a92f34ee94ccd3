//! Unlogged tables: a crash of the server empties them, and nobody is told.
//!
//! - Where raw rows lie in one, what was counted stays, as it does when rows leave with a partition. A rollup that promises to
//!   follow changes, or that there are none, cannot keep this promise: it is refused, and where such a table comes later the
//!   rollup is named by `rollup.status` and answers no query in place of the raw rows.
//! - A rollup's own table would lose what the state says is merged: no run writes to one.
use super::catalog::{self, Must};
use super::error::{Result, fail};
use super::watch::OnChange;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::literal;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The unlogged tables among some and what is below them, qualified and quoted; `tables` selects ids, `$1` is its argument.
macro_rules! unlogged {
    ($tables:literal) => {
        concat!(
            "WITH RECURSIVE t (oid) AS (",
            $tables,
            " UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
             SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence = 'u' ORDER BY c.oid"
        )
    };
}

/// Those at and below a table.
pub fn at_and_below(table: pg_sys::Oid) -> Result<Vec<String>> {
    let _acting = ActingAs::catalog();
    catalog::write_often(unlogged!("SELECT $1::pg_catalog.oid"), &[table.into()], |row| row.must(1))
}

/// Refuses a rollup of a source whose changes are not all told of.
pub fn check_source(source: pg_sys::Oid, on_change: OnChange) -> Result<()> {
    if on_change == OnChange::Ignore {
        return Ok(());
    }
    let Some(table) = at_and_below(source)?.into_iter().next() else { return Ok(()) };
    fail(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!(
            "table {table} is unlogged: its rows go with a crash of the server, which on_change => '{}' would not notice",
            on_change.text()
        ),
        format!("ALTER TABLE {table} SET LOGGED; or leave on_change at 'ignore': what was counted stays."),
    )
}

/// Refuses to write to a rollup whose table, or a level's, is unlogged.
pub fn check_stored(id: i64, name: &str) -> Result<()> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::read_often(
            unlogged!(
                "SELECT relation::pg_catalog.oid FROM rollup.definition WHERE id = $1 UNION SELECT relation FROM rollup.level WHERE definition = $1"
            ),
            &[id.into()],
            |row| row.must::<String>(1),
        )?
    };
    let Some(table) = found.into_iter().next() else { return Ok(()) };
    fail(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "table {table} of rollup {name} is unlogged: a crash of the server would take away what was counted"
        ),
        format!(
            "ALTER TABLE {table} SET LOGGED; and where the server has crashed since it was unlogged, SELECT rollup.rebuild({});",
            literal(name)
        ),
    )
}
