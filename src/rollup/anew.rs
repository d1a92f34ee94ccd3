//! rollup.create(replace) where a rollup counts other rows than it was made for, or counts them otherwise: another one
//! takes its place, with its grants and its retention, computed from the raw rows in the same transaction.
//!
//! Invariant: nothing that was counted is lost. Where raw rows are not there any more that the rollup has, it stays.
use super::caller;
use super::catalog::{self, Definition, Must};
use super::create;
use super::differences::{self, Difference};
use super::error::{Result, fail, internal};
use super::levels;
use super::naming;
use super::options::{Joining, Options};
use super::run::{self, HowMuch};
use super::views::{self, Grants, Kept};
use crate::pg::xact::ActingAs;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Level, Plan, sql as bounds, statements};
use pgrx::prelude::*;

const UNFIT: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;

/// A table of a rollup that goes, and what is kept of it.
struct Table {
    /// Its name, qualified and quoted.
    name: String,
    owner: String,
    grants: Grants,
    view: Option<Kept>,
    retention: Option<String>,
}

/// Puts another rollup in the place of `d`, which is locked; returns its id.
pub fn replace(d: &Definition, all: &[Difference], name: &str, text: &str, options: Options) -> Result<i64> {
    let plan = d.plan()?;
    super::written::check(d)?;
    let of_rollup = levels::of(d)?;
    if plan.followed.is_some() || options.joins == Joining::Follow {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("a rollup that follows lookup tables takes no other's place: {}", differences::told(all)),
            format!(
                "Give the new one another name; or SELECT rollup.drop({}); lets go of what it has.",
                literal(&d.name)
            ),
        );
    }
    refuse_what_cannot(d, all, &plan, &of_rollup)?;
    let (_, target, _) = d.parts()?;
    let mut tables = Vec::new();
    {
        let _acting = caller::as_owner(d);
        for level in of_rollup.iter().map(Some).chain([None]) {
            tables.push(taken(d, level, level.map_or(target, |l| &l.target))?);
        }
    }
    let paused = !d.active;
    super::drop::drop(d, false)?;
    let id = create::create(name, text, options)?;
    let new = caller::lock(id)?;
    let plan = new.plan()?;
    let levels = levels::of(&new)?;
    let target = new.parts()?.1;
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        let name = level.map_or(target, |l| l.target.as_str());
        if let Some(table) = tables.iter().find(|table| table.name == name) {
            table.restore(&plan.of_level(level))?;
        }
    }
    if paused {
        let _acting = ActingAs::catalog();
        catalog::execute("UPDATE rollup.definition SET state = 'paused' WHERE id = $1", &[id.into()])?;
    } else if new.state.nodes().is_none() {
        // Its readers wait for this transaction, and find what it counts.
        run::run_one(id, HowMuch::All)?;
    } else {
        notice!("rollup {} is filled by its next run, on the nodes of the cluster", new.name);
    }
    Ok(id)
}

