//! Spans of time keys, and what of them can still be computed from raw rows.
use super::catalog::{self, Definition};
use super::error::{Result, fail, internal};
use crate::pg::literal;
use crate::pg::xact::ActingAs;
use hll_rollup::{Kind, Plan};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

/// Time keys from one moment to before another.
#[derive(Debug, Clone, Default)]
pub struct Range {
    from: Option<String>,
    to: Option<String>,
    kind: Option<Kind>,
    zone: String,
    holes: Option<Holes>,
}

/// A moment as text that means the same in every session.
pub fn text(moment: Option<TimestampWithTimeZone>) -> Result<Option<String>> {
    let Some(moment) = moment else { return Ok(None) };
    Ok(catalog::read("SELECT pg_catalog.timezone('UTC', $1)::pg_catalog.text", &[moment.into()], |row| {
        row.get::<String>(1)
    })?
    .into_iter()
    .flatten()
    .next())
}

impl Range {
    /// Keys of this rollup between two moments; None is without bound.
    pub fn of(plan: &Plan, zone: &str, from: Option<String>, to: Option<String>) -> Range {
        let kind = plan.key_kind();
        Range { from, to, kind, zone: zone.to_string(), holes: None }
    }

    /// A moment as a value that keys are compared with.
    pub fn moment(&self, text: &str) -> String {
        let moment = format!("({}::pg_catalog.timestamp AT TIME ZONE 'UTC')", literal(text));
        match self.kind {
            None | Some(Kind::Zoned) => moment,
            Some(_) => format!("({moment} AT TIME ZONE {})", literal(&self.zone)),
        }
    }

    /// The condition that `key` lies in the range.
    pub fn holds(&self, key: &str) -> String {
        let bound = |operator: &str, bound: &Option<String>| {
            bound.as_ref().map(|b| format!("{key} OPERATOR(pg_catalog.{operator}) {}", self.moment(b)))
        };
        let holes = self.holes.as_ref().map(|holes| format!("NOT {}", holes.holds(key)));
        let bounds: Vec<String> =
            [bound(">=", &self.from), bound("<", &self.to), holes].into_iter().flatten().collect();
        if bounds.is_empty() { "true".into() } else { format!("({})", bounds.join(" AND ")) }
    }

    /// The range without buckets whose raw rows have left.
    pub fn without(self, holes: Option<Holes>) -> Range {
        Range { holes, ..self }
    }

    /// Whether it is without some.
    pub fn has_holes(&self) -> bool {
        self.holes.is_some()
    }

    /// The lower bound.
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// The upper bound.
    pub fn to(&self) -> Option<&str> {
        self.to.as_deref()
    }

    /// The range without what lies before any of these moments.
    pub fn after(&self, floors: &[Option<String>]) -> Result<Range> {
        let mut range = self.clone();
        for floor in floors.iter().flatten() {
            range.from = Some(match &range.from {
                None => floor.clone(),
                Some(from) => later(from, floor)?,
            });
        }
        Ok(range)
    }
}

fn later(a: &str, b: &str) -> Result<String> {
    catalog::read(
        "SELECT greatest($1::pg_catalog.timestamp, $2::pg_catalog.timestamp)::pg_catalog.text",
        &[a.into(), b.into()],
        |row| row.get::<String>(1),
    )?
    .into_iter()
    .flatten()
    .next()
    .ok_or_else(|| internal("no later moment"))
}

/// Buckets that begin at this moment or later have all their rows in this relation; None where nothing has gone. A
/// key without time zone may be a day off from the time that expiry went by.
pub fn whole_from(relation: &str, plan: &Plan) -> Result<Option<String>> {
    let kind = plan.key_kind();
    let margin = if kind == Some(Kind::Zoned) { "0" } else { "1 day" };
    let _acting = ActingAs::catalog();
    Ok(catalog::read(
        "SELECT pg_catalog.timezone('UTC', below + $2::pg_catalog.interval)::pg_catalog.text FROM rollup.expired WHERE relation = $1::pg_catalog.regclass",
        &[relation.into(), margin.into()],
        |row| row.get::<String>(1),
    )?
    .into_iter()
    .flatten()
    .next())
}

/// Refuses a range that begins before `floor`: of earlier buckets, `what` has expired.
pub fn check(d: &Definition, range: &Range, floor: Option<&String>, what: &str) -> Result<()> {
    let Some(floor) = floor else { return Ok(()) };
    let early = match range.from() {
        None => true,
        Some(from) => later(from, floor)? != from,
    };
    if !early {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "{what} of rollup {} before {floor} UTC have expired: what they were counted in cannot be computed again",
            d.name
        ),
        format!("Begin at {} or later.", literal(&format!("{floor}+00"))),
    )
}

/// Buckets whose raw rows have left.
#[derive(Debug, Clone)]
pub struct Holes {
    /// As an expression; None: it cannot be told which, all of them.
    pub(super) ranges: Option<String>,
    /// The one without time, too.
    pub(super) nulls: bool,
}

impl Holes {
    /// The condition that `key` is of one of them.
    pub fn holds(&self, key: &str) -> String {
        let Some(ranges) = &self.ranges else { return "true".into() };
        let null = if self.nulls { format!(" OR {key} IS NULL") } else { String::new() };
        format!("(coalesce({key} OPERATOR(pg_catalog.<@) {ranges}, false){null})")
    }
}
