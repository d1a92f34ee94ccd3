//! A hook that prices hashed aggregation over sketches out of the plan, for those who ask for it.
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::sync::OnceLock;

static WANTED: OnceLock<fn() -> bool> = OnceLock::new();
static NEXT: OnceLock<pg_sys::create_upper_paths_hook_type> = OnceLock::new();
/// A price that no other plan asks.
const FORBIDDEN: f64 = i32::MAX as f64;
const AGGREGATES: [&CStr; 2] = [c"hll_add_agg", c"hll_union_agg"];

/// Installs the hook once; while `wanted` says so, sketches are aggregated over sorted input.
pub fn install(wanted: fn() -> bool) {
    if WANTED.set(wanted).is_err() {
        return;
    }
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        let _ = NEXT.set(pg_sys::create_upper_paths_hook);
        pg_sys::create_upper_paths_hook = Some(upper_paths);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: the planner's arguments are passed on as they came, and its path lists are live for the call.
    unsafe {
        if let Some(Some(next)) = NEXT.get() {
            // an error of the next hook must unwind these frames, not jump over them
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(root, stage, input, output, extra));
        }
        let last = stage == pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG
            || stage == pg_sys::UpperRelationKind::UPPERREL_FINAL;
        if last && WANTED.get().is_some_and(|wanted| wanted()) {
            forbid_hashed(output);
        }
    }
}

/// Whether sketches are to be aggregated over sorted input alone.
pub fn sorts() -> bool {
    WANTED.get().is_some_and(|wanted| wanted())
}

/// # Safety
/// `rel` must be a live relation of the planner.
unsafe fn forbid_hashed(rel: *mut pg_sys::RelOptInfo) {
    // SAFETY: the list holds paths; a path is read as an AggPath only when its tag says so.
    unsafe {
        for path in pgrx::PgList::<pg_sys::Path>::from_pg((*rel).pathlist).iter_ptr() {
            if (*path).type_ != pg_sys::NodeTag::T_AggPath {
                continue;
            }
            let hashed = (*path.cast::<pg_sys::AggPath>()).aggstrategy == pg_sys::AggStrategy::AGG_HASHED;
            if hashed && aggregates_sketches((*path).pathtarget) {
                (*path).total_cost = FORBIDDEN;
            }
        }
    }
}

/// # Safety
/// `target` must be the live target of a path.
unsafe fn aggregates_sketches(target: *mut pg_sys::PathTarget) -> bool {
    let flags =
        pg_sys::PVC_INCLUDE_AGGREGATES | pg_sys::PVC_RECURSE_WINDOWFUNCS | pg_sys::PVC_INCLUDE_PLACEHOLDERS;
    // SAFETY: a node is read as an Aggref only when its tag says so. The aggregate is found by name each
    // time: an OID kept from before goes stale when the extension is dropped and made again.
    unsafe {
        let nodes = pg_sys::pull_var_clause((*target).exprs.cast(), flags as i32);
        pgrx::PgList::<pg_sys::Node>::from_pg(nodes).iter_ptr().any(|node| {
            if (*node).type_ != pg_sys::NodeTag::T_Aggref {
                return false;
            }
            let name = pg_sys::get_func_name((*node.cast::<pg_sys::Aggref>()).aggfnoid);
            !name.is_null() && AGGREGATES.contains(&CStr::from_ptr(name))
        })
    }
}
