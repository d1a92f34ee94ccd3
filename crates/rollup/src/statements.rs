//! The statements that a plan becomes. Every name in them is qualified and quoted; bounds are constants, so that an index
//! serves them and the caller's isolation level does not matter.
use crate::backlog::State;
use crate::frontier::Frontier;
use crate::gathered::merge_levels;
use crate::keys::{self, FITS};
use crate::level::Level;
use crate::plan::{Column, Merge, Plan, Role};
use crate::sql::{self, STAMP, ident, literal};
use crate::template::fill;
use std::ffi::CStr;

/// What `f` makes of each column, with commas between.
pub fn list<'a>(columns: impl Iterator<Item = &'a Column>, f: impl Fn(&Column) -> String) -> String {
    columns.map(f).collect::<Vec<_>>().join(", ")
}

/// The expression of a kept column; the time key in the buckets of `level`, if one is asked for.
fn source_expression(plan: &Plan, c: &Column, level: Option<&Level>) -> String {
    match level {
        Some(level) if c.name == plan.time_key => level.bucket_of_expression(&c.expression),
        _ => c.expression.clone(),
    }
}

/// Positions of the keys among the kept columns, for GROUP BY.
pub fn key_positions(plan: &Plan) -> String {
    let keys = plan.kept().enumerate().filter(|(_, c)| c.is_key()).map(|(i, _)| (i + 1).to_string());
    keys.collect::<Vec<_>>().join(", ")
}

/// The groups of source rows that satisfy `bounds`.
pub fn aggregate_source(
    plan: &Plan,
    source: &str,
    bounds: &str,
    level: Option<&Level>,
    extra: &str,
) -> String {
    let plan = &*plan.of_level(level);
    let filter = plan.and_filter();
    format!(
        "SELECT {}{extra} FROM {} WHERE {bounds}{filter} GROUP BY {}",
        list(plan.kept(), |c| format!("{} AS {}", source_expression(plan, c, level), ident(&c.name))),
        plan.from_clause(source),
        key_positions(plan)
    )
}

/// What the source's columns are prefixed with.
pub fn prefix(plan: &Plan) -> String {
    format!("{}.", ident(&plan.alias))
}

/// Groups of the rows merged so far whose time key, in the buckets of `level`, satisfies `holds`.
pub fn recomputed(
    plan: &Plan,
    source: &str,
    state: &State,
    level: Option<&Level>,
    holds: impl Fn(&str) -> String,
) -> String {
    let key = source_expression(plan, plan.key_column(), level);
    let bounds =
        format!("{} AND {}", sql::merged_rows(&prefix(plan), plan.time(), state), holds(&format!("({key})")));
    aggregate_source(plan, source, &bounds, level, "")
}

/// Groups of the rows merged so far whose time key satisfies `holds`, all of which satisfy `rows`.
pub fn recomputed_where(
    plan: &Plan,
    source: &str,
    state: &State,
    rows: &str,
    holds: impl Fn(&str) -> String,
) -> String {
    let key = plan.bucket_of_row();
    let bounds =
        format!("{} AND {rows} AND {}", sql::merged_rows(&prefix(plan), plan.time(), state), holds(&key));
    aggregate_source(plan, source, &bounds, None, "")
}

/// Names of the kept columns.
pub fn kept_names(plan: &Plan) -> String {
    list(plan.kept(), |c| ident(&c.name))
}

/// Inserts the groups of `from` into a table of the rollup, or merges them into the rows that are there.
pub(crate) fn upsert(plan: &Plan, target: &str, from: &str) -> String {
    let set: Vec<String> =
        plan.values().map(|(c, m)| format!("{} = {}", ident(&c.name), merge_pair(c, m))).collect();
    insert_or(plan, target, from, &set.join(", "))
}

/// Merges `groups` into a table of the rollup.
pub fn add(plan: &Plan, target: &str, groups: &str) -> String {
    upsert(plan, target, &format!("({groups}) g{}", keys::where_fits(plan, "g")))
}

fn insert_or(plan: &Plan, target: &str, from: &str, set: &str) -> String {
    let names = list(plan.kept(), |c| ident(&c.name));
    let keys = list(plan.keys(), |c| ident(&c.name));
    format!(
        "INSERT INTO {target} AS t ({names}) SELECT {names} FROM {from} ON CONFLICT ({keys}) DO UPDATE SET {set}"
    )
}

/// Puts the columns named, as `groups` has them, into the rows of a table of the rollup.
pub fn overwrite(plan: &Plan, target: &str, groups: &str, columns: &[&str]) -> String {
    let set: Vec<String> = columns.iter().map(|c| format!("{0} = excluded.{0}", ident(c))).collect();
    insert_or(plan, target, &format!("({groups}) g{}", keys::where_fits(plan, "g")), &set.join(", "))
}

