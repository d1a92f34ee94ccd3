//! Functions and types that belong neither to a superuser, nor to this extension, nor to who calls them: a rollup calls only
//! those that are on its record. See `trust`.
use super::error::{Result, fail, report};
use crate::pg::deparse::shown_name;
use crate::pg::plan::called::{self, Called};
use crate::pg::security;
use crate::pg::xact::role_name;
use hll_rollup::routines::{Home, Known, Record};
use hll_rollup::sql::{ident, literal};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The error where a rollup would call what it must not.
pub fn refused<T>(name: &str, odd: &Known) -> Result<T> {
    fail(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "rollup {name} would call {}, which belongs to role {} and is not what it was made with",
            odd.name, odd.owner
        ),
        format!(
            "Nothing was run. Give the names back that functions and schemas had, or begin anew: SELECT rollup.drop({}).",
            literal(name)
        ),
    )
}

/// Raises the error of a statement that would run code of another role, which nothing has named.
pub fn not_run(what: &str, owner: u32, runs_as: pg_sys::Oid) -> ! {
    let (owner, runs_as) = (role_name(pg_sys::Oid::from(owner)), role_name(runs_as));
    super::error::raise(report(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "role {runs_as} would run {what}, which belongs to role {owner} and is not what the rollup was made with"
        ),
        "Nothing was run. Give the columns of its tables the types back that they had, and tables that have become views their rows.",
    ))
}

/// Raises the error of a statement that reads a table of another role, by planning which code of that role would run.
pub fn not_planned(odd: &Known, table: pg_sys::Oid, runs_as: pg_sys::Oid) -> ! {
    let (table, runs_as) = (shown_name(table), role_name(runs_as));
    super::error::raise(report(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "role {runs_as} would run {}, which belongs to role {}, by planning to read table {table}",
            odd.name, odd.owner
        ),
        format!(
            "Nothing was run. An index, statistics, the partition key or a CHECK constraint of {table} calls it: its owner may drop that, or give {table} to role {runs_as}."
        ),
    ))
}

/// Raises the error of a statement that would write to a table of another role, whose triggers and constraints would run.
pub fn not_written(table: pg_sys::Oid, owner: pg_sys::Oid, runs_as: pg_sys::Oid) -> ! {
    let (owner, runs_as, table) = (role_name(owner), role_name(runs_as), shown_name(table));
    super::error::raise(report(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "table {table} belongs to role {owner}, whose triggers and constraints would run as role {runs_as}"
        ),
        format!("Nothing was written. ALTER TABLE {table} OWNER TO {};", ident(&runs_as)),
    ))
}

/// Where oids are those of.
pub fn here() -> Home {
    Home { cluster: security::system_identifier(), database: security::database() }
}

/// What may be called by whoever runs as `owner`, whatever was recorded.
fn is_trusted(called: Called, of: pg_sys::Oid, owner: pg_sys::Oid) -> bool {
    of == owner || called::is_superuser(of) || called.is_of(c"hll")
}

/// Those that not everybody may have called, as they are to be recorded.
pub fn strangers(found: &[Called], owner: pg_sys::Oid) -> Vec<Known> {
    let is_strange = |called: &&Called| called.owner().is_some_and(|of| !is_trusted(**called, of, owner));
    found.iter().filter(is_strange).filter_map(|called| known(*called)).collect()
}

/// What is recorded of something that is there.
pub fn known(called: Called) -> Option<Known> {
    let of = called.owner()?;
    Some(Known {
        is_type: called.is_type,
        oid: called.oid,
        name: called.shown(),
        role: of.to_u32(),
        owner: role_name(of),
    })
}

/// What must not be called; None where all may be.
pub fn odd(found: &[Called], recorded: &Record, owner: pg_sys::Oid) -> Option<Known> {
    strangers(found, owner).into_iter().find(|known| !recorded.holds(here(), known))
}
