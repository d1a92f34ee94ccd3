//! Percentiles that merge exactly: exponential histograms whose bytes depend on the set of values alone.
//!
//! ```
//! use hll_ddsketch::{DdSketch, Heap};
//!
//! let (mut one, mut other) = (DdSketch::new(5, Heap)?, DdSketch::new(5, Heap)?);
//! (1..=600).try_for_each(|ms| one.add(f64::from(ms)))?;
//! (601..=1000).try_for_each(|ms| other.add(f64::from(ms)))?;
//! let mut both = DdSketch::decode(&other.encode(), Heap)?;
//! both.union_bytes(&one.encode())?;
//! assert!((both.quantile(0.99)?.unwrap() / 990.0 - 1.0).abs() <= 0.0109);
//! assert_eq!((both.quantile(0.0)?, both.sum()), (Some(1.0), Some(500_500.0)));
//! # Ok::<(), hll_ddsketch::Error>(())
//! ```
//!
//! A value falls into a bucket whose limits are powers of 2^(2^-scale): a DDSketch (Masson, Rim, Lee, VLDB 2019) whose γ is
//! such a power, the exponential histogram of OpenTelemetry and the native histogram of Prometheus. The sketch is the
//! counts. [`DdSketch`] says why any order of additions and unions gives the same bytes.
//!
//! Stored bytes come from users and are treated as hostile: every function that reads some checks all of them.
#![forbid(unsafe_code)]

mod blocks;
mod codec;
mod error;
mod exact;
mod half;
mod limits;
mod mapping;
mod memory;
mod outside;
mod quantile;
mod read;
mod sketch;
mod text;
mod window;

pub use error::{Class, Error};
pub use mapping::{DEFAULT_SCALE, MAX_SCALE, MIN_SCALE, index_of, lower_limit};
pub use memory::{Cell, Heap, Memory};
pub use outside::{Exponential, FINEST_OUTSIDE, Native, Spans};
pub use quantile::Bucket;
pub use sketch::{DdSketch, MAX_BUCKETS};

/// The examples of the README run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
