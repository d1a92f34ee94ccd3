//! What features know how to do by pages: aggregates by the symbol of their transition function, functions by their own.
use super::column::{Column, Rows};
use super::states::States;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Mutex;

/// An aggregate whose states are changed for the rows of a page at once.
///
/// Invariant: `add` leaves every state as the transition function would, called for these rows in their order.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// Symbol of the transition function.
    pub symbol: &'static str,
    /// How many arguments it has besides the state.
    pub arguments: usize,
    /// Adds the rows, whose arguments are in the columns, to the states of their groups.
    pub add: fn(&mut States, Rows, &[&Column]),
}

/// A function of a value and a constant int4 that gives an int8. It is strict.
#[derive(Clone, Copy)]
pub struct Function {
    /// Its symbol.
    pub symbol: &'static str,
    /// What it does.
    pub hash: Hash,
}

/// By the kind of value.
#[derive(Clone, Copy)]
pub enum Hash {
    /// A varlena.
    Bytes(fn(&[u8], i32) -> i64),
    /// Four bytes.
    Four(fn(i32, i32) -> i64),
    /// Eight bytes.
    Eight(fn(i64, i32) -> i64),
}

static KERNELS: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());
static FUNCTIONS: Mutex<Vec<Function>> = Mutex::new(Vec::new());

/// Has queries use these from now on.
pub fn know(kernels: &[Kernel], functions: &[Function]) {
    if let (Ok(mut all), Ok(mut all_functions)) = (KERNELS.lock(), FUNCTIONS.lock()) {
        all.extend(kernels);
        all_functions.extend(functions);
    }
}

/// The kernel of a transition function.
pub(super) fn kernel(function: pg_sys::Oid) -> Option<Kernel> {
    let symbol = symbol(function)?;
    KERNELS.lock().ok()?.iter().find(|k| symbol == k.symbol).copied()
}

/// What a function does by pages.
pub(super) fn hash(function: pg_sys::Oid) -> Option<Hash> {
    let symbol = symbol(function)?;
    FUNCTIONS.lock().ok()?.iter().find(|f| symbol == f.symbol).map(|f| f.hash)
}

thread_local! {
    /// For functions that were asked about whether they are a part of this extension. Emptied when one changes.
    static OURS: RefCell<HashMap<u32, bool>> = RefCell::default();
}

/// Called once when the library is loaded.
pub(super) fn init() {
    // SAFETY: the function is static, and is called by this process alone.
    unsafe {
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            Some(forget),
            pg_sys::Datum::from(0usize),
        );
    }
}

unsafe extern "C-unwind" fn forget(_: pg_sys::Datum, _: i32, _: u32) {
    OURS.with_borrow_mut(HashMap::clear);
}

/// Whether it is a function that is a part of this extension.
pub fn is_ours(function: pg_sys::Oid) -> bool {
    if function.to_u32() < pg_sys::FirstNormalObjectId {
        return false;
    }
    if let Some(known) = OURS.with_borrow(|ours| ours.get(&function.to_u32()).copied()) {
        return known;
    }
    // SAFETY: look-ups in the catalog.
    let found = unsafe {
        let ours = pg_sys::get_extension_oid(c"hll".as_ptr(), true);
        ours != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::ProcedureRelationId, function) == ours
    };
    OURS.with_borrow_mut(|ours| ours.insert(function.to_u32(), found));
    found
}

/// The symbol of a function of this extension.
fn symbol(function: pg_sys::Oid) -> Option<String> {
    if !is_ours(function) {
        return None;
    }
    // SAFETY: the tuple of the cache is released after its column, which is never NULL, was copied.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            pg_sys::Datum::from(function),
        );
        if tuple.is_null() {
            return None;
        }
        let mut null = true;
        let source = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            tuple,
            pg_sys::Anum_pg_proc_prosrc as i16,
            &mut null,
        );
        let symbol = (!null).then(|| {
            CStr::from_ptr(pg_sys::text_to_cstring(source.cast_mut_ptr())).to_string_lossy().into_owned()
        });
        pg_sys::ReleaseSysCache(tuple);
        symbol
    }
}
