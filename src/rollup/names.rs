//! Names that age: a column, function, type, label or schema that a rollup's query names may be renamed.
//!
//! Invariant: the names in a plan are those of today. PostgreSQL keeps the live view as a tree, in which names are ids, so
//! that it follows every renaming; what its SELECT over the source computes is written out when the view is made, and again
//! whenever the plan is asked for. Where the two differ, names have changed and nothing else, since only the extension makes
//! the view anew, and then notes what it says. Where the view was dropped the plan stays as it is. Of expressions that names
//! stand in beside, in merge rules and in results, the names are not followed.
//!
//! It rests on the view being the rollup's own: see `views`. On a Citus cluster, whose live views are made otherwise,
//! names are not followed.
use super::catalog::{self, Definition};
use super::error::{Result, internal};
use super::{levels, views};
use crate::pg::query::set_local;
use crate::pg::shape::{self, Shape, Wanted};
use crate::pg::xact::{ActingAs, in_subtransaction};
use hll_rollup::{Plan, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;

fn wanted(plan: &Plan, source: pg_sys::Oid) -> Wanted<'_> {
    Wanted {
        source,
        alias: &plan.alias,
        columns: plan.kept().map(|c| c.name.as_str()).collect(),
        time_key: &plan.time_key,
        filtered: plan.filter.is_some(),
    }
}

/// Notes what the live view of a rollup says, which has just been made of `plan`.
pub fn note(id: i64, plan: &Plan) -> Result<()> {
    let _acting = ActingAs::catalog();
    let found = catalog::write(
        "SELECT live::pg_catalog.oid, source::pg_catalog.oid FROM rollup.definition WHERE id = $1",
        &[id.into()],
        |row| Ok(row.get::<pg_sys::Oid>(1)?.zip(row.get::<pg_sys::Oid>(2)?)),
    )?;
    let Some((live, source)) = found.into_iter().flatten().next() else { return Ok(()) };
    let shape = shape::of_view(live, &wanted(plan, source));
    let shape = shape.map(|s| serde_json::to_string(&s).map_err(internal)).transpose()?;
    catalog::execute(
        "UPDATE rollup.definition SET shape = $2::pg_catalog.jsonb WHERE id = $1",
        &[id.into(), shape.into()],
    )
}

/// The plan with the names of today, and what its live view says, where that is not what was noted.
pub fn followed(
    plan: &Plan,
    source: pg_sys::Oid,
    live: pg_sys::Oid,
    noted: &str,
) -> Result<Option<(Plan, Shape)>> {
    let noted: Shape = serde_json::from_str(noted).map_err(internal)?;
    let same_joins = |now: &Shape| match (&now.joins, &noted.joins) {
        (Some(now), Some(noted)) => now.same_clause(noted),
        (now, noted) => now.is_none() && noted.is_none(),
    };
    let same = |now: &Shape| {
        (&now.columns, &now.filter, &now.time_column) == (&noted.columns, &noted.filter, &noted.time_column)
            && same_joins(now)
    };
    let Some(now) = shape::of_view(live, &wanted(plan, source)).filter(|now| !same(now)) else {
        return Ok(None);
    };
    let mut plan = plan.clone();
    for ((name, was, _), (_, is, sql_type)) in noted.columns.iter().zip(&now.columns) {
        let Some(c) = plan.columns.iter_mut().find(|c| c.name == *name) else { continue };
        c.sql_type = sql_type.clone();
        if was != is {
            c.expression = is.clone();
            c.written = is.clone();
        }
    }
    if now.filter != noted.filter {
        plan.filter = now.filter.clone();
    }
    if !same_joins(&now) {
        plan.joins = now.joins.clone();
    }
    if let Some(column) = &now.time_column {
        plan.time_column = column.clone();
    }
    Ok(Some((plan, now)))
}

