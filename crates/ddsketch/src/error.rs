//! What can be wrong with a sketch, or with what one is asked.
use crate::{FINEST_OUTSIDE, MAX_SCALE, MIN_SCALE};
use core::fmt;

/// Why a parameter, a value or stored bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The scale is outside of -4..=10.
    Scale(i32),
    /// The scale of a histogram from outside is outside of -4..=20.
    OutsideScale(i32),
    /// The schema of a native histogram is outside of -4..=8.
    Schema(i32),
    /// NaN cannot be counted.
    NotANumber,
    /// A weight is below zero.
    Weight(i64),
    /// More values than 2^63 - 1.
    TooMany,
    /// A share is not in 0..=1.
    Share(f64),
    /// The lower of two shares is not below the upper one.
    Shares(f64, f64),
    /// The lower of two values is above the upper one.
    Order(f64, f64),
    /// NaN where a number to compare with is asked for.
    Limit,
    /// A count of a histogram from outside is below zero.
    Count(i64),
    /// A bucket of a histogram from outside is one that no number is in.
    Index(i64),
    /// Lengths of spans and number of counts disagree.
    Spans {
        /// Buckets that the spans have.
        spans: i64,
        /// Counts that were given.
        counts: usize,
    },
    /// As many offsets as lengths make spans.
    SpanLengths {
        /// Offsets that were given.
        offsets: usize,
        /// Lengths that were given.
        lengths: usize,
    },
    /// A length of a span is below zero.
    SpanLength(i64),
    /// min or max lie where no value was counted.
    Extremes,
    /// Stored bytes are not a sketch; says what is wrong.
    Bytes(&'static str),
    /// A text is not a sketch; says what is wrong.
    Text(&'static str),
}

/// The SQLSTATE an error is reported with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 22023, invalid_parameter_value.
    InvalidParameter,
    /// 22003, numeric_value_out_of_range.
    OutOfRange,
    /// 22P02, invalid_text_representation.
    Text,
    /// 22P03, invalid_binary_representation.
    Binary,
}

impl Error {
    /// Which SQLSTATE to report.
    pub fn class(&self) -> Class {
        match self {
            Error::TooMany => Class::OutOfRange,
            Error::Bytes(_) => Class::Binary,
            Error::Text(_) => Class::Text,
            _ => Class::InvalidParameter,
        }
    }

    /// What to do instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Error::Scale(_) => "5 gives a relative error of 1.08 %, each one more half of it.",
            Error::OutsideScale(_) => {
                "Finer scales than 10 are folded; a coarser one than -4 tells too little to be kept."
            }
            Error::Schema(_) => {
                "Native histograms with exponential buckets have schema -4 to 8; -53 stands for custom buckets, which are no powers."
            }
            Error::NotANumber => "Leave such rows out: FILTER (WHERE x <> 'NaN').",
            Error::Weight(_) => "What was counted cannot be taken away.",
            Error::TooMany => "A sketch counts up to 9223372036854775807 values.",
            Error::Share(_) => "The 99th percentile is asked for as 0.99.",
            Error::Shares(..) => "The lower share comes first, as in 0.05, 0.95.",
            Error::Order(..) => "The lower value comes first.",
            Error::Limit => "Compare with a number, or with an infinity.",
            Error::Count(_) => {
                "Counts are those of one period, or of all time; a reset gives no negative ones."
            }
            Error::Index(_) => {
                "Index i has the values above base^i, up to base^(i + 1); those of doubles lie between -1075 and 1024 octaves."
            }
            Error::Spans { .. } | Error::SpanLengths { .. } | Error::SpanLength(_) => {
                "Each span is an offset and a length, and each bucket of a span has a count."
            }
            Error::Extremes => {
                "Give NULL for what is not known; min and max lie in the first and in the last bucket that has values, or next to it."
            }
            Error::Bytes(_) => "Only what ddsketch_send gives is the binary form of a ddsketch.",
            Error::Text(_) => "As in: scale=5 count=3 sum=6 min=1 max=3 positive=-1:1,31:1,50:1",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Scale(scale) => {
                write!(f, "scale is {scale}, and must be between {MIN_SCALE} and {MAX_SCALE}")
            }
            Error::OutsideScale(scale) => {
                write!(
                    f,
                    "scale of the histogram is {scale}, and must be between {MIN_SCALE} and {FINEST_OUTSIDE}"
                )
            }
            Error::Schema(schema) => {
                write!(f, "schema of the histogram is {schema}, and must be between {MIN_SCALE} and 8")
            }
            Error::NotANumber => f.write_str("NaN has no place among numbers"),
            Error::Weight(weight) => write!(f, "weight is {weight}, and must be at least 0"),
            Error::TooMany => f.write_str("the sketch would count more values than a bigint can hold"),
            Error::Share(share) => write!(f, "share is {share}, and must be between 0 and 1"),
            Error::Shares(lower, upper) => write!(f, "share {lower} is not below share {upper}"),
            Error::Order(lower, upper) => write!(f, "value {lower} is above value {upper}"),
            Error::Limit => f.write_str("NaN is neither above nor below any value"),
            Error::Count(count) => write!(f, "a count of the histogram is {count}, and must be at least 0"),
            Error::Index(index) => write!(f, "no number is in bucket {index} of the histogram"),
            Error::Spans { spans, counts } => {
                write!(f, "the spans of the histogram have {spans} buckets, and {counts} counts are given")
            }
            Error::SpanLengths { offsets, lengths } => {
                write!(f, "the spans of the histogram have {offsets} offsets and {lengths} lengths")
            }
            Error::SpanLength(length) => {
                write!(f, "a span of the histogram is {length} buckets long, and must be at least 0")
            }
            Error::Extremes => f.write_str("min or max of the histogram is where it has no values"),
            Error::Bytes(what) => write!(f, "invalid ddsketch: {what}"),
            Error::Text(what) => write!(f, "invalid text of a ddsketch: {what}"),
        }
    }
}

impl std::error::Error for Error {}
