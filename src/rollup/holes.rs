//! Buckets whose raw rows have left with their table (see `lost`): which they are, as SQL, for a rollup and its levels.
use super::catalog::{self, Definition};
use super::change::{Changes, Notes, coarse_of};
use super::error::Result;
use super::lost;
use crate::pg::xact::ActingAs;
use hll_rollup::{Level, Plan};

/// What is not to be computed again, since raw rows have left.
pub struct Lost {
    /// The type of ranges of keys, without `range` or `multirange`.
    pub key_type: &'static str,
    /// Which buckets, as an expression; None: it cannot be told, all of them.
    pub ranges: Option<String>,
    /// The one without time.
    pub nulls: bool,
}

/// The buckets of a rollup of which raw rows have left.
pub fn of(d: &Definition, plan: &Plan) -> Result<Lost> {
    let c = Changes::of(d, plan, &d.timezone, &d.state.frontier, &d.state.frontier, Notes::Changes)?;
    let _acting = ActingAs::catalog();
    let nulls = catalog::write(
        "SELECT EXISTS (SELECT FROM rollup.lost l WHERE l.definition = $1 AND l.since IS NULL)",
        &[d.id.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(Lost {
        key_type: c.ranges(),
        ranges: plan.plain_key.then(|| c.lost()),
        nulls: nulls.first() == Some(&Some(true)),
    })
}

/// The condition that a bucket of a rollup, or of a level, is whole as far as that goes; None where nothing has left.
pub fn whole(d: &Definition, plan: &Plan, level: Option<&Level>) -> Result<Option<Holes>> {
    if !lost::any(d)? {
        return Ok(None);
    }
    let lost = of(d, plan)?;
    let ranges = match (&lost.ranges, level) {
        (Some(fine), Some(level)) => Some(coarse_of(lost.key_type, level, fine)),
        (ranges, _) => ranges.clone(),
    };
    Ok(Some(Holes { ranges, nulls: lost.nulls }))
}

/// Buckets whose raw rows have left.
#[derive(Debug, Clone)]
pub struct Holes {
    /// As an expression; None: it cannot be told which, all of them.
    ranges: Option<String>,
    /// The one without time, too.
    nulls: bool,
}

impl Holes {
    /// The condition that `key` is of one of them.
    pub fn holds(&self, key: &str) -> String {
        let Some(ranges) = &self.ranges else { return "true".into() };
        let null = if self.nulls { format!(" OR {key} IS NULL") } else { String::new() };
        format!("(coalesce({key} OPERATOR(pg_catalog.<@) {ranges}, false){null})")
    }
}

/// Remembers, for `rollup.status`, changes in buckets whose raw rows have left.
pub fn refuse(d: &Definition, c: &Changes) -> Result<()> {
    catalog::execute(
        &format!(
            "UPDATE rollup.definition d SET refused_changes = coalesce(d.refused_changes, '{{}}') + r.refused FROM (SELECT pg_catalog.range_agg(\
             CASE WHEN o.span && o.gone THEN o.span * o.gone ELSE o.span END) AS refused FROM (SELECT pg_catalog.tstzrange(n.since, n.until, '[]') AS span, \
             pg_catalog.tstzrange(l.since, l.until, '[]') AS gone, {k}range(least(a.k, b.k), greatest(a.k, b.k), '[]') AS changed, {k}range(least(e.k, f.k), greatest(e.k, f.k), '[]') AS lost \
             FROM {} n CROSS JOIN rollup.lost l, LATERAL {} a, LATERAL {} b, LATERAL {} e, LATERAL {} f \
             WHERE l.definition = {id} AND n.since IS NOT NULL AND l.since IS NOT NULL AND {}) o WHERE o.changed && o.lost) r \
             WHERE d.id = {id} AND r.refused IS NOT NULL",
            c.records(),
            c.bucket_of("n.since"),
            c.bucket_of("n.until"),
            c.bucket_of("l.since"),
            c.bucket_of("l.until"),
            c.notes(),
            id = d.id,
            k = c.ranges()
        ),
        &[],
    )
}
