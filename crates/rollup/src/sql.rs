//! The sets of stamps as SQL conditions, with their bounds as constants, in forms that an index serves.
//!
//! A set is not written range by range: a snapshot has one bound and a short list of transactions, which is what it reads
//! as, `stamp >= xmax OR stamp = ANY (xip)`.
use super::backlog::{Backlog, State};
use super::frontier::{Frontier, Node, Nodes, SOURCE, merged as stamps_merged};
use super::snapshot::Snapshot;

pub mod current;

/// The column that every rolled-up table has.
pub const STAMP: &str = "rollup_stamp";

/// The time column of the source.
#[derive(Debug, Clone, Copy)]
pub struct Time<'a> {
    /// Its name.
    pub column: &'a str,
    /// It is a timestamptz.
    pub zoned: bool,
}

/// A quoted identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted literal, whatever standard_conforming_strings says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// Rows that are merged; `prefix` names their table. In a cluster of which nothing is known that is a condition of the row,
/// and no constant: Citus takes none next to an outer join.
pub fn merged(prefix: &str, frontier: &Frontier) -> String {
    match frontier {
        Frontier::Server(seen) => finished(prefix, seen),
        Frontier::Cluster(_) if stamps_merged(frontier).is_empty() => format!("{prefix}{STAMP} IS NULL"),
        Frontier::Cluster(nodes) => between(prefix, &Nodes::new(), nodes),
    }
}

/// Rows that are not merged.
pub fn unmerged(prefix: &str, frontier: &Frontier) -> String {
    match frontier {
        Frontier::Server(seen) => unfinished(prefix, seen),
        Frontier::Cluster(nodes) => rest(prefix, nodes),
    }
}

/// Rows that the run from one frontier to another merges.
pub fn new(prefix: &str, from: &Frontier, to: &Frontier) -> String {
    match (from, to) {
        (Frontier::Cluster(from), Frontier::Cluster(to)) => between(prefix, from, to),
        _ => format!("{} AND {}", unmerged(prefix, from), merged(prefix, to)),
    }
}

/// Rows that are merged, in spite of a backlog.
pub fn merged_rows(prefix: &str, time: Time, state: &State) -> String {
    let merged = merged(prefix, &state.frontier);
    match &state.backlog {
        None => merged,
        Some(b) => format!("({merged} AND NOT {})", left(prefix, time, b)),
    }
}

/// Rows that are not merged, those of a backlog included.
pub fn unmerged_rows(prefix: &str, time: Time, state: &State) -> String {
    let unmerged = unmerged(prefix, &state.frontier);
    match &state.backlog {
        None => unmerged,
        Some(b) => format!("({unmerged} OR {})", left(prefix, time, b)),
    }
}

/// Rows of a backlog's next piece.
pub fn piece(prefix: &str, time: Time, b: &Backlog) -> String {
    let Some(cut) = b.cuts.first() else { return left(prefix, time, b) };
    let column = format!("{prefix}{}", ident(time.column));
    let before = |cursor| format!(" AND {column} OPERATOR(pg_catalog.<) {}", time.moment(cursor));
    let before = b.cursor.as_deref().map(before).unwrap_or_default();
    let rows = new(prefix, &b.from, &b.to);
    format!("({rows} AND {column} OPERATOR(pg_catalog.>=) {}{before})", time.moment(cut))
}

/// Rows of a backlog that are not merged.
fn left(prefix: &str, time: Time, b: &Backlog) -> String {
    let column = format!("{prefix}{}", ident(time.column));
    let rows = new(prefix, &b.from, &b.to);
    match &b.cursor {
        None => format!("({rows})"),
        Some(c) => {
            format!("({rows} AND ({column} OPERATOR(pg_catalog.<) {} OR {column} IS NULL))", time.moment(c))
        }
    }
}

impl Time<'_> {
    /// A moment as a value that the column is compared with.
    fn moment(self, text: &str) -> String {
        let local = format!("{}::pg_catalog.timestamp", literal(text));
        if self.zoned { format!("({local} AT TIME ZONE 'UTC')") } else { local }
    }
}

