//! Retention: old rows go, and a raw row never before every rollup of its table has counted it.
use super::bounds;
use super::catalog::{self, Definition};
use super::error::{Result, fail};
use super::old_partitions::{self, Dropped, Partition};
use super::progress::Progress;
use super::sql;
use super::sweep::{self, Leaf};
use crate::pg::xact::{ActingAs, in_subtransaction};
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
}

impl Retention {
    /// The retention of a table as it is now, its row locked until the transaction ends; None where none is set.
    pub fn locked(relation: pg_sys::Oid) -> Result<Option<Retention>> {
        let _acting = ActingAs::catalog();
        let lock = "SELECT FROM rollup.retention WHERE relation = $1 FOR NO KEY UPDATE";
        catalog::execute(lock, &[relation.into()])?;
        with_cutoff(catalog::write(RETENTION, &[relation.into()], of_row)?.pop())
    }

    /// Remembers that rows have expired.
    pub fn store_expired(&self) -> Result<()> {
        super::run::set_timezone(&self.timezone);
        catalog::execute(
            "INSERT INTO rollup.expired AS e (relation, below) VALUES ($1, pg_catalog.now() - $2::pg_catalog.interval) \
             ON CONFLICT (relation) DO UPDATE SET below = greatest(e.below, excluded.below)",
            &[self.oid.into(), self.keep.clone().into()],
        )
    }
}

/// Sets, or with None ends, the retention of a table: one that is rolled up, a rollup, or any whose `time_column`
/// is given. `timezone` is that of clock times: by default the rollups', or for any other table the session's.
pub fn retain(
    relation: pg_sys::Oid,
    keep: Option<pgrx::datum::Interval>,
    time_column: Option<&str>,
    timezone: Option<&str>,
) -> Result<()> {
    let name = name_of(relation)?;
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT t.relowner, (SELECT s.time_column::pg_catalog.text FROM rollup.source s WHERE s.relation = t.oid \
              UNION ALL SELECT d.plan->>'time_key' FROM rollup.definition d WHERE d.relation = t.oid \
              OR d.id IN (SELECT l.definition FROM rollup.level l WHERE l.relation = t.oid) LIMIT 1) \
             FROM pg_catalog.pg_class t WHERE t.oid = $1 AND t.relkind IN ('r', 'p')",
            &[relation.into()],
            |row| Ok((row.get::<pg_sys::Oid>(1)?, row.get::<String>(2)?)),
        )?
    };
    let Some((owner, known)) = found.into_iter().next() else {
        return fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{name} is not a table"),
            "Rows of tables expire, with or without partitions.",
        );
    };
    catalog::check_owner(owner, &format!("table {name}"))?;
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
    let is_time = catalog::read(
        "SELECT a.atttypid = 'pg_catalog.timestamptz'::pg_catalog.regtype FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attname = $2::pg_catalog.name AND a.attnum > 0 AND NOT a.attisdropped \
         AND a.atttypid IN ('pg_catalog.timestamptz'::pg_catalog.regtype, 'pg_catalog.timestamp'::pg_catalog.regtype, 'pg_catalog.date'::pg_catalog.regtype)",
        &[relation.into(), column.clone().into()],
        |row| row.get::<bool>(1),
    )?;
    if is_time.is_empty() {
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!("{name} has no column {column} that holds a date or a time"),
            "Name a column of type timestamptz, timestamp or date.",
        );
    }
    if is_time.first() != Some(&Some(true)) && super::citus::place(relation)?.is_some() {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("column {column} of {name}, which Citus keeps, is no timestamptz"),
            "What such a time is compared with depends on the time zone of sessions, which nodes do not share.",
        );
    }
    let zone = match timezone {
        Some(zone) => {
            super::create::check_timezone(zone)?;
            zone.to_string()
        }
        None => zone_of(relation, &name, is_time.first() == Some(&Some(true)))?,
    };
    super::beside::say_how_to_expire(relation)?;
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.retention (relation, time_column, keep, timezone) VALUES ($1, $2::pg_catalog.name, $3, $4) \
         ON CONFLICT (relation) DO UPDATE SET keep = excluded.keep, time_column = excluded.time_column, timezone = excluded.timezone, failures = 0, last_error = NULL, hold_until = NULL",
        &[relation.into(), column.into(), keep.into(), zone.into()],
    )
}

