//! Names that age: a column, function, type, label or schema that a rollup's query names may be renamed.
//!
//! Invariant: the names in a plan are those of today. PostgreSQL keeps the live view as a tree, in which names are ids, so
//! that it follows every renaming; what its SELECT over the source computes is written out when the view is made, and again
//! whenever the plan is asked for. Where the two differ, names have changed and nothing else, since only the extension makes
//! the view again, and then records what it says. Where the view was dropped the plan stays as it is. Names in merge rules and
//! in results are not in that SELECT: `trust` says what becomes of them.
//!
//! It rests on the view being the rollup's own, see `views`, and its owner's: what another role may put into it is not read, see
//! `trust`. On a Citus cluster, whose live views are made otherwise,
//! names are not followed.
use super::catalog::{self, Definition};
use super::error::{Result, internal};
use super::trust;
use crate::pg::shape::{self, Shape, Wanted};
use crate::pg::xact::ActingAs;
use hll_rollup::Plan;
use pgrx::pg_sys;

pub fn wanted(plan: &Plan, source: pg_sys::Oid) -> Wanted<'_> {
    Wanted {
        source,
        alias: &plan.alias,
        columns: plan.kept().map(|c| c.name.as_str()).collect(),
        time_key: &plan.time_key,
        filtered: plan.filter.is_some(),
    }
}

/// Records what the live view of a rollup says, which has just been made of `plan`.
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

/// The plan with the names of today, and what its live view says, where that is not what was recorded.
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

impl Definition {
    /// The plan, in the names of today.
    pub fn plan(&self) -> Result<Plan> {
        match self.followed()? {
            Some((plan, _)) => trust::checked(self, plan),
            None => trust::checked(self, self.stored_plan()?),
        }
    }

    /// The plan in the names of today and what its live view says, where that is not what was recorded.
    pub fn followed(&self) -> Result<Option<(Plan, Shape)>> {
        let Some((shape, live)) = self.shape.as_ref().zip(self.live) else { return Ok(None) };
        if !self.is_followed() {
            return Ok(None);
        }
        followed(&self.stored_plan()?, self.source_oid, live, shape)
    }

    /// What its live view says.
    pub fn noted(&self) -> Result<Option<Shape>> {
        if let Some((_, shape)) = self.followed()? {
            return Ok(Some(shape));
        }
        self.shape.as_deref().map(|noted| serde_json::from_str(noted).map_err(internal)).transpose()
    }
}
