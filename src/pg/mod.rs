//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
pub mod aggcontext;
pub mod aggregate;
pub mod anyhash;
pub mod background;
pub mod counter_map;
pub mod distinct;
pub mod error;
pub mod memory;
pub mod native;
pub mod numeric;
pub mod planner;
pub mod query;
pub mod v1;
pub mod xact;
