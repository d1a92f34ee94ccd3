//! A hook that lets Citus split `approx_count_distinct` between workers and coordinator.
//!
//! Citus 11 to 14 sends every row to the coordinator where the state of an aggregate is internal, except for aggregates of
//! two names, one of which is `hll_add_agg`. So before a query over one of its tables is planned, the call is put in
//! the words of that one, over the same hash and with the same parameters, which gives the same number.
use crate::pg::deparse::string;
use pgrx::pg_sys::{self, AsPgCStr, NodeTag, Oid};
use pgrx::prelude::*;
use pgrx::{IntoDatum, PgList};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

static DISTRIBUTED: OnceLock<fn(Oid) -> bool> = OnceLock::new();
static NEXT: OnceLock<pg_sys::planner_hook_type> = OnceLock::new();
const AGGREGATE: &CStr = c"approx_count_distinct";

/// Installs the hook once; `distributed` says which tables Citus keeps.
pub fn install(distributed: fn(Oid) -> bool) {
    if DISTRIBUTED.set(distributed).is_err() {
        return;
    }
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        let _ = NEXT.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan(
    parse: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner's arguments are passed on as they came; the tree is the planner's own, which may write to it.
    // An error of the next hook must unwind these frames, not jump over them.
    unsafe {
        rewrite(parse);
        pg_sys::ffi::pg_guard_ffi_boundary(|| match NEXT.get() {
            Some(Some(next)) => next(parse, text, options, params),
            _ => pg_sys::standard_planner(parse, text, options, params),
        })
    }
}

#[derive(Default)]
struct Found {
    calls: Vec<*mut pg_sys::Aggref>,
    tables: Vec<Oid>,
}

unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, found: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: `found` is the one of `rewrite`; the walker hands over live nodes, read as what their tags say.
    unsafe {
        let to = &mut *found.cast::<Found>();
        match (*node).type_ {
            NodeTag::T_RangeTblEntry => {
                let entry = node.cast::<pg_sys::RangeTblEntry>();
                if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                    to.tables.push((*entry).relid);
                }
                return false;
            }
            NodeTag::T_Query => {
                let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE as i32;
                return pg_sys::query_tree_walker(node.cast(), Some(visit), found, flags);
            }
            NodeTag::T_Aggref if is_named(node.cast()) => to.calls.push(node.cast()),
            _ => {}
        }
        pg_sys::expression_tree_walker(node, Some(visit), found)
    }
}

/// # Safety
/// `call` is a live aggregate call.
unsafe fn is_named(call: *mut pg_sys::Aggref) -> bool {
    // SAFETY: a look-up in the catalog's cache.
    unsafe {
        let name = pg_sys::get_func_name((*call).aggfnoid);
        !name.is_null() && CStr::from_ptr(name) == AGGREGATE
    }
}

/// # Safety
/// `parse` is an analysed query that may be changed.
unsafe fn rewrite(parse: *mut pg_sys::Query) {
    let mut found = Found::default();
    // SAFETY: the caller vouches for the query, `visit` for the context.
    unsafe { visit(parse.cast(), (&raw mut found).cast()) };
    let distributed = |table: &Oid| DISTRIBUTED.get().is_some_and(|distributed| distributed(*table));
    if found.calls.is_empty() || !found.tables.iter().any(distributed) {
        return;
    }
    for call in found.calls {
        // SAFETY: the calls are nodes of the tree.
        unsafe {
            if let Some(schema) = schema_of(call)
                && let Some(log2m) = log2m(call)
            {
                put_in_other_words(call, &schema, log2m);
            }
        }
    }
}

/// The schema of the extension, where the aggregate is the extension's and its call has neither DISTINCT nor ORDER BY.
///
/// # Safety
/// `call` is a live aggregate call.
unsafe fn schema_of(call: *mut pg_sys::Aggref) -> Option<String> {
    // SAFETY: look-ups in the catalog.
    unsafe {
        let function = (*call).aggfnoid;
        let ours = pg_sys::get_extension_oid(c"hll".as_ptr(), true);
        let plain = (*call).aggorder.is_null() && (*call).aggdistinct.is_null();
        (plain
            && ours != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::ProcedureRelationId, function) == ours)
            .then(|| string(pg_sys::get_namespace_name(pg_sys::get_func_namespace(function))))
    }
}

