//! What the catalog holds of rows that changed, that came in another way, or that left: the minutes in which they lie. They are for
//! those who may read these rows' times, and no grant can say so, since one table holds the records of all sources.
//!
//! Invariant: whoever asks gets all records of a source, or an error; never a part. A run, an expiry or a live view that
//! saw fewer than there are would be wrong without a word.
use super::ask;
use super::error::{Result, fail};
use crate::pg::ctext::c_text;
use crate::pg::executing;
use crate::pg::rows::materialize;
use crate::pg::security;
use crate::pg::v1::Call;
use crate::pg::xact::{self, ActingAs, role_name};
use crate::pg::zonemap::header;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CString;

crate::v1!(rollup_changes, changes);
crate::v1!(rollup_arrivals, arrivals);
crate::v1!(rollup_lost_rows, lost);
crate::v1!(rollup_is_version, is_version);
crate::v1!(rollup_place, place);

/// The number of the place of argument 0, as records have it.
fn place(call: &mut Call) -> pg_sys::Datum {
    match call.place(0) {
        Some(place) => pg_sys::Datum::from(header::number(&place)),
        None => call.null(),
    }
}

/// Whether the row at argument 1 of the table of argument 0 is a new version of one that was there.
fn is_version(call: &mut Call) -> pg_sys::Datum {
    let found = call.oid(0).zip(call.place(1)).is_some_and(|(table, place)| header::is_version(table, place));
    pg_sys::Datum::from(found)
}

fn changes(call: &mut Call) -> pg_sys::Datum {
    of(call, "NULL::regclass, NULL::xid, NULL::int8, NULL::int8[], NULL::oid", "rollup.change", 5)
        .unwrap_or_else(super::error::raise)
}

fn arrivals(call: &mut Call) -> pg_sys::Datum {
    of(call, "n.relation, n.xid, n.command, n.moved, n.file", "rollup.arrival", 8)
        .unwrap_or_else(super::error::raise)
}

/// When raw rows lay that left with their table: argument 0 is the id of the rollup.
fn lost(call: &mut Call) -> pg_sys::Datum {
    of_rollup(call).unwrap_or_else(super::error::raise)
}

fn of_rollup(call: &mut Call) -> Result<pg_sys::Datum> {
    let Some(id) = call.arg(0).map(|id| id.value() as i64) else { return Ok(materialize(call, |_| ())) };
    // A live view asks at each reading, and mostly nothing has left.
    let found = {
        let _acting = ActingAs::catalog();
        let sql = "SELECT EXISTS (SELECT FROM rollup.lost n WHERE n.definition = $1) OR EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)";
        ask::read_often(sql, &[id.into()], |row| row.get::<bool>(1))?
    };
    let d = match found.first() {
        Some(Some(true)) => super::catalog::by_id(id)?,
        _ => None,
    };
    let Some(d) = d else { return Ok(materialize(call, |_| ())) };
    let (reader, views) = (xact::current_user(), executing::views());
    let rows = {
        let _acting = ActingAs::catalog();
        let time_column = d.plan()?.time_column;
        let column = c_text(time_column.as_str());
        if !may_know(d.source_oid, Some(&column), reader, &views)? {
            return refuse(reader, d.source_oid);
        }
        let sql = "SELECT n.since, n.until FROM rollup.lost n WHERE n.definition = $1";
        let mut rows = ask::read_often(sql, &[d.id.into()], |row| {
            Ok((
                row.get::<TimestampWithTimeZone>(1)?.into_datum(),
                row.get::<TimestampWithTimeZone>(2)?.into_datum(),
            ))
        })?;
        let moment = |at: i64| Some(pg_sys::Datum::from(at));
        rows.extend(super::lost::times_leaving(&d, &time_column)?.into_iter().map(|times| match times {
            Some((since, until)) => (moment(since), moment(until)),
            None => (None, None),
        }));
        rows
    };
    Ok(materialize(call, |put| rows.iter().for_each(|&(a, b)| put(&[a, b]))))
}

fn refuse<T>(reader: pg_sys::Oid, source: pg_sys::Oid) -> Result<T> {
    fail(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "role {} may not know when rows of {} changed",
            role_name(reader),
            crate::pg::deparse::shown_name(source)
        ),
        "That takes SELECT on the column of its time, and no row-level security that applies; or a live view of a rollup.",
    )
}

/// The first so many `columns`, of which `whence` gives those from the fourth on.
fn of(call: &mut Call, whence: &str, table: &str, columns: usize) -> Result<pg_sys::Datum> {
    let Some(source) = call.arg(0).map(|d| pg_sys::Oid::from(d.value() as u32)) else {
        return Ok(materialize(call, |_| ()));
    };
    let column = call.name(1);
    let reader = xact::current_user();
    let views = executing::views();
    let sql = format!(
        "SELECT n.rollup_stamp, n.since, n.until, {whence} FROM {table} n WHERE n.source = $1 AND ($2 IS NULL OR n.time_column = $2::name)"
    );
    let rows = {
        let _acting = ActingAs::catalog();
        if !may_know(source, column.as_ref(), reader, &views)? {
            return refuse(reader, source);
        }
        let named = column.as_ref().map(|c| c.to_string_lossy().into_owned());
        let args = &[source.into(), named.into()];
        ask::read_often(&sql, args, |row| {
            Ok((
                row.get::<i64>(1)?.into_datum(),
                row.get::<TimestampWithTimeZone>(2)?.into_datum(),
                row.get::<TimestampWithTimeZone>(3)?.into_datum(),
                row.get::<pg_sys::Oid>(4)?.into_datum(),
                row.get::<pg_sys::TransactionId>(5)?.into_datum(),
                row.get::<i64>(6)?.into_datum(),
                row.get::<Vec<i64>>(7)?.into_datum(),
                row.get::<pg_sys::Oid>(8)?.into_datum(),
            ))
        })?
    };
    Ok(materialize(call, |put| {
        rows.iter().for_each(|&(a, b, c, d, e, f, g, h)| put(&[a, b, c, d, e, f, g, h][..columns]))
    }))
}

/// Whether a role may read the times of the source itself, or the statement reads a view that calls these functions and
/// whose owner may: that is what a live view is, and as a view it reads by the rights of its owner.
fn may_know(
    source: pg_sys::Oid,
    column: Option<&CString>,
    reader: pg_sys::Oid,
    views: &[pg_sys::Oid],
) -> Result<bool> {
    let column = column.map(CString::as_c_str);
    if security::may_read(source, column, reader) {
        return Ok(true);
    }
    for &view in views {
        let Some(owner) = security::owner_of(view) else { continue };
        if security::may_read(source, column, owner) && calls_these(view)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn calls_these(view: pg_sys::Oid) -> Result<bool> {
    let found = ask::read_often(
        "SELECT EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
           AND d.refclassid = 'pg_proc'::regclass AND d.refobjid IN ('rollup_internal.changes(regclass, name)'::regprocedure, 'rollup_internal.arrivals(regclass, name)'::regprocedure, 'rollup_internal.lost_rows(bigint)'::regprocedure) \
         WHERE r.ev_class = $1 AND NOT coalesce((SELECT bool_or(o.option_value::boolean) FROM pg_class c, pg_options_to_table(c.reloptions) o \
           WHERE c.oid = $1 AND o.option_name = 'security_invoker'), false))",
        &[view.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first() == Some(&Some(true)))
}
