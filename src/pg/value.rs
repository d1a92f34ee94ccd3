//! Values that take more than a cast: cstrings, records, arrays of modifiers, any type's bytes.
use super::v1::{Call, varlena_payload};
use pgrx::pg_sys;
use std::ffi::CStr;

impl Call {
    /// Runs one of PostgreSQL's own functions on the arguments of this call.
    pub fn forward(&mut self, function: unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: the call information is live, and our declaration has the argument types of `function`.
        unsafe { function(self.raw()) }
    }

    /// The result record of this call, made of values that are not NULL.
    pub fn record(&mut self, values: &mut [pg_sys::Datum]) -> pg_sys::Datum {
        let mut nulls = vec![false; values.len()];
        // SAFETY: the call information is live; the descriptor comes from our declaration and its column
        // count is checked before the tuple is formed from as many values.
        unsafe {
            let mut descriptor = std::ptr::null_mut();
            let class = pg_sys::get_call_result_type(self.raw(), std::ptr::null_mut(), &mut descriptor);
            assert!(class == pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE, "the result is declared as a record");
            assert!((*descriptor).natts as usize == values.len(), "one value for each column of the result");
            let descriptor = pg_sys::BlessTupleDesc(descriptor);
            let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
        }
    }

    /// The array of type modifiers in argument 0, or what is wrong with it.
    pub fn modifiers(&self) -> Result<Vec<&CStr>, BadModifiers> {
        let Some(array) = self.arg(0) else { return Ok(Vec::new()) };
        // SAFETY: the declaration says cstring[]: the datum is an array, whose element type is checked
        // before its elements are taken as cstrings (typlen -2, by reference, byte alignment).
        unsafe {
            let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            if (*array).elemtype != pg_sys::CSTRINGOID {
                return Err(BadModifiers::NotCstring);
            }
            if (*array).ndim != 1 {
                return Err(BadModifiers::NotOneDimensional);
            }
            let (mut items, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            pg_sys::deconstruct_array(
                array,
                pg_sys::CSTRINGOID,
                -2,
                false,
                pg_sys::TYPALIGN_CHAR as std::ffi::c_char,
                &mut items,
                &mut nulls,
                &mut count,
            );
            let count = count as usize;
            if std::slice::from_raw_parts(nulls, count).contains(&true) {
                return Err(BadModifiers::Null);
            }
            Ok(std::slice::from_raw_parts(items, count)
                .iter()
                .map(|d| CStr::from_ptr(d.cast_mut_ptr()))
                .collect())
        }
    }
}

/// Why an array is no list of type modifiers.
pub enum BadModifiers {
    /// Its elements are not cstrings.
    NotCstring,
    /// It has no dimension, or more than one.
    NotOneDimensional,
    /// It contains a NULL.
    Null,
}

/// Copies `text` into a palloc'd cstring.
pub fn new_cstring(text: &str) -> pg_sys::Datum {
    // SAFETY: palloc gives len + 1 writable bytes or raises an error; the last one becomes the NUL.
    unsafe {
        let p = pg_sys::palloc(text.len() + 1).cast::<u8>();
        std::ptr::copy_nonoverlapping(text.as_ptr(), p, text.len());
        p.add(text.len()).write(0);
        pg_sys::Datum::from(p)
    }
}

/// A float8 result.
#[inline(always)]
pub fn float8(value: f64) -> pg_sys::Datum {
    pg_sys::Datum::from(value.to_bits())
}

/// The payload of a varlena that one of PostgreSQL's functions just returned, or None for its soft error.
pub fn returned_payload<'a>(returned: pg_sys::Datum) -> Option<&'a [u8]> {
    // SAFETY: callers pass the result of `forward` with a function that returns bytea; it lives in the
    // current memory context. A soft error returns the null pointer.
    (returned.value() != 0).then(|| unsafe { varlena_payload(returned) })
}

/// How the bytes of a value of some type are found.
#[derive(Clone, Copy)]
enum Shape {
    /// By value, of 1, 2, 4 or 8 bytes.
    ByValue(u8),
    Varlena,
    Cstring,
    /// By reference and of fixed length: what the type's send function gives.
    Sent,
}

/// What `any_bytes` remembers about its argument's type from call to call.
struct AnyType {
    shape: Shape,
    send: pg_sys::FmgrInfo,
}

/// The bytes of a value of any type.
pub enum AnyBytes<'a> {
    /// A value of 1, 2, 4 or 8 bytes, in the low bytes of the word.
    Fixed(u8, u64),
    /// Any other value.
    Long(&'a [u8]),
}

impl Call {
    /// The bytes of argument 0, declared anyelement; None when its type is not known.
    pub fn any_bytes(&mut self) -> Option<AnyBytes<'_>> {
        // SAFETY: the call information and its flinfo are live; fn_extra is ours alone and lives in
        // fn_mcxt as flinfo does. The datum is read by the length and passing that the catalog gives
        // for its type; each shape says how.
        unsafe {
            let value = self.arg(0)?;
            let flinfo = (*self.raw()).flinfo;
            if (*flinfo).fn_extra.is_null() {
                (*flinfo).fn_extra = any_type(flinfo)?.cast();
            }
            let known = &mut *(*flinfo).fn_extra.cast::<AnyType>();
            Some(match known.shape {
                Shape::ByValue(len) => AnyBytes::Fixed(len, value.value() as u64),
                Shape::Varlena => AnyBytes::Long(varlena_payload(value)),
                Shape::Cstring => AnyBytes::Long(CStr::from_ptr(value.cast_mut_ptr()).to_bytes()),
                Shape::Sent => {
                    let sent = pg_sys::SendFunctionCall(&mut known.send, value);
                    AnyBytes::Long(varlena_payload(pg_sys::Datum::from(sent)))
                }
            })
        }
    }
}

/// Looks the type of argument 0 up, once for each place that calls.
///
/// # Safety
/// `flinfo` must be live.
#[cold]
unsafe fn any_type(flinfo: *mut pg_sys::FmgrInfo) -> Option<*mut AnyType> {
    // SAFETY: flinfo is live; the catalog functions write to the locals they are given, and the new
    // AnyType is all zero (a valid FmgrInfo before fmgr_info_cxt) until it is filled.
    unsafe {
        let type_ = pg_sys::get_fn_expr_argtype(flinfo, 0);
        if type_ == pg_sys::InvalidOid {
            return None;
        }
        let (mut len, mut by_value) = (0i16, false);
        pg_sys::get_typlenbyval(type_, &mut len, &mut by_value);
        let known =
            pg_sys::MemoryContextAllocZero((*flinfo).fn_mcxt, size_of::<AnyType>()).cast::<AnyType>();
        let shape = match len {
            1 | 2 | 4 | 8 if by_value => Shape::ByValue(len as u8),
            -1 => Shape::Varlena,
            -2 => Shape::Cstring,
            _ => {
                let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
                pg_sys::getTypeBinaryOutputInfo(type_, &mut function, &mut is_varlena);
                pg_sys::fmgr_info_cxt(function, &raw mut (*known).send, (*flinfo).fn_mcxt);
                Shape::Sent
            }
        };
        (&raw mut (*known).shape).write(shape);
        Some(known)
    }
}