/// The parameter that the call names or leaves to the default; None where that is no constant.
///
/// # Safety
/// `call` is a live aggregate call.
unsafe fn log2m(call: *mut pg_sys::Aggref) -> Option<i32> {
    // SAFETY: arguments of a call are target entries; an expression is read as a constant where its tag says so.
    unsafe {
        let arguments = PgList::<pg_sys::TargetEntry>::from_pg((*call).args);
        let Some(second) = arguments.get_ptr(1) else {
            return Some(i32::from(hll_sketch::Params::DEFAULT.log2m));
        };
        let constant = (*second).expr.cast::<pg_sys::Const>();
        let is_constant = (*constant).xpr.type_ == NodeTag::T_Const && !(*constant).constisnull;
        is_constant.then(|| (*constant).constvalue.value() as i32)
    }
}

/// # Safety
/// `schema` and `name` are those of a function.
unsafe fn function(schema: &str, name: &str, arguments: &[Oid]) -> Oid {
    // SAFETY: the list and the strings outlive the call, which raises an error where there is no such function.
    unsafe {
        let mut names = PgList::<pg_sys::Node>::new();
        names.push(pg_sys::makeString(schema.as_pg_cstr()).cast());
        names.push(pg_sys::makeString(name.as_pg_cstr()).cast());
        pg_sys::LookupFuncName(names.into_pg(), arguments.len() as i32, arguments.as_ptr(), false)
    }
}

/// # Safety
/// `argument` is an expression of the type that the function takes.
unsafe fn call_of(function: Oid, argument: *mut pg_sys::Node, collation: Oid) -> pg_sys::FuncExpr {
    // SAFETY: the caller vouches for the argument.
    unsafe {
        let mut call = pg_sys::FuncExpr::default();
        let mut arguments = PgList::<pg_sys::Node>::new();
        arguments.push(argument);
        call.xpr.type_ = NodeTag::T_FuncExpr;
        call.funcid = function;
        call.funcresulttype = pg_sys::get_func_rettype(function);
        call.funcformat = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        call.inputcollid = collation;
        call.args = arguments.into_pg();
        call.location = -1;
        call
    }
}

/// Writes `estimate(hll_add_agg(hash(value), log2m, 6, -1, 1))` in the place of the call.
///
/// # Safety
/// `call` is a node of a tree that may be changed.
unsafe fn put_in_other_words(call: *mut pg_sys::Aggref, schema: &str, log2m: i32) {
    const _: () = assert!(size_of::<pg_sys::FuncExpr>() <= size_of::<pg_sys::Aggref>());
    // SAFETY: the caller vouches for the node, which is at least as large as what is written over it; new nodes are
    // allocated where the tree is, and last as long.
    unsafe {
        let value = PgList::<pg_sys::TargetEntry>::from_pg((*call).args).get_ptr(0).map(|v| (*v).expr);
        let Some(value) = value else { return };
        let hash = function(schema, "approx_count_distinct_hash", &[pg_sys::ANYELEMENTOID]);
        let hashed = call_of(hash, value.cast(), (*call).inputcollid);
        let types =
            [hashed.funcresulttype, pg_sys::INT4OID, pg_sys::INT4OID, pg_sys::INT8OID, pg_sys::INT4OID];
        let add = function(schema, "hll_add_agg", &types);
        let sketch = pg_sys::get_func_rettype(add);
        let estimate = function(schema, "approx_count_distinct_estimate", &[sketch]);

        let mut arguments = PgList::<pg_sys::TargetEntry>::new();
        let mut argument = |expression: *mut pg_sys::Expr| {
            let number = arguments.len() as i16 + 1;
            arguments.push(pg_sys::makeTargetEntry(expression, number, std::ptr::null_mut(), false));
        };
        let place = pg_sys::palloc(size_of::<pg_sys::FuncExpr>()).cast::<pg_sys::FuncExpr>();
        place.write(hashed);
        argument(place.cast());
        for (value, of) in [(i64::from(log2m), types[1]), (6, types[2]), (-1, types[3]), (1, types[4])] {
            let size = if of == pg_sys::INT8OID { 8 } else { 4 };
            let datum = value.into_datum().unwrap_or(pg_sys::Datum::from(0usize));
            argument(pg_sys::makeConst(of, -1, pg_sys::InvalidOid, size, datum, false, true).cast());
        }
        let mut types_list: *mut pg_sys::List = std::ptr::null_mut();
        for of in types {
            types_list = pg_sys::lappend_oid(types_list, of);
        }
        let sketched = pg_sys::palloc(size_of::<pg_sys::Aggref>()).cast::<pg_sys::Aggref>();
        sketched.write(pg_sys::Aggref {
            aggfnoid: add,
            aggtype: sketch,
            aggcollid: pg_sys::InvalidOid,
            inputcollid: pg_sys::InvalidOid,
            aggargtypes: types_list,
            args: arguments.into_pg(),
            ..*call
        });
        call.cast::<pg_sys::FuncExpr>().write(call_of(estimate, sketched.cast(), pg_sys::InvalidOid));
    }
}
