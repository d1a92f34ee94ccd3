//! The sub-query that stands for the raw table of a statement: stored buckets, and what is read raw.
//!
//! Invariant: each row of the raw table that satisfies the conditions is in exactly one of the two, at the snapshot of the
//! statement, whatever runs, expires or changes meanwhile. `floor` is the moment from which on buckets are good: it is
//! computed by the statement itself from what it sees of the catalog, and is infinity where anything is not as it was when
//! the text was made, so that all is read raw. A bucket is used if it lies at or above the floor and wholly within the
//! bounds; of those rows the unmerged are read raw. Of all others all rows are read raw, where the time says that they lie.
//! A backlog, too, has all read raw. That a bucket lies within a bound rests on buckets never decreasing with the time, above the moments at which a zone's
//! clock was put back into another day.
use crate::pg::plan::matching::Column;
use crate::pg::plan::offer::Offer;
use crate::pg::plan::time::Bound;
use crate::pg::plan::{Asked, since};
use hll_rollup::sql::{STAMP, ident, literal};
use hll_rollup::{Bucket, Kind, Plan, statements, times};

const DAY: i64 = 86_400_000_000;
/// Microseconds since 2000 at which times of an ordinary kind begin.
const FIRST: &str = "4712-01-01 00:00:00 BC";
const LAST: &str = "290000-01-01 00:00:00";

/// What the text is made of besides the question.
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
    let stamp = format!("{prefix}{}", STAMP);
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
    let q = Question::of(m, offer, asked);
    let none = |columns: Vec<String>| if columns.is_empty() { "1 AS c1".into() } else { columns.join(", ") };
    format!(
        "WITH \"the state\" AS MATERIALIZED ({}) SELECT {} FROM {} WHERE {} UNION ALL SELECT {} FROM {} AS {} WHERE {}{}",
        q.the_state(),
        none(q.stored()),
        m.table,
        q.is_used(&ident(&m.plan.time_key)),
        none(q.raw()),
        m.source,
        ident(&m.plan.alias),
        q.is_read_raw(),
        q.grouping()
    )
}

/// A question to one rollup, with what its parts have in common.
struct Question<'a> {
    m: &'a Made<'a>,
    offer: &'a Offer,
    asked: &'a Asked<'a>,
    kind: Kind,
    /// What stands before columns of the raw table.
    prefix: String,
    /// The time of a raw row.
    time: String,
    /// The bucket of a raw row.
    bucket: String,
    /// Microseconds of the longest bucket.
    width: i64,
}

