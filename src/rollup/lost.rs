//! Raw rows that left with their table: with a partition or child that was dropped or detached by others than our expiry.
//!
//! Invariant: a bucket of which raw rows have left is not computed again, unless its owner forces it: what was counted
//! stays, and `rollup.check` does not compare it. It rests on this:
//! - whatever command drops a table that lies below a source, its rows are looked at before it goes, with the table locked
//!   (`pg::leaving`); one that is detached is looked at by the event trigger of that command. Both write down the times of
//!   its rows, for each rollup that there is, in their own transaction. They lock the table above against readers, so that
//!   no run reads raw rows without the table and without the record;
//! - a table that comes back takes its records along, and so does one that takes its place in the same transaction: its
//!   rows are judged as any that come (see `newcomers`). For rollups that follow changes all of their buckets are recorded as
//!   changed, since nobody told of what was done to the table meanwhile;
//! - what our own expiry drops is known by `rollup.expired`, and recorded nowhere else.
//!
//! A rollup that is made later counts what is there, and has lost nothing.
use super::catalog::{self, Definition, Must};
use super::citus::leaving::taken_along as leaving_nodes;
use super::error::{Result, fail, report};
use super::{maps, waiting, watch};
use crate::pg::ddl::Command;
use crate::pg::deparse::shown_name;
use crate::pg::kept::under_latest_snapshot;
use crate::pg::leaving;
use crate::pg::trigger::{self, Micros};
use crate::pg::xact::{ActingAs, in_subtransaction, own_transaction_id};
use crate::pg::zonemap::extent::{Extent, extent};
use hll_rollup::sql::literal;
use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;

/// What a table takes along of a rollup's raw rows.
struct Left {
    table: pg_sys::Oid,
    source: pg_sys::Oid,
    definition: i64,
    rollup: String,
    times: Option<(Micros, Micros)>,
    some_without: bool,
    unmerged: i64,
    /// The table above and the bounds there: what takes the same place in this transaction takes the record away.
    place: String,
}

thread_local! {
    /// What the command at hand is about to drop, with the transaction that it is of.
    static GOING: RefCell<(i64, Vec<pg_sys::Oid>, Vec<Left>)> = RefCell::default();
}

/// Called once when the library is loaded.
pub fn init() {
    leaving::install(about_to_go);
}

/// Called for a table below another that is about to be dropped: maybe twice, before its indexes go and after.
fn about_to_go(table: pg_sys::Oid) {
    let now = own_transaction_id();
    let known = GOING.with_borrow_mut(|(of, tables, left)| {
        if *of != now {
            *of = now;
            tables.clear();
            left.clear();
        }
        let known = tables.contains(&table);
        tables.push(table);
        known
    });
    if known || watch::Expiring::drops(table) || crate::pg::deparse::is_temporary(table) {
        return;
    }
    // A command fails because of nobody's rollup.
    let found = in_subtransaction(AssertUnwindSafe(|| match catalog::is_there()? {
        true => measure(table, table, None),
        false => Ok(Vec::new()),
    }));
    match found {
        Ok(found) => GOING.with_borrow_mut(|(_, _, left)| left.extend(found)),
        Err(e) => log!("rollup: what table {} takes along is not known: {}", table.to_u32(), e.message),
    }
}

/// What a table takes along from the sources that are, or lie above, `from`; `left` is what it was detached from, None where
/// it is about to go.
fn measure(table: pg_sys::Oid, from: pg_sys::Oid, left: Option<pg_sys::Oid>) -> Result<Vec<Left>> {
    let sources = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
             SELECT s.relation::pg_catalog.oid FROM rollup.source s JOIN up ON up.relation = s.relation WHERE s.relation <> $2",
            &[from.into(), table.into()],
            |row| row.must::<pg_sys::Oid>(1),
        )?
    };
    let mut found = Vec::new();
    for source in sources {
        for d in catalog::of_source(source, true)? {
            if !d.same_cluster {
            } else if d.state.nodes().is_none() {
                found.extend(under_latest_snapshot(|| of_rollup(table, source, &d))?);
            } else {
                found.extend(on_nodes(table, source, &d, left)?);
            }
        }
    }
    Ok(found)
}

/// The same of a table that Citus keeps, whose rows are elsewhere.
fn on_nodes(
    table: pg_sys::Oid,
    source: pg_sys::Oid,
    d: &Definition,
    left: Option<pg_sys::Oid>,
) -> Result<Option<Left>> {
    let Some(parent) = left.or_else(|| leaving::parents(table).first().copied()) else { return Ok(None) };
    let taken = leaving_nodes(d, &d.stored_plan()?, (table, parent), left.is_none())?;
    Ok(taken.map(|taken| Left {
        table,
        source,
        definition: d.id,
        rollup: d.name.clone(),
        times: Some(ends(taken.times)),
        some_without: taken.some_without,
        unmerged: taken.unmerged,
        place: String::new(),
    }))
}

