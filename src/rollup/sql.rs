//! The SQL that a plan becomes. Every name in it is qualified and quoted; bounds are constants, so that an
//! index serves them and the caller's isolation level does not matter.
use super::plan::{Column, Merge, Plan};
use crate::pg::xact::Snapshot;

/// The column that every rolled-up table has.
pub const STAMP: &str = "rollup_stamp";

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

fn list<'a>(columns: impl Iterator<Item = &'a Column>, f: impl Fn(&Column) -> String) -> String {
    columns.map(f).collect::<Vec<_>>().join(", ")
}

fn xip(s: &Snapshot) -> String {
    let ids: Vec<String> = s.xip.iter().map(i64::to_string).collect();
    format!("'{{{}}}'::pg_catalog.int8[]", ids.join(","))
}

/// Rows of transactions that had not finished in `s`.
pub fn unfinished(s: &Snapshot) -> String {
    let mut p = format!("{STAMP} OPERATOR(pg_catalog.>=) {}::pg_catalog.int8", s.xmax);
    if !s.xip.is_empty() {
        p += &format!(" OR {STAMP} OPERATOR(pg_catalog.=) ANY ({})", xip(s));
    }
    format!("({p})")
}

/// Rows of transactions that had finished in `s`.
pub fn finished(s: &Snapshot) -> String {
    let mut p = format!("{STAMP} OPERATOR(pg_catalog.<) {}::pg_catalog.int8", s.xmax);
    if !s.xip.is_empty() {
        p += &format!(" AND {STAMP} OPERATOR(pg_catalog.<>) ALL ({})", xip(s));
    }
    format!("({p})")
}

fn aggregate_source(plan: &Plan, source: &str, bounds: &str, extra: &str) -> String {
    let keys: Vec<String> = plan
        .columns
        .iter()
        .enumerate()
        .filter(|(_, c)| c.merge.is_none())
        .map(|(i, _)| (i + 1).to_string())
        .collect();
    let filter = plan.filter.as_ref().map(|f| format!(" AND ({f})")).unwrap_or_default();
    format!(
        "SELECT {}{extra} FROM {source} WHERE {bounds}{filter} GROUP BY {}",
        list(plan.columns.iter(), |c| format!("{} AS {}", c.expression, ident(&c.name))),
        keys.join(", ")
    )
}

/// The statement of one run: merges rows finished in `now` and not in `seen`; returns (raw rows, groups).
pub fn run(plan: &Plan, source: &str, target: &str, seen: &Snapshot, now: &Snapshot) -> String {
    let bounds = format!("{} AND {}", unfinished(seen), finished(now));
    let names = list(plan.columns.iter(), |c| ident(&c.name));
    let keys = list(plan.keys(), |c| ident(&c.name));
    let set: Vec<String> =
        plan.values().map(|(c, m)| format!("{} = {}", ident(&c.name), merge_pair(c, m))).collect();
    format!(
        "WITH delta AS MATERIALIZED ({}), merged AS (INSERT INTO {target} AS t ({names}) SELECT {names} FROM delta \
         ON CONFLICT ({keys}) DO UPDATE SET {}) \
         SELECT coalesce(pg_catalog.sum(\"rollup rows\"), 0)::pg_catalog.int8, pg_catalog.count(*) FROM delta",
        aggregate_source(plan, source, &bounds, ", pg_catalog.count(*) AS \"rollup rows\""),
        set.join(", ")
    )
}

/// True as soon as there is one row for the next run. Rows that WHERE leaves out count too.
pub fn is_due(source: &str, seen: &Snapshot, now: &Snapshot) -> String {
    format!("SELECT EXISTS (SELECT FROM {source} WHERE {} AND {})", unfinished(seen), finished(now))
}

