//! What a rollup waits for, node by node.
use super::gather;
use crate::pg::xact::in_subtransaction;
use crate::rollup::error::{Result, report};
use hll_rollup::{Candidate, Nodes, Snapshot};
use pgrx::PgSqlErrorCode;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// One group: its number, its node, the id up to which its transactions are merged, how many below that are open,
/// and what holds its rows back.
pub type Row = (i32, Option<String>, Option<i64>, Option<i32>, Option<String>);

/// What is known of every group, and what each node says now; one that does not answer fails nothing.
pub fn nodes(state: &Nodes, candidate: Option<&Candidate>, offset: i64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let asked = gather::each()?;
    let at_work = asked.iter().any(|(.., answer)| answer.as_ref().is_ok_and(|found| found.oldest.is_some()));
    for (group, name, answer) in &asked {
        let known = state.get(group);
        let waits = match answer {
            Err(why) => {
                // Which node it is stands next to it.
                let why = why.strip_prefix(&format!("node {name} (group {group}) ")).unwrap_or(why);
                Some(why.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            Ok(found) => {
                let mut waits: Vec<String> = Vec::new();
                if let Some(gid) = found.prepared.first() {
                    waits.push(format!("transaction {gid} is in doubt"));
                }
                if at_work && known.is_some_and(|n| !n.since.is_empty() && n.since != found.since) {
                    waits.push("the server was restarted, and statements of Citus are at work".into());
                }
                let at = candidate.and_then(|c| c.at.get(group));
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
    for (group, node) in state {
        if asked.iter().all(|(g, ..)| g != group) && node.seen != Snapshot::everything() {
            let waits = "the node is gone: its rows come once no statement of it is at work".to_string();
            rows.push((*group, None, Some(node.seen.xmax - offset), None, Some(waits)));
        }
    }
    rows.sort_by_key(|row| row.0);
    Ok(rows)
}

/// What `ask` gives; None where a node does not answer.
pub fn unless_unreachable<T>(
    ask: impl FnOnce() -> Result<Option<T>> + UnwindSafe + RefUnwindSafe,
) -> Result<Option<T>> {
    const CONNECTION: [PgSqlErrorCode; 4] = [
        PgSqlErrorCode::ERRCODE_CONNECTION_EXCEPTION,
        PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
        PgSqlErrorCode::ERRCODE_CONNECTION_DOES_NOT_EXIST,
        PgSqlErrorCode::ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
    ];
    match in_subtransaction(ask) {
        Err(e) if CONNECTION.contains(&e.code) => Ok(None),
        found => found.map_err(|e| report(e.code, e.message, "")),
    }
}
