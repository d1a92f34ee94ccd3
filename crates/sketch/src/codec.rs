//! Bytes to sketch and back; every length is checked.
use crate::bits::{Reader, Writer};
use crate::params::MAX_EXPLICIT;
use crate::{Error, Estimator, Heap, Params, Sketch};

/// The type of a stored sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Unknown content; absorbs everything.
    Undefined = 0,
    /// Nothing seen.
    Empty = 1,
    /// The hashes themselves.
    Explicit = 2,
    /// The registers that are not zero.
    Sparse = 3,
    /// All registers.
    Full = 4,
}

/// The three bytes that every stored sketch begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Schema version, 1.
    pub version: u8,
    /// Type.
    pub kind: Kind,
    /// Parameters.
    pub params: Params,
}

impl Header {
    /// Length in bytes.
    pub const LEN: usize = 3;

    /// Reads and checks the header of `bytes`; looks at nothing else.
    pub fn read(bytes: &[u8]) -> Result<Header, Error> {
        let first = bytes.first().copied().unwrap_or(0);
        if first >> 4 != 1 {
            return Err(Error::Version(first >> 4));
        }
        let kind = match first & 0x0f {
            0 => Kind::Undefined,
            1 => Kind::Empty,
            2 => Kind::Explicit,
            3 => Kind::Sparse,
            4 => Kind::Full,
            _ => return Err(Error::Type),
        };
        let Some(&[_, shape, rest]) = bytes.first_chunk::<3>() else {
            return Err(match kind {
                Kind::Undefined => Error::UndefinedSize,
                Kind::Empty => Error::EmptySize,
                Kind::Explicit => Error::ExplicitSize,
                _ => Error::FullTooSmall,
            });
        };
        let params = Params {
            log2m: shape & 0x1f,
            regwidth: (shape >> 5) + 1,
            expthresh: Params::threshold_of(rest & 0x3f),
            sparseon: rest & 0x40 != 0,
        };
        if params.log2m > 17 {
            return Err(Error::Log2m);
        }
        if params.regwidth > 7 {
            return Err(Error::Regwidth);
        }
        if matches!(kind, Kind::Empty | Kind::Explicit) && params.expthresh > MAX_EXPLICIT as i64 {
            return Err(Error::Expthresh);
        }
        Ok(Header { version: 1, kind, params })
    }

    /// The header as bytes.
    pub fn write(kind: Kind, p: &Params) -> [u8; 3] {
        [1 << 4 | kind as u8, (p.regwidth - 1) << 5 | p.log2m, u8::from(p.sparseon) << 6 | p.threshold_code()]
    }
}

/// Checks stored bytes wholly, and returns their header.
pub fn validate(bytes: &[u8]) -> Result<Header, Error> {
    let header = Header::read(bytes)?;
    let p = &header.params;
    let body = &bytes[Header::LEN..];
    match header.kind {
        Kind::Undefined if !body.is_empty() => return Err(Error::UndefinedSize),
        Kind::Empty if !body.is_empty() => return Err(Error::EmptySize),
        Kind::Undefined | Kind::Empty => {}
        Kind::Explicit => {
            if body.len() % 8 != 0 {
                return Err(Error::ExplicitSize);
            }
            if body.len() / 8 > MAX_EXPLICIT {
                return Err(Error::ExplicitTooLarge);
            }
            let ascending = hashes(body).zip(hashes(body).skip(1)).all(|(a, b)| a < b);
            if !ascending {
                let all: Vec<i64> = hashes(body).collect();
                return Err(Error::Order(crate::sketch::print_explicit(p, &all)));
            }
        }
        Kind::Sparse => {
            let chunk = usize::from(p.log2m + p.regwidth);
            if (body.len() * 8) % chunk >= 8 {
                return Err(Error::SparsePadding);
            }
            // Pad bits can look like a chunk where a chunk is shorter than a byte.
            if body.len() * 8 / chunk > p.registers() + 7 / chunk {
                return Err(Error::SparseTooLarge);
            }
        }
        Kind::Full => {
            if body.len() < p.packed_len() {
                return Err(Error::FullTooSmall);
            }
            if body.len() > p.packed_len() {
                return Err(Error::FullSize);
            }
            let used = p.registers() * usize::from(p.regwidth) % 8;
            if used != 0 && body[body.len() - 1] & (0xff >> used) != 0 {
                return Err(Error::FullPadding);
            }
        }
    }
    Ok(header)
}

/// The hashes of an explicit body.
pub fn hashes(body: &[u8]) -> impl Iterator<Item = i64> {
    body.as_chunks::<8>().0.iter().map(|w| i64::from_be_bytes(*w))
}

/// Index and value of each filled register of a valid sparse or full body.
pub fn each_register(header: &Header, body: &[u8], mut f: impl FnMut(usize, u8)) {
    let p = &header.params;
    let w = u32::from(p.regwidth);
    if header.kind == Kind::Sparse {
        for chunk in Reader::new(body, w + u32::from(p.log2m)) {
            let value = chunk & ((1 << w) - 1);
            if value != 0 {
                // A value of 0 is padding that looks like a chunk, or says nothing.
                f((chunk >> w) as usize, value as u8);
            }
        }
    } else {
        for (i, value) in Reader::new(body, w).take(p.registers()).enumerate() {
            f(i, value as u8);
        }
    }
}

/// Registers as bytes, sparse or full as the rule says.
pub fn write_registers(p: &Params, registers: &[u8], max_sparse: i32) -> Vec<u8> {
    let filled = registers.iter().filter(|&&r| r != 0).count();
    let (w, chunk) = (u32::from(p.regwidth), u32::from(p.regwidth + p.log2m));
    let sparse = p.sparseon
        && if max_sparse == -1 {
            filled * (chunk as usize) < registers.len() * w as usize
        } else {
            filled as i64 <= i64::from(max_sparse)
        };
    let mut out = Vec::with_capacity(Header::LEN + p.packed_len());
    out.extend_from_slice(&Header::write(if sparse { Kind::Sparse } else { Kind::Full }, p));
    let mut writer = Writer::new(&mut out);
    for (i, &r) in registers.iter().enumerate() {
        if !sparse {
            writer.put(u32::from(r), w);
        } else if r != 0 {
            writer.put((i as u32) << w | u32::from(r), chunk);
        }
    }
    writer.finish();
    out
}

/// The cardinality of stored bytes; None where the content is undefined.
pub fn cardinality_of(bytes: &[u8], e: Estimator) -> Result<Option<f64>, Error> {
    Sketch::decode(bytes, Heap)?.cardinality(e)
}
