//! The fence: every raw pointer of PostgreSQL is handled in this folder and nowhere else.
pub mod aggcontext;
pub mod aggregate;
pub mod anyhash;
pub mod array;
pub mod background;
pub mod buckets;
pub mod counter_map;
pub mod ddl;
pub mod decimal;
pub mod deparse;
pub mod distinct;
pub mod entry;
pub mod error;
pub mod executing;
pub mod expanded;
pub mod expression;
pub mod extreme;
pub mod generated;
pub mod holes;
pub mod interrupt;
pub mod jsonb;
pub mod kept;
pub mod libpq;
pub mod lock;
pub mod memory;
pub mod moments;
pub mod native;
pub mod node;
pub mod numeric;
#[cfg(any(test, feature = "pg_test"))]
pub mod ownership;
pub mod patience;
pub mod pinned;
pub mod planner;
pub mod query;
pub mod reach;
pub mod rows;
pub mod security;
pub mod shape;
pub mod split;
pub mod steady;
pub mod tables;
pub mod trigger;
pub mod v1;
pub mod xact;
pub mod zonemap;

/// A quoted literal, whatever standard_conforming_strings says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}
