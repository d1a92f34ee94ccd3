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
    /// Counts one register in.
    pub(crate) fn add(&mut self, value: u8, last: u8) {
        self.sum += 1 << 31 >> value;
        self.zeros += u64::from(value == 0);
        self.lasts += u64::from(value == last);
    }
}

/// Raises each register to the other's value.
pub(crate) fn raise(registers: &mut [u8], other: &[u8]) {
    for (register, value) in registers.iter_mut().zip(other) {
        *register = (*register).max(*value);
    }
}

/// How many registers are not zero.
pub(crate) fn filled(registers: &[u8]) -> usize {
    // Summing bytes in short runs lets the compiler keep sixteen or more lanes busy.
    registers
        .chunks(255)
        .map(|run| usize::from(run.iter().map(|value| u8::from(*value != 0)).sum::<u8>()))
        .sum()
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
        // SAFETY: the processor has AVX2, asked just above.
        let done = unsafe { avx2::pack5(registers, out) };
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
