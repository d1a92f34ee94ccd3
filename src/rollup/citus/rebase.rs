//! Beginning again where Citus keeps the source: after a dump of the coordinator was restored and its table given to
//! Citus, or after a table with rollups was given to Citus.
use super::{Place, commit, create, gather, place, whole};
use crate::pg::query::set_local;
use crate::pg::xact::ActingAs;
use crate::rollup::catalog::{self, Definition, Must};
use crate::rollup::error::{Result, fail};
use crate::rollup::levels;
use crate::rollup::naming;
use crate::rollup::views::{self, Names};
use crate::rollup::{comments::Said, definition, state, written};
use hll_rollup::sql::STAMP;
use hll_rollup::{
    Backlog, Frontier, Level, Node, Nodes, Plan, SOURCE, Snapshot, State, from_clause, statements,
};
use pgrx::prelude::*;

/// The part of a stamp that is a transaction id.
const ID: i64 = SOURCE - 1;

/// Shards are made, and filled after: over the same connections, from the first statement on.
pub fn one_by_one() {
    set_local(c"citus.multi_shard_modify_mode", c"sequential");
}

/// What stamps of the locked table are lifted by, to come above every one that is there; and how far a
/// rollup has come that holds all its rows, whichever group they name.
pub fn begin(table: &str) -> Result<(i64, Nodes)> {
    // A statement that was sent before the table was locked would write, after, with a stamp of before.
    let nodes = gather::wait_for_quiet()?;
    let found = catalog::write(
        &format!("SELECT {STAMP} >> 48, pg_catalog.max({STAMP} & {ID}) FROM {table} GROUP BY 1"),
        &[],
        |row| Ok((row.must::<i64>(1)?, row.must::<i64>(2)?)),
    )?;
    let offset = found.iter().map(|(_, id)| *id).max().unwrap_or(0) + 1;
    let seen = Snapshot { xmax: offset, xip: Vec::new() };
    let node = Node { seen: seen.clone(), safe: seen, ..Node::default() };
    // A stamp has 16 bits for the group.
    let groups = found.iter().filter_map(|(group, _)| i32::try_from(*group).ok()).chain(nodes);
    Ok((offset, groups.map(|g| (g, node.clone())).collect()))
}

/// Goes on with the rollups of a table that was given to Citus since they last ran. Nothing is computed again: rows have
/// kept their stamps, those of this node, and nobody was writing while they were moved. So what has finished in the
/// snapshot of this node is what is merged, and of other nodes nothing is.
pub fn take_along(relation: pg_sys::Oid) -> Result<()> {
    let Some(at) = place(relation)? else { return Ok(()) };
    commit::in_two_phases_with_tables()?;
    one_by_one();
    for d in catalog::of_source(relation, true)? {
        let Some(d) = catalog::lock(d.id)? else { continue };
        d.check_cluster()?;
        if d.state.nodes().is_some() {
            continue;
        }
        let (.., owner) = d.parts()?;
        let _acting = ActingAs::role(owner);
        crate::pg::lock::take_state(d.id);
        let levels = levels::of(&d)?;
        let plan = settle(&d, d.plan()?, &levels, &at)?;
        views(&d, &plan, &levels, true)?;
        store_taken(&d)?;
    }
    Ok(())
}

/// Writes the state of a rollup of this node alone as that of a cluster.
fn store_taken(d: &Definition) -> Result<()> {
    let known = |of: &Frontier| match of {
        Frontier::Server(s) if s.xmax > 0 => {
            Frontier::Cluster(Nodes::from([(0, Node { seen: s.clone(), ..Node::default() })]))
        }
        _ => Frontier::Cluster(Nodes::new()),
    };
    let left = |b: &Backlog| Backlog { from: known(&b.from), to: known(&b.to), ..b.clone() };
    let backlog = d.state.backlog.as_ref().map(left);
    state::store(d.id, &State { frontier: known(&d.state.frontier), candidate: None, backlog }, 0)
}

/// Puts the tables of a rollup where the rows of its source lie now. Returns its plan, as nodes run it.
pub fn settle(d: &Definition, plan: Plan, levels: &[Level], at: &Place) -> Result<Plan> {
    let (source, target, _) = d.parts()?;
    let plan = if d.state.nodes().is_some() { plan } else { understood(d, plan, at)? };
    add_index(source)?;
    let key = create::key(at, &plan, source)?;
    let beside = levels.iter().filter(|level| !whole::is_here(at, key.as_deref(), level));
    for table in std::iter::once(target).chain(beside.map(|l| l.target.as_str())) {
        if place(naming::relation(table)?)?.is_none() {
            create::distribute(at, key.as_deref(), source, table)?;
        }
    }
    Ok(plan)
}

/// The index on the stamp that a table of a cluster gets when its first rollup is made there.
fn add_index(source: &str) -> Result<()> {
    let there = catalog::read(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = $1::pg_catalog.regclass AND m.amname = 'btree' AND a.attname = $2::pg_catalog.name)",
        &[source.into(), STAMP.into()],
        |row| row.get::<bool>(1),
    )?;
    if there.first().copied().flatten() == Some(true) {
        return Ok(());
    }
    catalog::execute(&format!("CREATE INDEX ON {source} ({STAMP})"), &[])
}

/// The plan of a rollup that was made on one node, as all nodes run it; an error where they would not run it alike.
fn understood(d: &Definition, old: Plan, at: &Place) -> Result<Plan> {
    let (source, _, owner) = d.parts()?;
    if d.follows || old.follows.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("rollup {} follows changes of {source}, which Citus keeps now", d.name),
            "Drop it and create it again with on_change => 'ignore'.",
        );
    }
    if old.followed.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("rollup {} follows lookup tables, and Citus keeps {source} now", d.name),
            "Drop it and create it again with joins => 'snapshot'.",
        );
    }
    let text = statements::query(&old, source);
    let mut select = {
        let _acting = ActingAs::role(owner);
        definition::analyse(&text, &d.timezone)?
    };
    create::prepare(at, &mut select)?;
    let from = from_clause(select.joins.as_ref(), source, &select.alias);
    let new = definition::plan(&select, &from, &d.timezone)?;
    let columns = |p: &Plan| {
        let mut all: Vec<_> = p.kept().map(|c| (c.name.clone(), c.sql_type.clone())).collect();
        all.sort();
        all
    };
    if columns(&old) != columns(&new) {
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the table of rollup {} has other columns than its query makes today", d.name),
            "Drop the rollup and create it again.",
        );
    }
    d.store_plan(&new, &text)?;
    Ok(new)
}

/// Recreates the live views, which differ between a rollup on one node and on several.
pub fn views(d: &Definition, plan: &Plan, levels: &[Level], nodes: bool) -> Result<()> {
    written::check(d)?;
    let (source, target, _) = d.parts()?;
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        let table = level.map_or(target, |l| l.target.as_str());
        let shape = levels::said(d, level)?;
        let said = Said::before(d, plan, source, table, level, shape.as_deref())?;
        let view = views::make(nodes, plan, Names { source, target, view: None, shown: None }, level, d.id)?;
        said.again(&plan.of_level(level), source, table, &view, shape.as_deref())?;
    }
    Ok(())
}
