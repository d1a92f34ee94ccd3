//! Eight registers at a time in one 64-bit word, on any processor.

use super::Summary;

/// Calls `apply` with eight registers and their eight packed values, or fewer than eight at the end.
pub(super) fn unpack(width: u8, packed: &[u8], registers: &mut [u8], apply: impl Fn(&mut [u8; 8], [u8; 8])) {
    match width {
        1 => unpack_as::<1>(packed, registers, apply),
        2 => unpack_as::<2>(packed, registers, apply),
        3 => unpack_as::<3>(packed, registers, apply),
        4 => unpack_as::<4>(packed, registers, apply),
        5 => unpack_as::<5>(packed, registers, apply),
        6 => unpack_as::<6>(packed, registers, apply),
        _ => unpack_as::<7>(packed, registers, apply),
    }
}

fn unpack_as<const W: usize>(packed: &[u8], registers: &mut [u8], apply: impl Fn(&mut [u8; 8], [u8; 8])) {
    let (groups, rest) = registers.as_chunks_mut::<8>();
    for (at, group) in groups.iter_mut().enumerate() {
        apply(group, spread::<W>(load::<W>(&packed[at * W..])).to_be_bytes());
    }
    if !rest.is_empty() {
        let mut group = [0; 8];
        group[..rest.len()].copy_from_slice(rest);
        apply(&mut group, spread::<W>(load::<W>(&packed[groups.len() * W..])).to_be_bytes());
        rest.copy_from_slice(&group[..rest.len()]);
    }
}

pub(super) fn pack(width: u8, registers: &[u8], out: &mut Vec<u8>) {
    match width {
        1 => pack_as::<1>(registers, out),
        2 => pack_as::<2>(registers, out),
        3 => pack_as::<3>(registers, out),
        4 => pack_as::<4>(registers, out),
        5 => pack_as::<5>(registers, out),
        6 => pack_as::<6>(registers, out),
        _ => pack_as::<7>(registers, out),
    }
}

fn pack_as<const W: usize>(registers: &[u8], out: &mut Vec<u8>) {
    let packed = |group| (squeeze::<W>(u64::from_be_bytes(group)) << (64 - 8 * W)).to_be_bytes();
    let (groups, rest) = registers.as_chunks::<8>();
    for group in groups {
        out.extend_from_slice(&packed(*group)[..W]);
    }
    if !rest.is_empty() {
        let mut group = [0; 8];
        group[..rest.len()].copy_from_slice(rest);
        out.extend_from_slice(&packed(group)[..(rest.len() * W).div_ceil(8)]);
    }
}

/// The first `8 * W` bits of `bytes`, those past the end zero, as the low bits of a word.
fn load<const W: usize>(bytes: &[u8]) -> u64 {
    let word = match bytes.first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(eight)
        }
    };
    word >> (64 - 8 * W)
}

/// Moves eight fields of `W` bits apart until each has a byte, in three doublings.
fn spread<const W: usize>(x: u64) -> u64 {
    let (fours, twos, ones) = masks::<W>();
    let x = x & fours | (x & fours << (4 * W)) << (4 * (8 - W));
    let x = x & twos | (x & twos << (2 * W)) << (2 * (8 - W));
    x & ones | (x & ones << W) << (8 - W)
}

/// The mirror image of [`spread`].
fn squeeze<const W: usize>(x: u64) -> u64 {
    let (fours, twos, ones) = masks::<W>();
    let x = x & ones | x >> (8 - W) & ones << W;
    let x = x & twos | x >> (2 * (8 - W)) & twos << (2 * W);
    x & fours | x >> (4 * (8 - W)) & fours << (4 * W)
}

/// The lower half of the fields in each 64, 32 and 16 bits.
const fn masks<const W: usize>() -> (u64, u64, u64) {
    let fours = (1 << (4 * W)) - 1;
    let twos = ((1 << (2 * W)) - 1) * 0x1_0000_0001;
    let ones = ((1 << W) - 1) * 0x1_0001_0001_0001;
    (fours, twos, ones)
}

pub(super) fn raise(registers: &mut [u8], other: &[u8]) {
    for (register, value) in registers.iter_mut().zip(other) {
        *register = (*register).max(*value);
    }
}

pub(super) fn store_entries16(width: u8, entries: &[[u8; 2]], registers: &mut [u8]) {
    let mask = (1u16 << width) - 1;
    for entry in entries {
        let entry = u16::from_be_bytes(*entry);
        registers[usize::from(entry >> width)] = (entry & mask) as u8;
    }
}

pub(super) fn filled(registers: &[u8]) -> usize {
    // Summing bytes in short runs lets the compiler keep sixteen or more lanes busy.
    registers
        .chunks(255)
        .map(|run| usize::from(run.iter().map(|value| u8::from(*value != 0)).sum::<u8>()))
        .sum()
}

/// Calls `visit` with index and value of each register that is not zero, ascending. Eight registers in a word:
/// zeros cost nothing.
pub(crate) fn each_filled(registers: &[u8], mut visit: impl FnMut(usize, u8)) {
    let mut put = |first: usize, group: [u8; 8]| {
        let mut word = u64::from_le_bytes(group);
        while word != 0 {
            let at = word.trailing_zeros() & !7;
            let value = word >> at & 0xff;
            visit(first + at as usize / 8, value as u8);
            word ^= value << at;
        }
    };
    let (groups, rest) = registers.as_chunks::<8>();
    for (position, group) in groups.iter().enumerate() {
        put(position * 8, *group);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    put(groups.len() * 8, last);
}

pub(super) fn ascending16(width: u8, entries: &[[u8; 2]]) -> bool {
    let index = |pair: &[u8; 2]| u16::from_be_bytes(*pair) >> width;
    entries.windows(2).all(|pair| index(&pair[0]) < index(&pair[1]))
}

pub(super) fn put_entries16(width: u8, registers: &[u8], out: &mut Vec<u8>) {
    each_filled(registers, |index, value| {
        out.extend_from_slice(&((index as u16) << width | u16::from(value)).to_be_bytes());
    });
}

pub(super) fn summarize(registers: &[u8], last: u8) -> Summary {
    let mut summary = Summary::default();
    registers.iter().for_each(|value| summary.add(*value, last));
    summary
}
