//! The stored form, schema version 1.
//!
//! ```text
//! byte 0   version << 4 | type
//! byte 1   (regwidth - 1) << 5 | log2m
//! byte 2   sparseon << 6 | threshold code          bit 7 is ignored on reading
//! EMPTY, UNDEFINED   nothing more
//! EXPLICIT           hashes of 8 bytes, big-endian, strictly ascending as signed numbers
//! SPARSE             (index, value) of each filled register: log2m + regwidth bits, first bit highest
//! FULL               every register: regwidth bits, first bit highest, zero padding
//! ```
use crate::{Error, MAX_EXPLICIT, Params, kernel, params::MAX_LOG2M, print};

/// The length of the part every stored value has.
pub(crate) const HEADER: usize = 3;
const VERSION: u8 = 1;

/// The form of a sketch, numbered as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Unknown contents: absorbs whatever it is united with.
    Undefined = 0,
    /// No element.
    Empty = 1,
    /// A list of hashes, counted exactly.
    Explicit = 2,
    /// The filled registers only.
    Sparse = 3,
    /// All registers.
    Full = 4,
    /// Registers in memory; stored as Sparse or Full.
    Registers = 5,
}

/// The three bytes every stored value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The schema version, always 1.
    pub version: u8,
    /// The stored form.
    pub kind: Kind,
    /// The parameters.
    pub params: Params,
}

impl Header {
    /// Reads and checks the first three bytes, and looks no further.
    pub fn read(bytes: &[u8]) -> Result<Header, Error> {
        let header = Header::scan(bytes)?;
        header.check()?;
        Ok(header)
    }

    /// Reads the three bytes without judging the parameters, which postgresql-hll does after the size.
    fn scan(bytes: &[u8]) -> Result<Header, Error> {
        let Some(first) = bytes.first() else {
            return Err(Error::UndefinedType);
        };
        let version = first >> 4;
        if version != VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let kind = match first & 0xf {
            0 => Kind::Undefined,
            1 => Kind::Empty,
            2 => Kind::Explicit,
            3 => Kind::Sparse,
            4 => Kind::Full,
            _ => return Err(Error::UndefinedType),
        };
        match *bytes {
            [_, shape, rest, ..] => Ok(Header { version, kind, params: Params::from_header(shape, rest) }),
            _ => Err(match kind {
                Kind::Undefined => Error::UndefinedSize,
                Kind::Empty => Error::EmptySize,
                Kind::Explicit => Error::ExplicitSize,
                Kind::Sparse => Error::SparseTooSmall,
                Kind::Full | Kind::Registers => Error::FullSize,
            }),
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.params.check_stored(matches!(self.kind, Kind::Empty | Kind::Explicit))
    }
}

/// A stored value whose every byte has been checked.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    Undefined,
    Empty,
    Explicit(Hashes<'a>),
    Sparse(Chunks<'a>),
    Full(&'a [u8]),
}

/// Checks a whole stored value.
pub fn validate(bytes: &[u8]) -> Result<Header, Error> {
    parse(bytes).map(|(header, _)| header)
}

/// Checks a whole stored value and says what it holds, copying nothing.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Header, Payload<'_>), Error> {
    let header = Header::scan(bytes)?;
    let params = header.params;
    let body = bytes.get(HEADER..).unwrap_or_default();
    let payload = match header.kind {
        Kind::Undefined if !body.is_empty() => return Err(Error::UndefinedSize),
        Kind::Undefined => Payload::Undefined,
        Kind::Empty if !body.is_empty() => return Err(Error::EmptySize),
        Kind::Empty => Payload::Empty,
        Kind::Explicit => {
            let (words, rest) = body.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(Error::ExplicitSize);
            }
            if words.len() > MAX_EXPLICIT {
                return Err(Error::ExplicitTooLarge);
            }
            header.check()?;
            let hashes = Hashes(words);
            if !hashes.ascending() {
                let text = print::explicit(&params, words.len(), hashes.iter());
                return Err(Error::ExplicitOrder(text));
            }
            Payload::Explicit(hashes)
        }
        Kind::Sparse => {
            if params.log2m > MAX_LOG2M {
                return Err(Error::SparseTooLarge);
            }
            header.check()?;
            let chunks = Chunks { body, bits: params.chunk_bits(), width: params.width() };
            if body.len() * 8 - chunks.count() * chunks.bits >= 8 {
                return Err(Error::SparsePadding);
            }
            Payload::Sparse(chunks)
        }
        Kind::Full | Kind::Registers => {
            if body.len() != params.packed_size() {
                return Err(Error::FullSize);
            }
            if params.log2m > MAX_LOG2M {
                return Err(Error::FullTooLarge);
            }
            header.check()?;
            Payload::Full(body)
        }
    };
    header.check()?;
    Ok((header, payload))
}

/// The hashes of an EXPLICIT value.
#[derive(Clone, Copy)]
pub(crate) struct Hashes<'a>(&'a [[u8; 8]]);

impl<'a> Hashes<'a> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn words(&self) -> &'a [[u8; 8]] {
        self.0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> + use<'a> {
        self.0.iter().map(|word| i64::from_be_bytes(*word))
    }

    fn ascending(&self) -> bool {
        self.0.windows(2).all(|pair| i64::from_be_bytes(pair[0]) < i64::from_be_bytes(pair[1]))
    }
}

/// The filled registers of a SPARSE value.
#[derive(Clone, Copy)]
pub(crate) struct Chunks<'a> {
    body: &'a [u8],
    bits: usize,
    width: u8,
}

