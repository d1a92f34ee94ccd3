//! One run: merges the rows of transactions that have finished since the last run.
//!
//! Invariant: the rows merged so far are exactly the visible rows whose stamps are merged at the frontier that is stored,
//! except for the backlog. A run locks the state row, looks how far transactions are after that, merges the rows whose
//! stamps are new between the two frontiers, and stores the later one in the same transaction. Frontiers only grow, so each
//! row is merged by exactly one run; nothing depends on clocks, sequences or locks on the source. What it does differently
//! on one server and in a cluster is in `place`.
use super::catalog::{self, Definition};
use super::citus;
use super::error::Result;
use super::one_server::new_at;
use super::place::{Cluster, Look, OneServer, Place};
use super::progress::Progress;
use super::waiting::{self, New};
use super::{arrival, backlog, caller, deferred, history, mend, notify, rebase, state};
use crate::pg::error::hint;
use hll_rollup::{Backlog, Frontier, new, sql as bounds, statements};
use pgrx::PgTryBuilder;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::prelude::*;
use std::panic::AssertUnwindSafe;

/// How much of its backlog a run works off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HowMuch {
    /// A piece: the caller commits and comes again.
    Piece,
    /// All of it, in this transaction.
    All,
}

/// Where a rollup lies, as its state says.
pub fn place_of(d: &Definition) -> &'static dyn Place {
    match d.state.frontier {
        Frontier::Server(_) => &OneServer,
        Frontier::Cluster(_) => &Cluster,
    }
}

/// Merges what is due for one rollup; returns the raw rows merged. Takes no transaction id when nothing is due.
pub fn run_one(id: i64, how_much: HowMuch) -> Result<i64> {
    match catalog::by_id(id)? {
        Some(before) => run_definition(&before, how_much),
        None => Ok(0),
    }
}

fn run_definition(before: &Definition, how_much: HowMuch) -> Result<i64> {
    let _runs = citus::narrow::Runs::begin();
    caller::check_not_busy(before)?;
    if !before.active {
        return Ok(0);
    }
    let on_nodes = before.state.nodes().is_some();
    if !on_nodes && before.same_cluster && was_given(before)? {
        citus::rebase::take_along(before.source_oid)?;
        let Some(before) = catalog::by_id_now(before.id)? else { return Ok(0) };
        return if before.state.nodes().is_some() { run_definition(&before, how_much) } else { Ok(0) };
    }
    // How far the nodes of a cluster are tells more than a look at the rows alone.
    let idle = match on_nodes {
        true => Cluster.is_idle(before)? && !mend::lacks(before)?,
        false => !has_work(before)?,
    };
    if idle {
        history::nothing_to_do(before.id)?;
        return Ok(0);
    }
    deferred::of_rollup(before.id)?;
    if !before.same_cluster {
        rebase::rebase(before.source_oid)?;
    } else if !on_nodes && arrival::came_along(before.source_oid)? {
        rebase::begin_again(before.source_oid)?;
    }
    let Some(definition) = catalog::lock(before.id)? else { return Ok(0) };
    // A rebase may have found that Citus keeps the table, or does not any more: then everything is merged.
    if !definition.active || definition.state.nodes().is_some() != on_nodes {
        return Ok(0);
    }
    run_locked(place_of(&definition), definition, how_much)
}

