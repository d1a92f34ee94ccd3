//! Levels come and go: rollup.add_level, rollup.drop_level, and the option COARSER of rollup.create.
use super::catalog::{self, Definition};
use super::citus;
use super::comments;
use super::error::{Result, fail, internal, report};
use super::levels::{self, Shape, With};
use super::naming;
use super::reach;
use super::views::{self, Names};
use crate::pg::jsonb::Jsonb;
use crate::pg::reach::TimeType;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::literal;
use hll_rollup::{Bucket, Level, Plan, fill, statements};
use pgrx::datum::Interval;
use pgrx::prelude::*;
use std::collections::BTreeMap;

const WRONG: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;

/// The option COARSER of rollup.create: what each level is to be, by its name.
pub fn named(coarser: Option<Jsonb>) -> Result<BTreeMap<String, Shape>> {
    let read = |text: &str| {
        let levels: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)?;
        let shaped = |(name, level): (String, serde_json::Value)| match level.is_object() {
            true => Ok((name, serde_json::from_value(level)?)),
            false => Ok((name, Shape { width: serde_json::from_value(level)?, keys: None })),
        };
        levels.into_iter().map(shaped).collect::<serde_json::Result<_>>()
    };
    match coarser.map(|coarser| read(&coarser.text())) {
        None => Ok(BTreeMap::new()),
        Some(Ok(levels)) => Ok(levels),
        Some(Err(e)) => {
            let why = e.to_string();
            // Nobody wrote the lines and columns of the text that is read here.
            let why = why.split_once(" at line ").map_or(why.as_str(), |(why, _)| why);
            fail(
                WRONG,
                format!("coarser is no object of names and widths: {why}"),
                "Write it as in '{\"http_request_1hour\": \"1 hour\", \"http_request_1day\": \"1 day\"}', or for some of the keys alone \
                 '{\"http_request_1day_site\": {\"width\": \"1 day\", \"keys\": [\"site_id\"]}}'.",
            )
        }
    }
}

/// The buckets of a level, and the expression that makes one of a time key, `$1`. `narrowed`: it has fewer keys than the
/// rollup, so that its buckets may be those of the rollup.
fn buckets(
    d: &Definition,
    plan: &Plan,
    text: &str,
    width: &Interval,
    narrowed: bool,
) -> Result<(Bucket, String)> {
    let bucket = Bucket::of_level(width.months(), width.days(), width.micros()).map_err(|why| {
        report(
            WRONG,
            format!("{text} makes no level: {why}"),
            "Levels are such as 1 hour, 1 day, 7 days, 1 month, 3 months or 1 year.",
        )
    })?;
    let known = plan.key_kind().filter(|_| plan.bucket != Bucket::Unknown);
    if known.is_some() && narrowed && plan.bucket.is_as_long_as(bucket) {
        return Ok((plan.bucket, "$1".into()));
    }
    let (Some(kind), true) = (known, plan.bucket.nests_in(bucket, d.timezone.eq_ignore_ascii_case("utc")))
    else {
        let hint = if known.is_none() {
            "Of this expression it is not known where its buckets begin: use date_trunc or date_bin with constants, and create the rollup with timezone => the zone that the expression names."
        } else {
            "Each bucket of the rollup must lie inside one of the level: take a multiple, or make a rollup of its own."
        };
        return fail(WRONG, format!("buckets of {} do not nest in {text}", plan.key_column().written), hint);
    };
    let expression = bucket.expression(kind, &d.timezone);
    let at_time = |at: &str| fill(&expression, |n| (n == 1).then(|| format!("({at}::{})", kind.type_name())));
    let expression = reach::guarded(TimeType::from(kind), kind, &d.timezone, "$1", &expression, at_time)?;
    Ok((bucket, expression))
}

/// Refuses a level that is another one by another name.
fn refuse_double(
    d: &Definition,
    name: &str,
    bucket: Bucket,
    keys: Option<&Vec<String>>,
    with: With,
) -> Result<()> {
    let double = levels::of(d)?.into_iter().find(|l| l.bucket == bucket && l.keys.as_ref() == keys);
    let Some(double) = double else { return Ok(()) };
    fail(
        PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        format!(
            "level {name} would be what level {} of rollup {} is: its buckets and keys are the same",
            double.name, d.name
        ),
        match with {
            With::NewRollup => format!("Leave one of {name} and {} out of coarser.", double.name),
            With::Rollup => format!(
                "SELECT rollup.drop_level({}, {}); lets go of that one.",
                literal(&d.name),
                literal(&double.name)
            ),
        },
    )
}

