//! What can be wrong with parameters and stored bytes, in the words of postgresql-hll.
use core::fmt;

/// The kind of an error, as SQL sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A parameter is out of range (22023).
    InvalidParameter,
    /// The data is wrong (22000).
    Data,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // each variant is the message it prints
pub enum Error {
    Log2m,
    Regwidth,
    Expthresh,
    ExpthreshPower,
    Sparseon,
    RegisterWidth { source: u8, dest: u8 },
    RegisterCount { source: usize, dest: usize },
    Threshold { source: i64, dest: i64 },
    SparseEnable { source: u8, dest: u8 },
    Version(u8),
    Type,
    EmptySize,
    ExplicitSize,
    ExplicitTooLarge,
    Order(String),
    UndefinedSize,
    SparsePadding,
    SparseTooLarge,
    FullTooSmall,
    FullSize,
    FullPadding,
    FewRegisters,
    StateTruncated,
    StateSize,
}

impl Error {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Error::Log2m | Error::Regwidth | Error::Expthresh | Error::ExpthreshPower | Error::Sparseon => {
                Class::InvalidParameter
            }
            _ => Class::Data,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::RegisterWidth { source, dest } => {
                return write!(f, "register width does not match: source uses {source} and dest uses {dest}");
            }
            Error::RegisterCount { source, dest } => {
                return write!(f, "register count does not match: source uses {source} and dest uses {dest}");
            }
            Error::Threshold { source, dest } => {
                return write!(
                    f,
                    "explicit threshold does not match: source uses {source} and dest uses {dest}"
                );
            }
            Error::SparseEnable { source, dest } => {
                return write!(f, "sparse enable does not match: source uses {source} and dest uses {dest}");
            }
            Error::Version(v) => return write!(f, "unknown schema version {v}"),
            Error::Order(print) => return write!(f, "duplicate or descending explicit elements: {print}"),
            Error::Log2m => "log2m modifier must be between 0 and 17",
            Error::Regwidth => "regwidth modifier must be between 0 and 7",
            Error::Expthresh => "expthresh modifier must be between -1 and 16383",
            Error::ExpthreshPower => "expthresh modifier must be power of 2",
            Error::Sparseon => "sparseon modifier must be 0 or 1",
            Error::Type => "undefined multiset type",
            Error::EmptySize => "inconsistently sized empty multiset",
            Error::ExplicitSize => "inconsistently sized explicit multiset",
            Error::ExplicitTooLarge => "explicit multiset too large",
            Error::UndefinedSize => "undefined multiset value",
            Error::SparsePadding => "inconsistent padding in sparse hll argument",
            Error::SparseTooLarge => "sparse multiset too large",
            Error::FullTooSmall => "compressed hll argument not large enough",
            Error::FullSize => "inconsistently sized compressed multiset",
            Error::FullPadding => "inconsistent padding in compressed hll argument",
            Error::FewRegisters => "number of registers too small",
            Error::StateTruncated => "deserialized HLL state is truncated",
            Error::StateSize => "deserialized HLL state has inconsistent size",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Error {}
