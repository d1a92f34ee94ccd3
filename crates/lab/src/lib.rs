//! Private PostgreSQL clusters: what the tests, the demonstration and the measurements run on.
//!
//! Nothing here touches an installed server: the PostgreSQL tree is copied, the cluster listens on a
//! Unix socket in its own temporary folder only, and it is gone when its owner is.
pub mod charts;
mod citus;
mod cluster;
pub mod drawing;
pub mod figures;
mod major;
pub mod plans;
mod reference;
mod skips;
mod tree;

pub use citus::Citus;
pub use cluster::{Cluster, OURS, wait_for, wait_until};
pub use reference::{reference, settings};
pub use skips::{SKIPS, skip};
pub use tree::{Account, Tree, root};

/// Anything that may go wrong while a cluster is prepared or asked.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;
/// The result of everything in this crate.
pub type Outcome<T> = Result<T, Fault>;
