//! The stored form: a header of three bytes, then elements, entries or registers, most significant bit first.

use crate::params::{MAX_EXPLICIT, MAX_LOG2M, decode_expthresh, encode_expthresh};
use crate::sketch::State;
use crate::{Buffer, Error, Estimator, Heap, Memory, Params, Sketch};

/// Bytes before the payload.
const HEADER: usize = 3;

/// The stored forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value about which nothing is known.
    Undefined = 0,
    /// Nothing was added.
    Empty = 1,
    /// The hash values themselves.
    Explicit = 2,
    /// The nonzero registers with their indexes.
    Sparse = 3,
    /// All registers.
    Full = 4,
}

/// The first three bytes of a stored sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The schema version, always 1.
    pub version: u8,
    /// The form of the payload.
    pub kind: Kind,
    /// The sketch's parameters.
    pub params: Params,
}

impl Header {
    /// Reads the header and checks that the length and the parameters fit the form.
    pub fn read(bytes: &[u8]) -> Result<Header, Error> {
        let first = bytes.first().copied().unwrap_or(0);
        if first >> 4 != 1 {
            return Err(Error::Version(first >> 4));
        }
        let (kind, short) = match first & 15 {
            0 => (Kind::Undefined, Error::UndefinedSize),
            1 => (Kind::Empty, Error::EmptySize),
            2 => (Kind::Explicit, Error::ExplicitSize),
            3 => (Kind::Sparse, Error::SparseTooSmall),
            4 => (Kind::Full, Error::FullSize),
            _ => return Err(Error::UnknownType),
        };
        let &[_, shape, flags, ref payload @ ..] = bytes else { return Err(short) };
        let params = Params {
            log2m: shape & 31,
            regwidth: (shape >> 5) + 1,
            expthresh: decode_expthresh(flags & 63),
            sparseon: flags >> 6 & 1 == 1,
        };
        check_payload(kind, &params, payload.len())?;
        check_params(kind, &params)?;
        Ok(Header { version: 1, kind, params })
    }

    fn write(params: &Params, kind: Kind, capacity: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + capacity);
        out.push(1 << 4 | kind as u8);
        // A width of 0 has no stored form; 1 is the nearest that can be read back.
        out.push((params.regwidth.max(1) - 1) << 5 | params.log2m);
        out.push(u8::from(params.sparseon) << 6 | encode_expthresh(params.expthresh));
        out
    }
}

fn check_payload(kind: Kind, params: &Params, len: usize) -> Result<(), Error> {
    let too_many = params.log2m > MAX_LOG2M;
    match kind {
        Kind::Undefined if len != 0 => Err(Error::UndefinedSize),
        Kind::Empty if len != 0 => Err(Error::EmptySize),
        Kind::Explicit if !len.is_multiple_of(8) => Err(Error::ExplicitSize),
        Kind::Explicit if len / 8 > MAX_EXPLICIT => Err(Error::ExplicitTooLarge),
        Kind::Sparse if too_many => Err(Error::SparseTooLarge),
        Kind::Sparse if (len * 8) % params.chunk_bits() >= 8 => Err(Error::SparsePadding),
        Kind::Full if len != params.full_bytes() => Err(Error::FullSize),
        Kind::Full if too_many => Err(Error::FullTooLarge),
        _ => Ok(()),
    }
}

/// Stored registers may carry any threshold; what can still become EXPLICIT may not.
fn check_params(kind: Kind, params: &Params) -> Result<(), Error> {
    if params.log2m > MAX_LOG2M {
        return Err(Error::Log2m);
    }
    if params.regwidth > 7 {
        return Err(Error::Regwidth);
    }
    if matches!(kind, Kind::Empty | Kind::Explicit) && params.expthresh > MAX_EXPLICIT as i64 {
        return Err(Error::Expthresh);
    }
    Ok(())
}

/// Checks a stored sketch as thoroughly as decoding it does.
pub fn validate(bytes: &[u8]) -> Result<Header, Error> {
    let header = Header::read(bytes)?;
    if header.kind == Kind::Explicit && !ascending(&bytes[HEADER..]) {
        return Err(Error::ExplicitOrder(decode_explicit(&header, &bytes[HEADER..], Heap).print()));
    }
    Ok(header)
}

/// Estimates a stored sketch; `None` when it is UNDEFINED.
pub fn cardinality_of(bytes: &[u8], estimator: Estimator) -> Result<Option<f64>, Error> {
    let header = validate(bytes)?;
    match header.kind {
        Kind::Undefined => Ok(None),
        Kind::Empty => Ok(Some(0.0)),
        Kind::Explicit => Ok(Some(((bytes.len() - HEADER) / 8) as f64)),
        Kind::Sparse | Kind::Full => Sketch::decode(bytes, Heap)?.cardinality(estimator),
    }
}

fn elements(payload: &[u8]) -> impl Iterator<Item = i64> + '_ {
    payload.as_chunks::<8>().0.iter().map(|chunk| i64::from_be_bytes(*chunk))
}

fn ascending(payload: &[u8]) -> bool {
    elements(payload).is_sorted_by(|a, b| a < b)
}

