//! Retention: how long rows of a table are kept, and which are past that. How they go is in `expire`.
use super::catalog::{self, Must};
use super::citus;
use super::error::{Result, fail};
use super::merged::Merged;
use crate::pg::deparse::shown_name;
use crate::pg::reach::TimeType;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::{ident, literal};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The retention of one table.
#[derive(Debug, Clone)]
pub struct Retention {
    /// The table.
    pub oid: pg_sys::Oid,
    /// Its name, qualified and quoted.
    pub relation: String,
    /// The column that says how old a row is.
    pub time_column: String,
    /// How long rows are kept.
    pub keep: String,
    /// The time zone in which clock times of the column are read.
    pub timezone: String,
    /// Its owner, who removes the rows.
    pub owner: pg_sys::Oid,
    /// It is the table of a rollup, or of a level.
    pub is_rollup: bool,
    /// Of a table that Citus keeps, the moment before which rows go: nodes do not share the clock and the time zone
    /// that it is computed by.
    pub cutoff: Option<String>,
    /// The signature of the function that archives partitions before they go.
    pub archive: Option<String>,
}

impl Retention {
    /// The retention of a table as it is now, its row locked until the transaction ends; None where none is set.
    pub fn locked(relation: pg_sys::Oid) -> Result<Option<Retention>> {
        let _acting = ActingAs::catalog();
        let lock = "SELECT FROM rollup.retention WHERE relation = $1 FOR NO KEY UPDATE";
        catalog::execute(lock, &[relation.into()])?;
        with_cutoff(catalog::write(RETENTION, &[relation.into()], of_row)?.pop())
    }

    /// Acts as the owner of the table, while the value lives, as rows of it are compared with what is kept.
    pub fn acting(&self) -> ActingAs {
        let acting = ActingAs::role(self.owner);
        super::session::set_timezone(&self.timezone);
        acting
    }

    /// Remembers that rows have expired.
    pub fn store_expired(&self) -> Result<()> {
        super::session::set_timezone(&self.timezone);
        catalog::execute(
            "INSERT INTO rollup.expired AS e (relation, below) VALUES ($1, pg_catalog.now() - $2::pg_catalog.interval) \
             ON CONFLICT (relation) DO UPDATE SET below = greatest(e.below, excluded.below)",
            &[self.oid.into(), self.keep.clone().into()],
        )?;
        // By another column rows go from anywhere in a rollup's time. That is known as long as the retention is there.
        catalog::execute(
            "UPDATE rollup.definition d SET whole = false WHERE d.whole AND (d.source = $1 AND d.plan->>'time_column' <> $2 \
             OR (d.relation = $1 OR EXISTS (SELECT FROM rollup.level l WHERE l.definition = d.id AND l.relation = $1)) AND d.plan->>'time_key' <> $2)",
            &[self.oid.into(), self.time_column.as_str().into()],
        )
    }
}

/// Sets, or with None ends, the retention of a table: one that is rolled up, a rollup, or any whose `time_column`
/// is given. `archive` gives what archives its partitions. `timezone` is that of clock times: by default the rollups', or for any other table the session's.
pub fn retain(
    relation: pg_sys::Oid,
    keep: Option<pgrx::datum::Interval>,
    time_column: Option<&str>,
    timezone: Option<&str>,
    archive: impl FnOnce(&str, pg_sys::Oid) -> Result<Option<String>>,
) -> Result<()> {
    let name = shown_name(relation);
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT t.relowner, (SELECT s.time_column::pg_catalog.text FROM rollup.source s WHERE s.relation = t.oid \
              UNION ALL SELECT d.plan->>'time_key' FROM rollup.definition d WHERE d.relation = t.oid \
              OR d.id IN (SELECT l.definition FROM rollup.level l WHERE l.relation = t.oid) LIMIT 1) \
             FROM pg_catalog.pg_class t WHERE t.oid = $1 AND t.relkind IN ('r', 'p')",
            &[relation.into()],
            |row| Ok((row.must::<pg_sys::Oid>(1)?, row.get::<String>(2)?)),
        )?
    };
    let Some((owner, known)) = found.into_iter().next() else {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{name} is not a table"),
            match stored_behind(relation)? {
                Some(table) => format!(
                    "It joins lookup tables to {table}, whose rows expire: SELECT rollup.retain({}, '90 days');",
                    literal(&table)
                ),
                None => "Rows of tables expire, with or without partitions.".into(),
            },
        );
    };
    catalog::check_owner(Some(owner), &format!("table {name}"))?;
    let Some(keep) = keep else {
        let _acting = ActingAs::catalog();
        return catalog::execute("DELETE FROM rollup.retention WHERE relation = $1", &[relation.into()]);
    };
    refuse_temporary(relation)?;
    let Some(column) = time_column.map(str::to_string).or(known) else {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("{name} is neither rolled up nor a rollup"),
            "Say which column holds the time: SELECT rollup.retain(relation, keep, 'column').",
        );
    };
    let zoned = check_column(relation, &name, &column)?;
    let zone = match timezone {
        Some(zone) => {
            super::clock::check_timezone(zone)?;
            zone.to_string()
        }
        None => zone_of(relation, &name, zoned)?,
    };
    let archive = archive(&name, owner)?;
    super::beside::say_how_to_expire(relation)?;
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.retention (relation, time_column, keep, timezone, archive) VALUES ($1, $2::pg_catalog.name, $3, $4, $5) \
         ON CONFLICT (relation) DO UPDATE SET keep = excluded.keep, archive = excluded.archive, time_column = excluded.time_column, timezone = excluded.timezone, failures = 0, last_error = NULL, hold_until = NULL",
        &[relation.into(), column.into(), keep.into(), zone.into(), archive.into()],
    )
}

