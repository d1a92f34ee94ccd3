//! Changes of rows that were counted: triggers on the source refuse them, or record when the rows were, before and
//! after, for rollups that follow.
//!
//! Row triggers come to partitions by themselves, fire for rows written to a leaf, for rows that an UPDATE moves to
//! another partition, and for those that a subscription applies. TRUNCATE has statement triggers alone, so every
//! leaf has one; a new leaf gets it from an event trigger (see `arrange`).
//!
//! Invariant: no change is lost. Of one whose time cannot be told, since the time column is gone or is no time any more,
//! the record says all times.
use super::catalog::{self, Must};
use super::error::{Result, fail, raise, report};
use crate::pg::trigger::{self, Change, Micros};
use crate::pg::v1::Call;
use crate::pg::xact::ActingAs;
use crate::pg::zonemap::extent::{Extent, extent};
use hll_rollup::Plan;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashSet;

/// What a rollup does when raw rows change that it has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// Nothing.
    Ignore,
    /// They may not.
    Error,
    /// Their buckets are computed again.
    Recompute,
}

impl OnChange {
    /// The value of the option.
    pub fn parse(text: &str) -> Result<OnChange> {
        match text {
            "ignore" => Ok(OnChange::Ignore),
            "error" => Ok(OnChange::Error),
            "recompute" => Ok(OnChange::Recompute),
            other => fail(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("on_change is {other}"),
                "It is 'ignore', 'error' or 'recompute'.",
            ),
        }
    }

    /// The option's value.
    pub fn text(self) -> &'static str {
        match self {
            OnChange::Ignore => "ignore",
            OnChange::Error => "error",
            OnChange::Recompute => "recompute",
        }
    }
}

/// Refuses a rollup of which it cannot be told in which bucket a changed row was.
pub fn check_followed(source: pg_sys::Oid, plan: &Plan) -> Result<()> {
    let refuse = |what: String, hint: &str| fail(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, what, hint);
    if !plan.plain_key {
        let written = plan.key_column().written.clone();
        return refuse(
            format!("changes cannot be followed in buckets of {written}"),
            "on_change => 'recompute' takes date_trunc or date_bin, with constants, of the time column alone.",
        );
    }
    let generated = catalog::read(
        "SELECT attgenerated <> '' FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = $2::pg_catalog.name",
        &[source.into(), plan.time_column.clone().into()],
        |row| row.get::<bool>(1),
    )?;
    if generated.first().copied().flatten() == Some(true) {
        return refuse(
            format!("time column {} is generated", plan.time_column),
            "on_change => 'recompute' needs the column that it is generated from: group by its expression.",
        );
    }
    Ok(())
}

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1440 * MINUTE;
/// Records that a transaction remembers to have written.
const REMEMBERED: usize = 100_000;

/// A record: the source, its time column, and the first and the last moment, None for a time that is NULL.
type Note = (pg_sys::Oid, String, Option<Micros>, Option<Micros>);

thread_local! {
    static EXPIRING: RefCell<Option<Marked>> = const { RefCell::new(None) };
    /// What this part of the transaction has recorded: written once, it need not be again.
    static NOTED: RefCell<((i64, u32), HashSet<Note>)> = RefCell::new(((0, 0), HashSet::new()));
}

/// Marks one statement of ours by which rows expire, or move to a partition of their own: no change of what they say.
///
/// Invariant: what is not recorded is what this very statement does to the very tables it names. Whatever other code does
/// meanwhile (triggers, constraints, cascades; to these tables or others) is a change as any: statements that delete are
/// told apart by their number, TRUNCATE by its kind, since a table that is being truncated cannot be once more.
pub struct Expiring {
    outer: Option<Marked>,
}

struct Marked {
    relations: Vec<pg_sys::Oid>,
    /// Of rows that are deleted, the number of the statement; None: TRUNCATE.
    command: Option<u32>,
}

impl Expiring {
    /// The next statement, and it alone, deletes rows of this table.
    pub fn rows(relation: pg_sys::Oid) -> Expiring {
        Expiring::mark(Marked { relations: vec![relation], command: Some(trigger::next_command()) })
    }

    /// The next statement truncates these tables, or drops them.
    pub fn tables(relations: Vec<pg_sys::Oid>) -> Expiring {
        Expiring::mark(Marked { relations, command: None })
    }

    /// The table is one that the marked statement drops: tables are dropped by it alone, one after the other.
    pub fn drops(table: pg_sys::Oid) -> bool {
        EXPIRING.with_borrow(|marked| {
            marked.as_ref().is_some_and(|m| m.command.is_none() && m.relations.contains(&table))
        })
    }

    fn mark(marked: Marked) -> Expiring {
        Expiring { outer: EXPIRING.replace(Some(marked)) }
    }

    /// Whether it is a change that the marked statement makes.
    fn makes(change: &Change) -> bool {
        EXPIRING.with_borrow(|marked| {
            marked.as_ref().is_some_and(|m| {
                m.relations.contains(&change.relation())
                    && match m.command {
                        None => change.is_of_the_table(),
                        Some(own) => !change.is_of_the_table() && trigger::command() == Some(own),
                    }
            })
        })
    }
}

impl Drop for Expiring {
    fn drop(&mut self) {
        EXPIRING.set(self.outer.take());
    }
}

/// What the rollups of a table want of its changes.
struct Watched {
    source: pg_sys::Oid,
    name: String,
    offset: i64,
    /// A rollup that allows none.
    refused_by: Option<String>,
    /// Time columns of those that follow.
    columns: Vec<String>,
}

crate::v1!(rollup_note_change, note_change);

