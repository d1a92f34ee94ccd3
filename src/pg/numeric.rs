//! Numbers as jsonb holds them: PostgreSQL's `numeric`, read directly where it is a whole number.
use super::aggcontext::Context;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// A valid, de-toasted numeric somewhere in PostgreSQL's memory.
#[derive(Clone, Copy)]
pub struct Num(pg_sys::Numeric);

/// Base-10000 weight of the largest whole number that surely fits i128 (below 10^36).
const MAX_WEIGHT: i32 = 8;

impl Num {
    /// The number whose stored bytes, length word included, lie in a jsonb document: a copy that is aligned, in the
    /// current context.
    pub fn of(bytes: &[u8]) -> Num {
        assert!(bytes.len() >= 6, "a numeric of {} bytes", bytes.len());
        // SAFETY: palloc gives as many bytes as are copied; the length word is made to say no more.
        unsafe {
            let copy = pg_sys::palloc(bytes.len()).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            pgrx::set_varsize_4b(copy.cast(), bytes.len() as i32);
            Num(copy.cast())
        }
    }

    /// The stored bytes, length word included.
    pub fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: a Num is a valid numeric that outlives every use of the value.
        unsafe { std::slice::from_raw_parts(self.0.cast::<u8>(), pgrx::varsize_any(self.0.cast())) }
    }

    /// The value where it is a whole number, see [`whole_of`].
    #[inline]
    pub fn whole(self) -> Option<i128> {
        whole_of(self.bytes())
    }

    /// `value` as numeric, in the current context.
    pub fn from_i128(value: i128) -> Num {
        match i64::try_from(value) {
            // SAFETY: returns a palloc'd numeric or raises an error.
            Ok(v) => Num(unsafe { pg_sys::int64_to_numeric(v) }),
            Err(_) => Num::parse(&CString::new(value.to_string()).unwrap_or_default()),
        }
    }

    /// Reads numeric's text form.
    pub fn parse(text: &CStr) -> Num {
        let args = [
            Some(pg_sys::Datum::from(text.as_ptr())),
            Some(pg_sys::Datum::from(0)),
            Some(pg_sys::Datum::from(-1i32)),
        ];
        // SAFETY: numeric_in(cstring, oid, int4) returns a palloc'd numeric or raises an error.
        match unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_in, &args) } {
            Some(d) => Num(d.cast_mut_ptr()),
            None => unreachable!("numeric_in returned NULL"),
        }
    }

    /// numeric's text form, which is the same on every machine.
    pub fn text(self) -> &'static [u8] {
        let args = [Some(pg_sys::Datum::from(self.0))];
        // SAFETY: numeric_out returns a palloc'd C string; callers copy it within the call.
        match unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_out, &args) } {
            // SAFETY: the string ends in NUL.
            Some(d) => unsafe { CStr::from_ptr(d.cast_mut_ptr()) }.to_bytes(),
            None => unreachable!("numeric_out returned NULL"),
        }
    }

    /// The exact sum, in the current context; PostgreSQL raises 22003 where it is too large for numeric.
    pub fn plus(self, other: Num) -> Num {
        // SAFETY: both are valid numerics; without an error flag an overflow is raised.
        Num(unsafe { pg_sys::numeric_add_opt_error(self.0, other.0, std::ptr::null_mut()) })
    }

    /// A copy that lives in `context`.
    pub fn copy_to(self, context: Context) -> Num {
        // SAFETY: the size is the numeric's own; the new block has that size.
        unsafe {
            let size = pgrx::varsize_any(self.0.cast());
            let copy = pg_sys::MemoryContextAlloc(context.raw(), size);
            std::ptr::copy_nonoverlapping(self.0.cast::<u8>(), copy.cast::<u8>(), size);
            Num(copy.cast())
        }
    }

    /// Frees a number that `copy_to` made.
    pub fn free(self) {
        // SAFETY: only owners of a copy call this, once.
        unsafe { pg_sys::pfree(self.0.cast()) }
    }
}

/// The value of a numeric's stored bytes, length word included, where it is written without decimals and is below
/// 10^36 in magnitude.
///
/// `2.0` is not whole here: its scale must survive addition as numeric's own addition keeps it.
#[inline]
pub fn whole_of(bytes: &[u8]) -> Option<i128> {
    let body = bytes.get(4..)?;
    let word = |i: usize| body.get(i..i + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    let header = word(0)?;
    let (negative, scale, weight, first) = match header & 0xC000 {
        0x8000 => {
            let low = (header & 0x3F) as i32;
            let weight = if header & 0x40 != 0 { low - 64 } else { low };
            (header & 0x2000 != 0, (header & 0x1F80) >> 7, weight, 2)
        }
        0xC000 => return None, // NaN and the infinities
        sign => (sign == 0x4000, header & 0x3FFF, word(2)? as i16 as i32, 4),
    };
    if scale != 0 || weight > MAX_WEIGHT {
        return None;
    }
    let digits = (body.len() - first) / 2;
    if digits == 0 {
        return Some(0);
    }
    // Trailing zero digits are not stored; a digit past the weight would be a decimal.
    if weight < 0 || digits as i32 > weight + 1 {
        return None;
    }
    let mut value = 0i128;
    for i in 0..=weight as usize {
        let digit = if i < digits { word(first + 2 * i)? } else { 0 };
        value = value * 10_000 + digit as i128;
    }
    Some(if negative { -value } else { value })
}
