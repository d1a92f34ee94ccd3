//! Exact numbers: decimals in 64 bits, read from and written as PostgreSQL's `numeric` directly, and numeric past that.
//!
//! numeric's short form (src/backend/utils/adt/numeric.c) is a header word, which holds the sign, the number of decimals
//! shown (the scale) and the weight of the first digit, and digits of base 10,000 without zeros at either end.
use crate::pg::ctext::c_text;
use crate::pg::numeric::Num;
use std::cmp::Ordering;

/// A number of at most sixteen decimals: `mantissa` divided by ten to the power of `scale`.
///
/// The scale is part of the number, as it is in numeric: 1.50 + 2.5 is 4.00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// The digits.
    pub mantissa: i64,
    /// How many of them are decimals.
    pub scale: u8,
}

/// The longest numeric that a `Decimal` is written as: length word, header, nine digits.
pub const MAX_BYTES: usize = 4 + 2 + 2 * 9;

/// More decimals do not fit into the digits of `write`.
pub const MAX_SCALE: u8 = 16;

const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut i = 1;
    while i < 20 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

impl Decimal {
    /// A whole number.
    pub const fn whole(mantissa: i64) -> Decimal {
        Decimal { mantissa, scale: 0 }
    }

    /// The value of a numeric's stored bytes, without their length word; None where it takes numeric itself.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Decimal> {
        let (words, _) = payload.as_chunks::<2>();
        let (header, rest) = words.split_first()?;
        let header = u16::from_ne_bytes(*header);
        // Most counts are one digit, or none.
        if header & !0x2000 == 0x8000 && rest.len() <= 1 {
            let value = rest.first().map_or(0, |digit| i64::from(u16::from_ne_bytes(*digit)));
            return Some(Decimal::whole(if header & 0x2000 == 0 { value } else { -value }));
        }
        let (negative, scale, weight, digits) = match header & 0xC000 {
            0x8000 => {
                let low = (header & 0x3F) as i32;
                let weight = if header & 0x40 != 0 { low - 64 } else { low };
                (header & 0x2000 != 0, (header & 0x1F80) >> 7, weight, rest)
            }
            0xC000 => return None, // NaN and the infinities
            sign => {
                let (weight, digits) = rest.split_first()?;
                (sign == 0x4000, header & 0x3FFF, i16::from_ne_bytes(*weight) as i32, digits)
            }
        };
        if scale > u16::from(MAX_SCALE) || weight > 4 {
            return None;
        }
        let scale = scale as u8;
        let groups = scale.div_ceil(4);
        // Digit i counts ten thousand to the power of weight - i. Zeros at the end are not stored.
        let count = (weight + 1 + i32::from(groups)).max(0) as usize;
        if digits.len() > count {
            return None;
        }
        let mut value = 0u64;
        for i in 0..count {
            let digit = digits.get(i).map_or(0, |d| u16::from_ne_bytes(*d));
            value = value.checked_mul(10_000)?.checked_add(u64::from(digit))?;
        }
        let mantissa = i64::try_from(value / POWERS[usize::from(groups * 4 - scale)]).ok()?;
        Some(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale })
    }

    /// Writes the numeric, length word included, and says how long it is.
    #[inline]
    pub fn write(self, out: &mut [u8; MAX_BYTES]) -> usize {
        if self.scale == 0 && (1..10_000).contains(&self.mantissa) {
            out[..4].copy_from_slice(&(8u32 << 2).to_ne_bytes());
            out[4..6].copy_from_slice(&0x8000u16.to_ne_bytes());
            out[6..8].copy_from_slice(&(self.mantissa as u16).to_ne_bytes());
            return 8;
        }
        const POINT: usize = 5;
        let mut digits = [0u16; 9];
        let (groups, scale) = (usize::from(self.scale.div_ceil(4)), usize::from(self.scale));
        let (mut whole, mut rest) = (self.mantissa.unsigned_abs(), 0);
        if scale > 0 {
            (whole, rest) = (whole / POWERS[scale], whole % POWERS[scale] * POWERS[groups * 4 - scale]);
        }
        let mut end = POINT + groups;
        for digit in digits[POINT..end].iter_mut().rev() {
            *digit = (rest % 10_000) as u16;
            rest /= 10_000;
        }
        let mut first = POINT;
        while whole != 0 {
            first -= 1;
            digits[first] = (whole % 10_000) as u16;
            whole /= 10_000;
        }
        while first < end && digits[first] == 0 {
            first += 1;
        }
        while first < end && digits[end - 1] == 0 {
            end -= 1;
        }
        let zero = first == end;
        let weight = if zero { 0 } else { POINT as i32 - 1 - first as i32 };
        let sign = if self.mantissa < 0 { 0x2000 } else { 0 };
        let header = 0x8000 | sign | (u16::from(self.scale) << 7) | (weight as u16 & 0x7F);
        let size = 6 + 2 * (end - first);
        out[..4].copy_from_slice(&((size as u32) << 2).to_ne_bytes());
        out[4..6].copy_from_slice(&header.to_ne_bytes());
        for (to, digit) in out[6..size].as_chunks_mut::<2>().0.iter_mut().zip(&digits[first..end]) {
            *to = digit.to_ne_bytes();
        }
        size
    }

    /// The exact sum, where it fits.
    #[inline]
    pub fn plus(self, other: Decimal) -> Option<Decimal> {
        let scale = self.scale.max(other.scale);
        let raise = |d: Decimal| match usize::from(scale - d.scale) {
            0 => Some(d.mantissa),
            by => d.mantissa.checked_mul(POWERS[by] as i64),
        };
        Some(Decimal { mantissa: raise(self)?.checked_add(raise(other)?)?, scale })
    }

    fn order(self, other: Decimal) -> Ordering {
        let wide = |d: Decimal| i128::from(d.mantissa) * i128::from(POWERS[usize::from(MAX_SCALE - d.scale)]);
        wide(self).cmp(&wide(other))
    }
}