/// Rows of transactions that had not finished.
fn unfinished(prefix: &str, s: &Snapshot) -> String {
    let mut p = format!("{prefix}{STAMP} OPERATOR(pg_catalog.>=) {}::pg_catalog.int8", s.xmax);
    if !s.xip.is_empty() {
        p += &format!(" OR {prefix}{STAMP} OPERATOR(pg_catalog.=) ANY ({})", ids(0, &s.xip));
    }
    format!("({p})")
}

/// Rows of transactions that had finished.
fn finished(prefix: &str, s: &Snapshot) -> String {
    let mut p = format!("{prefix}{STAMP} OPERATOR(pg_catalog.<) {}::pg_catalog.int8", s.xmax);
    if !s.xip.is_empty() {
        p += &format!(" AND {prefix}{STAMP} OPERATOR(pg_catalog.<>) ALL ({})", ids(0, &s.xip));
    }
    format!("({p})")
}

fn ids(base: i64, ids: &[i64]) -> String {
    let stamps: Vec<String> = ids.iter().map(|x| (base + x).to_string()).collect();
    format!("'{{{}}}'::pg_catalog.int8[]", stamps.join(","))
}

fn compare(prefix: &str, operator: &str, value: i64) -> String {
    // Quoted: a bare minus sign would be an operator, which binds looser than the cast.
    format!("{prefix}{STAMP} OPERATOR(pg_catalog.{operator}) '{value}'::pg_catalog.int8")
}

fn any(parts: Vec<String>) -> String {
    if parts.is_empty() { "false".into() } else { format!("({})", parts.join(" OR ")) }
}

/// Rows that had not finished in `old` and have in `now`, line by line.
fn between(prefix: &str, old: &Nodes, now: &Nodes) -> String {
    let nothing = Node::default();
    let mut parts = Vec::new();
    for (group, node) in now {
        let before = old.get(group).unwrap_or(&nothing);
        for (old, now) in before.lines(*group).zip(node.lines(*group)) {
            let (base, seen, now) = (now.base, old.at, now.at);
            if seen.contains(now) {
                continue;
            }
            let least = seen.xip.first().copied().unwrap_or(seen.xmax).min(seen.xmax);
            // The first two conditions are a range that an index serves, whatever the rest is.
            let mut p = format!(
                "{} AND {}",
                compare(prefix, ">=", base + least),
                compare(prefix, "<", base + now.xmax)
            );
            if !seen.xip.is_empty() {
                p += &format!(
                    " AND ({} OR {prefix}{STAMP} OPERATOR(pg_catalog.=) ANY ({}))",
                    compare(prefix, ">=", base + seen.xmax),
                    ids(base, &seen.xip)
                );
            }
            if !now.xip.is_empty() {
                p += &format!(" AND {prefix}{STAMP} OPERATOR(pg_catalog.<>) ALL ({})", ids(base, &now.xip));
            }
            parts.push(format!("({p})"));
        }
    }
    any(parts)
}

/// Rows that are in no group's finished ones: those between the lines, and of each line what is open or still to come.
fn rest(prefix: &str, nodes: &Nodes) -> String {
    // The planner takes a range to hold few rows, and half a range to hold a third of the table.
    let range = |first: i64, last: i64| {
        format!("({} AND {})", compare(prefix, ">=", first), compare(prefix, "<=", last))
    };
    let (mut parts, mut open) = (Vec::new(), Vec::new());
    // Where the next line would begin, if it followed the one before.
    let mut next = Some(i64::MIN);
    for line in nodes.iter().flat_map(|(group, node)| node.lines(*group)) {
        if let Some(gap) = next.filter(|next| *next < line.base) {
            parts.push(range(gap, line.base - 1));
        }
        open.extend(line.at.xip.iter().map(|x| line.base + x));
        let last = line.base + (SOURCE - 1);
        if line.at.xmax == SOURCE - 1 {
            open.push(last);
        } else if line.at.xmax < SOURCE {
            parts.push(range(line.base + line.at.xmax, last));
        }
        next = last.checked_add(1);
    }
    parts.extend(next.map(|gap| range(gap, i64::MAX)));
    if !open.is_empty() {
        parts.push(format!("{prefix}{STAMP} OPERATOR(pg_catalog.=) ANY ({})", ids(0, &open)));
    }
    any(parts)
}
