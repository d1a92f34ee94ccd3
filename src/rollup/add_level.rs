//! Levels come and go: rollup.add_level, rollup.drop_level, and the option COARSER of rollup.create.
use super::catalog::{self, Definition};
use super::citus;
use super::comments;
use super::error::{Result, fail, internal, report};
use super::levels;
use super::naming;
use super::reach;
use super::views::{self, Names};
use crate::pg::jsonb::Jsonb;
use crate::pg::reach::TimeType;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::ident;
use hll_rollup::{Bucket, Plan, fill, statements};
use pgrx::prelude::*;
use std::collections::BTreeMap;

const WRONG: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;

/// The option COARSER of rollup.create: names and widths.
pub fn named(coarser: Option<Jsonb>) -> Result<BTreeMap<String, String>> {
    match coarser.map(|coarser| serde_json::from_str(&coarser.text())) {
        None => Ok(BTreeMap::new()),
        Some(Ok(levels)) => Ok(levels),
        Some(Err(e)) => {
            let why = e.to_string();
            // Nobody wrote the lines and columns of the text that is read here.
            let why = why.split_once(" at line ").map_or(why.as_str(), |(why, _)| why);
            fail(
                WRONG,
                format!("coarser is no object of names and widths: {why}"),
                "Write it as in '{\"http_request_1hour\": \"1 hour\", \"http_request_1day\": \"1 day\"}'.",
            )
        }
    }
}

/// Adds a level to a rollup whose state row is locked, and fills it from the rollup's table.
pub fn add(d: &Definition, plan: &Plan, name: &str, text: &str) -> Result<()> {
    super::written::check(d)?;
    let (source, target, _) = d.parts()?;
    let width = catalog::read("SELECT $1::pg_catalog.interval", &[text.into()], |row| {
        row.get::<pgrx::datum::Interval>(1)
    })?;
    let width = width.into_iter().flatten().next().ok_or_else(|| internal("an interval is none"))?;
    let bucket = Bucket::of_level(width.months(), width.days(), width.micros()).map_err(|why| {
        report(
            WRONG,
            format!("{text} makes no level: {why}"),
            "Levels are such as 1 hour, 1 day, 7 days, 1 month, 3 months or 1 year.",
        )
    })?;
    let key = plan.key_column();
    let kind = plan.key_kind();
    let (Some(kind), true) = (kind, plan.bucket.nests_in(bucket, d.timezone.eq_ignore_ascii_case("utc")))
    else {
        let hint = if plan.bucket == Bucket::Unknown || kind.is_none() {
            "Of this expression it is not known where its buckets begin: use date_trunc or date_bin with constants, and create the rollup with timezone => the zone that the expression names."
        } else {
            "Each bucket of the rollup must lie inside one of the level: take a multiple, or make a rollup of its own."
        };
        return fail(WRONG, format!("buckets of {} do not nest in {text}", key.written), hint);
    };
    let schema = d.schema()?;
    let (schema, table) = naming::split(name, &schema)?;
    let (relation, view) = naming::refuse_taken(&schema, &table)?;
    catalog::define(&statements::create_table(plan, &relation))?;
    super::identity::give(&relation)?;
    citus::create::distribute_level(d, plan, source, &relation)?;
    let expression = bucket.expression(kind, &d.timezone);
    let at_time = |at: &str| fill(&expression, |n| (n == 1).then(|| format!("({at}::{})", kind.type_name())));
    let expression = reach::guarded(TimeType::from(kind), kind, &d.timezone, "$1", &expression, at_time)?;
    let level_name = naming::name_in_catalog(&schema, &table, &d.schema()?)?;
    {
        let _acting = ActingAs::catalog();
        let json = serde_json::to_string(&bucket).map_err(internal)?;
        catalog::execute(
            "INSERT INTO rollup.level (definition, name, relation, width, bucket, expression) \
             VALUES ($1, $2, $3::pg_catalog.regclass, $4, $5::pg_catalog.jsonb, $6)",
            &[
                d.id.into(),
                level_name.clone().into(),
                relation.clone().into(),
                width.into(),
                json.into(),
                expression.into(),
            ],
        )?;
    }
    let level = levels::of(d)?
        .into_iter()
        .find(|l| l.name == level_name)
        .ok_or_else(|| internal("the level is not there"))?;
    let names: Vec<String> = plan.kept().map(|c| ident(&c.name)).collect();
    let groups = statements::coarser(plan, &level, target);
    catalog::define(&format!("INSERT INTO {relation} ({}) {groups}", names.join(", ")))?;
    views::make(d.state.nodes().is_some(), plan, Names { source, target, view: None }, Some(&level), d.id)?;
    super::written::note(d.id, plan)?;
    comments::write(plan, source, &relation, &view, Some(text))
}

/// Takes a level away: its view, and its table unless the data is kept.
pub fn drop(d: &Definition, level: &str, keep_data: bool) -> Result<()> {
    let relation = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "DELETE FROM rollup.level WHERE definition = $1 AND name = $2 RETURNING relation::pg_catalog.oid, live::pg_catalog.oid",
            &[d.id.into(), level.into()],
            |row| Ok((row.get::<pg_sys::Oid>(1)?, row.get::<pg_sys::Oid>(2)?.unwrap_or(pg_sys::InvalidOid))),
        )?
    };
    let Some((Some(relation), live)) = relation.first().copied() else {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("rollup {} has no level {level}", d.name),
            "SELECT * FROM rollup.level lists the levels.",
        );
    };
    super::drop::drop_table(relation, live, keep_data)
}
