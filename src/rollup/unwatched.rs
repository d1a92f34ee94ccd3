//! What a rollup needs to be told of changes of raw rows and is missing, for `rollup.status`, and for statements that are to
//! be answered from it.
//!
//! `told` gives nothing at once where all is as it is to be, as it mostly is. Where that is not seen, `unwatched` asks the
//! catalogs, which takes some statements a rollup.
use super::arrange::{self, Odd};
use super::catalog::{self, Must};
use super::error::{Result, raise, report};
use crate::pg::xact::{ActingAs, in_subtransaction};
use crate::pg::zonemap::guarded::{self, Trigger, Wanted};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

const STAMP: &CStr = c"rollup_stamp";
const CHANGE: (&str, &str) = ("rollup_internal", "note_change");
const OWN: (&str, &str) = ("rollup", "own_stamp");
/// The triggers that `arrange` makes.
const ROWS: Trigger = Trigger { name: arrange::ROWS, function: CHANGE, fires: b'A', parted: true };
const TABLE: Trigger = Trigger { name: arrange::TABLE, function: CHANGE, fires: b'A', parted: false };
const STAMPS: Trigger = Trigger { name: arrange::STAMPS, function: OWN, fires: b'R', parted: true };
const KEPT: Trigger = Trigger { name: arrange::KEPT, function: OWN, fires: b'A', parted: true };

/// Which tables of a rollup's source lack triggers, and which; None where none does.
pub fn unwatched(id: i64) -> Result<Option<String>> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::read_often(
            "SELECT d.source::pg_catalog.oid, d.on_change <> 'ignore' FROM rollup.definition d JOIN pg_catalog.pg_class c ON c.oid = d.source WHERE d.id = $1",
            &[id.into()],
            |row| Ok((row.must::<pg_sys::Oid>(1)?, row.get::<bool>(2)? == Some(true))),
        )?
    };
    let Some((source, minds)) = found.into_iter().next() else { return Ok(None) };
    let mut all = Vec::new();
    if arrange::is_watched(source)? {
        all.extend(arrange::odd(source)?.iter().filter(|o| o.lacks).map(Odd::told));
    }
    if !arrange::sources_of_rows(source)?.is_empty() {
        all.extend(super::maps::untold(source)?);
        all.extend(arrange::too_late(source)?);
    }
    if minds {
        let of = |table: String| format!("{table} is unlogged: nobody tells of rows that a crash takes away");
        all.extend(super::unlogged::at_and_below(source)?.into_iter().map(of));
    }
    for (name, whole) in arrange::partitions_with_rollups(source)?.into_iter().take(1) {
        all.push(format!(
            "the source has become a partition of {whole}: {}",
            arrange::move_hint(&name, &whole)
        ));
    }
    Ok((!all.is_empty()).then(|| all.join(", ")))
}

/// What the rollups of a source ask of it together.
pub struct Source {
    /// One follows changes, or refuses them.
    pub minds: bool,
    /// One is of rows on this server.
    pub holds: bool,
    /// The server has tables to which a subscription brings rows.
    pub subscribed: bool,
}

/// Whether a source and everything below it is seen to be as it is to be. It may be although it is not seen.
fn in_order(table: pg_sys::Oid, source: &Source) -> Result<bool> {
    let wanted =
        [(&ROWS, source.minds), (&TABLE, source.minds), (&STAMPS, source.subscribed), (&KEPT, source.holds)];
    let wanted = Wanted {
        triggers: wanted.into_iter().filter_map(|(trigger, wanted)| wanted.then_some(trigger)).collect(),
        map: source.holds.then_some(STAMP),
        last: source.holds.then_some((arrange::KEPT, &[arrange::ROWS, arrange::TABLE, arrange::STAMPS][..])),
        logged: source.minds,
    };
    let Some(below) = guarded::all_below(table, &wanted) else { return Ok(false) };
    if below.is_empty() {
        return Ok(true);
    }
    // One that has rollups of its own may be asked for more.
    let _acting = ActingAs::catalog();
    let sources = catalog::read_often(
        "SELECT EXISTS (SELECT FROM rollup.definition d WHERE d.source::pg_catalog.oid = ANY ($1))",
        &[below.into()],
        |row| row.must::<bool>(1),
    )?;
    Ok(sources == [false])
}

/// As `unwatched`, of a rollup of this table. What cannot be told is said, and hides no other rollup.
pub fn told(id: i64, table: pg_sys::Oid, source: &Source) -> Option<String> {
    let ask = || if in_order(table, source)? { Ok(None) } else { unwatched(id) };
    match in_subtransaction(AssertUnwindSafe(ask)) {
        Ok(found) => found,
        // Whoever reads may stop that.
        Err(e) if e.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => raise(report(e.code, e.message, "")),
        Err(e) => Some(format!("it cannot be told: {}", e.message)),
    }
}
