//! What a run does with rows that came in another way, whose stamps it takes for merged: it judges whether they were
//! counted, and adds those that were not.
//!
//! Of each group that they are in, `stored` is how many rows the rollup has counted, `raw` how many there are with merged
//! stamps, newcomers among them, and each transaction, or table that came as a whole, has brought so many. Those that are
//! new are the ones that `raw` has and `stored` has not. Where one choice of transactions, and no other, gives their
//! number, it is taken: none of them where `stored` = `raw` (rows that were moved, or came back with their partition), all
//! where all of them are missing. Where none gives it, rows of the group have been changed or deleted otherwise: the
//! newcomers are left out, with a warning and a number in `rollup.status`; a rollup that follows changes computes the bucket
//! again. Groups are never replaced by what raw rows give without that: history must not go.
//!
//! Invariant: a row with a merged stamp is counted once, or came in a transaction that had not ended in `seen` and whose
//! record is there. It rests on this:
//! - `stored` is changed by who holds the state row alone, as this run does;
//! - `raw` and the newcomers are read under one snapshot, which becomes the run's `now`: of a transaction that has ended in
//!   it all rows that it brought, took away and moved are seen, with its records, and of others nothing;
//! - tables are as that snapshot sees them. Whoever empties, rewrites or detaches one waits for this run, or the snapshot
//!   comes after it; one that is attached after the snapshot is left out by its id. Its lock is waited for, and what it
//!   says to other sessions taken notice of, after the snapshot: so that a statement that is planned then reads all tables
//!   that the snapshot sees;
//! - newcomers are known by the id of who inserted them, which goes round after four billion transactions: a record is not
//!   to be as old as that.
//!
//! A run in a transaction that itself brought such rows judges nothing, since its own would be half there: what it finds it
//! records again, for the next.
use super::catalog::{self, Definition, Must};
use super::changes::{Changes, Notes};
use super::error::{Result, internal};
use super::left_out::{Left, compute_again, leave_out};
use super::session::set_timezone;
use crate::pg::buckets::FewBuckets;
use crate::pg::kept::{read_active, under_one_snapshot, with_active_rows};
use crate::pg::plan::called::Ours;
use crate::pg::xact::{ActingAs, own_transaction_id};
use hll_rollup::sql::{STAMP, ident, literal};
use hll_rollup::{CHANGED, Frontier, Plan, Verdict, newcomers as judged, sql as bounds, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CString;

/// What is to become of one group's newcomers, for the statements of `judged`.
#[pg_extern(sql = false)]
fn rollup_verdict(stored: i64, raw: i64, came: Vec<Option<i64>>, rows: Vec<Option<i64>>, one: i64) -> i32 {
    let rows: Vec<(i64, i64)> =
        came.into_iter().zip(rows).filter_map(|(who, rows)| Some((who?, rows?))).collect();
    match hll_rollup::verdict(stored, raw, &rows, one) {
        Verdict::New => 1,
        Verdict::Counted => 0,
        Verdict::Unknown => -1,
    }
}

/// Whether records wait for a run of the rollup at `now`.
pub fn wait(d: &Definition, now: &Frontier) -> Result<bool> {
    if !catalog::has_arrivals(d.source_oid)? {
        return Ok(false);
    }
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        &format!(
            "SELECT EXISTS (SELECT FROM rollup.arrival n WHERE n.source = $1 AND {})",
            bounds::new("n.", &d.state.frontier, now)
        ),
        &[d.source_oid.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first() == Some(&Some(true)))
}

/// The same as committed now.
pub fn wait_now(d: &Definition) -> Result<bool> {
    if d.state.nodes().is_some() || !catalog::has_arrivals_now(d.source_oid)? {
        return Ok(false);
    }
    let now = catalog::current_frontier(true, d.offset)?;
    let _acting = ActingAs::catalog();
    let waiting = format!(
        "SELECT EXISTS (SELECT FROM rollup.arrival n WHERE n.source = $1 AND {})",
        bounds::new("n.", &d.state.frontier, &now)
    );
    let found = catalog::write(&waiting, &[d.source_oid.into()], |row| row.get::<bool>(1))?;
    Ok(found.first() == Some(&Some(true)))
}

/// Adds newcomers that were not counted to a rollup whose state row is locked, before anything else is merged. Returns up
/// to where the run is to merge what is new, no less than `now`, and the raw rows added.
pub fn merge(d: &Definition, plan: &Plan, now: Frontier) -> Result<(Frontier, i64)> {
    // What has ended in `now` has its records where this looks.
    if !catalog::has_arrivals_now(d.source_oid)? {
        return Ok((now, 0));
    }
    let pending = |now: &Frontier| bounds::new("n.", &d.state.frontier, now);
    let waiting = {
        let _acting = ActingAs::catalog();
        catalog::write(
            &format!(
                "SELECT bool_or({}), bool_or(n.rollup_stamp = $2) FROM rollup.arrival n WHERE n.source = $1",
                pending(&now)
            ),
            &[d.source_oid.into(), (own_transaction_id() + d.offset).into()],
            |row| Ok((row.get::<bool>(1)? == Some(true), row.get::<bool>(2)? == Some(true))),
        )?
    };
    match waiting.first() {
        Some((true, true)) => {
            let _acting = ActingAs::catalog();
            catalog::execute(
                &format!(
                    "INSERT INTO rollup.arrival (source, relation, rollup_stamp, xid, time_column, since, until) \
                     SELECT n.source, n.relation, $2, n.xid, n.time_column, n.since, n.until FROM rollup.arrival n WHERE n.source = $1 AND {}",
                    pending(&now)
                ),
                &[d.source_oid.into(), (own_transaction_id() + d.offset).into()],
            )?;
            Ok((now, 0))
        }
        Some((true, false)) => {
            super::source::settle_partitions(d)?;
            under_one_snapshot(|| {
                let now = catalog::active_frontier(d.offset)?;
                super::source::settle_partitions(d)?;
                let rows = judge(d, plan, &now)?;
                Ok((now, rows))
            })
        }
        _ => Ok((now, 0)),
    }
}

/// What the records of a run say.
struct Told {
    /// Tables that came as a whole.
    tables: String,
    /// Tables that rows came to, and who inserted them.
    leaves: String,
    xids: String,
    /// Records say nothing of this rollup's time column: it came after them.
    timeless: bool,
    /// A stamp of one of who brought them.
    stamp: i64,
}

fn told(d: &Definition, plan: &Plan, pending: &str) -> Result<Option<Told>> {
    let _acting = ActingAs::catalog();
    let found = read_active(
        &format!(
            "SELECT coalesce(array_agg(DISTINCT n.relation::oid) FILTER (WHERE n.xid IS NULL), '{{}}')::text, \
             coalesce(array_agg(DISTINCT n.relation::oid) FILTER (WHERE n.xid IS NOT NULL), '{{}}')::text, \
             coalesce(array_agg(DISTINCT n.xid::text) FILTER (WHERE n.xid IS NOT NULL), '{{}}')::text, \
             (SELECT bool_or(o.nowhere) FROM (SELECT bool_and(n.time_column <> {time}) AS nowhere FROM rollup.arrival n WHERE n.source = {source}::oid AND {pending} \
              GROUP BY n.relation, n.xid::text) o), max(n.rollup_stamp) FROM rollup.arrival n WHERE n.source = {source}::oid AND {pending}",
            time = literal(&plan.time_column),
            source = d.source_oid.to_u32()
        ),
        |row| {
            let Some(stamp) = row.get::<i64>(5)? else { return Ok(None) };
            let timeless = row.get::<bool>(4)? == Some(true);
            let (tables, leaves, xids) = (row.must(1)?, row.must(2)?, row.must(3)?);
            Ok(Some(Told { tables, leaves, xids, timeless, stamp }))
        },
    )
    .map_err(internal)?;
    Ok(found.into_iter().flatten().next())
}

/// What stands for a table that came as a whole, in the place of a transaction.
fn whole(prefix: &str) -> String {
    format!("(OPERATOR(pg_catalog.-) ({prefix}tableoid::pg_catalog.int8))")
}

/// Under the active snapshot, which is `now`.
fn judge(d: &Definition, plan: &Plan, now: &Frontier) -> Result<i64> {
    let pending = bounds::new("n.", &d.state.frontier, now);
    let Some(told) = told(d, plan, &pending)? else { return Ok(0) };
    let (source, target, owner) = d.parts()?;
    let levels = super::levels::of(d)?;
    let late = super::late::conditions(d, plan, &levels)?;
    let conditions: Vec<String> = late.iter().map(|l| l.condition.clone()).collect();
    let (tables, heaps) = tables(d.source_oid)?;

    let _acting = ActingAs::role(owner);
    set_timezone(&d.timezone);
    let changes = Changes::of(d, plan, &d.timezone, &d.state.frontier, now, Notes::Arrivals)?;
    let touched = match plan.plain_key && !told.timeless {
        true => super::changes::touched(&changes)?,
        false => None,
    };
    let key = ident(&plan.time_key);
    let raw_key = plan.bucket_of_row();
    // Raw rows and those that are stored, of the same groups: the bounds of time alone are wider.
    let (rows, groups) = match &touched {
        Some(touched) => {
            (format!("{} AND {}", touched.rows, touched.condition(&raw_key)), touched.condition(&key))
        }
        None => ("true".into(), "true".into()),
    };
    let p = statements::prefix(plan);
    let merged = format!(
        "{} AND {rows} AND {p}tableoid OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.oid[])",
        bounds::merged_rows(&p, plan.time(), &d.state),
        literal(&tables)
    );
    let changed = changed(d, plan, now, &heaps, &format!("{pending} AND {}", told.at(plan)), told.timeless)?;
    let who = format!("coalesce({}, {changed})", told.who(d, plan, &pending));
    let came = format!("({who}) IS NOT NULL");
    let gone = format!("coalesce({key} OPERATOR(pg_catalog.<) {}, false)", changes.floor(&changes.target));
    // Where rows left with their table, missing rows are told from new ones where all is the one or the other.
    let lost = super::holes::whole(d, plan, None)?.map_or("false".to_string(), |holes| holes.holds(&key));
    let newcomers = judged::newcomers(plan, source, &format!("{merged} AND {came}"), &who);
    let judged = judged::judged(plan, source, target, &newcomers, &merged, &groups, [&gone, &lost]);
    let merge = judged::merge_judged(plan, target, &levels, &conditions);
    let few = FewBuckets::of(d.source_oid, &plan.time_column, plan.bucket.shortest());
    let found = add_judged(d, plan, &judged, &merge, few)?;
    super::late::store(&late, &found.late)?;
    if d.follows {
        compute_again(d, plan, told.stamp, &found.left)?;
    } else {
        leave_out(d, source, &found.left)?;
    }
    Ok(found.added)
}

/// The source and all tables below it, as the active snapshot sees them, and those that are heaps: arrays of their ids.
fn tables(source: pg_sys::Oid) -> Result<(String, String)> {
    let tables = read_active(
        &format!(
            "WITH RECURSIVE t (oid) AS (SELECT {}::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
             SELECT pg_catalog.array_agg(t.oid)::pg_catalog.text, coalesce(pg_catalog.array_agg(t.oid) FILTER (WHERE h.amname = 'heap'), '{{}}')::pg_catalog.text \
             FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid LEFT JOIN pg_catalog.pg_am h ON h.oid = c.relam",
            source.to_u32()
        ),
        |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?)),
    )
    .map_err(internal)?;
    tables.into_iter().next().ok_or_else(|| internal("no table"))
}

