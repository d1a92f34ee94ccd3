//! The next frontier of a cluster, from what its nodes answer.
//!
//! Three things may make a row visible after the transaction that its stamp names has finished, because another transaction
//! on another node writes it:
//! - a connection of Citus evaluated the stamp (bit 47), and a sister of that connection writes the row;
//! - the transaction was aborted on its node, but the statement it had sent goes on elsewhere;
//! - its node crashed meanwhile.
//!
//! So each group has two snapshots. `seen` counts for rows whose own transaction had to hear of every commit before
//! it finished; `safe`, which comes later, for the rest. It is a snapshot after which every connection of Citus that
//! was at work when it was taken has come to its end, on all nodes.
use super::frontier::Nodes;
use super::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// More ids than this between two runs are not looked through for those that were aborted.
pub const MANY: i64 = 100_000;

/// A snapshot of every group that becomes `safe` once the connections of Citus at work then are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The snapshots.
    pub seen: BTreeMap<i32, Snapshot>,
    /// When each node was asked, by its own clock: microseconds.
    pub at: BTreeMap<i32, i64>,
}

/// What one node said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Its snapshot, after which its log was made safe.
    pub now: Snapshot,
    /// Ids that finished since the last run and were not committed; None where they were too many to look at.
    pub aborted: Option<Vec<i64>>,
    /// When the server began to work.
    pub since: String,
    /// Its system identifier.
    pub system: String,
    /// Its clock, once all snapshots had been taken: microseconds.
    pub at: i64,
    /// Since when the oldest connection of Citus that is at work has been so.
    pub oldest: Option<i64>,
}

/// What became of the groups that were not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The node is in the cluster, and not to be asked.
    Disabled,
    /// There is no such node any more.
    Gone,
}

/// What all nodes said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// By group.
    pub nodes: BTreeMap<i32, Answer>,
    /// Groups that were not asked.
    pub absent: BTreeMap<i32, Absent>,
    /// Groups of which a transaction is in doubt: a node has prepared its part, and not heard how it ended.
    pub held: Vec<i32>,
}

impl Answers {
    /// Whether every connection of Citus that was at work when these snapshots were taken is done.
    pub fn quiet(&self) -> bool {
        self.held.is_empty() && self.nodes.values().all(|a| a.oldest.is_none_or(|since| since > a.at))
    }

    /// Whether every connection of Citus that was at work at `candidate` is done.
    fn past(&self, candidate: &Candidate) -> bool {
        let done = |(group, answer): (&i32, &Answer)| match candidate.at.get(group) {
            Some(at) => answer.oldest.is_none_or(|since| since > *at),
            None => true,
        };
        self.held.is_empty() && self.disabled().next().is_none() && self.nodes.iter().all(done)
    }

    fn disabled(&self) -> impl Iterator<Item = i32> {
        self.absent.iter().filter(|(_, a)| **a == Absent::Disabled).map(|(group, _)| *group)
    }
}

/// Why a frontier does not advance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Ids of a group were given out again: xmax before, xmax now.
    Backwards(i32, i64, i64),
    /// The server of a group is another one.
    Other(i32),
}

/// Groups whose server has crashed, or was stopped, since `before`.
pub fn restarted(before: &Nodes, answers: &Answers) -> Vec<i32> {
    let changed = |group: &i32, a: &Answer| {
        before.get(group).is_some_and(|n| !n.since.is_empty() && n.since != a.since)
    };
    answers.nodes.iter().filter(|(group, a)| changed(group, a)).map(|(group, _)| *group).collect()
}

