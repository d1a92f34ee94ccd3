//! Where the rows of a source are written, and the tables of its rollups lie: on this server, or on the nodes of a Citus
//! cluster. What a run does differently there is behind this door.
use super::catalog::Definition;
use super::error::Result;
use hll_rollup::{Candidate, Frontier, Plan, Stamps};

/// What a run finds when it looks, its state row locked.
pub struct Look {
    /// The plan.
    pub plan: Plan,
    /// Where the run goes.
    pub now: Frontier,
    /// In a cluster, what may become safe after that.
    pub candidate: Option<Candidate>,
    /// Raw rows that were merged while it looked.
    pub rows: i64,
}

/// This server.
pub struct OneServer;

/// A Citus cluster, on whose nodes the tables lie.
pub struct Cluster;

/// One of the two. What each does is in `one_server` and `citus::run`.
pub trait Place {
    /// Whether there are rows to merge, the backlog aside. Takes no transaction id, and may say so of rows that turn out to
    /// be none.
    fn is_due(&self, d: &Definition) -> Result<bool>;

    /// Looks how far transactions are. An error where that is behind the state, or of something else.
    fn look(&self, d: &Definition) -> Result<Look>;

    /// Merges the rows that satisfy `bounds`, which are all those of these stamps; of a piece of a backlog, where they are not,
    /// None is given. Returns (raw rows, groups).
    fn merge(&self, d: &Definition, plan: &Plan, stamps: Option<&Stamps>, bounds: &str)
    -> Result<(i64, i64)>;

    /// Does what a run has to do besides, its state stored, which was `before`.
    fn follow(&self, d: &Definition, plan: &Plan, before: &Frontier) -> Result<()>;

    /// Tidies up at the end of a run.
    fn tidy(&self, d: &Definition) -> Result<()>;

    /// The statements of the next run, for people.
    fn explain(&self, d: &Definition) -> Result<String>;
}
