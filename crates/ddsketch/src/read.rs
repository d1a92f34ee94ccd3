//! Reading stored bytes. They come from users: each is checked, and none is believed before.
use crate::blocks::{Block, LONGEST, LONGEST_STEP, MOST_OF_RUN, spread};
use crate::codec::{
    FAR, HAS_NEGATIVE, HAS_POSITIVE, HAS_ZEROS, MAX_UNKNOWN, MIN_UNKNOWN, SUM_UNKNOWN, VERSION,
};
use crate::exact::{LIMBS, POINT, Whole, bit_length, negated};
use crate::mapping::{MAX_SCALE, MIN_SCALE, index_of, index_range};
use crate::sketch::Unknown;
use crate::window::BLOCK;
use crate::{DdSketch, Error, MAX_BUCKETS, Memory};

/// What is left of the bytes.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a [u8]);

const SHORT: Error = Error::Bytes("it ends early");
const OUTSIDE: Error = Error::Bytes("there is no such bucket");

impl<'a> Rest<'a> {
    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.0.split_first().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline(always)]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, Error> {
        match self.0 {
            // Most are short.
            [byte, rest @ ..] if *byte < 128 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Error> {
        const LONG: Error = Error::Bytes("a number has more bytes than it needs");
        let mut value = 0u64;
        for place in 0..10 {
            let byte = self.byte()?;
            if place == 9 && byte > 1 || place > 0 && byte == 0 {
                return Err(LONG);
            }
            value |= u64::from(byte & 127) << (7 * place);
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(LONG)
    }

    /// How many bits each count of the next block has, and where the block begins: at `next` or after it, no later than
    /// `highest`.
    #[inline(always)]
    fn block_head(&mut self, is_first: bool, next: i64, highest: i32) -> Result<(u32, i32), Error> {
        let code = self.byte()?;
        let (bits, mut gap) = (u32::from(code & 63), u64::from(code >> 6));
        if is_first && gap > 0 || bits == 0 {
            return Err(Error::Bytes("a block of buckets begins in no way that there is"));
        }
        if gap == FAR {
            gap = gap.saturating_add(self.varint()?);
        }
        let index = i64::try_from(gap).ok().and_then(|gap| next.checked_add(gap)).ok_or(OUTSIDE)?;
        let index = i32::try_from(index).ok().filter(|index| *index <= highest).ok_or(OUTSIDE)?;
        Ok((bits, index))
    }

    /// Eight counts of `bits` bits each, 1 to 63, from as many bytes.
    #[inline(always)]
    fn block(&mut self, bits: u32) -> Result<Block, Error> {
        let bytes = self.0;
        let taken = self.take(bits as usize)?;
        let mask = (1u64 << bits) - 1;
        if bits <= 8 {
            // What follows is cut off by the mask.
            let word = match bytes.first_chunk::<8>() {
                Some(word) => u64::from_le_bytes(*word),
                None => taken.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
            };
            return Ok(Block::Small(spread(word, bits)));
        }
        Ok(Block::Large(core::array::from_fn(|n| {
            let bit = n * bits as usize;
            // A count lies in at most nine bytes.
            let word = match bytes[bit / 8..].first_chunk::<16>() {
                Some(word) => u128::from_le_bytes(*word),
                None => {
                    taken[bit / 8..].iter().take(9).rev().fold(0, |word, byte| word << 8 | u128::from(*byte))
                }
            };
            (word >> (bit % 8)) as u64 & mask
        })))
    }

    /// Up to eight bytes, the highest first, of which the last is not zero.
    fn trimmed(&mut self, len: u8) -> Result<f64, Error> {
        if len > 8 {
            return Err(Error::Bytes("an extreme of more than eight bytes"));
        }
        let bytes = self.0;
        let taken = self.take(usize::from(len))?;
        let word = match bytes.first_chunk::<8>() {
            // What follows is cut off.
            Some(word) => {
                u64::from_be_bytes(*word) & !(u64::MAX.checked_shr(8 * u32::from(len)).unwrap_or(0))
            }
            None => (0..8).fold(0, |word, n| word << 8 | u64::from(taken.get(n).copied().unwrap_or(0))),
        };
        if taken.last() == Some(&0) {
            return Err(Error::Bytes("an extreme has more bytes than it needs"));
        }
        Ok(f64::from_bits(word))
    }
}

/// What is before the halves.
struct Head {
    scale: i32,
    unknown: Unknown,
    has: u8,
}

fn head(rest: &mut Rest) -> Result<Head, Error> {
    let (first, second) = (rest.byte()?, rest.byte()?);
    if first & 0xf8 != VERSION {
        return Err(Error::Bytes("it is of another version"));
    }
    let scale = i32::from(second & 15) + MIN_SCALE;
    if scale > MAX_SCALE || second & 128 != 0 {
        return Err(Error::Bytes("there is no such scale"));
    }
    let unknown = Unknown {
        sum: first & SUM_UNKNOWN != 0,
        min: first & MIN_UNKNOWN != 0,
        max: first & MAX_UNKNOWN != 0,
    };
    let has = second & (HAS_ZEROS | HAS_NEGATIVE | HAS_POSITIVE);
    if has == 0 && unknown != Unknown::default() {
        return Err(Error::Bytes("nothing is unknown of no values"));
    }
    Ok(Head { scale, unknown, has })
}

/// The first and the last bucket of a half.
type Ends = Option<(i32, i32)>;

impl<M: Memory> DdSketch<M> {
    /// Reads a stored form, checking all of it.
    pub fn decode(bytes: &[u8], memory: M) -> Result<Self, Error> {
        let head = head(&mut Rest(bytes))?;
        let mut sketch = DdSketch::new(head.scale, memory)?;
        sketch.union_bytes(bytes)?;
        Ok(sketch)
    }

    /// Adds the values of a sketch in its stored form, checking all of it. After an error the sketch may hold some of
    /// them, and is good for nothing.
    pub fn union_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = Rest(bytes);
        let head = head(&mut rest)?;
        self.fold_to(head.scale);
        let before = self.count;
        let zeros = if head.has & HAS_ZEROS != 0 { rest.varint()? } else { 0 };
        if zeros == 0 && head.has & HAS_ZEROS != 0 {
            return Err(Error::Bytes("zeros are counted that are none"));
        }
        self.grow(zeros)?;
        self.zero += zeros;
        let negative =
            if head.has & HAS_NEGATIVE != 0 { self.half(&mut rest, head.scale, true)? } else { None };
        let positive =
            if head.has & HAS_POSITIVE != 0 { self.half(&mut rest, head.scale, false)? } else { None };
        let count = self.count - before;
        if count > 0 {
            self.extremes(&mut rest, &head, zeros, negative, positive)?;
            if !head.unknown.sum {
                self.read_sum(&mut rest, count)?;
            }
        }
        if rest.0.is_empty() { Ok(()) } else { Err(Error::Bytes("it goes on behind its end")) }
    }

    fn half(&mut self, rest: &mut Rest, scale: i32, negative: bool) -> Result<Ends, Error> {
        let (lowest, highest) = index_range(scale);
        let first = u32::try_from(rest.varint()?).map_err(|_| OUTSIDE)?;
        let first = (first >> 1) as i32 ^ -((first & 1) as i32);
        if first < lowest {
            return Err(OUTSIDE);
        }
        let number = rest.varint()?;
        let memory = self.memory;
        // As many blocks as there are bytes for, and none too many.
        if scale == self.scale && (8..1024).contains(&number) && rest.0.len() as u64 > 2 * number {
            let half = if negative { &mut self.negative } else { &mut self.positive };
            half.reserve(first, (number as usize + 1) * BLOCK, memory);
        }
        let (mut next, mut last, mut used) = (i64::from(first), first, 0u32);
        let mut n = 0;
        while n <= number {
            let quick = scale == self.scale
                && number < LONGEST
                && next + (number + 1 - n) as i64 * LONGEST_STEP <= i64::from(highest)
                && self.count <= i64::MAX as u64 - MOST_OF_RUN
                && (n > 0 || rest.0.first().is_some_and(|code| *code < 64));
            let half = if negative { &mut self.negative } else { &mut self.positive };
            if quick && let Some((run, end)) = half.add_run(next as i32, rest.0, number + 1 - n) {
                rest.take(run.bytes)?;
                self.grow(run.values)?;
                self.settle();
                self.fold_to_fit();
                (n, next, last) = (n + run.blocks, i64::from(end), end - BLOCK as i32 + run.last as i32);
                continue;
            }
            let (bits, index) = rest.block_head(n == 0, next, highest)?;
            let block = rest.block(bits)?;
            let Some(facts) = block.facts(bits) else {
                return Err(Error::Bytes("a block of buckets is larger than it needs to be"));
            };
            last = index + facts.last;
            if last > highest {
                return Err(OUTSIDE);
            }
            used += facts.used;
            if used > MAX_BUCKETS as u32 {
                return Err(Error::Bytes("a half has too many buckets"));
            }
            // Too many values are found before they are added.
            self.grow(facts.values)?;
            let counts = match block {
                Block::Small(counts) => counts.to_le_bytes().map(u64::from),
                Block::Large(counts) => counts,
            };
            self.add_block(negative, index, &counts, scale);
            (n, next) = (n + 1, i64::from(index) + BLOCK as i64);
        }
        Ok(Some((first, last)))
    }

    /// min and max, which lie in the outermost buckets or next to them: who finds buckets by logarithms may be one off.
    fn extremes(
        &mut self,
        rest: &mut Rest,
        head: &Head,
        zeros: u64,
        negative: Ends,
        positive: Ends,
    ) -> Result<(), Error> {
        let unknown = head.unknown;
        if unknown.min && unknown.max {
            self.add_facts(f64::INFINITY, f64::NEG_INFINITY, unknown);
            return Ok(());
        }
        let lengths = rest.byte()?;
        let (min, max) = (rest.trimmed(lengths & 15)?, rest.trimmed(lengths >> 4)?);
        let odd = |value: f64, unknown: bool| {
            value.is_nan() || value.to_bits() == 1 << 63 || unknown && value.to_bits() != 0
        };
        if odd(min, unknown.min) || odd(max, unknown.max) {
            return Err(Error::Bytes("an extreme is no number"));
        }
        let known = |value: f64, unknown: bool| (!unknown).then_some(value);
        if !extremes_fit(
            known(min, unknown.min),
            known(max, unknown.max),
            head.scale,
            zeros > 0,
            negative,
            positive,
        ) {
            return Err(Error::Bytes("an extreme is where no values are"));
        }
        let known = |value: f64, unknown: bool, none: f64| if unknown { none } else { value };
        self.add_facts(
            known(min, unknown.min, f64::INFINITY),
            known(max, unknown.max, f64::NEG_INFINITY),
            unknown,
        );
        Ok(())
    }

    fn read_sum(&mut self, rest: &mut Rest, count: u64) -> Result<(), Error> {
        const ODD: Error = Error::Bytes("the sum is not as a sum is written");
        let code = rest.varint()?;
        let (len, is_negative) = (code / 2, code & 1 == 1);
        if len == 0 {
            return if is_negative { Err(ODD) } else { Ok(()) };
        }
        let low = rest.varint()?;
        let end = low.checked_add(len).filter(|end| *end <= LIMBS as u64 * 8).ok_or(ODD)?;
        let taken = rest.take(len as usize)?;
        if taken.first() == Some(&0) || taken.last() == Some(&0) {
            return Err(ODD);
        }
        // What few bytes say goes the short way.
        if len <= 15 {
            let mut word = [0; 16];
            word[..taken.len()].copy_from_slice(taken);
            let number = i128::from_le_bytes(word);
            if (128 - number.leading_zeros()) as usize + low as usize * 8 <= largest_sum(count) {
                self.sum.add_apart(
                    if is_negative { -number } else { number },
                    low as i32 * 8 - POINT,
                    self.memory,
                );
                return Ok(());
            }
        }
        let mut bytes = [0; LIMBS * 8];
        bytes[low as usize..end as usize].copy_from_slice(taken);
        let mut whole: Whole = [0; LIMBS];
        for (limb, bytes) in whole.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*bytes);
        }
        if bit_length(&whole) > largest_sum(count) {
            return Err(Error::Bytes("the sum is larger than so many values have"));
        }
        self.sum.add_whole(&if is_negative { negated(&whole) } else { whole }, self.memory);
        Ok(())
    }
}

