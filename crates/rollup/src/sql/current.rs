//! The same conditions for statements that read the state themselves, as views do: the state of a rollup on one server is in
//! the columns of its row in `rollup.definition`.
use super::{STAMP, Time, ident};

/// A value of a rollup's state.
fn state(value: &str, id: i64) -> String {
    format!("(SELECT {value} FROM rollup.definition d WHERE d.id OPERATOR(pg_catalog.=) {id})")
}

/// Rows of transactions that had not finished at the last run.
///
/// The planner does not know the bounds. It takes a range to hold few rows, as it does, and anything else to hold a
/// good part of the table: so each part is a range, and the index is what finds them. Each value of the state that a
/// view reads costs time to plan: so no part says what another one implies. The transactions of `seen_xip` are below
/// `seen_xmax`.
pub fn unmerged(prefix: &str, id: i64) -> String {
    let stamp = format!("{prefix}{STAMP}");
    let since = |first: &str| {
        let first = state(first, id);
        format!(
            "{stamp} OPERATOR(pg_catalog.>=) {first} AND {stamp} OPERATOR(pg_catalog.<) 9223372036854775807"
        )
    };
    let xip = state("seen_xip", id);
    format!(
        "({} OR {} AND {stamp} OPERATOR(pg_catalog.=) ANY ({xip}::pg_catalog.int8[]))",
        since("seen_xmax"),
        since("seen_xip[1]")
    )
}

/// Rows that are not merged, those of a backlog included.
pub fn unmerged_rows(prefix: &str, time: Time, id: i64) -> String {
    let state = |value: &str| state(value, id);
    let stamp = format!("{prefix}{STAMP}");
    let column = format!("{prefix}{}", ident(time.column));
    let cursor = state("backlog_cursor");
    let cursor = if time.zoned { cursor } else { format!("({cursor} AT TIME ZONE 'UTC')") };
    // Without a backlog its bounds are NULL, and the last part holds for no row. Without a cursor no row is at or after
    // it; nor is one without a time.
    format!(
        "({unmerged} OR {stamp} OPERATOR(pg_catalog.>=) {least} AND {stamp} OPERATOR(pg_catalog.<) {to_xmax} \
         AND ({stamp} OPERATOR(pg_catalog.>=) {from_xmax} OR {stamp} OPERATOR(pg_catalog.=) ANY ({from_xip}::pg_catalog.int8[])) \
         AND {stamp} OPERATOR(pg_catalog.<>) ALL ({to_xip}::pg_catalog.int8[]) \
         AND ({column} OPERATOR(pg_catalog.>=) {cursor}) IS NOT TRUE)",
        unmerged = unmerged(prefix, id),
        least = state("coalesce(backlog_from_xip[1], backlog_from_xmax)"),
        to_xmax = state("backlog_to_xmax"),
        from_xmax = state("backlog_from_xmax"),
        from_xip = state("backlog_from_xip"),
        to_xip = state("backlog_to_xip")
    )
}
