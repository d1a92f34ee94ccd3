//! Aggregate states behind SQL's `internal`: made once per group, then only dereferenced.
use crate::pg::error::{raise, raise_with_hint};
use crate::pg::memory::ContextMemory;
use crate::pg::v1::Call;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

/// A kind of aggregate state. The tag tells apart states of different aggregates, because a superuser can
/// wire any function over `internal` to any other.
pub trait State {
    /// A number no other kind of state uses.
    const TAG: u64;
}

#[repr(C)]
struct Tagged<T> {
    tag: u64,
    value: T,
}

/// The memory that lives as long as the group, or None when the call is not part of an aggregate.
pub fn context(call: &Call) -> Option<ContextMemory> {
    let mut cx: pg_sys::MemoryContext = std::ptr::null_mut();
    // SAFETY: the call information is live; the aggregate's context outlives every state put into it.
    unsafe {
        (pg_sys::AggCheckCallContext(call.raw(), &mut cx) != 0 && !cx.is_null())
            .then(|| ContextMemory::new(cx))
    }
}

/// As `context`, raising `function outside place context` where there is none.
pub fn context_or_raise(call: &Call, function: &str, place: &str) -> ContextMemory {
    match context(call) {
        Some(cx) => cx,
        None => raise_with_hint(
            PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
            format!("{function} outside {place} context"),
            "Call the aggregate itself, such as hll_add_agg, hll_union_agg or approx_count_distinct.",
        ),
    }
}

/// Moves `value` into `memory` and returns the pointer that SQL carries as `internal`. It is never dropped:
/// the memory context frees it.
pub fn new_state<T: State>(memory: ContextMemory, value: T) -> Datum {
    const { assert!(align_of::<Tagged<T>>() <= 8, "palloc aligns to 8 bytes") }
    // SAFETY: the chunk is big enough, aligned to 8 bytes, and written before its address leaves.
    unsafe {
        let p = pg_sys::MemoryContextAlloc(memory.raw(), size_of::<Tagged<T>>()).cast::<Tagged<T>>();
        p.write(Tagged { tag: T::TAG, value });
        Datum::from(p)
    }
}

/// The state in `internal` argument `n`, or None where it is NULL.
#[inline(always)]
fn pointer<T: State>(call: &Call, n: usize) -> Option<*mut T> {
    let p = call.arg(n)?.cast_mut_ptr::<Tagged<T>>();
    // SAFETY: SQL cannot make a non-NULL `internal`; it comes from `new_state` here, or from another
    // function over `internal`, whose state is at least 8 bytes long and does not carry our tag.
    unsafe {
        if (*p).tag != T::TAG {
            raise(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, "the aggregate state is of another aggregate");
        }
        Some(&raw mut (*p).value)
    }
}

/// The state that `new_state` gave.
///
/// # Safety
/// `state` came from `new_state` for any kind of state, and nobody else looks at it meanwhile.
#[inline(always)]
pub unsafe fn state_at<'a, T: State>(state: Datum) -> &'a mut T {
    let p = state.cast_mut_ptr::<Tagged<T>>();
    // SAFETY: the caller vouches for the address; the tag says what is there.
    unsafe {
        if (*p).tag != T::TAG {
            raise(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, "the aggregate state is of another aggregate");
        }
        &mut (*p).value
    }
}

/// The state in `internal` argument `n`, to be read.
#[inline(always)]
pub fn state<T: State>(call: &Call, n: usize) -> Option<&T> {
    // SAFETY: `pointer` checked the tag; nothing writes to a state while the call is borrowed shared.
    pointer(call, n).map(|p| unsafe { &*p })
}

/// The state in `internal` argument `n`, to be changed.
#[inline(always)]
pub fn state_mut<T: State>(call: &mut Call, n: usize) -> Option<&mut T> {
    // SAFETY: `pointer` checked the tag; the call is borrowed alone, so no other reference is out.
    pointer(call, n).map(|p| unsafe { &mut *p })
}

/// Whether rows come from a plan node that aggregates what it is given, false in a window's frame, whose rows were
/// copied and come again and again.
#[inline(always)]
fn is_scan(call: &Call) -> bool {
    // SAFETY: fcinfo is live, and its context is NULL or a node.
    unsafe {
        let node = (*call.raw()).context;
        !node.is_null() && (*node).type_ == pg_sys::NodeTag::T_AggState
    }
}

/// The state in argument 0, to be changed, and the payload of varlena argument 1.
#[inline(always)]
pub fn state_and_bytes<T: State>(call: &mut Call) -> (Option<&mut T>, Option<&[u8]>) {
    let bytes = if is_scan(call) { call.scanned(1) } else { call.bytes(1) };
    // SAFETY: as in `state_mut`; a varlena and a state are different chunks of memory.
    (pointer(call, 0).map(|p| unsafe { &mut *p }), bytes)
}

/// The states in arguments 0, to be changed, and 1, to be read. A state is never its own partner.
pub fn state_pair<T: State>(call: &mut Call) -> (Option<&mut T>, Option<&T>) {
    let (left, right) = (pointer::<T>(call, 0), pointer::<T>(call, 1));
    let right = right.filter(|_| left != right);
    // SAFETY: as in `state_mut`; the two pointers differ, and states do not overlap.
    unsafe { (left.map(|p| &mut *p), right.map(|p| &*p)) }
}
