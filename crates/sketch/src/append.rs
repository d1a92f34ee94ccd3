//! Adding one element to a stored value without unpacking it.
//!
//! A value that is in the form this crate writes differs, after one addition, in one place: a hash more, an entry
//! more or larger, a register larger. That place is found and the rest copied. Whatever is not in that form, or
//! changes its form, is decoded, added to and encoded again; the bytes are the same either way.
use crate::codec::{self, HEADER, Payload};
use crate::sketch::rank;
use crate::{Error, Heap, Params, Sketch, kernel};

/// Appends to `out` the stored form of the value in `bytes` with one element more, by its hash; see
/// [`Sketch::encode`] for `max_sparse`. Checks all of the value.
pub fn add_to_stored(bytes: &[u8], hash: i64, max_sparse: i32, out: &mut Vec<u8>) -> Result<(), Error> {
    let (header, payload) = codec::parse(bytes)?;
    let params = header.params;
    params.check_addable()?;
    // The header of a value that is written has a seventh bit of zero.
    let canonical = bytes[2] & 0x80 == 0;
    let done = canonical
        && match payload {
            Payload::Explicit(hashes) => add_hash(&params, bytes, hashes.words(), hash, out),
            Payload::Sparse(chunks) => match chunks.entries16() {
                Some(entries) => add_entry(&params, bytes, entries, hash, max_sparse, out),
                None => false,
            },
            Payload::Full(packed) if params.width() == 5 => {
                add_register(&params, bytes, packed, hash, max_sparse, out)
            }
            _ => false,
        };
    if !done {
        let mut sketch = Sketch::decode(bytes, Heap)?;
        sketch.add(hash);
        sketch.encode_into(max_sparse, out);
    }
    Ok(())
}

fn add_hash(params: &Params, bytes: &[u8], words: &[[u8; 8]], hash: i64, out: &mut Vec<u8>) -> bool {
    match words.binary_search_by_key(&hash, |word| i64::from_be_bytes(*word)) {
        Ok(_) => out.extend_from_slice(bytes),
        Err(at) if words.len() < params.explicit_threshold() => {
            let (before, after) = bytes.split_at(HEADER + at * 8);
            out.reserve(bytes.len() + 8);
            out.extend_from_slice(before);
            out.extend_from_slice(&hash.to_be_bytes());
            out.extend_from_slice(after);
        }
        Err(_) => return false,
    }
    true
}

fn add_entry(
    params: &Params,
    bytes: &[u8],
    entries: &[[u8; 2]],
    hash: i64,
    max_sparse: i32,
    out: &mut Vec<u8>,
) -> bool {
    let (width, last) = (params.width(), params.max_register());
    let in_form = kernel::ascending16(width, entries)
        && entries.iter().fold(true, |all, entry| all & (entry[1] & last != 0))
        && bytes.len() == HEADER + entries.len() * 2;
    let (index, value) = rank(params, hash);
    let entry = u16::try_from(index << width).unwrap_or(0) | u16::from(value);
    let found = entries.binary_search_by_key(&(entry >> width), |entry| u16::from_be_bytes(*entry) >> width);
    let filled = entries.len() + usize::from(found.is_err() && value > 0);
    if !in_form || !codec::stays_sparse(params, filled, max_sparse) {
        return false;
    }
    let (at, replaced) = match found {
        Ok(at) if entries[at] >= entry.to_be_bytes() => (entries.len(), 0),
        Ok(at) => (at, 1),
        Err(_) if value == 0 => (entries.len(), 0),
        Err(at) => (at, 0),
    };
    let (before, after) = bytes.split_at(HEADER + at * 2);
    out.reserve(bytes.len() + 2);
    out.extend_from_slice(before);
    if filled > entries.len() || replaced == 1 {
        out.extend_from_slice(&entry.to_be_bytes());
    }
    out.extend_from_slice(&after[replaced * 2..]);
    true
}

fn add_register(
    params: &Params,
    bytes: &[u8],
    packed: &[u8],
    hash: i64,
    max_sparse: i32,
    out: &mut Vec<u8>,
) -> bool {
    if !params.registers().is_multiple_of(8) {
        return false;
    }
    let (index, value) = rank(params, hash);
    // Five bits in two neighbouring bytes; there is no register in a last byte alone.
    let (byte, shift) = (index * 5 / 8, 11 - index * 5 % 8);
    let second = packed.get(byte + 1).copied().unwrap_or(0);
    let pair = u16::from_be_bytes([packed[byte], second]);
    let old = (pair >> shift & 31) as u8;
    // Were few enough registers filled, they would have to be written as entries.
    let filled = filled_of(packed) + usize::from(old == 0 && value > 0);
    if codec::stays_sparse(params, filled, max_sparse) {
        return false;
    }
    let start = out.len() + HEADER;
    out.extend_from_slice(bytes);
    if value > old {
        let [first, second] = (pair & !(31 << shift) | u16::from(value) << shift).to_be_bytes();
        out[start + byte] = first;
        if let Some(place) = out.get_mut(start + byte + 1) {
            *place = second;
        }
    }
    true
}

/// How many of the packed registers of five bits are not zero.
fn filled_of(packed: &[u8]) -> usize {
    let mut buffer = [0; 1024];
    packed
        .chunks(buffer.len() / 8 * 5)
        .map(|part| {
            let registers = &mut buffer[..part.len() / 5 * 8];
            kernel::unpack(5, part, registers);
            kernel::filled(registers)
        })
        .sum()
}