impl<'a> Question<'a> {
    fn of(m: &'a Made<'a>, offer: &'a Offer, asked: &'a Asked<'a>) -> Question<'a> {
        let plan = m.plan;
        let grid = &offer.about.grid;
        let kind = if grid.zoned { Kind::Zoned } else { Kind::Local };
        let prefix = statements::prefix(plan);
        let time = format!("{prefix}{}", ident(&plan.time_column));
        let bucket = plan.bucket_of_row();
        let width = longest(plan.bucket, grid.absolute);
        Question { m, offer, asked, kind, prefix, time, bucket, width }
    }

    /// Buckets lie on moments, so that where one begins no row of it lies before.
    fn absolute(&self) -> bool {
        self.offer.about.grid.absolute
    }

    /// The condition that the bucket `k` lies within the bounds; with `whole`, that a part of it does.
    fn within(&self, k: &str, whole: bool) -> String {
        let absolute = self.absolute();
        let all: Vec<String> = (self.asked.ask.bounds.iter().zip(&self.asked.bounds))
            .map(|(b, (at, of))| match (b.lower, b.inclusive) {
                // Of what has expired a bucket is taken whole where a part of it is asked for.
                (true, _) if whole => format!("{k} OPERATOR(pg_catalog.>=) ${of}"),
                (false, false) if whole && absolute => format!("{k} OPERATOR(pg_catalog.<) ${at}"),
                (false, _) if whole => format!("{k} OPERATOR(pg_catalog.<=) ${of}"),
                (true, inclusive) if absolute => {
                    format!("{k} OPERATOR(pg_catalog.{}) ${at}", if inclusive { ">=" } else { ">" })
                }
                (true, _) => format!("{k} OPERATOR(pg_catalog.>) ${of}"),
                (false, _) => format!("{k} OPERATOR(pg_catalog.<) ${of}"),
            })
            .collect();
        all.join(" AND ")
    }

    /// The condition that the stored bucket `k` is used.
    fn is_used(&self, k: &str) -> String {
        let good = format!(
            "{k} OPERATOR(pg_catalog.>=) {} AND {k} OPERATOR(pg_catalog.<) 'infinity'::{}",
            state("floor"),
            self.kind.type_name()
        );
        match (self.asked.bounds.is_empty(), self.m.history) {
            (true, _) => format!("({good})"),
            (false, false) => format!("({good} AND {})", self.within(k, false)),
            (false, true) => format!(
                "({good} AND {} AND ({k} OPERATOR(pg_catalog.<) {} OR {}))",
                self.within(k, true),
                state("gone"),
                self.within(k, false)
            ),
        }
    }

    /// Where rows of buckets that are not used lie. The planner takes a range to hold few rows, and half of one a third of
    /// the table.
    fn ranges(&self) -> Vec<String> {
        let (time, t) = (&self.time, self.kind.type_name());
        let mut ranges = vec![
            format!(
                "({time} OPERATOR(pg_catalog.>=) '-infinity'::{t} AND {time} OPERATOR(pg_catalog.<) {})",
                state("reach")
            ),
            format!(
                "({time} OPERATOR(pg_catalog.>=) '{LAST}'::{t} AND {time} OPERATOR(pg_catalog.<=) 'infinity'::{t})"
            ),
        ];
        for (b, (at, of)) in self.asked.ask.bounds.iter().zip(&self.asked.bounds) {
            let (low, high) = self.beside_bound(b, *at, *of);
            ranges.push(format!(
                "({time} OPERATOR(pg_catalog.>=) {low} AND {time} OPERATOR(pg_catalog.<=) {high})"
            ));
        }
        if !self.asked.timed && !self.offer.time_never_null {
            ranges.push(format!("({time} IS NULL)"));
        }
        ranges
    }

    /// From when to when rows can lie whose bucket a bound cuts: the parameter `at` is the bound, `of` its bucket.
    fn beside_bound(&self, b: &Bound, at: usize, of: usize) -> (String, String) {
        let (t, width) = (self.kind.type_name(), self.width);
        if b.lower {
            // What is known is added now.
            let high = match b.constant {
                true => format!("(${at} OPERATOR(pg_catalog.+) '{width} microseconds'::pg_catalog.interval)"),
                false => times::later(self.kind, &format!("${at}"), width),
            };
            return (format!("${at}"), high);
        }
        // A bucket may begin an hour late where a clock shows midnight twice.
        let low = match self.absolute() {
            true => format!("${of}"),
            false => format!(
                "CASE WHEN ${of} OPERATOR(pg_catalog.>) '{FIRST}'::{t} THEN ${of} OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval ELSE '-infinity'::{t} END"
            ),
        };
        (low, format!("${at}"))
    }

    /// The condition that a row is read from the raw table.
    fn is_read_raw(&self) -> String {
        let timed = if self.asked.timed { "$1 AND " } else { "" };
        let filter = self.m.plan.and_filter();
        format!(
            "{timed}({} OR {} IS NOT TRUE AND ({})){filter}",
            unmerged(&self.prefix),
            self.is_used(&self.bucket),
            self.ranges().join(" OR ")
        )
    }

    fn name(&self, c: &Column) -> &str {
        match c {
            Column::Key(n) => &self.offer.keys[*n].name,
            Column::Time => &self.m.plan.time_key,
            Column::Value(n) => &self.offer.values[*n].name,
        }
    }

    /// The columns of stored buckets.
    fn stored(&self) -> Vec<String> {
        let columns = self.asked.ask.columns.iter().enumerate();
        columns.map(|(n, c)| format!("{} AS c{}", ident(self.name(c)), n + 1)).collect()
    }

    /// The columns of raw rows.
    fn raw(&self) -> Vec<String> {
        let (time, bucket, t) = (&self.time, &self.bucket, self.kind.type_name());
        let columns = self.asked.ask.columns.iter().enumerate();
        columns
            .map(|(n, c)| match c {
                // What is the same for all rows of a bucket is so from `clear` on; the time itself is right at all times.
                Column::Time => format!(
                    "CASE WHEN {bucket} OPERATOR(pg_catalog.>=) {} AND {bucket} OPERATOR(pg_catalog.<) 'infinity'::{t} THEN {bucket} ELSE {time} END AS c{}",
                    state("clear"),
                    n + 1
                ),
                _ => {
                    let column = self.m.plan.column(self.name(c)).expect("an offer is of the plan's columns");
                    format!("{} AS c{}", column.expression, n + 1)
                }
            })
            .collect()
    }

    /// How raw rows are grouped.
    fn grouping(&self) -> String {
        let keys: Vec<String> = (self.asked.ask.columns.iter().enumerate())
            .filter(|(_, c)| !matches!(c, Column::Value(_)))
            .map(|(n, _)| (n + 1).to_string())
            .collect();
        match (keys.is_empty(), self.asked.ask.grouped) {
            (false, _) => format!(" GROUP BY {}", keys.join(", ")),
            (true, true) => " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0".into(),
            (true, false) => String::new(),
        }
    }

    /// What the statement asks of the catalog, in one row: how far rows are merged; `floor`, from which on buckets are used,
    /// and `reach`, before which rows of others lie; `clear`, from which on expressions over the time are the same for all rows
    /// of a bucket.
    fn the_state(&self) -> String {
        let (m, kind) = (self.m, self.kind);
        let t = kind.type_name();
        let (now, asks) = since(&self.asked.ask.since);
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
        let lifted = |at: &str| match (kind, self.absolute()) {
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
            times::later(kind, &format!("({floor})"), self.width),
            self.offer.about.id,
            m.generation,
            m.history
        )
    }
}

/// The merge of each value, over the table itself.
pub fn merged(plan: &Plan, table: &str) -> String {
    let columns: Vec<String> = plan
        .values()
        .map(|(c, m)| format!("{} AS {}", statements::merge_many(c, m), ident(&c.name)))
        .collect();
    format!("SELECT {} FROM {table}", columns.join(", "))
}
