//! Which rows a rollup has merged: conditions on the stamp, with the state as constants.
//!
//! Merged is what had finished in `seen`, but for the backlog: rows between two snapshots that are worked off by
//! time, newest first, of which those at `cursor` or later are merged.
use super::citus::{
    self,
    vector::{Span, Vector},
};
use super::plan::Plan;
use super::sql::{STAMP, ident};
use crate::pg::literal;
use crate::pg::xact::Snapshot;

/// Rows that were too many for one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// They had not finished here.
    pub from: Snapshot,
    /// They had finished here.
    pub to: Snapshot,
    /// On a Citus cluster, this instead of the two.
    pub nodes: Option<Span>,
    /// Those at this time or later are merged; None: none yet. UTC.
    pub cursor: Option<String>,
    /// Where the next pieces begin, newest first; what is before the last is the last piece. UTC.
    pub cuts: Vec<String>,
}

/// How far a rollup has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Rows finished here are merged, but for the backlog.
    pub seen: Snapshot,
    /// Rows that are not, in spite of it.
    pub backlog: Option<Backlog>,
    /// On a Citus cluster, where rows are written on every node, this instead of `seen`.
    pub nodes: Option<Vector>,
}

fn xip(s: &Snapshot) -> String {
    let ids: Vec<String> = s.xip.iter().map(i64::to_string).collect();
    format!("'{{{}}}'::pg_catalog.int8[]", ids.join(","))
}

/// Rows of transactions that had not finished in `s`; `prefix` names their table.
pub fn unfinished(prefix: &str, s: &Snapshot) -> String {
    let mut p = format!("{prefix}{STAMP} OPERATOR(pg_catalog.>=) {}::pg_catalog.int8", s.xmax);
    if !s.xip.is_empty() {
        p += &format!(" OR {prefix}{STAMP} OPERATOR(pg_catalog.=) ANY ({})", xip(s));
    }
    format!("({p})")
}

/// Rows of transactions that had finished in `s`.
pub fn finished(prefix: &str, s: &Snapshot) -> String {
    let mut p = format!("{prefix}{STAMP} OPERATOR(pg_catalog.<) {}::pg_catalog.int8", s.xmax);
    if !s.xip.is_empty() {
        p += &format!(" AND {prefix}{STAMP} OPERATOR(pg_catalog.<>) ALL ({})", xip(s));
    }
    format!("({p})")
}

/// Rows that the run from `seen` to `now` merges.
pub fn new(prefix: &str, seen: &Snapshot, now: &Snapshot) -> String {
    format!("{} AND {}", unfinished(prefix, seen), finished(prefix, now))
}

/// A moment as a value that the source's time column is compared with.
fn moment(plan: &Plan, text: &str) -> String {
    let local = format!("{}::pg_catalog.timestamp", literal(text));
    if plan.time_zoned { format!("({local} AT TIME ZONE 'UTC')") } else { local }
}

/// All rows of a backlog, merged or not.
fn rows(prefix: &str, b: &Backlog) -> String {
    match &b.nodes {
        Some(span) => citus::bounds::new(prefix, &span.from, &span.to),
        None => new(prefix, &b.from, &b.to),
    }
}

/// Rows of the backlog that are not merged.
fn left(prefix: &str, plan: &Plan, b: &Backlog) -> String {
    let time = format!("{prefix}{}", ident(&plan.time_column));
    let rows = rows(prefix, b);
    match &b.cursor {
        None => format!("({rows})"),
        Some(c) => {
            format!("({rows} AND ({time} OPERATOR(pg_catalog.<) {} OR {time} IS NULL))", moment(plan, c))
        }
    }
}

/// Rows of the backlog's next piece.
pub fn piece(prefix: &str, plan: &Plan, b: &Backlog) -> String {
    let time = format!("{prefix}{}", ident(&plan.time_column));
    match b.cuts.first() {
        None => left(prefix, plan, b),
        Some(cut) => {
            let before = b
                .cursor
                .as_ref()
                .map(|c| format!(" AND {time} OPERATOR(pg_catalog.<) {}", moment(plan, c)))
                .unwrap_or_default();
            let rows = rows(prefix, b);
            format!("({rows} AND {time} OPERATOR(pg_catalog.>=) {}{before})", moment(plan, cut))
        }
    }
}

/// Rows that are merged.
pub fn merged(prefix: &str, plan: &Plan, state: &State) -> String {
    let finished = match &state.nodes {
        Some(nodes) => citus::bounds::merged(prefix, nodes),
        None => finished(prefix, &state.seen),
    };
    // The same of a row, and no constant: Citus takes none beside an outer join.
    let finished = if finished == "false" { format!("{prefix}{STAMP} IS NULL") } else { finished };
    match &state.backlog {
        None => finished,
        Some(b) => format!("({finished} AND NOT {})", left(prefix, plan, b)),
    }
}

