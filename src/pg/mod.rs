//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
pub mod v1;
