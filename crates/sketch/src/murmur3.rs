//! MurmurHash3_x64_128 (Austin Appleby, public domain algorithm), first half of the result.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn fmix(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[inline]
fn finish(mut h1: u64, mut h2: u64, len: usize) -> i64 {
    h1 ^= len as u64;
    h2 ^= len as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    fmix(h1).wrapping_add(fmix(h2)) as i64
}

fn word(bytes: &[u8]) -> u64 {
    let mut w = [0; 8];
    w[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(w)
}

/// Hash of any bytes; the seed is taken as an unsigned number.
pub fn hash(bytes: &[u8], seed: i32) -> i64 {
    let (mut h1, mut h2) = (u64::from(seed as u32), u64::from(seed as u32));
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        h1 ^= mix1(word(&block[..8]));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix2(word(&block[8..]));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    if tail.len() > 8 {
        h2 ^= mix2(word(&tail[8..]));
    }
    if !tail.is_empty() {
        h1 ^= mix1(word(&tail[..tail.len().min(8)]));
    }
    finish(h1, h2, bytes.len())
}

/// Hash of the eight bytes of an integer, little-endian.
#[inline]
pub fn hash_i64(value: i64, seed: i32) -> i64 {
    let s = u64::from(seed as u32);
    finish(s ^ mix1(value as u64), s, 8)
}

/// Hash of the four bytes of an integer, little-endian.
#[inline]
pub fn hash_i32(value: i32, seed: i32) -> i64 {
    let s = u64::from(seed as u32);
    finish(s ^ mix1(u64::from(value as u32)), s, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        assert_eq!(hash_i32(0, 0), -3_485_513_579_396_041_028);
        assert_eq!(hash_i32(1, 0) as u64, 0x8895_a3f5_af28_cafe);
        assert_eq!(hash_i64(0, 0), 2_945_182_322_382_062_539);
        assert_eq!(hash_i64(0, -1), -8_352_849_679_461_500_862);
        assert_eq!(hash(b"A", 0), 243_126_998_722_523_514);
        assert_eq!(hash(&[0], 0), 5_048_724_184_180_415_669);
        assert_eq!(hash(b"", 0), 0);
    }

    #[test]
    fn fixed_paths_equal_the_general_one() {
        for v in [-3_i64, 0, 1, i64::MAX, i64::MIN, 0x0123_4567_89ab_cdef] {
            for seed in [0, 7, -1] {
                assert_eq!(hash_i64(v, seed), hash(&v.to_le_bytes(), seed));
                assert_eq!(hash_i32(v as i32, seed), hash(&(v as i32).to_le_bytes(), seed));
            }
        }
    }
}
