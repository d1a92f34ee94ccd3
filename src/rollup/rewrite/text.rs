//! The sub-query that stands for the raw table of a statement: stored buckets, and what is read raw.
//!
//! Invariant: each row of the raw table that satisfies the conditions is in exactly one of the two, at the snapshot of the
//! statement, whatever runs, expires or changes meanwhile. `floor` is the moment from which on buckets are good: it is
//! computed by the statement itself from what it sees of the catalog, and is infinity where anything is not as it was when
//! the text was made, so that all is read raw. A bucket is used if it lies at or above the floor and wholly within the
//! bounds; of those rows the unmerged are read raw. Of all others all rows are read raw, where the time says that they lie.
//! A backlog, too, has all read raw. That a bucket lies within a bound rests on buckets never decreasing with the time, above the moments at which a zone's
//! clock was put back into another day.
use super::super::plan::Plan;
use super::super::reach;
use super::super::sql::{self, ident, list, literal};
use crate::pg::plan::matching::Column;
use crate::pg::plan::offer::Offer;
use crate::pg::plan::{Asked, since};
use hll_rollup::{Bucket, Kind};

const DAY: i64 = 86_400_000_000;
/// Microseconds since 2000 at which times of an ordinary kind begin.
const FIRST: &str = "4712-01-01 00:00:00 BC";
const LAST: &str = "290000-01-01 00:00:00";

/// What the text is made of beside the question.
pub struct Made<'a> {
    pub plan: &'a Plan,
    /// The source, qualified and quoted.
    pub source: &'a str,
    /// The table that buckets are read from.
    pub table: &'a str,
    /// The count of changes of the definition.
    pub generation: i64,
    /// From when on days of its zone follow each other, or hours are in step; in microseconds since 2000.
    pub clear_from: i64,
    /// What has expired from the source is answered, too, in whole buckets.
    pub history: bool,
}

fn state(value: &str) -> String {
    format!("(SELECT {value} FROM \"the state\")")
}

/// A moment as a constant of a key's type.
fn moment(kind: Kind, at: i64) -> String {
    let t = kind.type_name();
    format!("('2000-01-01 00:00:00+00'::{t} OPERATOR(pg_catalog.+) '{at} microseconds'::pg_catalog.interval)")
}

/// The longest that a bucket can be; where clocks change, that included.
fn longest(bucket: Bucket, absolute: bool) -> i64 {
    let longest = match bucket {
        Bucket::Unknown => 0,
        Bucket::Fixed { length, .. } => length,
        Bucket::Months(m) => (i64::from(m) * 31).saturating_mul(DAY),
    };
    longest.saturating_add(if absolute { 0 } else { DAY + DAY / 12 }).min(i64::MAX / 8)
}

/// Rows that are not merged. The planner does not know the bounds: each part is a range, of which it expects few rows.
fn unmerged(prefix: &str) -> String {
    let stamp = format!("{prefix}{}", sql::STAMP);
    let from = |value: &str| {
        format!(
            "{stamp} OPERATOR(pg_catalog.>=) {} AND {stamp} OPERATOR(pg_catalog.<) 9223372036854775807",
            state(value)
        )
    };
    format!(
        "({} OR {} AND {stamp} OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.int8[]))",
        from("seen_xmax"),
        from("first_open"),
        state("seen_xip")
    )
}

