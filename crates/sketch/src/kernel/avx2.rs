//! Thirty-two registers of 5 bits at a time, on x86-64 processors with AVX2.
//!
//! Sixteen registers are ten bytes and fill one 128-bit lane. Each function does what it can in whole
//! vectors and says how many registers that were; the portable code finishes.
use core::arch::x86_64::*;

/// Registers in a vector, and their packed bytes.
const LANES: usize = 32;
const PACKED: usize = 20;

#[inline]
#[target_feature(enable = "avx2")]
fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is good for 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store16(bytes: &mut [u8; 16], vector: __m128i) {
    // SAFETY: the reference is good for 16 bytes, and the store needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is good for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store32(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: the reference is good for 32 bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

/// Sixteen bytes as a constant for both lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn both(bytes: [u8; 16]) -> __m256i {
    _mm256_broadcastsi128_si256(load16(&bytes))
}

/// Unpacks registers, or with `RAISE` takes the larger of each and the packed one; says how many.
#[target_feature(enable = "avx2")]
pub(super) fn unpack5<const RAISE: bool>(packed: &[u8], registers: &mut [u8]) -> usize {
    // A register lies in two neighbouring bytes. Each 16-bit field receives both, is moved up by a
    // multiplication until its register is at the top, and down to the even or the odd byte. The second
    // lane is loaded from byte 4 on, so that nothing past the group is read, and begins six bytes into that;
    // of the last register's second byte nothing is needed.
    let shuffle = |indexes: [u8; 16]| {
        let second = indexes.map(|index| if index == 10 { 255 } else { index + 6 });
        _mm256_set_m128i(load16(&second), load16(&indexes))
    };
    let even_bytes = shuffle([1, 0, 2, 1, 3, 2, 4, 3, 6, 5, 7, 6, 8, 7, 9, 8]);
    let odd_bytes = shuffle([1, 0, 2, 1, 4, 3, 5, 4, 6, 5, 7, 6, 9, 8, 10, 9]);
    let even_shift = _mm256_setr_epi16(1, 4, 16, 64, 1, 4, 16, 64, 1, 4, 16, 64, 1, 4, 16, 64);
    let odd_shift = _mm256_setr_epi16(32, 128, 2, 8, 32, 128, 2, 8, 32, 128, 2, 8, 32, 128, 2, 8);
    let odd_mask = _mm256_set1_epi16(0x1f00);
    let (groups, packed) = (registers.as_chunks_mut::<LANES>().0, packed.as_chunks::<PACKED>().0);
    let done = groups.len().min(packed.len()) * LANES;
    for (group, packed) in groups.iter_mut().zip(packed) {
        let (Some(first), Some(second)) = (packed.first_chunk(), packed.last_chunk()) else { unreachable!() };
        let bytes = _mm256_set_m128i(load16(second), load16(first));
        let even = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, even_bytes), even_shift);
        let odd = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, odd_bytes), odd_shift);
        let odd = _mm256_and_si256(_mm256_srli_epi16::<3>(odd), odd_mask);
        let mut values = _mm256_or_si256(_mm256_srli_epi16::<11>(even), odd);
        if RAISE {
            values = _mm256_max_epu8(values, load32(group));
        }
        store32(group, values);
    }
    done
}

/// Whether the upper `16 - width` bits of big-endian entries strictly ascend, over as many as come in whole
/// vectors; and how many pairs of neighbours that were. `width` is at least 1, so that no index has a sign.
#[target_feature(enable = "avx2")]
pub(super) fn ascending16(entries: &[[u8; 2]], width: u8) -> (bool, usize) {
    let swap = both([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]);
    let shift = _mm_cvtsi32_si128(i32::from(width));
    let bytes = entries.as_flattened();
    // Each entry of a vector and the one after it.
    let here = bytes.as_chunks::<32>().0;
    let next = bytes.get(2..).unwrap_or_default().as_chunks::<32>().0;
    let mut all = _mm256_set1_epi16(-1);
    for (here, next) in here.iter().zip(next) {
        let here = _mm256_srl_epi16(_mm256_shuffle_epi8(load32(here), swap), shift);
        let next = _mm256_srl_epi16(_mm256_shuffle_epi8(load32(next), swap), shift);
        all = _mm256_and_si256(all, _mm256_cmpgt_epi16(next, here));
    }
    (_mm256_movemask_epi8(all) == -1, here.len().min(next.len()) * 16)
}

