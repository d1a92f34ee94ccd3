//! How far a rollup has come, as its row of `rollup.definition` keeps it.
//!
//! On one server that is in columns of their own, which live views and triggers read as well. In a cluster it is in `nodes`,
//! as JSON; of a backlog, cursor and cuts are in the columns there, too.
use super::ask::{self, Must};
use super::error::{Result, internal};
use crate::pg::xact::ActingAs;
use hll_rollup::{Backlog, Frontier, Snapshot, State, Stored};
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// What is read of a row `d` of `rollup.definition`.
pub const COLUMNS: &str = "d.seen_xmax, d.seen_xip, d.backlog_from_xmax, d.backlog_from_xip, d.backlog_to_xmax, d.backlog_to_xip, \
  pg_catalog.timezone('UTC', d.backlog_cursor)::pg_catalog.text, \
  ARRAY(SELECT pg_catalog.timezone('UTC', c)::pg_catalog.text FROM pg_catalog.unnest(d.backlog_cuts) WITH ORDINALITY u (c, n) ORDER BY n), \
  d.nodes::pg_catalog.text";

/// Those columns.
pub struct Columns {
    seen: Snapshot,
    backlog: Option<Left>,
    nodes: Option<String>,
}

struct Left {
    from: Snapshot,
    to: Snapshot,
    cursor: Option<String>,
    cuts: Vec<String>,
}

fn snapshot(row: &SpiHeapTupleData, at: usize) -> SpiResult<Snapshot> {
    Ok(Snapshot { xmax: row.must(at)?, xip: row.must(at + 1)? })
}

/// The columns of a row, from number `at` on.
pub fn read(row: &SpiHeapTupleData, at: usize) -> SpiResult<Columns> {
    let backlog = match row.get::<i64>(at + 4)? {
        None => None,
        Some(_) => Some(Left {
            from: snapshot(row, at + 2)?,
            to: snapshot(row, at + 4)?,
            cursor: row.get(at + 6)?,
            cuts: row.must(at + 7)?,
        }),
    };
    Ok(Columns { seen: snapshot(row, at)?, backlog, nodes: row.get(at + 8)? })
}

/// The state that they say; `name` is the rollup's.
pub fn understood(name: &str, columns: Columns) -> Result<State> {
    let Some(nodes) = columns.nodes else {
        let server = |Left { from, to, cursor, cuts }: Left| Backlog {
            from: Frontier::Server(from),
            to: Frontier::Server(to),
            cursor,
            cuts,
        };
        let backlog = columns.backlog.map(server);
        return Ok(State { backlog, ..State::at(Frontier::Server(columns.seen)) });
    };
    let unreadable =
        |e: &dyn std::fmt::Display| internal(format!("the state of rollup {name} cannot be read: {e}"));
    let stored: Stored = serde_json::from_str(&nodes).map_err(|e| unreadable(&e))?;
    State::of_cluster(stored, columns.backlog.map(|b| (b.cursor, b.cuts))).map_err(|e| unreadable(&e))
}

/// The part of a state in a cluster that is kept as JSON; None on one server.
pub fn nodes(state: &State) -> Result<Option<String>> {
    state.stored().map(|stored| serde_json::to_string(&stored).map_err(internal)).transpose()
}

/// Writes a state to which `rows` more raw rows are merged.
pub fn store(id: i64, state: &State, rows: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    match &state.frontier {
        Frontier::Server(seen) => ask::execute_often(
            "UPDATE rollup.definition SET seen_xmax = $2, seen_xip = $3, rows_total = rows_total + $4 WHERE id = $1",
            &[id.into(), seen.xmax.into(), seen.xip.clone().into(), rows.into()],
        )?,
        Frontier::Cluster(_) => ask::execute(
            "UPDATE rollup.definition SET nodes = $2::pg_catalog.jsonb, rows_total = rows_total + $3 WHERE id = $1",
            &[id.into(), nodes(state)?.into(), rows.into()],
        )?,
    }
    store_backlog(id, state.backlog.as_ref())
}

/// Writes the state of a rollup whose stamps count in this cluster from now on: its offset was `offset`.
pub fn store_rebased(id: i64, state: &State, offset: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    ask::execute(
        "UPDATE rollup.definition SET seen_xmax = $2, seen_xip = '{}', nodes = $3::pg_catalog.jsonb, \
         system_id = (SELECT system_identifier FROM pg_catalog.pg_control_system()) WHERE id = $1",
        &[id.into(), offset.into(), nodes(state)?.into()],
    )?;
    store_backlog(id, state.backlog.as_ref())
}

fn store_backlog(id: i64, backlog: Option<&Backlog>) -> Result<()> {
    let Some(b) = backlog else {
        return ask::execute_often(
            "UPDATE rollup.definition SET backlog_from_xmax = NULL, backlog_from_xip = NULL, backlog_to_xmax = NULL, backlog_to_xip = NULL, backlog_cursor = NULL, \
             backlog_cuts = NULL, backlog_rows = NULL, backlog_done = NULL, backlog_started = NULL WHERE id = $1 AND backlog_to_xmax IS NOT NULL",
            &[id.into()],
        );
    };
    // In a cluster both are in `nodes`, and these say no more than that there is a backlog.
    let [from, to] = [&b.from, &b.to].map(|end| end.server().cloned().unwrap_or_default());
    ask::execute(
        "UPDATE rollup.definition SET backlog_from_xmax = $2, backlog_from_xip = $3, backlog_to_xmax = $4, backlog_to_xip = $5, \
         backlog_cursor = pg_catalog.timezone('UTC', $6::pg_catalog.timestamp), \
         backlog_cuts = ARRAY(SELECT pg_catalog.timezone('UTC', c::pg_catalog.timestamp) FROM pg_catalog.unnest($7) WITH ORDINALITY u (c, n) ORDER BY n) WHERE id = $1",
        &[
            id.into(),
            from.xmax.into(),
            from.xip.into(),
            to.xmax.into(),
            to.xip.into(),
            b.cursor.clone().into(),
            b.cuts.clone().into(),
        ],
    )
}
