//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
pub mod aggregate;
pub mod anyhash;
pub mod error;
pub mod memory;
pub mod native;
pub mod planner;
pub mod v1;