/// Puts `groups` into a table from which their like was removed.
pub fn insert(plan: &Plan, target: &str, groups: &str) -> String {
    let names = list(plan.kept(), |c| ident(&c.name));
    format!("INSERT INTO {target} ({names}) SELECT {names} FROM ({groups}) g{}", keys::where_fits(plan, "g"))
}

/// The rollup's query as it would be written today.
pub fn query(plan: &Plan, source: &str) -> String {
    let filter = plan.filter.as_ref().map_or(String::new(), |f| format!(" WHERE {f}"));
    let seen = plan.seen();
    let from =
        plan.followed.as_ref().map_or_else(|| plan.from_clause(source), |followed| followed.from.text());
    let visible: Vec<&Column> = seen.columns.iter().filter(|c| !c.hidden).collect();
    let keys = visible.iter().enumerate().filter(|(_, c)| c.is_key()).map(|(i, _)| (i + 1).to_string());
    format!(
        "SELECT {} FROM {}{filter} GROUP BY {}",
        list(visible.iter().copied(), |c| format!("{} AS {}", c.written, ident(&c.name))),
        from,
        keys.collect::<Vec<_>>().join(", ")
    )
}

/// How values of a column are compared: float sums depend on the order of rows, in their last digits, and what a bounded
/// counter has of a key on the order in which it was merged, within its error.
fn comparison(c: &Column) -> &'static str {
    let counts = |m: &Merge| m.combine.contains("jsonb_counter_merge(");
    match c.sql_type.as_str() {
        "pg_catalog.jsonb" if c.merge().is_some_and(counts) => "counters",
        "real" => "1e-4",
        "double precision" => "1e-9",
        "double precision[]" => "count",
        _ => "",
    }
}

/// What differs between a table of the rollup and `groups`, for time keys that satisfy `holds`: relation, keys, column, what
/// is stored, what should be.
pub fn differences(plan: &Plan, target: &str, groups: &str, holds: impl Fn(&str) -> String) -> String {
    let keys = list(plan.keys(), |c| ident(&c.name));
    let values = || plan.kept().filter(|c| !c.is_key());
    let texts = list(values(), |c| format!("{}::pg_catalog.text", ident(&c.name)));
    let rows = |side: i32, from: &str| {
        format!("SELECT {side} AS \"the side\", {keys}, ARRAY[{texts}] AS \"the values\" FROM {from}")
    };
    let side = |n: i32| format!("pg_catalog.min(\"the values\") FILTER (WHERE \"the side\" = {n})");
    let names: Vec<String> = values().map(|c| literal(&c.name)).collect();
    let how: Vec<String> = values().map(|c| literal(comparison(c))).collect();
    let object: Vec<String> =
        plan.keys().map(|c| format!("{}, g.{}", literal(&c.name), ident(&c.name))).collect();
    format!(
        "SELECT {}::pg_catalog.regclass::pg_catalog.oid, pg_catalog.jsonb_build_object({}), v.name, v.stored, v.fresh \
         FROM (SELECT {keys}, {} AS stored, {} AS fresh FROM ({} UNION ALL {}) u GROUP BY {keys}) g, \
         LATERAL (SELECT * FROM ROWS FROM (pg_catalog.unnest(ARRAY[{}]), pg_catalog.unnest(ARRAY[{}]), pg_catalog.unnest(g.stored), pg_catalog.unnest(g.fresh)) \
         AS v (name, how, stored, fresh)) v WHERE v.stored IS DISTINCT FROM v.fresh AND NOT coalesce(CASE v.how WHEN '' THEN false \
         WHEN 'counters' THEN rollup_internal.counters_agree(v.stored::pg_catalog.jsonb, v.fresh::pg_catalog.jsonb) \
         WHEN 'count' THEN (v.stored::pg_catalog.float8[])[1] = (v.fresh::pg_catalog.float8[])[1] \
         ELSE pg_catalog.abs(v.stored::pg_catalog.float8 - v.fresh::pg_catalog.float8) <= v.how::pg_catalog.float8 * \
         greatest(pg_catalog.abs(v.stored::pg_catalog.float8), pg_catalog.abs(v.fresh::pg_catalog.float8)) END, false) \
         ORDER BY g.{}, 2, 3",
        literal(target),
        object.join(", "),
        side(0),
        side(1),
        rows(0, &format!("{target} WHERE {}", holds(&ident(&plan.time_key)))),
        rows(1, &format!("({groups}) r")),
        names.join(", "),
        how.join(", "),
        ident(&plan.time_key)
    )
}

/// Groups of `from`, a relation with the kept columns of the rollup's own table, as `level` has them.
pub fn coarser(plan: &Plan, level: &Level, from: &str) -> String {
    let bucket = level.bucket_of(&ident(&plan.time_key));
    grouped(plan, level, from, &format!("{bucket} AS {}", ident(&plan.time_key)))
}

