//! What a session knows of relations, and when it is void.
use crate::pg::deparse::string;
use pgrx::guc::{GucContext, GucEnum, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::{CStr, c_int, c_void};
use std::sync::Once;

thread_local! {
    static EPOCH: Cell<u64> = const { Cell::new(1) };
    static ROUTINES: Cell<u64> = const { Cell::new(1) };
    static WATCHED: RefCell<HashSet<pg_sys::Oid>> = RefCell::default();
    static NOW: Cell<bool> = const { Cell::new(false) };
}

/// Counts the times that word came of a relation that is watched.
pub fn epoch() -> u64 {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: registered once; the callbacks raise no error.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(changed), pg_sys::Datum::from(0usize));
            // An extension that comes brings a schema.
            let schemas = pg_sys::SysCacheIdentifier::NAMESPACENAME as i32;
            pg_sys::CacheRegisterSyscacheCallback(schemas, Some(schema_changed), pg_sys::Datum::from(0usize));
        }
    });
    EPOCH.get()
}

/// Counts the times that word came of functions or schemas, whichever.
pub fn routines_epoch() -> u64 {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let caches =
            [pg_sys::SysCacheIdentifier::NAMESPACEOID as i32, pg_sys::SysCacheIdentifier::PROCOID as i32];
        for cache in caches {
            // SAFETY: registered once; the callback raises no error.
            unsafe {
                pg_sys::CacheRegisterSyscacheCallback(
                    cache,
                    Some(routine_changed),
                    pg_sys::Datum::from(0usize),
                );
            }
        }
    });
    ROUTINES.get()
}

unsafe extern "C-unwind" fn routine_changed(_: pg_sys::Datum, _: c_int, _: u32) {
    ROUTINES.set(ROUTINES.get() + 1);
}

/// Has word of a relation counted.
pub fn watch(relation: pg_sys::Oid) {
    WATCHED.with_borrow_mut(|watched| _ = watched.insert(relation));
}

/// Watches nothing any more.
pub fn clear() {
    WATCHED.with_borrow_mut(HashSet::clear);
}

unsafe extern "C-unwind" fn changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    // Where the set is being changed, nothing that changes it takes in messages.
    let counts = relation == pg_sys::InvalidOid
        || WATCHED.with(|w| w.try_borrow().map_or(true, |w| w.contains(&relation)));
    if counts {
        EPOCH.set(EPOCH.get() + 1);
    }
}

unsafe extern "C-unwind" fn schema_changed(_: pg_sys::Datum, _: c_int, _: u32) {
    EPOCH.set(EPOCH.get() + 1);
}

/// Tells every session, when this transaction commits, that a relation has changed, if it is there.
pub fn tell(relation: pg_sys::Oid) {
    // SAFETY: a look-up that tolerates absence, and a message about a relation that is there.
    unsafe {
        let there = pg_sys::SearchSysCacheExists(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(relation),
            pg_sys::Datum::from(0usize),
            pg_sys::Datum::from(0usize),
            pg_sys::Datum::from(0usize),
        );
        if there {
            pg_sys::CacheInvalidateRelcacheByRelid(relation);
        }
    }
}

/// Runs `body` with statements that read, and those that would read as committed now, under a snapshot of this moment, also
/// where the transaction keeps an older one.
pub fn as_committed_now<T>(body: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            NOW.set(self.0);
        }
    }
    let _back = Back(NOW.replace(true));
    // SAFETY: what is pushed is popped; while an error unwinds the end of the (sub)transaction pops it.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let out = body();
        pg_sys::PopActiveSnapshot();
        out
    }
}

/// The active snapshot is one of this moment.
pub fn is_now() -> bool {
    NOW.get()
}

/// A function or aggregate.
pub struct Routine {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Qualified, with the types of its arguments, as merge rules name it.
    pub signature: String,
}

/// What a function is called, if it is there.
pub fn routine(id: pg_sys::Oid) -> Option<Routine> {
    // SAFETY: look-ups in the catalog, which give NULL where there is no such function.
    unsafe {
        let name = pg_sys::get_func_name(id);
        if name.is_null() {
            return None;
        }
        Some(Routine {
            schema: string(pg_sys::get_namespace_name(pg_sys::get_func_namespace(id))),
            name: string(name),
            signature: crate::pg::deparse::qualified(|| string(pg_sys::format_procedure(id))),
        })
    }
}

unsafe extern "C-unwind" fn plans_are_void(_: c_int, _: *mut c_void) {
    // SAFETY: marks entries of this process; there are none yet when the setting is defined.
    unsafe { pg_sys::ResetPlanCache() }
}

/// Defines a setting with which plans change.
pub fn define_with_plans<T: GucEnum + 'static>(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<T>,
    context: GucContext,
    flags: GucFlags,
) {
    // SAFETY: the hook calls nothing that raises an error.
    unsafe {
        GucRegistry::define_enum_guc_with_hooks(
            name,
            short,
            long,
            setting,
            context,
            flags,
            None,
            Some(plans_are_void),
            None,
        );
    }
}

mod unbound {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn PredicateLockRelation(relation: pg_sys::Relation, snapshot: pg_sys::Snapshot);
        pub fn find_all_inheritors(
            table: pg_sys::Oid,
            mode: pg_sys::LOCKMODE,
            parents: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
    }
}

/// Where the transaction is serializable: has it told of what others write to a table and all below it, as if it had read
/// all of them.
pub fn lock_for_serializable(table: pg_sys::Oid) {
    // SAFETY: reads a variable of this process; the tables are opened under a lock, which is kept.
    unsafe {
        if pg_sys::XactIsoLevel != pg_sys::XACT_SERIALIZABLE as i32 {
            return;
        }
        let mode = pg_sys::AccessShareLock as i32;
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let all = unbound::find_all_inheritors(table, mode, std::ptr::null_mut());
            for at in 0..pg_sys::list_length(all) {
                let relation = pg_sys::relation_open(pg_sys::list_nth_oid(all, at), mode);
                unbound::PredicateLockRelation(relation, pg_sys::GetActiveSnapshot());
                pg_sys::relation_close(relation, pg_sys::NoLock as i32);
            }
        });
    }
}
