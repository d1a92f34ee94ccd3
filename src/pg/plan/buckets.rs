//! What the planner is told of buckets of time while a rollup runs.
//!
//! It takes an expression to have as many values as the column in it: a group to each row, where rows carry their own
//! times. Told so, it never has parallel workers form groups, since it would hand on as many as there are rows.
use crate::pg::ctext::c_text;
use pgrx::prelude::*;
use std::cell::Cell;
use std::sync::OnceLock;

const DAY: i64 = 86_400_000_000;

/// A time column that is grouped by in buckets.
#[derive(Clone, Copy)]
struct Grouped {
    table: pg_sys::Oid,
    column: pg_sys::AttrNumber,
    /// Microseconds.
    length: i64,
}

thread_local! {
    static GROUPED: Cell<Option<Grouped>> = const { Cell::new(None) };
}
static NEXT: OnceLock<pg_sys::get_relation_stats_hook_type> = OnceLock::new();

/// Installs the hook once.
pub fn install() {
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        if NEXT.set(pg_sys::get_relation_stats_hook).is_ok() {
            pg_sys::get_relation_stats_hook = Some(column_statistics);
        }
    }
}

/// While it lives, statements are planned as if a time column held no more values than the buckets of `length`
/// microseconds that it reaches over.
pub struct FewBuckets(Option<Grouped>);

impl FewBuckets {
    /// Of column `column` of `table`.
    pub fn of(table: pg_sys::Oid, column: &str, length: i64) -> FewBuckets {
        let name = c_text(column);
        // SAFETY: a look-up in the catalog of columns; 0 where there is none of that name.
        let column = unsafe { pg_sys::get_attnum(table, name.as_ptr()) };
        FewBuckets(GROUPED.replace(Some(Grouped { table, column, length })))
    }
}

impl Drop for FewBuckets {
    fn drop(&mut self) {
        GROUPED.set(self.0);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn column_statistics(
    root: *mut pg_sys::PlannerInfo,
    table: *mut pg_sys::RangeTblEntry,
    column: pg_sys::AttrNumber,
    about: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: the planner's arguments are live for the call, and are passed on as they came.
    unsafe {
        if let Some(Some(next)) = NEXT.get()
            // an error of the next hook must unwind these frames, not jump over them
            && pg_sys::ffi::pg_guard_ffi_boundary(|| next(root, table, column, about))
        {
            return true;
        }
        match GROUPED.get() {
            Some(grouped) if grouped.table == (*table).relid && grouped.column == column => {
                few(&grouped, rows(&*root, table), &*table, &mut *about)
            }
            _ => false,
        }
    }
}

/// How many rows the planner takes a table of the query to have.
///
/// # Safety
/// `root` and `table` are the planner's.
unsafe fn rows(root: &pg_sys::PlannerInfo, table: *const pg_sys::RangeTblEntry) -> Option<f64> {
    // SAFETY: both arrays of the planner are of that size, from 1 on.
    unsafe {
        let size = root.simple_rel_array_size as usize;
        let at = (1..size).find(|&n| std::ptr::eq(*root.simple_rte_array.add(n), table))?;
        let relation = *root.simple_rel_array.add(at);
        (!relation.is_null()).then(|| (*relation).tuples)
    }
}

/// Puts the column's statistics with fewer distinct values into `about`; false where there are none, or fewer already.
///
/// # Safety
/// `about` is what the planner asks to be filled in: of it, nothing may be read.
unsafe fn few(
    grouped: &Grouped,
    rows: Option<f64>,
    table: &pg_sys::RangeTblEntry,
    about: &mut pg_sys::VariableStatData,
) -> bool {
    let Some(rows) = rows else { return false };
    // SAFETY: the tuple of the cache is released on every way out, its copy belongs to the planner. The fixed part of
    // pg_statistic ends before what may be NULL.
    unsafe {
        if table.rtekind != pg_sys::RTEKind::RTE_RELATION {
            return false;
        }
        let kept = pg_sys::SearchSysCache3(
            pg_sys::SysCacheIdentifier::STATRELATTINH as i32,
            pg_sys::Datum::from(grouped.table),
            pg_sys::Datum::from(grouped.column),
            pg_sys::Datum::from(table.inh),
        );
        if kept.is_null() {
            return false;
        }
        let told = buckets(kept, grouped.length).filter(|buckets| {
            let distinct =
                (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_statistic>(kept)).stadistinct;
            let distinct = f64::from(distinct);
            *buckets < if distinct < 0.0 { -distinct * rows } else { distinct }
        });
        if let Some(buckets) = told {
            let tuple = pg_sys::heap_copytuple(kept);
            let row = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_statistic>(tuple);
            (*row).stadistinct = buckets as f32;
            about.statsTuple = tuple;
            about.freefunc = Some(free);
        }
        pg_sys::ReleaseSysCache(kept);
        told.is_some()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn free(tuple: pg_sys::HeapTuple) {
    // SAFETY: the planner gives back the tuple that it was given.
    unsafe { pg_sys::heap_freetuple(tuple) }
}

/// How many buckets a column's values reach over, by its histogram; None where that says nothing.
///
/// # Safety
/// `statistics` is a row of pg_statistic.
unsafe fn buckets(statistics: pg_sys::HeapTuple, length: i64) -> Option<f64> {
    let mut slot = pg_sys::AttStatsSlot::default();
    // SAFETY: the slot's values are read before it is freed, and are int8 or int4 by their type.
    unsafe {
        let found = pg_sys::get_attstatsslot(
            &mut slot,
            statistics,
            pg_sys::STATISTIC_KIND_HISTOGRAM as i32,
            pg_sys::InvalidOid,
            pg_sys::ATTSTATSSLOT_VALUES as i32,
        );
        if !found || slot.nvalues < 2 {
            return None;
        }
        let of_type = pg_sys::getBaseType(slot.valuetype);
        // The column may have become one of another type since.
        if ![pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID, pg_sys::DATEOID].contains(&of_type) {
            pg_sys::free_attstatsslot(&mut slot);
            return None;
        }
        let value = |n: i32| {
            let datum = (*slot.values.add(n as usize)).value() as i64;
            // A day that is infinite is more days than there are, and so is a time.
            let factor = if of_type == pg_sys::DATEOID { DAY as f64 } else { 1.0 };
            let datum = if of_type == pg_sys::DATEOID { i64::from(datum as i32) } else { datum };
            datum as f64 * factor
        };
        let span = value(slot.nvalues - 1) - value(0);
        pg_sys::free_attstatsslot(&mut slot);
        Some((span / length as f64).ceil() + 1.0)
    }
}
