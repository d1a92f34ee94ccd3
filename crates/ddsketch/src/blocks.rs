//! Eight buckets at once, as stored bytes have them: what a block of counts says, and a run of blocks added to a window.
//!
//! A merge is this loop. Nothing in it branches on a count, and what is to be known of a whole run is asked at its end, so
//! that the compiler makes instructions for several counts at once of it.
use crate::codec::FAR;
use crate::window::{BLOCK, Cells};

/// The lowest bit of each byte.
const EACH: u64 = 0x0101_0101_0101_0101;
/// Every other byte.
const EVEN: u64 = 0x00ff_00ff_00ff_00ff;

/// Eight counts of so many bits each, side by side, to a byte each, in three steps: halves, quarters, eighths. A step moves the
/// upper one of two parts up: it is multiplied by a power of two, less one for the part where it was.
struct Spread {
    /// What belongs to the block.
    all: u64,
    /// The upper parts, and how far they go.
    steps: [(u64, u64); 3],
}

/// By the number of bits, from 0, which no block has, to 8.
static SPREADS: [Spread; 9] = {
    let mut spreads = [const { Spread { all: 0, steps: [(0, 0); 3] } }; 9];
    let mut bits = 1;
    while bits <= 8 {
        let spread = &mut spreads[bits as usize];
        spread.all = u64::MAX >> (64 - 8 * bits);
        let mut step = 0;
        while step < 3 {
            // Parts of `width` bits side by side, which are to begin `apart` bits from each other.
            let (width, apart) = ((4 >> step) * bits, 32 >> step);
            let mut upper = 0;
            let mut at = 0;
            while at < 64 {
                upper |= (1u64 << width).wrapping_sub(1) << width << at;
                at += 2 * apart;
            }
            spread.steps[step] = (upper, (1 << (apart - width)) - 1);
            step += 1;
        }
        bits += 1;
    }
    spreads
};

/// The counts of eight buckets.
pub(crate) enum Block {
    /// A byte each, the first in the lowest.
    Small(u64),
    /// Some above 255.
    Large([u64; BLOCK]),
}

/// What is said of a block.
pub(crate) struct Facts {
    /// How many of its buckets have values.
    pub used: u32,
    /// How many these are.
    pub values: u64,
    /// The last bucket that has some.
    pub last: i32,
}

/// A byte each of eight counts of 1 to 8 bits; bits of `word` above them do not matter.
#[inline(always)]
pub(crate) fn spread(word: u64, bits: u32) -> u64 {
    let spread = &SPREADS[bits as usize % SPREADS.len()];
    spread.steps.iter().fold(word & spread.all, |word, (upper, times)| {
        word.wrapping_add((word & upper).wrapping_mul(*times))
    })
}

/// The sum of eight bytes.
#[inline(always)]
fn sum_of_bytes(counts: u64) -> u64 {
    // Sums of two bytes each, then all four of these.
    let pairs = (counts & EVEN) + (counts >> 8 & EVEN);
    pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48
}

impl Block {
    /// None where it does not begin with a count, or needs fewer bits than it has.
    #[inline(always)]
    pub fn facts(&self, bits: u32) -> Option<Facts> {
        match self {
            Block::Small(counts) => {
                if counts & 0xff == 0 || counts & (EACH << (bits - 1)) == 0 {
                    return None;
                }
                // The highest bit of each byte that is not 0.
                let filled = (counts | ((counts & (EACH * 0x7f)) + EACH * 0x7f)) & (EACH << 7);
                Some(Facts {
                    used: ((filled >> 7).wrapping_mul(EACH) >> 56) as u32,
                    values: sum_of_bytes(*counts),
                    last: 7 - (filled.leading_zeros() / 8) as i32,
                })
            }
            Block::Large(counts) => {
                let all = counts.iter().fold(0, |all, count| all | count);
                if counts[0] == 0 || all >> (bits - 1) == 0 {
                    return None;
                }
                Some(Facts {
                    used: counts.iter().map(|count| u32::from(*count != 0)).sum(),
                    values: counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count)),
                    last: counts.iter().rposition(|count| *count != 0).unwrap_or(0) as i32,
                })
            }
        }
    }
}

