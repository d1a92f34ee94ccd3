//! The bytes of a value of any type, as `hll_hash_any` hashes them.
//!
//! Which bytes depends on the type alone, so the choice is made at the first row and kept in `fn_extra`.
use crate::pg::error::raise;
use crate::pg::v1::{Call, varlena_payload};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;
use std::ffi::CStr;

/// What is hashed of a value.
#[derive(Debug)]
pub enum Value<'a> {
    /// The low byte of the datum.
    One(u8),
    /// The low two bytes of the datum.
    Two(u16),
    /// The low four bytes of the datum.
    Four(i32),
    /// The whole datum.
    Eight(i64),
    /// A payload.
    Bytes(&'a [u8]),
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    One,
    Two,
    Four,
    Eight,
    Varlena,
    Cstring,
    Sent,
}

struct Cached {
    shape: Shape,
    send: pg_sys::FmgrInfo,
}

/// The bytes of argument `n`, None where it is NULL.
pub fn value(call: &Call, n: usize) -> Option<Value<'_>> {
    let datum = call.arg(n)?;
    // SAFETY: the cached shape was made from the declared type of this argument at this call site.
    unsafe {
        let flinfo = (*call.raw()).flinfo;
        if (*flinfo).fn_extra.is_null() {
            (*flinfo).fn_extra = describe(flinfo, n).cast();
        }
        let cached = (*flinfo).fn_extra.cast::<Cached>();
        Some(match (*cached).shape {
            Shape::One => Value::One(datum.value() as u8),
            Shape::Two => Value::Two(datum.value() as u16),
            Shape::Four => Value::Four(datum.value() as i32),
            Shape::Eight => Value::Eight(datum.value() as i64),
            Shape::Varlena => Value::Bytes(varlena_payload(datum)),
            Shape::Cstring => Value::Bytes(CStr::from_ptr(datum.cast_mut_ptr()).to_bytes()),
            Shape::Sent => {
                let sent = pg_sys::SendFunctionCall(&mut (*cached).send, datum);
                Value::Bytes(varlena_payload(Datum::from(sent)))
            }
        })
    }
}

/// # Safety
/// `flinfo` must be the live lookup information of a running call.
unsafe fn describe(flinfo: *mut pg_sys::FmgrInfo, n: usize) -> *mut Cached {
    // SAFETY: the caller vouches for flinfo; the cache lies in the context that lives as long as flinfo.
    unsafe {
        let oid = pg_sys::get_fn_expr_argtype(flinfo, n as i32);
        if oid == pg_sys::InvalidOid {
            raise(PgSqlErrorCode::ERRCODE_INDETERMINATE_DATATYPE, "could not determine input data type");
        }
        let (mut len, mut byval) = (0i16, false);
        pg_sys::get_typlenbyval(oid, &mut len, &mut byval);
        let shape = match (len, byval) {
            (1, true) => Shape::One,
            (2, true) => Shape::Two,
            (4, true) => Shape::Four,
            (8, true) => Shape::Eight,
            (-1, _) => Shape::Varlena,
            (-2, _) => Shape::Cstring,
            // of fixed length behind a pointer: the wire form is the same on every machine
            _ => Shape::Sent,
        };
        let cached = pg_sys::MemoryContextAllocZero((*flinfo).fn_mcxt, size_of::<Cached>()).cast::<Cached>();
        (*cached).shape = shape;
        if shape == Shape::Sent {
            let (mut send, mut varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeBinaryOutputInfo(oid, &mut send, &mut varlena);
            pg_sys::fmgr_info_cxt(send, &mut (*cached).send, (*flinfo).fn_mcxt);
        }
        cached
    }
}
