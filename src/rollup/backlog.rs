//! A backlog: rows that are too many for one transaction are merged in pieces by time, newest first, a transaction a
//! piece, while new rows go on being merged alongside them. What is left is in the state row; whoever is killed, the
//! next run goes on from there.
use super::catalog::{self, Definition, Must};
use super::error::{Result, internal};
use super::session::set_timezone;
use crate::pg::deparse::qualified;
use crate::pg::kept::with_rows;
use crate::pg::reach::TimeType;
use crate::pg::xact::ActingAs;
use hll_rollup::Plan;
use hll_rollup::sql::ident;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;

/// Rows of one piece, about.
static PIECE: GucSetting<i32> = GucSetting::<i32>::new(500_000);

/// A rollup that has not run for so long may have a backlog.
const IDLE: &str = "1 hour";

/// Called once when the library is loaded.
pub fn init() {
    GucRegistry::define_int_guc(
        c"rollup.batch_rows",
        c"Raw rows that one transaction merges, about, where a backlog is worked off.",
        c"A backlog is what was there before the rollup, or came while it was not run for an hour.",
        &PIECE,
        100,
        1_000_000_000,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Where the pieces of the backlog begin that `rows` make, the rows of the next run, and how many rows it has; None
/// where they are few. `first`: nothing was merged before.
pub fn begin(d: &Definition, plan: &Plan, rows: &str, first: bool) -> Result<Option<(Vec<String>, i64)>> {
    if !first && !was_idle(d.id)? {
        return Ok(None);
    }
    let (source, _, owner) = d.parts()?;
    let piece = i64::from(PIECE.get());
    let _acting = ActingAs::role(owner);
    set_timezone("UTC");
    let time = ident(&plan.time_column);
    let minute =
        match (plan.time_zoned, TimeType::of(d.source_oid, &plan.time_column) == Some(TimeType::DATE)) {
            (true, _) => format!("pg_catalog.date_trunc('minute', {time}, 'UTC')"),
            (false, false) => format!("pg_catalog.date_trunc('minute', {time})"),
            (false, true) => time,
        };
    // One look at the rows: how many there are of each minute, the newest first. A piece ends with the minute that fills it.
    let read = CString::new(format!(
        "SELECT {minute} AS c, pg_catalog.count(*) AS n FROM {source} WHERE {rows} GROUP BY 1"
    ))
    .map_err(internal)?;
    let planned = super::batch::for_run();
    let (total, cuts) = qualified(|| with_rows(&read, c"minutes", |client, _| {
        drop(planned);
        let row = client
            .select(
                &*format!(
                    "SELECT coalesce(max(above), 0)::pg_catalog.int8, coalesce(array_agg(pg_catalog.timezone('UTC', {})::pg_catalog.text ORDER BY c DESC) \
                     FILTER (WHERE div(above, {piece}) > div(above - n, {piece}) AND above < total AND c IS NOT NULL), '{{}}') \
                     FROM (SELECT c, n, sum(n) OVER (ORDER BY c DESC NULLS LAST) AS above, sum(n) OVER () AS total FROM minutes) m",
                    hll_rollup::times::zoned("c")
                ),
                None,
                &[],
            )?
            .first();
        Ok((row.must::<i64>(1)?, row.must::<Vec<String>>(2)?))
    }))
    .map_err(internal)?;
    Ok((total > piece).then_some((cuts, total)))
}

fn was_idle(id: i64) -> Result<bool> {
    let _acting = ActingAs::catalog();
    Ok(catalog::read_often(
        "SELECT last_run < pg_catalog.clock_timestamp() - $2::pg_catalog.interval FROM rollup.attempt WHERE id = $1 AND failures = 0",
        &[id.into(), IDLE.into()],
        |row| row.get::<bool>(1),
    )?
    .into_iter()
    .flatten()
    .next()
        == Some(true))
}

/// Writes how many rows a new backlog has.
pub fn store_size(d: &Definition, rows: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET backlog_rows = $2, backlog_done = 0, backlog_started = pg_catalog.clock_timestamp() WHERE id = $1",
        &[d.id.into(), rows.into()],
    )
}

/// Adds to the rows of the backlog that are done.
pub fn store_progress(d: &Definition, rows: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET backlog_done = backlog_done + $2 WHERE id = $1 AND backlog_to_xmax IS NOT NULL",
        &[d.id.into(), rows.into()],
    )
}

/// Rows of the backlog that are left: at least 1 while there is one.
pub fn rest(id: i64) -> Result<i64> {
    let _acting = ActingAs::catalog();
    let rest = catalog::maybe_now(
        "SELECT CASE WHEN backlog_to_xmax IS NULL THEN 0 ELSE greatest(backlog_rows - backlog_done, 1) END FROM rollup.definition WHERE id = $1",
        &[id.into()],
    )?;
    // A rollup that has just been dropped has none.
    Ok(rest.unwrap_or(0))
}
