//! Tests that compare times, which other tests of this machine would falsify: they run one at a time.
#![allow(clippy::too_many_lines, reason = "a test is one story, told from its first statement to its last")]
mod citus_cost;
mod citus_look;
mod ddl_cost;
