//! A run on one server: a statement that groups what is new, and one that merges the groups, under snapshots of its own.
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal};
use super::long::{self, LeftOut};
use super::place::{Look, OneServer, Place};
use super::session::{prefer_hashing, prefer_the_index, set_timezone};
use super::waiting::{self, New};
use crate::pg::batch::Asked;
use crate::pg::buckets::FewBuckets;
use crate::pg::deparse::qualified;
use crate::pg::kept::with_rows;
use crate::pg::plan::called::Ours;
use crate::pg::xact::{ActingAs, own_transaction_id};
use crate::pg::zonemap;
use hll_rollup::sql::STAMP;
use hll_rollup::{Frontier, Plan, Stamps, keys, sql as bounds, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

impl Place for OneServer {
    /// Asked read-only, at every tick. Where not one transaction of the cluster has ended since this session asked last
    /// and found nothing, there is nothing now: every change of a table takes a transaction id.
    fn is_due(&self, d: &Definition) -> Result<bool> {
        let (source, _, owner) = d.parts()?;
        let now = catalog::current_frontier(false, d.offset)?;
        match new_at(d, &now)? {
            New::Came => Ok(true),
            New::Nothing => Ok(false),
            New::Locked | New::Unknown => finds_rows(d, source, owner, &now),
        }
    }

    fn look(&self, d: &Definition) -> Result<Look> {
        let now = catalog::current_frontier(true, d.offset)?;
        if !now.contains(&d.state.frontier) {
            // Only a transaction that keeps an old snapshot gets here: another run has been faster.
            return fail(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                format!("rollup {} has been run past this transaction's snapshot", d.name),
                "Try again in a new transaction.",
            );
        }
        let plan = super::renamed::stored(d)?;
        let (now, rows) = super::newcomers::merge(d, &plan, now)?;
        super::source::settle_partitions(d)?;
        Ok(Look { plan, now, candidate: None, rows })
    }

    fn merge(&self, d: &Definition, plan: &Plan, _: Option<&Stamps>, bounds: &str) -> Result<(i64, i64)> {
        d.check_cluster()?;
        let (source, target, owner) = d.parts()?;
        let levels = super::levels::of(d)?;
        let late = super::late::conditions(d, plan, &levels)?;
        let conditions: Vec<String> = late.iter().map(|l| l.condition.clone()).collect();
        let delta = CString::new(statements::delta(plan, source, bounds)).map_err(internal)?;
        let statement = statements::merge_delta(plan, target, &levels, &conditions);
        let _acting = ActingAs::role(owner);
        let planned = settled(d, plan);
        // The raw rows are read by the first statement alone, whose snapshot is no older than `now`.
        let merged = with_rows(&delta, statements::DELTA, |client, groups| {
            drop(planned);
            if groups == 0 {
                return Ok((0, 0, Vec::new(), None));
            }
            let ours = Ours::next();
            let row = client.update(&*statement, None, &[])?.first();
            drop(ours);
            let rows = row.must::<i64>(1)?;
            let counts = row.must::<Vec<i64>>(2)?;
            super::notify::changed_here(d, plan, client, "delta")?;
            let left_out = counts.get(late.len()).copied().filter(|rows| *rows > 0);
            let left_out = match left_out {
                None => None,
                Some(rows) => {
                    let longest = client.select(&*keys::longest(plan), None, &[])?.first();
                    Some(LeftOut { rows, key: longest.must(1)?, bytes: longest.must(2)? })
                }
            };
            Ok((rows, groups, counts, left_out))
        });
        let (rows, groups, counts, left_out) = merged.map_err(internal)?;
        super::late::store(&late, &counts)?;
        if let Some(left_out) = left_out {
            long::store(d, &left_out)?;
        }
        prefer_the_index();
        let own = own_transaction_id() + d.offset;
        let foreign = catalog::write(&statements::has_foreign_stamp(source, own, d.offset), &[], |row| {
            row.get::<bool>(1)
        })?;
        if foreign.first().copied().flatten() == Some(true) {
            ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!(
                    "rollup {}: {source} has rows whose {} names a transaction that has not begun",
                    d.name, STAMP
                ),
                "They are merged when that id comes. Leave the column to its default; it is never to be written."
            );
        }
        Ok((rows, groups))
    }

    fn follow(&self, d: &Definition, plan: &Plan, before: &Frontier) -> Result<()> {
        super::change::follow(d, plan, before)?;
        super::watch::forget_arrivals(d.source_oid, false)
    }

    fn tidy(&self, d: &Definition) -> Result<()> {
        // The next run and the live view are not to read again what has been merged.
        zonemap::summarize(d.source_oid);
        super::mend::mend(d)
    }

    fn explain(&self, d: &Definition) -> Result<String> {
        let (source, target, _) = d.parts()?;
        let now = catalog::current_frontier(false, d.offset)?;
        let plan = d.plan()?;
        let new = bounds::new(&statements::prefix(&plan), &d.state.frontier, &now);
        let delta = statements::delta(&plan, source, &new);
        Ok(format!(
            "-- The groups of the new rows, which are called delta; rows are taken {}:\n{delta};\n-- Merges them:\n{};",
            road(d, &plan, &delta)?,
            statements::merge_delta(&plan, target, &super::levels::of(d)?, &[])
        ))
    }
}

