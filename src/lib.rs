//! The PostgreSQL extension `hll`: sketches, percentiles, JSONB counters, and exact continuous rollups.
//!
//! `crates/sketch` and `crates/ddsketch` hold the mathematics and know no PostgreSQL; `pg` is the fence behind which every
//! raw pointer is handled; each other module is the PostgreSQL face of one feature.
#![deny(unsafe_code)]

use pgrx::prelude::*;

pub mod counters;
pub mod ddsketch;
pub mod hll;
#[allow(unsafe_code)]
pub mod pg;
pub mod rollup;
pub mod series;
#[cfg(any(test, feature = "pg_test"))]
mod server_tests;
pub mod worker;

pgrx::pg_module_magic!();

extension_sql_file!("../sql/hll.sql", name = "hll_sql", bootstrap);
extension_sql_file!("../sql/aggregates.sql", name = "aggregates_sql", requires = ["hll_sql"]);
extension_sql_file!("../sql/more.sql", name = "more_sql", requires = ["aggregates_sql"]);
extension_sql_file!("../sql/counters.sql", name = "counters_sql", requires = ["more_sql"]);
extension_sql_file!("../sql/ddsketch.sql", name = "ddsketch_sql", requires = ["counters_sql"]);
extension_sql_file!("../sql/rollup.sql", name = "rollup_sql", requires = ["ddsketch_sql"]);
extension_sql_file!("../sql/zonemap.sql", name = "zonemap_sql", requires = ["rollup_sql"]);
extension_sql_file!("../sql/merge_rules.sql", name = "merge_rules_sql", requires = ["zonemap_sql"]);
extension_sql_file!("../sql/series.sql", name = "series_sql", requires = ["merge_rules_sql"]);
extension_sql_file!(
    "../sql/rollup_functions.sql",
    name = "rollup_functions_sql",
    requires = ["series_sql"],
    finalize
);

/// Called by PostgreSQL when the library is loaded.
#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    pg::error::keep_traces_out();
    pg::told::install();
    hll::init();
    counters::init();
    ddsketch::init();
    rollup::init();
    worker::init();
}

#[cfg(test)]
#[doc(hidden)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
