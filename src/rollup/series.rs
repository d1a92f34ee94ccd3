//! `rollup.series`: what a chart shows of a rollup, in buckets of the coarsest level that has enough of them.
//!
//! Invariant: a row of the source is in one bucket of the series at most, and in one exactly where its bucket in the rollup
//! begins in the time asked for. Buckets of the level that lie inside that time are read from the live view of the level,
//! both ends from the rollup's own groups and raw rows that are not merged, under one snapshot.
//!
//! Of a level without some of the keys it is the series of the other keys: of every level that has these, or of the rollup,
//! whose groups are then merged over the rest.
//!
//! It reads as the live view does: whoever may read the view may read its series. What the rollup's owner defined runs as
//! the owner; a view that reads as its reader (`security_invoker`) is read so here, too.
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal, raise};
use super::{as_made, follow, grid, guard, levels, live_sql, views};
use crate::pg::answer::{answer, argument_type};
use crate::pg::deparse::shown_name;
use crate::pg::plan::planned;
use crate::pg::v1::Call;
use crate::pg::xact::{ActingAs, current_user, role_name};
use crate::v1;
use hll_rollup::live::united;
use hll_rollup::series::{Fill, Source};
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Bucket, Kind, Level, Plan};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

v1!(rollup_series, rows);

fn rows(call: &mut Call) -> Datum {
    series(call).unwrap_or_else(raise);
    call.null()
}

const WRONG: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;

/// What is asked for.
struct Asked {
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
    points: i64,
    fill: Fill,
}

impl Asked {
    /// None: nothing.
    fn of(call: &Call) -> Result<Option<Asked>> {
        let time = |n: usize| call.i64(n).map(TimestampWithTimeZone::try_from).and_then(|at| at.ok());
        let points = call.i32(3).map_or(i64::from(DEFAULT_POINTS), i64::from);
        let fill = text(call, 4).unwrap_or_else(|| "null".into());
        let Some(fill) = Fill::of(&fill) else {
            return fail(
                WRONG,
                format!("buckets without rows are not filled by \"{fill}\""),
                "fill is 'null', 'zero', 'last' or 'linear', or 'none' for no such buckets.",
            );
        };
        if points < 1 {
            return fail(WRONG, format!("a series of {points} points is none"), "Write points => 300.");
        }
        let (Some(from), Some(to)) = (time(1), time(2)) else { return Ok(None) };
        Ok(Some(Asked { from, to, points, fill }))
    }
}

/// A chart a thousand pixels wide shows that many.
const DEFAULT_POINTS: i32 = 300;

