//! HyperLogLog sketches in the storage format of postgresql-hll, schema version 1.
//!
//! ```
//! use hll_sketch::{Estimator, Heap, Params, Sketch, murmur3};
//!
//! let mut visitors = Sketch::empty(Params::DEFAULT, Heap);
//! for id in 0..10_000i64 {
//!     visitors.add(murmur3::hash_i64(id, 0));
//! }
//! let stored = visitors.encode(-1);
//! let estimate = hll_sketch::cardinality_of(&stored, Estimator::Improved)?.unwrap();
//! assert!((estimate / 10_000.0 - 1.0).abs() < 0.1);
//! # Ok::<(), hll_sketch::Error>(())
//! ```
//!
//! Stored bytes come from users and are treated as hostile: [`validate`] and every function that reads
//! bytes check all of them before anything is changed. In memory a sketch is a sorted list of hashes
//! until that grows past the explicit threshold, then one byte per register; where that memory comes
//! from is the caller's choice (see [`Memory`]).
#![deny(unsafe_code)]

mod append;
mod codec;
mod error;
mod estimate;
mod growing;
mod joint;
mod kernel;
mod memory;
mod moving;
pub mod murmur3;
mod params;
mod print;
mod sketch;
mod state;

pub use append::add_to_stored;
pub use codec::{Header, Kind, validate};
pub use error::{Class, Error};
pub use estimate::{Estimator, cardinality_of, standard_error};
pub use growing::Growing;
pub use joint::{Overlap, overlap};
pub use memory::{Buffer, Heap, Memory};
pub use moving::{Moving, Stack};
pub use params::{MAX_EXPLICIT, Params};
pub use sketch::Sketch;

/// The examples of the README run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
