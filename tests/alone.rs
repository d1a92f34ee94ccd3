//! Tests that compare times, which other tests of this machine would falsify: they run one at a time.
mod citus_cost;
mod ddl_cost;