fn run_locked(place: &dyn Place, mut d: Definition, how_much: HowMuch) -> Result<i64> {
    let _busy = caller::Busy::with(&d);
    super::unlogged::check_stored(d.id, &d.name)?;
    super::written::settle(&d)?;
    notify::begin();
    let Look { plan, now, candidate, rows: mut total } = place.look(&d)?;
    super::trust::settle(&d, &plan)?;
    let prefix = statements::prefix(&plan);
    let before = d.state.frontier.clone();
    let begun = match d.state.backlog {
        None => backlog::begin(&d, &plan, &bounds::new("", &before, &now), before.is_nothing())?,
        Some(_) => None,
    };
    if let Some((cuts, rows)) = begun {
        let (from, to) = (before.clone(), now.clone());
        d.state.backlog = Some(Backlog { from, to, cursor: None, cuts });
        (d.state.frontier, d.state.candidate) = (now, candidate);
        store(&d, total, 0)?;
        backlog::store_size(&d, rows)?;
    } else {
        let (rows, groups) =
            place.merge(&d, &plan, Some(&new(&before, &now)), &bounds::new(&prefix, &before, &now))?;
        (d.state.frontier, d.state.candidate) = (now, candidate);
        total += rows;
        store(&d, total, groups)?;
    }
    place.follow(&d, &plan, &before)?;
    let mut progress = (how_much == HowMuch::All && d.state.backlog.is_some())
        .then(|| Progress::of(format!("rollup.run of {}", d.name)));
    while let Some(b) = d.state.backlog.take() {
        if let Some(progress) = &mut progress {
            progress.tell(&format!("{total} rows, {} pieces left", b.cuts.len() + 1));
        }
        let (rows, groups) = place.merge(&d, &plan, None, &bounds::piece(&prefix, plan.time(), &b))?;
        d.state.backlog = b.advance();
        store(&d, rows, groups)?;
        backlog::store_progress(&d, rows)?;
        total += rows;
        if how_much == HowMuch::Piece {
            break;
        }
    }
    notify::tell(&d, &plan, "run")?;
    place.tidy(&d)?;
    Ok(total)
}

fn store(d: &Definition, rows: i64, groups: i64) -> Result<()> {
    state::store(d.id, &d.state, rows)?;
    history::succeeded(d.id, rows, groups)
}

/// Whether an active rollup has rows to merge, or triggers to put right. Takes no transaction id.
pub fn has_rows(id: i64) -> Result<bool> {
    match catalog::by_id(id)? {
        Some(d) if d.active => has_work(&d),
        _ => Ok(false),
    }
}

fn has_work(d: &Definition) -> Result<bool> {
    Ok(!d.same_cluster
        || d.state.backlog.is_some()
        || was_given(d)?
        || place_of(d).is_due(d)?
        || mend::lacks(d)?)
}

/// Whether it is a rollup that was made before its source was given to Citus: its rows are written on every node now.
fn was_given(d: &Definition) -> Result<bool> {
    Ok(d.state.nodes().is_none() && citus::place(d.source_oid)?.is_some())
}

/// Whether an active rollup may have rows to merge, as far as that can be told without a statement over its source,
/// which runs what the owner has defined, and without waiting for a lock. The scheduler asks for every owner. What fails
/// is for the run to tell.
pub fn look(id: i64) -> Result<New> {
    let Some(d) = catalog::by_id(id)?.filter(|d| d.active) else { return Ok(New::Nothing) };
    if d.source.is_none()
        || d.state.nodes().is_some()
        || d.state.backlog.is_some()
        || !d.same_cluster
        || was_given(&d)?
    {
        return Ok(New::Unknown);
    }
    let now = catalog::current_frontier(false, d.offset)?;
    match new_at(&d, &now)? {
        New::Nothing if mend::lacks(&d)? => Ok(New::Unknown),
        found => Ok(found),
    }
}

/// The same of a rollup in a cluster, by a process that may wait for nodes.
pub fn look_on_nodes(id: i64) -> Result<New> {
    let Some(d) = catalog::by_id(id)?.filter(|d| d.active) else { return Ok(New::Nothing) };
    if d.source.is_none() || d.state.nodes().is_none() || d.state.backlog.is_some() || !d.same_cluster {
        return Ok(New::Unknown);
    }
    match waiting::any_on_nodes(&d)? {
        New::Nothing if mend::lacks(&d)? => Ok(New::Came),
        New::Unknown if !has_work(&d)? => Ok(New::Nothing),
        found => Ok(found),
    }
}

/// Runs every active rollup of a source that the caller may act for.
pub fn run_source(source: pg_sys::Oid) -> Result<i64> {
    let _runs = citus::narrow::Runs::begin();
    let definitions = catalog::of_named_source(source, "rollup.run")?;
    let mut most = 0;
    for d in definitions {
        catalog::check_owner_of(&d)?;
        most = most.max(naming(&d, || run_definition(&d, HowMuch::All))?);
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
            if let Some(hint) = hint(r) {
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
