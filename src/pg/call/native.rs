//! PostgreSQL's own functions that the SQL faces lean on: bytea text, arrays, records, strings.
use crate::pg::error::raise;
use crate::pg::v1::Call;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;
use std::ffi::CStr;

type Native = unsafe fn(pg_sys::FunctionCallInfo) -> Datum;

/// Runs a strict built-in function of one argument on argument `n` of this call.
fn call_native(call: &Call, n: usize, function: Native) -> Datum {
    let argument = call.arg(n);
    // SAFETY: each caller below pairs a built-in function with the argument type it takes.
    unsafe { pgrx::direct_function_call_as_datum(function, &[argument]) }.unwrap_or_else(|| {
        raise(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "a built-in function returned NULL")
    })
}

/// Cstring argument `n` read as bytea text (hex or escape form).
pub fn bytea_in(call: &Call, n: usize) -> Datum {
    call_native(call, n, pg_sys::byteain)
}

/// Bytea argument `n` as text in the form that `bytea_output` asks for.
pub fn bytea_out(call: &Call, n: usize) -> Datum {
    call_native(call, n, pg_sys::byteaout)
}

/// The rest of the message in `internal` argument `n`, as a bytea.
pub fn bytea_recv(call: &Call, n: usize) -> Datum {
    call_native(call, n, pg_sys::bytearecv)
}

/// Cstring argument `n` read as a bigint.
pub fn int8_in(call: &Call, n: usize) -> Datum {
    call_native(call, n, pg_sys::int8in)
}

/// Bigint argument `n` as text.
pub fn int8_out(call: &Call, n: usize) -> Datum {
    call_native(call, n, pg_sys::int8out)
}

/// The next eight bytes of the message in `internal` argument `n`, as a bigint.
pub fn int8_recv(call: &Call, n: usize) -> Datum {
    call_native(call, n, pg_sys::int8recv)
}

/// The payload of a bytea that one of the functions above just made.
pub fn payload(_call: &Call, bytea: Datum) -> &[u8] {
    // SAFETY: a fresh bytea lies in the call's memory context, which outlives the call.
    unsafe { crate::pg::v1::varlena_payload(bytea) }
}

/// Whether `bytes` could be a `text` of this database: valid in its encoding, and no NUL.
pub fn is_text(bytes: &[u8]) -> bool {
    if bytes.iter().all(|b| (1..0x80).contains(b)) {
        return true;
    }
    // SAFETY: the function reads as many bytes as it is told, and raises nothing when told not to.
    i32::try_from(bytes.len())
        .is_ok_and(|n| unsafe { pg_sys::pg_verifymbstr(bytes.as_ptr().cast(), n, true) })
}

/// Copies `text` into a palloc'd cstring. Text that holds a NUL ends there.
pub fn cstring(text: &str) -> Datum {
    let bytes = text.as_bytes();
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    // SAFETY: len + 1 bytes are allocated and all are written.
    unsafe {
        let p = pg_sys::palloc(len + 1).cast::<u8>();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, len);
        p.add(len).write(0);
        Datum::from(p)
    }
}

/// The text of cstring argument `n`.
pub fn cstring_argument(call: &Call, n: usize) -> String {
    let Some(datum) = call.arg(n) else { return String::new() };
    // SAFETY: the declaration says cstring, which ends in NUL.
    unsafe { CStr::from_ptr(datum.cast_mut_ptr()) }.to_string_lossy().into_owned()
}

/// The type modifiers that the parser collected in argument `n`, a `cstring[]`.
pub fn typmod_strings(call: &Call, n: usize) -> Vec<String> {
    let Some(datum) = call.arg(n) else { return Vec::new() };
    // SAFETY: the declaration says cstring[]; the header says what it holds before elements are read.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        if (*array).elemtype != pg_sys::CSTRINGOID {
            raise(PgSqlErrorCode::ERRCODE_ARRAY_ELEMENT_ERROR, "typmod array must be type cstring[]");
        }
        if (*array).ndim != 1 {
            raise(PgSqlErrorCode::ERRCODE_ARRAY_ELEMENT_ERROR, "typmod array must be one-dimensional");
        }
        if pg_sys::array_contains_nulls(array) {
            raise(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "typmod array must not contain nulls");
        }
        let (mut elements, mut count) = (std::ptr::null_mut::<Datum>(), 0);
        pg_sys::deconstruct_array(
            array,
            pg_sys::CSTRINGOID,
            -2,
            false,
            pg_sys::TYPALIGN_CHAR as std::ffi::c_char,
            &mut elements,
            std::ptr::null_mut(),
            &mut count,
        );
        std::slice::from_raw_parts(elements, count as usize)
            .iter()
            .map(|d| CStr::from_ptr(d.cast_mut_ptr()).to_string_lossy().into_owned())
            .collect()
    }
}

