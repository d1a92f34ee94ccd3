//! The process and its surroundings: transactions, roles, locks, snapshots, other processes and other servers.
pub mod background;
pub mod counted;
pub mod executing;
pub mod kept;
pub mod libpq;
pub mod lock;
pub mod node;
pub mod patience;
pub mod security;
pub mod told;
pub mod watched;
pub mod xact;
