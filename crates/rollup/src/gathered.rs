//! Levels that lie on one node, of a rollup whose groups are made on several: the groups of a run are brought to that node
//! once, without the keys that none of these levels has, and are merged there.
use crate::keys;
use crate::level::Level;
use crate::plan::{Column, Plan};
use crate::sql::ident;
use crate::statements::{aggregate_source, coarser, grouped, list, upsert};
use std::collections::BTreeSet;

/// The finest groups that `levels` are made of: in the rollup's own buckets, with every key that one of them has.
fn finest(plan: &Plan, levels: &[Level]) -> Level {
    let of_all: Option<BTreeSet<&String>> = levels
        .iter()
        .map(|level| level.keys.as_ref())
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect());
    let keys = of_all.map(|keys| keys.into_iter().cloned().collect());
    let (name, target) = (String::new(), String::new());
    Level { name, target, bucket: plan.bucket, expression: "$1".into(), utc: false, keys }
}

/// The groups of the rows that satisfy `bounds` which `levels` are made of. Each node makes the rollup's own groups of its
/// rows first, those that have a place in the rollup's table, so that what comes from there is no more than what a run merges.
pub fn gather(plan: &Plan, source: &str, levels: &[Level], bounds: &str) -> String {
    let own: Vec<String> = plan.keys().map(|c| format!("({})", c.expression)).collect();
    let fit = keys::fits_keys(plan, &own).map(|fits| format!(" HAVING {fits}")).unwrap_or_default();
    let groups = aggregate_source(plan, source, bounds, None, "");
    coarser(plan, &finest(plan, levels), &format!("({groups}{fit}) g"))
}

/// Merges what `gather` gives, which is called delta, into the tables of `levels`.
pub fn merge_gathered(plan: &Plan, levels: &[Level]) -> String {
    format!("WITH {}\nSELECT pg_catalog.count(*) FROM delta", merge_levels(plan, levels, "delta").join(",\n"))
}

/// The parts of a statement that merge the groups of `delta` into levels, each from those of the next finer one.
pub fn merge_levels(plan: &Plan, levels: &[Level], delta: &str) -> Vec<String> {
    let merged = |(at, level): (usize, &Level)| {
        let groups = match Level::finer(levels, at) {
            // The same buckets: what the level's function makes of one of them may be another, where a clock is changed.
            Some(finer) if levels[finer].bucket == level.bucket => {
                grouped(plan, level, &format!("delta_{}", finer + 1), &ident(&plan.time_key))
            }
            Some(finer) => coarser(plan, level, &format!("delta_{}", finer + 1)),
            None => coarser(plan, level, delta),
        };
        let n = at + 1;
        format!(
            "delta_{n} AS MATERIALIZED (\n  {groups}),\nmerged_{n} AS (\n  {})",
            upsert(&plan.of_level(Some(level)), &level.target, &format!("delta_{n}"))
        )
    };
    levels.iter().enumerate().map(merged).collect()
}

/// The query of a rollup with one more key, a column of its table.
pub fn with_key(plan: &Plan, from: &str, column: &str) -> String {
    let filter = plan.filter.as_ref().map_or(String::new(), |f| format!(" WHERE {f}"));
    let visible: Vec<&Column> = plan.columns.iter().filter(|c| !c.hidden).collect();
    let keys = visible.iter().enumerate().filter(|(_, c)| c.is_key()).map(|(i, _)| format!(", {}", i + 2));
    format!(
        "SELECT {}.{column}, {} FROM {from}{filter} GROUP BY 1{}",
        ident(&plan.alias),
        list(visible.iter().copied(), |c| format!("{} AS {}", c.written, ident(&c.name))),
        keys.collect::<String>(),
        column = ident(column),
    )
}
