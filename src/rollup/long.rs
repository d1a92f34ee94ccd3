//! Groups whose keys are too long for the index on them. They are left out, lest one row keep all others from being
//! counted for good, and not in silence: whoever runs the rollup is told, the worker's log once, `rollup.status` how many
//! raw rows they are.
use super::catalog::{self, Definition};
use super::error::{Result, report};
use crate::pg::entry::MOST;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::ident;
use hll_rollup::{Plan, keys};
use pgrx::prelude::*;

/// Raw rows that a run has left out, and the longest key of their groups.
pub struct LeftOut {
    /// How many.
    pub rows: i64,
    /// The key's name.
    pub key: String,
    /// Its length.
    pub bytes: i32,
}

/// Counts the rows of the query that satisfy `bounds` and are of groups that are left out, with the bytes of their longest
/// value of each key; None where all groups fit. A statement that reads alone, which Citus hands on to every node.
pub fn count(plan: &Plan, source: &str, bounds: &str) -> Option<String> {
    let keys: Vec<String> = plan.keys().map(|c| format!("({})", c.expression)).collect();
    let fits = keys::fits_keys(plan, &keys)?;
    let bytes: Vec<String> = keys
        .iter()
        .map(|key| format!("coalesce(pg_catalog.max(pg_catalog.octet_length({key}::pg_catalog.text)), 0)"))
        .collect();
    let filter = plan.filter.as_ref().map(|f| format!(" AND ({f})")).unwrap_or_default();
    Some(format!(
        "SELECT pg_catalog.count(*), ARRAY[{}]::pg_catalog.int4[] FROM {} WHERE {bounds}{filter} AND NOT {fits}",
        bytes.join(", "),
        plan.from_clause(source)
    ))
}

/// What `count` has found; None where it is nothing.
pub fn counted(plan: &Plan, rows: i64, bytes: &[i32]) -> Option<LeftOut> {
    let (key, bytes) = plan.keys().zip(bytes).max_by_key(|(_, bytes)| **bytes)?;
    (rows > 0).then(|| LeftOut { rows, key: key.name.clone(), bytes: *bytes })
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
    // Only a text has a left part.
    let is_text = |of: &str| {
        let of = of.trim_start_matches("pg_catalog.");
        of == "text" || of.starts_with("varchar") || of.starts_with("character")
    };
    let text = if d.stored_plan()?.column(key).is_none_or(|c| is_text(&c.sql_type)) { "" } else { "::text" };
    report(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!(
            "rollup {}: {rows} rows are left out, since group key {key} has up to {bytes} bytes: {MOST} fit into an index, compressed",
            d.name
        ),
        format!(
            "Make a rollup that groups by left({0}{text}, 500), or by md5({0}{text}), in the place of {0}: it counts them. rollup.status.long_keys says how many there are.",
            ident(key)
        ),
    )
    .report(PgLogLevel::WARNING);
    Ok(())
}
