//! MurmurHash3 x64 128, of which the first half is the hash value.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

fn scramble1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn scramble2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn avalanche(mut k: u64) -> u64 {
    k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

fn finish(mut h1: u64, mut h2: u64, len: u64) -> i64 {
    h1 ^= len;
    h2 ^= len;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    avalanche(h1).wrapping_add(avalanche(h2)) as i64
}

/// A seed is taken as its 32 bits, without sign.
fn widen(seed: i32) -> u64 {
    u64::from(seed as u32)
}

fn little_endian(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Hashes any bytes.
pub fn hash(bytes: &[u8], seed: i32) -> i64 {
    let (mut h1, mut h2) = (widen(seed), widen(seed));
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        let (low, high) = block.split_at(8);
        h1 ^= scramble1(little_endian(low));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= scramble2(little_endian(high));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = blocks.remainder().split_at(blocks.remainder().len().min(8));
    h1 ^= scramble1(little_endian(low));
    h2 ^= scramble2(little_endian(high));
    finish(h1, h2, bytes.len() as u64)
}

/// Hashes the eight little-endian bytes of `v`.
pub fn hash_i64(v: i64, seed: i32) -> i64 {
    finish(widen(seed) ^ scramble1(v as u64), widen(seed), 8)
}

/// Hashes the four little-endian bytes of `v`.
pub fn hash_i32(v: i32, seed: i32) -> i64 {
    finish(widen(seed) ^ scramble1(u64::from(v as u32)), widen(seed), 4)
}
