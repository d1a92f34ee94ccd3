//! Buckets whose raw rows have left with their table (see `lost`): which they are, as SQL, for a rollup and its levels.
use super::catalog::{self, Definition};
use super::changes::{Changes, Notes, coarse_of};
use super::error::{Result, fail, internal};
use super::lost::any;
use super::range::{Holes, Range};
use super::session::set_timezone;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::literal;
use hll_rollup::{Level, Plan};
use pgrx::PgSqlErrorCode;

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
    if !any(d)? {
        return Ok(None);
    }
    let lost = of(d, plan)?;
    let ranges = match (&lost.ranges, level) {
        (Some(fine), Some(level)) => Some(coarse_of(lost.key_type, level, fine)),
        (ranges, _) => ranges.clone(),
    };
    // Other nodes know nothing of what has left.
    let ranges = match (ranges, d.state.nodes()) {
        (Some(ranges), Some(_)) => Some(constant(d, lost.key_type, &ranges)?),
        (ranges, _) => ranges,
    };
    Ok(Some(Holes { ranges, nulls: lost.nulls }))
}

/// What an expression of ranges gives now.
fn constant(d: &Definition, key_type: &str, ranges: &str) -> Result<String> {
    let (.., owner) = d.parts()?;
    let _acting = ActingAs::role(owner);
    set_timezone(&d.timezone);
    let text =
        catalog::write(&format!("SELECT ({ranges})::pg_catalog.text"), &[], |row| row.get::<String>(1))?;
    let text = text.into_iter().flatten().next().unwrap_or_else(|| "{}".into());
    Ok(format!("{}::{key_type}multirange", literal(&text)))
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

/// Forgets what a rollup has lost between two moments, as a rebuild that is forced to.
pub fn forget(d: &Definition, plan: &Plan, asked: &Range) -> Result<()> {
    let _acting = ActingAs::catalog();
    let since = |end: &str| match plan.time_zoned {
        true => format!("l.{end}"),
        false => format!("((l.{end} AT TIME ZONE 'UTC') AT TIME ZONE {})", literal(&d.timezone)),
    };
    let utc = |moment: &str| format!("({}::pg_catalog.timestamp AT TIME ZONE 'UTC')", literal(moment));
    let mut conditions = vec![format!("l.definition = {}", d.id)];
    conditions.extend(asked.from().map(|from| format!("{} >= {}", since("since"), utc(from))));
    conditions.extend(asked.to().map(|to| format!("{} < {}", since("until"), utc(to))));
    catalog::execute(&format!("DELETE FROM rollup.lost l WHERE {}", conditions.join(" AND ")), &[])
}

/// Refuses a range in which raw rows have left.
pub fn check(d: &Definition, plan: &Plan, asked: &Range) -> Result<()> {
    if !any(d)? {
        return Ok(());
    }
    let Some((_, _, owner)) = d.parts().ok() else { return Ok(()) };
    let lost = of(d, plan)?;
    let key_type = lost.key_type;
    let bound = |moment: Option<&str>| moment.map_or("NULL".to_string(), |m| asked.moment(m));
    let overlap = match &lost.ranges {
        None => "true".to_string(),
        Some(ranges) => format!(
            "NOT pg_catalog.isempty({ranges} * {key_type}multirange({key_type}range({}, {})))",
            bound(asked.from()),
            bound(asked.to())
        ),
    };
    let found = {
        let _acting = ActingAs::role(owner);
        set_timezone(&d.timezone);
        catalog::read(
            &format!("SELECT {overlap} OR {}", lost.nulls && asked.from().is_none() && asked.to().is_none()),
            &[],
            |row| row.get::<bool>(1),
        )?
    };
    if found.first() != Some(&Some(true)) {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    set_timezone("UTC");
    let (from, to, after) = catalog::read(
        "SELECT min(l.since)::pg_catalog.text, max(l.until)::pg_catalog.text, CASE WHEN pg_catalog.isfinite(max(l.until)) THEN (max(l.until) + interval '1 day')::pg_catalog.text END \
         FROM rollup.lost l WHERE l.definition = $1",
        &[d.id.into()],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?, row.get::<String>(3)?)),
    )?
    .pop()
    .ok_or_else(|| internal("a statement gives no row where it must"))?;
    let name = literal(&d.name);
    let later = after.map_or(String::new(), |after| {
        format!("SELECT rollup.rebuild({name}, {}) begins after them. ", literal(&after))
    });
    fail(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "raw rows of rollup {} from {} to {} have left with a partition or child that was dropped or detached: what they were counted in cannot be computed again",
            d.name,
            from.unwrap_or_else(|| "no time".into()),
            to.unwrap_or_else(|| "no time".into())
        ),
        format!(
            "{later}SELECT rollup.rebuild({name}, force => true) counts the rows that are there, and forgets those that left."
        ),
    )
}
