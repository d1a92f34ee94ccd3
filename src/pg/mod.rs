//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
//!
//! Its rooms are folders. Files of the first four are known by their names alone: `pg::xact`, `pg::v1`.
pub mod batch;
pub mod call;
pub mod error;
pub mod event;
pub mod parse;
pub mod plan;
pub mod session;
pub mod zonemap;

#[cfg(any(test, feature = "pg_test"))]
pub use call::ownership;
pub use call::{
    aggcontext, aggregate, answer, anyhash, array, counter_map, ctext, decimal, distinct, entry, expanded,
    extreme, interrupt, jsonb, memory, moments, native, numeric, rows, stack, v1, window,
};
pub use event::{ddl, leaving, trigger};
pub use parse::{
    constant, deparse, expression, generated, lookups, pinned, query, reach, select, shape, steady, tables,
    target, zones,
};
pub use plan::{buckets, planner, split};
pub use session::{
    background, counted, executing, kept, libpq, lock, node, patience, security, told, watched, xact,
};

pub use hll_rollup::sql::literal;