fn of_rollup(table: pg_sys::Oid, source: pg_sys::Oid, d: &Definition) -> Result<Option<Left>> {
    // Names that have not been followed yet would take a lock to find out; without its column the times are all.
    let plan = d.stored_plan()?;
    // Pages of rows that were moved or deleted count as rows until they are vacuumed: so it is asked for one.
    if waiting::has_rows(table, &plan.time_column) == Some(false) {
        return Ok(None);
    }
    let (times, some_without) = match extent(table, &plan.time_column) {
        Extent::Empty => return Ok(None),
        Extent::Times(times, some_without) => (times, some_without),
        Extent::Unknown => (Some((i64::MIN, i64::MAX)), true),
    };
    Ok(Some(Left {
        table,
        source,
        definition: d.id,
        rollup: d.name.clone(),
        times: times.map(ends),
        some_without,
        // Of what cannot be told nothing is said.
        unmerged: waiting::unmerged_in(d, &plan, table)?.unwrap_or(0),
        place: String::new(),
    }))
}

const DAY: i64 = 86_400_000_000;

/// A child that is no partition has no bounds, and so no place that another could take: what follows it may be anything.
fn place(parent: pg_sys::Oid, table: pg_sys::Oid) -> Option<String> {
    leaving::bounds(table).map(|bounds| format!("{} {bounds}", parent.to_u32()))
}

/// Writes down what has left, and says how many rows no run will count any more.
fn note(left: &[Left], gone: bool) -> Result<()> {
    for l in left {
        let _acting = ActingAs::catalog();
        let write = |since: Option<Micros>, until: Option<Micros>| {
            catalog::execute(
                "INSERT INTO rollup.lost (definition, relation, xid, place, since, until) VALUES ($1, $2, $3, $4, $5, $6)",
                &[
                    l.definition.into(),
                    (!gone).then_some(l.table).into(),
                    own_transaction_id().into(),
                    l.place.as_str().into(),
                    trigger::timestamptz(since),
                    trigger::timestamptz(until),
                ],
            )
        };
        if let Some((least, greatest)) = l.times {
            write(Some(least), Some(greatest))?;
        }
        if l.some_without {
            write(None, None)?;
        }
        if l.unmerged > 0 {
            let source = shown_name(l.source);
            let (what, hint) = match gone {
                true => (
                    "that were dropped with a partition or child".to_string(),
                    "rollup.retain has partitions dropped that every rollup has counted, and no other; before a DROP of your own",
                ),
                false => (
                    format!("that left with {}", shown_name(l.table)),
                    "They are counted once it is attached again. Before it is dropped",
                ),
            };
            report(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("rollup {} has not counted {} rows of {source} {what}", l.rollup, l.unmerged),
                format!("{hint}, SELECT rollup.run({}) counts what is there.", literal(&source)),
            )
            .report(PgLogLevel::WARNING);
        }
    }
    Ok(())
}

/// Called where objects were dropped, with the ids of all relations among them.
pub fn dropped(gone: &[pg_sys::Oid]) -> Result<()> {
    let left = GOING.with_borrow_mut(|(_, tables, left)| {
        tables.clear();
        std::mem::take(left)
    });
    let left: Vec<Left> =
        left.into_iter().filter(|l| gone.contains(&l.table) && !gone.contains(&l.source)).collect();
    note(&left, true)?;
    let _acting = ActingAs::catalog();
    // What was detached before is no table any more.
    catalog::execute(
        "UPDATE rollup.lost SET relation = NULL WHERE ctid = ANY (ARRAY(SELECT ctid FROM rollup.lost WHERE relation = ANY ($1) FOR UPDATE SKIP LOCKED))",
        &[gone.to_vec().into()],
    )
}

/// Called where a command may have detached tables.
pub fn left(command: &Command) -> Result<()> {
    for (parent, name) in &command.detached {
        // Of those that this transaction has detached, the one that is called so.
        let named = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1 AND relname = $2::pg_catalog.name)";
        for table in leaving::taken_from(*parent) {
            if catalog::one_now::<bool>(named, &[table.into(), name.as_str().into()])? {
                detached(table, *parent)?;
            }
        }
    }
    for &table in &command.freed {
        leaving::taken_away(table).into_iter().try_for_each(|parent| detached(table, parent))?;
    }
    Ok(())
}

fn detached(table: pg_sys::Oid, parent: pg_sys::Oid) -> Result<()> {
    // Expiry detaches what it drops next, where foreign keys refer to the table.
    if watch::Expiring::drops(table) {
        return Ok(());
    }
    let place = place(parent, table).unwrap_or_default();
    for one in maps::tables(table)? {
        let mut left = measure(one, parent, Some(parent))?;
        // Its columns may be others by now, and it may lie below the source on another way.
        left.retain(|l| !below(one, l.source));
        left.iter_mut().for_each(|l| l.place = place.clone());
        note(&left, false)?;
    }
    Ok(())
}

fn below(table: pg_sys::Oid, source: pg_sys::Oid) -> bool {
    maps::tables(source).is_ok_and(|tables| tables.contains(&table))
}