/// The bits of the sum of so many values, each of which is below 2^1024: sums of sums never grow too wide.
fn largest_sum(count: u64) -> usize {
    1024 + POINT as usize + (64 - count.leading_zeros()) as usize
}

/// Whether min and max can be those of values in these buckets.
pub(crate) fn extremes_fit(
    min: Option<f64>,
    max: Option<f64>,
    scale: i32,
    zeros: bool,
    negative: Ends,
    positive: Ends,
) -> bool {
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return false;
    }
    // The greatest value seen from the other side is the least one.
    min.is_none_or(|min| least_fits(min, scale, zeros, negative, positive))
        && max.is_none_or(|max| least_fits(-max, scale, zeros, positive, negative))
}

fn least_fits(least: f64, scale: i32, zeros: bool, below: Ends, above: Ends) -> bool {
    let near = |value: f64, index: i32| value > 0.0 && index_of(value, scale).abs_diff(index) <= 1;
    match (below, above) {
        // What counts as zero may be what was close to it, on both sides: closer than some threshold, which other parts
        // need not have had.
        (Some((_, last)), _) if zeros => least < 0.0 && index_of(-least, scale) >= last - 1,
        (Some((_, last)), _) => near(-least, last),
        (None, Some((first, _))) if zeros => least <= 0.0 || index_of(least, scale) <= first + 1,
        (None, Some((first, _))) => near(least, first),
        (None, None) => true,
    }
}
