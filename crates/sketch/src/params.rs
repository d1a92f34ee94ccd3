//! The four parameters of a sketch, their ranges and their typmod.

use crate::Error;

/// Upstream's limit on registers is 2^17.
pub(crate) const MAX_LOG2M: u8 = 17;
/// The most elements an EXPLICIT sketch may hold.
pub(crate) const MAX_EXPLICIT: usize = 16383;

/// The parameters of a sketch; two sketches combine only when theirs are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Base-2 logarithm of the number of registers.
    pub log2m: u8,
    /// Bits per register.
    pub regwidth: u8,
    /// How many elements stay EXPLICIT; -1 chooses by size.
    pub expthresh: i64,
    /// Whether the SPARSE form may be written.
    pub sparseon: bool,
}

impl Params {
    /// What a sketch uses when nothing is said.
    pub const DEFAULT: Params = Params { log2m: 11, regwidth: 5, expthresh: -1, sparseon: true };

    /// Checks parameters a user gave.
    pub fn new(log2m: i64, regwidth: i64, expthresh: i64, sparseon: i64) -> Result<Params, Error> {
        if !(0..=i64::from(MAX_LOG2M)).contains(&log2m) {
            return Err(Error::Log2m);
        }
        if !(0..=7).contains(&regwidth) {
            return Err(Error::Regwidth);
        }
        if !(-1..=MAX_EXPLICIT as i64).contains(&expthresh) {
            return Err(Error::Expthresh);
        }
        if expthresh > 0 && !(expthresh as u64).is_power_of_two() {
            return Err(Error::ExpthreshPower);
        }
        if !(0..=1).contains(&sparseon) {
            return Err(Error::Sparseon);
        }
        Ok(Params { log2m: log2m as u8, regwidth: regwidth as u8, expthresh, sparseon: sparseon == 1 })
    }

    /// Unpacks a type modifier; -1 means the defaults.
    pub fn from_typmod(typmod: i32) -> Params {
        if typmod < 0 {
            return Params::DEFAULT;
        }
        Params {
            log2m: (typmod >> 10 & 31) as u8,
            regwidth: (typmod >> 7 & 7) as u8,
            expthresh: decode_expthresh((typmod >> 1 & 63) as u8),
            sparseon: typmod & 1 == 1,
        }
    }

    /// Packs the parameters into a type modifier.
    pub fn to_typmod(&self) -> i32 {
        i32::from(self.log2m) << 10
            | i32::from(self.regwidth & 7) << 7
            | i32::from(encode_expthresh(self.expthresh)) << 1
            | i32::from(self.sparseon)
    }

    /// Refuses a sketch with parameters `incoming` where these were declared.
    pub fn check_same(&self, incoming: &Params) -> Result<(), Error> {
        if self.regwidth != incoming.regwidth {
            Err(Error::WidthMismatch { source: incoming.regwidth, dest: self.regwidth })
        } else if self.log2m != incoming.log2m {
            Err(Error::CountMismatch { source: incoming.registers(), dest: self.registers() })
        } else if self.expthresh != incoming.expthresh {
            Err(Error::ThresholdMismatch { source: incoming.expthresh, dest: self.expthresh })
        } else if self.sparseon != incoming.sparseon {
            Err(Error::SparseMismatch { source: incoming.sparseon, dest: self.sparseon })
        } else {
            Ok(())
        }
    }

    /// The number of registers.
    pub fn registers(&self) -> usize {
        1 << self.log2m
    }

    /// How many elements an EXPLICIT sketch holds before it becomes registers.
    pub fn explicit_threshold(&self) -> usize {
        match self.expthresh {
            // Explicit for as long as that is no larger than the registers would be.
            -1 => (self.full_bytes() / 8).min(MAX_EXPLICIT),
            // Stored register values may carry a threshold no explicit set could reach.
            given => usize::try_from(given).unwrap_or(0).min(MAX_EXPLICIT),
        }
    }

    /// The largest value a register can hold.
    pub(crate) fn max_register(&self) -> u8 {
        ((1u32 << self.regwidth) - 1) as u8
    }

    /// Bytes of all registers packed.
    pub(crate) fn full_bytes(&self) -> usize {
        (self.registers() * usize::from(self.regwidth)).div_ceil(8)
    }

    /// Bits of one SPARSE entry.
    pub(crate) fn chunk_bits(&self) -> usize {
        usize::from(self.log2m + self.regwidth)
    }
}

/// The six-bit form of a threshold.
pub(crate) fn encode_expthresh(expthresh: i64) -> u8 {
    match expthresh {
        -1 => 63,
        0 => 0,
        given => (given.trailing_zeros() + 1) as u8,
    }
}

/// The threshold of a six-bit form.
pub(crate) fn decode_expthresh(bits: u8) -> i64 {
    match bits {
        63 => -1,
        0 => 0,
        given => 1 << (given - 1),
    }
}
