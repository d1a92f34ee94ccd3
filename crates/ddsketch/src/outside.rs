//! Histograms that others made: OpenTelemetry's exponential ones, and Prometheus' native ones.
use crate::mapping::{MAX_SCALE, MIN_SCALE, index_range};
use crate::read::extremes_fit;
use crate::sketch::Unknown;
use crate::{DdSketch, Error, Memory};

/// The finest scale that an OpenTelemetry histogram may have. Finer ones than 10 are folded.
pub const FINEST_OUTSIDE: i32 = 20;

/// An exponential histogram as OpenTelemetry exports it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exponential<'a> {
    /// From -4 to 20.
    pub scale: i32,
    /// How many values are zero, or so close to it that they were counted as zero (`zero_threshold`).
    pub zero_count: i64,
    /// The index of the first of `positive`.
    pub positive_offset: i32,
    /// Counts of values above zero, in consecutive buckets.
    pub positive: &'a [i64],
    /// The index of the first of `negative`.
    pub negative_offset: i32,
    /// Counts of values below zero, by their absolute values.
    pub negative: &'a [i64],
    /// The sum, if it is known; one that is not finite is not.
    pub sum: Option<f64>,
    /// The least value, if it is known.
    pub min: Option<f64>,
    /// The greatest value, if it is known.
    pub max: Option<f64>,
}

/// Consecutive buckets of a native histogram, and how each count differs from the one before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spans<'a> {
    /// The index of the first bucket of the first span; of others how far they are from the one before.
    pub offsets: &'a [i32],
    /// How many buckets each span has.
    pub lengths: &'a [i32],
    /// The first count, and the differences from each to the next.
    pub deltas: &'a [i64],
}

/// A native histogram as Prometheus' client libraries expose it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native<'a> {
    /// From -4 to 8.
    pub schema: i32,
    /// How many values are zero, or no further from it than the zero threshold.
    pub zero_count: i64,
    /// Values above zero.
    pub positive: Spans<'a>,
    /// Values below zero.
    pub negative: Spans<'a>,
    /// The sum, if it is known; one that is not finite is not.
    pub sum: Option<f64>,
}

/// A bucket at a scale that may be finer than any of ours, at a scale of ours.
fn placed(index: i64, scale: i32) -> Result<i32, Error> {
    let folded = scale.min(MAX_SCALE);
    let (lowest, highest) = index_range(folded);
    let octave = index >> scale.max(0);
    let at = index >> (scale - folded);
    // Some count subnormal numbers where they are; here the lowest bucket has them all.
    let lowest_octave = if scale < 0 { -1075 >> -scale } else { -1075 };
    if octave < lowest_octave || at > i64::from(highest) {
        return Err(Error::Index(index));
    }
    Ok(at.max(i64::from(lowest)) as i32)
}

fn counted(count: i64) -> Result<u64, Error> {
    u64::try_from(count).map_err(|_| Error::Count(count))
}

impl<M: Memory> DdSketch<M> {
    fn of_outside(scale: i32, zero_count: i64, memory: M) -> Result<Self, Error> {
        let mut sketch = DdSketch::new(scale.min(MAX_SCALE), memory)?;
        sketch.zero = counted(zero_count)?;
        sketch.grow(sketch.zero)?;
        Ok(sketch)
    }

    pub(crate) fn add_outside(
        &mut self,
        is_negative: bool,
        index: i64,
        scale: i32,
        count: u64,
    ) -> Result<(), Error> {
        if count == 0 {
            return Ok(());
        }
        self.grow(count)?;
        let at = placed(index, scale)? >> (scale.min(MAX_SCALE) - self.scale);
        let half = if is_negative { &mut self.negative } else { &mut self.positive };
        half.add(at, count, self.memory);
        self.fold_to_fit();
        Ok(())
    }

    /// What is known of values that others counted.
    pub(crate) fn with_facts(
        mut self,
        sum: Option<f64>,
        min: Option<f64>,
        max: Option<f64>,
    ) -> Result<Self, Error> {
        if self.count == 0 {
            return Ok(self);
        }
        let nan = |value: Option<f64>| value.is_some_and(f64::is_nan);
        let fit =
            extremes_fit(min, max, self.scale, self.zero > 0, self.negative.ends(), self.positive.ends());
        if nan(min) || nan(max) || !fit {
            return Err(Error::Extremes);
        }
        let sum = sum.filter(|sum| sum.is_finite());
        if let Some(sum) = sum {
            self.sum.add_times(sum, 1, self.memory);
        }
        let unknown = Unknown { sum: sum.is_none(), min: min.is_none(), max: max.is_none() };
        let (min, max) = (min.unwrap_or(f64::INFINITY), max.unwrap_or(f64::NEG_INFINITY));
        self.add_facts(min + 0.0, max + 0.0, unknown);
        Ok(self)
    }

    /// The values of an exponential histogram.
    pub fn from_otel(histogram: &Exponential, memory: M) -> Result<Self, Error> {
        let scale = histogram.scale;
        if !(MIN_SCALE..=FINEST_OUTSIDE).contains(&scale) {
            return Err(Error::OutsideScale(scale));
        }
        let mut sketch = DdSketch::of_outside(scale, histogram.zero_count, memory)?;
        for (is_negative, offset, counts) in [
            (false, histogram.positive_offset, histogram.positive),
            (true, histogram.negative_offset, histogram.negative),
        ] {
            for (n, count) in counts.iter().enumerate() {
                sketch.add_outside(is_negative, i64::from(offset) + n as i64, scale, counted(*count)?)?;
            }
        }
        sketch.with_facts(histogram.sum, histogram.min, histogram.max)
    }

    /// The values of a native histogram.
    pub fn from_prometheus(histogram: &Native, memory: M) -> Result<Self, Error> {
        let scale = histogram.schema;
        if !(MIN_SCALE..=8).contains(&scale) {
            return Err(Error::Schema(scale));
        }
        let mut sketch = DdSketch::of_outside(scale, histogram.zero_count, memory)?;
        for (is_negative, spans) in [(false, &histogram.positive), (true, &histogram.negative)] {
            let (offsets, lengths) = (spans.offsets.len(), spans.lengths.len());
            if offsets != lengths {
                return Err(Error::SpanLengths { offsets, lengths });
            }
            if let Some(length) = spans.lengths.iter().find(|length| **length < 0) {
                return Err(Error::SpanLength(i64::from(*length)));
            }
            let all = spans.lengths.iter().map(|length| i64::from(*length)).sum::<i64>();
            if all != spans.deltas.len() as i64 {
                return Err(Error::Spans { spans: all, counts: spans.deltas.len() });
            }
            // Prometheus' bucket i ends at base^i, ours begins there.
            let (mut index, mut count) = (-1i64, 0i64);
            let mut deltas = spans.deltas.iter();
            for (offset, length) in spans.offsets.iter().zip(spans.lengths) {
                index += i64::from(*offset);
                for delta in deltas.by_ref().take(*length as usize) {
                    count = count.checked_add(*delta).ok_or(Error::TooMany)?;
                    sketch.add_outside(is_negative, index, scale, counted(count)?)?;
                    index += 1;
                }
            }
        }
        sketch.with_facts(histogram.sum, None, None)
    }
}
