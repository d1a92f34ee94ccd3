//! The PostgreSQL face of type `hll`: what postgresql-hll offers, under the same names and symbols.
//!
//! Each file is one concern, each SQL function one short body: decode, call `crates/sketch`, encode.
pub mod agg;
pub mod approx;
pub mod batch;
pub mod compare;
pub mod hash;
pub mod io;
mod moving;
pub mod ops;
pub mod sets;
pub mod settings;
pub mod typmod;

/// Called once when the library is loaded.
pub fn init() {
    settings::init();
    batch::init();
}