/// True where a row that is visible claims a transaction that has not begun: its stamp was written by hand, or
/// comes from another cluster. `own` is the id of this transaction, whose rows are visible to it.
pub fn has_foreign_stamp(source: &str, own: i64) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM {source} WHERE {STAMP} OPERATOR(pg_catalog.>=) (SELECT pg_catalog.pg_snapshot_xmax(\
         pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8) AND {STAMP} OPERATOR(pg_catalog.<>) {own}::pg_catalog.int8)"
    )
}

fn merge_pair(c: &Column, m: Merge) -> String {
    let n = ident(&c.name);
    let (a, b) = (format!("t.{n}"), format!("excluded.{n}"));
    let keep_either =
        |both: String| format!("CASE WHEN {a} IS NULL THEN {b} WHEN {b} IS NULL THEN {a} ELSE {both} END");
    match m {
        Merge::Count => format!("{a} OPERATOR(pg_catalog.+) {b}"),
        Merge::Sum => keep_either(format!("{a} OPERATOR(pg_catalog.+) {b}")),
        Merge::Min => format!("LEAST({a}, {b})"),
        Merge::Max => format!("GREATEST({a}, {b})"),
        Merge::And => keep_either(format!("{a} AND {b}")),
        Merge::Or => keep_either(format!("{a} OR {b}")),
        Merge::Hll => keep_either(format!("{}.hll_union({a}, {b})", ident(&c.schema))),
        Merge::Counter => format!("{}.jsonb_counter_merge({a}, {b})", ident(&c.schema)),
    }
}

fn merge_many(c: &Column) -> String {
    let n = ident(&c.name);
    let call = match c.merge {
        None => return n,
        Some(Merge::Count | Merge::Sum) => format!("pg_catalog.sum({n})"),
        Some(Merge::Min) => format!("pg_catalog.min({n})"),
        Some(Merge::Max) => format!("pg_catalog.max({n})"),
        Some(Merge::And) => format!("pg_catalog.bool_and({n})"),
        Some(Merge::Or) => format!("pg_catalog.bool_or({n})"),
        Some(Merge::Hll) => format!("{}.hll_union_agg({n})", ident(&c.schema)),
        Some(Merge::Counter) => format!("{}.jsonb_counter_merge_agg({n})", ident(&c.schema)),
    };
    format!("{call}::{} AS {n}", c.sql_type)
}

/// The live view: the rollup merged with the rows not yet rolled up. State, rollup and raw table are read under
/// one snapshot, so each row is in exactly one of the two parts.
pub fn live_view(plan: &Plan, view: &str, source: &str, target: &str, id: i64) -> String {
    let state = |column: &str| {
        format!("(SELECT d.{column} FROM rollup.definition d WHERE d.id OPERATOR(pg_catalog.=) {id})")
    };
    let bounds = format!(
        "({STAMP} OPERATOR(pg_catalog.>=) {} OR {STAMP} OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.int8[]))",
        state("seen_xmax"),
        state("seen_xip")
    );
    let names = list(plan.columns.iter(), |c| ident(&c.name));
    let keys = list(plan.keys(), |c| ident(&c.name));
    format!(
        "CREATE VIEW {view} AS SELECT {} FROM (SELECT {names} FROM {target} UNION ALL {}) u GROUP BY {keys}",
        list(plan.columns.iter(), merge_many),
        aggregate_source(plan, source, &bounds, "")
    )
}

/// The rollup's table.
pub fn create_table(plan: &Plan, target: &str) -> String {
    let columns = list(plan.columns.iter(), |c| {
        let rule = if c.merge == Some(Merge::Count) { " NOT NULL" } else { "" };
        format!("{} {}{rule}", ident(&c.name), c.sql_type)
    });
    let keys = list(plan.keys(), |c| ident(&c.name));
    let unique = if plan.keys_never_null { "PRIMARY KEY" } else { "UNIQUE NULLS NOT DISTINCT" };
    // Rows are updated as late rows come in: room on the page keeps the updates off the index.
    format!(
        "CREATE TABLE {target} ({columns}, {unique} ({keys}) WITH (fillfactor = 90)) WITH (fillfactor = 70)"
    )
}
