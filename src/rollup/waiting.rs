//! Rows that wait to be merged: whether there are any, how many, since when. Asked by the scheduler for every owner and
//! by readers of rollup.status: so on the source no SQL is run, and no lock is waited for (see `zonemap::look`).
use super::catalog::{self, Definition};
use super::citus::moment::OfNodes;
use super::citus::{self, shards};
use super::error::{Result, raise, report};
use crate::pg::rows::record;
use crate::pg::v1::Call;
use crate::pg::xact::{ActingAs, Moment, in_subtransaction, keeps_one_snapshot, own_transaction_id_if_any};
use crate::pg::zonemap::look::{self, Found, Wanted};
use hll_rollup::sql::STAMP;
use hll_rollup::{Frontier, Plan, Snapshot, Stamps, new, sql as bounds, unmerged};
use pgrx::{IntoDatum, PgSqlErrorCode, pg_sys};
use std::panic::AssertUnwindSafe;

/// Rows that wait, and the least time of them as the session reads it.
type Waiting = (i64, Option<i64>);

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
            ranges: new.ranges(),
            between: &|least, greatest| new.meets(least, greatest),
            row: &|stamp, _| new.contains(stamp),
            most: 1,
            each: None,
        },
    );
    Ok(match found {
        Found::Rows(0, _) => New::Nothing,
        Found::Rows(..) => New::Came,
        Found::Locked => New::Locked,
        Found::Unknown => New::Unknown,
    })
}

/// The rows of a table, the source or a part of it on one server, that are not merged, as far as `seen` is merged and a
/// backlog of stamps up to a moment; None where that cannot be told.
fn look_at(
    table: pg_sys::Oid,
    time: &str,
    seen: &Frontier,
    (left, before): (Stamps, Option<i64>),
) -> Option<Waiting> {
    let rest = unmerged(seen);
    let either = rest.union(&left);
    // Of the backlog those that are earlier than the cursor, if it has come to one; a row without time is the last.
    let early = |at: Option<i64>| before.is_none_or(|before| at.is_none_or(|at| at < before));
    let found = look::look(
        table,
        &Wanted {
            stamp: STAMP,
            time,
            ranges: either.ranges(),
            between: &|least, greatest| rest.meets(least, greatest) || left.meets(least, greatest),
            row: &|stamp, at| rest.contains(stamp) || left.contains(stamp) && early(at),
            most: i64::MAX,
            each: None,
        },
    );
    match found {
        Found::Rows(rows, oldest) => Some((rows, oldest)),
        Found::Locked | Found::Unknown => None,
    }
}

/// The rows of a part of the source, which the caller has locked, that the rollup has not merged; None where that cannot be
/// told.
pub fn unmerged_in(d: &Definition, plan: &Plan, table: pg_sys::Oid) -> Result<Option<i64>> {
    Ok(look_at(table, &plan.time_column, &d.state.frontier, left(d)?).map(|(rows, _)| rows))
}

/// The stamps of a backlog, and the moment before which it is not merged.
fn left(d: &Definition) -> Result<(Stamps, Option<i64>)> {
    Ok(match &d.state.backlog {
        None => (Stamps::NONE, None),
        Some(b) => (b.stamps(), micros(b.cursor.as_deref())?),
    })
}

/// Whether a table, which the caller has locked, has a row; None where that cannot be told.
pub fn has_rows(table: pg_sys::Oid, time_column: &str) -> Option<bool> {
    let any = Wanted {
        stamp: STAMP,
        time: time_column,
        ranges: &[(i64::MIN, i64::MAX)],
        between: &|_, _| true,
        row: &|_, _| true,
        most: 1,
        each: None,
    };
    match look::look(table, &any) {
        Found::Rows(rows, _) => Some(rows > 0),
        Found::Locked | Found::Unknown => None,
    }
}

