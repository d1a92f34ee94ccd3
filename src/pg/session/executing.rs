//! Which statements are being executed, so that an index can tell a row that comes from one that moves.
//!
//! An UPDATE, or a MERGE, that takes a row to another partition deletes it there and inserts it here, with a header like
//! that of any new row. What tells it from an insertion is the node of the plan that makes it. The statement is on top
//! of a stack that hooks of the executor keep; the node is the one among its nodes that owns the very `IndexInfo` that
//! the index is handed.
//!
//! Invariant: the top of the stack is the statement that is executed now. An error jumps over the hooks, and is followed
//! by the abort of a subtransaction that began after the statements which it has ended, or of the transaction, before
//! another statement is executed: that takes them from the stack. Entries lie in memory of their own, so that those of
//! frames that are gone can be read.
use crate::pg::zonemap::header::{header, stamp_of};
use pgrx::PgList;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

mod unguarded {
    use pgrx::pg_sys;
    // Without pgrx's guard, for every statement: frames that an error jumps over own nothing.
    unsafe extern "C-unwind" {
        pub fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
        pub safe fn GetCurrentTransactionNestLevel() -> i32;
    }
    #[cfg(not(feature = "pg18"))]
    unsafe extern "C-unwind" {
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
            once: bool,
        );
    }
    #[cfg(feature = "pg18")]
    unsafe extern "C-unwind" {
        pub fn standard_ExecutorRun(
            query: *mut pg_sys::QueryDesc,
            direction: pg_sys::ScanDirection::Type,
            count: u64,
        );
    }
}

/// A statement that is executed.
struct Entry {
    query: AtomicPtr<pg_sys::QueryDesc>,
    /// How many transactions, each inside of another, there were when it was begun.
    level: AtomicI32,
    /// No two executions have the same: what one of them asked holds for it alone, whatever it has executed meanwhile.
    number: AtomicU64,
}

/// As deep as statements are told apart. Below, a row that moves is taken for one that comes: it is judged, and mostly
/// found to have been counted.
const DEEPEST: usize = 512;
#[allow(clippy::declare_interior_mutable_const)] // the initial value of each entry
const NONE: Entry = Entry {
    query: AtomicPtr::new(std::ptr::null_mut()),
    level: AtomicI32::new(0),
    number: AtomicU64::new(0),
};
static STACK: [Entry; DEEPEST] = [NONE; DEEPEST];
static DEPTH: AtomicUsize = AtomicUsize::new(0);
/// Counts executions.
static NUMBER: AtomicU64 = AtomicU64::new(0);

static NEXT_RUN: OnceLock<pg_sys::ExecutorRun_hook_type> = OnceLock::new();
static NEXT_FINISH: OnceLock<pg_sys::ExecutorFinish_hook_type> = OnceLock::new();

/// Installs the hooks once.
pub fn install() {
    // SAFETY: the library is loaded by the only thread of the process; the next hooks are kept and called.
    unsafe {
        if NEXT_RUN.set(pg_sys::ExecutorRun_hook).is_ok() {
            pg_sys::ExecutorRun_hook = Some(run);
            let _ = NEXT_FINISH.set(pg_sys::ExecutorFinish_hook);
            pg_sys::ExecutorFinish_hook = Some(finish);
            pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
            pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        }
    }
}

/// Puts a statement on top; gives what the depth was.
#[inline(always)]
fn push(query: *mut pg_sys::QueryDesc) -> usize {
    let (depth, number) = (DEPTH.load(Relaxed), NUMBER.load(Relaxed) + 1);
    if let Some(entry) = STACK.get(depth) {
        entry.query.store(query, Relaxed);
        entry.level.store(unguarded::GetCurrentTransactionNestLevel(), Relaxed);
        entry.number.store(number, Relaxed);
    }
    DEPTH.store(depth + 1, Relaxed);
    NUMBER.store(number, Relaxed);
    depth
}

#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    let depth = push(query);
    // SAFETY: the arguments are passed on as they came.
    unsafe {
        match NEXT_RUN.get() {
            Some(Some(next)) => next(query, direction, count, once),
            _ => unguarded::standard_ExecutorRun(query, direction, count, once),
        }
    }
    DEPTH.store(depth, Relaxed);
}