impl Told {
    /// The condition that a raw row is of a time that the record `n` is of.
    fn at(&self, plan: &Plan) -> String {
        if self.timeless {
            return "true".into();
        }
        let time = format!("{}{}", statements::prefix(plan), ident(&plan.time_column));
        let time = if plan.time_zoned { time } else { hll_rollup::times::as_if_utc(&time) };
        format!(
            "({time} OPERATOR(pg_catalog.>=) n.since AND {time} OPERATOR(pg_catalog.<=) n.until OR {time} IS NULL AND n.since IS NULL)"
        )
    }

    /// The expression that says of a raw row who brought it: a stamp, or what stands for a table that came as a whole;
    /// NULL where it did not come in another way.
    fn who(&self, d: &Definition, plan: &Plan, pending: &str) -> String {
        let p = statements::prefix(plan);
        let any = |column: &str, list: &str, of: &str| {
            format!("{p}{column} OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.{of}[])", literal(list))
        };
        // The same transaction may have changed or moved other rows, which were counted: of those that it wrote, the ones of
        // the times that it recorded came, unless an earlier command has written them, or the one that was the first to bring
        // any made them of others, or it is one of those that were moved. What an earlier command has written is told by the
        // row's own, which whoever would have deleted or locked it has overwritten. Tables of other kinds than a heap know no
        // xmin.
        let command = format!("{p}cmin::pg_catalog.text::pg_catalog.int8");
        let first = "pg_catalog.min(n.command) FILTER (WHERE n.moved IS NULL)";
        let judged = format!(
            "CASE WHEN pg_catalog.bool_or(n.moved IS NOT NULL AND (rollup_internal.place({p}ctid) OPERATOR(pg_catalog.=) ANY (n.moved) \
             OR pg_catalog.cardinality(n.moved) OPERATOR(pg_catalog.=) 0 AND {command} OPERATOR(pg_catalog.>=) n.command OR n.file IS DISTINCT FROM pg_catalog.pg_relation_filenode({p}tableoid))) \
             OR {p}xmax::pg_catalog.text OPERATOR(pg_catalog.=) '0' AND {command} OPERATOR(pg_catalog.<) {first} \
             OR {command} OPERATOR(pg_catalog.=) {first} AND rollup_internal.is_version({p}tableoid, {p}ctid) \
             THEN {CHANGED}::pg_catalog.int8 ELSE pg_catalog.max(n.rollup_stamp) FILTER (WHERE n.moved IS NULL) END"
        );
        let at = self.at(plan);
        let came_whole = format!("CASE WHEN {} THEN {} END", any("tableoid", &self.tables, "oid"), whole(&p));
        format!(
            "CASE WHEN CASE WHEN {} THEN {} ELSE false END THEN coalesce((SELECT {judged} FROM rollup_internal.arrivals({}::pg_catalog.oid, {}) n WHERE n.xid OPERATOR(pg_catalog.=) {p}xmin \
             AND n.relation OPERATOR(pg_catalog.=) {p}tableoid AND {pending} AND (n.moved IS NOT NULL OR {at})), {came_whole}) \
             WHEN {} THEN {} END",
            any("tableoid", &self.leaves, "oid"),
            any("xmin", &self.xids, "xid"),
            d.source_oid.to_u32(),
            if self.timeless { "NULL".to_string() } else { literal(&plan.time_column) },
            any("tableoid", &self.tables, "oid"),
            whole(&p)
        )
    }
}