/// Refuses a level without some of the keys where those are not what users see.
fn refuse_keys(d: &Definition, plan: &Plan, name: &str, shape: &Shape) -> Result<()> {
    if plan.followed.is_some() && shape.keys.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("rollup {} follows lookup tables, and has no levels without some of its keys", d.name),
            format!(
                "SELECT rollup.add_level({}, {}, {}); then group the level by the keys that are wanted, when it is read.",
                literal(&d.name),
                literal(name),
                literal(&shape.width)
            ),
        );
    }
    Ok(())
}

/// Adds a level to a rollup whose state row is locked, and fills it from the rollup's table.
pub fn add(d: &Definition, plan: &Plan, name: &str, shape: &Shape, with: With) -> Result<()> {
    super::written::check(d)?;
    let (source, target, _) = d.parts()?;
    let width: Interval = catalog::one("SELECT $1::pg_catalog.interval", &[shape.width.as_str().into()])?;
    refuse_keys(d, plan, name, shape)?;
    let keys = levels::keys(d, plan, name, shape, with)?;
    let (bucket, expression) = buckets(d, plan, &shape.width, &width, keys.is_some())?;
    let schema = d.schema()?;
    let (schema, table) = naming::split(name, &schema)?;
    let (relation, view) = naming::refuse_taken(&schema, &table, plan.followed.is_some())?;
    refuse_double(d, name, bucket, keys.as_ref(), with)?;
    let level = Level {
        name: naming::name_in_catalog(&schema, &table, &d.schema()?)?,
        target: relation.clone(),
        bucket,
        expression,
        utc: d.timezone.eq_ignore_ascii_case("utc"),
        keys,
    };
    let own = plan.of_level(Some(&level)).into_owned();
    catalog::define(&statements::create_table(&own, &relation))?;
    super::identity::give(&relation)?;
    citus::create::distribute_level(d, plan, source, &level)?;
    {
        let _acting = ActingAs::catalog();
        let json = serde_json::to_string(&bucket).map_err(internal)?;
        catalog::execute(
            "INSERT INTO rollup.level (definition, name, relation, width, bucket, expression, keys) \
             VALUES ($1, $2, $3::pg_catalog.regclass, $4, $5::pg_catalog.jsonb, $6, $7)",
            &[
                d.id.into(),
                level.name.clone().into(),
                relation.clone().into(),
                width.into(),
                json.into(),
                level.expression.clone().into(),
                level.keys.clone().into(),
            ],
        )?;
    }
    let names = statements::kept_names(&own);
    let groups = statements::coarser(plan, &level, target);
    catalog::define(&format!("INSERT INTO {relation} ({names}) {groups}"))?;
    views::make(
        d.state.nodes().is_some(),
        plan,
        Names { source, target, view: None, shown: None },
        Some(&level),
        d.id,
    )?;
    super::written::note(d.id, plan)?;
    let said = Shape { width: shape.width.clone(), keys: level.keys }.to_string();
    comments::write(&own, source, &relation, &view, Some(&said))
}

/// Takes a level away: its view, and its table unless the data is kept.
pub fn drop(d: &Definition, level: &str, keep_data: bool) -> Result<()> {
    let relation = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "DELETE FROM rollup.level WHERE definition = $1 AND name = $2 RETURNING relation::pg_catalog.oid, live::pg_catalog.oid, shown::pg_catalog.oid",
            &[d.id.into(), level.into()],
            |row| Ok((row.get::<pg_sys::Oid>(1)?, [row.get::<pg_sys::Oid>(2)?, row.get::<pg_sys::Oid>(3)?])),
        )?
    };
    let Some((Some(relation), views)) = relation.first().copied() else {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("rollup {} has no level {level}", d.name),
            "SELECT * FROM rollup.level lists the levels.",
        );
    };
    super::drop::drop_table(relation, views, keep_data)
}