#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    let depth = push(query);
    // SAFETY: the arguments are passed on as they came.
    unsafe {
        match NEXT_RUN.get() {
            Some(Some(next)) => next(query, direction, count),
            _ => unguarded::standard_ExecutorRun(query, direction, count),
        }
    }
    DEPTH.store(depth, Relaxed);
}

/// What a WITH clause changes and nobody reads, is changed here.
unsafe extern "C-unwind" fn finish(query: *mut pg_sys::QueryDesc) {
    let depth = push(query);
    // SAFETY: the argument is passed on as it came.
    unsafe {
        match NEXT_FINISH.get() {
            Some(Some(next)) => next(query),
            _ => unguarded::standard_ExecutorFinish(query),
        }
    }
    DEPTH.store(depth, Relaxed);
}

unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    _id: pg_sys::SubTransactionId,
    _above: pg_sys::SubTransactionId,
    _: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        let level = unguarded::GetCurrentTransactionNestLevel();
        let mut depth = DEPTH.load(Relaxed).min(DEEPEST);
        while depth > 0 && STACK[depth - 1].level.load(Relaxed) >= level {
            depth -= 1;
        }
        DEPTH.store(depth.min(DEPTH.load(Relaxed)), Relaxed);
    }
}

unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _: *mut c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_ABORT {
        DEPTH.store(0, Relaxed);
    }
}

/// The views that the statement on top reads, itself or by way of other views, each by the rights of its owner: whoever
/// reads them has been found to have the right to.
pub fn views() -> Vec<pg_sys::Oid> {
    let Some(entry) = DEPTH.load(Relaxed).checked_sub(1).and_then(|top| STACK.get(top)) else {
        return Vec::new();
    };
    // SAFETY: the statement on top is executed now, and its plan is live.
    unsafe {
        let plan = (*entry.query.load(Relaxed)).plannedstmt;
        let entries = PgList::<pg_sys::RangeTblEntry>::from_pg((*plan).rtable);
        #[cfg(feature = "pg15")]
        let reads = |e: &pg_sys::RangeTblEntry| e.requiredPerms & pg_sys::ACL_SELECT as pg_sys::AclMode != 0;
        #[cfg(not(feature = "pg15"))]
        let rights = PgList::<pg_sys::RTEPermissionInfo>::from_pg((*plan).permInfos);
        #[cfg(not(feature = "pg15"))]
        let reads = |e: &pg_sys::RangeTblEntry| {
            let of = (e.perminfoindex as usize).checked_sub(1).and_then(|n| rights.get_ptr(n));
            of.is_some_and(|r| (*r).requiredPerms & pg_sys::ACL_SELECT as pg_sys::AclMode != 0)
        };
        (entries.iter_ptr().map(|e| &*e))
            .filter(|e| e.relkind as u8 == pg_sys::RELKIND_VIEW && reads(e))
            .map(|e| e.relid)
            .collect()
    }
}

