//! Attempts of rollups to run: which are due, what became of them, how long one that failed rests.
//!
//! A run and its end are one transaction; its start, and a failure, are transactions of their own. So a start that
//! has no end is that of a run which was cut off.
use super::catalog::Must;
use super::citus::narrow::Runs;
use super::error::{Result, fail};
use super::history::{nothing_to_do, remember};
use super::settings;
use super::waiting::New;
use super::{catalog, partition, run};
use crate::pg::told;
use crate::pg::xact::{ActingAs, clock};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// The version of the catalog that this library works with.
pub const LIBRARY_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A rollup that is run every so often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its owner; None where its table and its source are gone.
    pub owner: Option<pg_sys::Oid>,
    /// Its source.
    pub source: pg_sys::Oid,
    /// Its next run is due then, in microseconds since 2000; at the beginning of time: at once.
    due_at: i64,
    /// Its last run was then, or never.
    last_run: Option<i64>,
    /// It has a backlog.
    pub backlog: bool,
    /// Its last run failed.
    pub failing: bool,
    /// Its rows are written on the nodes of a cluster.
    pub on_nodes: bool,
}

impl Due {
    /// Its next run is due. A clock that was set back makes it due: its last run seems to lie ahead.
    pub fn is_due(&self, clock: i64) -> bool {
        clock >= self.due_at || self.last_run.is_some_and(|at| at > clock.saturating_add(AHEAD))
    }
}

/// Last runs that lie so many microseconds ahead are those of another clock.
const AHEAD: i64 = 1_000_000;

/// When the next run of an active rollup is due, of a row of `rollup.attempt`, `a`, and one of `rollup.definition`, `d`: with a
/// backlog at once.
const DUE_AT: &str = "CASE WHEN a.last_run IS NULL OR (d.backlog_to_xmax IS NOT NULL AND a.failures = 0) THEN '-infinity' \
    ELSE coalesce(a.hold_until, a.last_run + d.every) END";

/// The version of the extension in this database; None where there is none.
pub fn catalog_version() -> Result<Option<String>> {
    let found = catalog::read_often(
        "SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'hll'",
        &[],
        |row| row.get::<String>(1),
    )?;
    Ok(found.into_iter().next().flatten())
}

/// What is set for sessions of this database, whoever begins them.
pub fn settings_of_database() -> Result<String> {
    let _acting = ActingAs::catalog();
    let found = catalog::read_often(
        "SELECT pg_catalog.string_agg(pg_catalog.concat(s.setdatabase, s.setconfig), ';' ORDER BY s.setdatabase) FROM pg_catalog.pg_db_role_setting s \
         WHERE s.setrole = 0 AND s.setdatabase IN (SELECT 0 UNION ALL SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())",
        &[],
        |row| row.get::<String>(1),
    )?;
    // Where nothing is set there is nothing to put together.
    Ok(first(found).unwrap_or_default())
}

/// The active rollups, the one that has waited longest first. What is said of them changes with the tables it is read from, and
/// with nothing else: when they are due is a time, and no answer.
pub fn scheduled() -> Result<Vec<Due>> {
    let _acting = ActingAs::catalog();
    let sql = format!(
        "SELECT d.id, d.name, d.relation::pg_catalog.oid, d.source::pg_catalog.oid, {DUE_AT}, d.backlog_to_xmax IS NOT NULL, a.failures > 0, \
         d.last_owner, d.system_id, a.last_run, d.nodes IS NOT NULL FROM rollup.definition d \
         LEFT JOIN rollup.attempt a ON a.id = d.id WHERE d.state = 'active' AND d.every IS NOT NULL AND d.relation IS NOT NULL AND d.source IS NOT NULL ORDER BY a.last_run NULLS FIRST, d.id"
    );
    catalog::read_often(&sql, &[], |row| {
        let source = row.must(4)?;
        Ok(Due {
            id: row.must(1)?,
            name: row.must(2)?,
            owner: catalog::owner(row, [row.get(3)?, Some(source)], 8)?.0,
            source,
            due_at: row.must::<TimestampWithTimeZone>(5)?.into(),
            last_run: row.get::<TimestampWithTimeZone>(10)?.map(Into::into),
            backlog: row.get(6)? == Some(true),
            failing: row.get(7)? == Some(true),
            on_nodes: row.must(11)?,
        })
    })
}

fn first<T>(rows: Vec<Option<T>>) -> Option<T> {
    rows.into_iter().next().flatten()
}

