//! Which buckets the change records of a rollup concern, as SQL. How they are computed again is in `change`.
use super::catalog::{self, Definition, Must};
use super::error::Result;
use super::reach;
use crate::pg::reach::TimeType;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Bucket, Frontier, Kind, Level, Plan, sql as bounds, statements, times};

/// Changed buckets are widened until they make so few pieces of time at most.
const PIECES: i64 = 32;
/// As far as ranges are ever widened: a third of all time there is.
const MARGIN: i64 = 3_000_000_000_000_000_000;
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 86_400_000_000;

/// Which records concern a rollup, and how its buckets are written.
pub struct Changes<'a> {
    plan: &'a Plan,
    zone: &'a str,
    /// The source and the rollup's table, as expressions that give their ids.
    pub source: String,
    pub target: String,
    /// The condition that a record has not been followed.
    pending: String,
    notes: Notes,
    id: i64,
}

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notes {
    /// Of rows that changed: what can be computed again counts.
    Changes,
    /// Of rows that came in another way.
    Arrivals,
}

impl<'a> Changes<'a> {
    /// The records that the run from `seen` to `now` follows.
    pub fn of(
        d: &Definition,
        plan: &'a Plan,
        zone: &'a str,
        seen: &Frontier,
        now: &Frontier,
        notes: Notes,
    ) -> Result<Changes<'a>> {
        let (source, target, _) = d.parts()?;
        let oid = |name: &str| format!("{}::pg_catalog.regclass", literal(name));
        Ok(Changes {
            plan,
            zone,
            source: oid(source),
            target: oid(target),
            pending: bounds::new("n.", seen, now),
            notes,
            id: d.id,
        })
    }

    /// The records that no run has followed, the state read by the statement itself: for views.
    pub fn of_view(plan: &'a Plan, zone: &'a str, id: i64) -> Changes<'a> {
        let of = |column: &str| format!("(SELECT d.{column} FROM rollup.definition d WHERE d.id = {id})");
        Changes {
            plan,
            zone,
            source: of("source"),
            target: of("relation"),
            pending: bounds::current::unmerged("n.", id),
            notes: Notes::Changes,
            id,
        }
    }

    pub fn kind(&self) -> Kind {
        self.plan.column(&self.plan.time_key).and_then(|c| Kind::of(&c.sql_type)).unwrap_or(Kind::Zoned)
    }

    fn key_type(&self) -> &'static str {
        self.kind().type_name()
    }

    /// The type of ranges of keys, without `range` or `multirange`.
    pub fn ranges(&self) -> &'static str {
        match self.kind() {
            Kind::Zoned => "pg_catalog.tstz",
            Kind::Local => "pg_catalog.ts",
            Kind::Date => "pg_catalog.date",
        }
    }

    /// The records, by the rights of the run's role or of the live view's owner.
    pub fn records(&self) -> String {
        let of = match self.notes {
            Notes::Changes => "rollup_internal.changes",
            Notes::Arrivals => "rollup_internal.arrivals",
        };
        format!("{of}({}, {})", self.source, literal(&self.plan.time_column))
    }

    pub fn notes(&self) -> String {
        self.pending.clone()
    }

    /// A select of the bucket of a record's moment, as `k`.
    pub fn bucket_of(&self, moment: &str) -> String {
        let time =
            if self.plan.time_zoned { moment.to_string() } else { format!("({moment} AT TIME ZONE 'UTC')") };
        let key = self.plan.column(&self.plan.time_key).map_or("", |c| c.expression.as_str());
        format!(
            "(SELECT ({key})::{} AS k FROM (SELECT {time} AS {}) AS {})",
            self.key_type(),
            ident(&self.plan.time_column),
            ident(&self.plan.alias)
        )
    }

    /// The first bucket of which everything is in a relation; NULL where nothing has gone.
    pub fn floor(&self, relation: &str) -> String {
        let below = match self.kind() {
            Kind::Zoned => "e.below".to_string(),
            _ => format!(
                "((e.below + interval '1 day') AT TIME ZONE {})::{}",
                literal(self.zone),
                self.key_type()
            ),
        };
        format!("(SELECT {below} FROM rollup.expired e WHERE e.relation = {relation})")
    }

    /// The buckets of the records, each `slack` longer than it is; of changes, where raw rows are all there.
    pub fn fine(&self, slack: i64) -> String {
        let r = self.ranges();
        let whole = match self.notes {
            Notes::Changes => {
                format!(" * {r}multirange({r}range({}, NULL)) - {}", self.floor(&self.source), self.lost())
            }
            Notes::Arrivals => String::new(),
        };
        format!(
            "(SELECT pg_catalog.range_agg({r}range(least(lo.k, hi.k), {}, '[]')) \
             FROM {} n, LATERAL {} lo, LATERAL {} hi WHERE n.since IS NOT NULL AND {}){whole}",
            times::later(
                self.kind(),
                "greatest(lo.k, hi.k)",
                width(self.plan.bucket).saturating_add(slack).min(MARGIN)
            ),
            self.records(),
            self.bucket_of("n.since"),
            self.bucket_of("n.until"),
            self.notes()
        )
    }

    /// The buckets of which raw rows have left (see `lost`).
    pub fn lost(&self) -> String {
        let r = self.ranges();
        format!(
            "(SELECT coalesce(pg_catalog.range_agg({r}range(least(lo.k, hi.k), greatest(lo.k, hi.k), '[]')), '{{}}'::{r}multirange) \
             FROM rollup_internal.lost_rows({}) n, LATERAL {} lo, LATERAL {} hi WHERE n.since IS NOT NULL)",
            self.id,
            self.bucket_of("n.since"),
            self.bucket_of("n.until")
        )
    }

    /// A row without time has changed, and none has left.
    pub fn nulls(&self) -> String {
        let changed =
            format!("EXISTS (SELECT FROM {} n WHERE n.since IS NULL AND {})", self.records(), self.notes());
        match self.notes {
            Notes::Changes => format!(
                "({changed} AND NOT EXISTS (SELECT FROM rollup_internal.lost_rows({}) l WHERE l.since IS NULL))",
                self.id
            ),
            Notes::Arrivals => changed,
        }
    }

    /// The buckets of a level that these ranges of buckets touch.
    pub fn coarse(&self, level: &Level, fine: &str) -> String {
        coarse_of(self.ranges(), level, fine)
    }

    /// The least and the greatest time of rows in a range of buckets, `r`.
    pub fn times(&self) -> [String; 2] {
        let exact = match self.kind() {
            Kind::Zoned => self.plan.time_zoned && self.zone.eq_ignore_ascii_case("utc"),
            _ => !self.plan.time_zoned,
        };
        // Clocks have been set by a day where a country changed sides of the date line.
        let margin =
            width(self.plan.bucket).saturating_add(if exact { 0 } else { DAY + DAY / 24 }).min(MARGIN);
        let zone = literal(self.zone);
        let moment = |end: &str| match (self.kind(), self.plan.time_zoned) {
            (Kind::Zoned, true) => end.to_string(),
            (Kind::Zoned, false) => format!("({end} AT TIME ZONE {zone})"),
            (_, true) => format!("({end}::pg_catalog.timestamp AT TIME ZONE {zone})"),
            (_, false) => format!("{end}::pg_catalog.timestamp"),
        };
        let time = if self.plan.time_zoned { TimeType::ZONED } else { TimeType::LOCAL };
        let ends = ["pg_catalog.lower(r)", "pg_catalog.upper(r)"];
        reach::around(self.kind(), time, ends, moment, margin)
    }
}

