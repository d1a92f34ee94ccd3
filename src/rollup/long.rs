//! Groups whose keys are too long for the index on them. They are left out, lest one row keep all others from being
//! counted for good, and not in silence: whoever runs the rollup is told, the worker's log once, `rollup.status` how many
//! raw rows they are.
use super::catalog::{self, Definition};
use super::error::{Result, report};
use super::plan::Plan;
use super::sql::{ident, literal};
use crate::pg::entry::MOST;
use crate::pg::xact::ActingAs;
use pgrx::prelude::*;

/// Whose values are never long.
const SHORT: [&str; 18] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "oid",
    "real",
    "double precision",
    "money",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "interval",
    "uuid",
    "inet",
    "cidr",
    "macaddr",
    "name",
];

/// True of groups whose keys, given as expressions, fit into the index; None where all do.
pub fn fits_keys(plan: &Plan, keys: &[String]) -> Option<String> {
    let plain = |sql_type: &str| sql_type.trim_start_matches("pg_catalog.").to_string();
    if plan.keys().all(|c| SHORT.contains(&plain(&c.sql_type).as_str())) {
        return None;
    }
    Some(format!("rollup_internal.key_fits({})", keys.join(", ")))
}

/// The same of keys that are columns of `relation`.
pub fn fits(plan: &Plan, relation: &str) -> Option<String> {
    let keys: Vec<String> = plan.keys().map(|c| format!("{relation}.{}", ident(&c.name))).collect();
    fits_keys(plan, &keys)
}

/// The same as the condition of a statement.
pub fn where_fits(plan: &Plan, relation: &str) -> String {
    fits(plan, relation).map(|fits| format!(" WHERE {fits}")).unwrap_or_default()
}

/// What the groups of a run say of it.
pub const FITS: &str = "\"rollup fits\"";

/// Names the longest key of the groups of `delta` that are left out, and its bytes.
pub fn longest(plan: &Plan) -> String {
    let keys: Vec<String> = plan
        .keys()
        .map(|c| {
            format!("({}, pg_catalog.octet_length(d.{}::pg_catalog.text))", literal(&c.name), ident(&c.name))
        })
        .collect();
    format!(
        "SELECT k.name, k.bytes FROM delta d, LATERAL (VALUES {}) k (name, bytes) WHERE NOT d.{FITS} ORDER BY k.bytes DESC NULLS LAST LIMIT 1",
        keys.join(", ")
    )
}

/// Raw rows that a run has left out, and the longest key of their groups.
pub struct LeftOut {
    /// How many.
    pub rows: i64,
    /// The key's name.
    pub key: String,
    /// Its length.
    pub bytes: i32,
}

/// Counts them, and says so.
pub fn store(d: &Definition, left: &LeftOut) -> Result<()> {
    let before = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "UPDATE rollup.definition SET long_keys = long_keys + $2 WHERE id = $1 RETURNING long_keys - $2",
            &[d.id.into(), left.rows.into()],
            |row| row.get::<i64>(1),
        )?
    };
    let known = before.first().copied().flatten().is_some_and(|rows| rows > 0);
    if known && crate::pg::background::serves_nobody() {
        return Ok(());
    }
    let LeftOut { rows, key, bytes } = left;
    report(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!(
            "rollup {}: {rows} rows are left out, since group key {key} has up to {bytes} bytes: {MOST} fit into an index, compressed",
            d.name
        ),
        format!(
            "Make a rollup that groups by left({0}, 500), or by md5({0}), in the place of {0}: it counts them. rollup.status.long_keys says how many there are.",
            ident(key)
        ),
    )
    .report(PgLogLevel::WARNING);
    Ok(())
}