/// Writes that a run starts, if it has rows to merge, is still due, and no other run of the rollup is on. Where a start is there
/// already, the process that wrote it has ended in its run, without an error: that was a failure, after which the rollup
/// rests as after any other.
pub fn begin(id: i64) -> Result<bool> {
    // What cannot be told by looking is asked here, in a process of the owner's.
    let is_due = match run::look(id)? {
        New::Came => true,
        New::Nothing | New::Locked => false,
        New::Unknown => run::has_rows(id)?,
    };
    if !is_due {
        nothing_to_do(id)?;
        return Ok(false);
    }
    let _acting = ActingAs::catalog();
    let begun = catalog::write(
        &format!(
            "WITH free AS MATERIALIZED (SELECT d.id FROM rollup.definition d WHERE d.id = $1 FOR NO KEY UPDATE SKIP LOCKED) \
             INSERT INTO rollup.attempt AS a (id, started) SELECT id, pg_catalog.clock_timestamp() FROM free \
             ON CONFLICT (id) DO UPDATE SET started = excluded.started \
             WHERE EXISTS (SELECT FROM rollup.definition d WHERE d.id = a.id AND d.state = 'active' AND d.every IS NOT NULL \
             AND (pg_catalog.clock_timestamp() >= {DUE_AT} OR a.last_run > pg_catalog.clock_timestamp() + interval '1 microsecond' * $2)) \
             RETURNING (SELECT b.started IS NOT NULL FROM rollup.attempt b WHERE b.id = a.id)"
        ),
        &[id.into(), AHEAD.into()],
        // NULL: it is the first.
        |row| Ok(row.get::<bool>(1)? == Some(true)),
    )?;
    match begun.first() {
        None => Ok(false),
        Some(false) => Ok(true),
        Some(true) => fail(
            PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
            "the process that ran it ended before the run did",
            "It was ended by an administrator, by the scheduler since other owners waited for it, or by what its query calls.",
        ),
    }
}

/// Takes the start of a run back that did not come to run.
fn not_begun(id: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    // Where somebody else has the row, it is their run that takes the start back.
    catalog::execute_often(
        "UPDATE rollup.attempt SET started = NULL WHERE id = (SELECT a.id FROM rollup.attempt a WHERE a.id = $1 AND a.started IS NOT NULL FOR UPDATE SKIP LOCKED)",
        &[id.into()],
    )
}

/// Runs a rollup, unless another run of it is on, which then does the work; returns the raw rows merged.
pub fn run(id: i64, how_much: run::HowMuch) -> Result<i64> {
    let _runs = Runs::begin();
    let free = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT true FROM rollup.definition WHERE id = $1 FOR UPDATE SKIP LOCKED",
            &[id.into()],
            |row| row.get::<bool>(1),
        )?
    };
    let rows = if first(free) == Some(true) { run::run_one(id, how_much)? } else { 0 };
    not_begun(id)?;
    Ok(rows)
}

/// What is known of a rollup whose run has failed.
pub struct Failed {
    /// Failures in a row; 0: the rollup was dropped just now.
    pub failures: i32,
    /// Why it is paused, where it is.
    pub paused: Option<String>,
}

impl Failed {
    /// Whether it is to be written into the log: at the first, the second, the fourth failure in a row and so on, and where
    /// nothing was written of this owner for an hour.
    pub fn is_news(&self, owner: pg_sys::Oid) -> bool {
        let seldom = u32::try_from(self.failures).is_ok_and(u32::is_power_of_two) || self.paused.is_some();
        told::is_quiet(owner, if seldom { A_MINUTE } else { AN_HOUR })
    }
}

const A_MINUTE: u32 = 60;
const AN_HOUR: u32 = 3600;

/// How many rollups of an owner fail beside this one.
pub fn others_failing(id: i64, owner: pg_sys::Oid) -> Result<i64> {
    let _acting = ActingAs::catalog();
    catalog::one(
        "SELECT pg_catalog.count(*) FROM rollup.attempt a JOIN rollup.definition d ON d.id = a.id JOIN pg_catalog.pg_class c ON c.oid = d.relation \
         WHERE a.failures > 0 AND d.state = 'active' AND c.relowner = $2 AND d.id <> $1",
        &[id.into(), owner.into()],
    )
}

/// Remembers that a run failed, in a transaction that the run is not part of. The rollup rests, twice as long each
/// time, give or take a quarter so that those that failed together do not all come back together. After as many
/// failures in a row as the settings allow it is paused.
pub fn failed(id: i64, message: &str) -> Result<Failed> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.attempt (id) SELECT d.id FROM rollup.definition d WHERE d.id = $1 FOR KEY SHARE SKIP LOCKED ON CONFLICT DO NOTHING",
        &[id.into()],
    )?;
    remember(id, 0, 0, Some(message))?;
    let failures = catalog::write(
        "UPDATE rollup.attempt a SET last_run = pg_catalog.clock_timestamp(), failures = a.failures + 1, failed = a.failed + 1, \
         last_error = $2, started = NULL, hold_until = pg_catalog.clock_timestamp() + (0.75 + pg_catalog.random() / 2) * \
         LEAST(w.first * pg_catalog.power(2, LEAST(a.failures, 20)), GREATEST(5 * coalesce(d.every, w.first), w.first)) \
         FROM rollup.definition d, (SELECT interval '1 millisecond' * $3 AS first) w WHERE a.id = $1 AND d.id = a.id RETURNING a.failures",
        &[id.into(), message.into(), settings::retry_delay().into()],
        |row| row.get::<i32>(1),
    )?;
    // The rollup may have been dropped just now.
    let failures = first(failures).unwrap_or(0);
    let most = settings::max_failures();
    if failures == 0 || most == 0 || failures < most {
        return Ok(Failed { failures, paused: None });
    }
    let reason = format!("paused after {failures} failures in a row, the last: {message}");
    catalog::execute("UPDATE rollup.definition SET state = 'paused' WHERE id = $1", &[id.into()])?;
    catalog::execute(
        "UPDATE rollup.attempt SET paused_for = $2 WHERE id = $1",
        &[id.into(), reason.clone().into()],
    )?;
    Ok(Failed { failures, paused: Some(reason) })
}

