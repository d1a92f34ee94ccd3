//! The plan node while it runs, as PostgreSQL calls it.
use super::explain;
use super::page;
use super::plan::Methods;
use super::run::Run;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};
use std::ffi::c_int;

/// What PostgreSQL knows of the node, with our part after it.
#[repr(C)]
pub struct Node {
    pub(super) custom: pg_sys::CustomScanState,
    run: *mut Run,
}

pub(super) static METHODS: Methods<pg_sys::CustomExecMethods> = Methods(pg_sys::CustomExecMethods {
    CustomName: super::plan::NAME.as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(next),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(again),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: Some(explain::explain),
});

/// Makes the node of its plan.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn create(_plan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    // SAFETY: zeros are a node of no content; the tag and the methods make it one.
    unsafe {
        let node = pg_sys::palloc0(size_of::<Node>()).cast::<Node>();
        (*node).custom.ss.ps.type_ = pg_sys::NodeTag::T_CustomScanState;
        (*node).custom.methods = &raw const METHODS.0;
        node.cast()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(
    node: *mut pg_sys::CustomScanState,
    state: *mut pg_sys::EState,
    flags: c_int,
) {
    // SAFETY: PostgreSQL hands over a node that `create` made, in the query's memory.
    unsafe {
        let custom = &mut *node;
        let plan = custom.ss.ps.plan.cast::<pg_sys::CustomScan>();
        let plans = PgList::<pg_sys::Plan>::from_pg((*plan).custom_plans);
        let Some(below) = plans.get_ptr(0) else { return };
        let scan = pg_sys::ExecInitNode(below, state, flags);
        custom.custom_ps = pg_sys::lappend(std::ptr::null_mut(), scan.cast());
        if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
            return;
        }
        page::take_over(scan);
        let run = Run::new(node, scan);
        let run = PgMemoryContexts::For((*state).es_query_cxt).leak_and_drop_on_delete(run);
        (*node.cast::<Node>()).run = run;
    }
}

/// The run of a node that was begun to be run.
unsafe fn run<'a>(node: *mut pg_sys::CustomScanState) -> &'a mut Run {
    // SAFETY: `begin` has set it, and one function at a time is called for a node.
    unsafe { &mut *(*node.cast::<Node>()).run }
}

#[pg_guard]
unsafe extern "C-unwind" fn next(node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: PostgreSQL calls this for a node that was begun.
    unsafe { run(node).next(node) }
}

#[pg_guard]
unsafe extern "C-unwind" fn end(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as above; the nodes below were begun here.
    unsafe {
        for below in PgList::<pg_sys::PlanState>::from_pg((*node).custom_ps).iter_ptr() {
            pg_sys::ExecEndNode(below);
        }
        if !(*node.cast::<Node>()).run.is_null() && !run(node).executor.is_null() {
            pg_sys::ExecEndNode(run(node).executor);
            run(node).executor = std::ptr::null_mut();
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn again(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as above.
    unsafe {
        let run = run(node);
        let changed = (*node).ss.ps.chgParam;
        if !changed.is_null() {
            pg_sys::UpdateChangedParamSet(run.scan, changed);
            run.forget_programs();
        }
        // What has changed is taken notice of when the scan is run next.
        if (*run.scan).chgParam.is_null() {
            pg_sys::ExecReScan(run.scan);
        }
        if !run.executor.is_null() {
            pg_sys::ExecEndNode(run.executor);
            run.executor = std::ptr::null_mut();
        }
        run.forget();
        run.phase = run.first;
    }
}

/// Whether it is a node that has run, and found that there was not enough memory for it.
///
/// # Safety
/// `node` is one of ours.
pub(super) unsafe fn is_left_to_the_executor(node: *mut pg_sys::CustomScanState) -> bool {
    // SAFETY: the caller vouches for the node; only one that is begun to be run has a run.
    unsafe { !(*node.cast::<Node>()).run.is_null() && !run(node).executor.is_null() }
}

/// The most memory that its groups have taken, where the node has run.
///
/// # Safety
/// `node` is one of ours.
pub(super) unsafe fn peak(node: *mut pg_sys::CustomScanState) -> Option<usize> {
    // SAFETY: as above.
    unsafe { (!(*node.cast::<Node>()).run.is_null()).then(|| run(node).peak) }
}
