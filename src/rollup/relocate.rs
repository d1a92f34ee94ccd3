//! rollup.move: the source of a rollup has become a part of another table, whose rows it counts from then on.
//!
//! Invariant: rows that were counted stay counted, once. The state stays, since stamps of the parts count in the same ids;
//! rows of the other parts, which may have stamps that are merged, are recorded as tables that came as a whole, and judged by
//! the next run (see `newcomers`). Who writes to the whole table is waited for.
use super::catalog::{self, Definition};
use super::error::{Result, fail};
use super::source::Source;
use super::{arrange, arrival, maps, source, switched, views, watch};
use super::{citus, levels};
use crate::pg::deparse::{joined_tables, shown_name};
use crate::pg::xact::{ActingAs, keeps_one_snapshot};
use hll_rollup::sql::{STAMP, literal};
use hll_rollup::{Joined, Plan, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Has the rollup, whose state row is locked, count the rows of `to`, of which its source is a part.
pub fn relocate(d: &Definition, to: pg_sys::Oid) -> Result<()> {
    let whole = check(d, to)?;
    super::written::check(d)?;
    let name = whole.qualified();
    let (_, target, owner) = d.parts()?;
    let plan = over_whole(d.plan()?, d, to)?;
    {
        let _acting = ActingAs::role(whole.owner);
        source::lock_exclusively(&whole)?;
        stamp(d, &whole)?;
    }
    source::register(to, &plan)?;
    let others = {
        let _acting = ActingAs::catalog();
        move_definition(d, to, &name)?;
        let others = !catalog::of_source(d.source_oid, true)?.is_empty();
        copy_records(d.source_oid, to)?;
        move_expiry(d.source_oid, to, others)?;
        others
    };
    {
        let _acting = ActingAs::role(whole.owner);
        // Triggers of its own stand in the way of those that come from above.
        maps::tables(d.source_oid)?.into_iter().try_for_each(arrange::strip)?;
        if !others {
            watch::forget(d.source_oid, true)?;
            super::drop::forget_source(d.source_oid, true)?;
        }
        maps::add_index(to, &whole, &plan)?;
        switched::arrange(to)?;
        if others {
            switched::arrange(d.source_oid)?;
        }
    }
    super::beside::create(to)?;
    let parts = maps::tables(d.source_oid)?;
    let come: Vec<pg_sys::Oid> = maps::tables(to)?.into_iter().filter(|t| !parts.contains(t)).collect();
    arrival::note_tables(&come)?;
    let _acting = ActingAs::role(owner);
    remake_views(d, &plan, &name, target)?;
    d.store_plan(&plan, &statements::query(&plan, &name))
}

/// Whether the rollup's source has become a part of a table; that of another is refused that it cannot be counted in place of.
pub fn is_part(d: &Definition, to: pg_sys::Oid) -> Result<bool> {
    d.check_cluster()?;
    d.parts()?;
    if !crate::pg::lock::there(to) {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("there is no table {}", to.to_u32()),
            "Name the table: SELECT rollup.move('rollup', 'table').",
        );
    }
    let on_nodes = d.state.nodes().is_some() || citus::place(to)?.is_some();
    if to == d.source_oid || on_nodes {
        let here = shown_name(to);
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            match on_nodes {
                true => {
                    format!("rollup {} cannot move to {here}: Citus keeps the rows of one of them", d.name)
                }
                false => format!("rollup {} is over {here} already", d.name),
            },
            "Name the table that the source was made a partition or a child of, or that took its place.",
        );
    }
    Ok(maps::tables(to)?.contains(&d.source_oid))
}

/// Refuses a table that the rollup cannot move to; what is known of it otherwise.
pub fn check(d: &Definition, to: pg_sys::Oid) -> Result<Source> {
    if keeps_one_snapshot() {
        return fail(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "rollup.move needs a READ COMMITTED transaction",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
        );
    }
    let whole = source::describe(to)?;
    let name = whole.qualified();
    if let Some(above) = part_of(to)? {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{name} is a partition itself"),
            format!("SELECT rollup.move({}, {});", literal(&d.name), literal(&above)),
        );
    }
    catalog::check_owner(Some(whole.owner), &format!("table {name}"))?;
    Ok(whole)
}

/// The plan, whose query joins its lookup tables to the whole table from here on.
fn over_whole(mut plan: Plan, d: &Definition, to: pg_sys::Oid) -> Result<Plan> {
    let Some(joins) = &mut plan.joins else { return Ok(plan) };
    let below = maps::tables(to)?;
    let lookup = |table: &&mut Joined| table.id != d.source_oid.to_u32();
    if let Some(lookup) = joins.tables.iter_mut().filter(lookup).find(|t| below.contains(&t.id.into())) {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("rollup {} joins {}, which is a part of {} too", d.name, lookup.name, shown_name(to)),
            "A row that comes later would have to be joined to those that were counted.",
        );
    }
    let source = joined_tables(&[to]).into_iter().next();
    if let Some((part, whole)) = joins.tables.iter_mut().find(|t| t.id == d.source_oid.to_u32()).zip(source) {
        *part = whole;
    }
    Ok(plan)
}