/// Judges the groups that newcomers are in, and merges those that were not counted.
fn add_judged(d: &Definition, plan: &Plan, judged: &str, merge: &str, few: FewBuckets) -> Result<Judged> {
    let judged = CString::new(judged).map_err(internal)?;
    with_active_rows(&judged, c"judged", |client, groups| {
        drop(few);
        let mut out = Judged::default();
        if groups == 0 {
            return Ok(out);
        }
        let ours = Ours::next();
        let row = client.update(merge, None, &[])?.first();
        drop(ours);
        out.added = row.must::<i64>(1)?;
        out.late = row.must::<Vec<i64>>(2)?;
        if out.added > 0 {
            super::notify::changed_here(d, plan, client, "judged")?;
        }
        let left = "SELECT \"rollup came\", \"rollup rows\", \"rollup since\", \"rollup until\" FROM judged WHERE \"rollup verdict\" OPERATOR(pg_catalog.<) 0";
        for row in client.select(left, None, &[])? {
            out.left.push(Left {
                came: row.must(1)?,
                rows: row.must(2)?,
                since: row.get(3)?,
                until: row.get(4)?,
            });
        }
        Ok(out)
    })
    .map_err(internal)
}

/// CHANGED for rows of the recorded times that were changed since the last run, or moved, NULL for others: newcomers may be among
/// them, whom their transaction and their table do not tell any more. That holds of a rollup that follows changes, too, which
/// nobody tells of a table that is rewritten.
fn changed(
    d: &Definition,
    plan: &Plan,
    now: &Frontier,
    heaps: &str,
    noted: &str,
    timeless: bool,
) -> Result<String> {
    let Frontier::Server(snapshot) = now else { return Err(internal("newcomers of several nodes")) };
    let p = statements::prefix(plan);
    // The id that a version of a row was written by, as stamps have it: below that of the snapshot.
    let written = format!(
        "{0} OPERATOR(pg_catalog.-) (({1} OPERATOR(pg_catalog.-) {p}xmin::pg_catalog.text::pg_catalog.int8) OPERATOR(pg_catalog.&) 4294967295::pg_catalog.int8)",
        snapshot.xmax,
        snapshot.xmax - d.offset
    );
    Ok(format!(
        "CASE WHEN CASE WHEN {p}tableoid OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.oid[]) \
         THEN (SELECT {} FROM (SELECT {written} AS {STAMP} OFFSET 0) w) ELSE false END \
         AND EXISTS (SELECT FROM rollup_internal.arrivals({}::pg_catalog.oid, {}) n WHERE {noted}) THEN {CHANGED}::pg_catalog.int8 END",
        literal(heaps),
        bounds::new("w.", &d.state.frontier, now),
        d.source_oid.to_u32(),
        if timeless { "NULL".to_string() } else { literal(&plan.time_column) },
    ))
}

/// What a judgement came to.
#[derive(Default)]
struct Judged {
    added: i64,
    late: Vec<i64>,
    left: Vec<Left>,
}
