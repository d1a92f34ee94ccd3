//! One run: merges the rows of transactions that have finished since the last run.
//!
//! Invariant: the rows merged so far are exactly the visible rows whose stamp had finished in `seen`. A run
//! locks the state row, reads `now` after that, merges the rows finished in `now` and not in `seen`, and stores
//! `now` in the same transaction. Finished sets only grow, so each row is merged by exactly one run; nothing
//! depends on clocks, sequences or locks on the source.
use super::bounds::State;
use super::catalog::{self, Definition};
use super::citus;
use super::error::{Result, fail, internal};
use super::long::{self, LeftOut};
use super::plan::Plan;
use super::progress::Progress;
use super::sql;
use super::waiting::{self, New};
use crate::pg::buckets::FewBuckets;
use crate::pg::kept::with_rows;
use crate::pg::query::set_local;
use crate::pg::xact::{ActingAs, Snapshot, accept_invalidations, own_transaction_id};
use crate::pg::zonemap;
use pgrx::PgTryBuilder;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::panic::AssertUnwindSafe;

/// How much of its backlog a run works off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// A piece: the caller commits and comes again.
    Piece,
    /// All of it, in this transaction.
    All,
}

/// Merges what is due for one rollup; returns the raw rows merged. Takes no transaction id when nothing is due.
pub fn run_one(id: i64, backlog: Backlog) -> Result<i64> {
    match catalog::by_id(id)? {
        Some(before) => run_definition(&before, backlog),
        None => Ok(0),
    }
}

fn run_definition(before: &Definition, backlog: Backlog) -> Result<i64> {
    if !before.active {
        return Ok(0);
    }
    if before.state.nodes.is_some() {
        // How far the nodes are tells more than a look at the rows, which it comes before.
        if !before.same_cluster {
            super::rebase::rebase(before.source_oid)?;
        }
        let Some(definition) = catalog::lock(before.id)? else { return Ok(0) };
        return match (&definition.state.nodes, definition.active) {
            (Some(nodes), true) => citus::run::run_locked(&definition, nodes, backlog),
            _ => Ok(0),
        };
    }
    if before.same_cluster && citus::was_given(before)? {
        citus::rebase::take_along(before.source_oid)?;
        let Some(before) = catalog::by_id_now(before.id)? else { return Ok(0) };
        return if before.state.nodes.is_some() { run_definition(&before, backlog) } else { Ok(0) };
    }
    if !has_work(before)? {
        super::attempt::nothing_to_do(before.id)?;
        return Ok(0);
    }
    if !before.same_cluster {
        super::rebase::rebase(before.source_oid)?;
    }
    let Some(definition) = catalog::lock(before.id)? else { return Ok(0) };
    // A rebase may have found that Citus keeps the table: then everything is merged.
    if !definition.active || definition.state.nodes.is_some() {
        return Ok(0);
    }
    let now = catalog::current_snapshot(true, definition.offset)?;
    if !now.contains(&definition.state.seen) {
        // Only a transaction that keeps an old snapshot gets here: another run has been faster.
        return fail(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("rollup {} has been run past this transaction's snapshot", definition.name),
            "Try again in a new transaction.",
        );
    }
    run_locked(definition, now, backlog)
}

