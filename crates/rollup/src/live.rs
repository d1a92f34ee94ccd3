//! The query of live views: what is stored, merged with the raw rows that are not.
use crate::level::Level;
use crate::plan::{Plan, Role};
use crate::sql::ident;
use crate::statements::{aggregate_source, kept_names, list, merge_many, result};

/// The groups of source rows that satisfy `bounds`, in the buckets of `level`.
pub fn groups(plan: &Plan, source: &str, bounds: &str, level: Option<&Level>) -> String {
    aggregate_source(plan, source, bounds, level, "")
}

/// The rollup merged with the groups of `rest`.
pub fn live_query(plan: &Plan, target: &str, rest: &str) -> String {
    united(plan, &with_tail(plan, target, rest))
}

/// The rows of a table of the rollup, and those of `tail`.
pub fn with_tail(plan: &Plan, table: &str, tail: &str) -> String {
    format!("SELECT {} FROM {table} UNION ALL {tail}", kept_names(plan))
}

/// What users see of the groups of `parts`, of which several are one. `plan` is that of what is seen.
pub fn united(plan: &Plan, parts: &str) -> String {
    let merged = |name: &str| match plan.column(name) {
        Some(c) => c.merge().map_or_else(|| ident(name), |m| merge_many(c, m)),
        None => ident(name),
    };
    let columns = list(plan.columns.iter().filter(|c| !c.hidden), |c| match &c.role {
        Role::Key => ident(&c.name),
        Role::Value(m) => format!("{} AS {}", merge_many(c, m), ident(&c.name)),
        Role::Result { template, of, .. } => {
            format!("{} AS {}", result(c, template, of, merged), ident(&c.name))
        }
    });
    format!("SELECT {columns} FROM ({parts}) u GROUP BY {}", list(plan.keys(), |c| ident(&c.name)))
}
