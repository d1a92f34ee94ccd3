//! The statements by which rows that came to a source in another way are judged and merged; [`verdict`] judges a group.
//!
//! [`verdict`]: crate::verdict
use crate::keys;
use crate::level::Level;
use crate::plan::{Column, Plan};
use crate::sql::ident;
use crate::statements::{kept_names, key_positions, list, merge_delta, merge_many, prefix};
use crate::times;
use crate::verdict::CHANGED;

/// The column of newcomers that says which transaction, or which table that came as a whole, brought them.
pub const CAME: &str = "\"rollup came\"";

/// The groups of rows that satisfy `bounds`, those of each `came` apart, with how many they are and from when to when.
pub fn newcomers(plan: &Plan, source: &str, bounds: &str, came: &str) -> String {
    let filter = plan.and_filter();
    let time = format!("{}{}", prefix(plan), ident(&plan.time_column));
    let time = if plan.time_zoned { time } else { times::as_if_utc(&time) };
    format!(
        "SELECT {}, {came} AS {CAME}, pg_catalog.count(*) AS \"rollup rows\", pg_catalog.min({time}) AS \"rollup since\", pg_catalog.max({time}) AS \"rollup until\" \
         FROM {} WHERE {bounds}{filter} GROUP BY {}, {}",
        list(plan.kept(), |c| format!("{} AS {}", c.expression, ident(&c.name))),
        plan.from_clause(source),
        key_positions(plan),
        plan.kept().count() + 1
    )
}

/// The newcomers, each group of theirs with what is to be done with it: 1 where it is to be added, 0 where it was counted,
/// -1 where that cannot be told. `bounds` holds for all raw rows that may be of their groups and are merged, `stored` for
/// all groups of the rollup that may be theirs; of those for which `gone` holds nothing can be told, and of those for which
/// `lost` does only whether all were counted or none.
pub fn judged(
    plan: &Plan,
    source: &str,
    target: &str,
    newcomers: &str,
    bounds: &str,
    stored: &str,
    [gone, lost]: [&str; 2],
) -> String {
    let filter = plan.and_filter();
    let names = kept_names(plan);
    let only_keys = |key: &dyn Fn(&Column) -> String| {
        list(plan.kept(), |c| match c.is_key() {
            true => format!("{} AS {}", key(c), ident(&c.name)),
            false => format!("NULL::{} AS {}", c.sql_type, ident(&c.name)),
        })
    };
    let nobody = "NULL::pg_catalog.int8, NULL::pg_catalog.int8, NULL::pg_catalog.timestamptz, NULL::pg_catalog.timestamptz";
    // A group that was made without a count is one of which nothing can be told.
    let count = plan.rows.as_ref().map_or("NULL::pg_catalog.int8".into(), |c| ident(c));
    let keys = list(plan.keys(), |c| ident(&c.name));
    let of = format!("FILTER (WHERE {CAME} OPERATOR(pg_catalog.<>) {CHANGED}) OVER w");
    let all = |column: &str| format!("coalesce(pg_catalog.array_agg({column}) {of}, '{{}}')");
    // Of those that were changed, no more are lacking than the group lacks.
    let few = "least(\"rollup rows\", coalesce(nullif(greatest(pg_catalog.sum(\"rollup raw\" - \"rollup stored\") OVER w, 0), 0), \"rollup rows\"))::pg_catalog.int8";
    format!(
        "WITH \"the newcomers\" AS MATERIALIZED ({newcomers}), \"the groups\" AS (\
         SELECT {names}, {CAME}, \"rollup rows\", \"rollup since\", \"rollup until\", 0::pg_catalog.int8 AS \"rollup stored\", 0::pg_catalog.int8 AS \"rollup raw\" FROM \"the newcomers\" \
         UNION ALL SELECT {}, {nobody}, 0, pg_catalog.count(*) FROM {} WHERE EXISTS (SELECT FROM \"the newcomers\") AND {bounds}{filter} GROUP BY {} \
         UNION ALL SELECT {}, {nobody}, coalesce({count}, -4611686018427387904), 0 FROM {target} WHERE EXISTS (SELECT FROM \"the newcomers\") AND {stored}) \
         SELECT * FROM (SELECT {names}, {CAME}, CASE WHEN {CAME} OPERATOR(pg_catalog.=) {CHANGED} THEN {few} ELSE \"rollup rows\" END AS \"rollup rows\", \"rollup since\", \"rollup until\", CASE WHEN {gone} OR {lost} AND (pg_catalog.sum(\"rollup raw\" - \"rollup stored\") OVER w) NOT IN (0, pg_catalog.sum(\"rollup rows\") {of}) THEN -1 ELSE rollup_internal.verdict(\
         (pg_catalog.sum(\"rollup stored\") OVER w)::pg_catalog.int8, (pg_catalog.sum(\"rollup raw\") OVER w)::pg_catalog.int8, \
         {}, {}, {CAME}) END AS \"rollup verdict\" \
         FROM \"the groups\" WINDOW w AS (PARTITION BY {keys})) j WHERE {CAME} IS NOT NULL",
        only_keys(&|c| c.expression.clone()),
        plan.from_clause(source),
        list(plan.keys(), |c| c.expression.clone()),
        only_keys(&|c| ident(&c.name)),
        all(CAME),
        all("\"rollup rows\""),
    )
}

/// The statement that merges the groups of `judged` which are to be added, as `merge_delta` merges those of a run.
pub fn merge_judged(plan: &Plan, target: &str, levels: &[Level], late: &[String]) -> String {
    let columns = list(plan.kept(), |c| match c.merge() {
        Some(m) => format!("{} AS {}", merge_many(c, m), ident(&c.name)),
        None => ident(&c.name),
    });
    let merge = merge_delta(plan, target, levels, late);
    let keys: Vec<String> = plan.keys().map(|c| ident(&c.name)).collect();
    let fits = keys::fits_column(plan, &keys);
    format!(
        "WITH delta AS MATERIALIZED (\n  SELECT {columns}, pg_catalog.sum(\"rollup rows\")::pg_catalog.int8 AS \"rollup rows\"{fits} FROM judged WHERE \"rollup verdict\" OPERATOR(pg_catalog.=) 1 GROUP BY {}),\n{}",
        key_positions(plan),
        merge.strip_prefix("WITH ").unwrap_or(&merge)
    )
}