fn decode_explicit<M: Memory>(header: &Header, payload: &[u8], memory: M) -> Sketch<M> {
    let mut words = memory.words(payload.len() / 8);
    for (at, value) in elements(payload).enumerate() {
        words.insert(at, value);
    }
    Sketch::with_state(header.params, memory, State::Explicit(words))
}

/// Reads any valid stored sketch.
pub(crate) fn decode<M: Memory>(bytes: &[u8], memory: M) -> Result<Sketch<M>, Error> {
    let header = validate(bytes)?;
    let (params, payload) = (header.params, &bytes[HEADER..]);
    let state = match header.kind {
        Kind::Undefined => State::Undefined,
        Kind::Empty => State::Empty,
        Kind::Explicit => return Ok(decode_explicit(&header, payload, memory)),
        Kind::Sparse => {
            let mut registers = memory.zeroed_bytes(params.registers());
            read_sparse(&params, payload, &mut registers);
            State::Registers(registers)
        }
        Kind::Full => {
            let mut registers = memory.zeroed_bytes(params.registers());
            read_full(&params, payload, &mut registers);
            State::Registers(registers)
        }
    };
    Ok(Sketch::with_state(params, memory, state))
}

fn read_full(params: &Params, payload: &[u8], registers: &mut [u8]) {
    let width = u32::from(params.regwidth);
    let mask = params.max_register();
    // Eight registers fill `width` bytes exactly; only a sketch of fewer than eight leaves a rest.
    let (groups, rest) = registers.as_chunks_mut::<8>();
    let packed = payload.chunks_exact(width as usize);
    for (group, bytes) in groups.iter_mut().zip(packed) {
        let word = bytes.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        *group = core::array::from_fn(|at| (word >> (width * (7 - at as u32))) as u8 & mask);
    }
    let mut bits = BitReader::new(payload);
    for register in rest {
        *register = bits.read(width) as u8;
    }
}

fn read_sparse(params: &Params, payload: &[u8], registers: &mut [u8]) {
    let mut bits = BitReader::new(payload);
    for _ in 0..payload.len() * 8 / params.chunk_bits() {
        let index = bits.read(params.log2m.into()) as usize;
        let value = bits.read(params.regwidth.into()) as u8;
        // With short entries the padding can look like an entry of value 0 for register 0.
        if value != 0 {
            registers[index] = value;
        }
    }
}

/// Writes a sketch; registers become SPARSE when at most `max_sparse` are filled, or for -1 when that is smaller.
pub(crate) fn encode<W, B>(params: &Params, state: &State<W, B>, max_sparse: i32) -> Vec<u8>
where
    W: Buffer<i64>,
    B: Buffer<u8>,
{
    match state {
        State::Undefined => Header::write(params, Kind::Undefined, 0),
        State::Empty => Header::write(params, Kind::Empty, 0),
        State::Explicit(words) => {
            let mut out = Header::write(params, Kind::Explicit, words.len() * 8);
            out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            out
        }
        State::Registers(registers) => encode_registers(params, registers, max_sparse),
    }
}

fn encode_registers(params: &Params, registers: &[u8], max_sparse: i32) -> Vec<u8> {
    let filled = registers.iter().filter(|&&register| register != 0).count();
    let sparse_bits = filled * params.chunk_bits();
    let small = match usize::try_from(max_sparse) {
        Ok(limit) => filled <= limit,
        Err(_) => sparse_bits < params.registers() * usize::from(params.regwidth),
    };
    if params.sparseon && small {
        let mut bits = BitWriter::new(Header::write(params, Kind::Sparse, sparse_bits.div_ceil(8)));
        for (index, &register) in registers.iter().enumerate().filter(|(_, register)| **register != 0) {
            bits.write((index as u64) << params.regwidth | u64::from(register), params.chunk_bits() as u32);
        }
        bits.finish()
    } else {
        // The one byte of a width of 0 is read back as width 1.
        let width = params.regwidth.max(1);
        let mut bits = BitWriter::new(Header::write(params, Kind::Full, params.full_bytes()));
        for &register in registers {
            bits.write(register.into(), width.into());
        }
        bits.finish()
    }
}

/// Reads up to 32 bits at a time and zeros past the end.
struct BitReader<'a> {
    bytes: core::slice::Iter<'a, u8>,
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes: bytes.iter(), held: 0, count: 0 }
    }

    fn read(&mut self, width: u32) -> u64 {
        while self.count < width {
            self.held = self.held << 8 | u64::from(self.bytes.next().copied().unwrap_or(0));
            self.count += 8;
        }
        self.count -= width;
        self.held >> self.count & ((1 << width) - 1)
    }
}

/// Appends up to 32 bits at a time.
struct BitWriter {
    out: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    fn new(out: Vec<u8>) -> Self {
        BitWriter { out, held: 0, count: 0 }
    }

    fn write(&mut self, value: u64, width: u32) {
        self.held = self.held << width | value;
        self.count += width;
        while self.count >= 8 {
            self.count -= 8;
            self.out.push((self.held >> self.count) as u8);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.out.push((self.held << (8 - self.count)) as u8);
        }
        self.out
    }
}
