//! What a rollup waits for, node by node.
use super::gather;
use super::vector::{Seen, Vector};
use crate::rollup::error::Result;

/// One group: its number, its node, the id up to which its transactions are merged, how many below that are open,
/// and what holds its rows back.
pub type Row = (i32, Option<String>, Option<i64>, Option<i32>, Option<String>);

/// What is known of every group, and what each node says now; one that does not answer fails nothing.
pub fn nodes(state: &Vector, offset: i64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let asked = gather::each()?;
    for (group, name, answer) in &asked {
        let known = state.nodes.get(group);
        let waits = match answer {
            Err(why) => Some(why.clone()),
            Ok(found) => {
                let mut waits: Vec<String> = Vec::new();
                if let Some(gid) = found.prepared.first() {
                    waits.push(format!("transaction {gid} is in doubt"));
                }
                if known.is_some_and(|n| !n.since.is_empty() && n.since != found.since) {
                    waits.push("the server was restarted".into());
                }
                let at = state.candidate.as_ref().and_then(|c| c.at.get(group));
                if let (Some(at), Some(since)) = (at, found.oldest)
                    && since <= *at
                {
                    waits.push(format!(
                        "a statement of Citus is at work for {} s",
                        (found.at - since) / 1_000_000
                    ));
                }
                (!waits.is_empty()).then(|| waits.join("; "))
            }
        };
        rows.push((
            *group,
            Some(name.clone()),
            known.map(|n| n.seen.xmax - offset),
            known.map(|n| i32::try_from(n.seen.xip.len()).unwrap_or(i32::MAX)),
            waits,
        ));
    }
    for (group, node) in &state.nodes {
        if asked.iter().all(|(g, ..)| g != group) && node.seen != Seen::all() {
            let waits = "the node is gone: its rows come once no statement of it is at work".to_string();
            rows.push((*group, None, Some(node.seen.xmax - offset), None, Some(waits)));
        }
    }
    rows.sort_by_key(|row| row.0);
    Ok(rows)
}
