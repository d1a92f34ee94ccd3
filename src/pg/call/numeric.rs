//! PostgreSQL's `numeric`.
use crate::pg::aggcontext::Context;
use crate::pg::error::raise;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use std::cmp::Ordering;
use std::ffi::CStr;

/// A valid, de-toasted numeric with a length word of four bytes, somewhere in PostgreSQL's memory.
#[derive(Clone, Copy)]
pub struct Num(pg_sys::Numeric);

impl Num {
    /// The number of these stored bytes, without their length word: an aligned copy in the current context.
    pub fn of(payload: &[u8]) -> Num {
        assert!(payload.len() >= 2, "a numeric of {} bytes", payload.len());
        let size = payload.len() + pg_sys::VARHDRSZ;
        // SAFETY: palloc gives as many bytes as are written; the length word says no more.
        unsafe {
            let copy = pg_sys::palloc(size).cast::<u8>();
            pgrx::set_varsize_4b(copy.cast(), size as i32);
            std::ptr::copy_nonoverlapping(payload.as_ptr(), copy.add(pg_sys::VARHDRSZ), payload.len());
            Num(copy.cast())
        }
    }

    /// The stored bytes, length word included.
    pub fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: a Num is a valid numeric that outlives every use of the value.
        unsafe { std::slice::from_raw_parts(self.0.cast::<u8>(), pgrx::varsize_any(self.0.cast())) }
    }

    /// The value of an integer, in the current context.
    pub fn from_i64(value: i64) -> Num {
        // SAFETY: returns a palloc'd numeric or raises an error.
        Num(unsafe { pg_sys::int64_to_numeric(value) })
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
    pub fn text(self) -> &'static str {
        let args = [Some(self.datum())];
        // SAFETY: numeric_out returns a palloc'd C string; callers copy it within the call.
        match unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_out, &args) } {
            // SAFETY: the string ends in NUL.
            Some(d) => unsafe { CStr::from_ptr(d.cast_mut_ptr()) }.to_str().expect("digits"),
            None => unreachable!("numeric_out returned NULL"),
        }
    }

    /// The exact sum, in the current context; SQLSTATE 22003 where it is too large for numeric.
    pub fn plus(self, other: Num) -> Num {
        let mut overflow = false;
        // SAFETY: both are valid numerics; the result counts only where the flag was left alone.
        let sum = unsafe { pg_sys::numeric_add_opt_error(self.0, other.0, &mut overflow) };
        if overflow {
            raise(
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                "the sum of two numbers has more digits than numeric can hold",
            );
        }
        Num(sum)
    }

    /// The number with the other sign, in the current context.
    pub fn negated(self) -> Num {
        // SAFETY: numeric_uminus(numeric) returns a palloc'd numeric.
        match unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_uminus, &[Some(self.datum())]) } {
            Some(d) => Num(d.cast_mut_ptr()),
            None => unreachable!("numeric_uminus returned NULL"),
        }
    }

    /// The quotient by a number from 1 on, cut off behind `scale` decimals, of which this one has no more; in the current
    /// context. numeric_div rounds, to no fewer decimals: the result is not below the exact one cut off.
    pub fn divided(self, divisor: i64, scale: i32) -> Num {
        let by = Some(Num::from_i64(divisor).datum());
        // SAFETY: numeric_div(numeric, numeric) and numeric_trunc(numeric, int4) return palloc'd numerics.
        let quotient = unsafe {
            let quotient =
                pgrx::direct_function_call_as_datum(pg_sys::numeric_div, &[Some(self.datum()), by]);
            let args = [quotient, Some(pg_sys::Datum::from(scale))];
            pgrx::direct_function_call_as_datum(pg_sys::numeric_trunc, &args)
        };
        match quotient {
            Some(d) => Num(d.cast_mut_ptr()),
            None => unreachable!("numeric_trunc returned NULL"),
        }
    }

    /// How many decimals it shows.
    pub fn scale(self) -> i32 {
        // SAFETY: numeric_scale(numeric) returns an int4.
        let scale =
            unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_scale, &[Some(self.datum())]) };
        scale.map_or(0, |d| d.value() as i32)
    }

    /// The order of values.
    pub fn order(self, other: Num) -> Ordering {
        let args = [Some(self.datum()), Some(other.datum())];
        // SAFETY: numeric_cmp(numeric, numeric) returns an int4.
        let order = unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_cmp, &args) };
        order.map_or(Ordering::Equal, |d| (d.value() as i32).cmp(&0))
    }

    /// A copy that lives in `context`.
    pub fn copy_to(self, context: Context) -> Num {
        let bytes = self.bytes();
        // SAFETY: the new block has the size of the bytes copied into it.
        unsafe {
            let copy = pg_sys::MemoryContextAlloc(context.raw(), bytes.len());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast::<u8>(), bytes.len());
            Num(copy.cast())
        }
    }

    /// Frees a number that `copy_to` made.
    pub fn free(self) {
        // SAFETY: only owners of a copy call this, once.
        unsafe { pg_sys::pfree(self.0.cast()) }
    }

    /// This number as a `numeric` datum.
    pub fn datum(self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0)
    }

    /// The address, as an integer that `from_word` takes back.
    pub(in crate::pg) fn word(self) -> u64 {
        self.0 as u64
    }

    /// # Safety
    /// `word` must come from `word` of a number that is still there.
    pub(in crate::pg) unsafe fn from_word(word: u64) -> Num {
        Num(word as usize as pg_sys::Numeric)
    }
}
