//! What follows where names have changed: see `names`.
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal};
use super::names::wanted;
use super::{levels, views};
use crate::pg::query::set_local;
use crate::pg::reach::TimeType;
use crate::pg::xact::{ActingAs, in_subtransaction};
use crate::pg::{security, shape};
use hll_rollup::sql::literal;
use hll_rollup::{Plan, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::HashMap;

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

/// The plan in the names of today, which are stored where they are not those that were recorded, with all that goes by the name
/// of the time column. The state row is locked.
pub fn stored(d: &Definition) -> Result<Plan> {
    let Some((plan, shape)) = d.followed()? else {
        let plan = d.plan()?;
        check_types(d, &plan)?;
        return Ok(plan);
    };
    let plan = super::trust::checked(d, plan)?;
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
    }
    super::trust::note_again(d, &plan)?;
    {
        let _acting = ActingAs::catalog();
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
    super::written::check(d)?;
    let levels = levels::of(d)?;
    let _acting = ActingAs::role(owner);
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        views::make(false, &plan, views::Names { source, target, view: None, shown: None }, level, d.id)?;
    }
    Ok(plan)
}

/// Refuses what would be stored as another type than it is computed in, and be rounded: a live view keeps columns from being
/// given another type, but it may have been dropped.
fn check_types(d: &Definition, plan: &Plan) -> Result<()> {
    let (source, target, owner) = d.parts()?;
    if d.shape.is_none() || d.live.and_then(security::owner_of).is_some() {
        return Ok(());
    }
    check_time(d, plan)?;
    check_collations(d, plan)?;
    let computed = {
        let _acting = ActingAs::role(owner);
        shape::of_text(
            &statements::aggregate_source(plan, source, "true", None, ""),
            &wanted(plan, d.source_oid),
        )
    };
    let Some(computed) = computed else { return Ok(()) };
    for (name, _, now) in &computed.columns {
        let Some(was) = plan.column(name).map(|c| &c.sql_type).filter(|was| *was != now) else { continue };
        let _acting = ActingAs::catalog();
        let stored = catalog::maybe::<String>(
            "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::pg_catalog.regclass AND a.attname = $2::pg_catalog.name",
            &[target.into(), name.as_str().into()],
        )?;
        if stored.as_ref() != Some(now) {
            return fail(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column {name} of rollup {} is {was}, and its query gives {now} by now", d.name),
                match plan.column(name).is_some_and(|c| c.is_key()) {
                    true => "Give the column of the raw table its type back, or make another rollup: keys stay what they are.".into(),
                    false => format!(
                        "SELECT rollup.replace({}, {}) has it follow.",
                        literal(&d.name),
                        literal(&statements::query(plan, source))
                    ),
                },
            );
        }
    }
    Ok(())
}

/// The same of the time column, by which new rows are told from those that wait.
fn check_time(d: &Definition, plan: &Plan) -> Result<()> {
    let is = TimeType::of(d.source_oid, &plan.time_column);
    if is.is_some_and(|is| (is == TimeType::ZONED) == plan.time_zoned) {
        return Ok(());
    }
    let (source, ..) = d.parts()?;
    let was = if plan.time_zoned { "times with time zone" } else { "times without time zone" };
    fail(
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        format!(
            "column {} of {source} held {was} when rollup {} was made, and is of another type now",
            plan.time_column, d.name
        ),
        format!(
            "Give it its type back: ALTER TABLE … ALTER COLUMN … TYPE … USING …. SELECT rollup.drop({}); removes the rollup.",
            literal(&d.name)
        ),
    )
}

/// The same of keys that would be told apart otherwise than the rows of the rollup's table are.
fn check_collations(d: &Definition, plan: &Plan) -> Result<()> {
    let (source, target, owner) = d.parts()?;
    let text = statements::aggregate_source(plan, source, "true", None, "");
    let computed = {
        let _acting = ActingAs::role(owner);
        // Where the query cannot be read any more, what runs says so.
        in_subtransaction(std::panic::AssertUnwindSafe(|| Ok(shape::collations(&text)))).unwrap_or_default()
    };
    let stored: HashMap<String, pg_sys::Oid> = {
        let _acting = ActingAs::catalog();
        let found = catalog::write(
            "SELECT a.attname::pg_catalog.text, a.attcollation FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped",
            &[target.into()],
            |row| Ok((row.must::<String>(1)?, row.must::<pg_sys::Oid>(2)?)),
        )?;
        found.into_iter().collect()
    };
    let other = computed.iter().find(|(name, now)| {
        plan.column(name).is_some_and(|c| c.is_key()) && stored.get(name).is_some_and(|was| was != now)
    });
    let Some((name, _)) = other else { return Ok(()) };
    fail(
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        format!(
            "key {name} of rollup {} has another collation in {target} than its query gives it by now",
            d.name
        ),
        "Give the column of the raw table, or of the rollup's, its collation back, or make another rollup: keys stay what they are.",
    )
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
