//! The same conditions for statements that read the state themselves, as views do: the state of a rollup on one server is in
//! the columns of its row in `rollup.definition`.
use super::{STAMP, Time, ident};

/// A value of a rollup's state.
fn state(value: &str, id: i64) -> String {
    format!("(SELECT {value} FROM rollup.definition d WHERE d.id OPERATOR(pg_catalog.=) {id})")
}

/// Rows of transactions that had not finished at these columns of the state.
///
/// The planner does not know the bounds. It takes a range to hold few rows, as it does, and anything else to hold a
/// good part of the table: so each part is a range, and the index is what finds them.
fn since(prefix: &str, xmax: &str, xip: &str, id: i64) -> String {
    let stamp = format!("{prefix}{STAMP}");
    format!(
        "({stamp} OPERATOR(pg_catalog.>=) {x} AND {stamp} OPERATOR(pg_catalog.<) 9223372036854775807 OR \
         {stamp} OPERATOR(pg_catalog.>=) {x0} AND {stamp} OPERATOR(pg_catalog.<) {x} AND {stamp} OPERATOR(pg_catalog.=) ANY ({xip}::pg_catalog.int8[]))",
        x = state(xmax, id),
        x0 = state(&format!("{xip}[1]"), id),
        xip = state(xip, id)
    )
}

/// Rows of transactions that had not finished at the last run.
pub fn unmerged(prefix: &str, id: i64) -> String {
    since(prefix, "seen_xmax", "seen_xip", id)
}

/// Rows that are not merged, those of a backlog included.
pub fn unmerged_rows(prefix: &str, time: Time, id: i64) -> String {
    let state = |value: &str| state(value, id);
    let stamp = format!("{prefix}{STAMP}");
    let column = format!("{prefix}{}", ident(time.column));
    let cursor = state("backlog_cursor");
    let cursor = if time.zoned { cursor } else { format!("({cursor} AT TIME ZONE 'UTC')") };
    // Without a backlog its bounds are NULL, and the last part holds for no row.
    format!(
        "({} OR {stamp} OPERATOR(pg_catalog.>=) {} AND {stamp} OPERATOR(pg_catalog.<) {} AND {} AND {stamp} OPERATOR(pg_catalog.<>) ALL ({}::pg_catalog.int8[]) \
         AND ({cursor} IS NULL OR {column} OPERATOR(pg_catalog.<) {cursor} OR {column} IS NULL))",
        unmerged(prefix, id),
        state("coalesce(backlog_from_xip[1], backlog_from_xmax)"),
        state("backlog_to_xmax"),
        since(prefix, "backlog_from_xmax", "backlog_from_xip", id),
        state("backlog_to_xip")
    )
}
