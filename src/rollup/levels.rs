//! The levels of a rollup: tables with the same columns in longer buckets, kept in the same transactions.
use super::catalog::{self, Definition, Must};
use super::error::{Result, internal, report};
use crate::pg::xact::ActingAs;
use hll_rollup::Level;
use hll_rollup::sql::literal;
use pgrx::prelude::*;

/// How long the buckets of a level are.
pub fn width(level: &Level) -> Result<String> {
    let _acting = ActingAs::catalog();
    catalog::one(
        "SELECT width::pg_catalog.text FROM rollup.level WHERE name = $1",
        &[level.name.as_str().into()],
    )
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
         WHERE c.oid = l.relation), l.bucket::pg_catalog.text, l.expression FROM rollup.level l WHERE l.definition = $1 ORDER BY l.width, l.name",
        &[d.id.into()],
        |row| {
            Ok((
                row.must::<String>(1)?,
                row.get::<String>(2)?,
                row.must::<String>(3)?,
                row.must::<String>(4)?,
            ))
        },
    )?;
    found
        .into_iter()
        .map(|(name, target, bucket, expression)| {
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
            Ok(Level { name, target, bucket, expression, utc })
        })
        .collect()
}
