//! One run: merges the rows of transactions that have finished since the last run.
//!
//! Invariant: the rows merged so far are exactly the visible rows whose stamp had finished in `seen`. A run
//! locks the state row, reads `now` after that, merges the rows finished in `now` and not in `seen`, and stores
//! `now` in the same transaction. Finished sets only grow, so each row is merged by exactly one run; nothing
//! depends on clocks, sequences or locks on the source.
use super::catalog::{self, Definition};
use super::error::{Result, fail};
use super::sql;
use crate::pg::query::set_local;
use crate::pg::xact::{ActingAs, Snapshot, own_transaction_id};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CString;

/// Merges what is due for one rollup; returns the raw rows merged. Takes no transaction id when nothing is due.
pub fn run_one(id: i64) -> Result<i64> {
    let Some(before) = catalog::by_id(id)? else { return Ok(0) };
    if !before.active || !is_due(&before)? {
        return Ok(0);
    }
    let Some(definition) = catalog::lock(id)? else { return Ok(0) };
    if !definition.active {
        return Ok(0);
    }
    let now = catalog::current_snapshot(true)?;
    if !now.contains(&definition.seen) {
        // Only a transaction that keeps an old snapshot gets here: another run has been faster.
        return fail(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("rollup {} has been run past this transaction's snapshot", definition.name),
            "Try again in a new transaction.",
        );
    }
    let (rows, groups) = merge(&definition, &now)?;
    store(&definition, &now, rows, groups)?;
    Ok(rows)
}

/// True where an active rollup has rows to merge. Takes no transaction id.
pub fn has_rows(id: i64) -> Result<bool> {
    match catalog::by_id(id)? {
        Some(d) if d.active => is_due(&d),
        _ => Ok(false),
    }
}

fn is_due(d: &Definition) -> Result<bool> {
    d.check_cluster()?;
    let (source, _, owner) = d.parts()?;
    let now = catalog::current_snapshot(false)?;
    let _acting = ActingAs::role(owner);
    prefer_the_index();
    Ok(catalog::read(&sql::is_due(source, &d.seen, &now), &[], |row| row.get::<bool>(1))?
        .first()
        .copied()
        .flatten()
        == Some(true))
}

fn merge(d: &Definition, now: &Snapshot) -> Result<(i64, i64)> {
    d.check_cluster()?;
    let (source, target, owner) = d.parts()?;
    let statement = sql::run(&d.plan()?, source, target, &super::levels::of(d)?, &d.seen, now);
    let _acting = ActingAs::role(owner);
    set_timezone(&d.timezone);
    prefer_hashing();
    let counted = catalog::write(&statement, &[], |row| {
        Ok((row.get::<i64>(1)?.unwrap_or_default(), row.get::<i64>(2)?.unwrap_or_default()))
    })?;
    prefer_the_index();
    let foreign =
        catalog::write(&sql::has_foreign_stamp(source, own_transaction_id()), &[], |row| row.get::<bool>(1))?;
    if foreign.first().copied().flatten() == Some(true) {
        ereport!(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
            format!(
                "rollup {}: {source} has rows whose {} names a transaction that has not begun",
                d.name,
                sql::STAMP
            ),
            "They are merged when that id comes. Leave the column to its default; it is never to be written."
        );
    }
    Ok(counted.first().copied().unwrap_or_default())
}

/// New rows lie at the end of the table, all of them: to the planner, which takes them to be anywhere, reading the
/// table until one comes looks cheap. Until the current role ends.
fn prefer_the_index() {
    set_local(c"enable_seqscan", c"off");
}

/// The planner cannot know how few groups a bucket expression makes, and would sort all rows. Hashing spills where
/// it does not fit. Until the current role ends.
fn prefer_hashing() {
    set_local(c"enable_sort", c"off");
}

/// Sets the time zone until the current role ends.
pub fn set_timezone(zone: &str) {
    set_local(c"timezone", &CString::new(zone).unwrap_or_default());
}

fn store(d: &Definition, now: &Snapshot, rows: i64, groups: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET seen_xmax = $2, seen_xip = $3, rows_total = rows_total + $4 WHERE id = $1",
        &[d.id.into(), now.xmax.into(), now.xip.clone().into(), rows.into()],
    )?;
    super::attempt::succeeded(d.id, rows, groups)
}

/// Runs every active rollup of a source that the caller may act for.
pub fn run_source(source: pg_sys::Oid) -> Result<i64> {
    let definitions = catalog::of_source(source, false)?;
    if definitions.is_empty() {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("{} has no rollup", super::expire::name_of(source)?),
            "SELECT rollup.create(name, query) defines one.",
        );
    }
    let mut most = 0;
    for d in definitions {
        catalog::check_owner(&d.owner_name, &format!("rollup {}", d.name))?;
        most = most.max(run_one(d.id)?);
    }
    Ok(most)
}
