//! Newcomers of which it cannot be told whether they were counted (see `newcomers`): what becomes of them, and what is said.
use super::catalog::{self, Definition};
use super::error::{Result, report};
use crate::pg::xact::ActingAs;
use hll_rollup::sql::literal;
use hll_rollup::{CHANGED, Plan};
use pgrx::prelude::*;

/// Newcomers of a group of which it cannot be told whether they were counted.
pub struct Left {
    /// Who brought them.
    pub came: i64,
    /// How many.
    pub rows: i64,
    /// From when to when they are; None: without time.
    pub since: Option<TimestampWithTimeZone>,
    /// See `since`.
    pub until: Option<TimestampWithTimeZone>,
}

/// Notes their times as changed, in the name of who brought them: this run computes the buckets again.
pub fn compute_again(d: &Definition, plan: &Plan, stamp: i64, left: &[Left]) -> Result<()> {
    let _acting = ActingAs::catalog();
    for group in left {
        catalog::execute(
            "INSERT INTO rollup.change (source, time_column, rollup_stamp, since, until) VALUES ($1, $2::pg_catalog.name, $3, $4, $5)",
            &[
                d.source_oid.into(),
                plan.time_column.clone().into(),
                stamp.into(),
                group.since.into(),
                group.until.into(),
            ],
        )?;
    }
    Ok(())
}

/// Counts them, and says so once of each who brought them.
pub fn leave_out(d: &Definition, source: &str, left: &[Left]) -> Result<()> {
    let mut by: std::collections::BTreeMap<i64, (i64, i64)> = Default::default();
    for group in left {
        let of = by.entry(group.came).or_default();
        *of = (of.0 + group.rows, of.1 + 1);
    }
    for (came, (rows, groups)) in by {
        if came == CHANGED {
            changed_left_out(d, source, rows, groups)?;
            continue;
        }
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.definition SET left_out = left_out + $2 WHERE id = $1",
            &[d.id.into(), rows.into()],
        )?;
        let news = catalog::write(
            "WITH n AS (UPDATE rollup.arrival SET told = true WHERE source = $1 AND NOT told AND (rollup_stamp = $2 AND xid IS NOT NULL OR xid IS NULL AND relation::pg_catalog.oid::pg_catalog.int8 = - $2) RETURNING 1) \
             SELECT pg_catalog.count(*) > 0 FROM n",
            &[d.source_oid.into(), came.into()],
            |row| row.get::<bool>(1),
        )?;
        if news.first() != Some(&Some(true)) {
            continue;
        }
        let who = match u32::try_from(-came) {
            Ok(table) => crate::pg::deparse::shown_name(pg_sys::Oid::from(table)),
            Err(_) => format!("transaction {}", came - d.offset),
        };
        report(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "rollup {}: {rows} rows of {groups} groups that came to {source} with {who}, bringing stamps of their own, are left out: it cannot be told whether they were counted, since other rows of their groups have changed, or came with them",
                d.name
            ),
            check_hint(&d.name),
        )
        .report(PgLogLevel::WARNING);
    }
    Ok(())
}

/// The same of rows that were changed: newcomers of their times may be among them.
fn changed_left_out(d: &Definition, source: &str, rows: i64, groups: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET left_out = left_out + $2 WHERE id = $1",
        &[d.id.into(), rows.into()],
    )?;
    report(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "rollup {}: {rows} rows of {groups} groups of {source} are left out: they were changed since the last run, in times to which rows came bringing stamps of their own, and it cannot be told whether they were counted",
            d.name
        ),
        check_hint(&d.name),
    )
    .report(PgLogLevel::WARNING);
    Ok(())
}

fn check_hint(name: &str) -> String {
    format!(
        "SELECT * FROM rollup.check({0}) shows the groups; SELECT rollup.rebuild({0}) computes all groups again from the raw rows that are there, with two times after the name those between them.",
        literal(name)
    )
}
