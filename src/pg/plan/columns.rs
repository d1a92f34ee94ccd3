//! Columns of a common table expression of one row, as values that the planner finds cheap.
//!
//! `(SELECT v FROM "the state")` is planned as a query of its own wherever it stands, and a sub-query that stands for a raw
//! table has dozens of them. So each is exchanged for a call of a function that is never executed: where the planner folds
//! constants it asks the function's support function, which gives the parameter of the executor that holds the column. The
//! plan of the common table expression, which PostgreSQL has made by then, is what sets these parameters, all at once.
//!
//! Invariant: a common table expression is taken if it has the mark that `mark` sets, which no text can have, and which
//! says that nothing scans it. The function returns `internal`, so that no text calls it.
use super::tree::{self, Node};
use crate::pg::error::raise;
use crate::pg::v1::Call;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};
use std::ffi::CStr;

/// The count of references to a common table expression of which columns alone are asked for.
const MARK: i32 = -1;
const FUNCTION: [&CStr; 2] = [c"rollup_internal", c"state_column"];

crate::v1!(rollup_state_column, state_column);
crate::v1!(rollup_state_column_support, support);

fn state_column(_: &mut Call) -> pg_sys::Datum {
    raise(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "a column of the state is known to the planner alone",
    )
}

/// A copy of a query in which calls stand for the sub-queries that give a column of its common table expression.
///
/// # Safety
/// The query is analysed; it has one common table expression, which gives one row, and names it in such sub-queries alone.
pub(super) unsafe fn mark(query: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: the tree is a copy, whose tags say what its nodes are.
    unsafe {
        let ctes = PgList::<pg_sys::CommonTableExpr>::from_pg((*query).cteList);
        let Some(name) = ctes.get_ptr(0).map(|cte| CStr::from_ptr((*cte).ctename)) else { return query };
        let mut function = None;
        let marked = tree::replaced(query.cast(), &mut |n, _| {
            let column = column_of(n, name)?;
            let f = *function.get_or_insert_with(|| function_id());
            let (at, kind) = (i32::from((*column).varattno), (*column).vartype);
            let number =
                pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, at.into(), false, true);
            let mut args = PgList::<pg_sys::Const>::new();
            args.push(number);
            let collation = (*column).varcollid;
            let form = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
            Some(pg_sys::makeFuncExpr(f, kind, args.into_pg(), collation, pg_sys::InvalidOid, form).cast())
        });
        tree::each(marked, &mut |n, _| {
            if (*n).type_ == pg_sys::NodeTag::T_Query {
                let q = n.cast::<pg_sys::Query>();
                (*q).hasSubLinks = pg_sys::checkExprHasSubLink(n);
            }
            false
        });
        let marked = marked.cast::<pg_sys::Query>();
        PgList::<pg_sys::CommonTableExpr>::from_pg((*marked).cteList)
            .iter_ptr()
            .for_each(|cte| (*cte).cterefcount = MARK);
        marked
    }
}

/// The column that a sub-query gives, if it gives one of a common table expression and is nothing else.
///
/// # Safety
/// `n` is a node of an analysed query.
unsafe fn column_of(n: Node, name: &CStr) -> Option<*mut pg_sys::Var> {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        if (*n).type_ != pg_sys::NodeTag::T_SubLink {
            return None;
        }
        let link = &*n.cast::<pg_sys::SubLink>();
        let q = &*link.subselect.cast::<pg_sys::Query>();
        let tables = PgList::<pg_sys::RangeTblEntry>::from_pg(q.rtable);
        let table = tables.get_ptr(0).filter(|_| tables.len() == 1)?;
        let ours = (*table).rtekind == pg_sys::RTEKind::RTE_CTE && CStr::from_ptr((*table).ctename) == name;
        if link.subLinkType != pg_sys::SubLinkType::EXPR_SUBLINK || !ours || !(*q.jointree).quals.is_null() {
            return None;
        }
        let column: Node = (*tree::targets(q)[0]).expr.cast();
        ((*column).type_ == pg_sys::NodeTag::T_Var).then(|| column.cast())
    }
}

