//! Numbers that sessions count together, in shared memory: by database and id, since the server was started. And, behind
//! them, when something was written into the log (see `told`).
//!
//! Where the library is not preloaded there is no such memory, and nothing is counted. Who counts adds to a number, and
//! waits for nobody. A place is taken once and never given back: an id that finds none is not counted.
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

const PLACES: usize = 4096;
/// Moments behind the places.
const MOMENTS: usize = 1024;
const SIZE: usize = size_of::<Place>() * PLACES + size_of::<AtomicU64>() * MOMENTS;

/// A number. Its key is 0 where the place is free.
#[repr(C)]
struct Place {
    key: AtomicU64,
    count: AtomicU64,
}

static MEMORY: AtomicPtr<Place> = AtomicPtr::new(std::ptr::null_mut());
static NEXT_REQUEST: OnceLock<pg_sys::shmem_request_hook_type> = OnceLock::new();
static NEXT_STARTUP: OnceLock<pg_sys::shmem_startup_hook_type> = OnceLock::new();

thread_local! {
    /// The last place that was asked for, and its key.
    static LAST: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
}

/// Asks for the memory; called once, while the postmaster loads the library.
pub fn install() {
    // SAFETY: the library is loaded by the only thread of the process; the next hooks are kept and called.
    unsafe {
        if NEXT_REQUEST.set(pg_sys::shmem_request_hook).is_ok() {
            let _ = NEXT_STARTUP.set(pg_sys::shmem_startup_hook);
            pg_sys::shmem_request_hook = Some(request);
            pg_sys::shmem_startup_hook = Some(startup);
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: the next hook is another library's; memory is asked for while that is allowed.
    unsafe {
        if let Some(Some(next)) = NEXT_REQUEST.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next());
        }
        pg_sys::RequestAddinShmemSpace(SIZE);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: the next hook is another library's; the memory is as large as was asked for, and is all zero when it is new, as
    // free places are. It is mapped at one address in all processes, where they do not map it themselves.
    unsafe {
        if let Some(Some(next)) = NEXT_STARTUP.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next());
        }
        let mut found = false;
        let memory = pg_sys::ShmemInitStruct(c"hll: numbers".as_ptr(), SIZE, &mut found);
        if !found {
            memory.cast::<u8>().write_bytes(0, SIZE);
        }
        MEMORY.store(memory.cast(), Relaxed);
    }
}

/// The place of an id of this database; with `take`, one that is free becomes it.
fn place(id: i64, take: bool) -> Option<&'static Place> {
    let memory = MEMORY.load(Relaxed);
    let id = u32::try_from(id).ok()?;
    if memory.is_null() {
        return None;
    }
    // SAFETY: reads a variable of this process; the memory lasts as long as the process, and is only changed atomically.
    let (key, places) = unsafe {
        (
            u64::from(pg_sys::MyDatabaseId.to_u32()) << 32 | u64::from(id),
            std::slice::from_raw_parts(memory, PLACES),
        )
    };
    let (last, at) = LAST.get();
    if last == key {
        return places.get(at);
    }
    let first = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52) as usize;
    for n in (0..PLACES).map(|n| (first + n) % PLACES) {
        let there = match places[n].key.load(Relaxed) {
            0 if take => match places[n].key.compare_exchange(0, key, Relaxed, Relaxed) {
                Ok(_) => key,
                Err(there) => there,
            },
            there => there,
        };
        if there == 0 {
            return None;
        }
        if there == key {
            LAST.set((key, n));
            return Some(&places[n]);
        }
    }
    None
}

/// The moments that lie behind the places, all 0 when the server starts; None where there is no such memory.
pub fn moments() -> Option<&'static [AtomicU64]> {
    let memory = MEMORY.load(Relaxed);
    // SAFETY: the memory is as large as was asked for, lasts as long as the process, and is only changed atomically.
    (!memory.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(memory.add(PLACES).cast::<AtomicU64>(), MOMENTS) })
}

/// Counts one more.
pub fn add(id: i64) {
    if let Some(place) = place(id, true) {
        place.count.fetch_add(1, Relaxed);
    }
}

/// How many were counted; None where nothing is.
pub fn count(id: i64) -> Option<i64> {
    (!MEMORY.load(Relaxed).is_null())
        .then(|| place(id, false).map_or(0, |place| place.count.load(Relaxed) as i64))
}
