//! How far a rollup has come, asked by a statement that is answered from it.
//!
//! Invariant: what is told is what the statement's own snapshot sees, as its stored buckets and its raw rows are. Where
//! anything of the rollup is not as it was when the statement was planned, or rows are known that it does not hold, nothing
//! is good, and the statement reads all rows raw. Rows that have changed, or came in another way, and that no run has
//! followed have records of the times in which they lie: buckets there are not used. Of who may not know these times nothing
//! is used while there are any.
use super::super::catalog;
use super::super::error::Result;
use super::pieces::{self, Piece};
use super::state_text::PIECES;
use crate::pg::ctext::c_text;
use crate::pg::rows::{materialize, moments};
use crate::pg::v1::Call;
use crate::pg::xact::{ActingAs, current_user};
use crate::pg::{counted, security, watched};
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};
use std::cell::Cell;

crate::v1!(rollup_state_of, state_of);

fn state_of(call: &mut Call) -> pg_sys::Datum {
    told(call).unwrap_or_else(super::super::error::raise)
}

/// The tables of which the buckets are said that have changed, the rollup's own among them.
const TABLES: usize = 5;
/// More pieces of changed times are fewer, and longer.
const MANY: usize = 64;

/// With $3 a rollup is good that knows more than the raw table, or other. $4 are the tables of levels. One from which rows
/// expire by another column than the time may lack any. A partition that is being detached concurrently with readers is read
/// no more by a statement to which it is pending, and its departure is recorded at the end; all of a database are few, while
/// a source may have many parts.
const STATE: &str = "SELECT d.generation = $2 AND d.backlog_from_xmax IS NULL AND ($3 OR d.left_out = 0 AND d.long_keys = 0) \
  AND NOT EXISTS (SELECT FROM rollup.retention r WHERE r.relation = d.source AND r.time_column <> d.plan->>'time_column' \
    OR (r.relation = d.relation OR r.relation = ANY ($4::oid[])) AND r.time_column <> d.plan->>'time_key') \
  AND NOT CASE WHEN NOT $3 AND (SELECT c.relhassubclass FROM pg_class c WHERE c.oid = d.source) THEN EXISTS (SELECT FROM pg_inherits i WHERE i.inhdetachpending) ELSE false END, \
  d.seen_xmax, d.seen_xip, (SELECT e.below FROM rollup.expired e WHERE e.relation = d.relation), \
  greatest((SELECT max(l.until) FROM rollup.departure l WHERE l.source = d.source), (SELECT e.below FROM rollup.expired e WHERE e.relation = d.source)), d.source::oid, \
  NOT $3 AND d.refused_changes IS NOT NULL OR EXISTS (SELECT FROM rollup.arrival n WHERE n.source = d.source AND (n.rollup_stamp >= d.seen_xmax OR n.rollup_stamp = ANY (d.seen_xip))) \
  OR d.on_change = 'recompute' AND EXISTS (SELECT FROM rollup.change n WHERE n.source = d.source AND (n.rollup_stamp >= d.seen_xmax OR n.rollup_stamp = ANY (d.seen_xip))), d.plan->>'time_column' \
  FROM rollup.definition d WHERE d.id = $1";

/// The times of records that no run has followed, and of changes that none could, but with $2; NULL as the first moment where
/// something has none of the rollup's time column, so that it may lie anywhere. Of rows without time nothing that is stored
/// is used.
const WAITING: &str = "SELECT CASE WHEN p.known THEN p.since END, p.until FROM rollup.definition d, LATERAL ( \
    SELECT n.since, n.until, n.time_column = d.plan->>'time_column' AS own, bool_or(n.time_column = d.plan->>'time_column') OVER (PARTITION BY n.relation, n.xid::text, n.rollup_stamp) AS known \
    FROM rollup.arrival n WHERE n.source = d.source AND (n.rollup_stamp >= d.seen_xmax OR n.rollup_stamp = ANY (d.seen_xip)) \
    UNION ALL SELECT n.since, n.until, n.time_column = d.plan->>'time_column', bool_or(n.time_column = d.plan->>'time_column') OVER (PARTITION BY n.rollup_stamp) \
    FROM rollup.change n WHERE d.on_change = 'recompute' AND n.source = d.source AND (n.rollup_stamp >= d.seen_xmax OR n.rollup_stamp = ANY (d.seen_xip))) p \
  WHERE d.id = $1 AND (NOT p.known OR p.own AND p.since IS NOT NULL) GROUP BY 1, 2 \
  UNION ALL SELECT coalesce(lower(r), '-infinity'), coalesce(upper(r), 'infinity') FROM rollup.definition d, unnest(d.refused_changes) r WHERE d.id = $1 AND NOT $2";

const EXPIRED: &str = "SELECT (SELECT e.below FROM rollup.expired e WHERE e.relation = r.oid) FROM unnest($1::oid[]) WITH ORDINALITY r (oid, place) ORDER BY r.place";

