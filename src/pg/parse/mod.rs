//! Queries and expressions: read by PostgreSQL's parser and analyser, looked into, changed, and written back as text.
pub mod constant;
pub mod deparse;
pub mod expression;
pub mod generated;
pub mod lookups;
pub mod pinned;
pub mod query;
pub mod reach;
pub mod select;
pub mod shape;
pub mod steady;
pub mod tables;
pub mod target;
pub mod zones;
