//! What can be wrong with a sketch; the texts are those of postgresql-hll, which clients match on.
use core::fmt;

/// Why a parameter, a stored value or a union was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// `log2m` is outside 0..=17.
    Log2m,
    /// `regwidth` is outside 0..=7.
    Regwidth,
    /// `expthresh` is outside -1..=16383.
    Expthresh,
    /// `expthresh` is neither -1, 0 nor a power of two.
    ExpthreshNotPower,
    /// `sparseon` is neither 0 nor 1.
    Sparseon,
    /// Two sketches differ in their number of registers.
    RegisterCount {
        /// Of the incoming sketch.
        source: u64,
        /// Of the declared one.
        dest: u64,
    },
    /// Two sketches differ in their register width.
    RegisterWidth {
        /// Of the incoming sketch.
        source: u8,
        /// Of the declared one.
        dest: u8,
    },
    /// Two sketches differ in their explicit threshold.
    ExplicitThreshold {
        /// Of the incoming sketch.
        source: i64,
        /// Of the declared one.
        dest: i64,
    },
    /// Two sketches differ in whether they may be stored sparse.
    SparseEnable {
        /// Of the incoming sketch.
        source: bool,
        /// Of the declared one.
        dest: bool,
    },
    /// The first half-byte is not 1.
    UnknownVersion(u8),
    /// The second half-byte names no type.
    UndefinedType,
    /// An EMPTY value is not three bytes.
    EmptySize,
    /// An EXPLICIT value is not a header and whole hashes.
    ExplicitSize,
    /// An EXPLICIT value holds more hashes than any sketch may.
    ExplicitTooLarge,
    /// The elements of an EXPLICIT value are not strictly ascending; carries [`crate::Sketch::print`]'s text.
    ExplicitOrder(String),
    /// A FULL value is not a header and all its registers.
    FullSize,
    /// A FULL value declares more registers than any sketch may have.
    FullTooLarge,
    /// A SPARSE value is shorter than its header.
    SparseTooSmall,
    /// A SPARSE value declares more registers than any sketch may have.
    SparseTooLarge,
    /// A SPARSE value ends in a byte that belongs to no register.
    SparsePadding,
    /// An UNDEFINED value is not three bytes.
    UndefinedSize,
    /// An addition to a stored value whose explicit threshold no explicit list can reach.
    ThresholdCapacity {
        /// The stored threshold.
        threshold: u64,
        /// The longest explicit list.
        capacity: u64,
    },
    /// A sketch was to be folded into one of more registers.
    FoldUp {
        /// Its log2m.
        from: u8,
        /// The one asked for.
        to: u8,
    },
    /// The classic estimator needs at least 16 registers.
    TooFewRegisters,
    /// A partial aggregate's state is shorter than it says.
    StateTruncated,
    /// A partial aggregate's state exceeds what any sketch may hold.
    StateTooLarge,
    /// A partial aggregate's state does not have the size it says, or holds impossible values.
    StateSize,
}

/// The SQLSTATE an error is reported with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 22023, invalid_parameter_value.
    InvalidParameter,
    /// 22000, data_exception.
    Data,
}

impl Error {
    /// Which SQLSTATE to report.
    pub fn class(&self) -> Class {
        match self {
            Error::Log2m
            | Error::Regwidth
            | Error::Expthresh
            | Error::ExpthreshNotPower
            | Error::Sparseon
            | Error::FoldUp { .. } => Class::InvalidParameter,
            _ => Class::Data,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Log2m => f.write_str("log2m modifier must be between 0 and 17"),
            Error::Regwidth => f.write_str("regwidth modifier must be between 0 and 7"),
            Error::Expthresh => f.write_str("expthresh modifier must be between -1 and 16383"),
            Error::ExpthreshNotPower => f.write_str("expthresh modifier must be power of 2"),
            Error::Sparseon => f.write_str("sparseon modifier must be 0 or 1"),
            Error::RegisterCount { source, dest } => {
                write!(f, "register count does not match: source uses {source} and dest uses {dest}")
            }
            Error::RegisterWidth { source, dest } => {
                write!(f, "register width does not match: source uses {source} and dest uses {dest}")
            }
            Error::ExplicitThreshold { source, dest } => {
                write!(f, "explicit threshold does not match: source uses {source} and dest uses {dest}")
            }
            Error::SparseEnable { source, dest } => {
                let (source, dest) = (u8::from(*source), u8::from(*dest));
                write!(f, "sparse enable does not match: source uses {source} and dest uses {dest}")
            }
            Error::UnknownVersion(version) => write!(f, "unknown schema version {version}"),
            Error::UndefinedType => f.write_str("undefined multiset type"),
            Error::EmptySize => f.write_str("inconsistently sized empty multiset"),
            Error::ExplicitSize => f.write_str("inconsistently sized explicit multiset"),
            Error::ExplicitTooLarge => f.write_str("explicit multiset too large"),
            Error::ExplicitOrder(text) => write!(f, "duplicate or descending explicit elements: {text}"),
            Error::FullSize => f.write_str("inconsistently sized compressed multiset"),
            Error::FullTooLarge => f.write_str("compressed multiset too large"),
            Error::SparseTooSmall => f.write_str("sparse multiset too small"),
            Error::SparseTooLarge => f.write_str("sparse multiset too large"),
            Error::SparsePadding => f.write_str("inconsistent padding in sparse hll argument"),
            Error::UndefinedSize => f.write_str("undefined multiset value"),
            Error::ThresholdCapacity { threshold, capacity } => {
                write!(f, "explicit threshold {threshold} exceeds maximum buffer capacity {capacity}")
            }
            Error::FoldUp { from, to } => {
                write!(
                    f,
                    "a sketch of log2m {from} cannot be folded to log2m {to}: registers are merged, not split"
                )
            }
            Error::TooFewRegisters => f.write_str("number of registers too small"),
            Error::StateTruncated => f.write_str("deserialized HLL state is truncated"),
            Error::StateTooLarge => f.write_str("deserialized HLL exceeds maximum multiset size"),
            Error::StateSize => f.write_str("deserialized HLL state has inconsistent size"),
        }
    }
}

impl std::error::Error for Error {}
