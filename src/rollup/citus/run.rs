//! One run over a source whose rows are written on several nodes: a statement for each table of the rollup that every
//! node runs on its own rows, between two vectors of snapshots.
use super::vector::{Refused, Vector};
use super::{bounds, gather};
use crate::pg::xact::{ActingAs, keeps_one_snapshot};
use crate::rollup::catalog::{self, Definition};
use crate::rollup::error::{Result, fail, report};
use crate::rollup::{attempt, levels, run, sql};
use pgrx::prelude::*;

/// True as soon as one row is not merged that can be seen. Takes no transaction id, and asks no node for more.
pub fn is_due(d: &Definition, vector: &Vector) -> Result<bool> {
    let (source, _, owner) = d.parts()?;
    let _acting = ActingAs::role(owner);
    run::prefer_the_index();
    let rows = format!("SELECT true FROM {source} WHERE {} LIMIT 1", bounds::unmerged("", vector));
    Ok(!catalog::read(&rows, &[], |row| row.get::<bool>(1))?.is_empty())
}

/// Merges what has come for a rollup whose state row is locked; returns the raw rows merged.
pub fn run_locked(d: &Definition, before: &Vector) -> Result<i64> {
    if keeps_one_snapshot() {
        return fail(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            format!("rollup {} of a distributed table runs in a READ COMMITTED transaction only", d.name),
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
        );
    }
    d.check_cluster()?;
    let answers = gather::all(before)?;
    let now = before.advance(&answers).map_err(|why| refused(d, why))?;
    let (rows, groups) = merge(d, &bounds::new(&sql::prefix(&d.plan()?), before, &now))?;
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET nodes = $2::pg_catalog.jsonb, rows_total = rows_total + $3 WHERE id = $1",
        &[d.id.into(), super::written(&now)?.into(), rows.into()],
    )?;
    attempt::succeeded(d.id, rows, groups)?;
    Ok(rows)
}

fn refused(d: &Definition, why: Refused) -> pg_sys::panic::ErrorReport {
    let (what, hint) = match why {
        Refused::Backwards(group, before, now) => (
            format!("transaction ids of group {group} went back from {before} to {now}"),
            "A node was set back to an earlier state, which Citus does not allow for. Drop the rollup and create it again.",
        ),
        Refused::Other(group) => (
            format!("the server of group {group} is another one than at the last run"),
            "Its transaction ids say nothing of the rows that are there. Drop the rollup and create it again.",
        ),
    };
    report(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("rollup {} cannot go on: {what}", d.name),
        hint,
    )
}

fn merge(d: &Definition, bounds: &str) -> Result<(i64, i64)> {
    if bounds == "false" {
        return Ok((0, 0));
    }
    let plan = d.plan()?;
    let (source, target, owner) = d.parts()?;
    let levels = levels::of(d)?;
    let _acting = ActingAs::role(owner);
    run::set_timezone(&d.timezone);
    let count = sql::count_new(&plan, source, bounds);
    let rows = catalog::write(&count, &[], |row| row.get::<i64>(1))?;
    let rows = rows.into_iter().flatten().next().unwrap_or_default();
    if rows == 0 {
        return Ok((0, 0));
    }
    crate::pg::lock::take_state(d.id);
    let groups = catalog::modify(&sql::merge_directly(&plan, source, target, None, bounds))?;
    for level in &levels {
        catalog::modify(&sql::merge_directly(&plan, source, &level.target, Some(level), bounds))?;
    }
    Ok((rows, groups))
}

/// The statements of the next run, as they would be if no node had anything at work.
pub fn explain(d: &Definition, before: &Vector) -> Result<String> {
    let plan = d.plan()?;
    let now = before.advance(&gather::all(before)?).map_err(|why| refused(d, why))?;
    let bounds = bounds::new(&sql::prefix(&plan), before, &now);
    let (source, target, _) = d.parts()?;
    let mut statements = vec![sql::merge_directly(&plan, source, target, None, &bounds)];
    for level in &levels::of(d)? {
        statements.push(sql::merge_directly(&plan, source, &level.target, Some(level), &bounds));
    }
    Ok(statements.join(";\n"))
}