/// Groups of `from` by the keys of `level`, and by `time` as the time key.
pub(crate) fn grouped(plan: &Plan, level: &Level, from: &str, time: &str) -> String {
    let plan = &*plan.of_level(Some(level));
    let columns = list(plan.kept(), |c| match c.merge() {
        Some(m) => format!("{} AS {}", merge_many(c, m), ident(&c.name)),
        None if c.name == plan.time_key => time.to_string(),
        None => ident(&c.name),
    });
    format!("SELECT {columns} FROM {from} GROUP BY {}", key_positions(plan))
}

/// The relation that the groups of a run lie in until they are merged.
pub const DELTA: &CStr = c"delta";

/// The groups of a run: of the rows that satisfy `bounds`, each with how many they are. It reads and writes nothing, so
/// that parallel workers may serve it.
pub fn delta(plan: &Plan, source: &str, bounds: &str) -> String {
    let keys: Vec<String> = plan.keys().map(|c| format!("({})", c.expression)).collect();
    let fits = keys::fits_column(plan, &keys);
    aggregate_source(plan, source, bounds, None, &format!(", pg_catalog.count(*) AS \"rollup rows\"{fits}"))
}

/// Merges the groups of `delta` into the rollup and its levels, the levels from the groups of the next finer one; returns
/// (raw rows, for each condition of `late` the raw rows of groups that satisfy it, and those of groups that are left out).
pub fn merge_delta(plan: &Plan, target: &str, levels: &[Level], late: &[String]) -> String {
    let (delta, fit, left_out) = match keys::fits(plan, "d") {
        None => ("delta".to_string(), String::new(), Vec::new()),
        Some(_) => {
            (format!("delta WHERE {FITS}"), format!(" FILTER (WHERE {FITS})"), vec![format!("NOT {FITS}")])
        }
    };
    let merged = format!("merged AS (\n  {})", upsert(plan, target, &delta));
    let parts: Vec<String> = std::iter::once(merged).chain(merge_levels(plan, levels, &delta)).collect();
    let statement = format!("WITH {}", parts.join(",\n"));
    let rows = "coalesce(pg_catalog.sum(\"rollup rows\")";
    let counts: Vec<String> = late
        .iter()
        .chain(&left_out)
        .map(|condition| format!("{rows} FILTER (WHERE {condition}), 0)"))
        .collect();
    statement
        + &format!(
            "\nSELECT {rows}{fit}, 0)::pg_catalog.int8, ARRAY[{}]::pg_catalog.int8[] FROM delta",
            counts.join(", ")
        )
}

/// Counts the rows of the query that satisfy `bounds`.
pub fn count_new(plan: &Plan, source: &str, bounds: &str) -> String {
    let filter = plan.and_filter();
    format!("SELECT pg_catalog.count(*) FROM {} WHERE {bounds}{filter}", plan.from_clause(source))
}

/// Counts, for each condition of `late` on the time key, the rows of the query that satisfy `bounds` and it.
pub fn count_late(plan: &Plan, source: &str, bounds: &str, late: &[&str]) -> String {
    let filter = plan.and_filter();
    let key = &plan.key_column().expression;
    let counts: Vec<String> =
        late.iter().map(|condition| format!("pg_catalog.count(*) FILTER (WHERE {condition})")).collect();
    format!(
        "SELECT ARRAY[{}] FROM (SELECT {key} AS {} FROM {} WHERE {bounds}{filter}) g WHERE {}",
        counts.join(", "),
        ident(&plan.time_key),
        plan.from_clause(source),
        late.join(" OR ")
    )
}

/// Merges the rows that satisfy `bounds` into one table of the rollup: one statement, which Citus hands on to every
/// node as it is.
pub fn merge_directly(
    plan: &Plan,
    source: &str,
    target: &str,
    level: Option<&Level>,
    bounds: &str,
) -> String {
    let bounds = &format!("{bounds}{}", keys::and_fits_rollup(plan, level));
    let plan = &*plan.of_level(level);
    let set: Vec<String> =
        plan.values().map(|(c, m)| format!("{} = {}", ident(&c.name), merge_pair(c, m))).collect();
    let keys: Vec<String> = plan.keys().map(|c| format!("({})", source_expression(plan, c, level))).collect();
    let fit = keys::fits_keys(plan, &keys).map(|fits| format!(" HAVING {fits}")).unwrap_or_default();
    format!(
        "INSERT INTO {target} AS t ({}) {}{fit} ON CONFLICT ({}) DO UPDATE SET {}",
        list(plan.kept(), |c| ident(&c.name)),
        aggregate_source(plan, source, bounds, level, ""),
        list(plan.keys(), |c| ident(&c.name)),
        set.join(", ")
    )
}

