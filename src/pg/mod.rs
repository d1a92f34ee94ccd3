//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
pub mod aggcontext;
pub mod background;
pub mod counter_map;
pub mod jsonb;
pub mod numeric;
pub mod query;
pub mod v1;
pub mod xact;
