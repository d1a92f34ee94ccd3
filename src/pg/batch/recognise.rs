//! Conditions of PostgreSQL that are looked at here, a column at a time.
use super::column::{Width, is_number};
use super::compile::Compiler;
use super::condition::{Comparison, Condition, Once, Operand, Truth};
use super::expressions::constant;
use crate::pg::v1::varlena_payload;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{PgList, pg_sys};
use std::cell::Cell;

impl Compiler {
    /// A condition over the scan's columns; the executor is asked for the parts of it that are not known here.
    pub(super) unsafe fn condition(&mut self, e: *mut pg_sys::Expr) -> Condition {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let steps = self.steps.len();
            self.known_condition(e).unwrap_or_else(|| {
                self.forget_steps(steps);
                Condition::Executor(self.state(e))
            })
        }
    }

    unsafe fn known_condition(&mut self, e: *mut pg_sys::Expr) -> Option<Condition> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let parts = |list: *mut pg_sys::List| -> Vec<*mut pg_sys::Expr> {
                PgList::from_pg(list).iter_ptr().collect()
            };
            Some(match (*e.cast::<pg_sys::Node>()).type_ {
                pg_sys::NodeTag::T_BoolExpr => {
                    let all = &*e.cast::<pg_sys::BoolExpr>();
                    let mut inner: Vec<Condition> =
                        parts(all.args).into_iter().map(|p| self.condition(p)).collect();
                    match all.boolop {
                        pg_sys::BoolExprType::AND_EXPR => Condition::All(inner),
                        pg_sys::BoolExprType::OR_EXPR => Condition::Any(inner),
                        _ => Condition::Not(Box::new(inner.pop()?)),
                    }
                }
                pg_sys::NodeTag::T_NullTest => {
                    let test = &*e.cast::<pg_sys::NullTest>();
                    if test.argisrow {
                        return None;
                    }
                    let is_null = Condition::IsNull(self.simple(test.arg)?);
                    match test.nulltesttype {
                        pg_sys::NullTestType::IS_NULL => is_null,
                        _ => Condition::Not(Box::new(is_null)),
                    }
                }
                pg_sys::NodeTag::T_BooleanTest => self.truth(&*e.cast::<pg_sys::BooleanTest>())?,
                pg_sys::NodeTag::T_Var => Condition::Holds(self.simple(e)?),
                pg_sys::NodeTag::T_Const => {
                    let c = &*e.cast::<pg_sys::Const>();
                    Condition::Constant((!c.constisnull).then(|| c.constvalue.value() & 0xff != 0))
                }
                pg_sys::NodeTag::T_OpExpr => self.comparison(&*e.cast::<pg_sys::OpExpr>())?,
                pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                    self.one_of(&*e.cast::<pg_sys::ScalarArrayOpExpr>())?
                }
                _ => return None,
            })
        }
    }

    /// IS TRUE and the like.
    unsafe fn truth(&mut self, test: &pg_sys::BooleanTest) -> Option<Condition> {
        // SAFETY: the node's argument is an expression.
        let inner = Box::new(unsafe { self.condition(test.arg) });
        let (what, negated) = match test.booltesttype {
            pg_sys::BoolTestType::IS_TRUE => (Truth::True, false),
            pg_sys::BoolTestType::IS_NOT_TRUE => (Truth::True, true),
            pg_sys::BoolTestType::IS_FALSE => (Truth::False, false),
            pg_sys::BoolTestType::IS_NOT_FALSE => (Truth::False, true),
            pg_sys::BoolTestType::IS_UNKNOWN => (Truth::Unknown, false),
            _ => (Truth::Unknown, true),
        };
        let is = Condition::Is(inner, what);
        Some(if negated { Condition::Not(Box::new(is)) } else { is })
    }

    /// `= ANY` and `<> ALL` of an array.
    unsafe fn one_of(&mut self, test: &pg_sys::ScalarArrayOpExpr) -> Option<Condition> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let how = Comparison::of(test.opno)?;
            let sides = PgList::<pg_sys::Expr>::from_pg(test.args);
            let (of, array) = (sides.get_ptr(0)?, sides.get_ptr(1)?);
            let element = pg_sys::exprType(of.cast());
            if !is_number(element) {
                return None;
            }
            let column = self.simple(of)?;
            let one_of = match self.value(array)? {
                Value::Later => Condition::OneOf { column, values: Vec::new() },
                // Compared with NULL, no row is told anything.
                Value::Now(None) => return Some(Condition::Constant(None)),
                Value::Now(Some(array)) => Condition::OneOf { column, values: numbers(array, element)? },
            };
            match (how, test.useOr) {
                (Comparison::Equal, true) => Some(one_of),
                (Comparison::Unequal, false) => Some(Condition::Not(Box::new(one_of))),
                _ => None,
            }
        }
    }

    /// The column of an expression that is one of the table's.
    pub(super) unsafe fn simple(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let mut e = e;
            while (*e.cast::<pg_sys::Node>()).type_ == pg_sys::NodeTag::T_RelabelType {
                e = (*e.cast::<pg_sys::RelabelType>()).arg;
            }
            let var = e.cast::<pg_sys::Var>();
            let is_column = (*var).xpr.type_ == pg_sys::NodeTag::T_Var && (*var).varattno > 0;
            is_column.then(|| self.column(e))
        }
    }

    /// What an expression comes to that no row has a part in; None of others.
    unsafe fn value(&self, e: *mut pg_sys::Expr) -> Option<Value> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            match (*e.cast::<pg_sys::Node>()).type_ {
                pg_sys::NodeTag::T_Const => {
                    let c = &*e.cast::<pg_sys::Const>();
                    Some(Value::Now((!c.constisnull).then_some(c.constvalue)))
                }
                pg_sys::NodeTag::T_Param if self.scan.is_null() => Some(Value::Later),
                pg_sys::NodeTag::T_Param => parameter(&*e.cast::<pg_sys::Param>(), self.scan).map(Value::Now),
                _ => None,
            }
        }
    }

    unsafe fn comparison(&mut self, test: &pg_sys::OpExpr) -> Option<Condition> {
        const TEXT_EQUAL: u32 = 98;
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let sides = PgList::<pg_sys::Expr>::from_pg(test.args);
            let (left, right) = (sides.get_ptr(0)?, sides.get_ptr(1)?);
            if test.opno.to_u32() == TEXT_EQUAL && pg_sys::get_collation_isdeterministic(test.inputcollid) {
                constant(right)?;
                let bytes = varlena_payload((*right.cast::<pg_sys::Const>()).constvalue).to_vec();
                return Some(Condition::SameBytes { column: self.simple(left)?, bytes });
            }
            let how = Comparison::of(test.opno)?;
            let (how, column, other) = match self.simple_or_bucket(left) {
                Some(column) => (how, column, right),
                None => (how.turned(), self.simple_or_bucket(right)?, left),
            };
            let with = match self.value(other) {
                Some(Value::Later) => Operand::Value(None),
                Some(Value::Now(value)) => {
                    let width = Width::of_type(pg_sys::exprType(other.cast()));
                    Operand::Value(value.map(|value| width.extended(value) as i64))
                }
                None => match self.simple_or_bucket(other) {
                    Some(other) => Operand::Column(other),
                    None if is_of_no_row(other) => Operand::Once(Once {
                        state: self.state(other),
                        width: Width::of_type(pg_sys::exprType(other.cast())),
                        known: Cell::new(None),
                    }),
                    None => return None,
                },
            };
            Some(Condition::Compare { column, how, with })
        }
    }
}

