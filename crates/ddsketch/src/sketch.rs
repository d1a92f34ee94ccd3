//! The sketch itself: adding values and sketches.
use crate::exact::{self, Sum};
use crate::half::Half;
use crate::mapping::{DEFAULT_SCALE, MAX_SCALE, MIN_SCALE, default_index, finest_index, index_of};
use crate::window::BLOCK;
use crate::{Error, Heap, Memory};

/// Each half of a sketch has at most so many buckets with values.
pub const MAX_BUCKETS: usize = 4096;

/// A count of values is below 2^63.
const MOST: u64 = i64::MAX as u64;

/// What was not known of a part: these are then known no more of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unknown {
    pub sum: bool,
    pub min: bool,
    pub max: bool,
}

/// The values counted, up to a relative error.
///
/// # Why order does not matter
///
/// Let V be the values of a sketch and all its parts, with their numbers, and m the smallest scale that one of the parts was
/// made with. Of V alone depend the counts at a scale, how many values there are, the least, the greatest, and their sum,
/// which is exact. The scale of the sketch is f(V, m), the largest one not above m at which neither half has more than
/// [`MAX_BUCKETS`] buckets with values. So all there is to show is that adding and uniting keep to f, whatever was folded
/// on the way.
///
/// Call n(V, s) the number of buckets of the larger half. A coarser scale makes one bucket of several, so n does not grow
/// as s falls; more values fill no fewer buckets, so n does not fall as V grows. Therefore f falls, or stays, as V grows
/// and as m falls. Take two sketches of scales a = f(A, i) and b = f(B, j). The scale of their union is to be
/// u = f(A ∪ B, min(i, j)). As u is at most f(A, i) = a and at most b, counts at scale u follow from those at a and b: bucket
/// x becomes x >> (a - u). And u is found by starting from min(a, b) and going down while a half is too large, since all
/// scales from which the search starts higher, min(i, j) included, are ruled out. One value more is the union with a sketch of
/// one value and the same m. An empty sketch has A empty, and brings i alone.
///
/// At scale 1 and below, no half can have more than 4,096 buckets: the search ends.
#[derive(Debug)]
pub struct DdSketch<M: Memory = Heap> {
    pub(crate) memory: M,
    pub(crate) scale: i32,
    pub(crate) count: u64,
    pub(crate) zero: u64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) unknown: Unknown,
    /// Of the finite values.
    pub(crate) sum: Sum<M>,
    pub(crate) positive: Half<M>,
    pub(crate) negative: Half<M>,
    /// Up to so many values no run makes a count too large for 32 bits.
    settled: u64,
}

impl<M: Memory> DdSketch<M> {
    /// A sketch of no values. `scale` is from -4 to 10: 5 has a relative error of 1.08 %, each one more half of it.
    pub fn new(scale: i32, memory: M) -> Result<Self, Error> {
        if !(MIN_SCALE..=MAX_SCALE).contains(&scale) {
            return Err(Error::Scale(scale));
        }
        Ok(DdSketch {
            memory,
            scale,
            count: 0,
            zero: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            unknown: Unknown::default(),
            sum: Sum::zero(),
            positive: Half::empty(memory),
            negative: Half::empty(memory),
            settled: i32::MAX as u64,
        })
    }