/// The buckets of a level that ranges of buckets touch, whose type is `r` without `range` or `multirange`.
pub fn coarse_of(r: &str, level: &Level, fine: &str) -> String {
    let k = |end: &str| level.bucket_of(&format!("pg_catalog.{end}(r)"));
    format!(
        "(SELECT pg_catalog.range_agg({r}range({}, {}, '[]')) FROM pg_catalog.unnest({fine}) r)",
        k("lower"),
        k("upper")
    )
}

/// How long a bucket is at most.
fn width(bucket: Bucket) -> i64 {
    match bucket {
        Bucket::Unknown => 0,
        Bucket::Fixed { length, .. } => length,
        Bucket::Months(m) => 31 * DAY * i64::from(m),
    }
}

/// Buckets to compute again.
pub struct Touched {
    kind: &'static str,
    fine: Option<String>,
    nulls: bool,
    /// The condition that only their rows satisfy, and others that lie beside.
    pub rows: String,
}

/// The buckets of all records; None where there are none.
pub fn touched(c: &Changes) -> Result<Option<Touched>> {
    let time = ident(&c.plan.time_column);
    let prefix = statements::prefix(c.plan);
    let time_type = if c.plan.time_zoned { "pg_catalog.timestamptz" } else { "pg_catalog.timestamp" };
    let [from, to] = c.times();
    let between = literal(&format!(
        "{} BETWEEN %L::{time_type} AND %L::{time_type}",
        format!("{prefix}{time}").replace('%', "%%")
    ));
    let mut slack = 0;
    loop {
        let found = catalog::write(
            &format!(
                "WITH f AS MATERIALIZED (SELECT {} AS fine, {} AS nulls) SELECT f.fine::pg_catalog.text, f.nulls, \
                 (SELECT count(*) FROM pg_catalog.unnest(f.fine) r), \
                 (SELECT pg_catalog.string_agg(pg_catalog.format({between}, {from}, {to}), ' OR ') FROM pg_catalog.unnest(f.fine) r) FROM f",
                c.fine(slack),
                c.nulls(),
            ),
            &[],
            |row| {
                Ok((
                    row.get::<String>(1)?,
                    row.get::<bool>(2)? == Some(true),
                    row.must::<i64>(3)?,
                    row.get::<String>(4)?,
                ))
            },
        )?;
        let Some((fine, nulls, pieces, rows)) = found.into_iter().next() else { return Ok(None) };
        if pieces > PIECES {
            slack = slack.max(MINUTE).saturating_mul(8);
            continue;
        }
        let fine = fine.filter(|f| f != "{}");
        if fine.is_none() && !nulls {
            return Ok(None);
        }
        let no_time = nulls.then(|| format!("{prefix}{time} IS NULL"));
        let rows: Vec<String> = rows.into_iter().chain(no_time).collect();
        return Ok(Some(Touched { kind: c.ranges(), fine, nulls, rows: format!("({})", rows.join(" OR ")) }));
    }
}

impl Touched {
    /// The condition that a key is of one of the buckets.
    pub fn condition(&self, key: &str) -> String {
        let fine = self.fine.as_ref().map(|f| format!("{key} <@ {}::{}multirange", literal(f), self.kind));
        let null = self.nulls.then(|| format!("{key} IS NULL"));
        let both: Vec<String> = fine.into_iter().chain(null).collect();
        format!("({})", both.join(" OR "))
    }

    /// The same of a level's buckets: those whose groups are all in the rollup's table.
    pub fn level_condition(&self, c: &Changes, level: &Level) -> Result<impl Fn(&str) -> String> {
        let coarse = match &self.fine {
            None => None,
            Some(f) => catalog::write(
                &format!(
                    "SELECT ({} * {k}multirange({k}range({}, NULL)))::pg_catalog.text",
                    c.coarse(level, &format!("{}::{}multirange", literal(f), self.kind)),
                    c.floor(&c.target),
                    k = self.kind
                ),
                &[],
                |row| row.get::<String>(1),
            )?
            .pop()
            .flatten(),
        };
        let of_level = Touched { kind: self.kind, fine: coarse, nulls: self.nulls, rows: String::new() };
        Ok(move |key: &str| of_level.condition(key))
    }
}
