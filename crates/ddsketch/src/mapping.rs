//! From values to buckets and back, by the bits of a double: never by a logarithm, whose last bit differs between
//! libraries.
//!
//! Bucket `i` of scale `s` holds the values in (γ^i, γ^(i+1)], γ = 2^(2^-s). Bucket `i` of one scale lies inside of
//! bucket `i >> k` of the scale that is coarser by `k`, so that the index of every scale is the one of the finest, shifted.
use crate::limits::LIMITS;

/// The coarsest scale: buckets that are 65,536 times as high as they begin.
pub const MIN_SCALE: i32 = -4;
/// The finest scale: a relative error of 0.034 %.
pub const MAX_SCALE: i32 = 10;
/// The scale where none is given: a relative error of 1.08 %.
pub const DEFAULT_SCALE: i32 = 5;

/// Bits of a double below its exponent.
const FRACTION: u32 = 52;

/// What a scale is looked up by: an octave in cells of equal width, twice as many as there are buckets, so that none has two
/// limits. A cell holds how many limits lie at or below its first fraction, `LIMITS[0]`, which is 0, apart, and above these
/// 12 bits the next limit less one, or the last fraction of all.
const fn cells<const CELLS: usize>() -> [u64; CELLS] {
    let (buckets, width) = (CELLS / 2, FRACTION - CELLS.ilog2());
    let step = (LIMITS.len() / buckets) as u32;
    let mut cells = [0; CELLS];
    let (mut cell, mut bucket) = (0, 0);
    while cell < CELLS {
        while bucket + 1 < buckets && LIMITS[(bucket + 1) * step as usize] <= (cell as u64) << width {
            bucket += 1;
        }
        let next = if bucket + 1 < buckets { LIMITS[(bucket + 1) * step as usize] } else { 1 << FRACTION };
        cells[cell] = (next - 1) << 12 | bucket as u64;
        cell += 1;
    }
    cells
}

static DEFAULT_CELLS: [u64; 2 << DEFAULT_SCALE] = cells();
static FINEST_CELLS: [u64; 2 << MAX_SCALE] = cells();

/// The index of a positive, normal, finite number with these bits, at the scale that has so many cells.
#[inline(always)]
fn looked_up<const CELLS: usize>(cells: &[u64; CELLS], bits: u64) -> i32 {
    // A limit belongs to the bucket below it: the double before is compared as if it belonged above.
    let before = bits - 1;
    let cell = cells[(before >> (FRACTION - CELLS.ilog2())) as usize % CELLS];
    let within = (cell & 0xfff) as i32 + i32::from(before << 12 > cell);
    (((before >> FRACTION) as i32 - 1023) << (CELLS.ilog2() - 1)) + within
}

/// The index of a positive, normal, finite number with these bits, at the default scale.
#[inline(always)]
pub(crate) fn default_index(bits: u64) -> i32 {
    looked_up(&DEFAULT_CELLS, bits)
}

/// The same at the finest scale.
#[inline(always)]
pub(crate) fn finest_index(bits: u64) -> i32 {
    looked_up(&FINEST_CELLS, bits)
}

/// The index of `value`, which is above 0 and no NaN, at `scale` from [`MIN_SCALE`] to [`MAX_SCALE`].
///
/// Subnormal numbers count as the least normal one, as in OpenTelemetry. Infinity has the bucket above all others.
#[inline]
pub fn index_of(value: f64, scale: i32) -> i32 {
    let finest = if value > f64::MAX {
        1024 << MAX_SCALE
    } else {
        finest_index(value.max(f64::MIN_POSITIVE).to_bits())
    };
    finest >> (MAX_SCALE - scale)
}

/// The lowest and the highest index that a scale has. The highest is that of infinity.
pub(crate) fn index_range(scale: i32) -> (i32, i32) {
    (((-1022 << MAX_SCALE) - 1) >> (MAX_SCALE - scale), (1024 << MAX_SCALE) >> (MAX_SCALE - scale))
}

/// 2^exponent times `value`, which lies in [1, 2): rounded where it is subnormal, infinite where it is too large.
fn scaled(value: f64, exponent: i32) -> f64 {
    let power = |e: i32| f64::from_bits(((e + 1023) as u64) << 52);
    match exponent {
        1024.. => f64::INFINITY,
        -1022..1024 => value * power(exponent),
        -1100..-1022 => value * power(-1022) * power((exponent + 1022).max(-1022)),
        _ => 0.0,
    }
}

