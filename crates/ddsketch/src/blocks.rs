//! Eight buckets at once, as stored bytes have them: what a block of counts says, and a run of blocks added to a window.
//!
//! A merge is this loop. Nothing in it branches on a count, and what is to be known of a whole run is asked at its end, so
//! that the compiler makes instructions for several counts at once of it.
use crate::codec::FAR;
use crate::window::BLOCK;

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
    /// Where the cell after the last of them is.
    pub end: usize,
    /// The last place of the last block that has values.
    pub last: usize,
    /// How many values they have.
    pub values: u64,
}

/// A run has no more blocks: nor has a half, where their number bounds that of its buckets.
pub(crate) const LONGEST: u64 = 512;
/// Counts of a run have no more bits, so that the sum of those that are added at once fits into 32.
const WIDEST: u32 = 22;
/// More values than a run can have.
pub(crate) const MOST_OF_RUN: u64 = (LONGEST * BLOCK as u64) << WIDEST;
/// A run steps no further than this from block to block.
pub(crate) const LONGEST_STEP: i64 = BLOCK as i64 + FAR as i64 - 1;

/// Eight counts of 9 to 22 bits.
#[inline(always)]
fn middling(bytes: &[u8; 28], bits: u32) -> [u32; BLOCK] {
    let mask = (1u64 << (bits % 64)) - 1;
    core::array::from_fn(|n| {
        let bit = n * bits as usize;
        let word = bytes[(bit / 8).min(20)..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        (word >> (bit % 8) & mask) as u32
    })
}

/// Reads the eight counts of a block from the bytes after its first, which says that they have so many bits; none
/// where they are of another kind, not as a block is written, or too near to the end of the bytes.
trait Reader: Copy + Default + Into<u32> + Eq {
    fn read(bytes: &[u8], bits: u32) -> Option<[Self; BLOCK]>;
}

/// Counts of up to 8 bits.
impl Reader for u8 {
    #[inline(always)]
    fn read(bytes: &[u8], bits: u32) -> Option<[u8; BLOCK]> {
        let word = bytes.first_chunk()?;
        if bits.wrapping_sub(1) >= 8 {
            return None;
        }
        let counts = spread(u64::from_le_bytes(*word), bits);
        let well = counts & 0xff != 0 && counts & (EACH << ((bits - 1) & 7)) != 0;
        well.then_some(counts.to_le_bytes())
    }
}

/// Counts of 9 to 22 bits.
impl Reader for u32 {
    #[inline(always)]
    fn read(bytes: &[u8], bits: u32) -> Option<[u32; BLOCK]> {
        let chunk = bytes.first_chunk()?;
        if !(9..=WIDEST).contains(&bits) {
            return None;
        }
        let counts = middling(chunk, bits);
        let all = counts.iter().fold(0, |all, count| all | count);
        let well = counts[0] != 0 && all >> (bits - 1) != 0;
        well.then_some(counts)
    }
}

/// Adds blocks from the beginning of `bytes` to a window, the first one at `at` or after it, as far as the window goes and
/// as they are of a common kind: close together, with more bytes behind them. What is left, and what is wrong, is for
/// others to look at, and so are cells that have become too large: they are below 2^31 + 2^22.
#[inline(always)]
pub(crate) fn add_run(cells: &mut [u32], at: usize, bytes: &[u8], number: u64) -> Run {
    match bytes.first() {
        Some(code) if code & 63 <= 8 => run_of::<u8>(cells, at, bytes, number),
        _ => run_of::<u32>(cells, at, bytes, number),
    }
}

/// Cells that are read at once, before any is added.
const BATCH: usize = 256;

/// Blocks of one kind. They are read in one loop and added in another: each is a short one.
#[inline(never)]
fn run_of<C: Reader>(cells: &mut [u32], at: usize, bytes: &[u8], number: u64) -> Run {
    let (mut rest, mut run) = (bytes, Run { blocks: 0, bytes: 0, end: at, last: 0, values: 0 });
    let mut read = [C::default(); BATCH + 2 * BLOCK];
    while let Some(cells) = cells.get_mut(run.end..) {
        let room = cells.len().min(BATCH);
        let (mut len, before) = (0, run.blocks);
        while run.blocks < number
            && let Some((code, after)) = rest.split_first()
        {
            let (bits, gap) = (u32::from(code & 63), usize::from(code >> 6));
            let at = len + gap;
            if at + BLOCK > room || gap as u64 == FAR {
                break;
            }
            let Some(counts) = C::read(after, bits) else { break };
            // Before the next one may be a gap.
            read[at..at + BLOCK].copy_from_slice(&counts);
            read[at + BLOCK..at + 2 * BLOCK].fill(C::default());
            len = at + BLOCK;
            run.blocks += 1;
            rest = &after[bits as usize..];
        }
        if run.blocks == before {
            break;
        }
        let mut values = 0u32;
        for (cell, count) in cells.iter_mut().zip(&read[..len]) {
            let count = (*count).into();
            *cell += count;
            values += count;
        }
        run.values += u64::from(values);
        run.end += len;
        run.last = read[len - BLOCK..len].iter().rposition(|count| *count != C::default()).unwrap_or(0);
        // The next batch may begin with a gap.
        read[..BLOCK].fill(C::default());
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
