//! rollup.move to a table that took the place of the source: a copy that was given its name, as a table is rewritten while it is
//! in use. Whether the copy has the rows with their stamps nobody knows, so that it is counted anew, in one transaction.
//!
//! Invariant: nothing that was counted is lost. Where raw rows of the source are gone that the rollup has, it keeps what it has
//! counted of them (see `carried`); where the copy has fewer rows of those that are there, it is refused (see `anew`).
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal};
use super::options::{Again, Joining, Options};
use super::watch::OnChange;
use super::{anew, carried, create, definition, differences, levels, naming, relocate, source};
use crate::pg::deparse::shown_name;
use crate::pg::lock;
use crate::pg::plan::called::is_superuser;
use crate::pg::xact::{ActingAs, has_rights_of, role_name};
use hll_rollup::sql::{ident, literal};
use hll_rollup::statements;
use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Has the rollup, whose state row is locked, count the rows of `to`: of which its source is a part, or that took its place.
pub fn move_to(d: &Definition, to: pg_sys::Oid) -> Result<()> {
    match relocate::is_part(d, to)? {
        true => relocate::relocate(d, to),
        false => count_instead(d, to),
    }
}

fn count_instead(d: &Definition, to: pg_sys::Oid) -> Result<()> {
    if d.plan()?.followed.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "rollup {} follows lookup tables, and does not go to a table that is no part of its own",
                d.name
            ),
            "Make another rollup over that table, under another name.",
        );
    }
    let (adopted, left) = anew::about(d)?;
    if !adopted && !left.is_empty() {
        carried::carry(d, to)?;
        return keep_as_long(d.source_oid, to);
    }
    let there = source::describe(to)?;
    let (from, target, _) = d.parts()?;
    let plan = d.plan()?;
    let text = statements::query(&plan, &there.qualified());
    let options = options(d, plan.joins.is_some())?;
    let (schema, table): (String, String) = {
        let parts: Vec<String> = catalog::one("SELECT pg_catalog.parse_ident($1)", &[target.into()])?;
        let [schema, table] = <[String; 2]>::try_from(parts).map_err(|_| internal("no schema"))?;
        (schema, table)
    };
    let name = match naming::split(&d.name, &there.schema) {
        Ok(named) if named == (schema.clone(), table.clone()) => d.name.clone(),
        _ => format!("{}.{}", ident(&schema), ident(&table)),
    };
    let stored = counted(d)?;
    let id = {
        // Texts that were made of parsed expressions are read as they were written: without the caller's path, and as the owner,
        // whose types may run code where a constant is read.
        let _acting = ActingAs::role(acting_for(d, &there)?);
        lock::take_definitions(to);
        let select = definition::analyse(&text, &options.timezone)?;
        create::check_source(&select, options.joins != Joining::Refuse)?;
        let found = differences::of(d, select, &options)?;
        anew::replace(d, &found.all, &name, &text, options)?
    };
    let new = catalog::by_id_now(id)?.ok_or_else(|| internal("the rollup is gone"))?;
    let now = counted(&new)?;
    if now < stored {
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "rollup {} has counted {} rows, of which {} are in {}",
                d.name,
                stored.unwrap_or(0),
                now.unwrap_or(0),
                shown_name(to)
            ),
            format!(
                "Copy the others from {from}. Or leave the rollup as it is, and give one over {} another name: rollup.create('name', {}).",
                shown_name(to),
                literal(&text)
            ),
        );
    }
    keep_as_long(d.source_oid, to)
}

/// The owner of the rollup, who must be able to do what is done with the table.
fn acting_for(d: &Definition, there: &source::Source) -> Result<pg_sys::Oid> {
    let (.., owner) = d.parts()?;
    if is_superuser(owner) || has_rights_of(owner, there.owner) {
        return Ok(owner);
    }
    fail(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "table {} does not belong to role {}, who owns rollup {}",
            there.qualified(),
            role_name(owner),
            d.name
        ),
        format!("ALTER TABLE {} OWNER TO {};", there.qualified(), ident(&role_name(owner))),
    )
}

/// The options by which the rollup would be made as it is.
fn options(d: &Definition, joins: bool) -> Result<Options> {
    let mut coarser = std::collections::BTreeMap::new();
    for level in levels::of(d)? {
        coarser.insert(level.name.clone(), levels::shape(d, &level)?);
    }
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT every, on_change, notify FROM rollup.definition WHERE id = $1",
            &[d.id.into()],
            |row| Ok((row.get::<Interval>(1)?, row.must::<String>(2)?, row.get::<bool>(3)? == Some(true))),
        )?
    };
    let (every, on_change, notify) =
        found.into_iter().next().ok_or_else(|| internal("the rollup is gone"))?;
    Ok(Options {
        every,
        coarser,
        names_levels: true,
        timezone: d.timezone.clone(),
        joins: if joins { Joining::Snapshot } else { Joining::Refuse },
        into: None,
        backfill: true,
        on_change: OnChange::parse(&on_change)?,
        notify,
        again: Again::Replace,
        whole: d.plan()?.whole,
    })
}

/// How many rows it has counted, where it keeps their number.
fn counted(d: &Definition) -> Result<Option<i64>> {
    let (_, target, owner) = d.parts()?;
    let Some(rows) = d.plan()?.rows else { return Ok(None) };
    let _acting = ActingAs::role(owner);
    catalog::one_now(
        &format!("SELECT coalesce(pg_catalog.sum({}), 0)::pg_catalog.int8 FROM {target}", ident(&rows)),
        &[],
    )
    .map(Some)
}

/// Rows of the table are kept as long as those of the one whose place it took, where that has no rollup any more.
fn keep_as_long(from: pg_sys::Oid, to: pg_sys::Oid) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.retention r SET relation = $2 WHERE r.relation = $1 AND NOT EXISTS (SELECT FROM rollup.retention o WHERE o.relation = $2) \
         AND NOT EXISTS (SELECT FROM rollup.definition d WHERE d.source = $1)",
        &[from.into(), to.into()],
    )
}
