//! The SQL of live views: what is stored, merged with the raw rows that are not.
use hll_rollup::live::{groups, united, with_tail};
use hll_rollup::statements::{kept_names, prefix};
use hll_rollup::{Level, Plan, sql as bounds};

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
    let plan = &*plan.of_level(level);
    if nodes {
        let table = level.map_or(target, |l| &l.target);
        return super::citus::view::live(plan, view, source, table, level, id);
    }
    let (with, parts) = parts(plan, source, target, level, id);
    format!("CREATE OR REPLACE VIEW {view} AS {with}{}", united(&plan.seen(), &parts))
}

/// The view of what is stored in a table of the rollup, joined to the lookup tables that are followed.
pub fn shown_view(plan: &Plan, view: &str, table: &str) -> String {
    let stored = format!("SELECT {} FROM {table}", kept_names(plan));
    format!("CREATE OR REPLACE VIEW {view} AS {}", united(&plan.seen(), &plan.joined(&stored)))
}

/// First words of a query on one server, and groups with the kept columns of what users see: those that are stored, and those of
/// raw rows that are not merged. Several of them may be one group.
pub fn parts(plan: &Plan, source: &str, target: &str, level: Option<&Level>, id: i64) -> (String, String) {
    let plan = &*plan.of_level(level);
    let (with, parts) = match &plan.follows {
        Some(zone) => super::live::view_parts(plan, zone, source, target, level, id),
        None => {
            let table = level.map_or(target, |l| &l.target);
            let whole = super::live::whole(plan, source, table, id);
            let bounds =
                format!("{} AND {whole}", bounds::current::unmerged_rows(&prefix(plan), plan.time(), id));
            let stored = format!("{table} WHERE {whole}");
            (String::new(), with_tail(plan, &stored, &groups(plan, source, &bounds, level)))
        }
    };
    (with, plan.joined(&parts).into_owned())
}
