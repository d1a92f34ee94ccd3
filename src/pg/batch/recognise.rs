//! Conditions of PostgreSQL that are looked at here, a column at a time.
use super::compile::{Compiler, constant};
use super::condition::{self, Comparison, Condition, Operand, Width, is_number};
use pgrx::{PgList, pg_sys};

impl Compiler {
    /// A condition over the scan's columns.
    pub(super) unsafe fn condition(&mut self, e: *mut pg_sys::Expr) -> Condition {
        // SAFETY: the tags say what the nodes are. Steps run after conditions, so that none may be left behind.
        unsafe {
            let steps = self.steps.len();
            match self.known_condition(e) {
                Some(condition) if self.steps.len() == steps => condition,
                _ => {
                    self.steps.truncate(steps);
                    Condition::Executor(self.state(e))
                }
            }
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
                    let mut inner: Vec<Condition> = parts(all.args)
                        .into_iter()
                        .map(|p| self.known_condition(p))
                        .collect::<Option<_>>()?;
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
                pg_sys::NodeTag::T_Var => Condition::Holds(self.simple(e)?),
                pg_sys::NodeTag::T_Const => {
                    let c = &*e.cast::<pg_sys::Const>();
                    Condition::Constant((!c.constisnull).then(|| c.constvalue.value() & 0xff != 0))
                }
                pg_sys::NodeTag::T_OpExpr => self.comparison(&*e.cast::<pg_sys::OpExpr>())?,
                pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                    let test = &*e.cast::<pg_sys::ScalarArrayOpExpr>();
                    let how = Comparison::of(test.opno)?;
                    let sides = parts(test.args);
                    let (of, array) = (*sides.first()?, sides.get(1)?.cast::<pg_sys::Const>());
                    let element = pg_sys::exprType(of.cast());
                    if (*array).xpr.type_ != pg_sys::NodeTag::T_Const || !is_number(element) {
                        return None;
                    }
                    let one_of = Condition::OneOf {
                        column: self.simple(of)?,
                        values: condition::numbers(array, element)?,
                    };
                    match (how, test.useOr) {
                        (Comparison::Equal, true) => one_of,
                        (Comparison::Unequal, false) => Condition::Not(Box::new(one_of)),
                        _ => return None,
                    }
                }
                _ => return None,
            })
        }
    }

    /// The column of an expression that is one of the table's.
    unsafe fn simple(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
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

    unsafe fn comparison(&mut self, test: &pg_sys::OpExpr) -> Option<Condition> {
        const TEXT_EQUAL: u32 = 98;
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let sides = PgList::<pg_sys::Expr>::from_pg(test.args);
            let (left, right) = (sides.get_ptr(0)?, sides.get_ptr(1)?);
            if test.opno.to_u32() == TEXT_EQUAL && pg_sys::get_collation_isdeterministic(test.inputcollid) {
                let value = constant(right)?;
                let bytes = condition::text(right.cast());
                debug_assert_eq!(value, (*right.cast::<pg_sys::Const>()).constvalue);
                return Some(Condition::SameBytes { column: self.simple(left)?, bytes });
            }
            let how = Comparison::of(test.opno)?;
            let (how, of, other) =
                if self.simple(left).is_some() { (how, left, right) } else { (how.turned(), right, left) };
            let column = self.simple(of)?;
            let with = match (*other.cast::<pg_sys::Node>()).type_ {
                pg_sys::NodeTag::T_Const => {
                    let c = &*other.cast::<pg_sys::Const>();
                    let width = Width::of_type(c.consttype);
                    Operand::Value((!c.constisnull).then(|| width.extended(c.constvalue) as i64))
                }
                pg_sys::NodeTag::T_Param if self.scan.is_null() => Operand::Value(None),
                pg_sys::NodeTag::T_Param => Operand::Value(parameter(other, (*self.scan).ps.state)?),
                _ => Operand::Column(self.simple(other)?),
            };
            Some(Condition::Compare { column, how, with })
        }
    }
}

/// The value of a parameter that the statement was executed with; None where that is not known yet.
unsafe fn parameter(e: *mut pg_sys::Expr, state: *mut pg_sys::EState) -> Option<Option<i64>> {
    // SAFETY: the tag says what the node is; the parameters are those of the running statement.
    unsafe {
        let param = &*e.cast::<pg_sys::Param>();
        let given = (*state).es_param_list_info;
        if param.paramkind != pg_sys::ParamKind::PARAM_EXTERN
            || given.is_null()
            || (*given).paramFetch.is_some()
            || !(1..=(*given).numParams).contains(&param.paramid)
        {
            return None;
        }
        let value = &*(*given).params.as_ptr().add(param.paramid as usize - 1);
        (value.ptype == param.paramtype)
            .then(|| (!value.isnull).then(|| Width::of_type(value.ptype).extended(value.value) as i64))
    }
}
