//! The plan node as the planner knows it.
use super::node;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};
use std::ffi::CStr;

/// What EXPLAIN calls the node.
pub const NAME: &CStr = c"Batch Aggregate";

/// The same as text.
pub const PLAIN_NAME: &str = "Batch Aggregate";

/// Methods that PostgreSQL reads.
#[repr(transparent)]
pub(super) struct Methods<T>(pub T);

// SAFETY: what they point at is constant.
unsafe impl<T> Sync for Methods<T> {}

pub(super) static PATH: Methods<pg_sys::CustomPathMethods> = Methods(pg_sys::CustomPathMethods {
    CustomName: NAME.as_ptr(),
    PlanCustomPath: Some(plan),
    ReparameterizeCustomPathByChild: None,
});

pub(super) static SCAN: Methods<pg_sys::CustomScanMethods> = Methods(pg_sys::CustomScanMethods {
    CustomName: NAME.as_ptr(),
    CreateCustomScanState: Some(node::create),
});

/// Makes the node known to plans that come from another process. Once.
pub fn register() {
    // SAFETY: the methods are static.
    unsafe { pg_sys::RegisterCustomScanMethods(&raw const SCAN.0) };
}

/// Where what the node computes lies in what the scan hands up. It travels with the plan, as numbers.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// States are handed up, not results.
    pub partial: bool,
    /// Of each key which of the scan's targets it is.
    pub keys: Vec<usize>,
    /// For columns of the table, as aggregates name them, which of the targets they are.
    pub places: Vec<(i16, usize)>,
}

impl Layout {
    /// # Safety
    /// The current memory context outlives the list.
    pub unsafe fn written(&self) -> *mut pg_sys::List {
        let mut list = std::ptr::null_mut();
        let mut add = |n: usize| {
            // SAFETY: appends to a list of our own.
            list = unsafe { pg_sys::lappend_int(list, n as i32) };
        };
        add(usize::from(self.partial));
        add(self.keys.len());
        self.keys.iter().for_each(|k| add(*k));
        for (number, place) in &self.places {
            add(*number as usize);
            add(*place);
        }
        list
    }

    /// # Safety
    /// The list is the private one of a plan that `plan` gave, or a copy.
    pub unsafe fn read(list: *mut pg_sys::List) -> Layout {
        // SAFETY: the caller vouches for the list.
        let numbers: Vec<i32> = unsafe {
            let list = PgList::<pg_sys::List>::from_pg(list).get_ptr(0).unwrap_or(std::ptr::null_mut());
            PgList::<i32>::from_pg(list).iter_int().collect()
        };
        let (partial, rest) = numbers.split_first().unwrap_or((&0, &[]));
        let (count, rest) = rest.split_first().unwrap_or((&0, &[]));
        let (keys, places) = rest.split_at((*count as usize).min(rest.len()));
        Layout {
            partial: *partial != 0,
            keys: keys.iter().map(|k| *k as usize).collect(),
            places: places.as_chunks::<2>().0.iter().map(|[n, place]| (*n as i16, *place as usize)).collect(),
        }
    }
}

/// Makes the plan of a path of ours, whose private list has the numbers of the layout, the keys and the calls.
#[pg_guard]
unsafe extern "C-unwind" fn plan(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    path: *mut pg_sys::CustomPath,
    targets: *mut pg_sys::List,
    _clauses: *mut pg_sys::List,
    below: *mut pg_sys::List,
) -> *mut pg_sys::Plan {
    // SAFETY: the planner hands over a path that `offer` made, and the plans of the paths below it.
    unsafe {
        let parts = PgList::<pg_sys::List>::from_pg((*path).custom_private);
        let part = |n| parts.get_ptr(n).unwrap_or(std::ptr::null_mut());
        let mut scanned = PgList::<pg_sys::TargetEntry>::new();
        for list in [part(1), part(2)] {
            for e in PgList::<pg_sys::Expr>::from_pg(list).iter_ptr() {
                let number = scanned.len() as i16 + 1;
                scanned.push(pg_sys::makeTargetEntry(e, number, std::ptr::null_mut(), false));
            }
        }
        let scan = pg_sys::palloc0(size_of::<pg_sys::CustomScan>()).cast::<pg_sys::CustomScan>();
        (*scan).scan.plan.type_ = pg_sys::NodeTag::T_CustomScan;
        (*scan).scan.plan.targetlist = targets;
        (*scan).scan.plan.qual = part(3);
        (*scan).flags = (*path).flags;
        if let Some(first) = PgList::<pg_sys::Plan>::from_pg(below).get_ptr(0) {
            (*(*below).elements).ptr_value = ungated(first, &mut (*scan).custom_exprs).cast();
        }
        (*scan).custom_plans = below;
        // A list of nodes, with the list of numbers in it: other extensions, Citus is one, look at the tag of its first element
        // to tell their own plans.
        (*scan).custom_private = pg_sys::lappend(std::ptr::null_mut(), part(0).cast());
        (*scan).custom_scan_tlist = scanned.into_pg();
        (*scan).methods = &raw const SCAN.0;
        scan.cast()
    }
}

/// The scans of a plan without what is above each where conditions are asked once, since no row has a part in them: a Result.
/// What it is handed up by then is what the Result would have. Hands the conditions over; parts of a table all have the
/// table's.
unsafe fn ungated(plan: *mut pg_sys::Plan, gate: &mut *mut pg_sys::List) -> *mut pg_sys::Plan {
    // SAFETY: plans are read as what their tags say; columns in them are the tables' until the planner is done.
    unsafe {
        match (*plan).type_ {
            pg_sys::NodeTag::T_Append => {
                let parts = (*plan.cast::<pg_sys::Append>()).appendplans;
                for n in 0..(*parts).length as usize {
                    let part = (*parts).elements.add(n);
                    (*part).ptr_value = ungated((*part).ptr_value.cast(), gate).cast();
                }
                plan
            }
            pg_sys::NodeTag::T_Result if !(*plan).lefttree.is_null() => {
                let scan = (*plan).lefttree;
                (*scan).targetlist = (*plan).targetlist;
                *gate = (*plan.cast::<pg_sys::Result>()).resconstantqual.cast();
                scan
            }
            _ => plan,
        }
    }
}