/// Where the next run goes, and the snapshots that may become `safe` after it: rows that had not finished in `before` and
/// have finished there are what it merges.
///
/// Invariant: what is merged in `before` is merged there.
pub fn advance(
    before: &Nodes,
    candidate: Option<&Candidate>,
    answers: &Answers,
) -> Result<(Nodes, Option<Candidate>), Refused> {
    let (mut next, mut candidate) = (before.clone(), candidate.cloned());
    // What has come to be known of every group, as the next candidate would have it.
    let mut known: BTreeMap<i32, Snapshot> =
        answers.nodes.iter().map(|(group, a)| (*group, a.now.clone())).collect();
    for (group, absent) in &answers.absent {
        if *absent == Absent::Gone {
            known.insert(*group, Snapshot::everything());
        }
    }
    for group in answers.nodes.keys().chain(answers.absent.keys()) {
        next.entry(*group).or_default();
    }
    let quiet = answers.quiet() && answers.disabled().next().is_none();
    let promoted = if quiet {
        candidate = None;
        Some(known.clone())
    } else {
        candidate.take_if(|c| answers.past(c)).map(|c| c.seen)
    };
    if !quiet && candidate.is_none() {
        let at = answers.nodes.iter().map(|(group, a)| (*group, a.at)).collect();
        candidate = Some(Candidate { seen: known, at });
    }
    for (group, node) in &mut next {
        if let Some(safe) = promoted.as_ref().and_then(|p| p.get(group)) {
            node.safe = node.safe.join(safe);
        }
        let Some(answer) = answers.nodes.get(group) else {
            // Of a node that is not there to ask, what is safe has finished.
            if answers.absent.get(group) == Some(&Absent::Gone) && node.safe == Snapshot::everything() {
                node.seen = Snapshot::everything();
            }
            continue;
        };
        if !node.system.is_empty() && node.system != answer.system {
            return Err(Refused::Other(*group));
        }
        if !answer.now.contains(&node.seen) || !answer.now.contains(&node.safe) {
            return Err(Refused::Backwards(*group, node.seen.xmax.max(node.safe.xmax), answer.now.xmax));
        }
        if answers.held.contains(group) {
            continue;
        }
        node.seen = match &answer.aborted {
            None => node.seen.join(&node.safe),
            Some(aborted) => {
                let mut seen = answer.now.clone();
                let pending = |x: &&i64| !node.safe.finished(**x) && !node.seen.finished(**x);
                seen.xip.extend(aborted.iter().filter(pending));
                seen.xip.sort_unstable();
                seen.xip.dedup();
                seen
            }
        };
        node.since = answer.since.clone();
        node.system = answer.system.clone();
    }
    Ok((next, candidate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::{Frontier, new};

    /// How far a rollup has come.
    #[derive(Debug, Clone, Default)]
    struct Vector {
        nodes: Nodes,
        candidate: Option<Candidate>,
    }

    impl Vector {
        fn advance(&self, answers: &Answers) -> Result<Vector, Refused> {
            let (nodes, candidate) = advance(&self.nodes, self.candidate.as_ref(), answers)?;
            let [before, after] = [&self.nodes, &nodes].map(|n| Frontier::Cluster(n.clone()));
            assert!(new(&after, &before).is_empty(), "what was merged is not any more");
            Ok(Vector { nodes, candidate })
        }
    }

    fn seen(xmax: i64, xip: &[i64]) -> Snapshot {
        Snapshot { xmax, xip: xip.to_vec() }
    }

    fn answer(xmax: i64, aborted: &[i64], oldest: Option<i64>) -> Answer {
        Answer {
            now: seen(xmax, &[]),
            aborted: Some(aborted.to_vec()),
            since: "s".into(),
            system: "1".into(),
            at: 100,
            oldest,
        }
    }

    fn answers(list: &[(i32, Answer)]) -> Answers {
        Answers { nodes: list.iter().cloned().collect(), ..Answers::default() }
    }

    #[test]
    fn a_quiet_cluster_is_safe_at_once() {
        let v = Vector::default().advance(&answers(&[(0, answer(9, &[], None))])).unwrap();
        assert_eq!((&v.nodes[&0].seen, &v.nodes[&0].safe), (&seen(9, &[]), &seen(9, &[])));
        assert_eq!(v.candidate, None);
    }

    #[test]
    fn what_is_at_work_holds_safe_back_until_it_is_done() {
        let first = answers(&[(0, answer(9, &[5], None)), (1, answer(7, &[], Some(50)))]);
        let v = Vector::default().advance(&first).unwrap();
        // Aborted, and not known to be over elsewhere: not finished yet.
        assert_eq!((&v.nodes[&0].seen, v.nodes[&0].safe.xmax), (&seen(9, &[5]), 0));
        let still =
            v.advance(&answers(&[(0, answer(12, &[5], None)), (1, answer(8, &[], Some(50)))])).unwrap();
        assert_eq!(still.candidate, v.candidate);
        assert_eq!(still.nodes[&0].seen, seen(12, &[5]));
        let done =
            still.advance(&answers(&[(0, answer(13, &[5, 12], None)), (1, answer(9, &[], Some(101)))]));
        let done = done.unwrap();
        assert_eq!((&done.nodes[&0].safe, &done.nodes[&1].safe), (&seen(13, &[]), &seen(9, &[])));
        assert_eq!(done.nodes[&0].seen, seen(13, &[]));
    }

    #[test]
    fn a_candidate_is_promoted_as_it_was_taken() {
        let first = answers(&[(0, answer(9, &[], Some(50)))]);
        let v = Vector::default().advance(&first).unwrap();
        // The connection of then is done; another has been at work since.
        let mut second = answer(20, &[15], Some(120));
        second.at = 200;
        let v = v.advance(&answers(&[(0, second)])).unwrap();
        assert_eq!(v.nodes[&0].safe, seen(9, &[]));
        assert_eq!(v.nodes[&0].seen, seen(20, &[15]));
        assert_eq!(v.candidate.unwrap().at[&0], 200);
    }

    #[test]
    fn a_group_in_doubt_stays_where_it_was() {
        let v = Vector::default()
            .advance(&answers(&[(0, answer(9, &[], None)), (1, answer(5, &[], None))]))
            .unwrap();
        let mut a = answers(&[(0, answer(19, &[], None)), (1, answer(15, &[], None))]);
        a.held = vec![1];
        let next = v.advance(&a).unwrap();
        assert_eq!((next.nodes[&0].seen.xmax, next.nodes[&1].seen.xmax), (19, 5));
        assert_eq!(next.nodes[&0].safe.xmax, 9);
    }

    #[test]
    fn too_many_ids_come_when_they_are_safe() {
        let mut many = answer(9_000_000, &[], Some(50));
        many.aborted = None;
        let v = Vector::default().advance(&answers(&[(0, many.clone())])).unwrap();
        assert_eq!(v.nodes[&0].seen.xmax, 0);
        many.oldest = None;
        assert_eq!(v.advance(&answers(&[(0, many)])).unwrap().nodes[&0].seen.xmax, 9_000_000);
    }

    #[test]
    fn a_node_that_is_gone_has_finished_once_that_is_safe() {
        let v = Vector::default()
            .advance(&answers(&[(0, answer(9, &[], None)), (3, answer(5, &[], None))]))
            .unwrap();
        let mut a = answers(&[(0, answer(10, &[], Some(50)))]);
        a.absent.insert(3, Absent::Gone);
        let held = v.advance(&a).unwrap();
        assert_eq!(held.nodes[&3].seen.xmax, 5);
        a.nodes.get_mut(&0).unwrap().oldest = None;
        assert_eq!(held.advance(&a).unwrap().nodes[&3].seen, Snapshot::everything());
        a.absent.insert(3, Absent::Disabled);
        let disabled = held.advance(&a).unwrap();
        assert_eq!((disabled.nodes[&3].seen.xmax, disabled.nodes[&0].safe.xmax), (5, 9));
    }

    #[test]
    fn ids_that_go_backwards_and_other_servers_are_refused() {
        let v = Vector::default().advance(&answers(&[(0, answer(9, &[], None))])).unwrap();
        assert_eq!(
            v.advance(&answers(&[(0, answer(8, &[], None))])).map(drop),
            Err(Refused::Backwards(0, 9, 8))
        );
        let mut other = answer(10, &[], None);
        other.system = "2".into();
        assert_eq!(v.advance(&answers(&[(0, other)])).map(drop), Err(Refused::Other(0)));
    }

    #[test]
    fn a_restart_is_noticed() {
        let v = Vector::default().advance(&answers(&[(0, answer(9, &[], None))])).unwrap();
        let mut again = answer(10, &[], None);
        assert!(restarted(&v.nodes, &answers(&[(0, again.clone())])).is_empty());
        again.since = "t".into();
        assert_eq!(restarted(&v.nodes, &answers(&[(0, again)])), vec![0]);
    }
}
