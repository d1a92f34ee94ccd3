//! A backlog: rows that are too many for one transaction are merged in pieces by time, newest first, a transaction a
//! piece, while new rows go on being merged beside them. What is left is in the state row; whoever is killed, the
//! next run goes on from there.
use super::catalog::{self, Definition};
use super::error::Result;
use super::plan::Plan;
use super::run::set_timezone;
use super::sql::ident;
use crate::pg::xact::ActingAs;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Rows of one piece, about.
static PIECE: GucSetting<i32> = GucSetting::<i32>::new(500_000);

/// A rollup that has not run for so long may have a backlog.
const AWAY: &str = "1 hour";

/// Rows of the sample that a backlog is divided by.
const SAMPLE: i64 = 200_000;

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
    if !first && !away(d.id)? {
        return Ok(None);
    }
    let (source, _, owner) = d.parts()?;
    let piece = i64::from(PIECE.get());
    let _acting = ActingAs::role(owner);
    set_timezone("UTC");
    let total: i64 =
        catalog::one_now(&format!("SELECT pg_catalog.count(*) FROM {source} WHERE {rows}"), &[])?;
    if total <= piece {
        return Ok(None);
    }
    let fractions: Vec<String> =
        (1..=(total - 1) / piece).map(|n| (1.0 - (n * piece) as f64 / total as f64).to_string()).collect();
    // Quantiles, so that a few odd times do no harm; of a sample, so that it costs one look at the rows.
    let time = super::reach::zoned(&ident(&plan.time_column));
    let cuts = catalog::write(
        &format!(
            "SELECT DISTINCT pg_catalog.timezone('UTC', c) AS c, pg_catalog.timezone('UTC', c)::pg_catalog.text FROM pg_catalog.unnest((\
             SELECT pg_catalog.percentile_disc('{{{}}}'::pg_catalog.float8[]) WITHIN GROUP (ORDER BY {time}) FROM {source} \
             WHERE {rows} AND pg_catalog.random() < {SAMPLE}::pg_catalog.float8 / {total})) c WHERE c IS NOT NULL ORDER BY 1 DESC",
            fractions.join(",")
        ),
        &[],
        |row| row.get::<String>(2),
    )?;
    let cuts: Vec<String> = cuts.into_iter().flatten().collect();
    Ok(Some((cuts, total)))
}

fn away(id: i64) -> Result<bool> {
    let _acting = ActingAs::catalog();
    Ok(catalog::read_often(
        "SELECT last_run < pg_catalog.clock_timestamp() - $2::pg_catalog.interval FROM rollup.attempt WHERE id = $1 AND failures = 0",
        &[id.into(), AWAY.into()],
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
    Ok(catalog::write(
        "SELECT CASE WHEN backlog_to_xmax IS NULL THEN 0 ELSE greatest(backlog_rows - backlog_done, 1) END FROM rollup.definition WHERE id = $1",
        &[id.into()],
        |row| row.get::<i64>(1),
    )?
    .into_iter()
    .flatten()
    .next()
    .unwrap_or_default())
}
