//! Which rows a rollup has merged.
//!
//! Each raw row carries a stamp, the number of the transaction that wrote it. How far a rollup has come is a [`Frontier`]: a
//! snapshot, or in a Citus cluster two for each group of nodes. A frontier divides all stamps into those that are
//! [`merged`] and those that are [`unmerged`]; a run from one frontier to the next merges the rows whose stamps are [`new`].
//!
//! ```
//! use hll_rollup::{Frontier, Snapshot, Stamps, merged, new, unmerged};
//!
//! // Transaction 103 is at work when the first run looks, and ends before the second.
//! let seen = Frontier::Server(Snapshot { xmax: 105, xip: vec![103] });
//! let now = Frontier::Server(Snapshot { xmax: 106, xip: vec![] });
//! assert!(merged(&seen).contains(104) && !merged(&seen).contains(103));
//! assert_eq!(new(&seen, &now), Stamps::from_ranges([(103, 103), (105, 105)]));
//! assert_eq!(merged(&seen).union(&new(&seen, &now)), merged(&now));
//! assert_eq!(unmerged(&now), Stamps::range(106, i64::MAX));
//! ```
//!
//! Invariant: where each frontier contains the one before, the sets that [`new`] gives are disjoint, and together with what
//! was merged at first they are what is merged at last: each row is merged by exactly one run. `tests/exactly_once.rs`
//! holds it over random histories. [`sql`] writes the same sets as conditions; `tests/text.rs` holds that they agree.
//!
//! Besides, there are parts of a rollup's definition that need no server: [`Bucket`]s of time, and templates ([`fill`]); and
//! the [`verdict`] on rows that came with stamps that are merged.
#![deny(unsafe_code)]

mod backlog;
mod bucket;
pub mod calls;
mod channel;
mod cluster;
mod followed;
mod frontier;
pub mod gathered;
pub mod keys;
mod level;
pub mod live;
pub mod newcomers;
mod plan;
pub mod routines;
pub mod series;
mod snapshot;
pub mod sql;
mod stamps;
pub mod statements;
mod template;
pub mod times;
mod verdict;

pub use backlog::{Backlog, Contradiction, State, Stored};
pub use bucket::{Bucket, EPOCH, Kind, Step, bin, bin_of, level_of};
pub use channel::channel;
pub use cluster::{Absent, Answer, Answers, Candidate, MANY, Refused, advance, restarted};
pub use followed::{Followed, Named};
pub use frontier::{Frontier, GROUP, Node, Nodes, SOURCE, merged, new, unmerged};
pub use level::Level;
pub use plan::{Column, Joined, Joins, Merge, Missing, Plan, Role, from_clause};
pub use snapshot::Snapshot;
pub use stamps::Stamps;
pub use template::fill;
pub use verdict::{CHANGED, Verdict, verdict};
