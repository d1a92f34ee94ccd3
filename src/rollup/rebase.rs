//! A table that was restored into another cluster, or given to Citus: its stamps are ids of where it was.
//!
//! What the rows say of which of them were merged ends where rows are added here, whose ids may be the same. So the
//! buckets are computed again from the rows that are there, with the table locked, and from then on stamps are ids
//! plus an offset above every stamp that came along. Buckets of which raw rows had expired stay as they were.
use super::catalog::{self, Definition, Must};
use super::check;
use super::citus;
use super::deferred;
use super::error::{Result, fail, internal, report};
use super::levels;
use super::notify;
use super::range::{self, Range};
use super::session::set_timezone;
use super::source::{self, Source};
use crate::pg::xact::{ActingAs, keeps_one_snapshot};
use hll_rollup::sql::{STAMP, ident};
use hll_rollup::{Frontier, Nodes, Plan, Snapshot, State, keys, sql as bounds, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// rollup.rebase: the same for the owner, also where the cluster is the one it was.
pub fn by_hand(relation: pg_sys::Oid) -> Result<()> {
    let definitions = catalog::of_named_source(relation, "rollup.rebase")?;
    for d in &definitions {
        catalog::check_owner_of(d)?;
    }
    begin_again(relation)
}

/// Brings every rollup of a restored table into this cluster's ids, if it is not yet.
pub fn rebase(relation: pg_sys::Oid) -> Result<()> {
    if catalog::of_source(relation, true)?.iter().all(|d| d.same_cluster) {
        return Ok(());
    }
    begin_again(relation)
}

/// Computes every rollup of a table again from the rows that are there.
pub fn begin_again(relation: pg_sys::Oid) -> Result<()> {
    if keeps_one_snapshot() {
        return fail(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "a rollup that was restored from another cluster begins again in a READ COMMITTED transaction only",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
        );
    }
    let ids: Vec<i64> = catalog::of_source(relation, true)?.iter().map(|d| d.id).collect();
    // The source is altered, too: PostgreSQL alters no table of which a check waits.
    deferred::of_table(relation)?;
    ids.iter().try_for_each(|id| deferred::of_rollup(*id))?;
    let Some(first) = ids.first().map(|id| catalog::lock(*id)).transpose()?.flatten() else { return Ok(()) };
    let (_, _, owner) = first.parts()?;
    let table = source::describe(relation)?;
    // Whoever calls, and the worker: what follows plans and runs what the owners define.
    let _acting = ActingAs::role(owner);
    let place = citus::place(relation)?;
    if place.is_some() {
        citus::commit::in_two_phases()?;
        citus::rebase::one_by_one();
    }
    let (offset, nodes) = {
        let _acting = ActingAs::role(table.owner);
        shift_stamps(&table, place.is_some(), first.offset)?
    };
    {
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.source SET stamp_offset = $2 WHERE relation = $1",
            &[relation.into(), offset.into()],
        )?;
    }
    // Nobody changes rows meanwhile, and everything is read below.
    super::watch::forget(relation, true)?;
    for id in ids {
        let Some(mut d) = catalog::lock(id)? else { continue };
        let mut plan = d.plan()?;
        if d.state.nodes().is_some() || place.is_some() {
            crate::pg::lock::take_state(id);
            let levels = levels::of(&d)?;
            if let Some(place) = &place {
                plan = citus::rebase::settle(&d, plan, &levels, place)?;
            }
            citus::rebase::views(&d, &plan, &levels, place.is_some())?;
        }
        let (source, target, _) = d.parts()?;
        let floors = [range::whole_from(source, &plan)?, range::whole_from(target, &plan)?];
        let range = Range::of(&plan, &d.timezone, None, None)
            .after(&floors)?
            .without(super::holes::whole(&d, &plan, None)?);
        merge_late(&d, &plan, &range)?;
        let seen = Frontier::Server(Snapshot { xmax: offset, xip: Vec::new() });
        d.state = State::at(nodes.clone().map_or(seen, Frontier::Cluster));
        super::state::store_rebased(id, &d.state, offset)?;
        d.same_cluster = true;
        let groups = check::rebuild_range(&d, &plan, &range, check::Levels::WhereWhole)?;
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("rollup {} was computed again from {}: {groups} groups", d.name, table.qualified())
        );
    }
    super::maps::tell_anew(relation)
}