/// How a run reads the rows of the statement that groups them, as PostgreSQL plans it now.
fn road(d: &Definition, plan: &Plan, delta: &str) -> Result<&'static str> {
    let (_, _, owner) = d.parts()?;
    let _acting = ActingAs::role(owner);
    let _planned = settled(d, plan);
    let explain = CString::new(format!("EXPLAIN (COSTS off) {delta}")).map_err(internal)?;
    // EXPLAIN is refused where nothing may be written, which is where a statement of a stable function is run.
    let by_pages = qualified(|| {
        with_rows(&explain, c"road", |client, _| {
            let lines = client.select("SELECT \"QUERY PLAN\" FROM road", None, &[])?;
            lines
                .map(|line| Ok(line.get::<String>(1)?.is_some_and(|l| l.contains(crate::pg::batch::NODE))))
                .try_fold(false, |any, one: pgrx::spi::SpiResult<bool>| Ok(any | one?))
        })
    })
    .map_err(internal)?;
    Ok(if by_pages { "a page at a time" } else { "one by one" })
}

/// Settles what the statement that groups new rows is planned under, until the current role ends; what is returned is
/// to be dropped when it is planned.
fn settled(d: &Definition, plan: &Plan) -> (FewBuckets, Asked) {
    set_timezone(&d.timezone);
    prefer_hashing();
    (FewBuckets::of(d.source_oid, &plan.time_column, plan.bucket.shortest()), super::batch::for_run())
}

/// Whether rows came that a run at `now` would merge, without a statement over the source.
pub fn new_at(d: &Definition, now: &Frontier) -> Result<New> {
    thread_local! {
        /// For each rollup the state and the moment for which there was nothing to merge.
        static NOTHING: RefCell<HashMap<i64, (Frontier, Frontier)>> = RefCell::default();
    }
    let asked = (d.state.frontier.clone(), now.clone());
    if NOTHING.with_borrow(|nothing| nothing.get(&d.id) == Some(&asked)) {
        return Ok(New::Nothing);
    }
    if super::change::wait(d, now)? || super::newcomers::wait(d, now)? {
        return Ok(New::Came);
    }
    let found = waiting::any_new(d, now)?;
    NOTHING.with_borrow_mut(|nothing| match found {
        New::Nothing => nothing.insert(d.id, asked),
        _ => nothing.remove(&d.id),
    });
    Ok(found)
}

fn finds_rows(d: &Definition, source: &str, owner: pg_sys::Oid, now: &Frontier) -> Result<bool> {
    let _acting = ActingAs::role(owner);
    prefer_the_index();
    Ok(catalog::read(&statements::is_due(source, &d.state.frontier, now), &[], |row| row.get::<bool>(1))?
        .first()
        .copied()
        .flatten()
        == Some(true))
}