/// The function of which calls are made.
///
/// # Safety
/// The catalog can be read.
unsafe fn function_id() -> pg_sys::Oid {
    // SAFETY: the list and its strings are made for the call.
    unsafe {
        let mut name = PgList::<pg_sys::String>::new();
        FUNCTION.iter().for_each(|part| name.push(pg_sys::makeString(pg_sys::pstrdup(part.as_ptr()))));
        let types = [pg_sys::INTERNALOID];
        pg_sys::LookupFuncName(name.into_pg(), 1, types.as_ptr(), false)
    }
}

/// What the planner asks: gives the parameter that is the column. NULL leaves the call as it is.
fn support(call: &mut Call) -> pg_sys::Datum {
    // SAFETY: the planner hands a request over, whose tag says what it is; no text calls a function of `internal`.
    let parameter = unsafe {
        let asked = call.arg(0).map(|d| d.cast_mut_ptr::<pg_sys::Node>());
        match asked {
            Some(n) if (*n).type_ == pg_sys::NodeTag::T_SupportRequestSimplify => {
                let request = &*n.cast::<pg_sys::SupportRequestSimplify>();
                parameter(request.root, &*request.fcall)
            }
            _ => None,
        }
    };
    pg_sys::Datum::from(parameter.unwrap_or(std::ptr::null_mut()))
}

/// The parameter of a call, in a query around which, or in which, the common table expression stands.
///
/// # Safety
/// `root` is NULL or the planner's; the call is one of `mark`.
unsafe fn parameter(root: *mut pg_sys::PlannerInfo, call: &pg_sys::FuncExpr) -> Option<*mut pg_sys::Param> {
    // SAFETY: the lists are the planner's; `plan` is a node of its own, which is changed before anything refers to it.
    unsafe {
        let (cte, plan) = planned(root)?;
        let number = PgList::<pg_sys::Const>::from_pg(call.args).get_ptr(0)?;
        let columns = tree::targets(&*(*cte).ctequery.cast::<pg_sys::Query>());
        let columns: Vec<Node> =
            columns.into_iter().filter(|t| !(**t).resjunk).map(|t| (*t).expr.cast()).collect();
        let at = (*number).constvalue.value().checked_sub(1)?;
        let column = *columns.get(at)?;
        if pg_sys::exprType(column) != call.funcresulttype {
            return None;
        }
        if (*plan).subLinkType == pg_sys::SubLinkType::CTE_SUBLINK {
            let glob = (*root).glob;
            (*plan).setParam = std::ptr::null_mut();
            for column in &columns {
                let id = pg_sys::list_length((*glob).paramExecTypes);
                (*glob).paramExecTypes =
                    pg_sys::lappend_oid((*glob).paramExecTypes, pg_sys::exprType(*column));
                (*plan).setParam = pg_sys::lappend_int((*plan).setParam, id);
            }
            (*plan).subLinkType = pg_sys::SubLinkType::EXPR_SUBLINK;
        }
        let made = pg_sys::palloc0(size_of::<pg_sys::Param>()).cast::<pg_sys::Param>();
        (*made).xpr.type_ = pg_sys::NodeTag::T_Param;
        (*made).paramkind = pg_sys::ParamKind::PARAM_EXEC;
        (*made).paramid = pg_sys::list_nth_int((*plan).setParam, at as i32);
        (*made).paramtype = call.funcresulttype;
        (*made).paramtypmod = -1;
        (*made).paramcollid = call.funccollid;
        (*made).location = -1;
        Some(made)
    }
}

/// The common table expression with the mark that is next to a query, and its plan.
///
/// # Safety
/// `root` is NULL or the planner's.
unsafe fn planned(
    mut root: *mut pg_sys::PlannerInfo,
) -> Option<(*mut pg_sys::CommonTableExpr, *mut pg_sys::SubPlan)> {
    // SAFETY: the lists are the planner's.
    unsafe {
        while !root.is_null() {
            let all = PgList::<pg_sys::CommonTableExpr>::from_pg((*(*root).parse).cteList);
            if let Some((n, cte)) = all.iter_ptr().enumerate().find(|(_, cte)| (**cte).cterefcount == MARK) {
                let id = pg_sys::list_nth_int((*root).cte_plan_ids, n as i32);
                let plans = PgList::<pg_sys::SubPlan>::from_pg((*root).init_plans);
                let plan = plans.iter_ptr().find(|p| (**p).plan_id == id);
                return plan.map(|plan| (cte, plan));
            }
            root = (*root).parent_root;
        }
        None
    }
}
