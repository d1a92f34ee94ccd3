//! The SQL of live views: what is stored, merged with the raw rows that are not.
use super::levels::Level;
use super::plan::{Plan, Role};
use super::sql::{aggregate_source, ident, kept_names, list, merge_many, prefix, result};
use hll_rollup::sql as bounds;

/// The live view: the rollup merged with the rows not yet rolled up. State, rollup and raw table are read under
/// one snapshot, so each row is in exactly one of the two parts. `nodes`: they lie on several nodes.
#[allow(clippy::too_many_arguments)]
pub fn live_view(
    nodes: bool,
    plan: &Plan,
    view: &str,
    source: &str,
    target: &str,
    level: Option<&Level>,
    id: i64,
) -> String {
    if nodes {
        let table = level.map_or(target, |l| &l.target);
        return super::citus::view::live(plan, view, source, table, level, id);
    }
    let (with, parts) = match &plan.follows {
        Some(zone) => super::live::view_parts(plan, zone, source, target, level, id),
        None => {
            let table = level.map_or(target, |l| &l.target);
            let whole = super::live::whole(plan, source, table, id);
            let bounds =
                format!("{} AND {whole}", bounds::current::unmerged_rows(&prefix(plan), plan.time(), id));
            (String::new(), with_tail(plan, table, &groups(plan, source, &bounds, level)))
        }
    };
    format!("CREATE OR REPLACE VIEW {view} AS {with}{}", united(plan, &parts))
}

/// The groups of source rows that satisfy `bounds`, in the buckets of `level`.
pub fn groups(plan: &Plan, source: &str, bounds: &str, level: Option<&Level>) -> String {
    aggregate_source(plan, source, bounds, level, "")
}

/// The rollup merged with the groups of `rest`.
pub fn live_query(plan: &Plan, target: &str, rest: &str) -> String {
    united(plan, &with_tail(plan, target, rest))
}

/// The rows of a table of the rollup, and those of `tail`.
fn with_tail(plan: &Plan, table: &str, tail: &str) -> String {
    format!("SELECT {} FROM {table} UNION ALL {tail}", kept_names(plan))
}

/// What users see of the groups of `parts`, of which several are one.
fn united(plan: &Plan, parts: &str) -> String {
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
