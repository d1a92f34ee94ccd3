//! What this process knows of the Citus cluster it may be part of.
use crate::pg::deparse::string;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

/// Whether the library of Citus is loaded, which happens as the server starts or never.
pub fn citus_loaded() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    // SAFETY: looks a setting up by name; that of Citus is there once its library is.
    *LOADED.get_or_init(|| unsafe {
        !pg_sys::GetConfigOption(c"citus.shard_count".as_ptr(), true, false).is_null()
    })
}

/// Whether another node opened this connection for work of Citus. Read from how the session began, which no SET
/// changes.
pub fn opened_by_citus() -> bool {
    static OPENED: OnceLock<bool> = OnceLock::new();
    // SAFETY: the setting exists in every server; the string it began with is copied.
    *OPENED.get_or_init(|| unsafe {
        string(pg_sys::GetConfigOptionResetString(c"application_name".as_ptr())).starts_with("citus_internal")
    })
}

thread_local! {
    /// The group of this node, once it was read, and the table it was read from.
    static GROUP: Cell<Option<(pg_sys::Oid, i32)>> = const { Cell::new(None) };
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

unsafe extern "C-unwind" fn forget_group(_: pg_sys::Datum, relation: pg_sys::Oid) {
    if relation == pg_sys::InvalidOid || GROUP.get().is_some_and(|(table, _)| table == relation) {
        GROUP.set(None);
    }
}

/// The Citus group of this node, 0 where it is in none; `read` reads it where it is not known. What is remembered is
/// forgotten when Citus says that its table has changed.
pub fn group<E>(read: impl FnOnce() -> Result<i32, E>) -> Result<i32, E> {
    if let Some((_, group)) = GROUP.get() {
        return Ok(group);
    }
    // SAFETY: a look-up in the catalog, inside a transaction.
    let table = unsafe {
        pg_sys::get_relname_relid(
            c"pg_dist_local_group".as_ptr(),
            pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE),
        )
    };
    if table == pg_sys::InvalidOid {
        return Ok(0);
    }
    if !LISTENING.replace(true) {
        // SAFETY: the function stays where it is for the life of the process.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget_group), pg_sys::Datum::from(0usize)) };
    }
    let group = read()?;
    GROUP.set(Some((table, group)));
    Ok(group)
}

unsafe extern "C-unwind" {
    // replication/message.h
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    fn LogLogicalMessage(prefix: *const c_char, text: *const c_char, size: usize, transactional: bool)
    -> u64;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    fn LogLogicalMessage(
        prefix: *const c_char,
        text: *const c_char,
        size: usize,
        transactional: bool,
        flush: bool,
    ) -> u64;
}

/// Makes everything that was written to the log so far safe against a crash. A record of no meaning is written behind
/// it: where the log ends just now cannot be asked for in a way that is right at the end of a page.
pub fn flush_log() {
    let (prefix, nothing) = (c"rollup".as_ptr(), c"".as_ptr());
    // SAFETY: both strings outlive the call; the position it gives is that of this server's own log. An error in it
    // is turned into a panic.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let write = || LogLogicalMessage(prefix, nothing, 0, false);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        let write = || LogLogicalMessage(prefix, nothing, 0, false, false);
        pg_sys::XLogFlush(pg_sys::ffi::pg_guard_ffi_boundary(write));
    }
}

/// Whether this transaction has had other nodes do something; None where the library of Citus does not offer to tell.
pub fn has_touched_nodes() -> Option<bool> {
    type Function = unsafe extern "C-unwind" fn() -> bool;
    static FOUND: OnceLock<Option<Function>> = OnceLock::new();
    let asked = *FOUND.get_or_init(|| unsafe {
        // SAFETY: as in `in_two_phases`; the function has taken nothing and given this since it is there.
        let name = c"InCoordinatedTransaction".as_ptr();
        let at = pg_sys::load_external_function(c"$libdir/citus".as_ptr(), name, false, std::ptr::null_mut());
        std::mem::transmute::<*mut c_void, Option<Function>>(at.cast())
    });
    // SAFETY: reads a variable of this process.
    asked.map(|function| unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| function()) })
}

/// What Citus itself calls before it commits on several nodes: begins a transaction that others take part in, and has
/// that committed in two phases.
const IN_TWO_PHASES: [&CStr; 2] = [c"UseCoordinatedTransaction", c"Use2PCForCoordinatedTransaction"];

/// Has what this transaction changes on other nodes committed in two phases, together with what it changes here: to be
/// called before the first of those changes. False where the library of Citus does not offer that, as builds for
/// PostgreSQL 16 and later may not; nothing was asked for then.
pub fn in_two_phases() -> bool {
    type Function = unsafe extern "C-unwind" fn();
    static FOUND: OnceLock<Option<[Function; 2]>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let [begin, phases] = IN_TWO_PHASES.map(|name| {
            // SAFETY: the library is loaded already, as the caller knows, and from where its own functions are: this
            // looks the name up in it. Both functions have taken and given nothing since they are there.
            unsafe {
                let at = pg_sys::load_external_function(
                    c"$libdir/citus".as_ptr(),
                    name.as_ptr(),
                    false,
                    std::ptr::null_mut(),
                );
                std::mem::transmute::<*mut c_void, Option<Function>>(at.cast())
            }
        });
        Some([begin?, phases?])
    });
    let Some(functions) = found else { return false };
    for function in functions {
        // SAFETY: inside a transaction; an error in it is turned into a panic.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| function()) };
    }
    true
}
