//! HyperLogLog sketches in the storage format of postgresql-hll (schema version 1).
//!
//! ```text
//! byte 0   version << 4 | type      type: 0 undefined, 1 empty, 2 explicit, 3 sparse, 4 full
//! byte 1   (regwidth - 1) << 5 | log2m
//! byte 2   sparseon << 6 | threshold code      63: automatic, 0: none, k: 2^(k-1)
//! rest     explicit: hashes, 8 bytes big-endian each, ascending as signed numbers
//!          sparse:   (index, value) in log2m + regwidth bits each, ascending index
//!          full:     2^log2m registers of regwidth bits, most significant bit first
//! ```
//! ```
//! use hll_sketch::{Estimator, Heap, Params, Sketch, murmur3};
//! let mut sketch = Sketch::empty(Params::DEFAULT, Heap);
//! for visitor in 0..1000_i64 {
//!     sketch.add(murmur3::hash_i64(visitor, 0));
//! }
//! let estimate = sketch.cardinality(Estimator::Improved).unwrap().unwrap();
//! assert!((estimate - 1000.0).abs() < 60.0);
//! ```
#![forbid(unsafe_code)]
mod bits;
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
