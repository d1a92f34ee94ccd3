//! How far a rollup has come, rows that are merged in pieces by time included.
use super::cluster::Candidate;
use super::frontier::{Frontier, Nodes, merged, new, unmerged};
use super::snapshot::Snapshot;
use super::stamps::Stamps;
use serde::{Deserialize, Serialize};

/// Rows that were too many for one transaction: they are merged by time, newest first.
///
/// Every one of them could be seen when the backlog began, and no row that comes later has such a stamp: so they are the same
/// rows at every piece.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// They were not merged here.
    pub from: Frontier,
    /// They would have been here.
    pub to: Frontier,
    /// Those at this time or later are merged; None: none yet. UTC.
    pub cursor: Option<String>,
    /// Where the next pieces begin, newest first; what is before the last is the last piece. UTC.
    pub cuts: Vec<String>,
}

impl Backlog {
    /// The stamps of its rows, merged or not.
    pub fn stamps(&self) -> Stamps {
        new(&self.from, &self.to)
    }

    /// The backlog after its next piece was merged; None where that was the last.
    pub fn advance(mut self) -> Option<Backlog> {
        if self.cuts.is_empty() {
            return None;
        }
        self.cursor = Some(self.cuts.remove(0));
        Some(self)
    }
}

/// How far a rollup has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Rows up to here are merged, except for the backlog.
    pub frontier: Frontier,
    /// In a cluster, what may become safe.
    pub candidate: Option<Candidate>,
    /// Rows that are not merged, in spite of `frontier`.
    pub backlog: Option<Backlog>,
}

/// The state of a rollup in a cluster as it is stored, except for how far by time a backlog is merged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    nodes: Nodes,
    #[serde(default)]
    candidate: Option<Candidate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backlog: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    from: Nodes,
    to: Nodes,
}

/// A stored state of which one part knows a backlog, and the other none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction;

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("one part of it knows a backlog, and the other none")
    }
}

impl std::error::Error for Contradiction {}

impl State {
    /// The state of a rollup that has merged what lies behind a frontier.
    pub fn at(frontier: Frontier) -> State {
        State { frontier, ..State::default() }
    }

    /// The state in a cluster that was stored, with how far its backlog is merged: cursor and cuts.
    pub fn of_cluster(
        stored: Stored,
        backlog: Option<(Option<String>, Vec<String>)>,
    ) -> Result<State, Contradiction> {
        let backlog = match (stored.backlog, backlog) {
            (None, None) => None,
            (Some(Span { from, to }), Some((cursor, cuts))) => {
                let (from, to) = (Frontier::Cluster(from), Frontier::Cluster(to));
                Some(Backlog { from, to, cursor, cuts })
            }
            _ => return Err(Contradiction),
        };
        Ok(State { frontier: Frontier::Cluster(stored.nodes), candidate: stored.candidate, backlog })
    }

    /// What is stored of a state in a cluster; None on one server.
    pub fn stored(&self) -> Option<Stored> {
        let nodes = self.frontier.nodes()?.clone();
        let span = |b: &Backlog| Some(Span { from: b.from.nodes()?.clone(), to: b.to.nodes()?.clone() });
        Some(Stored {
            nodes,
            candidate: self.candidate.clone(),
            backlog: self.backlog.as_ref().and_then(span),
        })
    }

    /// The snapshot, on one server.
    pub fn server(&self) -> Option<&Snapshot> {
        self.frontier.server()
    }

    /// The groups of nodes, in a cluster.
    pub fn nodes(&self) -> Option<&Nodes> {
        self.frontier.nodes()
    }

    /// The stamps of rows that are merged, whatever their time.
    pub fn merged(&self) -> Stamps {
        let all = merged(&self.frontier);
        self.backlog.as_ref().map_or(all.clone(), |b| all.minus(&b.stamps()))
    }

    /// The stamps of rows that may be not merged: of those of the backlog, their time decides.
    pub fn unmerged(&self) -> Stamps {
        let rest = unmerged(&self.frontier);
        self.backlog.as_ref().map_or(rest.clone(), |b| rest.union(&b.stamps()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::Node;

    #[test]
    fn a_cluster_is_stored_as_it_was_before() {
        let text = r#"{"nodes":{"0":{"seen":{"xmax":12,"xip":[6]},"safe":{"xmax":9},"since":"s","system":"1"}},"candidate":{"seen":{"0":{"xmax":12}},"at":{"0":100}},"backlog":{"from":{},"to":{"0":{"seen":{"xmax":12,"xip":[6]},"safe":{"xmax":9},"since":"s","system":"1"}}}}"#;
        let stored: Stored = serde_json::from_str(text).unwrap();
        let state =
            State::of_cluster(stored.clone(), Some((Some("2026-01-02".into()), vec!["2026-01-01".into()])))
                .unwrap();
        assert_eq!(serde_json::to_string(&state.stored()).unwrap(), text);
        assert_eq!(State::of_cluster(stored, None), Err(Contradiction));
        let none = State::at(Frontier::Cluster(Nodes::new()));
        assert_eq!(serde_json::to_string(&none.stored()).unwrap(), r#"{"nodes":{},"candidate":null}"#);
        assert_eq!(State::of_cluster(Stored::default(), Some((None, Vec::new()))), Err(Contradiction));
        assert_eq!(State::default().stored(), None);
    }

    #[test]
    fn a_backlog_goes_piece_by_piece() {
        let cuts = ["3", "2"].map(String::from).to_vec();
        let b = Backlog { cuts, ..Backlog::default() };
        let b = b.advance().unwrap();
        assert_eq!((b.cursor.as_deref(), b.cuts.len()), (Some("3"), 1));
        let b = b.advance().unwrap();
        assert_eq!((b.cursor.as_deref(), b.cuts.len()), (Some("2"), 0));
        assert_eq!(b.advance(), None);
    }

    #[test]
    fn rows_of_a_backlog_are_not_merged_for_certain() {
        let at = |xmax| {
            Frontier::Cluster(Nodes::from([(
                0,
                Node { seen: Snapshot { xmax, xip: vec![] }, ..Node::default() },
            )]))
        };
        let b = Backlog { from: at(3), to: at(7), cursor: None, cuts: Vec::new() };
        let state = State { frontier: at(9), candidate: None, backlog: Some(b) };
        assert_eq!(state.merged().ranges(), [(0, 2), (7, 8)]);
        assert_eq!(state.unmerged(), state.merged().complement());
    }
}