    /// The scale, which may have become smaller than that the sketch was made with.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// As after the union with a sketch of that scale and no values: a finer one changes nothing.
    #[inline]
    pub fn coarsen(&mut self, scale: i32) -> Result<(), Error> {
        if !(MIN_SCALE..=MAX_SCALE).contains(&scale) {
            return Err(Error::Scale(scale));
        }
        self.fold_to(scale);
        Ok(())
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a value.
    #[inline(always)]
    pub fn add(&mut self, value: f64) -> Result<(), Error> {
        // What most values come to, apart: positive, neither subnormal nor infinite, in a bucket that has values.
        let bits = value.to_bits();
        if !(1 << 52..2047 << 52).contains(&bits) || self.count >= MOST {
            return self.add_times(value, 1);
        }
        let index = match self.scale {
            DEFAULT_SCALE => default_index(bits),
            scale => finest_index(bits) >> (MAX_SCALE - scale),
        };
        if self.positive.bump(index) {
            self.count += 1;
            if value < self.min {
                self.min = value;
            }
            if value > self.max {
                self.max = value;
            }
            self.sum.add_normal(bits, self.memory);
            return Ok(());
        }
        self.add_times(value, 1)
    }

    /// Adds a value `weight` times. A weight of 0 adds nothing.
    #[inline(never)]
    pub fn add_times(&mut self, value: f64, weight: i64) -> Result<(), Error> {
        let times = u64::try_from(weight).map_err(|_| Error::Weight(weight))?;
        if value.is_nan() {
            return Err(Error::NotANumber);
        }
        if times == 0 {
            return Ok(());
        }
        self.grow(times)?;
        let (scale, memory) = (self.scale, self.memory);
        if value > 0.0 {
            self.positive.add(index_of(value, scale), times, memory);
        } else if value < 0.0 {
            self.negative.add(index_of(-value, scale), times, memory);
        } else {
            self.zero += times;
        }
        // -0 is 0.
        self.min = self.min.min(value + 0.0);
        self.max = self.max.max(value + 0.0);
        if value.is_finite() {
            self.sum.add_times(value, times, memory);
        }
        self.fold_to_fit();
        Ok(())
    }

    /// Counts more values, which are yet to be added.
    pub(crate) fn grow(&mut self, times: u64) -> Result<(), Error> {
        let count = self.count.checked_add(times).filter(|count| *count <= MOST);
        self.count = count.ok_or(Error::TooMany)?;
        Ok(())
    }

    /// Adds the values of another sketch.
    pub fn union(&mut self, other: &DdSketch<M>) -> Result<(), Error> {
        self.grow(other.count)?;
        self.fold_to(other.scale);
        for (is_negative, half) in [(false, &other.positive), (true, &other.negative)] {
            let mut cursor = 0;
            while let Some((index, counts)) = half.next_block(&mut cursor) {
                self.add_block(is_negative, index, &counts, other.scale);
            }
        }
        self.zero += other.zero;
        self.sum.add_sum(&other.sum, self.memory);
        self.add_facts(other.min, other.max, other.unknown);
        Ok(())
    }

    /// Adds consecutive buckets of a scale that is not coarser; their values are counted already.
    #[inline]
    pub(crate) fn add_block(&mut self, is_negative: bool, index: i32, counts: &[u64; BLOCK], scale: i32) {
        let by = scale - self.scale;
        let half = if is_negative { &mut self.negative } else { &mut self.positive };
        if by == 0 {
            half.add_block(index, counts, self.memory);
        } else {
            for (n, count) in counts.iter().enumerate() {
                half.add((index + n as i32) >> by, *count, self.memory);
            }
        }
        self.fold_to_fit();
    }

    /// Takes in what is known of the extremes of a part; of an empty one that is nothing, and all of it.
    pub(crate) fn add_facts(&mut self, min: f64, max: f64, unknown: Unknown) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.unknown.sum |= unknown.sum;
        self.unknown.min |= unknown.min;
        self.unknown.max |= unknown.max;
    }

    /// The same values at a scale that is not finer.
    pub(crate) fn fold_to(&mut self, scale: i32) {
        if scale < self.scale {
            let by = self.scale - scale;
            self.positive = self.positive.folded(by, self.memory);
            self.negative = self.negative.folded(by, self.memory);
            self.scale = scale;
            // Counts have been added to each other.
            self.settled = 0;
        }
    }

    /// After a run, whose values are counted.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        if self.count > self.settled {
            self.look_at_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn look_at_all(&mut self) {
        let room = self.positive.settle(self.memory).min(self.negative.settle(self.memory));
        self.settled = self.count.saturating_add(room);
    }

    /// Goes to the finest scale at which no half is too large.
    #[inline(always)]
    pub(crate) fn fold_to_fit(&mut self) {
        while self.positive.exceeds(MAX_BUCKETS) || self.negative.exceeds(MAX_BUCKETS) {
            self.fold_to(self.scale - 1);
        }
    }

    fn infinite(&self, half: &Half<M>) -> bool {
        half.ends().is_some_and(|(_, last)| last == index_of(f64::INFINITY, self.scale))
    }

    /// The sum of the values, exact except for rounding to a double. None of no values, and where a part came without.
    pub fn sum(&self) -> Option<f64> {
        self.quotient(1)
    }

    /// The mean of the values, likewise.
    pub fn avg(&self) -> Option<f64> {
        self.quotient(self.count)
    }

    fn quotient(&self, divisor: u64) -> Option<f64> {
        if self.count == 0 || self.unknown.sum {
            return None;
        }
        Some(match (self.infinite(&self.positive), self.infinite(&self.negative)) {
            (false, false) => exact::quotient(&self.sum.whole(), divisor),
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (true, true) => f64::NAN,
        })
    }

    /// The least value, exactly. None of no values, and where a part came without.
    pub fn min(&self) -> Option<f64> {
        (self.count > 0 && !self.unknown.min).then_some(self.min)
    }

    /// The greatest value, exactly. None of no values, and where a part came without.
    pub fn max(&self) -> Option<f64> {
        (self.count > 0 && !self.unknown.max).then_some(self.max)
    }
}
