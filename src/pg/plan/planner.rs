//! The hook of the planner by which two have a say in how groups are formed: who offers to group by pages, and who prices
//! hashed aggregation over sketches out of the plan.
use crate::pg::batch;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::sync::OnceLock;

static SORTS: OnceLock<fn() -> bool> = OnceLock::new();
static NEXT: OnceLock<pg_sys::create_upper_paths_hook_type> = OnceLock::new();
/// A price that no other plan asks.
const FORBIDDEN: f64 = i32::MAX as f64;
const AGGREGATES: [&CStr; 2] = [c"hll_add_agg", c"hll_union_agg"];

/// While `wanted` says so, sketches are aggregated over sorted input.
pub fn sort_sketches(wanted: fn() -> bool) {
    if SORTS.set(wanted).is_ok() {
        install();
    }
}

/// Queries are offered to be grouped by pages, as far as `wanted` says.
pub fn group_by_pages(wanted: fn() -> batch::Wanted) {
    batch::install(wanted);
    install();
}

/// Installs the hook once.
fn install() {
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        if NEXT.set(pg_sys::create_upper_paths_hook).is_ok() {
            pg_sys::create_upper_paths_hook = Some(upper_paths);
        }
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
    let groups = stage == pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG;
    let sorts = SORTS.get().is_some_and(|wanted| wanted());
    // SAFETY: the planner's arguments are passed on as they came, and its structures are live for the call.
    unsafe {
        // Others may price what is offered; sketches are priced when they have.
        if groups && !sorts {
            batch::offer(root, input, output, extra);
        }
        if let Some(Some(next)) = NEXT.get() {
            // an error of the next hook must unwind these frames, not jump over them
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(root, stage, input, output, extra));
        }
        if sorts && (groups || stage == pg_sys::UpperRelationKind::UPPERREL_FINAL) {
            forbid_hashed(output);
        }
    }
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