/// Rows that are not merged.
pub fn unmerged(prefix: &str, plan: &Plan, state: &State) -> String {
    let unfinished = match &state.nodes {
        Some(nodes) => citus::bounds::unmerged(prefix, nodes),
        None => unfinished(prefix, &state.seen),
    };
    match &state.backlog {
        None => unfinished,
        Some(b) => format!("({unfinished} OR {})", left(prefix, plan, b)),
    }
}

/// A value of a rollup's state, read from the catalog by the statement itself.
fn state_now(value: &str, id: i64) -> String {
    format!("(SELECT {value} FROM rollup.definition d WHERE d.id OPERATOR(pg_catalog.=) {id})")
}

/// Rows of transactions that had not finished at these columns of the state.
///
/// The planner does not know the bounds. It takes a range to hold few rows, as it does, and anything else to hold a
/// good part of the table: so each part is a range, and the index is what finds them.
fn since_now(prefix: &str, xmax: &str, xip: &str, id: i64) -> String {
    let stamp = format!("{prefix}{STAMP}");
    format!(
        "({stamp} OPERATOR(pg_catalog.>=) {x} AND {stamp} OPERATOR(pg_catalog.<) 9223372036854775807 OR \
         {stamp} OPERATOR(pg_catalog.>=) {x0} AND {stamp} OPERATOR(pg_catalog.<) {x} AND {stamp} OPERATOR(pg_catalog.=) ANY ({xip}::pg_catalog.int8[]))",
        x = state_now(xmax, id),
        x0 = state_now(&format!("{xip}[1]"), id),
        xip = state_now(xip, id)
    )
}

/// Rows of transactions that had not finished at the last run, the state read by the statement itself.
pub fn unfinished_now(prefix: &str, id: i64) -> String {
    since_now(prefix, "seen_xmax", "seen_xip", id)
}

/// Rows that are not merged, the state read from the catalog by the statement itself: for views.
pub fn unmerged_now(prefix: &str, plan: &Plan, id: i64) -> String {
    let state = |value: &str| state_now(value, id);
    let stamp = format!("{prefix}{STAMP}");
    let time = format!("{prefix}{}", ident(&plan.time_column));
    let cursor = state("backlog_cursor");
    let cursor = if plan.time_zoned { cursor } else { format!("({cursor} AT TIME ZONE 'UTC')") };
    // Without a backlog its bounds are NULL, and the last part holds for no row.
    format!(
        "({} OR {stamp} OPERATOR(pg_catalog.>=) {} AND {stamp} OPERATOR(pg_catalog.<) {} AND {} AND {stamp} OPERATOR(pg_catalog.<>) ALL ({}::pg_catalog.int8[]) \
         AND ({cursor} IS NULL OR {time} OPERATOR(pg_catalog.<) {cursor} OR {time} IS NULL))",
        unfinished_now(prefix, id),
        state("coalesce(backlog_from_xip[1], backlog_from_xmax)"),
        state("backlog_to_xmax"),
        since_now(prefix, "backlog_from_xmax", "backlog_from_xip", id),
        state("backlog_to_xip")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollup::bucket::Bucket;

    fn plan() -> Plan {
        Plan {
            columns: Vec::new(),
            joins: None,
            alias: "e".into(),
            filter: None,
            time_column: "at".into(),
            time_zoned: true,
            time_key: "at".into(),
            bucket: Bucket::Unknown,
            plain_key: true,
            follows: None,
            keys_never_null: true,
            rows: None,
        }
    }

    #[test]
    fn a_backlog_is_not_merged_before_its_cursor() {
        let to = Snapshot { xmax: 9, xip: vec![5] };
        let mut b = Backlog {
            from: Snapshot::default(),
            to: to.clone(),
            nodes: None,
            cursor: None,
            cuts: vec!["2026-01-02".into()],
        };
        let state = State { seen: to, backlog: Some(b.clone()), nodes: None };
        let all = merged("", &plan(), &state);
        assert!(all.contains("AND NOT (") && !all.contains("\"at\""), "{all}");
        assert!(
            piece("", &plan(), &b).contains(">=) ('2026-01-02'::pg_catalog.timestamp AT TIME ZONE 'UTC')")
        );
        b.cursor = Some("2026-01-02".into());
        b.cuts.clear();
        let last = piece("", &plan(), &b);
        assert!(last.contains("<) ('2026-01-02'") && last.contains("\"at\" IS NULL"), "{last}");
        assert_eq!(merged("", &plan(), &State::default()), finished("", &Snapshot::default()));
    }
}
