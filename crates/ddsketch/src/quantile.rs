//! What a sketch says of its values.
use crate::half::Half;
use crate::mapping::{index_range, lower_limit, middle};
use crate::{DdSketch, Error, Memory};

/// Values that lie together: those above `lower`, up to `upper`; below zero those from `lower` on, below `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The limit below.
    pub lower: f64,
    /// The limit above. The same as `lower` for zeros and infinities.
    pub upper: f64,
    /// How many values there are.
    pub count: u64,
    /// The number that stands for them.
    middle: f64,
}

fn share(share: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(Error::Share(share)) }
}

impl<M: Memory> DdSketch<M> {
    fn bucket(&self, index: i32, count: u64) -> Bucket {
        let (lowest, highest) = index_range(self.scale);
        // The lowest bucket has the subnormal numbers, too; the highest but that of infinity ends with the doubles.
        let lower = if index == lowest { 0.0 } else { lower_limit(index, self.scale) };
        let upper = if index + 1 == highest { f64::MAX } else { lower_limit(index + 1, self.scale) };
        Bucket { lower, upper, count, middle: middle(index, self.scale) }
    }

    /// The buckets that have values, ascending by these. The zeros are one, whose limits are 0.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = self
            .negative
            .iter()
            .map(|(index, count)| {
                let b = self.bucket(index, count);
                Bucket { lower: -b.upper, upper: -b.lower, count, middle: -b.middle }
            })
            .collect();
        all.reverse();
        if self.zero > 0 {
            all.push(Bucket { lower: 0.0, upper: 0.0, count: self.zero, middle: 0.0 });
        }
        all.extend(self.positive.iter().map(|(index, count)| self.bucket(index, count)));
        all
    }

    /// A value no further out than the values are known to be.
    fn clamped(&self, value: f64) -> f64 {
        let least = self.min().map_or(value, |min| value.max(min));
        self.max().map_or(least, |max| least.min(max))
    }

    /// The value at `share` of all, ascending: the nearest rank, as in `percentile_disc`. 0 gives the least, 1 the greatest
    /// value exactly, where they are known; else it is off by at most (γ-1)/(γ+1) of itself. None of no values.
    pub fn quantile(&self, at: f64) -> Result<Option<f64>, Error> {
        let at = share(at)?;
        if self.count == 0 {
            return Ok(None);
        }
        let rank = ((at * self.count as f64).ceil() as u64).clamp(1, self.count);
        if let (1, Some(min)) = (rank, self.min()) {
            return Ok(Some(min));
        }
        if let (true, Some(max)) = (rank == self.count, self.max()) {
            return Ok(Some(max));
        }
        Ok(Some(self.clamped(self.ranked(rank))))
    }

    /// What stands for the bucket of the value of this rank, from 1 on.
    fn ranked(&self, rank: u64) -> f64 {
        // Below zero the buckets come last to first: those that are to be passed are counted from the other end.
        let negatives: u64 = self.negative.iter().map(|(_, count)| count).sum();
        if rank <= negatives {
            let index = nth(&self.negative, negatives + 1 - rank);
            return -middle(index, self.scale);
        }
        if rank - negatives <= self.zero {
            return 0.0;
        }
        middle(nth(&self.positive, rank - negatives - self.zero), self.scale)
    }

    /// How many values are at most `x`, those of the bucket that `x` lies in spread evenly over it.
    fn at_most(&self, x: f64) -> f64 {
        if self.max().is_some_and(|max| max <= x) {
            return self.count as f64;
        }
        if self.min().is_some_and(|min| x < min) {
            return 0.0;
        }
        let mut below = 0.0;
        for b in self.buckets() {
            // No value lies beyond the extremes.
            let (lower, upper) = (self.clamped(b.lower), self.clamped(b.upper));
            if upper <= x {
                below += b.count as f64;
            } else if lower < x {
                let part =
                    if upper.is_finite() && lower.is_finite() { (x - lower) / (upper - lower) } else { 0.0 };
                below += b.count as f64 * part.clamp(0.0, 1.0);
            }
        }
        below
    }

    /// The share of values that are at most `x`; those of the bucket that `x` lies in are taken to be spread evenly over
    /// it. None of no values.
    pub fn rank(&self, x: f64) -> Result<Option<f64>, Error> {
        if x.is_nan() {
            return Err(Error::Limit);
        }
        Ok((self.count > 0).then(|| self.at_most(x) / self.count as f64))
    }

    /// The share of values above `a`, up to `b`. None of no values.
    pub fn fraction_between(&self, a: f64, b: f64) -> Result<Option<f64>, Error> {
        if a.is_nan() || b.is_nan() {
            return Err(Error::Limit);
        }
        if a > b {
            return Err(Error::Order(a, b));
        }
        Ok((self.count > 0).then(|| (self.at_most(b) - self.at_most(a)) / self.count as f64))
    }

    /// The mean of the values between two shares of all, ascending: those of a bucket that is cut count for the part of it that is
    /// within. Off by at most (γ-1)/(γ+1) of itself where all values have one sign. The mean itself from 0 to 1. None of no
    /// values.
    pub fn trimmed_avg(&self, lo: f64, hi: f64) -> Result<Option<f64>, Error> {
        let (lo, hi) = (share(lo)?, share(hi)?);
        if lo >= hi {
            return Err(Error::Shares(lo, hi));
        }
        if self.count == 0 {
            return Ok(None);
        }
        if let (true, Some(avg)) = (lo == 0.0 && hi == 1.0, self.avg()) {
            return Ok(Some(avg));
        }
        let (from, to) = (lo * self.count as f64, hi * self.count as f64);
        let (mut seen, mut mean) = (0u64, 0.0);
        for b in self.buckets() {
            let start = seen as f64;
            seen += b.count;
            let weight = to.min(seen as f64) - from.max(start);
            if weight > 0.0 {
                // The shares are summed, not the values: no sum is too large for a double that the mean is not.
                mean += self.clamped(b.middle) * (weight / (to - from));
            }
        }
        Ok(Some(self.clamped(mean)))
    }
}

/// The index of the bucket that has the value of this rank, from 1 on. There are so many values.
fn nth<M: Memory>(half: &Half<M>, rank: u64) -> i32 {
    let (mut cursor, mut seen, mut at) = (0, 0, 0);
    while let Some((index, counts)) = half.next_block(&mut cursor) {
        let all: u64 = counts.iter().sum();
        if seen + all < rank {
            seen += all;
            continue;
        }
        for (n, count) in counts.iter().enumerate() {
            (seen, at) = (seen + count, index + n as i32);
            if seen >= rank {
                return at;
            }
        }
    }
    at
}