impl<'a> Chunks<'a> {
    /// How many chunks there are, counting those of value zero.
    fn count(&self) -> usize {
        self.body.len() * 8 / self.bits
    }

    /// The chunks where each is two whole bytes, as with the default parameters.
    pub(crate) fn entries16(&self) -> Option<&'a [[u8; 2]]> {
        (self.bits == 16).then_some(self.body.as_chunks().0)
    }

    /// Calls `visit` with the index and value of each filled register.
    ///
    /// A chunk of value zero is skipped: where chunks are shorter than a byte the padding reads as one.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(usize, u8)) {
        let mask = (1u32 << self.width) - 1;
        let mut split = |chunk: u32| {
            let value = (chunk & mask) as u8;
            if value != 0 {
                visit((chunk >> self.width) as usize, value);
            }
        };
        if let Some(entries) = self.entries16() {
            entries.iter().for_each(|entry| split(u32::from(u16::from_be_bytes(*entry))));
            return;
        }
        // A chunk has at most 24 bits, so the 32 from its first byte hold it.
        for bit in (0..self.count()).map(|chunk| chunk * self.bits) {
            let rest = &self.body[bit / 8..];
            let word = match rest.first_chunk::<4>() {
                Some(four) => u32::from_be_bytes(*four),
                None => {
                    let mut four = [0; 4];
                    four[..rest.len()].copy_from_slice(rest);
                    u32::from_be_bytes(four)
                }
            };
            split(word << (bit % 8) >> (32 - self.bits));
        }
    }

    /// Whether the indexes ascend, so that no register is given twice; chunks of value zero count as chunks.
    ///
    /// Only foreign writers do otherwise; of several values the last one counts, as in postgresql-hll.
    pub(crate) fn ascending(&self) -> bool {
        if let Some(entries) = self.entries16() {
            return kernel::ascending16(self.width, entries);
        }
        let (mut next, mut ascending) = (0, true);
        self.for_each(|index, _| {
            ascending &= index >= next;
            next = index + 1;
        });
        ascending
    }

    /// Stores the chunks into registers that are all zero.
    pub(crate) fn store(&self, registers: &mut [u8]) {
        match self.entries16() {
            Some(entries) if self.ascending() => kernel::store_entries16(self.width, entries, registers),
            _ => self.store_each(registers),
        }
    }

    fn store_each(&self, registers: &mut [u8]) {
        self.for_each(|index, value| registers[index] = value);
    }

    /// Raises the registers to the chunks' values.
    pub(crate) fn raise(&self, registers: &mut [u8]) {
        if !self.ascending() {
            let mut own = vec![0; registers.len()];
            self.store_each(&mut own);
            kernel::raise(registers, &own);
        } else if let Some(entries) = self.entries16() {
            kernel::raise_entries16(self.width, entries, registers);
        } else {
            self.for_each(|index, value| registers[index] = registers[index].max(value));
        }
    }
}

/// Writes the three bytes every stored value begins with.
pub(crate) fn put_header(params: &Params, kind: Kind, out: &mut Vec<u8>) {
    let [shape, rest] = params.to_header();
    out.extend([VERSION << 4 | kind as u8, shape, rest]);
}

/// Writes hashes as EXPLICIT.
pub(crate) fn put_explicit(params: &Params, hashes: &[i64], out: &mut Vec<u8>) {
    out.reserve(HEADER + hashes.len() * 8);
    put_header(params, Kind::Explicit, out);
    for hash in hashes {
        out.extend(hash.to_be_bytes());
    }
}

/// Writes registers as SPARSE if that is allowed and shorter, or within `max_sparse` entries unless it
/// is -1; else as FULL.
pub(crate) fn put_registers(params: &Params, registers: &[u8], max_sparse: i32, out: &mut Vec<u8>) {
    let filled = kernel::filled(registers);
    if stays_sparse(params, filled, max_sparse) {
        out.reserve(HEADER + (filled * params.chunk_bits()).div_ceil(8));
        put_header(params, Kind::Sparse, out);
        put_sparse(params, registers, filled, out);
    } else {
        out.reserve(HEADER + params.packed_size());
        put_header(params, Kind::Full, out);
        kernel::pack(params.width(), registers, out);
    }
}

/// Whether registers of which so many are filled are stored SPARSE.
pub(crate) fn stays_sparse(params: &Params, filled: usize, max_sparse: i32) -> bool {
    params.sparseon
        && match usize::try_from(max_sparse) {
            Ok(limit) => filled <= limit,
            Err(_) => filled * params.chunk_bits() < params.registers() * usize::from(params.width()),
        }
}

fn put_sparse(params: &Params, registers: &[u8], filled: usize, out: &mut Vec<u8>) {
    let (bits, width) = (params.chunk_bits(), params.width());
    if bits == 16 {
        // The default parameters: every chunk is two whole bytes.
        return kernel::put_entries16(width, registers, filled, out);
    }
    // The low `waiting` bits of `pending` are not written yet; there are never more than 7 + 24.
    let (mut pending, mut waiting) = (0u64, 0);
    kernel::each_filled(registers, |index, value| {
        pending = pending << bits | (index as u64) << width | u64::from(value);
        waiting += bits;
        while waiting >= 8 {
            waiting -= 8;
            out.push((pending >> waiting) as u8);
        }
    });
    if waiting > 0 {
        out.push((pending << (8 - waiting)) as u8);
    }
}
