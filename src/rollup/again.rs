//! rollup.create once more, as a migration does that is run twice: with IF_NOT_EXISTS a rollup that is there stays, and it is
//! said where it is not what was asked for; with REPLACE it becomes that.
//!
//! Invariant: a replacement is one transaction, and never lets go of what cannot be computed again. What the raw rows still
//! give is computed from them; where they do not give all that was counted, it is refused.
use super::caller;
use super::catalog::{self, Definition};
use super::citus::finest;
use super::create;
use super::definition;
use super::differences::{self, Asked, Difference, How};
use super::error::{Result, fail, report};
use super::levels::Shape;
use super::naming;
use super::options::{Again, Joining, Options};
use super::source;
use super::{add_level, anew, clock, evolve};
use crate::pg::query::Select;
use crate::pg::xact::ActingAs;
use crate::pg::{deparse::shown_name, lock};
use hll_rollup::sql::{ident, literal};
use pgrx::prelude::*;

/// Defines a rollup, or does with the one of this name what OPTIONS say; returns its id.
pub fn create(name: &str, text: &str, options: Options) -> Result<i64> {
    let asked = finest::of(name, text, options)?;
    define(&asked.name, &asked.text, asked.options)
}

fn define(name: &str, text: &str, options: Options) -> Result<i64> {
    if options.again == Again::Refuse {
        return create::create(name, text, options);
    }
    create::check_isolation()?;
    clock::check_timezone(&options.timezone)?;
    let select = definition::analyse(text, &options.timezone)?;
    create::check_source(&select, options.joins != Joining::Refuse)?;
    let Some(id) = find(name, &select, &options)? else { return create::create(name, text, options) };
    let d = match options.again {
        Again::Replace => caller::lock(id)?,
        _ => catalog::by_id_now(id)?
            .ok_or_else(|| super::error::internal("the rollup has just been dropped"))?,
    };
    catalog::check_owner_of(&d)?;
    if options.again == Again::Replace && d.parts().is_err() {
        // Its table is gone; those of levels may have what nobody can compute any more, and stay as tables.
        super::drop::drop(&d, true)?;
        return create::create(name, text, options);
    }
    d.parts()?;
    let found = differences::of(&d, select, &options)?;
    if options.again == Again::Keep {
        say(&d, &found.all);
        return Ok(d.id);
    }
    if found.all.iter().any(|one| one.how == How::Anew) {
        return anew::replace(&d, &found.all, name, text, options);
    }
    become_what_was_asked(&d, found, text, &options)?;
    Ok(d.id)
}

/// The rollup of that name: by its table, or by its name where the table is gone. Who looks for one of the same source
/// waits for the transaction of whoever does, and sees what that has made.
fn find(name: &str, select: &Select, options: &Options) -> Result<Option<i64>> {
    let source = source::describe(select.source)?;
    catalog::check_owner(Some(source.owner), &format!("table {}", source.qualified()))?;
    lock::take_definitions(select.source);
    let (schema, table) = naming::split(name, &source.schema)?;
    let names = vec![table.clone(), format!("{schema}.{table}")];
    let (schema, table) = match &options.into {
        None => (schema, table),
        Some(into) => naming::split(into, &source.schema)?,
    };
    let _acting = ActingAs::catalog();
    let found = catalog::write(
        "SELECT d.id FROM rollup.definition d WHERE coalesce(d.shown, d.relation) = pg_catalog.to_regclass($1) AND ($3 OR d.name = ANY ($2)) \
         OR d.relation IS NULL AND d.name = ANY ($2) ORDER BY d.relation LIMIT 1",
        &[
            format!("{}.{}", ident(&schema), ident(&table)).into(),
            names.into(),
            options.into.is_none().into(),
        ],
        |row| row.get::<i64>(1),
    )?;
    Ok(found.into_iter().flatten().next())
}

/// A rollup stays: what of it is not as it was asked for.
fn say(d: &Definition, all: &[Difference]) {
    if all.is_empty() {
        return ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!("rollup {} already exists, skipping", d.name)
        );
    }
    report(
        PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
        format!(
            "rollup {} already exists, and is not what was asked for: {}",
            d.name,
            differences::told(all)
        ),
        "It stays as it is. replace => true, in the place of if_not_exists, makes it what was asked for.",
    )
    .report(PgLogLevel::WARNING);
}