/// The sub-query, whose columns are called c1, c2, … in the order in which they were asked for.
pub fn sub_query(m: &Made, offer: &Offer, asked: &Asked) -> String {
    let plan = m.plan;
    let grid = &offer.about.grid;
    let kind = if grid.zoned { Kind::Zoned } else { Kind::Local };
    let t = kind.type_name();
    let (prefix, key) = (sql::prefix(plan), ident(&plan.time_key));
    let time = format!("{prefix}{}", ident(&plan.time_column));
    let bucket = plan.column(&plan.time_key).map(|c| format!("({})", c.expression)).unwrap_or_default();
    let starts = grid.absolute;

    // Which buckets are used.
    let within = |k: &str, whole: bool| {
        let all: Vec<String> = (asked.ask.bounds.iter().zip(&asked.bounds))
            .map(|(b, (at, of))| match (b.lower, b.inclusive) {
                // Of what has expired a bucket is taken whole where a part of it is asked for.
                (true, _) if whole => format!("{k} OPERATOR(pg_catalog.>=) ${of}"),
                (false, false) if whole && starts => format!("{k} OPERATOR(pg_catalog.<) ${at}"),
                (false, _) if whole => format!("{k} OPERATOR(pg_catalog.<=) ${of}"),
                // Where a bucket begins no row of it lies before.
                (true, inclusive) if starts => {
                    format!("{k} OPERATOR(pg_catalog.{}) ${at}", if inclusive { ">=" } else { ">" })
                }
                (true, _) => format!("{k} OPERATOR(pg_catalog.>) ${of}"),
                (false, _) => format!("{k} OPERATOR(pg_catalog.<) ${of}"),
            })
            .collect();
        all.join(" AND ")
    };
    let inside = |k: &str| {
        let good = format!(
            "{k} OPERATOR(pg_catalog.>=) {} AND {k} OPERATOR(pg_catalog.<) 'infinity'::{t}",
            state("floor")
        );
        match (asked.bounds.is_empty(), m.history) {
            (true, _) => format!("({good})"),
            (false, false) => format!("({good} AND {})", within(k, false)),
            (false, true) => format!(
                "({good} AND {} AND ({k} OPERATOR(pg_catalog.<) {} OR {}))",
                within(k, true),
                state("gone"),
                within(k, false)
            ),
        }
    };
    // Where the rows of others lie. The planner takes a range to hold few rows, and half of one a third of the table.
    let width = longest(plan.bucket, starts);
    let mut ranges = vec![
        format!(
            "{time} OPERATOR(pg_catalog.>=) '-infinity'::{t} AND {time} OPERATOR(pg_catalog.<) {}",
            state("reach")
        ),
        format!(
            "{time} OPERATOR(pg_catalog.>=) '{LAST}'::{t} AND {time} OPERATOR(pg_catalog.<=) 'infinity'::{t}"
        ),
    ];
    for (b, (at, of)) in asked.ask.bounds.iter().zip(&asked.bounds) {
        let (low, high) = match b.lower {
            true => (
                format!("${at}"),
                match b.constant {
                    // What is known is added now.
                    true => {
                        format!("(${at} OPERATOR(pg_catalog.+) '{width} microseconds'::pg_catalog.interval)")
                    }
                    false => reach::later(kind, &format!("${at}"), width),
                },
            ),
            // A bucket may begin an hour late where a clock shows midnight twice.
            false if starts => (format!("${of}"), format!("${at}")),
            false => (
                format!(
                    "CASE WHEN ${of} OPERATOR(pg_catalog.>) '{FIRST}'::{t} THEN ${of} OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval ELSE '-infinity'::{t} END"
                ),
                format!("${at}"),
            ),
        };
        ranges
            .push(format!("{time} OPERATOR(pg_catalog.>=) {low} AND {time} OPERATOR(pg_catalog.<=) {high}"));
    }
    if !asked.timed && !offer.time_never_null {
        ranges.push(format!("{time} IS NULL"));
    }
    let ranges: Vec<String> = ranges.iter().map(|r| format!("({r})")).collect();

    let keys: Vec<String> = asked
        .ask
        .columns
        .iter()
        .enumerate()
        .filter(|(_, c)| !matches!(c, Column::Value(_)))
        .map(|(n, _)| (n + 1).to_string())
        .collect();
    let name = |c: &Column| match c {
        Column::Key(n) => offer.keys[*n].name.as_str(),
        Column::Time => plan.time_key.as_str(),
        Column::Value(n) => offer.values[*n].name.as_str(),
    };
    let stored: Vec<String> = asked
        .ask
        .columns
        .iter()
        .enumerate()
        .map(|(n, c)| format!("{} AS c{}", ident(name(c)), n + 1))
        .collect();
    let raw: Vec<String> = asked
        .ask
        .columns
        .iter()
        .enumerate()
        .map(|(n, c)| {
            let expression = plan.column(name(c)).map(|c| c.expression.clone()).unwrap_or_default();
            match c {
                // What is the same for all rows of a bucket is so from `clear` on; the time itself is right at all times.
                Column::Time => format!(
                    "CASE WHEN {bucket} OPERATOR(pg_catalog.>=) {} AND {bucket} OPERATOR(pg_catalog.<) 'infinity'::{t} THEN {bucket} ELSE {time} END AS c{}",
                    state("clear"),
                    n + 1
                ),
                _ => format!("{expression} AS c{}", n + 1),
            }
        })
        .collect();
    let filter = plan.filter.as_ref().map(|f| format!(" AND ({f})")).unwrap_or_default();
    let timed = if asked.timed { "$1 AND " } else { "" };
    let unmerged = unmerged(&prefix);
    let grouping = match (keys.is_empty(), asked.ask.grouped) {
        (false, _) => format!(" GROUP BY {}", keys.join(", ")),
        (true, true) => " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0".into(),
        (true, false) => String::new(),
    };
    let none = |columns: Vec<String>| if columns.is_empty() { "1 AS c1".into() } else { columns.join(", ") };
    format!(
        "WITH \"the state\" AS MATERIALIZED ({}) SELECT {} FROM {} WHERE {} UNION ALL SELECT {} FROM {} AS {} WHERE {timed}({unmerged} OR {} IS NOT TRUE AND ({})){filter}{grouping}",
        the_state(m, offer, asked, kind, width),
        none(stored),
        m.table,
        inside(&key),
        none(raw),
        m.source,
        ident(&plan.alias),
        inside(&bucket),
        ranges.join(" OR ")
    )
}