/// The blocks that a run has added.
pub(crate) struct Run {
    /// How many.
    pub blocks: u64,
    /// How many bytes they take.
    pub bytes: usize,
    /// The index after the last of them.
    pub next: i32,
    /// The last bucket that has values.
    pub last: i32,
    /// How many values they have.
    pub values: u64,
}

/// A run has no more blocks: nor has a half, where their number bounds that of its buckets.
pub(crate) const LONGEST: u64 = 512;
/// Counts of a run have no more bits.
const WIDEST: u32 = 28;
/// More values than a run can have.
pub(crate) const MOST_OF_RUN: u64 = (LONGEST * BLOCK as u64) << WIDEST;
/// A run steps no further than this from block to block.
pub(crate) const LONGEST_STEP: i64 = BLOCK as i64 + FAR as i64 - 1;

/// Eight counts of 9 to 28 bits.
#[inline(always)]
fn middling(bytes: &[u8; 36], bits: u32) -> [u32; BLOCK] {
    let mask = (1u64 << (bits % 64)) - 1;
    core::array::from_fn(|n| {
        let bit = n * bits as usize;
        let word = bytes[bit / 8 % 28..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        (word >> (bit % 8) & mask) as u32
    })
}

/// Adds blocks from the beginning of `bytes` to a window, the first one at `next` or after it, as far as the window goes and
/// as they are of the common kinds: close together, with more bytes behind them. What is left, and what is wrong, is for
/// others to look at. Indexes are to have room for so many blocks.
#[inline(always)]
pub(crate) fn add_run(cells: &mut Cells, bytes: &[u8], number: u64, next: i32) -> Run {
    let mut run = Run { blocks: 0, bytes: 0, next, last: next, values: 0 };
    let mut rest = bytes;
    while run.blocks < number
        && let Some([code, word @ ..]) = rest.first_chunk::<9>()
    {
        let (bits, gap) = (u32::from(code & 63), u64::from(code >> 6));
        let index = run.next + gap as i32;
        if gap == FAR {
            break;
        }
        let last = if bits.wrapping_sub(1) < 8 {
            let counts = spread(u64::from_le_bytes(*word), bits);
            let well = counts & 0xff != 0 && counts & (EACH << ((bits - 1) & 7)) != 0;
            if !well || !cells.add(index, &counts.to_le_bytes().map(u32::from)) {
                break;
            }
            run.values += sum_of_bytes(counts);
            7 - (counts.leading_zeros() / 8) as i32
        } else if let (9..=WIDEST, Some(chunk)) = (bits, rest[1..].first_chunk()) {
            let counts = middling(chunk, bits);
            let all = counts.iter().fold(0, |all, count| all | count);
            if counts[0] == 0 || all >> (bits - 1) == 0 || !cells.add(index, &counts) {
                break;
            }
            run.values += counts.iter().map(|count| u64::from(*count)).sum::<u64>();
            counts.iter().rposition(|count| *count != 0).unwrap_or(0) as i32
        } else {
            break;
        };
        run.last = index + last;
        run.next = index + BLOCK as i32;
        run.blocks += 1;
        rest = &rest[1 + bits as usize..];
    }
    run.bytes = bytes.len() - rest.len();
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_so_many_bits_get_a_byte_each() {
        let mut seed = 0x2545_F491_4F6C_DD1Du64;
        for bits in 1..=8u32 {
            for _ in 0..1000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let counts: [u64; BLOCK] =
                    core::array::from_fn(|n| seed >> (n as u32 * bits) & ((1 << bits) - 1));
                let expected = counts.map(|count| count as u8);
                assert_eq!(spread(seed, bits).to_le_bytes(), expected, "{bits} bits of {seed:x}");
                assert_eq!(sum_of_bytes(u64::from_le_bytes(expected)), counts.iter().sum());
            }
        }
    }
}