/// Called where a table has come to stand below others: it is not away any more, and nor is what it takes the place of.
pub fn back(table: pg_sys::Oid) -> Result<()> {
    let there = {
        let _acting = ActingAs::catalog();
        catalog::read("SELECT EXISTS (SELECT FROM rollup.lost)", &[], |row| row.get::<bool>(1))?
    };
    if there.first() != Some(&Some(true)) {
        return Ok(());
    }
    let tables = maps::tables(table)?;
    // One without rows does not take the place of one with rows.
    let places: Vec<String> =
        match under_latest_snapshot(|| Ok::<_, ErrorReport>(waiting::has_rows(table, ""))) {
            Ok(Some(false)) => Vec::new(),
            _ => leaving::parents(table).into_iter().filter_map(|parent| place(parent, table)).collect(),
        };
    let _acting = ActingAs::catalog();
    let followed = catalog::write(
        "WITH back AS (DELETE FROM rollup.lost l WHERE l.relation = ANY ($1) OR l.xid = $2 AND l.place = ANY ($3) RETURNING l.definition, l.since, l.until), \
         told AS (INSERT INTO rollup.change (source, time_column, rollup_stamp, since, until) SELECT d.source, (d.plan->>'time_column')::pg_catalog.name, $2 + s.stamp_offset, b.since, b.until \
         FROM back b JOIN rollup.definition d ON d.id = b.definition JOIN rollup.source s ON s.relation = d.source WHERE d.on_change = 'recompute' AND d.nodes IS NULL RETURNING source, time_column, rollup_stamp) \
         SELECT DISTINCT source::pg_catalog.oid, time_column::pg_catalog.text, rollup_stamp FROM told",
        &[tables.clone().into(), own_transaction_id().into(), places.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<String>(2)?, row.must::<i64>(3)?)),
    )?;
    // Of rows that a table had, and of those that it has now: nobody told of what was changed while it was away.
    for (source, time_column, stamp) in followed {
        for &table in &tables {
            for times in times_of(table, &time_column) {
                let moment = |end: fn((Micros, Micros)) -> Micros| trigger::timestamptz(times.map(end));
                catalog::execute(
                    "INSERT INTO rollup.change (source, time_column, rollup_stamp, since, until) VALUES ($1, $2::pg_catalog.name, $3, $4, $5)",
                    &[
                        source.into(),
                        time_column.as_str().into(),
                        stamp.into(),
                        moment(|(least, _)| least),
                        moment(|(_, greatest)| greatest),
                    ],
                )?;
            }
        }
    }
    Ok(())
}

/// The rollup has lost raw rows.
pub fn any(d: &Definition) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let found = catalog::write(
        "SELECT EXISTS (SELECT FROM rollup.lost l WHERE l.definition = $1)",
        &[d.id.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first() == Some(&Some(true)) || !leaving_now(d.source_oid)?.is_empty())
}

/// Partitions that are being detached concurrently with readers: a statement that begins now reads them no more, and what they take
/// along is recorded by the transaction that ends it, which waits for whoever holds a lock on the table above.
pub fn leaving_now(source: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let _acting = ActingAs::catalog();
    catalog::write(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhrelid = t.oid WHERE i.inhdetachpending ORDER BY 1",
        &[source.into()],
        |row| row.must::<pg_sys::Oid>(1),
    )
}

/// Refuses what was computed from raw rows while a partition began to leave: `before` are those that had. The caller holds a
/// lock on the source.
pub fn check_stayed(d: &Definition, before: &[pg_sys::Oid]) -> Result<()> {
    if leaving_now(d.source_oid)? == before {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        format!("a partition is being detached while buckets of rollup {} are computed again", d.name),
        "Try again.",
    )
}

/// When the rows lie of partitions that are being detached, each from the first to the last; None: rows without time.
pub fn times_leaving(d: &Definition, time_column: &str) -> Result<Vec<Option<(Micros, Micros)>>> {
    let mut found = Vec::new();
    for partition in leaving_now(d.source_oid)? {
        for table in maps::tables(partition)? {
            found.extend(times_of(table, time_column));
        }
    }
    Ok(found)
}

/// When the rows of a table lie, from the first to the last, and None where there are rows without time.
pub fn times_of(table: pg_sys::Oid, time_column: &str) -> Vec<Option<(Micros, Micros)>> {
    let (times, some_without) = match extent(table, time_column) {
        Extent::Empty => (None, false),
        Extent::Times(times, some_without) => (times, some_without),
        Extent::Unknown => (Some((i64::MIN, i64::MAX)), true),
    };
    times.map(ends).map(Some).into_iter().chain(some_without.then_some(None)).collect()
}

/// Days go on where time stamps have ended.
fn ends((least, greatest): (Micros, Micros)) -> (Micros, Micros) {
    (least.min(trigger::END - DAY), if greatest >= trigger::END { i64::MAX } else { greatest })
}