/// What the statement asks of the catalog, in one row: how far rows are merged; `floor`, from which on buckets are used,
/// and `reach`, before which rows of others lie; `clear`, from which on expressions over the time are the same for all rows
/// of a bucket.
fn the_state(m: &Made, offer: &Offer, asked: &Asked, kind: Kind, width: i64) -> String {
    let t = kind.type_name();
    let (now, asks) = since(&asked.ask.since);
    let mut clear = vec![format!("'{FIRST}'::{t}")];
    let from = now.into_iter().chain((m.clear_from != i64::MIN).then_some(m.clear_from)).max();
    clear.extend(from.map(|at| moment(kind, at)));
    for (step, zone) in asks {
        let zone = zone.map_or("NULL".into(), |z| literal(&z));
        clear.push(format!("rollup_internal.in_step_from({step}, {zone}::pg_catalog.text)"));
    }
    let clear = match &clear[..] {
        [one] => one.clone(),
        several => format!("greatest({})", several.join(", ")),
    };
    // Expiry goes by moments: clock times by some zone's clock, and a bucket may begin late where clocks change. A bucket
    // that begins at what has expired, or later, is whole.
    let lifted = |at: &str| match (kind, offer.about.grid.absolute) {
        (Kind::Zoned, true) => at.to_string(),
        (Kind::Zoned, false) => format!("({at} OPERATOR(pg_catalog.+) '2 days'::pg_catalog.interval)"),
        _ => format!("(({at} OPERATOR(pg_catalog.+) '2 days'::pg_catalog.interval) AT TIME ZONE 'UTC')"),
    };
    let below = lifted("s.below");
    let gone = match m.history {
        true => format!(", coalesce({}, '-infinity'::{t}) AS gone", lifted("s.raw_below")),
        false => String::new(),
    };
    let floor = format!("CASE WHEN s.good THEN greatest({clear}, {below}) ELSE 'infinity'::{t} END");
    format!(
        "SELECT s.seen_xmax, s.first_open, s.seen_xip, {clear} AS clear, {floor} AS floor, {} AS reach{gone} FROM rollup_internal.state_of({}, {}, {}) s",
        reach::later(kind, &format!("({floor})"), width),
        offer.about.id,
        m.generation,
        m.history
    )
}

/// The merge of each value, over the table itself.
pub fn merged(plan: &Plan, table: &str) -> String {
    let columns = list(plan.columns.iter().filter(|c| c.merge().is_some()), |c| {
        c.merge().map(|m| format!("{} AS {}", sql::merge_many(c, m), ident(&c.name))).unwrap_or_default()
    });
    format!("SELECT {columns} FROM {table}")
}