fn run_locked(mut d: Definition, now: Snapshot, backlog: Backlog) -> Result<i64> {
    let plan = super::names::stored(&d)?;
    let (now, mut total) = super::newcomers::merge(&d, &plan, now)?;
    settle_partitions(&d)?;
    let prefix = sql::prefix(&plan);
    let seen = d.state.seen.clone();
    let new = super::bounds::new("", &seen, &now);
    if d.state.backlog.is_none()
        && let Some((cuts, rows)) = super::backlog::begin(&d, &plan, &new, seen.xmax == 0)?
    {
        let started =
            super::bounds::Backlog { from: seen.clone(), to: now.clone(), nodes: None, cursor: None, cuts };
        d.state.seen = now.clone();
        d.state.backlog = Some(started);
        store(&d, &d.state, total, 0)?;
        super::backlog::store_size(&d, rows)?;
    } else {
        let (rows, groups) = merge(&d, &plan, &super::bounds::new(&prefix, &d.state.seen, &now))?;
        d.state.seen = now;
        total += rows;
        store(&d, &d.state, total, groups)?;
    }
    super::change::follow(&d, &plan, &seen)?;
    super::watch::forget_arrivals(d.source_oid, false)?;
    let mut progress = (backlog == Backlog::All && d.state.backlog.is_some())
        .then(|| Progress::of(format!("rollup.run of {}", d.name)));
    while let Some(b) = d.state.backlog.take() {
        if let Some(progress) = &mut progress {
            progress.tell(&format!("{total} rows, {} pieces left", b.cuts.len() + 1));
        }
        let (rows, groups) = merge(&d, &plan, &super::bounds::piece(&prefix, &plan, &b))?;
        d.state.backlog = super::backlog::advance(b);
        store(&d, &d.state, rows, groups)?;
        super::backlog::store_progress(&d, rows)?;
        total += rows;
        if backlog == Backlog::Piece {
            break;
        }
    }
    // The next run and the live view are not to read again what has been merged.
    zonemap::summarize(d.source_oid);
    super::arrange::mend(&d)?;
    Ok(total)
}

/// True where an active rollup has rows to merge. Takes no transaction id.
pub fn has_rows(id: i64) -> Result<bool> {
    match catalog::by_id(id)? {
        Some(d) if d.active => has_work(&d),
        _ => Ok(false),
    }
}

fn has_work(d: &Definition) -> Result<bool> {
    if d.state.nodes.is_some() {
        return Ok(d.state.backlog.is_some() || !d.same_cluster || citus::run::is_due(d)?);
    }
    if !d.same_cluster {
        return Ok(true);
    }
    Ok(d.state.backlog.is_some() || citus::was_given(d)? || is_due(d)?)
}

/// Asked read-only, at every tick. Where not one transaction of the cluster has ended since this session asked last
/// and found nothing, there is nothing now: every change of a table takes a transaction id.
fn is_due(d: &Definition) -> Result<bool> {
    let (source, _, owner) = d.parts()?;
    let now = catalog::current_snapshot(false, d.offset)?;
    match new_at(d, &now)? {
        New::Came => Ok(true),
        New::Nothing => Ok(false),
        New::Locked | New::Unknown => finds_rows(d, source, owner, &now),
    }
}

