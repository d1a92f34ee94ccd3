//! rollup.check and rollup.rebuild: raw rows are aggregated again, to compare or to replace.
use super::catalog::{self, Definition, Must};
use super::error::Result;
use super::levels;
use super::lost;
use super::progress::Progress;
use super::range::{self, Range};
use super::session::set_timezone;
use super::{ask, caller, notify};
use crate::pg::jsonb::Jsonb;
use crate::pg::xact::ActingAs;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Level, Plan, statements};
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// One value that differs: table, keys, column, stored, recomputed.
pub type Difference = (pg_sys::Oid, Jsonb, String, Option<String>, Option<String>);

fn difference(row: &SpiHeapTupleData) -> SpiResult<Difference> {
    Ok((row.must(1)?, row.must(2)?, row.must(3)?, row.get(4)?, row.get(5)?))
}

/// Compares the rollup and its levels with the raw rows that were merged, where those are all there.
pub fn check(
    d: &Definition,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> Result<Vec<Difference>> {
    d.check_cluster()?;
    super::written::check(d)?;
    let plan = d.plan()?;
    let (source, target, owner) = d.parts()?;
    let asked = Range::of(&plan, &d.timezone, range::text(from)?, range::text(to)?);
    let raw = range::whole_from(source, &plan)?;
    let mut all = Vec::new();
    let levels = levels::of(d)?;
    for level in std::iter::once(None).chain(levels.iter().map(Some)) {
        let table = level.map_or(target, |l| l.target.as_str());
        let range = asked.after(&[raw.clone(), range::whole_from(table, &plan)?])?;
        let range = range.without(super::holes::whole(d, &plan, level)?);
        let groups = statements::recomputed(&plan, source, &d.state, level, |key| range.holds(key));
        let own = plan.of_level(level);
        let statement = statements::differences(&own, table, &groups, |key| range.holds(key));
        let _acting = ActingAs::role(owner);
        set_timezone(&d.timezone);
        all.extend(catalog::read(&statement, &[], difference)?);
    }
    Ok(all)
}

/// Replaces the buckets of a range by what the raw rows merged so far give; returns the groups written. The state row
/// is locked. `force`: also where raw rows have left.
pub fn rebuild(
    d: &Definition,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    force: bool,
) -> Result<i64> {
    d.check_cluster()?;
    super::written::check(d)?;
    let plan = d.plan()?;
    let asked = Range::of(&plan, &d.timezone, range::text(from)?, range::text(to)?);
    let (source, target, _) = d.parts()?;
    let floor = range::whole_from(source, &plan)?;
    range::check(d, &asked, floor.as_ref(), "raw rows")?;
    match force {
        true => super::holes::forget(d, &plan, &asked)?,
        false => super::holes::check(d, &plan, &asked)?,
    }
    let all = asked.to().is_none() && asked.from() == floor.as_deref();
    let asked = asked.after(&[range::whole_from(target, &plan)?])?;
    let written = rebuild_range(d, &plan, &asked, Levels::Touched)?;
    if all {
        // Of all that has not expired it holds every row and change up to now.
        let _acting = ActingAs::catalog();
        catalog::execute(
            "UPDATE rollup.definition SET whole = true, partial = '{}' WHERE id = $1 AND NOT (whole AND partial = '{}')",
            &[d.id.into()],
        )?;
    }
    Ok(written)
}

/// Which buckets of levels are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// Every one that the range touches; an error where the rollup's own groups of it have expired.
    Touched,
    /// Those of which the rollup's groups are all there.
    WhereWhole,
}

/// The same for a range whose raw rows are known to be there.
pub fn rebuild_range(d: &Definition, plan: &Plan, range: &Range, which: Levels) -> Result<i64> {
    let _busy = super::caller::Busy::with(d);
    super::source::settle_partitions(d)?;
    let leaving = lost::leaving_now(d.source_oid)?;
    let (source, target, owner) = d.parts()?;
    let levels = levels::of(d)?;
    let mut spans = Vec::new();
    for level in &levels {
        let span = level_span(d, plan, level, range)?;
        let floor = range::whole_from(target, plan)?;
        match which {
            Levels::Touched => range::check(d, &span, floor.as_ref(), "groups")?,
            Levels::WhereWhole => {}
        }
        spans.push(span.after(&[floor])?);
    }
    let mut progress = Progress::of(format!("rollup.rebuild of {}", d.name));
    let _acting = ActingAs::role(owner);
    set_timezone(&d.timezone);
    let key = ident(&plan.time_key);
    progress.tell(&format!("groups of {target}"));
    let holds = range.holds(&key);
    notify::begin();
    notify::changed(d, &key, target, &holds)?;
    let remove = |table: &str, range: &Range| {
        catalog::execute(&format!("DELETE FROM {table} WHERE {}", range.holds(&key)), &[])
    };
    remove(target, range)?;
    let groups = statements::recomputed(plan, source, &d.state, None, |key| range.holds(key));
    let written = ask::inserted(&statements::insert(plan, target, &groups))?;
    notify::changed(d, &key, target, &holds)?;
    for (level, span) in levels.iter().zip(&spans) {
        progress.tell(&format!("{written} groups of {target}, those of {}", level.target));
        remove(&level.target, span)?;
        let fine = format!("(SELECT * FROM {target} WHERE {}) f", span.holds(&level.bucket_of(&key)));
        let own = plan.of_level(Some(level));
        catalog::execute(
            &statements::insert(&own, &level.target, &statements::coarser(plan, level, &fine)),
            &[],
        )?;
    }
    notify::tell(d, plan, "rebuild")?;
    lost::check_stayed(d, &leaving)?;
    Ok(written)
}

/// The buckets of a level that a range of the rollup touches.
pub fn level_span(d: &Definition, plan: &Plan, level: &Level, range: &Range) -> Result<Range> {
    let Some(from) = range.from() else { return Ok(range.clone().without(None)) };
    let key_type = plan.key_column().sql_type.clone();
    let key = format!("{}::{key_type}", range.moment(from));
    let first = level.bucket_of(&key);
    let back = if key_type.ends_with("with time zone") {
        first
    } else {
        format!("(({first})::pg_catalog.timestamp AT TIME ZONE {})", literal(&d.timezone))
    };
    let begin =
        catalog::read(&format!("SELECT pg_catalog.timezone('UTC', {back})::pg_catalog.text"), &[], |row| {
            row.get::<String>(1)
        })?;
    Ok(Range::of(plan, &d.timezone, begin.into_iter().flatten().next(), range.to().map(String::from)))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn rollup_check(
    name: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(relation, pg_sys::Oid),
            name!(keys, Jsonb),
            name!(column_name, String),
            name!(stored, Option<String>),
            name!(recomputed, Option<String>),
        ),
    >,
> {
    let d = caller::owned(caller::required(name, "name")?)?;
    let _acting = caller::as_owner(&d);
    Ok(TableIterator::new(check(&d, from, to)?))
}

#[pg_extern(sql = false)]
fn rollup_rebuild(
    name: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    force: Option<bool>,
) -> Result<i64> {
    let d = caller::locked(caller::required(name, "name")?)?;
    let _acting = caller::as_owner(&d);
    rebuild(&d, from, to, caller::required(force, "force")?)
}
