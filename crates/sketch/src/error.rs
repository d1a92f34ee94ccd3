//! What can be wrong with parameters or stored bytes, in upstream's words.

use core::fmt;

/// The SQLSTATE an error belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 22023, invalid_parameter_value.
    InvalidParameter,
    /// 22000, data_exception.
    Data,
}

/// An error of this crate; its `Display` text is postgresql-hll's message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// log2m is out of range.
    Log2m,
    /// regwidth is out of range.
    Regwidth,
    /// expthresh is out of range.
    Expthresh,
    /// expthresh is in range but no power of two.
    ExpthreshPower,
    /// sparseon is neither 0 nor 1.
    Sparseon,
    /// Two sketches have different numbers of registers.
    CountMismatch {
        /// The incoming sketch's.
        source: usize,
        /// The declared one.
        dest: usize,
    },
    /// Two sketches have registers of different widths.
    WidthMismatch {
        /// The incoming sketch's.
        source: u8,
        /// The declared one.
        dest: u8,
    },
    /// Two sketches have different explicit thresholds.
    ThresholdMismatch {
        /// The incoming sketch's.
        source: i64,
        /// The declared one.
        dest: i64,
    },
    /// Two sketches disagree on whether SPARSE may be used.
    SparseMismatch {
        /// The incoming sketch's.
        source: bool,
        /// The declared one.
        dest: bool,
    },
    /// The version nibble is not 1.
    Version(u8),
    /// The type nibble is none of the five known.
    UnknownType,
    /// An EMPTY value is not exactly its header.
    EmptySize,
    /// An EXPLICIT value is not a whole number of elements.
    ExplicitSize,
    /// An EXPLICIT value has more elements than any sketch may hold.
    ExplicitTooLarge,
    /// EXPLICIT elements are not strictly ascending; holds the printed sketch.
    ExplicitOrder(String),
    /// A SPARSE value is shorter than its header.
    SparseTooSmall,
    /// A SPARSE value has more registers than any sketch may have.
    SparseTooLarge,
    /// A FULL value has more registers than any sketch may have.
    FullTooLarge,
    /// A SPARSE value has more bits after its last entry than padding can have.
    SparsePadding,
    /// A FULL value has not the size its header asks for.
    FullSize,
    /// An UNDEFINED value is longer than its header.
    UndefinedSize,
    /// The classic estimator is not defined for eight registers or fewer.
    TooFewRegisters,
    /// A serialized aggregate state ends too early.
    StateTruncated,
    /// A serialized aggregate state contradicts itself.
    StateInconsistent,
}

impl Error {
    /// The SQLSTATE class to report the error with.
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
            Error::Log2m => "log2m modifier must be between 0 and 17",
            Error::Regwidth => "regwidth modifier must be between 0 and 7",
            Error::Expthresh => "expthresh modifier must be between -1 and 16383",
            Error::ExpthreshPower => "expthresh modifier must be power of 2",
            Error::Sparseon => "sparseon modifier must be 0 or 1",
            Error::CountMismatch { source, dest } => {
                return write!(f, "register count does not match: source uses {source} and dest uses {dest}");
            }
            Error::WidthMismatch { source, dest } => {
                return write!(f, "register width does not match: source uses {source} and dest uses {dest}");
            }
            Error::ThresholdMismatch { source, dest } => {
                return write!(
                    f,
                    "explicit threshold does not match: source uses {source} and dest uses {dest}"
                );
            }
            Error::SparseMismatch { source, dest } => {
                let (source, dest) = (u8::from(*source), u8::from(*dest));
                return write!(f, "sparse enable does not match: source uses {source} and dest uses {dest}");
            }
            Error::Version(version) => return write!(f, "unknown schema version {version}"),
            Error::UnknownType => "undefined multiset type",
            Error::EmptySize => "inconsistently sized empty multiset",
            Error::ExplicitSize => "inconsistently sized explicit multiset",
            Error::ExplicitTooLarge => "explicit multiset too large",
            Error::ExplicitOrder(printed) => {
                return write!(f, "duplicate or descending explicit elements: {printed}");
            }
            Error::SparseTooSmall => "sparse multiset too small",
            Error::SparseTooLarge => "sparse multiset too large",
            Error::FullTooLarge => "compressed multiset too large",
            Error::SparsePadding => "inconsistent padding in sparse hll argument",
            Error::FullSize => "inconsistently sized compressed multiset",
            Error::UndefinedSize => "undefined multiset value",
            Error::TooFewRegisters => "number of registers too small",
            Error::StateTruncated => "deserialized HLL state is truncated",
            Error::StateInconsistent => "deserialized HLL state has inconsistent size",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Error {}
