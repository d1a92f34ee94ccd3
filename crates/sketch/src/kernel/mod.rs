//! The loops over registers: packing, unpacking, taking the larger of two, summing.
//!
//! Registers are packed `width` bits each, first bit highest, in index order; eight of them are `width`
//! bytes. The portable code is the reference that every faster one must equal.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
mod portable;
#[cfg(test)]
mod tests;

/// The width of the default parameters, for which there are faster loops.
#[cfg(target_arch = "x86_64")]
const COMMON_WIDTH: u8 = 5;

/// What both estimators need to know of registers of at most 5 bits; every sum is exact.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The sum of 2^(31 - value).
    pub(crate) sum: u64,
    /// How many registers are zero.
    pub(crate) zeros: u64,
    /// How many registers have the largest value there is.
    pub(crate) lasts: u64,
}

impl Summary {
    /// Counts further registers in.
    pub(crate) fn include(&mut self, other: &Summary) {
        self.sum += other.sum;
        self.zeros += other.zeros;
        self.lasts += other.lasts;
    }

    /// Counts one register in.
    pub(crate) fn add(&mut self, value: u8, last: u8) {
        self.sum += 1 << 31 >> value;
        self.zeros += u64::from(value == 0);
        self.lasts += u64::from(value == last);
    }
}

/// Raises each register to the other's value.
#[allow(unsafe_code)]
pub(crate) fn raise(registers: &mut [u8], other: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, asked just above.
        let done = unsafe { avx2::raise(registers, other) };
        return portable::raise(&mut registers[done..], &other[done..]);
    }
    portable::raise(registers, other);
}

/// How many registers are not zero.
#[allow(unsafe_code)]
pub(crate) fn filled(registers: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, asked just above.
        let (filled, done) = unsafe { avx2::filled(registers) };
        return filled + portable::filled(&registers[done..]);
    }
    portable::filled(registers)
}

pub(crate) use portable::each_filled;

/// Appends `index << width | value` in two bytes, big-endian, for each of the `filled` registers that are not
/// zero, ascending; there are at most 2^(16 - width) registers.
#[allow(unsafe_code)]
pub(crate) fn put_entries16(width: u8, registers: &[u8], filled: usize, out: &mut Vec<u8>) {
    let start = out.len();
    #[cfg(target_arch = "x86_64")]
    if registers.len().is_multiple_of(8)
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("popcnt")
    {
        out.resize(start + 2 * filled + 16, 0);
        // SAFETY: the processor has AVX2 and POPCNT, asked just above.
        let written = unsafe { avx2::entries16(registers, width, &mut out[start..]) };
        out.truncate(start + written);
        return;
    }
    out.reserve(2 * filled);
    portable::put_entries16(width, registers, out);
}

/// Whether the indexes of entries strictly ascend; see [`put_entries16`].
#[allow(unsafe_code)]
pub(crate) fn ascending16(width: u8, entries: &[[u8; 2]]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, asked just above.
        let (ascending, done) = unsafe { avx2::ascending16(entries, width) };
        return ascending && portable::ascending16(width, &entries[done..]);
    }
    portable::ascending16(width, entries)
}

/// Registers that fit a buffer on the stack.
const SMALL: usize = 2048;

/// Raises registers to the values of entries whose indexes ascend. There are 2^(16 - width) registers.
///
/// Reading, comparing and writing back a register for each entry waits for memory at every step. Entries are
/// written to registers of their own instead, which nothing waits for, and these compared as a whole.
pub(crate) fn raise_entries16(width: u8, entries: &[[u8; 2]], registers: &mut [u8]) {
    if registers.len() <= SMALL {
        let mut own = [0; SMALL];
        let own = &mut own[..registers.len()];
        store_entries16(width, entries, own);
        raise(registers, own);
    } else {
        let mut own = vec![0; registers.len()];
        store_entries16(width, entries, &mut own);
        raise(registers, &own);
    }
}

/// Writes the values of entries whose indexes ascend into registers that are zero. There are 2^(16 - width).
#[allow(unsafe_code)]
pub(crate) fn store_entries16(width: u8, entries: &[[u8; 2]], registers: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, asked just above.
        let done = unsafe { avx2::store_entries16(width, entries, registers) };
        return portable::store_entries16(width, &entries[done..], registers);
    }
    portable::store_entries16(width, entries, registers);
}

/// Sums over the values of entries, of which `last` is the largest possible one.
#[allow(unsafe_code)]
pub(crate) fn summarize16(entries: &[[u8; 2]], last: u8) -> Summary {
    let mut total = Summary::default();
    let mut buffer = [0; 256];
    for part in entries.chunks(buffer.len()) {
        let values = &mut buffer[..part.len()];
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, asked just above.
            done = unsafe { avx2::values16(part, last, values) };
        }
        for (value, entry) in values.iter_mut().zip(part).skip(done) {
            *value = entry[1] & last;
        }
        total.include(&summarize(values, last));
    }
    total
}

/// Unpacks registers; `packed` holds exactly as many.
pub(crate) fn unpack(width: u8, packed: &[u8], registers: &mut [u8]) {
    let done = unpack_fast::<false>(width, packed, registers);
    let packed = &packed[done * usize::from(width) / 8..];
    portable::unpack(width, packed, &mut registers[done..], |group, values| *group = values);
}

/// Raises registers to the packed ones; `packed` holds exactly as many.
pub(crate) fn raise_packed(width: u8, packed: &[u8], registers: &mut [u8]) {
    let done = unpack_fast::<true>(width, packed, registers);
    let packed = &packed[done * usize::from(width) / 8..];
    portable::unpack(width, packed, &mut registers[done..], |group, values| raise(group, &values));
}

#[allow(unsafe_code)]
fn unpack_fast<const RAISE: bool>(width: u8, packed: &[u8], registers: &mut [u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if width == COMMON_WIDTH && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, asked just above.
        return unsafe { avx2::unpack5::<RAISE>(packed, registers) };
    }
    let _ = (width, packed, registers);
    0
}

/// Appends packed registers.
#[allow(unsafe_code)]
pub(crate) fn pack(width: u8, registers: &[u8], out: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    if width == COMMON_WIDTH && is_x86_feature_detected!("avx2") {
        let start = out.len();
        out.resize(start + registers.len() / 32 * 20, 0);
        // SAFETY: the processor has AVX2, asked just above.
        let done = unsafe { avx2::pack5(registers, &mut out[start..]) };
        return portable::pack(width, &registers[done..], out);
    }
    portable::pack(width, registers, out);
}

/// Sums over registers whose largest possible value, `last`, is at most 31.
#[allow(unsafe_code)]
pub(crate) fn summarize(registers: &[u8], last: u8) -> Summary {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, asked just above.
        let (sum, zeros, lasts, done) = unsafe { avx2::summarize(registers, last) };
        let mut summary = Summary { sum, zeros, lasts };
        registers[done..].iter().for_each(|value| summary.add(*value, last));
        return summary;
    }
    portable::summarize(registers, last)
}