/// Refuses a column by which rows cannot expire; whether it is a timestamptz.
fn check_column(relation: pg_sys::Oid, name: &str, column: &str) -> Result<bool> {
    let Some(of_type) = TimeType::of(relation, column) else {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!("{name} has no column {column} that holds a date or a time"),
            "Name a column of type timestamptz, timestamp or date, or of a domain over one.",
        );
    };
    let zoned = of_type == TimeType::ZONED;
    if !zoned && citus::place(relation)?.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("column {column} of {name}, which Citus keeps, is no timestamptz"),
            "What such a time is compared with depends on the time zone of sessions, which nodes do not share.",
        );
    }
    Ok(zoned)
}

/// The table of a rollup or a level that a view joins to lookup tables, by its name in the session.
fn stored_behind(view: pg_sys::Oid) -> Result<Option<String>> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::maybe::<pg_sys::Oid>(
            "SELECT d.relation::pg_catalog.oid FROM rollup.definition d WHERE d.shown = $1 UNION ALL SELECT l.relation::pg_catalog.oid FROM rollup.level l WHERE l.shown = $1",
            &[view.into()],
        )?
    };
    Ok(found.map(shown_name))
}

/// The time zone in which clock times of a table are read, where none is given: that of its rollups.
fn zone_of(relation: pg_sys::Oid, name: &str, zoned: bool) -> Result<String> {
    if zoned {
        return Ok("UTC".into());
    }
    let session = catalog::one("SELECT pg_catalog.current_setting('TimeZone')", &[])?;
    let _acting = ActingAs::catalog();
    let zones = catalog::read(
        "SELECT DISTINCT d.timezone FROM rollup.definition d WHERE d.source = $1 OR d.relation = $1 \
         OR d.id IN (SELECT l.definition FROM rollup.level l WHERE l.relation = $1) ORDER BY 1",
        &[relation.into()],
        |row| row.must::<String>(1),
    )?;
    match zones.as_slice() {
        [one] => Ok(one.clone()),
        [] => Ok(session),
        [a, b, ..] => fail(
            PgSqlErrorCode::ERRCODE_AMBIGUOUS_PARAMETER,
            format!(
                "rollups of {name} have time zones {a} and {b}, in which its times mean different moments"
            ),
            "Say which one its times are in: rollup.retain(relation, keep, timezone => 'Europe/Berlin').",
        ),
    }
}

/// Refuses a table that goes with its session.
pub fn refuse_temporary(relation: pg_sys::Oid) -> Result<()> {
    if !crate::pg::deparse::is_temporary(relation) {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        format!("{} is temporary", shown_name(relation)),
        "The worker cannot see it: use a table that stays.",
    )
}

const RETENTION: &str = "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), t.time_column::pg_catalog.text, t.keep::pg_catalog.text, c.relowner, \
  EXISTS (SELECT FROM rollup.definition d WHERE d.relation OPERATOR(pg_catalog.=) t.relation UNION ALL SELECT FROM rollup.level l WHERE l.relation OPERATOR(pg_catalog.=) t.relation), t.timezone, t.archive \
  FROM rollup.retention t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.relation JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
  WHERE t.relation OPERATOR(pg_catalog.=) $1";

fn of_row(row: &pgrx::spi::SpiHeapTupleData) -> pgrx::spi::SpiResult<Retention> {
    Ok(Retention {
        oid: row.must(1)?,
        relation: row.must(2)?,
        time_column: row.must(3)?,
        keep: row.must(4)?,
        owner: row.must(5)?,
        is_rollup: row.get(6)? == Some(true),
        timezone: row.must(7)?,
        cutoff: None,
        archive: row.get(8)?,
    })
}

fn with_cutoff(found: Option<Retention>) -> Result<Option<Retention>> {
    let Some(mut found) = found else { return Ok(None) };
    if citus::place(found.oid)?.is_some() {
        let _acting = ActingAs::catalog();
        super::session::set_timezone("UTC");
        found.cutoff = catalog::read(
            "SELECT (pg_catalog.now() - $1::pg_catalog.interval)::pg_catalog.text",
            &[found.keep.clone().into()],
            |row| row.get::<String>(1),
        )?
        .pop()
        .flatten();
    }
    Ok(Some(found))
}

