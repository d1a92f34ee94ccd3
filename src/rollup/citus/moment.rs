//! Whether anything can have come to a cluster since it was looked at.
//!
//! Invariant: while two moments of a cluster are equal, no row of a table of it can be seen at the later one that could not be
//! seen at the earlier one, and its catalog says the same. A row becomes visible on the node where it lies, as the
//! transaction that wrote it *there* finishes: that has an id of that node, whoever sent it, whichever stamp the row
//! bears, and whatever became of its origin. So it changes the node's snapshot: an id that finishes leaves the list of those
//! at work, or lies at or above the end of the old snapshot and moves it. What may come late to a run (see
//! `hll_rollup::advance`) is no exception:
//! - a transaction that is prepared is at work until COMMIT PREPARED, which any session may send, has finished it;
//! - so is what outlives its origin, and what a repartitioned INSERT ... SELECT writes on another node than it read;
//! - a crash may take ids back, and others get the same again: but it starts the server's processes anew, whose beginning is
//!   compared, as at a failover to a replica, and so is the system identifier;
//! - nodes that are added, removed, disabled or moved, shards that are moved or split, partitions that are attached, and what is
//!   set for a rollup are rows of this node's catalog, whose change has an id of this node, and moves its `Moment`.
//!
//! Whoever finds nothing asks for the moment first: what finishes while it looks makes the next moment another one.
use super::gather::{self, SINCE};
use super::places::{Place, nodes};
use crate::pg::libpq::Row;
use crate::pg::watched::as_committed_now;
use crate::pg::xact::{ActingAs, Moment};
use crate::rollup::error::{Result, internal};
use hll_rollup::{Nodes, Snapshot, State};
use std::cell::RefCell;
use std::collections::HashMap;

/// What a node said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    group: i32,
    /// Where it was asked; None: this one.
    at: Option<String>,
    now: Snapshot,
    since: String,
    system: String,
}

/// A moment of all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfNodes {
    here: Moment,
    nodes: Vec<Heard>,
    disabled: Vec<i32>,
}

thread_local! {
    /// For each rollup the state and the moment for which there was nothing to merge.
    static NOTHING: RefCell<HashMap<i64, (State, OfNodes)>> = RefCell::default();
}

/// More ids than this behind a node, and a run by hand goes on, though it has no rows: see `hll_rollup::MANY`.
const BEHIND: i64 = hll_rollup::MANY / 2;

impl OfNodes {
    /// The moment now, `here` being that of this node, asked for before.
    pub fn now(here: Moment) -> Result<OfNodes> {
        as_committed_now(|| OfNodes::ask(here))
    }

    fn ask(here: Moment) -> Result<OfNodes> {
        let _acting = ActingAs::catalog();
        let (places, disabled) = nodes()?;
        let sql = format!(
            "SELECT s::pg_catalog.text, ({SINCE}), c.system_identifier::pg_catalog.text \
             FROM pg_catalog.pg_current_snapshot() s, pg_catalog.pg_control_system() c"
        );
        let answers = gather::ask(&places, |_| sql.clone())?;
        let heard: Result<Vec<Heard>> =
            places.iter().zip(&answers).map(|(place, rows)| heard(place, rows)).collect();
        Ok(OfNodes { here, nodes: heard?, disabled: disabled.into_keys().collect() })
    }

    /// Whether this session has found at this moment that a rollup, in this state, had no row to merge.
    pub fn had_nothing(&self, id: i64, state: &State) -> bool {
        NOTHING.with_borrow(|nothing| nothing.get(&id).is_some_and(|(of, at)| of == state && at == self))
    }

    /// It has: the moment was asked for before.
    pub fn has_nothing(self, id: i64, state: &State) {
        NOTHING.with_borrow_mut(|nothing| nothing.insert(id, (state.clone(), self)));
    }

    /// Whether a run from `before` would find every node where it takes it to be, ids being stamps by `offset`; else it has
    /// something to wait for, to refuse or to learn, though no row may wait.
    pub fn as_expected(&self, before: &Nodes, offset: i64) -> bool {
        let known = |heard: &Heard| {
            before.get(&heard.group).is_some_and(|node| {
                let now = heard.now.clone().shift(offset);
                node.since == heard.since
                    && node.system == heard.system
                    && now.contains(&node.seen)
                    && now.contains(&node.safe)
                    && now.xmax - node.seen.xmax.min(node.safe.xmax) < BEHIND
            })
        };
        let gone = |group: &i32| {
            !self.nodes.iter().any(|heard| heard.group == *group) && !self.disabled.contains(group)
        };
        self.nodes.iter().all(known)
            && before.iter().all(|(group, node)| !gone(group) || node.seen == Snapshot::everything())
    }
}

fn heard(place: &Place, rows: &[Row]) -> Result<Heard> {
    let Some([Some(snapshot), Some(since), Some(system)]) = rows.first().map(Vec::as_slice) else {
        return Err(gather::unreachable(place, "it does not say how far its transactions are"));
    };
    let mut parts = snapshot.split(':').skip(1);
    let xmax = parts.next().unwrap_or_default().parse().map_err(internal)?;
    let mut xip = gather::numbers(parts.next().unwrap_or_default())?;
    xip.sort_unstable();
    Ok(Heard {
        group: place.group,
        at: place.conninfo.clone(),
        now: Snapshot { xmax, xip },
        since: since.clone(),
        system: system.clone(),
    })
}