/// Merges rows that no run has, as the state says that came along, into buckets that cannot be computed again. Of
/// rows that were added here since, those whose ids had been used in the other cluster pass for merged.
fn merge_late(d: &Definition, plan: &Plan, range: &Range) -> Result<()> {
    super::follow::rest_again(d.id, plan)?;
    let (source, target, owner) = d.parts()?;
    let floor = range::whole_from(target, plan)?;
    let mut tables = vec![(target.to_string(), None, range.clone())];
    for level in levels::of(d)? {
        let span = check::level_span(d, plan, &level, range)?.after(std::slice::from_ref(&floor))?;
        tables.push((level.target.clone(), Some(level), span));
    }
    let _acting = ActingAs::role(owner);
    set_timezone(&d.timezone);
    let unmerged = bounds::unmerged_rows(&statements::prefix(plan), plan.time(), &d.state);
    for (table, level, span) in tables.iter().filter(|(_, _, span)| span.from().is_some() || span.has_holes())
    {
        let key = plan.bucket_of_row();
        let key = level.as_ref().map_or(key.clone(), |l| l.bucket_of(&key));
        let fits = keys::and_fits_rollup(plan, level.as_ref());
        let late = format!("{unmerged} AND {} IS NOT TRUE{fits}", span.holds(&key));
        let groups = statements::aggregate_source(plan, source, &late, level.as_ref(), "");
        catalog::execute(&statements::add(&plan.of_level(level.as_ref()), table, &groups), &[])?;
    }
    if range.from().is_some() || range.has_holes() {
        let key = ident(&plan.time_key);
        notify::begin();
        notify::changed(d, &key, target, &format!("{} IS NOT TRUE", range.holds(&key)))?;
        notify::tell(d, plan, "rebuild")?;
    }
    Ok(())
}

/// What no transaction of this server or another comes to: stamps above were written by hand.
const IMPOSSIBLE: i64 = 1 << 61;

/// More than every stamp of a table that a transaction may have given, and than 0. Whoever may insert rows can write
/// others; they are left out, so that stamps never run out. `before` is what is added to ids so far.
fn above_stamps(name: &str, before: i64) -> Result<i64> {
    // Ids go on from `before`, and fit into 48 bits for any length of time.
    let limit = IMPOSSIBLE.max(before.saturating_add(1 << 48));
    let found = catalog::write(
        &format!(
            "SELECT pg_catalog.max({STAMP}) FILTER (WHERE {STAMP} OPERATOR(pg_catalog.<) {limit}::pg_catalog.int8), \
             pg_catalog.count(*) FILTER (WHERE {STAMP} OPERATOR(pg_catalog.>=) {limit}::pg_catalog.int8) FROM {name}"
        ),
        &[],
        // An empty table has no highest stamp.
        |row| Ok((row.get::<i64>(1)?.unwrap_or(0), row.must::<i64>(2)?)),
    )?;
    let (highest, left_out) = found.into_iter().next().ok_or_else(|| internal("no count"))?;
    if left_out > 0 {
        report(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{left_out} rows of {name} have a {STAMP} that no transaction gave, and are in no rollup"),
            format!("SELECT * FROM {name} WHERE {STAMP} >= {limit} shows them: insert them again without that column, and delete them."),
        )
        .report(PgLogLevel::WARNING);
    }
    Ok(highest.max(0) + 1)
}

/// Lifts stamps to come above every stamp that is there; returns by how much and, where Citus keeps the table, the
/// state of who has merged them. The table stays locked.
pub fn shift_stamps(table: &Source, on_nodes: bool, before: i64) -> Result<(i64, Option<Nodes>)> {
    source::lock_exclusively(table)?;
    let name = table.qualified();
    let (offset, nodes) = if on_nodes {
        let (offset, nodes) = citus::rebase::begin(&name)?;
        (offset, Some(nodes))
    } else {
        (above_stamps(&name, before)?, None)
    };
    catalog::execute(
        &format!(
            "ALTER TABLE {name} ALTER COLUMN {STAMP} SET DEFAULT (rollup.stamp() OPERATOR(pg_catalog.+) '{offset}'::pg_catalog.int8)"
        ),
        &[],
    )?;
    Ok((offset, nodes))
}
