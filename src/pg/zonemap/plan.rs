//! What the planner is told of a zone map, and whether an operator class is fit for one.
use super::TYPES;
use super::page::ZONE;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// A scan reads the whole map, which is small, and looks at every entry. New rows are at the table's end and old ones at
/// its start: the zones that match are the share of the table that the rows are.
#[allow(clippy::too_many_arguments)] // as PostgreSQL has it
#[pg_guard]
pub unsafe extern "C-unwind" fn cost_estimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    _loops: f64,
    startup: *mut pg_sys::Cost,
    total: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: the planner hands over a path of an index of this access method, and where it wants the answers.
    unsafe {
        let index = &*(*path).indexinfo;
        let conditions = pg_sys::get_quals_from_indexclauses((*path).indexclauses);
        *selectivity = pg_sys::clauselist_selectivity(
            root,
            conditions,
            (*index.rel).relid as i32,
            pg_sys::JoinType::JOIN_INNER,
            std::ptr::null_mut(),
        );
        let entries = f64::from((*index.rel).pages) / f64::from(ZONE);
        let count = if conditions.is_null() { 0 } else { (*conditions).length };
        *startup = f64::from(index.pages) * pg_sys::seq_page_cost;
        *total = *startup + entries * f64::from(count) * pg_sys::cpu_operator_cost;
        *correlation = 1.0;
        *pages = f64::from(index.pages);
    }
}

/// Whether the operator class is for one of the types whose values the map can hold.
#[pg_guard]
pub unsafe extern "C-unwind" fn validate(class: pg_sys::Oid) -> bool {
    // SAFETY: a plain look at the catalog.
    let of = unsafe { pg_sys::get_opclass_input_type(class) };
    if !TYPES.contains(&of) {
        pgrx::info!(
            "an operator class of access method {} is for bigint, timestamptz, timestamp or date",
            super::NAME
        );
        return false;
    }
    true
}
