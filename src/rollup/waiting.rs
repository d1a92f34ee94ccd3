//! Rows that wait to be merged: whether there are any, how many, since when. Asked by the scheduler for every owner and
//! by readers of rollup.status: so on the source no SQL is run, and no lock is waited for (see `zonemap::look`).
use super::catalog::{self, Definition};
use super::citus;
use super::error::Result;
use crate::pg::xact::ActingAs;
use crate::pg::zonemap::look::{self, Found, Wanted};
use hll_rollup::sql::STAMP;
use hll_rollup::{Frontier, Plan, Stamps, new, sql as bounds, unmerged};
use pgrx::pg_sys;

/// Whether rows came that a run would merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// They did.
    Came,
    /// None did.
    Nothing,
    /// Somebody has locked the table, or a part of it: a run would wait.
    Locked,
    /// It takes a statement over the source to tell.
    Unknown,
}

/// Whether rows came that a run at `now` would merge.
pub fn any_new(d: &Definition, now: &Frontier) -> Result<New> {
    let new = new(&d.state.frontier, now);
    let plan = d.stored_plan()?;
    let found = look::look(
        d.source_oid,
        &Wanted {
            stamp: STAMP,
            time: &plan.time_column,
            between: &|least, greatest| new.meets(least, greatest),
            row: &|stamp, _| new.contains(stamp),
            one: true,
        },
    );
    Ok(match found {
        Found::Rows(0, _) => New::Nothing,
        Found::Rows(..) => New::Came,
        Found::Locked => New::Locked,
        Found::Unknown => New::Unknown,
    })
}

/// Rows that wait, and the least time of them as the session reads it. None where that cannot be told: the caller may
/// not read the whole table, somebody has locked it, or its stamps are not what they were.
fn look(id: i64) -> Result<Option<(i64, Option<i64>)>> {
    let Some(d) = catalog::by_id(id)? else { return Ok(None) };
    if d.source.is_none() || !look::may_read(d.source_oid) {
        return Ok(None);
    }
    let plan = d.stored_plan()?;
    if d.state.nodes().is_some() {
        return on_nodes(&d, &plan);
    }
    look_at(&d, &plan, d.source_oid)
}

/// The same of one table, the source or a part of it, on one server.
fn look_at(d: &Definition, plan: &Plan, table: pg_sys::Oid) -> Result<Option<(i64, Option<i64>)>> {
    let rest = unmerged(&d.state.frontier);
    let (left, before) = match &d.state.backlog {
        None => (Stamps::NONE, None),
        Some(b) => (b.stamps(), micros(b.cursor.as_deref())?),
    };
    // Of the backlog those that are earlier than the cursor, if it has come to one; a row without time is the last.
    let early = |at: Option<i64>| before.is_none_or(|before| at.is_none_or(|at| at < before));
    let found = look::look(
        table,
        &Wanted {
            stamp: STAMP,
            time: &plan.time_column,
            between: &|least, greatest| rest.meets(least, greatest) || left.meets(least, greatest),
            row: &|stamp, at| rest.contains(stamp) || left.contains(stamp) && early(at),
            one: false,
        },
    );
    Ok(match found {
        Found::Rows(rows, oldest) => Some((rows, oldest)),
        Found::Locked | Found::Unknown => None,
    })
}

/// The rows of a part of the source, which the caller has locked, that the rollup has not merged; None where that cannot be
/// told.
pub fn unmerged_in(d: &Definition, plan: &Plan, table: pg_sys::Oid) -> Result<Option<i64>> {
    Ok(look_at(d, plan, table)?.map(|(rows, _)| rows))
}

/// Whether a table, which the caller has locked, has a row; None where that cannot be told.
pub fn has_rows(table: pg_sys::Oid, time_column: &str) -> Option<bool> {
    let any = Wanted { stamp: STAMP, time: time_column, between: &|_, _| true, row: &|_, _| true, one: true };
    match look::look(table, &any) {
        Found::Rows(rows, _) => Some(rows > 0),
        Found::Locked | Found::Unknown => None,
    }
}

/// On a Citus cluster a statement counts them, on the nodes where they are, as the owner, whose code it may run.
fn on_nodes(d: &Definition, plan: &Plan) -> Result<Option<(i64, Option<i64>)>> {
    let (source, _, owner) = d.parts()?;
    let _acting = ActingAs::role(owner);
    let count = format!(
        "SELECT pg_catalog.count(*) FROM {source} WHERE {}",
        bounds::unmerged_rows("", plan.time(), &d.state)
    );
    let count = || Ok(catalog::read(&count, &[], |row| row.get::<i64>(1))?.first().copied().flatten());
    Ok(citus::status::unless_unreachable(count)?.map(|rows| (rows, None)))
}

/// A moment in UTC as microseconds since 2000.
fn micros(moment: Option<&str>) -> Result<Option<i64>> {
    let Some(moment) = moment else { return Ok(None) };
    let found = catalog::read(
        "SELECT (pg_catalog.date_part('epoch', $1::pg_catalog.timestamp)::pg_catalog.numeric OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 \
         OPERATOR(pg_catalog.-) 946684800000000",
        &[moment.into()],
        |row| row.get::<i64>(1),
    )?;
    Ok(found.into_iter().next().flatten())
}

/// `rollup_internal.lag_rows`.
pub fn rows(id: i64) -> Result<Option<i64>> {
    Ok(look(id)?.map(|(rows, _)| rows))
}

/// `rollup_internal.oldest_row`.
pub fn oldest(id: i64) -> Result<Option<pgrx::datum::TimestampWithTimeZone>> {
    Ok(look::timestamptz(look(id)?.and_then(|(_, oldest)| oldest)))
}
