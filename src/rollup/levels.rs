//! The levels of a rollup: tables with the same columns in longer buckets, or without some keys, kept in the same transactions.
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal, report};
use crate::pg::xact::ActingAs;
use hll_rollup::sql::literal;
use hll_rollup::{Level, Plan};
use pgrx::prelude::*;

/// What a level is to be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// How long its buckets are.
    pub width: String,
    /// The keys that it has besides the time; None: all.
    #[serde(default)]
    pub keys: Option<Vec<String>>,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.keys.as_deref() {
            None => write!(f, "{}", self.width),
            Some([]) => write!(f, "{} without keys", self.width),
            Some(keys) => write!(f, "{} by {}", self.width, keys.join(", ")),
        }
    }
}

impl Shape {
    /// The keys of `plan` that such a level has, in the order of the plan; None: all. Names that are no keys come last.
    pub fn kept(&self, plan: &Plan) -> Option<Vec<String>> {
        let asked = self.keys.as_ref()?;
        let all = || plan.keys().map(|c| &c.name).filter(|name| **name != plan.time_key);
        let others = asked.iter().filter(|name| plan.column(name).is_none_or(|c| !c.is_key()));
        let kept: Vec<String> = all().filter(|name| asked.contains(name)).chain(others).cloned().collect();
        (!all().eq(kept.iter())).then_some(kept)
    }
}

/// What a level is.
pub fn shape(d: &Definition, level: &Level) -> Result<Shape> {
    let _acting = ActingAs::catalog();
    let width = catalog::one(
        "SELECT width::pg_catalog.text FROM rollup.level WHERE definition = $1 AND name = $2",
        &[d.id.into(), level.name.as_str().into()],
    )?;
    Ok(Shape { width, keys: level.keys.clone() })
}

/// The same as comments say it; None of the rollup itself.
pub fn said(d: &Definition, level: Option<&Level>) -> Result<Option<String>> {
    level.map(|level| Ok(shape(d, level)?.to_string())).transpose()
}

/// Whether the rollup of a level was there before, or is being made with it: what an error tells to write is another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// rollup.add_level.
    Rollup,
    /// rollup.create.
    NewRollup,
}

impl With {
    /// The call, or the argument of it, that makes the level `name` of a rollup with these keys besides the time.
    pub fn call(self, d: &Definition, name: &str, width: &str, keys: &[String]) -> String {
        match self {
            With::Rollup => format!(
                "SELECT rollup.add_level({}, {}, {}, keys => {})",
                literal(&d.name),
                literal(name),
                literal(width),
                match keys {
                    [] => "'{}'".to_string(),
                    keys =>
                        format!("ARRAY[{}]", keys.iter().map(|k| literal(k)).collect::<Vec<_>>().join(", ")),
                }
            ),
            With::NewRollup => {
                let level = serde_json::json!({ name: { "width": width, "keys": keys } });
                format!("coarser => {}", literal(&level.to_string()))
            }
        }
    }
}

/// Refuses names that are no keys of the rollup; the keys that the level `name` of this shape has, None: all.
pub fn keys(
    d: &Definition,
    plan: &Plan,
    name: &str,
    shape: &Shape,
    with: With,
) -> Result<Option<Vec<String>>> {
    let kept = shape.kept(plan);
    let stranger = kept.iter().flatten().find(|key| plan.column(key).is_none_or(|c| !c.is_key()));
    let Some(stranger) = stranger else { return Ok(kept) };
    let all: Vec<&str> = plan.keys().map(|c| c.name.as_str()).filter(|key| *key != plan.time_key).collect();
    let of_rollup = match all.as_slice() {
        [] => format!("Rollup {} has none but the time", d.name),
        all => format!("The keys of rollup {} are {}", d.name, all.join(", ")),
    };
    fail(
        PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
        format!("{stranger}, which level {name} is to have, is no group key of rollup {}", d.name),
        format!("{of_rollup}. {} makes a level without keys.", with.call(d, name, &shape.width, &[])),
    )
}

/// The shape that is meant where none of the keys are named: of a rollup that is there for one of its levels, those of that level.
pub fn meant(d: &Definition, shape: Shape) -> Result<Shape> {
    let Some(whole) = d.plan()?.whole.filter(|_| shape.keys.is_none()) else { return Ok(shape) };
    let keys = of(d)?.into_iter().find(|level| level.name == whole).and_then(|level| level.keys);
    Ok(Shape { keys, ..shape })
}

/// Whether a rollup has a level of this name.
pub fn is_one(d: &Definition, name: &str) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let sql = "SELECT EXISTS (SELECT FROM rollup.level l WHERE l.definition = $1 AND l.name = $2)";
    catalog::one(sql, &[d.id.into(), name.into()])
}

/// The levels of a rollup, finest first.
pub fn of(d: &Definition) -> Result<Vec<Level>> {
    let _acting = ActingAs::catalog();
    let utc = d.timezone.eq_ignore_ascii_case("utc");
    let found = catalog::read_often(
        "SELECT l.name, (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = l.relation), l.bucket::pg_catalog.text, l.expression, l.keys FROM rollup.level l WHERE l.definition = $1 \
         ORDER BY l.width, pg_catalog.cardinality(l.keys) DESC NULLS FIRST, l.name",
        &[d.id.into()],
        |row| {
            Ok((
                row.must::<String>(1)?,
                row.get::<String>(2)?,
                row.must::<String>(3)?,
                row.must::<String>(4)?,
                // All keys.
                row.get::<Vec<String>>(5)?,
            ))
        },
    )?;
    found
        .into_iter()
        .map(|(name, target, bucket, expression, keys)| {
            let target = target.ok_or_else(|| {
                report(
                    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("the table of level {name} of rollup {} is gone", d.name),
                    format!(
                        "SELECT rollup.drop_level({}, {}) forgets the level.",
                        literal(&d.name),
                        literal(&name)
                    ),
                )
            })?;
            let bucket = serde_json::from_str(&bucket)
                .map_err(|e| internal(format!("the buckets of level {name} cannot be read: {e}")))?;
            Ok(Level { name, target, bucket, expression, utc, keys })
        })
        .collect()
}