crate::v1!(rollup_whole_buckets, whole_buckets);

thread_local! {
    static SAID: Cell<bool> = const { Cell::new(false) };
}

/// A range is cut where raw rows have expired, so that more is answered than was asked for: said once a session.
fn whole_buckets(call: &mut Call) -> pg_sys::Datum {
    if !SAID.replace(true) {
        let name = call.name(0).unwrap_or_default();
        let name = name.to_string_lossy();
        notice!("raw rows at an end of the range have expired: rollup {name} answers in whole buckets there");
    }
    pg_sys::Datum::from(true)
}

type Moment = Option<TimestampWithTimeZone>;

/// What the catalog says of a rollup.
#[derive(Default)]
struct Found {
    good: bool,
    xmax: Option<i64>,
    xip: Option<Vec<i64>>,
    kept: Moment,
    raw: Moment,
    source: Option<pg_sys::Oid>,
    waits: bool,
    time_column: Option<String>,
}

impl Found {
    /// When rows changed is for those to know who may read their times.
    fn may_know(&self, reader: pg_sys::Oid) -> bool {
        let column = self.time_column.as_deref().map(c_text);
        self.source.is_some_and(|source| security::may_read(source, column.as_deref(), reader))
    }
}

fn found(
    id: Option<i64>,
    generation: Option<i64>,
    history: Option<bool>,
    levels: &[pg_sys::Oid],
) -> Result<Found> {
    let args = [id.into(), generation.into(), history.into(), levels.to_vec().into()];
    let found = catalog::read_often(STATE, &args, |row| {
        Ok(Found {
            good: row.get::<bool>(1)? == Some(true),
            xmax: row.get(2)?,
            xip: row.get(3)?,
            kept: row.get(4)?,
            raw: row.get(5)?,
            source: row.get(6)?,
            waits: row.get::<bool>(7)? == Some(true),
            time_column: row.get(8)?,
        })
    })?;
    // Of a rollup that was dropped nothing is known: all is read raw.
    Ok(found.into_iter().next().unwrap_or_default())
}

/// The pieces of time in which changes wait; None where that is not known.
fn waiting(id: Option<i64>, history: Option<bool>) -> Result<Option<Vec<Piece>>> {
    let micros = |at: Moment| at.into_datum().map(|at| at.value() as i64);
    let found = catalog::read_often(WAITING, &[id.into(), history.into()], |row| {
        Ok(micros(row.get(1)?).zip(micros(row.get(2)?)))
    })?;
    let all: Option<Vec<Piece>> = found.into_iter().collect();
    Ok(all.map(|all| pieces::merged(all, MANY)))
}

fn told(call: &mut Call) -> Result<pg_sys::Datum> {
    let (id, generation, history) = (call.i64(0), call.i64(1), call.bool(2));
    let (levels, widths, slacks) = (call.oids(3), call.i64s(4), call.i64s(5));
    let reader = current_user();
    let (mut state, waits, expired) = {
        let _acting = ActingAs::catalog();
        let state = found(id, generation, history, &levels)?;
        let waits = match state.waits {
            false => Some(Vec::new()),
            true if state.may_know(reader) => waiting(id, history)?,
            true => None,
        };
        let expired = match levels.is_empty() {
            true => Vec::new(),
            false => {
                catalog::read_often(EXPIRED, &[levels.into()], |row| row.get::<TimestampWithTimeZone>(1))?
            }
        };
        (state, waits, expired)
    };
    // A plan that was made before may be executed by a transaction that is told of others by locks.
    if let Some(source) = state.source {
        watched::lock_for_serializable(source);
    }
    state.good &= waits.is_some();
    let waits = waits.unwrap_or_default();
    if state.good {
        id.into_iter().for_each(counted::add);
    }
    // Of what has expired from the raw table the rollup says more.
    let below = if history == Some(true) { state.kept } else { state.kept.max(state.raw) };
    let first = state.xip.as_ref().and_then(|x| x.first().copied());
    let mut row = vec![
        state.good.into_datum(),
        state.xmax.into_datum(),
        first.into_datum(),
        state.xip.into_datum(),
        below.into_datum(),
        state.raw.into_datum(),
        expired.into_datum(),
    ];
    for n in 0..TABLES {
        let of = widths.get(n).zip(slacks.get(n)).filter(|_| !waits.is_empty());
        row.push(of.map(|(width, slack)| moments(&pieces::buckets(&waits, *width, *slack))));
    }
    let (width, slack) = widths.first().zip(slacks.first()).map_or((0, 0), |(w, s)| (*w, *s));
    let rows = pieces::rows(&waits, width, slack, PIECES);
    for n in 0..PIECES {
        let end = |at: i64| Some(pg_sys::Datum::from(at));
        row.extend(rows.get(n).map_or([None, None], |(from, to)| [end(*from), end(*to)]));
    }
    Ok(materialize(call, |put| put(&row)))
}
