//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
pub mod aggcontext;
pub mod counter_map;
pub mod jsonb;
pub mod numeric;
pub mod v1;