/// The retention of a table; an error where none is set.
pub fn retention(relation: pg_sys::Oid) -> Result<Retention> {
    let _acting = ActingAs::catalog();
    let Some(found) = with_cutoff(catalog::read(RETENTION, &[relation.into()], of_row)?.pop())? else {
        return fail(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("no retention is set for {}", shown_name(relation)),
            "SELECT rollup.retain(table, '7 days') sets one.",
        );
    };
    Ok(found)
}

/// The condition that an expression lies before what is kept.
pub fn past(expression: &str, r: &Retention, operator: &str) -> String {
    if let Some(cutoff) = &r.cutoff {
        let cutoff = literal(cutoff);
        return format!("{expression} OPERATOR(pg_catalog.{operator}) {cutoff}::pg_catalog.timestamptz");
    }
    format!(
        "{expression} OPERATOR(pg_catalog.{operator}) (pg_catalog.now() OPERATOR(pg_catalog.-) {}::pg_catalog.interval)",
        literal(&r.keep)
    )
}

/// The rule for rows that may go: past their time, and merged by every rollup.
pub fn old_rows(r: &Retention, merged: &Merged) -> String {
    format!("{} AND {merged}", past(&ident(&r.time_column), r, "<"))
}

/// Whether a row may go. Takes no lock, and no transaction id.
pub fn any_old(r: &Retention, old: &str) -> Result<bool> {
    let _acting = r.acting();
    let found = catalog::read(&format!("SELECT true FROM {} WHERE {old} LIMIT 1", r.relation), &[], |row| {
        row.get::<bool>(1)
    })?;
    Ok(found.first().copied().flatten() == Some(true))
}

/// Remembers that everything before what is kept has gone: what comes there from now on comes too late.
pub fn store_swept(relation: pg_sys::Oid, keep: &str) -> Result<()> {
    let Some(r) = Retention::locked(relation)?.filter(|r| r.is_rollup && r.keep == keep) else {
        return Ok(());
    };
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.expired SET swept = pg_catalog.now() - $2::pg_catalog.interval WHERE relation = $1",
        &[r.oid.into(), r.keep.clone().into()],
    )
}

/// Remembers that rows of a table could not expire, and lets it rest, twice as long each time, for an hour at most; true
/// where it is not what is known already.
pub fn failed(relation: pg_sys::Oid, message: &str) -> Result<bool> {
    rests(relation, message, "1 hour")
}

/// The same where rows stayed without an error, and others went: for a minute at most.
pub fn kept(relation: pg_sys::Oid, why: &str) -> Result<bool> {
    rests(relation, why, "1 minute")
}

fn rests(relation: pg_sys::Oid, message: &str, most: &str) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let news = catalog::write(
        "WITH t AS (SELECT relation, last_error FROM rollup.retention WHERE relation = $1 FOR NO KEY UPDATE) \
         UPDATE rollup.retention r SET failures = r.failures + 1, last_error = $2, hold_until = pg_catalog.clock_timestamp() \
         + least(interval '5 seconds' * pg_catalog.power(2, least(r.failures, 10)), $3::pg_catalog.interval) \
         FROM t WHERE r.relation = t.relation RETURNING t.last_error IS DISTINCT FROM $2",
        &[relation.into(), message.into(), most.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(news.first().copied().flatten() == Some(true))
}

/// Forgets that failure, once all has gone that may.
pub fn succeeded(relation: pg_sys::Oid) -> Result<()> {
    let _acting = ActingAs::catalog();
    let failing = "SELECT true FROM rollup.retention WHERE relation = $1 AND failures > 0";
    if catalog::read(failing, &[relation.into()], |row| row.get::<bool>(1))?.is_empty() {
        return Ok(());
    }
    catalog::execute(
        "UPDATE rollup.retention SET failures = 0, last_error = NULL, hold_until = NULL WHERE relation = $1",
        &[relation.into()],
    )
}

/// A relation that has a retention.
#[derive(Debug, Clone, Copy)]
pub struct Retained {
    /// It.
    pub table: pg_sys::Oid,
    /// Its owner.
    pub owner: pg_sys::Oid,
    /// It rests until then, in microseconds since 2000.
    hold_until: Option<i64>,
}

impl Retained {
    /// Whether it does not rest.
    pub fn is_due(&self, clock: i64) -> bool {
        self.hold_until.is_none_or(|end| end <= clock)
    }
}

/// Relations that have a retention.
pub fn retained() -> Result<Vec<Retained>> {
    let _acting = ActingAs::catalog();
    catalog::read_often(
        "SELECT t.relation::pg_catalog.oid, c.relowner, t.hold_until FROM rollup.retention t JOIN pg_catalog.pg_class c ON c.oid = t.relation",
        &[],
        |row| {
            let hold_until = row.get::<TimestampWithTimeZone>(3)?.map(Into::into);
            Ok(Retained { table: row.must(1)?, owner: row.must(2)?, hold_until })
        },
    )
}