/// Writes the value of each big-endian entry into the register of its index, sixteen at a time; says how many.
///
/// # Panics
///
/// Where there are not 2^(16 - width) registers.
#[target_feature(enable = "avx2")]
pub(super) fn store_entries16(width: u8, entries: &[[u8; 2]], registers: &mut [u8]) -> usize {
    assert_eq!(registers.len(), 1 << (16 - width));
    let swap = both([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]);
    let shift = _mm_cvtsi32_si128(i32::from(width));
    let mask = _mm256_set1_epi16((1 << width) - 1);
    let groups = entries.as_chunks::<16>().0;
    for group in groups {
        let Some(bytes) = group.as_flattened().first_chunk::<32>() else { unreachable!() };
        let entry = _mm256_shuffle_epi8(load32(bytes), swap);
        let (mut index, mut value) = ([0; 32], [0; 32]);
        store32(&mut index, _mm256_srl_epi16(entry, shift));
        store32(&mut value, _mm256_and_si256(entry, mask));
        for (index, value) in index.as_chunks::<2>().0.iter().zip(value.as_chunks::<2>().0) {
            // SAFETY: 16 bits without `width` of them are below the length that was asserted.
            unsafe { *registers.get_unchecked_mut(usize::from(u16::from_le_bytes(*index))) = value[0] };
        }
    }
    groups.len() * 16
}

/// Raises each register to the other's value; says how many.
#[target_feature(enable = "avx2")]
pub(super) fn raise(registers: &mut [u8], other: &[u8]) -> usize {
    let (groups, other) = (registers.as_chunks_mut::<LANES>().0, other.as_chunks::<LANES>().0);
    let done = groups.len().min(other.len()) * LANES;
    for (group, other) in groups.iter_mut().zip(other) {
        let values = _mm256_max_epu8(load32(group), load32(other));
        store32(group, values);
    }
    done
}

/// Takes the values, the low bits in `mask`, out of big-endian entries, thirty-two at a time and each such group in
/// an order of its own; says how many.
#[target_feature(enable = "avx2")]
pub(super) fn values16(entries: &[[u8; 2]], mask: u8, values: &mut [u8]) -> usize {
    let mask = _mm256_set1_epi8(mask as i8);
    let (groups, values) = (entries.as_chunks::<LANES>().0, values.as_chunks_mut::<LANES>().0);
    for (group, values) in groups.iter().zip(values.iter_mut()) {
        let (Some(first), Some(second)) =
            (group.as_flattened().first_chunk::<32>(), group.as_flattened().last_chunk::<32>())
        else {
            unreachable!()
        };
        // The low byte of an entry comes second.
        let first = _mm256_srli_epi16::<8>(load32(first));
        let second = _mm256_srli_epi16::<8>(load32(second));
        store32(values, _mm256_and_si256(_mm256_packus_epi16(first, second), mask));
    }
    groups.len().min(values.len()) * LANES
}

/// For each set of eight 16-bit fields, the shuffle that moves the chosen ones to the front, the bytes of each
/// swapped.
const FRONT: [[u8; 16]; 256] = {
    let mut table = [[255; 16]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut field, mut to) = (0, 0);
        while field < 8 {
            if set >> field & 1 == 1 {
                table[set][to] = 2 * field as u8 + 1;
                table[set][to + 1] = 2 * field as u8;
                to += 2;
            }
            field += 1;
        }
        set += 1;
    }
    table
};

/// Writes `index << width | value`, big-endian, for each register that is not zero; the registers are a multiple
/// of eight and at most 2^(16 - width). `out` needs room for 16 bytes past the last entry. Says how many bytes.
///
/// Few registers are filled and which is chance, so there is no branch on a register: each group of eight stores
/// sixteen bytes and steps on by what they are worth.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn entries16(registers: &[u8], width: u8, out: &mut [u8]) -> usize {
    let zero = _mm_setzero_si128();
    let shift = _mm_cvtsi32_si128(i32::from(width));
    let step = _mm_set1_epi16(8);
    let mut index = _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7);
    let mut at = 0;
    for group in registers.as_chunks::<8>().0 {
        let values = _mm_cvtsi64_si128(i64::from_le_bytes(*group));
        let filled = !_mm_movemask_epi8(_mm_cmpeq_epi8(values, zero)) as u8;
        let entries = _mm_or_si128(_mm_sll_epi16(index, shift), _mm_cvtepu8_epi16(values));
        let front = _mm_shuffle_epi8(entries, load16(&FRONT[usize::from(filled)]));
        let Some(place) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<16>) else { break };
        store16(place, front);
        at += 2 * filled.count_ones() as usize;
        index = _mm_add_epi16(index, step);
    }
    at
}