/// Whether an expression comes to the same whatever the row is.
unsafe fn is_of_no_row(e: *mut pg_sys::Expr) -> bool {
    // SAFETY: the node is an expression of a condition, in which there are no aggregates.
    unsafe {
        !pg_sys::contain_var_clause(e.cast())
            && !pg_sys::contain_volatile_functions(e.cast())
            && !pg_sys::contain_subplans(e.cast())
            && !pg_sys::expression_returns_set(e.cast())
    }
}

/// A value that is the same for all rows.
enum Value {
    /// It is known once the statement is executed.
    Later,
    Now(Option<pg_sys::Datum>),
}

/// The value of a parameter: one that the statement was executed with, or one that a sub-query gives which does not depend on
/// the row.
unsafe fn parameter(param: &pg_sys::Param, scan: *mut pg_sys::ScanState) -> Option<Option<pg_sys::Datum>> {
    mod unguarded {
        use pgrx::pg_sys;
        unsafe extern "C-unwind" {
            pub fn ExecSetParamPlan(node: *mut pg_sys::SubPlanState, context: *mut pg_sys::ExprContext);
        }
    }
    // SAFETY: the parameters are those of the running statement; a sub-query that has not been asked yet is asked here, as
    // the executor does where it comes to the parameter.
    unsafe {
        if param.paramkind == pg_sys::ParamKind::PARAM_EXEC {
            let context = (*scan).ps.ps_ExprContext;
            let value = (*context).ecxt_param_exec_vals.add(param.paramid as usize);
            if !(*value).execPlan.is_null() {
                let plan = (*value).execPlan.cast();
                pg_guard_ffi_boundary(|| unguarded::ExecSetParamPlan(plan, context));
            }
            return Some((!(*value).isnull).then_some((*value).value));
        }
        let given = (*(*scan).ps.state).es_param_list_info;
        if param.paramkind != pg_sys::ParamKind::PARAM_EXTERN
            || given.is_null()
            || (*given).paramFetch.is_some()
            || !(1..=(*given).numParams).contains(&param.paramid)
        {
            return None;
        }
        let value = &*(*given).params.as_ptr().add(param.paramid as usize - 1);
        (value.ptype == param.paramtype).then(|| (!value.isnull).then_some(value.value))
    }
}

/// The numbers in an array whose elements are passed by value; None where one is NULL.
unsafe fn numbers(array: pg_sys::Datum, element: pg_sys::Oid) -> Option<Vec<i64>> {
    // SAFETY: the caller vouches for the array; the type's size is asked for.
    unsafe {
        let (mut length, mut by_value, mut align) = (0, false, 0);
        pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        if !by_value || (*array).elemtype != element || pg_sys::array_contains_nulls(array) {
            return None;
        }
        let (mut elements, mut count) = (std::ptr::null_mut::<pg_sys::Datum>(), 0);
        pg_sys::deconstruct_array(
            array,
            element,
            length.into(),
            by_value,
            align,
            &mut elements,
            std::ptr::null_mut(),
            &mut count,
        );
        let mut numbers: Vec<i64> =
            (0..count as usize).map(|n| Width::of(length).extended(*elements.add(n)) as i64).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Some(numbers)
    }
}
