//! How functions are called, and what their values and aggregate states are made of.
pub mod aggcontext;
pub mod aggregate;
pub mod answer;
pub mod anyhash;
pub mod array;
pub mod counter_map;
pub mod ctext;
pub mod decimal;
pub mod distinct;
pub mod entry;
pub mod expanded;
pub mod extreme;
pub mod interrupt;
pub mod jsonb;
pub mod memory;
pub mod moments;
pub mod native;
pub mod numeric;
#[cfg(any(test, feature = "pg_test"))]
pub mod ownership;
pub mod rows;
pub mod stack;
pub mod v1;
pub mod window;
