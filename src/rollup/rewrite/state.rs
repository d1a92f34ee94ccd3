//! How far a rollup has come, asked by a statement that is answered from it.
//!
//! Invariant: what is told is what the statement's own snapshot sees, as its stored buckets and its raw rows are. Where
//! anything of the rollup is not as it was when the statement was planned, or rows or changes are known that it does not
//! hold, nothing is good, and the statement reads all rows raw.
use super::super::catalog;
use super::super::error::Result;
use crate::pg::rows::materialize;
use crate::pg::v1::Call;
use crate::pg::watched;
use crate::pg::xact::ActingAs;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

crate::v1!(rollup_state_of, state_of);

fn state_of(call: &mut Call) -> pg_sys::Datum {
    told(call).unwrap_or_else(super::super::error::raise)
}

/// What no run has judged or followed has records. With $3 a rollup is good that knows more than the raw table, or other.
const STATE: &str = "SELECT d.generation = $2 AND d.backlog_from_xmax IS NULL AND ($3 OR d.left_out = 0 AND d.long_keys = 0 AND d.refused_changes IS NULL) \
  AND NOT EXISTS (SELECT FROM rollup.arrival n WHERE n.source = d.source AND (n.rollup_stamp >= d.seen_xmax OR n.rollup_stamp = ANY (d.seen_xip))) \
  AND (d.on_change <> 'recompute' OR NOT EXISTS (SELECT FROM rollup.change n WHERE n.source = d.source AND (n.rollup_stamp >= d.seen_xmax OR n.rollup_stamp = ANY (d.seen_xip)))), \
  d.seen_xmax, d.seen_xip, (SELECT e.below FROM rollup.expired e WHERE e.relation = d.relation), \
  greatest((SELECT max(l.until) FROM rollup.departure l WHERE l.source = d.source), (SELECT e.below FROM rollup.expired e WHERE e.relation = d.source)), d.source::oid \
  FROM rollup.definition d WHERE d.id = $1";

fn told(call: &mut Call) -> Result<pg_sys::Datum> {
    let (id, generation, history) = (call.i64(0), call.i64(1), call.bool(2));
    let args = [id.into(), generation.into(), history.into()];
    let found = {
        let _acting = ActingAs::catalog();
        catalog::read_often(STATE, &args, |row| {
            Ok((
                row.get::<bool>(1)?,
                row.get::<i64>(2)?,
                row.get::<Vec<i64>>(3)?,
                row.get::<TimestampWithTimeZone>(4)?,
                row.get::<TimestampWithTimeZone>(5)?,
                row.get::<pg_sys::Oid>(6)?,
            ))
        })?
    };
    // Of a rollup that was dropped nothing is known: all is read raw.
    let (good, xmax, xip, kept, raw, source) = found.into_iter().next().unwrap_or_default();
    // A plan that was made before may be executed by a transaction that is told of others by locks.
    if let Some(source) = source {
        watched::lock_for_serializable(source);
    }
    // Of what has expired from the raw table the rollup says more.
    let below = if history == Some(true) { kept } else { kept.max(raw) };
    let first = xip.as_ref().and_then(|x| x.first().copied());
    let row = [
        (good == Some(true)).into_datum(),
        xmax.into_datum(),
        first.into_datum(),
        xip.into_datum(),
        below.into_datum(),
        raw.into_datum(),
    ];
    Ok(materialize(call, |put| put(&row)))
}