fn note_change(call: &mut Call) -> pg_sys::Datum {
    let Some(change) = Change::of(call) else {
        report(
            PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            "rollup_internal.note_change() was not called as a trigger",
            "rollup.create(…, on_change) puts it on the tables that need it.",
        )
        .report(PgLogLevel::ERROR);
        unreachable!("an error ends the call")
    };
    if !Expiring::makes(&change) {
        let watched = trigger::once(call, || watched(change.relation()).unwrap_or_else(raise));
        if let Some(w) = watched {
            note(w, &change).unwrap_or_else(raise);
        }
    }
    change.proceed()
}

fn watched(relation: pg_sys::Oid) -> Result<Option<Watched>> {
    let _acting = ActingAs::catalog();
    Ok(catalog::write(
        "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
         SELECT s.relation::pg_catalog.oid, s.relation::pg_catalog.text, s.stamp_offset, (SELECT min(d.name) FROM rollup.definition d WHERE d.source = s.relation AND d.on_change = 'error'), \
         ARRAY(SELECT DISTINCT d.plan->>'time_column' FROM rollup.definition d WHERE d.source = s.relation AND d.on_change = 'recompute') \
         FROM rollup.source s JOIN up ON up.relation = s.relation",
        &[relation.into()],
        |row| {
            Ok(Watched {
                source: row.must(1)?,
                name: row.must(2)?,
                offset: row.must(3)?,
                refused_by: row.get(4)?,
                columns: row.must(5)?,
            })
        },
    )?
    .pop())
}

fn note(w: &Watched, change: &Change) -> Result<()> {
    if let Some(rollup) = &w.refused_by {
        return fail(
            PgSqlErrorCode::ERRCODE_RESTRICT_VIOLATION,
            format!("rows of {} may not change: rollup {rollup} has counted them", w.name),
            "Rows may be added. A rollup made with on_change => 'recompute' follows changes, one with 'ignore' does not mind them.",
        );
    }
    for column in &w.columns {
        let Some(times) = change.times(column) else {
            note_table(w, column, change)?;
            continue;
        };
        for at in times {
            match at {
                None => write(w, column, None, None)?,
                Some(i64::MIN | i64::MAX) => write(w, column, at, at)?,
                // Days go on where time stamps have ended.
                Some(t) if t >= trigger::END => write(w, column, Some(trigger::END - DAY), Some(i64::MAX))?,
                Some(t) => {
                    let minute = t.div_euclid(MINUTE) * MINUTE;
                    write(w, column, Some(minute), Some(minute + MINUTE - 1))?;
                }
            }
        }
    }
    Ok(())
}

/// The whole of one table or partition changes: between the times that its rows have. What others were counted in, which
/// may have left the source since, stays.
fn note_table(w: &Watched, column: &str, change: &Change) -> Result<()> {
    let (times, some_without) = match extent(change.relation(), column) {
        _ if !change.is_of_the_table() => (Some((i64::MIN, i64::MAX)), true),
        Extent::Empty => (None, false),
        Extent::Times(times, some_without) => (times, some_without),
        Extent::Unknown => (Some((i64::MIN, i64::MAX)), true),
    };
    if let Some((least, greatest)) = times {
        // Days go on where time stamps have ended.
        let least = if least >= trigger::END { trigger::END - DAY } else { least };
        let greatest = if greatest >= trigger::END { i64::MAX } else { greatest };
        write(w, column, Some(least), Some(greatest))?;
    }
    if some_without {
        write(w, column, None, None)?;
    }
    Ok(())
}

fn write(w: &Watched, column: &str, since: Option<Micros>, until: Option<Micros>) -> Result<()> {
    let now = trigger::subtransaction();
    let is_new = NOTED.with_borrow_mut(|(of, noted)| {
        if *of != now || noted.len() > REMEMBERED {
            *of = now;
            noted.clear();
        }
        noted.insert((w.source, column.to_string(), since, until))
    });
    if !is_new {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.change (source, time_column, rollup_stamp, since, until) VALUES ($1, $2::pg_catalog.name, $3, $4, $5)",
        &[
            w.source.into(),
            column.into(),
            (now.0 + w.offset).into(),
            trigger::timestamptz(since),
            trigger::timestamptz(until),
        ],
    )
}

/// Forgets what came to a source in another way and every rollup of it has judged; all of it with `all`.
pub fn forget_arrivals(source: pg_sys::Oid, all: bool) -> Result<()> {
    let _acting = ActingAs::catalog();
    if !catalog::has_arrivals(source)? {
        return Ok(());
    }
    catalog::execute(
        "DELETE FROM rollup.arrival a WHERE a.source = $1 AND ($2 OR NOT EXISTS (SELECT FROM rollup.definition d WHERE d.source = a.source \
         AND d.nodes IS NULL AND (a.rollup_stamp >= d.seen_xmax OR a.rollup_stamp = ANY (d.seen_xip))))",
        &[source.into(), all.into()],
    )
}

/// Forgets changes that every rollup of the source which follows them has followed; all of them with `all`.
pub fn forget(source: pg_sys::Oid, all: bool) -> Result<()> {
    forget_arrivals(source, all)?;
    let _acting = ActingAs::catalog();
    catalog::execute(
        "DELETE FROM rollup.change c WHERE c.source = $1 AND ($2 OR NOT EXISTS (SELECT FROM rollup.definition d WHERE d.source = c.source \
         AND d.on_change = 'recompute' AND (c.rollup_stamp >= d.seen_xmax OR c.rollup_stamp = ANY (d.seen_xip))))",
        &[source.into(), all.into()],
    )
}
