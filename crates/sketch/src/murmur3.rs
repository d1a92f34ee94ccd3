//! The hash of stored sketches: the first half of MurmurHash3_x64_128.
//!
//! Integers hash as their little-endian bytes. The seed is widened without its sign, so a negative one
//! acts as 2^32 plus itself.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// Hashes bytes.
#[inline(always)]
pub fn hash(bytes: &[u8], seed: i32) -> i64 {
    // Names, addresses and keys are short: a block at most, and no loop.
    if bytes.len() > 16 {
        return long(bytes, seed);
    }
    let (h1, h2) = start(seed);
    let (h1, h2) = match bytes.first_chunk::<16>() {
        Some(block) => round(h1, h2, block),
        None => last(h1, h2, bytes),
    };
    finish(h1, h2, bytes.len() as u64)
}

#[inline(never)]
fn long(bytes: &[u8], seed: i32) -> i64 {
    let (mut h1, mut h2) = start(seed);
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        (h1, h2) = round(h1, h2, block);
    }
    (h1, h2) = last(h1, h2, tail);
    finish(h1, h2, bytes.len() as u64)
}

/// Takes in a block.
#[inline]
fn round(mut h1: u64, mut h2: u64, block: &[u8; 16]) -> (u64, u64) {
    let [low, high] = halves(block);
    h1 ^= scramble1(low);
    h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
    h2 ^= scramble2(high);
    h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    (h1, h2)
}

/// Takes in what is left after the blocks. A word of zero scrambles to zero, so absent bytes need no branch of their own.
#[inline]
fn last(h1: u64, h2: u64, tail: &[u8]) -> (u64, u64) {
    let [low, high] = padded(tail);
    (h1 ^ scramble1(low), h2 ^ scramble2(high))
}

/// Hashes the eight bytes of `v`.
#[inline]
pub fn hash_i64(v: i64, seed: i32) -> i64 {
    short(v as u64, 8, seed)
}

/// Hashes the four bytes of `v`.
#[inline]
pub fn hash_i32(v: i32, seed: i32) -> i64 {
    short(u64::from(v as u32), 4, seed)
}

/// Hashes the two bytes of `v`.
#[inline]
pub fn hash_i16(v: i16, seed: i32) -> i64 {
    short(u64::from(v as u16), 2, seed)
}

/// Hashes one byte: a boolean is 0 or 1.
#[inline]
pub fn hash_u8(v: u8, seed: i32) -> i64 {
    short(u64::from(v), 1, seed)
}

#[inline]
fn short(word: u64, len: u64, seed: i32) -> i64 {
    let (h1, h2) = start(seed);
    finish(h1 ^ scramble1(word), h2, len)
}

#[inline]
fn start(seed: i32) -> (u64, u64) {
    let seed = u64::from(seed as u32);
    (seed, seed)
}

/// Sixteen bytes as two little-endian words.
#[inline]
fn halves(block: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*block);
    [both as u64, (both >> 64) as u64]
}

/// Fewer than sixteen bytes and zeros after them, as two little-endian words. Most texts end so, and a copy to a buffer
/// would cost more than all the rest: two words that overlap hold any four to seven or eight to fifteen bytes.
#[inline]
fn padded(tail: &[u8]) -> [u64; 2] {
    let len = tail.len();
    if let (Some(first), Some(last)) = (tail.first_chunk(), tail.last_chunk()) {
        // Of the last word, the bytes that the first has already are shifted out: all of them where there are eight.
        let high = u64::from_le_bytes(*last).checked_shr(8 * (16 - len) as u32);
        return [u64::from_le_bytes(*first), high.unwrap_or(0)];
    }
    if let (Some(first), Some(last)) = (tail.first_chunk(), tail.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return [u64::from(first) | u64::from(last) << (8 * (len - 4)), 0];
    }
    let word = tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    [word, 0]
}

#[inline]
fn scramble1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

#[inline]
fn scramble2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

#[inline]
fn finish(mut h1: u64, mut h2: u64, len: u64) -> i64 {
    h1 ^= len;
    h2 ^= len;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    avalanche(h1).wrapping_add(avalanche(h2)) as i64
}

#[inline]
fn avalanche(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}