/// Gives the table the stamp column, whose default counts from where the rollup's stamps do.
fn stamp(d: &Definition, whole: &Source) -> Result<()> {
    source::add_stamp(whole)?;
    let default = match d.offset {
        0 => "rollup.stamp()".to_string(),
        offset => format!("(rollup.stamp() OPERATOR(pg_catalog.+) '{offset}'::pg_catalog.int8)"),
    };
    let name = whole.qualified();
    catalog::execute(&format!("ALTER TABLE {name} ALTER COLUMN {STAMP} SET DEFAULT {default}"), &[])
}

/// The definition names the whole table as its source from here on, whose stamps must begin where its own do.
fn move_definition(d: &Definition, to: pg_sys::Oid, name: &str) -> Result<()> {
    let offset = catalog::write(
        "UPDATE rollup.source SET stamp_offset = $2 WHERE relation = $1 AND (stamp_offset = $2 OR NOT EXISTS (SELECT FROM rollup.definition d WHERE d.source = relation)) RETURNING 1",
        &[to.into(), d.offset.into()],
        |row| row.get::<i32>(1),
    )?;
    if offset.is_empty() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("{name} has rollups whose stamps begin elsewhere than those of rollup {}", d.name),
            "Create the rollup again, over that table.",
        );
    }
    catalog::execute(
        "UPDATE rollup.definition SET source = $2, joined = pg_catalog.array_replace(joined, $3::pg_catalog.oid::pg_catalog.regclass, $2::pg_catalog.oid::pg_catalog.regclass) WHERE id = $1",
        &[d.id.into(), to.into(), d.source_oid.into()],
    )
}

/// Change and arrival records of the part are records of the whole, too.
fn copy_records(part: pg_sys::Oid, to: pg_sys::Oid) -> Result<()> {
    for (table, columns) in [
        ("change", "time_column, rollup_stamp, since, until"),
        ("arrival", "relation, xid, told, time_column, rollup_stamp, since, until"),
    ] {
        catalog::execute(
            &format!(
                "INSERT INTO rollup.{table} (source, {columns}) SELECT $2, {columns} FROM rollup.{table} WHERE source = $1"
            ),
            &[part.into(), to.into()],
        )?;
    }
    Ok(())
}

/// What has expired of the part has expired of the whole, which is kept as long as the part was, where no other rollup is over the part.
fn move_expiry(part: pg_sys::Oid, to: pg_sys::Oid, others: bool) -> Result<()> {
    catalog::execute(
        "INSERT INTO rollup.expired (relation, below, swept) SELECT $2, e.below, e.swept FROM rollup.expired e WHERE e.relation = $1 \
         ON CONFLICT (relation) DO UPDATE SET below = greatest(expired.below, excluded.below), swept = greatest(expired.swept, excluded.swept)",
        &[part.into(), to.into()],
    )?;
    if others {
        return Ok(());
    }
    catalog::execute(
        "UPDATE rollup.retention r SET relation = $2 WHERE r.relation = $1 AND NOT EXISTS (SELECT FROM rollup.retention o WHERE o.relation = $2)",
        &[part.into(), to.into()],
    )?;
    let waiting = "UPDATE rollup.archiving SET relation = $2 WHERE relation = $1";
    catalog::execute(waiting, &[part.into(), to.into()])?;
    catalog::execute("DELETE FROM rollup.retention WHERE relation = $1", &[part.into()])
}

/// The live views of the rollup and its levels, over the whole table, with their comments.
pub fn remake_views(d: &Definition, plan: &Plan, source: &str, target: &str) -> Result<()> {
    let levels = levels::of(d)?;
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        let table = level.map_or(target, |l| l.target.as_str());
        let names = views::Names { source, target, view: None, shown: None };
        let view = views::make(false, plan, names, level, d.id)?;
        super::comments::write(
            &plan.of_level(level),
            source,
            table,
            &view,
            levels::said(d, level)?.as_deref(),
        )?;
    }
    Ok(())
}

fn part_of(table: pg_sys::Oid) -> Result<Option<String>> {
    let _acting = ActingAs::catalog();
    Ok(catalog::read(
        "SELECT (SELECT a.relid::pg_catalog.text FROM pg_catalog.pg_partition_ancestors($1) WITH ORDINALITY a (relid, n) ORDER BY n DESC LIMIT 1) \
         FROM pg_catalog.pg_class c WHERE c.oid = $1 AND c.relispartition",
        &[table.into()],
        |row| row.get::<String>(1),
    )?
    .into_iter()
    .flatten()
    .next())
}