/// Packs registers; says how many.
#[target_feature(enable = "avx2")]
pub(super) fn pack5(registers: &[u8], packed: &mut [u8]) -> usize {
    let pairs = _mm256_set1_epi16(0x0120);
    let fours = _mm256_set1_epi32(0x0001_0400);
    let first_bytes = both([4, 3, 2, 1, 0, 12, 11, 10, 9, 8, 255, 255, 255, 255, 255, 255]);
    let (groups, packed) = (registers.as_chunks::<LANES>().0, packed.as_chunks_mut::<PACKED>().0);
    let done = groups.len().min(packed.len()) * LANES;
    for (group, packed) in groups.iter().zip(packed) {
        // Two registers become 10 bits, two of those 20, two of those 40: the first always on top.
        let tens = _mm256_maddubs_epi16(load32(group), pairs);
        let twenties = _mm256_madd_epi16(tens, fours);
        let forties = _mm256_or_si256(_mm256_slli_epi64::<20>(twenties), _mm256_srli_epi64::<32>(twenties));
        let bytes = _mm256_shuffle_epi8(forties, first_bytes);
        // Ten bytes of each lane: the second lane's go behind the first's, over what that one has no use for.
        let (first, second) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
        if let Some(place) = packed.first_chunk_mut() {
            store16(place, first);
        }
        if let Some(place) = packed.last_chunk_mut() {
            store16(place, _mm_or_si128(_mm_srli_si128::<4>(first), _mm_slli_si128::<6>(second)));
        }
    }
    done
}

/// How many registers are not zero; and of how many.
#[target_feature(enable = "avx2")]
pub(super) fn filled(registers: &[u8]) -> (usize, usize) {
    let zero = _mm256_setzero_si256();
    let groups = registers.as_chunks::<LANES>().0;
    let mut zeros = zero;
    // So many counts fit a byte.
    for run in groups.chunks(255) {
        let mut empty = zero;
        for group in run {
            empty = _mm256_sub_epi8(empty, _mm256_cmpeq_epi8(load32(group), zero));
        }
        zeros = _mm256_add_epi64(zeros, _mm256_sad_epu8(empty, zero));
    }
    let half = _mm_add_epi64(_mm256_castsi256_si128(zeros), _mm256_extracti128_si256::<1>(zeros));
    let zeros = (_mm_extract_epi64::<0>(half) + _mm_extract_epi64::<1>(half)) as usize;
    (groups.len() * LANES - zeros, groups.len() * LANES)
}

/// Sums over registers of at most 31: 2^(31 - value), how many are 0, how many are `last`; and of how many.
#[target_feature(enable = "avx2")]
pub(super) fn summarize(registers: &[u8], last: u8) -> (u64, u64, u64, usize) {
    const FALLING: [u8; 8] = [128, 64, 32, 16, 8, 4, 2, 1];
    let mut low = [0; 16];
    low[..8].copy_from_slice(&FALLING);
    let mut high = [0; 16];
    high[8..].copy_from_slice(&FALLING);
    let (low, high) = (both(low), both(high));
    let zero = _mm256_setzero_si256();
    let last = _mm256_set1_epi8(last as i8);
    // A shuffle yields zero where the index has its top bit, which selects values below or from 16.
    let (below16, from16) = (_mm256_set1_epi8(0x70), _mm256_set1_epi8(16));
    let sad = |terms| _mm256_sad_epu8(terms, zero);
    let [mut a, mut b, mut c, mut d, mut zeros, mut lasts] = [zero; 6];
    let groups = registers.as_chunks::<LANES>().0;
    // So many counts fit a byte.
    for run in groups.chunks(255) {
        let (mut empty, mut ends) = (zero, zero);
        for group in run {
            let values = load32(group);
            let small = _mm256_add_epi8(values, below16);
            a = _mm256_add_epi64(a, sad(_mm256_shuffle_epi8(low, small)));
            b = _mm256_add_epi64(b, sad(_mm256_shuffle_epi8(high, small)));
            empty = _mm256_sub_epi8(empty, _mm256_cmpeq_epi8(values, zero));
            ends = _mm256_sub_epi8(ends, _mm256_cmpeq_epi8(values, last));
            // Few registers come this far.
            if _mm256_testz_si256(values, from16) == 0 {
                let large = _mm256_sub_epi8(values, from16);
                c = _mm256_add_epi64(c, sad(_mm256_shuffle_epi8(low, large)));
                d = _mm256_add_epi64(d, sad(_mm256_shuffle_epi8(high, large)));
            }
        }
        zeros = _mm256_add_epi64(zeros, sad(empty));
        lasts = _mm256_add_epi64(lasts, sad(ends));
    }
    let [a, b, c, d, zeros, lasts] = [a, b, c, d, zeros, lasts].map(|sum| {
        let half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        (_mm_extract_epi64::<0>(half) + _mm_extract_epi64::<1>(half)) as u64
    });
    ((a << 24) + (b << 16) + (c << 8) + d, zeros, lasts, groups.len() * LANES)
}