/// What the last question was about, and its answer: many rows of a statement ask the same.
#[derive(Default)]
struct Last {
    number: u64,
    info: usize,
    state: usize,
    /// The last row of each MERGE that moved: of which execution, the table that it left, and where it lay.
    moved: HashMap<(u64, pg_sys::Oid), (u32, u16)>,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

/// Where a row was that moves.
pub struct Left {
    /// The partition that it was taken out of; none where that cannot be told.
    pub table: Option<pg_sys::Oid>,
    /// It had been inserted there by the (sub)transaction of this id, and was not changed since.
    pub inserter: Option<u32>,
}

/// Where the row that an index is handed with this `info` was before, if it was not inserted but moves, from a partition that
/// an UPDATE or a MERGE takes it out of.
///
/// # Safety
/// `info` is what the index has been handed by whoever inserts the row, `stamp` what it holds in `column`.
pub unsafe fn moves_from(info: *mut pg_sys::IndexInfo, column: &CStr, stamp: i64) -> Option<Left> {
    let entry = DEPTH.load(Relaxed).checked_sub(1).and_then(|top| STACK.get(top))?;
    let number = entry.number.load(Relaxed);
    let kept =
        LAST.with_borrow(|last| (last.number == number && last.info == info as usize).then_some(last.state));
    // SAFETY: the statement on top is executed now, and its nodes are live; the tags say what they are.
    unsafe {
        let state = kept.map_or_else(|| owner(entry.query.load(Relaxed), info), |state| state as *mut _);
        LAST.with_borrow_mut(|last| {
            (last.number, last.info, last.state) = (number, info as usize, state as usize);
        });
        if state.is_null() {
            return None;
        }
        match (*state).operation {
            pg_sys::CmdType::CMD_UPDATE => Some(
                taken_out(state, column, stamp, |_, _| true).unwrap_or(Left { table: None, inserter: None }),
            ),
            // An insertion, unless the last row that it looked up has not been that of another insertion before.
            pg_sys::CmdType::CMD_MERGE => taken_out(state, column, stamp, |table, place| {
                let known = LAST.with_borrow_mut(|last| {
                    last.moved.retain(|(of, _), _| is_executed(*of));
                    last.moved.insert((number, table), place)
                });
                known != Some(place)
            }),
            _ => None,
        }
    }
}

/// The number of the execution on top; no other has it.
pub fn number() -> u64 {
    DEPTH.load(Relaxed).checked_sub(1).and_then(|top| STACK.get(top)).map_or(0, |e| e.number.load(Relaxed))
}

/// Whether the execution of this number has not ended.
pub fn is_executed(number: u64) -> bool {
    let depth = DEPTH.load(Relaxed).min(DEEPEST);
    STACK[..depth].iter().any(|entry| entry.number.load(Relaxed) == number)
}

/// The node of the statement that inserts with this `info`; NULL where none does.
unsafe fn owner(
    query: *mut pg_sys::QueryDesc,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::ModifyTableState {
    // SAFETY: as the caller's.
    unsafe {
        let (state, estate) = ((*query).planstate, (*query).estate);
        if estate.is_null() {
            return std::ptr::null_mut();
        }
        let has = |r: &*mut pg_sys::ResultRelInfo| {
            let r = &**r;
            (0..r.ri_NumIndices as usize).any(|n| *r.ri_IndexRelationInfo.add(n) == info)
        };
        let opened = PgList::<pg_sys::ResultRelInfo>::from_pg((*estate).es_opened_result_relations);
        let routed = PgList::<pg_sys::ResultRelInfo>::from_pg((*estate).es_tuple_routing_result_relations);
        let Some(target) = routed.iter_ptr().find(has).or_else(|| opened.iter_ptr().find(has)) else {
            return std::ptr::null_mut();
        };
        let root = match (*target).ri_RootResultRelInfo.is_null() {
            true => target,
            false => (*target).ri_RootResultRelInfo,
        };
        let top = (!state.is_null() && (*state).type_ == pg_sys::NodeTag::T_ModifyTableState)
            .then_some(state.cast::<pg_sys::ModifyTableState>());
        let others = PgList::<pg_sys::ModifyTableState>::from_pg((*estate).es_auxmodifytables);
        let of = |m: &*mut pg_sys::ModifyTableState| {
            let first = (**m).resultRelInfo;
            (**m).rootResultRelInfo == root
                || (0..(**m).mt_nrels as usize).any(|n| std::ptr::eq(first.add(n), target))
        };
        top.into_iter().chain(others.iter_ptr()).find(of).unwrap_or(std::ptr::null_mut())
    }
}

/// The row that a node has just taken out of a partition to put it into another: the last that it looked up there bears the
/// mark of it, and the same stamp, and `is_it` says so of its table and where it lay.
unsafe fn taken_out(
    state: *mut pg_sys::ModifyTableState,
    column: &CStr,
    stamp: i64,
    is_it: impl Fn(pg_sys::Oid, (u32, u16)) -> bool,
) -> Option<Left> {
    // SAFETY: the node is live, and with it its tables and their slots.
    unsafe {
        for n in 0..(*state).mt_nrels as usize {
            let table = (*state).resultRelInfo.add(n);
            let slot = (*table).ri_oldTupleSlot;
            if slot.is_null() || u32::from((*slot).tts_flags) & pg_sys::TTS_FLAG_EMPTY != 0 {
                continue;
            }
            let Some(header) = header((*table).ri_RelationDesc, &raw mut (*slot).tts_tid) else { continue };
            let its = stamp_of((*(*table).ri_RelationDesc).rd_att, header.row, column);
            pg_sys::heap_freetuple(header.row);
            let id = (*(*table).ri_RelationDesc).rd_id;
            if header.moved_by_us && its == Some(stamp) && is_it(id, header.place) {
                let inserter = (!header.updated).then_some(header.xmin.into_inner());
                return Some(Left { table: Some(id), inserter });
            }
        }
        None
    }
}
