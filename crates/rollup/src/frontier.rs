//! How far rows are merged, and which stamps that says are merged.
use super::snapshot::Snapshot;
use super::stamps::Stamps;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Stamps of one group of nodes lie below this, counted from where they begin.
pub const GROUP: i64 = 1 << 48;
/// Set in stamps that a connection of Citus evaluated.
pub const SOURCE: i64 = 1 << 47;

/// How far rows are merged.
///
/// A stamp says which node's transaction wrote a row: the group in the bits from 48 on, bit 47 where a connection of Citus
/// evaluated it, and the transaction id below. One server is a cluster of one group, to which every stamp belongs, and where
/// no connection writes for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontier {
    /// Of rows that are written on one server: those are merged whose transaction had finished.
    Server(Snapshot),
    /// Of rows that are written on every node of a Citus cluster.
    Cluster(Nodes),
}

/// What is known of the groups of nodes of a cluster. Rows of groups that are not in it are not merged.
pub type Nodes = BTreeMap<i32, Node>;

/// What is known of one group of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Rows of transactions that had finished here are merged, except for those that wait for `safe`.
    pub seen: Snapshot,
    /// Rows that a connection of Citus stamped are merged where their transaction had finished here.
    pub safe: Snapshot,
    /// When the server last began to work: another value tells of a crash.
    #[serde(default)]
    pub since: String,
    /// The server's system identifier.
    #[serde(default)]
    pub system: String,
}

/// Stamps that one snapshot judges: those from `first` to `last`, each `base` above the id of a transaction.
pub(crate) struct Line<'a> {
    first: i64,
    pub(crate) base: i64,
    last: i64,
    pub(crate) at: &'a Snapshot,
}

impl Snapshot {
    /// Every transaction of a node of a cluster has finished: what is said of a node that is gone.
    pub fn everything() -> Snapshot {
        Snapshot { xmax: SOURCE, xip: Vec::new() }
    }
}

impl Node {
    /// The two lines of a group. A stamp has 16 bits for the group: others have none.
    pub(crate) fn lines(&self, group: i32) -> impl Iterator<Item = Line<'_>> {
        let begin = i16::try_from(group).map(|group| i64::from(group) * GROUP);
        let line = |first: i64, at| Line { first, base: first, last: first + (SOURCE - 1), at };
        begin.into_iter().flat_map(move |base| [line(base, &self.seen), line(base + SOURCE, &self.safe)])
    }
}

impl<'a> Line<'a> {
    /// The stamps whose transactions had finished, as ranges in order.
    fn finished(self) -> impl Iterator<Item = (i64, i64)> + use<'a> {
        let mut from = Some(self.first);
        let open = self.at.xip.iter().chain(std::iter::once(&self.at.xmax));
        // A range of which the end lies before the beginning is empty.
        open.map_while(move |x| {
            let range = (from?, self.base.saturating_add(x.saturating_sub(1)).min(self.last));
            from = self.base.checked_add(*x).and_then(|stamp| stamp.checked_add(1));
            Some(range)
        })
    }
}

impl Frontier {
    /// The frontier of a rollup that has merged nothing, on one server.
    pub fn begin() -> Frontier {
        Frontier::Server(Snapshot::default())
    }

    /// The snapshot, on one server.
    pub fn server(&self) -> Option<&Snapshot> {
        match self {
            Frontier::Server(seen) => Some(seen),
            Frontier::Cluster(_) => None,
        }
    }

    /// The groups of nodes, in a cluster.
    pub fn nodes(&self) -> Option<&Nodes> {
        match self {
            Frontier::Server(_) => None,
            Frontier::Cluster(nodes) => Some(nodes),
        }
    }

    /// Whether nothing has been merged, nor been looked for.
    pub fn is_nothing(&self) -> bool {
        match self {
            Frontier::Server(seen) => seen.xmax == 0,
            Frontier::Cluster(nodes) => nodes.is_empty(),
        }
    }

    /// Whether every stamp that is merged in `older` is merged here.
    pub fn contains(&self, older: &Frontier) -> bool {
        new(self, older).is_empty()
    }
}

impl Default for Frontier {
    fn default() -> Frontier {
        Frontier::begin()
    }
}

/// The stamps of rows that are merged.
pub fn merged(frontier: &Frontier) -> Stamps {
    match frontier {
        Frontier::Server(seen) => {
            Stamps::in_order(Line { first: i64::MIN, base: 0, last: i64::MAX, at: seen }.finished())
        }
        Frontier::Cluster(nodes) => {
            let lines = nodes.iter().flat_map(|(group, node)| node.lines(*group));
            Stamps::in_order(lines.flat_map(Line::finished))
        }
    }
}

/// The stamps of rows that are not merged.
pub fn unmerged(frontier: &Frontier) -> Stamps {
    merged(frontier).complement()
}

/// The stamps of rows that are merged by the run from one frontier to another.
pub fn new(from: &Frontier, to: &Frontier) -> Stamps {
    merged(to).minus(&merged(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(seen: i64, xip: &[i64], safe: i64) -> Node {
        Node {
            seen: Snapshot { xmax: seen, xip: xip.to_vec() },
            safe: Snapshot { xmax: safe, xip: Vec::new() },
            ..Node::default()
        }
    }

    #[test]
    fn a_stamp_is_merged_where_its_transaction_had_finished() {
        let s = Snapshot { xmax: 9, xip: vec![0, 4, 5, 8] };
        let stamps = merged(&Frontier::Server(s.clone()));
        for x in -3..12 {
            assert_eq!(stamps.contains(x), s.finished(x), "{x}");
        }
        assert!(stamps.contains(i64::MIN) && !stamps.contains(i64::MAX));
        let n = node(9, &[0, 4, 5, 8], 3);
        let stamps =
            merged(&Frontier::Cluster(Nodes::from([(-1, n.clone()), (2, n.clone()), (70_000, n.clone())])));
        for group in -2..4 {
            for x in (0..12).chain([SOURCE - 1]) {
                let known = group == -1 || group == 2;
                assert_eq!(stamps.contains(group * GROUP + x), known && n.seen.finished(x), "{group} {x}");
                assert_eq!(stamps.contains(group * GROUP + SOURCE + x), known && x < 3, "{group} {x}");
            }
        }
    }

    #[test]
    fn one_server_is_a_cluster_of_one_group() {
        let (a, b) = (node(8, &[3, 6], 0), node(12, &[6, 10], 0));
        let [from, to] = [&a, &b].map(|n| {
            new(&Frontier::Cluster(Nodes::new()), &Frontier::Cluster(Nodes::from([(0, n.clone())])))
        });
        let own = Stamps::range(0, SOURCE - 1);
        assert_eq!(from, merged(&Frontier::Server(a.seen)).intersect(&own));
        assert_eq!(to, merged(&Frontier::Server(b.seen)).intersect(&own));
    }

    #[test]
    fn everything_of_a_node_that_is_gone_is_merged() {
        let gone = Node { seen: Snapshot::everything(), safe: Snapshot::everything(), ..Node::default() };
        for group in [0, 1, i32::from(i16::MAX), i32::from(i16::MIN)] {
            let begin = i64::from(group) * GROUP;
            let stamps = merged(&Frontier::Cluster(Nodes::from([(group, gone.clone())])));
            assert_eq!(stamps.ranges(), [(begin, begin + (GROUP - 1))]);
        }
        assert_eq!(unmerged(&Frontier::Cluster(Nodes::new())), Stamps::all());
    }
}
