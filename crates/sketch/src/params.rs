//! The parameters of a sketch: ranges, and how header and type modifier pack them.
use crate::Error;

/// More hashes than this never stay explicit: what fits into 128 KiB beside a length.
pub const MAX_EXPLICIT: usize = 16_383;
const MAX_LOG2M: i64 = 17;

/// The parameters of a sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Log2 of the number of registers: 0 to 17.
    pub log2m: u8,
    /// Bits of a register: 1 to 7.
    pub regwidth: u8,
    /// Up to how many hashes are kept as they are: -1 automatic, 0 none, or a power of 2.
    pub expthresh: i64,
    /// Whether few registers are stored sparsely.
    pub sparseon: bool,
}

impl Params {
    /// (11, 5, -1, 1): 2,048 registers, 2.3 % standard error.
    pub const DEFAULT: Params = Params { log2m: 11, regwidth: 5, expthresh: -1, sparseon: true };

    /// Checks the ranges for a new sketch. A register of no bits could not be stored, so 0 is refused as 8 is.
    pub fn new(log2m: i64, regwidth: i64, expthresh: i64, sparseon: i64) -> Result<Params, Error> {
        if !(0..=MAX_LOG2M).contains(&log2m) {
            return Err(Error::Log2m);
        }
        if !(1..=7).contains(&regwidth) {
            return Err(Error::Regwidth);
        }
        if !(-1..=MAX_EXPLICIT as i64).contains(&expthresh) {
            return Err(Error::Expthresh);
        }
        if expthresh > 0 && expthresh.count_ones() != 1 {
            return Err(Error::ExpthreshPower);
        }
        if !(0..=1).contains(&sparseon) {
            return Err(Error::Sparseon);
        }
        Ok(Params { log2m: log2m as u8, regwidth: regwidth as u8, expthresh, sparseon: sparseon == 1 })
    }

    /// Number of registers.
    pub fn registers(&self) -> usize {
        1 << self.log2m
    }

    /// The largest value of a register.
    pub fn max_register(&self) -> u8 {
        ((1u16 << self.regwidth) - 1) as u8
    }

    /// Bytes of all registers, packed.
    pub fn packed_len(&self) -> usize {
        (self.registers() * usize::from(self.regwidth)).div_ceil(8)
    }

    /// How many distinct hashes are kept as they are before registers take over. Automatic: as long as they
    /// take no more room than the packed registers.
    pub fn explicit_threshold(&self) -> usize {
        match self.expthresh {
            -1 => (self.packed_len() / 8).min(MAX_EXPLICIT),
            n => (n.max(0) as usize).min(MAX_EXPLICIT),
        }
    }

    /// The six-bit code of the threshold.
    pub fn threshold_code(&self) -> u8 {
        match self.expthresh {
            -1 => 63,
            0 => 0,
            n => n.trailing_zeros() as u8 + 1,
        }
    }

    /// The threshold of a six-bit code.
    pub fn threshold_of(code: u8) -> i64 {
        match code {
            63 => -1,
            0 => 0,
            k => 1i64 << (k - 1),
        }
    }

    /// Unpacks a type modifier: log2m << 10 | regwidth << 7 | threshold code << 1 | sparseon.
    pub fn from_typmod(typmod: i32) -> Params {
        Params {
            log2m: (typmod >> 10 & 0x1f) as u8,
            regwidth: (typmod >> 7 & 0x07) as u8,
            expthresh: Params::threshold_of((typmod >> 1 & 0x3f) as u8),
            sparseon: typmod & 1 == 1,
        }
    }

    /// Packs a type modifier.
    pub fn to_typmod(&self) -> i32 {
        i32::from(self.log2m) << 10
            | i32::from(self.regwidth) << 7
            | i32::from(self.threshold_code()) << 1
            | i32::from(self.sparseon)
    }

    /// Refuses `incoming` where it differs from what is declared here.
    pub fn check_same(&self, incoming: &Params) -> Result<(), Error> {
        if incoming.regwidth != self.regwidth {
            return Err(Error::RegisterWidth { source: incoming.regwidth, dest: self.regwidth });
        }
        if incoming.log2m != self.log2m {
            return Err(Error::RegisterCount { source: incoming.registers(), dest: self.registers() });
        }
        if incoming.expthresh != self.expthresh {
            return Err(Error::Threshold { source: incoming.expthresh, dest: self.expthresh });
        }
        if incoming.sparseon != self.sparseon {
            return Err(Error::SparseEnable { source: incoming.sparseon.into(), dest: self.sparseon.into() });
        }
        Ok(())
    }
}
