//! What is stored of runs, in their own transactions: when, how many rows, and that what failed before is over.
use super::catalog;
use super::error::Result;
use super::settings;
use crate::pg::xact::ActingAs;

/// Remembers a run that merged rows, in its transaction.
pub fn succeeded(id: i64, rows: i64, groups: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute_often(
        "INSERT INTO rollup.attempt AS a (id, last_run, last_rows, runs) VALUES ($1, pg_catalog.clock_timestamp(), $2, 1) \
         ON CONFLICT (id) DO UPDATE SET last_run = excluded.last_run, last_rows = excluded.last_rows, runs = a.runs + 1, \
         failures = 0, last_error = NULL, started = NULL, hold_until = NULL",
        &[id.into(), rows.into()],
    )?;
    if groups == 0 {
        return Ok(());
    }
    remember(id, rows, groups, None)
}

/// Puts a run into the history, and lets the oldest go.
pub fn remember(id: i64, rows: i64, groups: i64, error: Option<&str>) -> Result<()> {
    catalog::execute_often(
        "INSERT INTO rollup.run (definition, started, finished, rows_in, groups, error) \
         SELECT d.id, CASE WHEN $4 IS NULL THEN pg_catalog.statement_timestamp() ELSE coalesce(a.started, pg_catalog.statement_timestamp()) END, \
         pg_catalog.clock_timestamp(), $2, $3, $4 FROM rollup.definition d LEFT JOIN rollup.attempt a ON a.id = d.id WHERE d.id = $1",
        &[id.into(), rows.into(), groups.into(), error.map(str::to_string).into()],
    )?;
    catalog::execute_often(
        "DELETE FROM rollup.run WHERE definition = $1 AND id <= \
         (SELECT id FROM rollup.run WHERE definition = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)",
        &[id.into(), settings::history_keep().into()],
    )
}

/// A rollup was looked at, and there is nothing to merge: what it failed over is over.
pub fn nothing_to_do(id: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    let failing =
        catalog::read_often("SELECT failures > 0 FROM rollup.attempt WHERE id = $1", &[id.into()], |row| {
            row.get::<bool>(1)
        })?;
    if failing.first() != Some(&Some(true)) {
        return Ok(());
    }
    // Who holds the row, by rollup.resume in an open transaction, keeps nobody waiting: the scheduler looks for all owners.
    catalog::execute(
        "UPDATE rollup.attempt SET failures = 0, last_error = NULL, hold_until = NULL \
         WHERE id = (SELECT a.id FROM rollup.attempt a WHERE a.id = $1 FOR UPDATE SKIP LOCKED)",
        &[id.into()],
    )
}