fn refuse_what_cannot(d: &Definition, all: &[Difference], plan: &Plan, levels: &[Level]) -> Result<()> {
    let (source, target, owner) = d.parts()?;
    let refuse = |why: String, hint: String| {
        fail(UNFIT, format!("rollup {} cannot be replaced: {why}; {}", d.name, differences::told(all)), hint)
    };
    let drop = format!("SELECT rollup.drop({});", literal(&d.name));
    let (adopted, left) = about(d)?;
    if adopted {
        return refuse(
            format!("its table {target} was there before it, and may hold what was never counted"),
            format!("{drop} lets go of the rollup and keeps the table."),
        );
    }
    if !left.is_empty() {
        return refuse(
            format!("raw rows that it has counted are gone, {left}"),
            format!("Give the new one another name; or {drop} lets go of what it has."),
        );
    }
    let tables = levels
        .iter()
        .map(|l| l.target.as_str())
        .chain([target])
        .map(naming::relation)
        .collect::<Result<Vec<pg_sys::Oid>>>()?;
    if let Some(sent) = differences::published(&tables)? {
        return refuse(
            format!("{sent} would not be sent any more"),
            "ALTER PUBLICATION … DROP TABLE, and ADD TABLE afterwards: subscribers begin with the new table."
                .into(),
        );
    }
    let stored = match plan.rows.as_ref().filter(|_| !d.follows) {
        None => return Ok(()),
        Some(rows) => {
            format!("SELECT coalesce(pg_catalog.sum({}), 0)::pg_catalog.int8 FROM {target}", ident(rows))
        }
    };
    let merged = bounds::merged_rows(&statements::prefix(plan), plan.time(), &d.state);
    let (stored, raw) = {
        let _acting = ActingAs::role(owner);
        super::session::set_timezone(&d.timezone);
        let stored: i64 = catalog::one_now(&stored, &[])?;
        (stored, catalog::one_now::<i64>(&statements::count_new(plan, source, &merged), &[])?)
    };
    if stored > raw {
        return refuse(
            format!("it has counted {stored} rows, of which {raw} are there"),
            format!("Give the new one another name; or {drop} lets go of what it has."),
        );
    }
    Ok(())
}

/// Whether its table was there before it, and how raw rows have gone that it has counted; empty where none have.
pub fn about(d: &Definition) -> Result<(bool, String)> {
    let _acting = ActingAs::catalog();
    super::session::set_timezone("UTC");
    let found = catalog::write(
        "SELECT d.adopted, pg_catalog.concat_ws(', ', 'expired before ' || (SELECT e.below::pg_catalog.text FROM rollup.expired e WHERE e.relation = d.source), \
         CASE WHEN EXISTS (SELECT FROM rollup.lost l WHERE l.definition = d.id) THEN 'left with a partition' END) \
         FROM rollup.definition d WHERE d.id = $1",
        &[d.id.into()],
        |row| Ok((row.must::<bool>(1)?, row.must::<String>(2)?)),
    )?;
    found.into_iter().next().ok_or_else(|| internal("the rollup is gone"))
}

/// What is kept of a table that goes; its view is dropped.
fn taken(d: &Definition, level: Option<&Level>, name: &str) -> Result<Table> {
    let grants = views::grants(name)?;
    let owner = catalog::one(
        "SELECT pg_catalog.format('%I', r.rolname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.oid = $1::pg_catalog.regclass",
        &[name.into()],
    )?;
    let view = views::drop(d.id, level)?;
    let _acting = ActingAs::catalog();
    let retention = catalog::maybe_now(
        "SELECT pg_catalog.to_jsonb(r)::pg_catalog.text FROM rollup.retention r WHERE r.relation = $1::pg_catalog.regclass",
        &[name.into()],
    )?;
    Ok(Table { name: name.to_string(), owner, grants, view, retention })
}

impl Table {
    /// Gives what took its place the grants, the owner and the retention that it had.
    fn restore(&self, plan: &Plan) -> Result<()> {
        if let Some(view) = &self.view {
            view.restore(plan)?;
        }
        self.grants.restore(&self.name, plan)?;
        catalog::define(&format!("ALTER TABLE {} OWNER TO {}", self.name, self.owner))?;
        let Some(retention) = &self.retention else { return Ok(()) };
        let _acting = ActingAs::catalog();
        catalog::execute(
            "INSERT INTO rollup.retention SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::rollup.retention, \
             pg_catalog.jsonb_set($2::pg_catalog.jsonb, '{relation}', pg_catalog.to_jsonb($1::pg_catalog.regclass))) r",
            &[self.name.as_str().into(), retention.as_str().into()],
        )?;
        catalog::execute(
            "UPDATE rollup.retention SET time_column = $2::pg_catalog.name WHERE relation = $1::pg_catalog.regclass",
            &[self.name.as_str().into(), plan.time_key.as_str().into()],
        )
    }
}
