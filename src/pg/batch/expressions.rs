//! Expressions over a scan's columns, as columns that steps compute.
use super::column::{Column, Kind, Width, kind_of};
use super::compile::Compiler;
use super::condition::Comparison;
use super::known;
use super::program::{DAY, EARLIEST, LATEST, Step, truncated};
use crate::pg::deparse::string;
use pgrx::{PgList, pg_sys};

/// Seconds that a zone is east of UTC, if it is that always.
fn offset_of(zone: *const pg_sys::pg_tz) -> Option<i64> {
    let mut seconds = 0;
    // SAFETY: the zone is NULL or one of PostgreSQL's, which keeps them.
    (!zone.is_null() && unsafe { pg_sys::pg_get_timezone_offset(zone, &mut seconds) }).then_some(seconds)
}

impl Compiler {
    /// The column that an expression over the scan's columns becomes.
    pub(super) unsafe fn column(&mut self, e: *mut pg_sys::Expr) -> usize {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            match (*e.cast::<pg_sys::Node>()).type_ {
                pg_sys::NodeTag::T_Var => {
                    let var = &*e.cast::<pg_sys::Var>();
                    if let Some(kind) = kind_of(var.vartype).filter(|_| var.varattno > 0) {
                        return self.of_table(var.varattno, kind);
                    }
                }
                pg_sys::NodeTag::T_Const => {
                    let constant = &*e.cast::<pg_sys::Const>();
                    if let Some(kind) = kind_of(constant.consttype) {
                        return self.add(Column::of(
                            kind,
                            Width::of_type(constant.consttype).extended(constant.constvalue),
                            constant.constisnull,
                        ));
                    }
                }
                pg_sys::NodeTag::T_RelabelType => {
                    return self.column((*e.cast::<pg_sys::RelabelType>()).arg);
                }
                pg_sys::NodeTag::T_FuncExpr => {
                    if let Some(column) = self.bucket_of(e).or_else(|| self.call(e)) {
                        return column;
                    }
                }
                pg_sys::NodeTag::T_CaseExpr => {
                    if let Some(column) = self.bucket_of(e).or_else(|| self.choice(e)) {
                        return column;
                    }
                }
                _ => {}
            }
            let kind = kind_of(pg_sys::exprType(e.cast())).unwrap_or(Kind::Bytes);
            let state = self.state(e);
            let into = self.add(Column::new(kind));
            let width = Width::of_type(pg_sys::exprType(e.cast()));
            self.steps.push(Step::Executor { into, state, width });
            into
        }
    }

    /// The column of a bucket of one of the table's columns, computed once. Steps of no other kind are made, so that rows may
    /// be looked at that the executor would leave out.
    pub(super) unsafe fn bucket_of(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let equal =
                |(other, ..): &&(*mut pg_sys::Expr, usize, usize)| pg_sys::equal(e.cast(), other.cast());
            if let Some((_, column, _)) = self.computed.iter().find(equal) {
                return Some(*column);
            }
            let steps = self.steps.len();
            let column = match (*e.cast::<pg_sys::Node>()).type_ {
                pg_sys::NodeTag::T_FuncExpr => self.call(e),
                pg_sys::NodeTag::T_CaseExpr => self.case(e),
                _ => None,
            };
            match (&self.steps[steps..], column) {
                ([Step::Bucket { .. } | Step::Day { .. }], Some(column)) => {
                    self.computed.push((e, column, steps));
                    Some(column)
                }
                _ => {
                    self.forget_steps(steps);
                    None
                }
            }
        }
    }

    /// Takes back the steps that were made since there were so many.
    pub(super) fn forget_steps(&mut self, steps: usize) {
        self.steps.truncate(steps);
        self.computed.retain(|(.., step)| *step < steps);
    }

    fn of_table(&mut self, number: i16, kind: Kind) -> usize {
        if let Some((_, column)) = self.wanted.iter().find(|(n, _)| *n == number) {
            return *column;
        }
        let column = self.add(Column::new(kind));
        self.wanted.push((number, column));
        column
    }

    /// A call of a function that is known here.
    unsafe fn call(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
        // SAFETY: the caller's node is a FuncExpr; constants are looked at by their tags.
        unsafe {
            let call = &*e.cast::<pg_sys::FuncExpr>();
            let args: Vec<*mut pg_sys::Expr> = PgList::from_pg(call.args).iter_ptr().collect();
            match (call.funcid.to_u32(), &args[..]) {
                (pg_sys::F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ, [stride, of, origin])
                | (pg_sys::F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP, [stride, of, origin]) => {
                    let (stride, origin) = (constant(*stride)?, constant(*origin)?.value() as i64);
                    let stride = &*stride.cast_mut_ptr::<pg_sys::Interval>();
                    let length = i64::from(stride.day).checked_mul(DAY)?.checked_add(stride.time)?;
                    if stride.month != 0 || length <= 0 || !(-LATEST / 8..LATEST).contains(&origin) {
                        return None;
                    }
                    // Before the origin, releases differ.
                    self.bucket(*of, length, origin, origin, LATEST, e)
                }
                (pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMP, [unit, of]) => {
                    let (origin, length) = truncated(&text(*unit)?)?;
                    self.bucket(*of, length, origin, EARLIEST, LATEST, e)
                }
                (pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ, [unit, of]) => {
                    let (origin, length) = truncated(&text(*unit)?)?;
                    let east = offset_of(pg_sys::session_timezone)? * 1_000_000;
                    self.bucket(*of, length, origin - east, EARLIEST, LATEST, e)
                }
                (pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT, [unit, of, zone]) => {
                    let (origin, length) = truncated(&text(*unit)?)?;
                    let zone = std::ffi::CString::new(text(*zone)?).ok()?;
                    let east = offset_of(pg_sys::pg_tzset(zone.as_ptr()))? * 1_000_000;
                    self.bucket(*of, length, origin - east, EARLIEST, LATEST, e)
                }
                (pg_sys::F_DATE_TIMESTAMP, [of]) => {
                    let of = self.column(*of);
                    let (other, into) = (self.state(e), self.add(Column::new(Kind::Word)));
                    self.steps.push(Step::Day { of, into, other });
                    Some(into)
                }
                (pg_sys::F_INT8_INT4 | pg_sys::F_INT8_INT2 | pg_sys::F_INT4_INT2, [of]) => {
                    Some(self.column(*of))
                }
                (pg_sys::F_FLOAT8_INT2 | pg_sys::F_FLOAT8_INT4 | pg_sys::F_FLOAT8_INT8, [of]) => {
                    let of = self.column(*of);
                    let into = self.add(Column::new(Kind::Word));
                    self.steps.push(Step::Float { of, into });
                    Some(into)
                }
                (_, [of, seed]) => {
                    let seed = constant(*seed)?.value() as i32;
                    // A negative one has a warning for each row.
                    let hash = known::hash(call.funcid).filter(|_| seed >= 0)?;
                    let of = self.column(*of);
                    let into = self.add(Column::new(Kind::Word));
                    self.steps.push(Step::Hash { of, into, seed, hash });
                    Some(into)
                }
                _ => None,
            }
        }
    }

    unsafe fn bucket(
        &mut self,
        of: *mut pg_sys::Expr,
        length: i64,
        origin: i64,
        from: i64,
        to: i64,
        whole: *mut pg_sys::Expr,
    ) -> Option<usize> {
        // SAFETY: the caller's nodes are expressions over the scan's columns.
        unsafe {
            let of = self.column(of);
            let (other, into) = (self.state(whole), self.add(Column::new(Kind::Word)));
            self.steps.push(Step::Bucket { of, into, length, origin, from, to, other });
            Some(into)
        }
    }

    /// `CASE WHEN time < limit THEN bucket of time ELSE … END`, which is the bucket of times before the limit.
    unsafe fn case(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let case = &*e.cast::<pg_sys::CaseExpr>();
            let whens = PgList::<pg_sys::CaseWhen>::from_pg(case.args);
            if !case.arg.is_null() || whens.len() != 1 {
                return None;
            }
            let when = &*whens.get_ptr(0)?;
            let (test, result) = (when.expr.cast::<pg_sys::OpExpr>(), when.result);
            if (*test).xpr.type_ != pg_sys::NodeTag::T_OpExpr
                || (*result.cast::<pg_sys::Node>()).type_ != pg_sys::NodeTag::T_FuncExpr
                || Comparison::of((*test).opno) != Some(Comparison::Less)
            {
                return None;
            }
            let sides = PgList::<pg_sys::Expr>::from_pg((*test).args);
            let (time, limit) = (sides.get_ptr(0)?, constant(sides.get_ptr(1)?)?.value() as i64);
            let of_result = PgList::<pg_sys::Expr>::from_pg((*result.cast::<pg_sys::FuncExpr>()).args);
            if (*time.cast::<pg_sys::Node>()).type_ != pg_sys::NodeTag::T_Var
                || !of_result.iter_ptr().any(|a| pg_sys::equal(a.cast(), time.cast()))
            {
                return None;
            }
            let steps = self.steps.len();
            let into = self.call(result)?;
            let other = self.state(e);
            let one = self.steps.len() == steps + 1;
            match self.steps.last_mut() {
                Some(Step::Bucket { to, other: of_step, .. }) if one => {
                    (*to, *of_step) = ((*to).min(limit), other);
                    Some(into)
                }
                _ => {
                    self.steps.truncate(steps);
                    None
                }
            }
        }
    }

    /// `CASE WHEN condition THEN a ELSE b END` of columns or buckets a and b.
    unsafe fn choice(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let case = &*e.cast::<pg_sys::CaseExpr>();
            let whens = PgList::<pg_sys::CaseWhen>::from_pg(case.args);
            if !case.arg.is_null() || whens.len() != 1 || case.defresult.is_null() {
                return None;
            }
            let when = &*whens.get_ptr(0)?;
            let kind = kind_of(case.casetype).filter(|kind| *kind == Kind::Word)?;
            let steps = self.steps.len();
            let condition = self.condition(when.expr);
            let then = self.simple_or_bucket(when.result);
            let other = self.simple_or_bucket(case.defresult);
            match (then, other) {
                (Some(then), Some(other)) if condition.is_known() => {
                    let into = self.add(Column::new(kind));
                    self.steps.push(Step::Choice { condition, then, other, into });
                    Some(into)
                }
                _ => {
                    self.forget_steps(steps);
                    None
                }
            }
        }
    }

    /// The column of an expression that is one of the table's, or a bucket of one.
    pub(super) unsafe fn simple_or_bucket(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
        // SAFETY: as the caller's.
        unsafe { self.simple(e).or_else(|| self.bucket_of(e)) }
    }
}

/// The value of a constant that is not NULL.
///
/// # Safety
/// `e` is an expression.
pub unsafe fn constant(e: *mut pg_sys::Expr) -> Option<pg_sys::Datum> {
    // SAFETY: the tag says what the node is.
    unsafe {
        let c = e.cast::<pg_sys::Const>();
        ((*c).xpr.type_ == pg_sys::NodeTag::T_Const && !(*c).constisnull).then(|| (*c).constvalue)
    }
}

unsafe fn text(e: *mut pg_sys::Expr) -> Option<String> {
    // SAFETY: a constant of type text.
    unsafe {
        let value = constant(e)?;
        Some(string(pg_sys::text_to_cstring(value.cast_mut_ptr())))
    }
}
