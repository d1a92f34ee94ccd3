//! Aggregate states of a plain SQL type: an expanded object while it grows, a compact varlena wherever it is stored
//! or sent (src/include/utils/expandeddatum.h).
//!
//! A plain type lets Citus split an aggregate between workers and coordinator, which it cannot do with `internal`; the
//! expanded form spares each row the reading and writing of the whole state. PostgreSQL hands the same pointer back from
//! row to row, and asks for the compact form by itself where one is needed.
use crate::pg::aggcontext::Context;
use crate::pg::array::Array;
use crate::pg::error::raise;
use crate::pg::v1::{Call, varlena_payload};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_void;

/// What a state holds.
pub trait Flatten {
    /// A number no other kind of expanded state uses.
    const TAG: u64;

    /// Appends the compact form to `out`, which grows in `context`.
    fn flatten(&self, out: &mut Array<u8>, context: Context);
}

/// A state, with what PostgreSQL needs to handle it.
#[repr(C)]
pub struct Expanded<T: Flatten> {
    header: pg_sys::ExpandedObjectHeader,
    tag: u64,
    /// The compact form, between the question for its size and the writing of it.
    flat: Array<u8>,
    context: Context,
    value: T,
}

/// A state that came as an argument.
pub enum Argument<'a, T: Flatten> {
    /// NULL: nothing was counted.
    Nothing,
    /// The aggregate's own, to be changed in place.
    Own(&'a mut Expanded<T>),
    /// One that others may read too.
    Shared(&'a Expanded<T>),
    /// The compact form.
    Flat(&'a [u8]),
}

impl<T: Flatten> Expanded<T> {
    const METHODS: pg_sys::ExpandedObjectMethods = pg_sys::ExpandedObjectMethods {
        get_flat_size: Some(flat_size::<T>),
        flatten_into: Some(flatten_into::<T>),
    };

    /// A new state that lives as long as the aggregate's group; `make` is told where its parts are to be.
    ///
    /// Raises an error when the function was not called by an aggregate. Ask once per state, not per row.
    pub fn create<'a>(call: &Call, make: impl FnOnce(Context) -> T) -> &'a mut Expanded<T> {
        Expanded::create_in(Context::of_aggregate(call), make)
    }

    /// The same for whoever knows the aggregate's memory context.
    pub fn create_in<'a>(aggregate: Context, make: impl FnOnce(Context) -> T) -> &'a mut Expanded<T> {
        const { assert!(align_of::<Self>() <= 8, "palloc aligns to 8 bytes") }
        let context = shared_context(aggregate);
        // SAFETY: the block has the size and, as palloc aligns to 8, the alignment of the state; every field is
        // written, the header by its own initialiser, before the address leaves.
        unsafe {
            let p = pg_sys::MemoryContextAlloc(context.raw(), size_of::<Self>()).cast::<Self>();
            pg_sys::EOH_init_header(&raw mut (*p).header, &Self::METHODS, context.raw());
            (&raw mut (*p).tag).write(T::TAG);
            (&raw mut (*p).flat).write(Array::EMPTY);
            (&raw mut (*p).context).write(context);
            (&raw mut (*p).value).write(make(context));
            &mut *p
        }
    }

    /// The state in argument `n`, whose declared type is that of the state.
    #[inline(always)]
    pub fn argument<'a>(call: &Call, n: usize) -> Argument<'a, T> {
        let Some(datum) = call.arg(n) else { return Argument::Nothing };
        let p = datum.cast_mut_ptr::<u8>();
        // SAFETY: the datum is a varlena. Its first byte tells the pointers of toast from all else, the second what
        // kind of pointer it is; an expanded one holds an address, not aligned. Only functions of the declared type
        // make one, and the tag is checked on top. A state is an argument of one call at a time, and of a combine
        // function at most once.
        unsafe {
            if *p == 0x01 && matches!(u32::from(*p.add(1)), RO | RW) {
                let state = p.add(2).cast::<*mut Self>().read_unaligned();
                if (*state).tag != T::TAG {
                    raise(
                        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                        "the aggregate state is of another aggregate",
                    );
                }
                return match u32::from(*p.add(1)) {
                    RW => Argument::Own(&mut *state),
                    _ => Argument::Shared(&*state),
                };
            }
            Argument::Flat(varlena_payload(datum))
        }
    }

    /// The state that `datum` gave.
    ///
    /// # Safety
    /// `state` came from `datum` of any kind of state, and nobody else looks at it meanwhile.
    #[inline(always)]
    pub unsafe fn at<'a>(state: pg_sys::Datum) -> &'a mut Expanded<T> {
        // SAFETY: behind the two bytes of the pointer's header stands the address, not aligned; the tag says what is there.
        unsafe {
            let state = state.cast_mut_ptr::<u8>().add(2).cast::<*mut Self>().read_unaligned();
            if (*state).tag != T::TAG {
                raise(
                    PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                    "the aggregate state is of another aggregate",
                );
            }
            &mut *state
        }
    }

    /// This state as a datum that may be changed in place.
    #[inline(always)]
    pub fn datum(&mut self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.header.eoh_rw_ptr.as_mut_ptr())
    }

    /// What the state holds.
    #[inline(always)]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What the state holds, to be changed.
    #[inline(always)]
    pub fn value_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

const RO: u32 = pg_sys::vartag_external::VARTAG_EXPANDED_RO;
const RW: u32 = pg_sys::vartag_external::VARTAG_EXPANDED_RW;

/// The size of the compact form, which is made here and kept for the call that follows.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn flat_size<T: Flatten>(header: *mut pg_sys::ExpandedObjectHeader) -> usize {
    // SAFETY: PostgreSQL calls this on headers whose methods are ours; the header is the first field of the state.
    let state = unsafe { &mut *header.cast::<Expanded<T>>() };
    state.flat.truncate(0);
    state.value.flatten(&mut state.flat, state.context);
    state.flat.len() + pg_sys::VARHDRSZ
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn flatten_into<T: Flatten>(
    header: *mut pg_sys::ExpandedObjectHeader,
    result: *mut c_void,
    size: usize,
) {
    // SAFETY: as above; `result` has room for `size` bytes, which is what `flat_size` said.
    unsafe {
        let state = &mut *header.cast::<Expanded<T>>();
        assert_eq!(state.flat.len() + pg_sys::VARHDRSZ, size, "a state changed while it was copied");
        pgrx::set_varsize_4b(result.cast(), size as i32);
        let payload = result.cast::<u8>().add(pg_sys::VARHDRSZ);
        std::ptr::copy_nonoverlapping(state.flat.slice().as_ptr(), payload, state.flat.len());
        state.flat.clear();
    }
}

type Pair = (pg_sys::MemoryContext, pg_sys::MemoryContext);

thread_local! {
    /// Contexts of aggregates in use, with the one below each that holds our states.
    static SHARED: Cell<[Pair; 4]> = const { Cell::new([(std::ptr::null_mut(), std::ptr::null_mut()); 4]) };
}

/// The context, just below `parent`, of all states of that aggregate.
///
/// PostgreSQL keeps an expanded state without copying it where its context is a child of the aggregate's. One child for
/// all groups, not one each: HashAggregate walks the children whenever it makes a group.
fn shared_context(parent: Context) -> Context {
    let mut known = SHARED.get();
    if let Some((_, child)) = known.iter().find(|(p, _)| *p == parent.raw()) {
        return Context::from_raw(*child);
    }
    // SAFETY: the parent is live and the name constant; the callback lies in the context it watches over.
    let child = unsafe {
        let child = pg_sys::AllocSetContextCreateInternal(
            parent.raw(),
            c"aggregate states".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let callback = pg_sys::MemoryContextAlloc(child, size_of::<pg_sys::MemoryContextCallback>())
            .cast::<pg_sys::MemoryContextCallback>();
        callback.write(pg_sys::MemoryContextCallback {
            func: Some(forget),
            arg: child.cast(),
            next: std::ptr::null_mut(),
        });
        pg_sys::MemoryContextRegisterResetCallback(child, callback);
        child
    };
    known.rotate_right(1);
    known[0] = (parent.raw(), child);
    SHARED.set(known);
    Context::from_raw(child)
}

/// Runs when a shared context goes.
unsafe extern "C-unwind" fn forget(child: *mut c_void) {
    SHARED.set(SHARED.get().map(|(parent, known)| match std::ptr::eq(known.cast(), child) {
        true => (std::ptr::null_mut(), std::ptr::null_mut()),
        false => (parent, known),
    }));
}