/// The time zone in which clock times of a table are read, where none is given: that of its rollups.
fn zone_of(relation: pg_sys::Oid, name: &str, zoned: bool) -> Result<String> {
    if zoned {
        return Ok("UTC".into());
    }
    let session =
        catalog::read("SELECT pg_catalog.current_setting('TimeZone')", &[], |row| row.get::<String>(1))?;
    let _acting = ActingAs::catalog();
    let zones = catalog::read(
        "SELECT DISTINCT d.timezone FROM rollup.definition d WHERE d.source = $1 OR d.relation = $1 \
         OR d.id IN (SELECT l.definition FROM rollup.level l WHERE l.relation = $1) ORDER BY 1",
        &[relation.into()],
        |row| row.get::<String>(1),
    )?;
    match zones.as_slice() {
        [Some(one)] => Ok(one.clone()),
        [] => session.into_iter().flatten().next().ok_or_else(|| super::error::internal("no time zone")),
        [a, b, ..] => fail(
            PgSqlErrorCode::ERRCODE_AMBIGUOUS_PARAMETER,
            format!(
                "rollups of {name} have time zones {} and {}, in which its times mean different moments",
                a.as_deref().unwrap_or_default(),
                b.as_deref().unwrap_or_default()
            ),
            "Say which one its times are in: rollup.retain(relation, keep, timezone => 'Europe/Berlin').",
        ),
        [None] => Err(super::error::internal("a rollup without time zone")),
    }
}

/// Refuses a table that goes with its session.
pub fn refuse_temporary(relation: pg_sys::Oid) -> Result<()> {
    if !crate::pg::deparse::is_temporary(relation) {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        format!("{} is temporary", name_of(relation)?),
        "The worker cannot see it: use a table that stays.",
    )
}

/// The name of a relation, qualified where the caller's search_path does not find it.
pub fn name_of(relation: pg_sys::Oid) -> Result<String> {
    Ok(crate::pg::deparse::shown_name(relation))
}

const RETENTION: &str = "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), t.time_column::pg_catalog.text, t.keep::pg_catalog.text, c.relowner, \
  EXISTS (SELECT FROM rollup.definition d WHERE d.relation OPERATOR(pg_catalog.=) t.relation UNION ALL SELECT FROM rollup.level l WHERE l.relation OPERATOR(pg_catalog.=) t.relation), t.timezone \
  FROM rollup.retention t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.relation JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
  WHERE t.relation OPERATOR(pg_catalog.=) $1";

fn of_row(row: &pgrx::spi::SpiHeapTupleData) -> pgrx::spi::SpiResult<Retention> {
    Ok(Retention {
        oid: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
        relation: row.get(2)?.unwrap_or_default(),
        time_column: row.get(3)?.unwrap_or_default(),
        keep: row.get(4)?.unwrap_or_default(),
        owner: row.get(5)?.unwrap_or(pg_sys::InvalidOid),
        is_rollup: row.get(6)? == Some(true),
        timezone: row.get(7)?.unwrap_or_default(),
        cutoff: None,
    })
}

fn with_cutoff(found: Option<Retention>) -> Result<Option<Retention>> {
    let Some(mut found) = found else { return Ok(None) };
    if super::citus::place(found.oid)?.is_some() {
        let _acting = ActingAs::catalog();
        super::run::set_timezone("UTC");
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
            format!("no retention is set for {}", name_of(relation)?),
            "SELECT rollup.retain(table, '7 days') sets one.",
        );
    };
    Ok(found)
}

/// True of an expression that lies before what is kept.
pub fn past(expression: &str, r: &Retention, operator: &str) -> String {
    if let Some(cutoff) = &r.cutoff {
        let cutoff = sql::literal(cutoff);
        return format!("{expression} OPERATOR(pg_catalog.{operator}) {cutoff}::pg_catalog.timestamptz");
    }
    format!(
        "{expression} OPERATOR(pg_catalog.{operator}) (pg_catalog.now() OPERATOR(pg_catalog.-) {}::pg_catalog.interval)",
        sql::literal(&r.keep)
    )
}

/// True of rows that every one of these rollups has merged.
pub fn merged_by_all(definitions: &[Definition]) -> Result<String> {
    let mut rules = vec!["true".to_string()];
    for d in definitions {
        d.check_cluster()?;
        rules.push(bounds::merged("", &d.plan()?, &d.state));
        if d.state.nodes.is_none() {
            // Rows that came with stamps of others are to be judged first, and need those beside them for that.
            rules.push(format!(
                "NOT EXISTS (SELECT FROM rollup.arrivals({}::pg_catalog.oid) n WHERE {})",
                d.source_oid.to_u32(),
                bounds::unfinished("n.", &d.state.seen)
            ));
        }
        if d.follows {
            // A bucket that is to be computed again needs its rows.
            rules.push(format!(
                "NOT EXISTS (SELECT FROM rollup.changes({}::pg_catalog.oid) n WHERE {})",
                d.source_oid.to_u32(),
                bounds::unfinished("n.", &d.state.seen)
            ));
        }
    }
    Ok(rules.join(" AND "))
}

/// The rule for rows that may go: past their time, and merged by every rollup.
pub fn old_rows(r: &Retention, definitions: &[Definition]) -> Result<String> {
    Ok(format!("{} AND {}", past(&sql::ident(&r.time_column), r, "<"), merged_by_all(definitions)?))
}