/// Whether there is one row for the next run. Rows that WHERE leaves out count too.
pub fn is_due(source: &str, seen: &Frontier, now: &Frontier) -> String {
    format!("SELECT EXISTS (SELECT FROM {source} WHERE {})", sql::new("", seen, now))
}

/// Whether a row that is visible claims a transaction that has not begun: its stamp was written by hand, or
/// comes from another cluster. `own` is the stamp of this transaction, whose rows are visible to it; `offset` is
/// added to every stamp of the table.
pub fn has_foreign_stamp(source: &str, own: i64, offset: i64) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM {source} WHERE {STAMP} OPERATOR(pg_catalog.>=) (SELECT pg_catalog.pg_snapshot_xmax(\
         pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8 + {offset}) AND {STAMP} OPERATOR(pg_catalog.<>) {own}::pg_catalog.int8)"
    )
}

/// Two rows of one group as one: `t` is stored, `excluded` comes.
fn merge_pair(c: &Column, m: &Merge) -> String {
    let n = ident(&c.name);
    let (a, b) = (format!("t.{n}"), format!("excluded.{n}"));
    let both = fill(&m.combine, |hole| {
        let companion = m.companion.as_deref().map(ident);
        match hole {
            1 => Some(a.clone()),
            2 => Some(b.clone()),
            3 => companion.map(|c| format!("t.{c}")),
            4 => companion.map(|c| format!("excluded.{c}")),
            _ => None,
        }
    });
    if m.never_null {
        return both;
    }
    format!("CASE WHEN {a} IS NULL THEN {b} WHEN {b} IS NULL THEN {a} ELSE {both} END")
}

/// Many rows of one group as one.
pub fn merge_many(c: &Column, m: &Merge) -> String {
    let call = fill(&m.unite, |hole| match hole {
        1 => Some(ident(&c.name)),
        2 => m.companion.as_deref().map(ident),
        _ => None,
    });
    format!("{call}::{}", c.sql_type)
}

/// The value of a result, each column it takes given by `column`.
pub fn result(c: &Column, template: &str, of: &[String], column: impl Fn(&str) -> String) -> String {
    let value = fill(template, |n| of.get(n.wrapping_sub(1)).map(|name| column(name)));
    format!("({value})::{}", c.sql_type)
}

/// A result, of the columns of a table of the rollup.
pub fn computed(c: &Column) -> String {
    match &c.role {
        Role::Result { template, of, .. } => result(c, template, of, ident),
        _ => ident(&c.name),
    }
}

/// The groups that a table of the rollup would hold with the rows that satisfy `bounds`, in the order of their keys.
pub fn would_be(plan: &Plan, source: &str, table: &str, level: Option<&Level>, bounds: &str) -> String {
    let plan = &*plan.of_level(level);
    let columns = list(plan.kept(), |c| match c.merge() {
        Some(m) => format!("{} AS {}", merge_many(c, m), ident(&c.name)),
        None => ident(&c.name),
    });
    let keys = list(plan.keys(), |c| ident(&c.name));
    let names = kept_names(plan);
    let tail = aggregate_source(plan, source, bounds, level, "");
    format!(
        "SELECT {columns} FROM (SELECT {names} FROM {table} UNION ALL {tail}) u GROUP BY {keys} ORDER BY {keys} OFFSET 0"
    )
}

/// The definition of one column of the rollup's table.
pub fn column_definition(c: &Column) -> String {
    let collation = c.collation.as_ref().map_or(String::new(), |c| format!(" COLLATE {c}"));
    let rule = match (&c.role, generated_as(c)) {
        (Role::Value(Merge { never_null: true, .. }), _) => " NOT NULL".to_string(),
        (_, Some(expression)) => format!(" GENERATED ALWAYS AS ({expression}) STORED"),
        _ => String::new(),
    };
    format!("{} {}{collation}{rule}", ident(&c.name), c.sql_type)
}

/// What a column is computed by from others of its row; None of a column that is written.
pub fn generated_as(c: &Column) -> Option<String> {
    match &c.role {
        Role::Result { template, of, .. } => Some(result(c, template, of, ident)),
        _ => None,
    }
}

/// How the rollup's table is stored. Rows are updated as late rows come in: room on the page keeps the updates off
/// the index.
pub const ROLLUP_OPTIONS: &str = "fillfactor=70";

/// The rollup's table.
pub fn create_table(plan: &Plan, target: &str) -> String {
    let columns = list(plan.columns.iter().filter(|c| c.in_table()), column_definition);
    let keys = list(plan.keys(), |c| ident(&c.name));
    let unique = if plan.keys_never_null { "PRIMARY KEY" } else { "UNIQUE NULLS NOT DISTINCT" };
    format!(
        "CREATE TABLE {target} ({columns}, {unique} ({keys}) WITH (fillfactor = 90)) WITH ({ROLLUP_OPTIONS})"
    )
}
