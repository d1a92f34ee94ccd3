//! Which levels of a rollup statements may be answered from, and what is known of their buckets.
use super::super::catalog::{self, Definition, Must};
use super::super::error::Result;
use super::text::LevelMade;
use crate::pg::plan::offer::{Coarser, Grid};
use crate::pg::plan::zone_since;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::ident;
use hll_rollup::{Bucket, Level, Plan, from_clause};
use pgrx::pg_sys;

const DAY: i64 = 86_400_000_000;
/// Buckets up to a thousand years: moments beside them are computed without a look at the end of all times.
const LONGEST: i64 = 365 * 1000 * DAY;

/// Buckets of this length in a zone, and from when on its days follow each other, or hours are in step; None where they
/// never are.
pub fn clear(bucket: Bucket, zoned: bool, zone: &str) -> Option<(Grid, i64)> {
    let utc = zone.eq_ignore_ascii_case("utc");
    let absolute = !zoned || utc || matches!(bucket, Bucket::Fixed { absolute: true, .. });
    // Parts of a day by a zone's clock are those of UTC where the two are in step.
    let part = match bucket {
        Bucket::Fixed { length, offset: 0, .. } if length < DAY => Some(length),
        _ => None,
    };
    let clear_from = if absolute { i64::MIN } else { zone_since(zone, part)? };
    Some((Grid { bucket, absolute: absolute || part.is_some(), zone: zone.into(), zoned }, clear_from))
}

/// What the catalog says of the table of a level: its number, and whether its rows expire.
fn facts(d: &Definition, level: &Level) -> Result<Option<(pg_sys::Oid, bool)>> {
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT l.relation::pg_catalog.oid, EXISTS (SELECT FROM rollup.retention r WHERE r.relation = l.relation) FROM rollup.level l JOIN pg_catalog.pg_class c ON c.oid = l.relation WHERE l.definition = $1 AND l.name = $2 \
         AND l.live IS NOT NULL AND c.relkind = 'r' AND NOT c.relrowsecurity \
         AND NOT EXISTS (SELECT FROM rollup.retention r WHERE r.relation = l.relation AND r.time_column::pg_catalog.text <> $3)",
        &[d.id.into(), level.name.as_str().into(), d.plan()?.time_key.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<bool>(2)?)),
    )?;
    Ok(found.into_iter().next())
}

/// The levels of a rollup that statements may be answered from, finest first.
pub fn usable(
    d: &Definition,
    plan: &Plan,
    source: &str,
    zoned: bool,
) -> Result<(Vec<Coarser>, Vec<LevelMade>)> {
    let (mut offered, mut made) = (Vec::new(), Vec::new());
    let Some(owner) = d.owner else { return Ok((offered, made)) };
    // A level whose table is gone is none.
    let there = {
        let _acting = ActingAs::catalog();
        catalog::read(
            "SELECT NOT EXISTS (SELECT FROM rollup.level l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation WHERE l.definition = $1 AND c.oid IS NULL)",
            &[d.id.into()],
            |row| row.get::<bool>(1),
        )?
    };
    if there.first() != Some(&Some(true)) {
        return Ok((offered, made));
    }
    let key = plan.key_column();
    for level in super::super::levels::of(d)? {
        let Some((grid, clear_from)) = clear(level.bucket, zoned, &d.timezone) else { continue };
        // Without some of the keys it may have the buckets of the rollup.
        let nests = plan.bucket.nests_in(level.bucket, level.utc) || plan.bucket == level.bucket;
        let fits = nests && level.bucket.shortest() < LONGEST;
        let Some((target, expires)) =
            facts(d, &level)?.filter(|(t, _)| fits && crate::pg::security::may_read(*t, None, owner))
        else {
            continue;
        };
        let of_row = format!(
            "SELECT {} AS {} FROM {}",
            level.bucket_of_expression(&key.expression),
            ident(&plan.time_key),
            from_clause(None, source, &plan.alias)
        );
        let keys = plan.of_level(Some(&level)).keys().map(|c| c.name.clone()).collect();
        offered.push(Coarser { name: level.name.clone(), target, of_row, grid, keys, expires });
        made.push(LevelMade { level, clear_from });
    }
    Ok((offered, made))
}