fn new_at(d: &Definition, now: &Snapshot) -> Result<New> {
    thread_local! {
        /// For each rollup the state and the moment for which there was nothing to merge.
        static NOTHING: RefCell<HashMap<i64, (Snapshot, Snapshot)>> = RefCell::default();
    }
    let asked = (d.state.seen.clone(), now.clone());
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

/// Whether an active rollup may have rows to merge, as far as that can be told without a statement over its source,
/// which runs what the owner has defined, and without waiting for a lock. The scheduler asks for every owner. What fails
/// is for the run to tell.
pub fn look(id: i64) -> Result<New> {
    let Some(d) = catalog::by_id(id)?.filter(|d| d.active) else { return Ok(New::Nothing) };
    if d.source.is_none()
        || d.state.nodes.is_some()
        || d.state.backlog.is_some()
        || !d.same_cluster
        || citus::was_given(&d)?
    {
        return Ok(New::Unknown);
    }
    let now = catalog::current_snapshot(false, d.offset)?;
    new_at(&d, &now)
}

fn finds_rows(d: &Definition, source: &str, owner: pg_sys::Oid, now: &Snapshot) -> Result<bool> {
    let _acting = ActingAs::role(owner);
    prefer_the_index();
    Ok(catalog::read(&sql::is_due(source, &d.state.seen, now), &[], |row| row.get::<bool>(1))?
        .first()
        .copied()
        .flatten()
        == Some(true))
}

/// Waits, `now` having been read, for whoever moves rows from one partition to another that is new. A statement that
/// was planned before that one came, and reads after, would see the rows in neither.
pub fn settle_partitions(d: &Definition) -> Result<()> {
    let (source, _, owner) = d.parts()?;
    let _acting = ActingAs::role(owner);
    catalog::execute(&format!("LOCK TABLE {source} IN ACCESS SHARE MODE"), &[])?;
    accept_invalidations();
    Ok(())
}

fn merge(d: &Definition, plan: &Plan, bounds: &str) -> Result<(i64, i64)> {
    d.check_cluster()?;
    let (source, target, owner) = d.parts()?;
    let levels = super::levels::of(d)?;
    let late = super::late::conditions(d, plan, &levels)?;
    let conditions: Vec<String> = late.iter().map(|l| l.condition.clone()).collect();
    let delta = CString::new(sql::delta(plan, source, bounds)).map_err(internal)?;
    let statement = sql::merge_delta(plan, target, &levels, &conditions);
    let _acting = ActingAs::role(owner);
    set_timezone(&d.timezone);
    prefer_hashing();
    let few = FewBuckets::of(d.source_oid, &plan.time_column, plan.bucket.shortest());
    // The raw rows are read by the first statement alone, whose snapshot is no older than `now`.
    let merged = with_rows(&delta, sql::DELTA, |client, groups| {
        drop(few);
        if groups == 0 {
            return Ok((0, 0, Vec::new(), None));
        }
        let row = client.update(&*statement, None, &[])?.first();
        let rows = row.get::<i64>(1)?.unwrap_or_default();
        let counts = row.get::<Vec<i64>>(2)?.unwrap_or_default();
        let left_out = counts.get(late.len()).copied().filter(|rows| *rows > 0);
        let left_out = match left_out {
            None => None,
            Some(rows) => {
                let longest = client.select(&*long::longest(plan), None, &[])?.first();
                let (key, bytes) = (longest.get(1)?.unwrap_or_default(), longest.get(2)?.unwrap_or_default());
                Some(LeftOut { rows, key, bytes })
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
    let foreign =
        catalog::write(&sql::has_foreign_stamp(source, own, d.offset), &[], |row| row.get::<bool>(1))?;
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
    Ok((rows, groups))
}

/// New rows lie at the end of the table, all of them: to the planner, which takes them to be anywhere, reading the
/// table until one comes looks cheap. Until the current role ends.
pub fn prefer_the_index() {
    set_local(c"enable_seqscan", c"off");
}

/// The planner cannot know how few groups a bucket expression makes, and would sort all rows. Hashing spills where
/// it does not fit. Until the current role ends.
pub fn prefer_hashing() {
    set_local(c"enable_sort", c"off");
}

/// Sets the time zone until the current role ends.
pub fn set_timezone(zone: &str) {
    set_local(c"timezone", &CString::new(zone).unwrap_or_default());
}

fn store(d: &Definition, state: &State, rows: i64, groups: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET seen_xmax = $2, seen_xip = $3, rows_total = rows_total + $4 WHERE id = $1",
        &[d.id.into(), state.seen.xmax.into(), state.seen.xip.clone().into(), rows.into()],
    )?;
    super::backlog::store(d.id, state.backlog.as_ref())?;
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
        catalog::check_owner_of(&d)?;
        most = most.max(naming(&d, || run_definition(&d, Backlog::All))?);
    }
    Ok(most)
}

/// Does something for a rollup that its caller has not named: an error says which it was. One that ends the session or
/// the statement is not the rollup's.
pub fn naming<T>(d: &Definition, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let named = |e: CaughtError| match &e {
        CaughtError::PostgresError(r) | CaughtError::ErrorReport(r)
            if !r.message().contains(&format!("rollup {}", d.name)) && !ends_it(r.sql_error_code()) =>
        {
            let mut report =
                ErrorReport::new(r.sql_error_code(), format!("rollup {}: {}", d.name, r.message()), "rollup");
            if let Some(detail) = r.detail() {
                report = report.set_detail(detail);
            }
            if let Some(hint) = r.hint() {
                report = report.set_hint(hint);
            }
            Err(report)
        }
        _ => e.rethrow(),
    };
    PgTryBuilder::new(AssertUnwindSafe(body)).catch_others(named).execute()
}

/// Class 57 of SQLSTATE, operator intervention, as PostgreSQL packs it.
fn ends_it(code: PgSqlErrorCode) -> bool {
    const INTERVENTION: i32 = 5 + (7 << 6);
    code as i32 & 0xfff == INTERVENTION
}