/// An exact number of any size.
#[derive(Clone, Copy)]
pub enum Number {
    /// One that fits.
    Small(Decimal),
    /// Any other.
    Big(Num),
}

impl Number {
    /// Nothing.
    pub const ZERO: Number = Number::Small(Decimal::whole(0));

    /// The value of a numeric's stored bytes, without their length word; None for NaN and the infinities.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Number> {
        match Decimal::read(payload) {
            Some(small) => Some(Number::Small(small)),
            None => {
                let header = payload.first_chunk().map(|b| u16::from_ne_bytes(*b))?;
                (header & 0xC000 != 0xC000).then(|| Number::Big(Num::of(payload)))
            }
        }
    }

    /// A whole `value` below 2^63 exactly, any other as the shortest decimal that reads back as it; None for NaN and the
    /// infinities.
    ///
    /// The rendering is Rust's, not PostgreSQL's, whose result depends on `extra_float_digits`.
    pub fn from_f64(value: f64) -> Option<Number> {
        const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
        if value.abs() < TWO_TO_63 && value.trunc() == value {
            return Some(Number::Small(Decimal::whole(value as i64)));
        }
        if !value.is_finite() {
            return None;
        }
        let text = format!("{value:e}");
        let small = text.split_once('e').and_then(|(digits, exponent)| {
            let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
            let scale = decimals.len() as i32 - exponent.parse::<i32>().ok()?;
            let scale = u8::try_from(scale).ok().filter(|scale| *scale <= MAX_SCALE)?;
            Some(Decimal { mantissa: format!("{whole}{decimals}").parse().ok()?, scale })
        });
        Some(match small {
            Some(small) => Number::Small(small),
            None => Number::from_num(Num::parse(&c_text(text))),
        })
    }

    /// The number of a numeric, which must be finite.
    pub fn from_num(num: Num) -> Number {
        Decimal::read(&num.bytes()[4..]).map_or(Number::Big(num), Number::Small)
    }

    /// This number as numeric, in the current context where it is not yet one.
    pub fn num(self) -> Num {
        match self {
            Number::Big(num) => num,
            Number::Small(small) if small.scale == 0 => Num::from_i64(small.mantissa),
            Number::Small(small) => {
                let mut bytes = [0; MAX_BYTES];
                let size = small.write(&mut bytes);
                Num::of(&bytes[4..size])
            }
        }
    }

    /// The exact sum; what does not fit is made in the current context.
    #[inline]
    pub fn plus(self, other: Number) -> Number {
        if let (Number::Small(a), Number::Small(b)) = (self, other)
            && let Some(sum) = a.plus(b)
        {
            return Number::Small(sum);
        }
        Number::from_num(self.num().plus(other.num()))
    }

    /// The number with the other sign; what does not fit is made in the current context.
    pub fn negated(self) -> Number {
        match self {
            Number::Small(Decimal { mantissa, scale }) if mantissa != i64::MIN => {
                Number::Small(Decimal { mantissa: -mantissa, scale })
            }
            _ => Number::from_num(self.num().negated()),
        }
    }

    /// How many decimals it shows.
    pub fn scale(self) -> i32 {
        match self {
            Number::Small(small) => i32::from(small.scale),
            Number::Big(num) => num.scale(),
        }
    }

    /// A number from 0 on divided by one from 1 on, with as many decimals as it has, rounded down.
    pub fn divided(self, divisor: i64) -> Number {
        match self {
            Number::Small(Decimal { mantissa, scale }) => {
                Number::Small(Decimal { mantissa: mantissa / divisor, scale })
            }
            Number::Big(num) => Number::from_num(num.divided(divisor, num.scale())),
        }
    }

    /// A double as a number of so many decimals, the nearest; None for NaN and the infinities.
    pub fn rounded(value: f64, scale: i32) -> Option<Number> {
        let text = value.is_finite().then(|| format!("{value:.*}", scale.max(0) as usize))?;
        Some(Number::from_num(Num::parse(&c_text(text))))
    }

    /// Whether it is below 0.
    pub fn is_negative(self) -> bool {
        self.order(Number::ZERO) == Ordering::Less
    }

    /// The whole number that it is, if it is one from 0 on that fits.
    pub fn whole(self) -> Option<u32> {
        match self {
            Number::Small(Decimal { mantissa, scale: 0 }) => u32::try_from(mantissa).ok(),
            _ => None,
        }
    }

    /// A copy that lives in `context`; what it held there before is freed by `free`.
    pub fn copy_to(self, context: crate::pg::aggcontext::Context) -> Number {
        match self {
            Number::Small(_) => self,
            Number::Big(num) => Number::Big(num.copy_to(context)),
        }
    }

    /// Frees what `copy_to` made.
    pub fn free(self) {
        if let Number::Big(num) = self {
            num.free();
        }
    }

    /// The order of values; 1.0 and 1 are equal.
    pub fn order(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Small(a), Number::Small(b)) => a.order(b),
            _ => self.num().order(other.num()),
        }
    }

    /// The nearest double, within its range.
    pub fn approximate(self) -> f64 {
        match self {
            Number::Small(small) => small.mantissa as f64 / POWERS[usize::from(small.scale)] as f64,
            Number::Big(num) => num.text().parse().map_or(0.0, |n: f64| n.clamp(f64::MIN, f64::MAX)),
        }
    }
}
