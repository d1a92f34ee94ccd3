//! One run over a source whose rows are written on several nodes: a statement for each table of the rollup that every
//! node runs on its own rows, between two vectors of snapshots.
use super::vector::{Refused, Span, Vector};
use super::{bounds, commit, gather};
use crate::pg::xact::{ActingAs, keeps_one_snapshot};
use crate::rollup::bounds as rows;
use crate::rollup::catalog::{self, Definition};
use crate::rollup::error::{Result, fail, report};
use crate::rollup::levels::Level;
use crate::rollup::plan::Plan;
use crate::rollup::run::Backlog;
use crate::rollup::{attempt, backlog, late, levels, run, sql};
use pgrx::prelude::*;

/// True as soon as one row is not merged that can be seen. Takes no transaction id, and asks no node for more.
pub fn is_due(d: &Definition) -> Result<bool> {
    let (source, _, owner) = d.parts()?;
    let unmerged = rows::unmerged("", &d.plan()?, &d.state);
    let _acting = ActingAs::role(owner);
    run::prefer_the_index();
    let rows = format!("SELECT true FROM {source} WHERE {unmerged} LIMIT 1");
    Ok(!catalog::read(&rows, &[], |row| row.get::<bool>(1))?.is_empty())
}

/// Merges what has come for a rollup whose state row is locked, and of its backlog a piece or all; returns the raw
/// rows merged.
pub fn run_locked(d: &Definition, before: &Vector, how_much: Backlog) -> Result<i64> {
    if keeps_one_snapshot() {
        return fail(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            format!("rollup {} of a distributed table runs in a READ COMMITTED transaction only", d.name),
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
        );
    }
    d.check_cluster()?;
    let answers = gather::all(before, d.offset)?;
    let mut now = before.advance(&answers).map_err(|why| refused(d, why))?;
    let plan = d.plan()?;
    let prefix = sql::prefix(&plan);
    let mut left = d.state.backlog.clone();
    let mut total = 0;
    let new = bounds::new("", &before.nodes, &now.nodes);
    if left.is_none()
        && let Some((cuts, rows)) = backlog::begin(d, &plan, &new, before.nodes.is_empty())?
    {
        let span = Span { from: before.nodes.clone(), to: now.nodes.clone() };
        now.backlog = Some(span.clone());
        left = Some(rows::Backlog { nodes: Some(span), cuts, ..rows::Backlog::default() });
        store(d, &now, left.as_ref(), 0, 0)?;
        backlog::store_size(d, rows)?;
    } else {
        let (rows, groups) = merge(d, &bounds::new(&prefix, &before.nodes, &now.nodes))?;
        store(d, &now, left.as_ref(), rows, groups)?;
        total += rows;
    }
    while let Some(b) = left {
        let (rows, groups) = merge(d, &rows::piece(&prefix, &plan, &b))?;
        left = backlog::advance(b);
        now.backlog.take_if(|_| left.is_none());
        store(d, &now, left.as_ref(), rows, groups)?;
        backlog::store_progress(d, rows)?;
        total += rows;
        if how_much == Backlog::Piece {
            break;
        }
    }
    Ok(total)
}

fn store(d: &Definition, now: &Vector, left: Option<&rows::Backlog>, rows: i64, groups: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET nodes = $2::pg_catalog.jsonb, rows_total = rows_total + $3 WHERE id = $1",
        &[d.id.into(), super::written(now)?.into(), rows.into()],
    )?;
    backlog::store(d.id, left)?;
    attempt::succeeded(d.id, rows, groups)
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
    commit::in_two_phases()?;
    crate::pg::lock::take_state(d.id);
    count_late(d, &plan, &levels, bounds)?;
    run::prefer_hashing();
    prefer_hashing("off")?;
    let groups = catalog::modify(&sql::merge_directly(&plan, source, target, None, bounds))?;
    for level in &levels {
        catalog::modify(&sql::merge_directly(&plan, source, &level.target, Some(level), bounds))?;
    }
    prefer_hashing("DEFAULT")?;
    Ok((rows, groups))
}

/// Counts rows that come after their bucket has expired.
fn count_late(d: &Definition, plan: &Plan, levels: &[Level], bounds: &str) -> Result<()> {
    let late = late::conditions(d, plan, levels)?;
    if late.is_empty() {
        return Ok(());
    }
    let (source, ..) = d.parts()?;
    let conditions: Vec<&str> = late.iter().map(|l| l.condition.as_str()).collect();
    let count = sql::count_late(plan, source, bounds, &conditions);
    let rows = catalog::write(&count, &[], |row| row.get::<Vec<i64>>(1))?;
    late::store(&late, &rows.into_iter().flatten().next().unwrap_or_default())
}

/// What `run::prefer_hashing` sets for the planner here, for those of the nodes. Citus hands settings on that are made
/// in a block.
fn prefer_hashing(sort: &str) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        &format!(
            "DO 'BEGIN SET LOCAL citus.propagate_set_commands = ''local''; SET LOCAL enable_sort TO {sort}; END'"
        ),
        &[],
    )
}

/// The statements of the next run, as they would be if no node had anything at work.
pub fn explain(d: &Definition, before: &Vector) -> Result<String> {
    let plan = d.plan()?;
    let now = before.advance(&gather::all(before, d.offset)?).map_err(|why| refused(d, why))?;
    let mut bounds = bounds::new(&sql::prefix(&plan), &before.nodes, &now.nodes);
    if let Some(b) = &d.state.backlog {
        bounds = format!("({bounds} OR {})", rows::piece(&sql::prefix(&plan), &plan, b));
    }
    let (source, target, _) = d.parts()?;
    let mut statements = vec![sql::merge_directly(&plan, source, target, None, &bounds)];
    for level in &levels::of(d)? {
        statements.push(sql::merge_directly(&plan, source, &level.target, Some(level), &bounds));
    }
    Ok(statements.join(";\n"))
}
