//! The sub-query that stands for the raw table of a statement: stored buckets, and what is read raw.
//!
//! Invariant: each row of the raw table that satisfies the conditions is in exactly one part, at the snapshot of the
//! statement, whatever runs, expires or changes meanwhile. Which buckets of a table are used is said by the bucket alone
//! (see `table`), by what the statement itself reads of the catalog; where anything is not as it was when the text was made,
//! none is. A bucket of the coarsest table is read if it is used; one of a finer table if it is used and no coarser one that
//! it lies in is; a raw row if it is not merged, or no bucket that it lies in is used. A level is made of the rollup's own
//! buckets, in the same transactions, so that one of them has what those that it is made of have.
//!
//! A backlog has all read raw. That a bucket lies within a bound rests on buckets never decreasing with the time, above the
//! moments at which a zone's clock was put back into another day.
use super::state_text::{self, Of};
use super::table::{self, Table, state};
use crate::pg::plan::Asked;
use crate::pg::plan::matching::Column;
use crate::pg::plan::offer::Offer;
use hll_rollup::sql::{STAMP, ident, literal};
use hll_rollup::{Kind, Level, Plan, statements};

/// A level of the rollup, as it is known.
pub struct LevelMade {
    pub level: Level,
    /// From when on its buckets follow each other.
    pub clear_from: i64,
}

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
    /// Its levels, finest first.
    pub levels: &'a [LevelMade],
    /// What has expired from the source is answered, too, in whole buckets.
    pub history: bool,
}

/// Part of a condition, and true. A part of the sub-query that has a plan of its own beside it, as this is, is not read by
/// parallel workers: to start them takes longer than to read the few rows that there are, which the planner cannot know.
const ALONE: &str = "(SELECT true)";

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
    let mut parts: Vec<String> = (0..q.tables.len())
        .rev()
        .map(|n| {
            format!("SELECT {} FROM {} WHERE {}", none(q.stored()), q.tables[n].name, q.is_read_stored(n))
        })
        .collect();
    parts.push(format!(
        "SELECT {} FROM {} AS {} WHERE {ALONE} AND {}{}",
        none(q.raw()),
        m.source,
        ident(&m.plan.alias),
        q.is_read_raw(),
        q.grouping()
    ));
    format!("WITH \"the state\" AS MATERIALIZED ({}) {}", q.the_state(), parts.join(" UNION ALL "))
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
    /// The rollup's own table, and those of levels that are read.
    tables: Vec<Table<'a>>,
}

impl<'a> Question<'a> {
    fn of(m: &'a Made<'a>, offer: &'a Offer, asked: &'a Asked<'a>) -> Question<'a> {
        let plan = m.plan;
        let kind = if offer.about.grid.zoned { Kind::Zoned } else { Kind::Local };
        let prefix = statements::prefix(plan);
        let time = format!("{prefix}{}", ident(&plan.time_column));
        let bucket = plan.bucket_of_row();
        let of_offer = std::iter::once(0).chain(asked.levels.iter().map(|l| l + 1));
        let tables = of_offer
            .enumerate()
            .map(|(n, of_offer)| {
                let grid = offer.grid(of_offer);
                let bounds =
                    (asked.ask.bounds.iter().zip(&asked.bounds)).map(|(b, (at, of))| (b, *at, of[n]));
                let name = of_offer.checked_sub(1).map_or(m.table, |l| &m.levels[l].level.target);
                let width = table::longest(grid.bucket, grid.absolute);
                let (absolute, history) = (grid.absolute, m.history);
                Table { n, name, kind, absolute, width, bounds: bounds.collect(), history }
            })
            .collect();
        Question { m, offer, asked, kind, prefix, time, bucket, tables }
    }

    /// The level of a table but the first.
    fn level(&self, n: usize) -> &'a LevelMade {
        &self.m.levels[self.asked.levels[n - 1]]
    }

    /// The condition that a bucket of table `n` is read: it is used, and none that it lies in. Buckets of a finer table are
    /// looked for where the next one's are not used, and nowhere else: an index takes no part in IS TRUE.
    fn is_read_stored(&self, n: usize) -> String {
        let key = ident(&self.m.plan.time_key);
        let used = self.tables[n].is_used(&key);
        let coarser: Vec<String> = (n + 1..self.tables.len())
            .map(|c| self.tables[c].is_used(&self.level(c).level.bucket_of(&key)))
            .collect();
        match self.tables.get(n + 1) {
            None => used,
            Some(next) => format!(
                "({}) AND {used} IS TRUE AND ({}) IS NOT TRUE",
                next.unused(&key, &state_text::span(n)).join(" OR "),
                coarser.join(" OR ")
            ),
        }
    }

    /// The condition that a row is read from the raw table.
    fn is_read_raw(&self) -> String {
        let timed = if self.asked.timed { "$1 AND " } else { "" };
        let mut used = vec![self.tables[0].is_used(&self.bucket)];
        let key = &self.m.plan.key_column().expression;
        used.extend((1..self.tables.len()).map(|n| {
            self.tables[n].is_used(&format!("({})", self.level(n).level.bucket_of_expression(key)))
        }));
        let mut ranges = self.tables[0].unused(&self.time, &state_text::pieces());
        if !self.asked.timed && !self.offer.time_never_null {
            ranges.push(format!("({} IS NULL)", self.time));
        }
        format!(
            "{timed}({} OR ({}) AND ({}) IS NOT TRUE){}",
            unmerged(&self.prefix),
            ranges.join(" OR "),
            used.join(" OR "),
            self.m.plan.and_filter()
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

    /// What the statement asks of the catalog, in one row.
    fn the_state(&self) -> String {
        let of = (self.tables.iter().enumerate()).map(|(n, table)| match n {
            0 => Of { table, clear_from: self.m.clear_from, since: &self.asked.ask.since, relation: None },
            _ => {
                let of_offer = self.asked.levels[n - 1];
                Of {
                    table,
                    clear_from: self.level(n).clear_from,
                    since: self.asked.ask.levels[of_offer].as_deref().unwrap_or_default(),
                    relation: Some(self.offer.about.levels[of_offer].target),
                }
            }
        });
        let of: Vec<Of> = of.collect();
        let about = &self.offer.about;
        let state = state_text::select(about.id, self.m.generation, self.m.history, &of);
        // Said where it is answered, of ranges that are cut where something has expired.
        let cut = self.tables[0].bounds.iter().map(|(_, at, of)| {
            format!("${at} OPERATOR(pg_catalog.<>) ${of} AND ${at} OPERATOR(pg_catalog.<) t.gone")
        });
        let cut: Vec<String> = cut.collect();
        match self.m.history && !cut.is_empty() {
            false => state,
            true => format!(
                "SELECT t.*, CASE WHEN t.floor_0 OPERATOR(pg_catalog.<) 'infinity'::{} AND ({}) THEN rollup_internal.whole_buckets({}::pg_catalog.name) END AS said FROM ({state}) t",
                self.kind.type_name(),
                cut.join(" OR "),
                literal(&about.name)
            ),
        }
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