/// Gives what a new plan has in common with the rollup the words of the old one: an expression is the same where its tree
/// is, whatever it was called when it was written.
pub fn agree(d: &Definition, old: &Plan, new: &mut Plan, source: &str) -> Result<()> {
    let Some(noted) = d.noted()? else { return Ok(()) };
    let text = statements::aggregate_source(new, source, "true", None, "");
    let Some(now) = shape::of_text(&text, &wanted(new, d.source_oid)) else { return Ok(()) };
    for (name, is, _) in &now.columns {
        let same = noted.columns.iter().any(|(n, was, _)| n == name && was == is);
        let Some(before) = old.column(name).filter(|_| same) else { continue };
        if let Some(c) = new.columns.iter_mut().find(|c| c.name == *name) {
            c.expression = before.expression.clone();
        }
    }
    if now.filter == noted.filter {
        new.filter = old.filter.clone();
    }
    Ok(())
}

/// The plan in the names of today, which are stored where they are not those that were noted, with all that goes by the name
/// of the time column. The state row is locked.
pub fn stored(d: &Definition) -> Result<Plan> {
    let Some((plan, shape)) = d.followed()? else { return d.stored_plan() };
    let (source, target, owner) = d.parts()?;
    let was = d.stored_plan()?.time_column;
    d.store_plan(&plan, &statements::query(&plan, source))?;
    {
        let _acting = ActingAs::catalog();
        let shape = serde_json::to_string(&shape).map_err(internal)?;
        catalog::execute(
            "UPDATE rollup.definition SET shape = $2::pg_catalog.jsonb WHERE id = $1",
            &[d.id.into(), shape.into()],
        )?;
        if was != plan.time_column {
            for (table, relation) in [
                ("source", "relation"),
                ("retention", "relation"),
                ("change", "source"),
                ("arrival", "source"),
            ] {
                catalog::execute(
                    &format!(
                        "UPDATE rollup.{table} SET time_column = $2::pg_catalog.name WHERE {relation} = $1 AND time_column = $3::pg_catalog.name"
                    ),
                    &[d.source_oid.into(), plan.time_column.clone().into(), was.clone().into()],
                )?;
            }
        }
    }
    if was == plan.time_column || plan.follows.is_none() {
        return Ok(plan);
    }
    // The views that read changes name the column by a constant.
    let levels = levels::of(d)?;
    let _acting = ActingAs::role(owner);
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        views::make(false, &plan, views::Names { source, target, view: None }, level, d.id)?;
    }
    Ok(plan)
}

/// A column has been renamed: what goes by its name follows at once, if nobody stands in the way; else with the next run.
/// Fails no command.
pub fn column_renamed(table: pg_sys::Oid, was: &str, now: &str) {
    let done = in_subtransaction(std::panic::AssertUnwindSafe(|| {
        let ids = {
            let _acting = ActingAs::catalog();
            set_local(c"lock_timeout", c"50ms");
            let below = "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid)";
            let ids = catalog::write(
                &format!(
                    "{below} SELECT d.id FROM rollup.definition d JOIN t ON t.oid = d.source ORDER BY d.id"
                ),
                &[table.into()],
                |row| row.get::<i64>(1),
            )?;
            catalog::execute(
                &format!(
                    "{below} UPDATE rollup.retention r SET time_column = $3::pg_catalog.name FROM t WHERE r.relation = t.oid AND r.time_column = $2::pg_catalog.name \
                     AND NOT EXISTS (SELECT FROM rollup.definition d WHERE d.source = t.oid)"
                ),
                &[table.into(), was.into(), now.into()],
            )?;
            ids
        };
        for id in ids.into_iter().flatten() {
            let locked = {
                let _acting = ActingAs::catalog();
                set_local(c"lock_timeout", c"50ms");
                catalog::lock(id)?
            };
            if let Some(d) = locked.filter(|d| d.state.nodes().is_none()) {
                stored(&d)?;
            }
        }
        Ok(())
    }));
    if let Err(e) = done {
        log!("rollup: names follow with the next run: {}", e.message);
    }
}
