//! The four parameters of a sketch, their limits, and their packing into a type modifier.
use crate::Error;

/// The longest explicit list any sketch may hold.
pub const MAX_EXPLICIT: usize = 16383;
/// The largest base-2 logarithm of the number of registers.
pub(crate) const MAX_LOG2M: u8 = 17;
const MAX_REGWIDTH: u8 = 7;
/// How the header and the type modifier write "choose the threshold for me".
const AUTO_THRESHOLD: u8 = 63;

/// How a sketch is built; only sketches with equal parameters can be united.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Base-2 logarithm of the number of registers, 0 to 17.
    pub log2m: u8,
    /// Bits per stored register, 0 to 7; 0 is accepted for compatibility and means 1.
    pub regwidth: u8,
    /// How many hashes are kept exactly: -1 for as many as fit in the registers' size, 0 or a power of two.
    pub expthresh: i64,
    /// Whether a thinly filled sketch may be stored as a list of its filled registers.
    pub sparseon: bool,
}

impl Params {
    /// 2048 registers of 5 bits, automatic threshold, sparse storage allowed.
    pub const DEFAULT: Params = Params { log2m: 11, regwidth: 5, expthresh: -1, sparseon: true };

    /// Checks parameters given by a user.
    pub fn new(log2m: i64, regwidth: i64, expthresh: i64, sparseon: i64) -> Result<Params, Error> {
        let log2m = u8::try_from(log2m).ok().filter(|v| *v <= MAX_LOG2M).ok_or(Error::Log2m)?;
        let regwidth = u8::try_from(regwidth).ok().filter(|v| *v <= MAX_REGWIDTH).ok_or(Error::Regwidth)?;
        if !(-1..=MAX_EXPLICIT as i64).contains(&expthresh) {
            return Err(Error::Expthresh);
        }
        if expthresh > 0 && expthresh & (expthresh - 1) != 0 {
            return Err(Error::ExpthreshNotPower);
        }
        if !(0..=1).contains(&sparseon) {
            return Err(Error::Sparseon);
        }
        Ok(Params { log2m, regwidth, expthresh, sparseon: sparseon == 1 })
    }

    /// Unpacks a type modifier: `log2m << 10 | regwidth << 7 | threshold code << 1 | sparseon`.
    pub fn from_typmod(typmod: i32) -> Params {
        Params {
            log2m: (typmod >> 10 & 0x1f) as u8,
            regwidth: (typmod >> 7 & 7) as u8,
            expthresh: decode_threshold((typmod >> 1 & 0x3f) as u8),
            sparseon: typmod & 1 == 1,
        }
    }

    /// Packs the parameters into a type modifier.
    pub fn to_typmod(&self) -> i32 {
        i32::from(self.log2m) << 10
            | i32::from(self.regwidth) << 7
            | i32::from(encode_threshold(self.expthresh)) << 1
            | i32::from(self.sparseon)
    }

    /// Fails unless `incoming` (the message's "source") equals these declared parameters ("dest").
    pub fn check_same(&self, incoming: &Params) -> Result<(), Error> {
        let (source, dest) = (incoming, self);
        if source.width() != dest.width() {
            return Err(Error::RegisterWidth { source: source.width(), dest: dest.width() });
        }
        if source.log2m != dest.log2m {
            return Err(Error::RegisterCount { source: 1 << source.log2m, dest: 1 << dest.log2m });
        }
        if source.expthresh != dest.expthresh {
            return Err(Error::ExplicitThreshold { source: source.expthresh, dest: dest.expthresh });
        }
        if source.sparseon != dest.sparseon {
            return Err(Error::SparseEnable { source: source.sparseon, dest: dest.sparseon });
        }
        Ok(())
    }

    /// The number of registers.
    #[inline(always)]
    pub fn registers(&self) -> usize {
        1 << self.log2m
    }

    /// How many distinct hashes are kept exactly before the sketch turns to registers.
    pub fn explicit_threshold(&self) -> usize {
        let wanted = match self.expthresh {
            -1 => self.packed_size() / 8,
            given => usize::try_from(given).unwrap_or(0),
        };
        wanted.min(MAX_EXPLICIT)
    }

    /// Fails if a stored threshold is beyond any explicit list, which postgresql-hll refuses to add to.
    pub fn check_addable(&self) -> Result<(), Error> {
        let capacity = MAX_EXPLICIT as u64;
        match u64::try_from(self.expthresh) {
            Ok(threshold) if threshold > capacity => Err(Error::ThresholdCapacity { threshold, capacity }),
            _ => Ok(()),
        }
    }

    /// Bits per register. A width of 0 has no encoding and would count nothing, so it acts as 1.
    #[inline(always)]
    pub(crate) fn width(&self) -> u8 {
        self.regwidth.max(1)
    }

    /// The largest value of a register.
    #[inline(always)]
    pub(crate) fn max_register(&self) -> u8 {
        ((1u32 << self.width()) - 1) as u8
    }

    /// Bytes of all registers packed side by side.
    pub(crate) fn packed_size(&self) -> usize {
        (self.registers() * usize::from(self.width())).div_ceil(8)
    }

    /// Bits of one filled register in SPARSE form: its index, then its value.
    #[inline(always)]
    pub(crate) fn chunk_bits(&self) -> usize {
        usize::from(self.log2m) + usize::from(self.width())
    }

    /// The two bytes that follow version and type in a stored value.
    pub(crate) fn to_header(self) -> [u8; 2] {
        let shape = (self.width() - 1) << 5 | self.log2m;
        [shape, u8::from(self.sparseon) << 6 | encode_threshold(self.expthresh)]
    }

    /// Reads the two header bytes; limits are the caller's to check.
    pub(crate) fn from_header(shape: u8, rest: u8) -> Params {
        Params {
            log2m: shape & 0x1f,
            regwidth: (shape >> 5) + 1,
            expthresh: decode_threshold(rest & 0x3f),
            sparseon: rest >> 6 & 1 == 1,
        }
    }

    /// Limits of a stored value. Only those that may still hold an explicit list bound the threshold.
    pub(crate) fn check_stored(&self, may_be_explicit: bool) -> Result<(), Error> {
        if self.log2m > MAX_LOG2M {
            return Err(Error::Log2m);
        }
        if self.regwidth > MAX_REGWIDTH {
            return Err(Error::Regwidth);
        }
        if may_be_explicit && self.expthresh > MAX_EXPLICIT as i64 {
            return Err(Error::Expthresh);
        }
        Ok(())
    }
}

/// -1 is 63, 0 is 0, and 2^k is k + 1.
fn encode_threshold(threshold: i64) -> u8 {
    match threshold {
        ..0 => AUTO_THRESHOLD,
        0 => 0,
        power => power.trailing_zeros() as u8 + 1,
    }
}

fn decode_threshold(code: u8) -> i64 {
    match code {
        AUTO_THRESHOLD => -1,
        0 => 0,
        code => 1 << (code - 1),
    }
}
