//! Stored bytes: one byte string for one set of values at one scale.
//!
//! ```text
//! byte 0   version, 1 (high 4 bits); not known: 1 the sum, 2 min, 4 max
//! byte 1   scale + 4 (low 4 bits); has values: 16 zeros, 32 below zero, 64 above zero
//! then     the number of zeros, where there are any
//!          the half below zero, by absolute value, and the half above zero, where they have values
//!          min and max, where they are known and there are values
//!          the sum of finite values, where it is known and there are values
//! ```
//!
//! Numbers are varints: seven bits a byte, the low ones first, the high bit set on all bytes but the last. The sign of an index
//! goes into its lowest bit (zigzag).
//!
//! A half is its first index, the number of blocks less one, and blocks of eight buckets each. A block begins at a bucket that has values.
//! Its head is a byte: how many bits its largest count has (1 to 63), plus 64 times the number of buckets without values
//! since the block before, 3 standing for 3 and a varint of more. Eight counts of so many bits follow, little-endian, the first in the
//! lowest bits: as many bytes as a count has bits. Runs of small counts, and of none, so take little.
//!
//! min and max are the bits of a double, the highest byte first, without the zero bytes at its end; a byte before both says how
//! many bytes min has (low 4 bits) and max (high 4 bits). The sum is a whole number of units of 2^-1074. It begins with twice the number of
//! its bytes, plus 1 where it is below zero; where there are any, the number of zero bytes at its low end follows, which are left out,
//! and then the bytes of its absolute value, the low ones first.
use crate::exact::{LIMBS, magnitude};
use crate::half::Half;
use crate::mapping::MIN_SCALE;
use crate::window::BLOCK;
use crate::{DdSketch, Memory};

/// Version 1, in its place.
pub(crate) const VERSION: u8 = 0x10;
pub(crate) const SUM_UNKNOWN: u8 = 1;
pub(crate) const MIN_UNKNOWN: u8 = 2;
pub(crate) const MAX_UNKNOWN: u8 = 4;
pub(crate) const HAS_ZEROS: u8 = 16;
pub(crate) const HAS_NEGATIVE: u8 = 32;
pub(crate) const HAS_POSITIVE: u8 = 64;
/// A number of buckets without values of which more is said.
pub(crate) const FAR: u64 = 3;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_half<M: Memory>(half: &Half<M>, out: &mut Vec<u8>) {
    let (mut cursor, mut number, mut end, mut blocks) = (0, 0, None, out.len());
    while let Some((first, counts)) = half.next_block(&mut cursor) {
        let gap = match end {
            None => {
                varint(u64::from(((first << 1) ^ (first >> 31)) as u32), out);
                // Their number comes here, once it is known.
                blocks = out.len();
                0
            }
            Some(end) => u64::from(first.abs_diff(end)),
        };
        (number, end) = (number + 1, Some(first + BLOCK as i32));
        let bits = 64 - counts.iter().fold(0, |all, count| all | count).leading_zeros();
        out.push(bits as u8 | (gap.min(FAR) as u8) << 6);
        if gap >= FAR {
            varint(gap - FAR, out);
        }
        if bits <= 8 {
            let word = counts.iter().rev().fold(0, |word, count| word << (bits % 64) | count);
            out.extend_from_slice(&word.to_le_bytes()[..bits as usize]);
            continue;
        }
        let (mut held, mut filled) = (0u128, 0);
        for count in counts {
            held |= u128::from(count) << filled;
            filled += bits;
            while filled >= 8 {
                out.push(held as u8);
                held >>= 8;
                filled -= 8;
            }
        }
    }
    if number > 0 {
        let mut written = Vec::new();
        varint(number - 1, &mut written);
        out.splice(blocks..blocks, written);
    }
}

fn put_extremes(min: Option<f64>, max: Option<f64>, out: &mut Vec<u8>) {
    let bytes = [min, max].map(|value| value.map_or([0; 8], |v| v.to_bits().to_be_bytes()));
    let lengths = bytes.map(|b| b.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    out.push(lengths[0] as u8 | (lengths[1] as u8) << 4);
    out.extend_from_slice(&bytes[0][..lengths[0]]);
    out.extend_from_slice(&bytes[1][..lengths[1]]);
}

impl<M: Memory> DdSketch<M> {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.positive.used() + self.negative.used());
        self.encode_into(&mut out);
        out
    }

    /// Appends the stored form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let when = |flag: bool, bit: u8| if flag { bit } else { 0 };
        let unknown = self.unknown;
        out.push(
            VERSION
                | when(unknown.sum, SUM_UNKNOWN)
                | when(unknown.min, MIN_UNKNOWN)
                | when(unknown.max, MAX_UNKNOWN),
        );
        out.push(
            (self.scale - MIN_SCALE) as u8
                | when(self.zero > 0, HAS_ZEROS)
                | when(!self.negative.is_empty(), HAS_NEGATIVE)
                | when(!self.positive.is_empty(), HAS_POSITIVE),
        );
        if self.zero > 0 {
            varint(self.zero, out);
        }
        put_half(&self.negative, out);
        put_half(&self.positive, out);
        if self.count == 0 {
            return;
        }
        if !unknown.min || !unknown.max {
            put_extremes(self.min(), self.max(), out);
        }
        if !unknown.sum {
            let (negative, magnitude) = magnitude(&self.sum.whole());
            let mut bytes = [0u8; LIMBS * 8];
            bytes
                .chunks_exact_mut(8)
                .zip(magnitude)
                .for_each(|(b, limb)| b.copy_from_slice(&limb.to_le_bytes()));
            let low = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
            let high = bytes.iter().rposition(|byte| *byte != 0).map_or(low, |last| last + 1);
            varint((high - low) as u64 * 2 + u64::from(negative), out);
            if high > low {
                varint(low as u64, out);
                out.extend_from_slice(&bytes[low..high]);
            }
        }
    }
}
