//! What a query may consist of to be grouped by pages.
use super::calls;
use super::emit::About;
use super::known;
use super::states;
use pgrx::{PgList, pg_sys};

/// Whether it is an expression that can be a key: equal values have equal bytes.
///
/// # Safety
/// `e` is an expression of a query that is planned.
pub unsafe fn is_key(e: *mut pg_sys::Expr) -> bool {
    // SAFETY: the caller's node is an expression.
    unsafe {
        let of = pg_sys::getBaseType(pg_sys::exprType(e.cast()));
        let known = match of {
            pg_sys::INT2OID
            | pg_sys::INT4OID
            | pg_sys::INT8OID
            | pg_sys::OIDOID
            | pg_sys::BOOLOID
            | pg_sys::DATEOID
            | pg_sys::TIMESTAMPOID
            | pg_sys::TIMESTAMPTZOID
            | pg_sys::UUIDOID => true,
            pg_sys::TEXTOID | pg_sys::VARCHAROID => {
                pg_sys::get_collation_isdeterministic(pg_sys::exprCollation(e.cast()))
            }
            _ => false,
        };
        known && !pg_sys::contain_volatile_functions(e.cast()) && !pg_sys::contain_subplans(e.cast())
    }
}

/// Whether it is a call whose states can be kept here.
///
/// # Safety
/// `call` is one of a query that is planned.
pub unsafe fn is_taken(call: *mut pg_sys::Aggref) -> bool {
    // SAFETY: the caller's node is a call.
    unsafe {
        let c = &*call;
        let plain = c.aggkind as u8 == b'n'
            && c.aggorder.is_null()
            && c.aggdistinct.is_null()
            && c.aggdirectargs.is_null()
            && c.agglevelsup == 0
            && !c.aggvariadic
            && !pg_sys::contain_volatile_functions(call.cast())
            && !pg_sys::contain_subplans(call.cast());
        if !plain {
            return false;
        }
        if states::plain(c.aggfnoid).is_some() {
            return true;
        }
        let Some(about) = About::of(call) else { return false };
        let builtin = c.aggfnoid.to_u32() < pg_sys::FirstNormalObjectId;
        if known::kernel(about.transition).is_some() && about.begins_with_nothing() {
            return true;
        }
        // A function of any type asks of which it is called with, which is not told here.
        (builtin || known::is_ours(c.aggfnoid)) && !is_polymorphic(about.transition)
    }
}

unsafe fn is_polymorphic(function: pg_sys::Oid) -> bool {
    const ANY: [u32; 13] = [2276, 2277, 2283, 2776, 3500, 3831, 4537, 4538, 5077, 5078, 5079, 5080, 2249];
    let (mut types, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: the function's argument types, as many as it says.
    unsafe {
        pg_sys::get_func_signature(function, &mut types, &mut count);
        (0..count as usize).any(|n| ANY.contains(&(*types.add(n)).to_u32()))
    }
}

/// The cheapest path that reads a heap by pages, if there is one.
///
/// # Safety
/// `paths` are the planner's.
pub unsafe fn cheapest(
    paths: *mut pg_sys::List,
    root: *mut pg_sys::PlannerInfo,
) -> Option<*mut pg_sys::Path> {
    // SAFETY: the list holds paths.
    unsafe {
        let paths = PgList::<pg_sys::Path>::from_pg(paths);
        let taken = paths.iter_ptr().filter(|p| calls::is_scan(*p, root));
        taken.min_by(|a, b| (**a).total_cost.total_cmp(&(**b).total_cost))
    }
}
