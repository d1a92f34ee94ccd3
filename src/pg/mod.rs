//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
pub mod background;
pub mod query;
pub mod v1;
pub mod xact;