fn text(call: &Call, n: usize) -> Option<String> {
    call.bytes(n).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn series(call: &mut Call) -> Result<()> {
    let kind = argument_type(call, 0);
    let View { id: view, rollup: id, level: of, as_reader } = view_of(kind)?;
    let names = readable(view)?;
    let Some(asked) = Asked::of(call)? else {
        return none(call);
    };
    let Some(d) = catalog::by_id(id)? else { return Err(internal("the rollup has just been dropped")) };
    let plan = follow::of_today(d.id, &d.plan()?)?;
    let of = match of {
        None => None,
        Some(name) => levels::of(&d)?.into_iter().find(|level| level.name == name),
    };
    // What its owner may have put into the view, its reader sees, and as its reader: nothing is read in its place.
    let as_made = as_made::is_as_made(&d, &plan, view, of.as_ref())?;
    let as_reader = as_reader || !as_made;
    let Some(cut) = Cut::of(&d, &plan, &asked, of.as_ref(), as_made)? else { return none(call) };
    let (source, target, owner) = d.parts()?;
    let level = cut.level.as_ref();
    let own = match level {
        Some(_) if cut.ends => {
            let (with, parts) = live_sql::parts(&plan, source, target, None, d.id);
            Some(with + &parts)
        }
        _ => None,
    };
    let (stored, plan) = (whole_buckets(&d, &plan, level, of.as_ref())?, plan.of_level(of.as_ref()));
    let plan = plan.seen();
    let from = Source { plan: &plan, kind: cut.kind, view: &stored, ends: level.zip(own.as_deref()) };
    let statement = from.query(&names, asked.fill);
    let args: Vec<DatumWithOid> =
        cut.moments.iter().map(|at| (*at).into()).chain(std::iter::once(cut.grid.into())).collect();
    let _acting = (!as_reader).then(|| ActingAs::role(owner));
    if !as_reader {
        // Its plan may be kept, so that the statement is not looked at again when it is run.
        let view_of_level = views::live_of(d.id, level)?;
        let lookups = plan.joins.iter().flat_map(|joins| &joins.tables).map(|table| table.id.into());
        let read: Vec<pg_sys::Oid> = lookups.chain([view, d.source_oid]).chain(view_of_level).collect();
        guard::check_read(&planned::of_relations(&read, owner), owner);
    }
    match crate::pg::deparse::qualified(|| answer(call, &statement, &args)).map_err(internal)? {
        true => Ok(()),
        false => fail(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("view {} has other columns than the rollup gives", shown_name(view)),
            "Name the live view of the rollup as rollup.create made it: rollup.series(NULL::name_live, …).",
        ),
    }
}

/// What the whole buckets are read from: the live view of the level, or of the rollup; where these have keys that `of` has not,
/// what such a view would be.
fn whole_buckets(d: &Definition, plan: &Plan, level: Option<&Level>, of: Option<&Level>) -> Result<String> {
    let (source, target, _) = d.parts()?;
    let keys = |level: Option<&Level>| level.and_then(|level| level.keys.clone());
    if keys(level) != keys(of) {
        let (with, parts) = live_sql::parts(plan, source, target, level, d.id);
        return Ok(format!("({with}{}) v", united(&plan.of_level(of), &parts)));
    }
    if let Some(view) = views::of(d.id, level)? {
        return Ok(view);
    }
    fail(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the live view of {} was dropped", level.map_or(target, |l| &l.target)),
        format!(
            "A change of the rollup's columns makes it again: SELECT rollup.add_column({}, 'rows_again', 'count(*)').",
            literal(&d.name)
        ),
    )
}

/// No rows.
fn none(call: &mut Call) -> Result<()> {
    crate::pg::rows::materialize(call, |_| ());
    Ok(())
}

/// A live view.
struct View {
    id: pg_sys::Oid,
    /// The rollup's number.
    rollup: i64,
    /// The name of the level; None: the rollup's own.
    level: Option<String>,
    /// It reads as its reader.
    as_reader: bool,
}

/// The live view whose type this is.
fn view_of(kind: pg_sys::Oid) -> Result<View> {
    let _acting = ActingAs::catalog();
    let found = catalog::read_often(
        "SELECT c.oid, k.id, k.level, EXISTS (SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) o WHERE o.option_name = 'security_invoker' AND o.option_value::pg_catalog.bool) \
         FROM pg_catalog.pg_class c JOIN (SELECT d.live::pg_catalog.oid AS live, d.id, NULL AS level FROM rollup.definition d UNION ALL SELECT l.live::pg_catalog.oid, l.definition, l.name FROM rollup.level l) k ON k.live = c.oid \
         WHERE c.reltype = $1",
        &[kind.into()],
        |row| {
            Ok(View { id: row.must(1)?, rollup: row.must(2)?, level: row.get(3)?, as_reader: row.must(4)? })
        },
    )?;
    match found.into_iter().next() {
        Some(found) => Ok(found),
        None => fail(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{} is not the type of the live view of a rollup", type_name(kind)?),
            "Write SELECT * FROM rollup.series(NULL::name_live, now() - interval '1 day', now()), with the name of the view that rollup.create made.",
        ),
    }
}

fn type_name(kind: pg_sys::Oid) -> Result<String> {
    catalog::one("SELECT pg_catalog.format_type($1, NULL)", &[kind.into()])
}

/// The columns of a view that the caller may read.
fn readable(view: pg_sys::Oid) -> Result<Vec<String>> {
    let found = catalog::read_often(
        "SELECT a.attname::pg_catalog.text, pg_catalog.has_column_privilege($1, a.attnum, 'SELECT') FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        &[view.into()],
        |row| Ok((row.must::<String>(1)?, row.get::<bool>(2)?)),
    )?;
    if found.iter().all(|(_, may)| *may == Some(true)) {
        return Ok(found.into_iter().map(|(name, _)| name).collect());
    }
    fail(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied for view {}", shown_name(view)),
        format!(
            "A series has all columns of the view: GRANT SELECT ON {} TO {}.",
            shown_name(view),
            ident(&role_name(current_user()))
        ),
    )
}

/// What of which level is read.
struct Cut {
    level: Option<Level>,
    kind: Kind,
    /// `$1` to `$4` of the query.
    moments: [TimestampWithTimeZone; 4],
    /// `$5`.
    grid: Vec<TimestampWithTimeZone>,
    /// Some bucket at an end is not read whole.
    ends: bool,
}

impl Cut {
    /// None where the time is empty. `of` has the keys of the series.
    /// Of another view than the one that was made, `as_made` is false: it is read itself, whichever its buckets are.
    fn of(
        d: &Definition,
        plan: &Plan,
        asked: &Asked,
        of: Option<&Level>,
        as_made: bool,
    ) -> Result<Option<Cut>> {
        let kind = plan.key_kind().ok_or_else(|| internal("the time key has no time"))?;
        // Times without time zone are those that the zone's clock shows, read as UTC from here on.
        let zoned = kind == Kind::Zoned;
        let zone = if zoned { d.timezone.as_str() } else { "UTC" };
        let (from, to) = match zoned {
            true => (asked.from, asked.to),
            false => (local(asked.from, &d.timezone)?, local(asked.to, &d.timezone)?),
        };
        if to <= from {
            return Ok(None);
        }
        let (level, bucket) = match as_made {
            true => chosen(d, plan, asked, of, i64::from(to).saturating_sub(i64::from(from)))?,
            false => (of.cloned(), of.map_or(plan.bucket, |of| of.bucket)),
        };
        let own = first(plan.bucket, from, zone)?.unwrap_or(from);
        if !is_regular(bucket, zone) {
            return match asked.fill {
                Fill::None => {
                    Ok(Some(Cut { level, kind, moments: [own, to, to, to], grid: Vec::new(), ends: false }))
                }
                _ => fail(
                    WRONG,
                    format!("where buckets of rollup {} begin is not known", d.name),
                    "Their function is not date_trunc, or one whose buckets are counted from another moment. Write fill => 'none'.",
                ),
            };
        }
        let grid = grid::starts(bucket, own, to, zone, &d.name)?;
        let (Some(&begin), Some(&last)) = (grid.first(), grid.last()) else { return Ok(None) };
        // The moment of the first bucket of the rollup's own: what has expired is stored as moments.
        let there = earlier(asked.from, i64::from(from) - i64::from(own))?;
        // On Citus no query reads both the level and what it is made of; there both ends are whole buckets.
        let whole = level.is_none()
            || !as_made
            || bucket == plan.bucket
            || d.state.nodes().is_some()
            || !has(d.target.as_deref(), there)?;
        if whole {
            return Ok(Some(Cut { level, kind, moments: [begin, to, to, to], grid, ends: false }));
        }
        let after = next(bucket, last, zone)?;
        let inner_to = if after.is_some_and(|after| after <= to) { to } else { last };
        let inner_from = match begin < own {
            true => grid.get(1).copied().unwrap_or(inner_to),
            false => begin,
        };
        let inner_from = inner_from.min(inner_to);
        Ok(Some(Cut { level, kind, moments: [own, inner_from, inner_to, to], grid, ends: true }))
    }
}

/// A moment as the clock of a zone shows it, as if that were UTC.
fn local(at: TimestampWithTimeZone, zone: &str) -> Result<TimestampWithTimeZone> {
    catalog::one("SELECT pg_catalog.timezone('UTC', pg_catalog.timezone($2, $1))", &[at.into(), zone.into()])
}

/// A moment so many microseconds before another.
fn earlier(at: TimestampWithTimeZone, by: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(i64::from(at).saturating_sub(by)).map_err(internal)
}

/// Whether `grid` knows where these buckets begin.
fn is_regular(bucket: Bucket, zone: &str) -> bool {
    match bucket {
        Bucket::Unknown => false,
        Bucket::Fixed { offset, absolute, .. } => {
            offset == 0 && (!absolute || bucket.absolute_length(zone).is_some())
        }
        Bucket::Months(_) => true,
    }
}

/// The bucket that has a moment; None where that is not known.
fn first(bucket: Bucket, at: TimestampWithTimeZone, zone: &str) -> Result<Option<TimestampWithTimeZone>> {
    if !is_regular(bucket, zone) {
        return Ok(None);
    }
    let after = i64::from(at).saturating_add(1);
    let Ok(after) = TimestampWithTimeZone::try_from(after) else { return Ok(None) };
    Ok(grid::starts(bucket, at, after, zone, "a rollup")?.first().copied())
}

/// The bucket behind the one that begins at a moment.
fn next(bucket: Bucket, begin: TimestampWithTimeZone, zone: &str) -> Result<Option<TimestampWithTimeZone>> {
    let behind = i64::from(begin).saturating_add(bucket.shortest().saturating_mul(2));
    let Ok(behind) = TimestampWithTimeZone::try_from(behind) else { return Ok(None) };
    Ok(grid::starts(bucket, begin, behind, zone, "a level")?.get(1).copied())
}

/// The coarsest level that has the keys of `of` and enough buckets in the time, which is `span` microseconds long, or the rollup
/// itself; of those that have expired less.
fn chosen(
    d: &Definition,
    plan: &Plan,
    asked: &Asked,
    of: Option<&Level>,
    span: i64,
) -> Result<(Option<Level>, Bucket)> {
    let enough = |bucket: Bucket| {
        let shortest = bucket.shortest();
        // The buckets at both ends count as one, as what is cut off them is not known here.
        shortest > 0 && span / shortest >= asked.points
    };
    let keys = of.and_then(|of| of.keys.as_ref());
    // On Citus what is read is a live view, which has no keys to be merged over.
    let as_it_is = keys.is_none() || d.state.nodes().is_some();
    let mut levels = levels::of(d)?;
    levels.retain(|level| match keys {
        Some(keys) if !as_it_is => keys.iter().all(|key| level.has_key(key)),
        _ => level.keys.as_ref() == keys,
    });
    let finest = if keys.is_some() && as_it_is { Some(0) } else { None };
    let wanted = levels
        .iter()
        .rposition(|level| enough(level.bucket))
        .or(finest)
        .or_else(|| levels.iter().rposition(|level| level.bucket == plan.bucket))
        .map_or(0, |at| at + 1);
    let table = |n: usize| match n {
        0 => d.target.as_deref(),
        _ => Some(levels[n - 1].target.as_str()),
    };
    // What has expired from the one that would do may be in coarser ones.
    let mut there = wanted;
    while there < levels.len() && !has(table(there), asked.from)? {
        there += 1;
    }
    if !has(table(there), asked.from)? {
        there = wanted;
    }
    let level = there.checked_sub(1).map(|n| levels.swap_remove(n));
    let bucket = level.as_ref().map_or(plan.bucket, |level| level.bucket);
    Ok((level, bucket))
}

/// Whether the buckets of a table from a moment on are there.
fn has(table: Option<&str>, from: TimestampWithTimeZone) -> Result<bool> {
    let Some(table) = table else { return Ok(false) };
    let _acting = ActingAs::catalog();
    let below = catalog::read_often(
        "SELECT e.below FROM rollup.expired e WHERE e.relation = $1::pg_catalog.regclass",
        &[table.into()],
        |row| row.get::<TimestampWithTimeZone>(1),
    )?;
    Ok(below.into_iter().flatten().next().is_none_or(|below| below <= from))
}
