//! The value at the earliest or the latest time: state of the aggregates `rollup.first` and `rollup.last`.
use crate::pg::aggcontext::Context;
use crate::pg::error::raise;
use crate::pg::v1::Call;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;
use std::cmp::Ordering;

/// Tells this state from those of other aggregates, which a superuser can wire to these functions.
const TAG: u64 = u64::from_be_bytes(*b"extreme\0");

#[repr(C)]
struct State {
    tag: u64,
    time: i64,
    value: Datum,
    kind: *mut pg_sys::TypeCacheEntry,
}

crate::v1!(rollup_first_trans, first);
crate::v1!(rollup_last_trans, last);
crate::v1!(rollup_extreme_final, finish);

fn first(call: &mut Call) -> Datum {
    advance(call, Ordering::Less)
}

fn last(call: &mut Call) -> Datum {
    advance(call, Ordering::Greater)
}

/// Takes the row over where it comes `wanted` of the one that is kept. A row without value or time is none; of two
/// with one time the value decides, so that the order of rows does not.
fn advance(call: &mut Call, wanted: Ordering) -> Datum {
    let kept = call.arg(0);
    let (Some(value), Some(time)) = (call.arg(1), call.i64(2)) else {
        return kept.unwrap_or_else(|| call.null());
    };
    // SAFETY: argument 0 is our own state (declared internal), made below in the aggregate's context; the type
    // entry lives as long as the session.
    unsafe {
        let Some(kept) = kept else {
            let context = Context::of_aggregate(call);
            let state = pg_sys::MemoryContextAllocZero(context.raw(), size_of::<State>()).cast::<State>();
            let kind = describe(call);
            state.write(State { tag: TAG, time, value: copy(value, kind, context), kind });
            return Datum::from(state);
        };
        let state = kept_in(kept);
        let order = time.cmp(&state.time).then_with(|| compare(call, value, state));
        if order == wanted {
            let old = state.value;
            state.value = copy(value, state.kind, Context::of_aggregate(call));
            state.time = time;
            if !(*state.kind).typbyval {
                pg_sys::pfree(old.cast_mut_ptr());
            }
        }
        kept
    }
}

/// # Safety
/// `kept` is what a function over `internal` made, and no other reference to it is out.
unsafe fn kept_in<'a>(kept: Datum) -> &'a mut State {
    // SAFETY: every state begins with a tag or is longer than one.
    unsafe {
        let state = kept.cast_mut_ptr::<State>();
        if (*state).tag != TAG {
            raise(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, "the aggregate state is of another aggregate");
        }
        &mut *state
    }
}

/// # Safety
/// The call is one of an aggregate's transition function, its argument 1 the value.
unsafe fn describe(call: &Call) -> *mut pg_sys::TypeCacheEntry {
    // SAFETY: the call information is live.
    unsafe {
        let oid = pg_sys::get_fn_expr_argtype((*call.raw()).flinfo, 1);
        if oid == pg_sys::InvalidOid {
            raise(PgSqlErrorCode::ERRCODE_INDETERMINATE_DATATYPE, "could not determine input data type");
        }
        pg_sys::lookup_type_cache(oid, pg_sys::TYPECACHE_CMP_PROC_FINFO as i32)
    }
}

/// # Safety
/// `value` is of the state's type.
unsafe fn compare(call: &Call, value: Datum, state: &State) -> Ordering {
    // SAFETY: the comparison function belongs to the type.
    unsafe {
        let compare = &mut (*state.kind).cmp_proc_finfo;
        if compare.fn_oid == pg_sys::InvalidOid {
            raise(
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                "two rows have one time, and values of this type have no order to choose by",
            );
        }
        let collation = (*call.raw()).fncollation;
        (pg_sys::FunctionCall2Coll(compare, collation, value, state.value).value() as i32).cmp(&0)
    }
}

/// # Safety
/// `value` is of type `kind`.
unsafe fn copy(value: Datum, kind: *mut pg_sys::TypeCacheEntry, context: Context) -> Datum {
    // SAFETY: the length says how many bytes lie behind the pointer; so many are allocated.
    unsafe {
        if (*kind).typbyval {
            return value;
        }
        let (from, len): (*const u8, usize) = match (*kind).typlen {
            -1 => {
                let plain = pg_sys::pg_detoast_datum(value.cast_mut_ptr());
                (plain.cast(), pgrx::varsize_any(plain))
            }
            -2 => {
                let text = std::ffi::CStr::from_ptr(value.cast_mut_ptr());
                (text.as_ptr().cast(), text.to_bytes_with_nul().len())
            }
            len => (value.cast_mut_ptr::<u8>().cast_const(), len as usize),
        };
        let copied = pg_sys::MemoryContextAlloc(context.raw(), len).cast::<u8>();
        copied.copy_from_nonoverlapping(from, len);
        Datum::from(copied)
    }
}

fn finish(call: &mut Call) -> Datum {
    match call.arg(0) {
        // SAFETY: argument 0 is our own state. The value is copied, since a window's next row may replace and free it.
        Some(kept) => unsafe {
            let state = kept_in(kept);
            copy(state.value, state.kind, Context::current())
        },
        None => call.null(),
    }
}