/// Whether rows wait on the nodes of a cluster, the backlog aside.
pub fn any_on_nodes(d: &Definition) -> Result<New> {
    let plan = d.stored_plan()?;
    Ok(
        match shards::look(
            d.source_oid,
            &plan.time_column,
            &unmerged(&d.state.frontier),
            (&Stamps::NONE, None),
            1,
        )? {
            shards::Found::Rows(0) => New::Nothing,
            shards::Found::Rows(_) => New::Came,
            shards::Found::Locked => New::Locked,
            shards::Found::Unknown => New::Unknown,
        },
    )
}

/// How many rows wait on the nodes of a cluster, the backlog included.
fn counted(d: &Definition, plan: &Plan) -> Result<shards::Found> {
    let at = OfNodes::now(Moment::now())?;
    if at.had_nothing(d.id, &d.state) {
        return Ok(shards::Found::Rows(0));
    }
    let (left, before) = left(d)?;
    let rest = unmerged(&d.state.frontier);
    let found = shards::look(d.source_oid, &plan.time_column, &rest, (&left, before), i64::MAX)?;
    if found == shards::Found::Rows(0) {
        at.has_nothing(d.id, &d.state);
    }
    Ok(found)
}

/// On a Citus cluster nodes are asked; where they cannot tell, and in a transaction that has changed something, a statement counts
/// them, on the nodes where they are, as the owner, whose code it may run.
fn on_nodes(id: i64) -> Result<Option<Waiting>> {
    let Some(d) = catalog::by_id(id)? else { return Ok(None) };
    if d.source.is_none() || !look::may_read(d.source_oid) {
        return Ok(None);
    }
    let plan = d.stored_plan()?;
    if own_transaction_id_if_any().is_none() && !keeps_one_snapshot() {
        match citus::status::unless_unreachable(AssertUnwindSafe(|| counted(&d, &plan).map(Some)))? {
            Some(shards::Found::Rows(rows)) => return Ok(Some((rows, None))),
            Some(shards::Found::Unknown) => {}
            Some(shards::Found::Locked) | None => return Ok(None),
        }
    }
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

crate::v1!(rollup_waiting, waiting);

/// `rollup_internal.waiting`: how many rows wait, since when, and why that cannot be told where it ought to be. A rollup
/// of which anything is amiss says so, and hides no other: rollup.status reads all of them at once.
fn waiting(call: &mut Call) -> pg_sys::Datum {
    match in_subtransaction(AssertUnwindSafe(|| asked(call))) {
        Ok(found) => {
            let oldest = found.and_then(|(_, oldest)| oldest).map(pg_sys::Datum::from);
            record(call, &[found.map(|(rows, _)| pg_sys::Datum::from(rows)), oldest, None])
        }
        // Whoever reads may stop that.
        Err(e) if e.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => raise(report(e.code, e.message, "")),
        Err(e) => record(call, &[None, None, e.message.into_datum()]),
    }
}

/// What is asked comes along: of 200 rollups, reading each one's row again would take longer than looking for rows.
fn asked(call: &Call) -> Result<Option<Waiting>> {
    let (Some(id), Some(source)) = (call.i64(0), call.oid(1)) else { return Ok(None) };
    if call.bool(3) == Some(true) {
        return on_nodes(id);
    }
    if !look::is_there(source) || !look::may_read(source) {
        return Ok(None);
    }
    let snapshot = |at: usize| {
        let end = |xmax| Frontier::Server(Snapshot { xmax, xip: call.i64s(at + 1) });
        call.i64(at).map(end)
    };
    let Some(seen) = snapshot(4) else { return Ok(None) };
    let backlog = match snapshot(6).zip(snapshot(8)) {
        Some((from, to)) => (new(&from, &to), call.i64(10)),
        None => (Stamps::NONE, None),
    };
    // A row without its column's name has no time.
    let time = call.bytes(2).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    Ok(look_at(source, time, &seen, backlog))
}
