//! The largest of many counters, with an error that is known after any number of merges.
//!
//! A summary keeps numbers by key, no more than `max_keys` of them, and next to them its [`Rest`]: what was taken from keys,
//! in all. Where there are too many keys, [`cut`] takes the largest number that has to go from every key, and drops those of
//! which nothing is left (Misra and Gries, 1982; that such summaries merge: Agarwal and others, "Mergeable summaries", 2012).
//!
//! # Why no key is too low by more than `taken / (max_keys + 1)`
//!
//! Call `t` what was taken, `e` the most that any one key was lowered by, and `k` the bound. The claim is `e * (k + 1) <= t`,
//! and that all numbers together and `t` are the total of what was counted.
//!
//! - A summary that was not cut has `e = t = 0`.
//! - A cut to `n >= k` keys lowers by `c`, the `n + 1`-th largest number. No key loses more than `c`; the `n + 1` largest had at
//!   least `c` and lose `c` each; so `e` grows by at most `c`, and `t` by at least `c * (n + 1)`, as much as is lost in all.
//! - A union adds numbers key by key, and `t` and `e` of its parts: `(e1 + e2) * (k + 1) <= t1 + t2` for the smaller `k` of both.
//!
//! So it holds of every tree of unions and cuts. Two trees over the same rows may give different numbers, both within the
//! bound. A key that has more than the total divided by `k + 1` is never missing: it would have been lowered by more than
//! `t / (k + 1)`.
//!
//! What came without a key of its own, from counters of which nothing is known, is `unknown`: of that one key may have had
//! all.
//!
//! ```
//! use hll_frequent::{Counters, Rest, cut};
//!
//! // k = 1: {a: 10}, and a hundred times {x: 9}. Kept whole, the largest of two would have been `a` each time.
//! let mut counters = std::collections::BTreeMap::from([("a", 10u64)]);
//! let mut rest = Rest::new(1);
//! for _ in 0..100 {
//!     *counters.entry("x").or_default() += 9;
//!     cut(&mut counters, &mut rest, 1);
//! }
//! let lost = rest.taken / 2;
//! assert!(counters["x"] <= 900 && 900 <= counters["x"] + lost);
//! assert_eq!(counters.values().sum::<u64>() + rest.taken, 910);
//! ```
#![forbid(unsafe_code)]

use core::cmp::Ordering;

/// A number that is counted with, exactly, not below zero.
pub trait Amount: Copy {
    /// Nothing.
    const ZERO: Self;
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// The order of values.
    fn order(self, other: Self) -> Ordering;
}

impl Amount for u64 {
    const ZERO: u64 = 0;

    fn plus(self, other: u64) -> u64 {
        self + other
    }

    fn order(self, other: u64) -> Ordering {
        self.cmp(&other)
    }
}

/// Numbers by key.
pub trait Counters {
    /// What is counted with.
    type Amount: Amount;

    /// All numbers.
    fn amounts(&self) -> impl Iterator<Item = Self::Amount>;

    /// Takes `by` from every number, or all of it where it is not more than that; such keys go. Says how much that was.
    fn lower(&mut self, by: Self::Amount) -> Self::Amount;
}

impl<K: Ord> Counters for std::collections::BTreeMap<K, u64> {
    type Amount = u64;

    fn amounts(&self) -> impl Iterator<Item = u64> {
        self.values().copied()
    }

    fn lower(&mut self, by: u64) -> u64 {
        let mut taken = 0;
        self.retain(|_, n| {
            let less = by.min(*n);
            taken += less;
            *n -= less;
            *n > 0
        });
        taken
    }
}

/// What a summary has besides its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest<N> {
    /// What was taken from keys.
    pub taken: N,
    /// No more keys have a number once it is cut.
    pub max_keys: u32,
    /// What came without a key, and nothing is known of.
    pub unknown: N,
}

impl<N: Amount> Rest<N> {
    /// Nothing was taken.
    pub fn new(max_keys: u32) -> Self {
        Rest { taken: N::ZERO, max_keys, unknown: N::ZERO }
    }

    /// That of a union: the smaller bound counts.
    pub fn union(self, other: Self) -> Self {
        Rest {
            taken: self.taken.plus(other.taken),
            max_keys: self.max_keys.min(other.max_keys),
            unknown: self.unknown.plus(other.unknown),
        }
    }

    /// How many keys a summary in the making may have before it is cut, to half of that: it is cut rarely, and lowered
    /// by no more than what has to go.
    pub fn room(self) -> usize {
        4 * self.max_keys as usize + 64
    }
}

/// The largest number that has to go where `keep` of them stay.
pub fn threshold<N: Amount>(numbers: &mut [N], keep: usize) -> Option<N> {
    (numbers.len() > keep).then(|| *numbers.select_nth_unstable_by(keep, |a, b| b.order(*a)).1)
}

/// Leaves at most `keep` keys, which is at least `rest.max_keys`.
pub fn cut<C: Counters>(counters: &mut C, rest: &mut Rest<C::Amount>, keep: usize) {
    debug_assert!(keep >= rest.max_keys as usize);
    let mut numbers: Vec<C::Amount> = counters.amounts().collect();
    if let Some(by) = threshold(&mut numbers, keep) {
        rest.taken = rest.taken.plus(counters.lower(by));
    }
}

/// Whether two summaries may be of the same rows. For each key of either, `pairs` has its numbers in both; they differ by no
/// more than the other's error, `errors`.
pub fn agree<N: Amount>(pairs: impl IntoIterator<Item = [N; 2]>, errors: [N; 2]) -> bool {
    pairs.into_iter().all(|[a, b]| {
        a.order(b.plus(errors[1])) != Ordering::Greater && b.order(a.plus(errors[0])) != Ordering::Greater
    })
}