/// Changes what can be changed where it is.
fn become_what_was_asked(d: &Definition, found: Asked, text: &str, options: &Options) -> Result<()> {
    let differs = |how: How| found.all.iter().any(|one| one.how == how);
    if differs(How::Level) && !found.drop_levels.is_empty() {
        refuse_to_lose(d, &found.drop_levels)?;
    }
    for level in &found.drop_levels {
        let _acting = caller::as_owner(d);
        add_level::drop(d, level, false)?;
    }
    if differs(How::Columns) {
        evolve::settled(
            || caller::lock(d.id),
            options.backfill,
            |d| evolve::replace(d, text, options.backfill),
        )?;
    }
    if !found.add_levels.is_empty() {
        let d = caller::lock(d.id)?;
        let _acting = caller::as_owner(&d);
        let plan = d.plan()?;
        for (level, shape) in &found.add_levels {
            add_level::add(&d, &plan, level, shape, super::levels::With::Rollup)?;
        }
    }
    if differs(How::Setting) {
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.definition SET every = $2, notify = $3 WHERE id = $1",
            &[d.id.into(), options.every.into(), options.notify.into()],
        )?;
    }
    Ok(())
}

/// Levels are made of the rollup's rows: those that have expired there cannot be made again.
fn refuse_to_lose(d: &Definition, levels: &[String]) -> Result<()> {
    let (_, target, _) = d.parts()?;
    let relation = naming::relation(target)?;
    let below = {
        let _acting = ActingAs::catalog();
        super::session::set_timezone("UTC");
        catalog::maybe_now::<String>(
            "SELECT below::pg_catalog.text FROM rollup.expired WHERE relation = $1",
            &[relation.into()],
        )?
    };
    let Some(below) = below else { return Ok(()) };
    let (name, level) = (literal(&d.name), levels.first().map_or("", String::as_str));
    fail(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "level {level} would go, and with it what {} has lost: its rows before {below} have expired",
            shown_name(relation)
        ),
        format!("SELECT rollup.drop_level({name}, {}); lets go of it.", literal(level)),
    )
}

/// rollup.add_level(if_not_exists): whether the level is there; says where its buckets or keys are others.
pub fn has_level(d: &Definition, level: &str, shape: &Shape) -> Result<bool> {
    let Some(found) = differences::level(d, level, shape)? else { return Ok(false) };
    match found.is {
        None => ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!("level {level} of rollup {} already exists, skipping", d.name)
        ),
        Some(is) => report(
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!(
                "level {level} of rollup {} already exists, and has buckets of {is}, not {shape}",
                d.name
            ),
            format!(
                "It stays as it is. SELECT rollup.drop_level({}, {}) lets go of it.",
                literal(&d.name),
                literal(level)
            ),
        )
        .report(PgLogLevel::WARNING),
    }
    Ok(true)
}

/// rollup.add_column(if_not_exists): whether the column is there; says where it is another expression.
pub fn has_column(d: &Definition, column: &str, expression: &str) -> Result<bool> {
    let plan = d.plan()?;
    let Some(there) = plan.column(column).filter(|c| !c.hidden) else { return Ok(false) };
    let asked = evolve::with_column(d, &plan, ASKED, expression)?;
    let is = differences::expression(&plan, there);
    let with = hll_rollup::Plan { columns: asked, ..plan.clone() };
    let wanted =
        with.columns.iter().find(|c| c.name == ASKED).map(|c| (differences::expression(&with, c), c));
    match wanted {
        Some((wanted, c)) if wanted != is => report(
            PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            format!(
                "column {column} of rollup {} already exists, and is {}, not {}",
                d.name, there.written, c.written
            ),
            format!(
                "It stays as it is. SELECT rollup.drop_column({}, {}) lets go of it.",
                literal(&d.name),
                literal(column)
            ),
        )
        .report(PgLogLevel::WARNING),
        _ => ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            format!("column {column} of rollup {} already exists, skipping", d.name)
        ),
    }
    Ok(true)
}

/// What the column that is asked for is called while it is compared with the one that has its name.
pub const ASKED: &str = "rollup asked for";
