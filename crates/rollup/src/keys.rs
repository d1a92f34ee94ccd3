//! Group keys that are too long for the index on them.
use crate::level::Level;
use crate::plan::Plan;
use crate::sql::{ident, literal};

/// Whose values are never long.
const SHORT: [&str; 18] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "oid",
    "real",
    "double precision",
    "money",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "interval",
    "uuid",
    "inet",
    "cidr",
    "macaddr",
    "name",
];

/// The condition that the keys of a group, given as expressions, fit into the index; None where all do.
pub fn fits_keys(plan: &Plan, keys: &[String]) -> Option<String> {
    let plain = |sql_type: &str| sql_type.trim_start_matches("pg_catalog.").to_string();
    if plan.keys().all(|c| SHORT.contains(&plain(&c.sql_type).as_str())) {
        return None;
    }
    Some(format!("rollup_internal.key_fits({})", keys.join(", ")))
}

/// The same of keys that are columns of `relation`.
pub fn fits(plan: &Plan, relation: &str) -> Option<String> {
    let keys: Vec<String> = plan.keys().map(|c| format!("{relation}.{}", ident(&c.name))).collect();
    fits_keys(plan, &keys)
}

/// The same as the condition of a statement.
pub fn where_fits(plan: &Plan, relation: &str) -> String {
    fits(plan, relation).map_or(String::new(), |fits| format!(" WHERE {fits}"))
}

/// The same as a further column of groups whose keys are these expressions; empty where all fit.
pub fn fits_column(plan: &Plan, keys: &[String]) -> String {
    fits_keys(plan, keys).map_or(String::new(), |fits| format!(", {fits} AS {FITS}"))
}

/// The condition, behind others, that raw rows are of groups which fit into the rollup's own index: for a level without some
/// of its keys, which is to have what the rollup has. Empty where all do.
pub fn and_fits_rollup(plan: &Plan, level: Option<&Level>) -> String {
    if level.is_none_or(|level| level.keys.is_none()) {
        return String::new();
    }
    let keys: Vec<String> = plan.keys().map(|c| format!("({})", c.expression)).collect();
    fits_keys(plan, &keys).map_or(String::new(), |fits| format!(" AND {fits}"))
}

/// What the groups of a run say of it.
pub const FITS: &str = "\"rollup fits\"";

/// Names the longest key of the groups of `delta` that are left out, and its bytes.
pub fn longest(plan: &Plan) -> String {
    let keys: Vec<String> = plan
        .keys()
        .map(|c| {
            format!("({}, pg_catalog.octet_length(d.{}::pg_catalog.text))", literal(&c.name), ident(&c.name))
        })
        .collect();
    format!(
        "SELECT k.name, k.bytes FROM delta d, LATERAL (VALUES {}) k (name, bytes) WHERE NOT d.{FITS} ORDER BY k.bytes DESC NULLS LAST LIMIT 1",
        keys.join(", ")
    )
}
