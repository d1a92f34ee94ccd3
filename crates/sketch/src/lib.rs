//! HyperLogLog sketches in the storage format of postgresql-hll.
//!
//! Everything here is safe Rust without dependencies: the stored bytes (`codec`), the state while
//! values are added (`sketch`), the estimate (`estimate`) and the hash functions (`murmur3`).
#![forbid(unsafe_code)]

mod codec;
mod error;
mod estimate;
mod memory;
pub mod murmur3;
mod params;
mod sketch;

pub use codec::{Header, Kind, cardinality_of, validate};
pub use error::{Class, Error};
pub use estimate::Estimator;
pub use memory::{Buffer, Heap, Memory};
pub use params::Params;
pub use sketch::Sketch;