/// What was said of the last failure of a rollup, where it failed in the same way.
pub fn previous_message(id: i64, message: &str) -> Result<Option<String>> {
    let _acting = ActingAs::catalog();
    let said = catalog::read(
        "SELECT last_error FROM rollup.attempt WHERE id = $1 AND pg_catalog.starts_with(last_error, $2)",
        &[id.into(), message.into()],
        |row| row.get::<String>(1),
    )?;
    Ok(first(said))
}

/// Forgets failures, for a rollup that is to run again.
pub fn forgive(id: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.attempt SET failures = 0, hold_until = NULL, paused_for = NULL, started = NULL WHERE id = $1",
        &[id.into()],
    )
}

/// Once when the scheduler has started: lets rollups rest in whose run the server crashed, and returns their names.
///
/// `rollup.uptime` is unlogged: a crash empties it, an orderly shutdown does not. A run that was cut off in order,
/// by an administrator who ended the worker or stopped the server, has nothing to rest for.
pub fn after_start() -> Result<Vec<String>> {
    let _acting = ActingAs::catalog();
    let text = |row: &pgrx::spi::SpiHeapTupleData| row.get::<String>(1);
    let known = catalog::read("SELECT 'known' FROM rollup.uptime", &[], text)?;
    if !known.is_empty() {
        let unfinished =
            catalog::read("SELECT 'started' FROM rollup.attempt WHERE started IS NOT NULL", &[], text)?;
        if !unfinished.is_empty() {
            // Whoever holds one of these rows, by rollup.resume in an open transaction, keeps nobody waiting.
            catalog::execute(
                "UPDATE rollup.attempt SET started = NULL WHERE id IN \
                 (SELECT a.id FROM rollup.attempt a WHERE a.started IS NOT NULL FOR UPDATE SKIP LOCKED)",
                &[],
            )?;
        }
        return Ok(Vec::new());
    }
    let crashed = catalog::write(
        "SELECT a.id, d.name FROM rollup.attempt a JOIN rollup.definition d ON d.id = a.id WHERE a.started IS NOT NULL \
         FOR UPDATE OF a SKIP LOCKED",
        &[],
        |row| Ok((row.must::<i64>(1)?, row.must::<String>(2)?)),
    )?;
    for (id, _) in &crashed {
        failed(*id, "the server crashed while it ran: it rests for the time of setting rollup.crash_hold")?;
        catalog::execute(
            "UPDATE rollup.attempt SET hold_until = pg_catalog.clock_timestamp() + interval '1 millisecond' * $2 WHERE id = $1",
            &[(*id).into(), settings::crash_hold().into()],
        )?;
    }
    catalog::execute("INSERT INTO rollup.uptime VALUES (pg_catalog.clock_timestamp())", &[])?;
    Ok(crashed.into_iter().map(|(_, name)| name).collect())
}

/// Makes missing partitions, and runs what is due and the caller may run, in the caller's transaction, each in a part of it that can fail alone;
/// returns the raw rows merged.
pub fn run_due() -> Result<i64> {
    let _runs = Runs::begin();
    partition::make_due()?;
    let mut rows = 0;
    for d in scheduled()? {
        if !d.is_due(clock()) || catalog::check_owner(d.owner, &d.name).is_err() {
            continue;
        }
        let done = crate::pg::xact::in_subtransaction(|| {
            let pending = run::has_rows(d.id)?;
            if pending {
                return run(d.id, run::HowMuch::All);
            }
            nothing_to_do(d.id)?;
            Ok(0)
        });
        match done {
            Ok(merged) => rows += merged,
            Err(e) => {
                let message = super::diagnose::explain(d.id, &e);
                let state = if failed(d.id, &message)?.paused.is_some() { "is paused" } else { "failed" };
                told::bounded(d.owner, || warning!("rollup {} {state}: {message}", d.name));
            }
        }
    }
    Ok(rows)
}