/// The lower limit of a bucket, which is not in it: γ^index, rounded down. Infinity is the limit of its own bucket.
pub fn lower_limit(index: i32, scale: i32) -> f64 {
    if index >= index_range(scale).1 {
        return f64::INFINITY;
    }
    if scale <= 0 {
        return scaled(1.0, index << -scale);
    }
    let within = (index & ((1 << scale) - 1)) << (MAX_SCALE - scale);
    scaled(f64::from_bits(LIMITS[within as usize] | 1023 << 52), index >> scale)
}

/// The number that stands for a bucket: the harmonic mean of its limits, from which no value in it is further than
/// (γ-1)/(γ+1) of itself. The lowest bucket is taken as if it had no subnormal numbers.
pub(crate) fn middle(index: i32, scale: i32) -> f64 {
    if index >= index_range(scale).1 {
        return f64::INFINITY;
    }
    let gamma = if scale <= 0 {
        scaled(1.0, 1 << -scale)
    } else {
        f64::from_bits(LIMITS[1 << (MAX_SCALE - scale)] | 1023 << 52)
    };
    let up = 2.0 * gamma / (1.0 + gamma);
    // The lowest limit of all may be subnormal, and lose the digits that the middle has.
    match lower_limit(index, scale) {
        lower if lower >= f64::MIN_POSITIVE => lower * up,
        _ => lower_limit(index + 1, scale) * (up / gamma),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_has_two_limits() {
        for (cells, scale) in [(&DEFAULT_CELLS[..], DEFAULT_SCALE), (&FINEST_CELLS[..], MAX_SCALE)] {
            let of_scale: Vec<u64> = LIMITS.iter().copied().step_by(1 << (MAX_SCALE - scale)).collect();
            let nearest = of_scale.windows(2).map(|pair| pair[1] - pair[0]).min();
            let width = (1 << FRACTION) / cells.len() as u64;
            assert!(nearest.is_some_and(|nearest| nearest > width), "{nearest:?}");
        }
        assert_eq!(LIMITS[0], 0);
    }

    #[test]
    fn the_table_is_what_looking_through_all_limits_finds() {
        let last = (1 << FRACTION) - 1;
        let mut fractions: Vec<u64> =
            LIMITS.iter().flat_map(|limit| [limit.wrapping_sub(1) & last, *limit, limit + 1]).collect();
        fractions.extend((0..100_000u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 12));
        for fraction in fractions {
            let above = LIMITS.iter().filter(|limit| **limit < fraction).count() as i32;
            let finest = finest_index(fraction | 1023 << 52);
            assert_eq!(finest, above - 1, "{fraction:x}");
            let default = default_index(fraction | 1023 << 52);
            assert_eq!(default, finest >> (MAX_SCALE - DEFAULT_SCALE), "{fraction:x}");
            for scale in MIN_SCALE..=MAX_SCALE {
                let value = f64::from_bits(fraction | 1023 << 52);
                let index = index_of(value, scale);
                assert!(lower_limit(index, scale) < value && value <= lower_limit(index + 1, scale));
                let (middle, gamma) = (middle(index, scale), 2f64.powf(2f64.powi(-scale)));
                assert!((middle / value - 1.0).abs() <= (gamma - 1.0) / (gamma + 1.0) * (1.0 + 1e-9));
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        for scale in MIN_SCALE..=MAX_SCALE {
            let (lowest, highest) = index_range(scale);
            let of = |value| index_of(value, scale);
            assert_eq!([of(5e-324), of(1e-310), of(f64::MIN_POSITIVE)], [lowest; 3]);
            assert_eq!((of(f64::INFINITY), of(f64::MAX)), (highest, highest - 1));
            assert_eq!((lower_limit(highest, scale), middle(highest, scale)), (f64::INFINITY, f64::INFINITY));
            assert!(lower_limit(highest - 1, scale) < f64::MAX && middle(highest - 1, scale) < f64::INFINITY);
            assert!(middle(lowest, scale) > 0.0);
        }
        assert_eq!([1.0, 2.0, 4.0].map(|v| index_of(v, 5)), [-1, 31, 63]);
        assert_eq!([1.0, 1.5, 2.0, 65536.0, 65537.0].map(|v| index_of(v, -4)), [-1, 0, 0, 0, 1]);
    }
}