/// True where a row may go. Takes no lock, and no transaction id.
pub fn any_old(r: &Retention, old: &str) -> Result<bool> {
    let _acting = ActingAs::role(r.owner);
    super::run::set_timezone(&r.timezone);
    let found = catalog::read(&format!("SELECT true FROM {} WHERE {old} LIMIT 1", r.relation), &[], |row| {
        row.get::<bool>(1)
    })?;
    Ok(found.first().copied().flatten() == Some(true))
}

/// What may go of a table as the calling statement sees it: partitions to drop, and tables with rows to remove.
pub fn find(relation: pg_sys::Oid) -> Result<(Retention, Vec<Partition>)> {
    let r = retention(relation)?;
    let partitions = old_partitions::partitions(&r)?;
    Ok((r, partitions))
}

/// Tables with rows to remove, beside partitions that could not be dropped just now and will be.
pub fn find_rows(r: &Retention, force: bool, waiting: &[Partition]) -> Result<Vec<Leaf>> {
    let definitions = if force { Vec::new() } else { catalog::of_source(r.oid, false)? };
    let old = old_rows(r, &definitions)?;
    if any_old(r, &old)? { sweep::leaves(r, &old, waiting) } else { Ok(Vec::new()) }
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

/// Removes, in the caller's transaction, everything that may go; returns the rows removed. `force` does not ask
/// whether rollups have them; `dry_run` removes nothing, and tells of what would go.
pub fn expire(relation: pg_sys::Oid, dry_run: bool, force: bool) -> Result<i64> {
    let (r, partitions) = find(relation)?;
    catalog::check_owner(Some(r.owner), &format!("table {}", r.relation))?;
    if dry_run {
        for p in &partitions {
            notice!("partition {} would be dropped", p.name);
        }
        let definitions = if force { Vec::new() } else { catalog::of_source(relation, false)? };
        let old = old_rows(&r, &definitions)?;
        let _acting = ActingAs::role(r.owner);
        super::run::set_timezone(&r.timezone);
        let count = format!("SELECT pg_catalog.count(*) FROM {} WHERE {old}", r.relation);
        return Ok(catalog::read(&count, &[], |row| row.get::<i64>(1))?
            .first()
            .copied()
            .flatten()
            .unwrap_or(0));
    }
    let mut progress = Progress::of(format!("rollup.expire of {}", r.relation));
    let (mut total, mut waiting) = (0, Vec::new());
    for p in partitions {
        progress.tell(&p.name);
        let failed = match in_subtransaction(|| old_partitions::drop_partition(relation, &p, force)) {
            Ok(Dropped::Yes) => {
                notice!("partition {} was dropped", p.name);
                continue;
            }
            // It has been detached, or is kept for longer by now.
            Ok(Dropped::NotOld) => continue,
            Ok(Dropped::Unmerged) => "rows of it are not rolled up yet".to_string(),
            Err(e) if !sweep::in_use(e.code) => e.message,
            // Its table is in use; it may be itself that is not.
            Err(e) => match in_subtransaction(|| old_partitions::empty_partition(relation, &p, force)) {
                Ok(rows) => {
                    total += rows;
                    format!("{}; its rows are gone", e.message)
                }
                Err(e) => e.message,
            },
        };
        notice!("partition {} stays: {failed}", p.name);
        waiting.push(p);
    }
    for leaf in find_rows(&r, force, &waiting)? {
        let mut leaf = Some(leaf);
        while let Some(pages) = leaf {
            progress.tell(&pages.progress());
            total += sweep::clear(relation, &pages, force)?;
            leaf = pages.after();
        }
    }
    if total > 0 {
        store_swept(relation, &r.keep)?;
    }
    Ok(total)
}

/// Remembers that rows of a table could not expire, and lets it rest, twice as long each time, for an hour at most; true
/// where it is not what is known already.
pub fn failed(relation: pg_sys::Oid, message: &str) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let news = catalog::write(
        "WITH t AS (SELECT relation, last_error FROM rollup.retention WHERE relation = $1 FOR NO KEY UPDATE) \
         UPDATE rollup.retention r SET failures = r.failures + 1, last_error = $2, hold_until = pg_catalog.clock_timestamp() \
         + least(interval '5 seconds' * pg_catalog.power(2, least(r.failures, 10)), interval '1 hour') \
         FROM t WHERE r.relation = t.relation RETURNING t.last_error IS DISTINCT FROM $2",
        &[relation.into(), message.into()],
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

/// Relations that have a retention and do not rest, with the owner of each.
pub fn retained() -> Result<Vec<(pg_sys::Oid, pg_sys::Oid)>> {
    let _acting = ActingAs::catalog();
    catalog::read(
        "SELECT t.relation::pg_catalog.oid, c.relowner FROM rollup.retention t JOIN pg_catalog.pg_class c ON c.oid = t.relation \
         WHERE t.hold_until IS NULL OR t.hold_until <= pg_catalog.clock_timestamp()",
        &[],
        |row| Ok((row.get(1)?.unwrap_or(pg_sys::InvalidOid), row.get(2)?.unwrap_or(pg_sys::InvalidOid))),
    )
}
