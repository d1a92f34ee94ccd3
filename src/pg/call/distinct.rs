//! A 64-bit hash of a value of any type that is equal for values that the type calls equal.
//!
//! Where the type's default btree operator class says that equal values have equal bytes (its support
//! function "equalimage"), the bytes are hashed by XXH3; elsewhere (numeric, float, interval, citext, text
//! under a nondeterministic collation, arrays ...) the type's own extended hash function runs first. Which of
//! them depends on the type and collation alone, so the choice is made at the first row and kept in `fn_extra`.
use crate::pg::error::raise;
use crate::pg::v1::{Call, varlena_payload};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;
use std::ffi::CStr;
use xxhash_rust::xxh3::xxh3_64;

/// Number of the btree support function that says whether equal values have equal bytes.
const EQUALIMAGE: i16 = 4;

#[derive(Clone, Copy)]
enum Shape {
    /// The datum is the value, of so many bytes.
    Word(usize),
    /// A pointer to so many bytes.
    Fixed(usize),
    Varlena,
    Cstring,
    /// The type's own hash function.
    Own,
}

struct Cached {
    shape: Shape,
    /// An entry of the type cache, which lasts as long as the backend.
    entry: *mut pg_sys::TypeCacheEntry,
}

/// The hash of argument `n`, None where it is NULL.
#[inline]
pub fn hash(call: &Call, n: usize) -> Option<i64> {
    let datum = call.arg(n)?;
    // SAFETY: the cached shape was made from the declared type of this argument at this call site; lengths are
    // those of the type.
    unsafe {
        let flinfo = (*call.raw()).flinfo;
        if (*flinfo).fn_extra.is_null() {
            (*flinfo).fn_extra = describe(call, n).cast();
        }
        let cached = (*flinfo).fn_extra.cast::<Cached>();
        let hash = match (*cached).shape {
            // two's complement, little-endian: the low bytes are the value
            Shape::Word(len) => xxh3_64(&datum.value().to_le_bytes()[..len]),
            Shape::Fixed(len) => xxh3_64(std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), len)),
            Shape::Varlena => xxh3_64(varlena_payload(datum)),
            Shape::Cstring => xxh3_64(CStr::from_ptr(datum.cast_mut_ptr()).to_bytes()),
            Shape::Own => {
                let finfo = &raw mut (*(*cached).entry).hash_extended_proc_finfo;
                let seed = Datum::from(0i64);
                let own = pg_sys::FunctionCall2Coll(finfo, (*call.raw()).fncollation, datum, seed);
                xxh3_64(&own.value().to_le_bytes())
            }
        };
        Some(hash as i64)
    }
}

/// # Safety
/// `call` must be a running call.
#[cold]
unsafe fn describe(call: &Call, n: usize) -> *mut Cached {
    // SAFETY: the call is live; the cache lies in the context that lives as long as flinfo; the type cache
    // gives a live entry for every type there is.
    unsafe {
        let flinfo = (*call.raw()).flinfo;
        let oid = pg_sys::get_fn_expr_argtype(flinfo, n as i32);
        if oid == pg_sys::InvalidOid {
            raise(PgSqlErrorCode::ERRCODE_INDETERMINATE_DATATYPE, "could not determine input data type");
        }
        let wanted = pg_sys::TYPECACHE_BTREE_OPFAMILY | pg_sys::TYPECACHE_HASH_EXTENDED_PROC_FINFO;
        let entry = pg_sys::lookup_type_cache(oid, wanted as i32);
        let shape = if is_equal_by_image(&*entry, (*call.raw()).fncollation) {
            match ((*entry).typlen, (*entry).typbyval) {
                (-1, _) => Shape::Varlena,
                (-2, _) => Shape::Cstring,
                (len, true) => Shape::Word(len as usize),
                (len, false) => Shape::Fixed(len as usize),
            }
        } else if (*entry).hash_extended_proc != pg_sys::InvalidOid {
            Shape::Own
        } else {
            let name = CStr::from_ptr(pg_sys::format_type_be(oid)).to_string_lossy();
            raise(
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                format!("could not identify a hash function for type {name}"),
            )
        };
        let cached = pg_sys::MemoryContextAlloc((*flinfo).fn_mcxt, size_of::<Cached>()).cast::<Cached>();
        cached.write(Cached { shape, entry });
        cached
    }
}

/// # Safety
/// `entry` must have its btree operator family looked up.
unsafe fn is_equal_by_image(entry: &pg_sys::TypeCacheEntry, collation: pg_sys::Oid) -> bool {
    let class_type = entry.btree_opintype;
    // Equal values of char(n) have equal bytes in a column, which is all that its class says: not where lengths differ.
    if entry.btree_opf == pg_sys::InvalidOid || class_type == pg_sys::BPCHAROID {
        return false;
    }
    // SAFETY: plain catalog lookups; the support function takes the operator class's input type.
    unsafe {
        let says = pg_sys::get_opfamily_proc(entry.btree_opf, class_type, class_type, EQUALIMAGE);
        says != pg_sys::InvalidOid
            && pg_sys::OidFunctionCall1Coll(says, collation, Datum::from(class_type)).value() & 0xff != 0
    }
}