/// The values in argument `n`, an array of a type that is passed as 8 bytes; NULL elements are left out.
pub fn words(call: &Call, n: usize) -> Option<&[i64]> {
    let datum = call.arg(n)?;
    // SAFETY: the declaration says such an array. Elements are stored without gaps, aligned to 8 bytes, and a NULL
    // takes no room, so that the values are all that follows the header; the array's length word counts them.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let header = match (*array).dataoffset {
            0 => (size_of::<pg_sys::ArrayType>() + 2 * size_of::<i32>() * (*array).ndim as usize)
                .next_multiple_of(8),
            with_nulls => with_nulls as usize,
        };
        let len = pgrx::varsize_any(array.cast()).saturating_sub(header) / size_of::<i64>();
        Some(std::slice::from_raw_parts(array.cast::<u8>().add(header).cast::<i64>(), len))
    }
}

/// The elements of array argument `n`, whose type is that of `T`; none of NULL.
fn array<T>(call: &Call, n: usize) -> Vec<Option<T>>
where
    Vec<Option<T>>: FromDatum,
{
    // SAFETY: each caller below pairs the type of its elements with the declaration.
    call.arg(n).and_then(|datum| unsafe { FromDatum::from_datum(datum, false) }).unwrap_or_default()
}

/// The elements of argument `n`, a `double precision[]`.
pub fn floats(call: &Call, n: usize) -> Vec<Option<f64>> {
    array(call, n)
}

/// The elements of argument `n`, a `bigint[]`.
pub fn bigints(call: &Call, n: usize) -> Vec<Option<i64>> {
    array(call, n)
}

/// The elements of argument `n`, an `integer[]`.
pub fn integers(call: &Call, n: usize) -> Vec<Option<i32>> {
    array(call, n)
}

/// A `double precision[]`.
pub fn float_array(values: Vec<Option<f64>>) -> Datum {
    values.into_datum().unwrap_or(Datum::from(0usize))
}

/// A record of the call's declared OUT columns; None is NULL.
pub fn record_of(call: &Call, values: &[Option<Datum>]) -> Datum {
    let mut datums: Vec<Datum> = values.iter().map(|v| v.unwrap_or(Datum::from(0usize))).collect();
    let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
    form_record(call, &mut datums, &mut nulls)
}

/// A record of the call's declared OUT columns, none of them NULL.
pub fn record(call: &Call, values: &mut [Datum]) -> Datum {
    let mut nulls = vec![false; values.len()];
    form_record(call, values, &mut nulls)
}

fn form_record(call: &Call, values: &mut [Datum], nulls: &mut [bool]) -> Datum {
    let mut desc: pg_sys::TupleDesc = std::ptr::null_mut();
    // SAFETY: the call is live; the number of columns is compared before the tuple is formed.
    unsafe {
        let class = pg_sys::get_call_result_type(call.raw(), std::ptr::null_mut(), &mut desc);
        if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE || (*desc).natts as usize != values.len() {
            raise(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "function returning record called in context that cannot accept type record",
            );
        }
        let desc = pg_sys::BlessTupleDesc(desc);
        let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// Sets a setting outside the rules of transactions: no ROLLBACK takes it back, and parallel workers
/// receive it from their leader as they receive every other setting.
pub fn set_session_setting(name: &CStr, value: &CStr) {
    // SAFETY: both strings are NUL-terminated. The `override` source changes the reset value too, which is
    // what takes the change out of the transaction's stack.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_BACKEND,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}
