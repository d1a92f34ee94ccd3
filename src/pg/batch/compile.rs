//! From expressions of PostgreSQL to what a program does.
//!
//! What is not recognised becomes a step of the executor's: nothing is refused here.
use super::column::{Column, Kind};
use super::condition::{Comparison, Condition, Width, kind_of};
use super::known;
use super::program::{DAY, EARLIEST, Ground, Input, LATEST, Program, Step, truncated};
use super::walk::Walk;
use crate::pg::deparse::string;
use pgrx::{PgList, pg_sys};

#[cfg(feature = "pg15")]
mod unguarded {
    use pgrx::pg_sys::Node;
    use std::ffi::c_void;
    type Mutator = unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> *mut Node;
    unsafe extern "C-unwind" {
        // The bindings leave out what a mutator takes.
        pub fn expression_tree_mutator(
            node: *mut Node,
            m: Option<Mutator>,
            context: *mut c_void,
        ) -> *mut Node;
    }
}

/// Makes the program of one scan.
pub struct Compiler {
    pub(super) scan: *mut pg_sys::ScanState,
    /// What the scan hands up, in its own columns.
    targets: Vec<*mut pg_sys::Expr>,
    /// For columns as expressions above the scan name them, which of the targets they are.
    places: Vec<(i16, usize)>,
    columns: Vec<Column>,
    pub(super) steps: Vec<Step>,
    /// Columns of the table that are read, each with that which it becomes.
    wanted: Vec<(i16, usize)>,
    filters: Vec<(*mut pg_sys::Expr, Condition)>,
}

/// Seconds that a zone is east of UTC, if it is that always.
fn offset_of(zone: *const pg_sys::pg_tz) -> Option<i64> {
    let mut seconds = 0;
    // SAFETY: the zone is NULL or one of PostgreSQL's, which keeps them.
    (!zone.is_null() && unsafe { pg_sys::pg_get_timezone_offset(zone, &mut seconds) }).then_some(seconds)
}

impl Compiler {
    /// # Safety
    /// `scan` is a scan that was begun; `targets` are its own, `places` lie among them. The current memory context outlives
    /// the program.
    pub unsafe fn new(
        scan: *mut pg_sys::ScanState,
        targets: Vec<*mut pg_sys::Expr>,
        places: Vec<(i16, usize)>,
    ) -> Compiler {
        Compiler {
            scan,
            targets,
            places,
            columns: Vec::new(),
            steps: Vec::new(),
            wanted: Vec::new(),
            filters: Vec::new(),
        }
    }

    /// The program that groups by the targets `keys` and gives aggregates their arguments.
    ///
    /// # Safety
    /// `conditions` are lists of the scan's own, `aggregates` calls above it.
    pub unsafe fn finish(
        mut self,
        conditions: &[*mut pg_sys::List],
        keys: &[usize],
        aggregates: &[*mut pg_sys::Aggref],
    ) -> Program {
        // SAFETY: the caller vouches for the nodes.
        unsafe {
            let conditions: Vec<Condition> = conditions
                .iter()
                .flat_map(|list| PgList::<pg_sys::Expr>::from_pg(*list).iter_ptr().collect::<Vec<_>>())
                .map(|e| self.condition(e))
                .collect();
            let keys = keys.iter().map(|&k| self.column(self.targets[k])).collect();
            let mut inputs = Vec::new();
            for &call in aggregates {
                let arguments = PgList::<pg_sys::TargetEntry>::from_pg((*call).args);
                let arguments = arguments.iter_ptr().map(|a| self.above((*a).expr)).collect();
                inputs.push(Input { arguments, filter: self.filter((*call).aggfilter) });
            }
            let walk = Walk::new((*(*self.scan).ss_currentRelation).rd_att, &self.wanted);
            Program {
                ground: Ground::of(self.scan),
                walk,
                columns: self.columns,
                conditions,
                steps: self.steps,
                keys,
                inputs,
                filters: self.filters.into_iter().map(|(_, condition)| condition).collect(),
                rows: Vec::new(),
            }
        }
    }

    /// How many expressions the executor would be asked for, row by row. Nothing is made.
    ///
    /// # Safety
    /// As `finish`, with the conditions one by one.
    pub unsafe fn unknown(
        targets: Vec<*mut pg_sys::Expr>,
        places: Vec<(i16, usize)>,
        conditions: &[*mut pg_sys::Expr],
        keys: &[usize],
        aggregates: &[*mut pg_sys::Aggref],
    ) -> usize {
        // SAFETY: the caller vouches for the nodes; without a scan, no state is made.
        unsafe {
            let mut this = Compiler::new(std::ptr::null_mut(), targets, places);
            let mut unknown = conditions.iter().filter(|c| !this.condition(**c).is_known()).count();
            for &k in keys {
                this.column(this.targets[k]);
            }
            for &call in aggregates {
                for argument in PgList::<pg_sys::TargetEntry>::from_pg((*call).args).iter_ptr() {
                    this.above((*argument).expr);
                }
                this.filter((*call).aggfilter);
            }
            unknown += this.filters.iter().filter(|(_, c)| !c.is_known()).count();
            unknown + this.steps.iter().filter(|s| matches!(s, Step::Executor { .. })).count()
        }
    }

    fn add(&mut self, column: Column) -> usize {
        self.columns.push(column);
        self.columns.len() - 1
    }

    /// An expression for the executor, over the scan's own columns.
    pub(super) unsafe fn state(&self, e: *mut pg_sys::Expr) -> *mut pg_sys::ExprState {
        if self.scan.is_null() {
            return std::ptr::null_mut();
        }
        // SAFETY: the node's columns are those of the scan.
        unsafe { pg_sys::ExecInitExpr(e, self.scan.cast()) }
    }

    /// The column of an expression above the scan.
    unsafe fn above(&mut self, e: *mut pg_sys::Expr) -> usize {
        // SAFETY: what is put in the place of columns is the scan's.
        unsafe {
            let own = self.lowered(e);
            self.column(own)
        }
    }

    /// An expression above the scan in the scan's own columns.
    unsafe fn lowered(&self, e: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
        unsafe extern "C-unwind" fn lower(
            node: *mut pg_sys::Node,
            context: *mut std::ffi::c_void,
        ) -> *mut pg_sys::Node {
            // SAFETY: the context is the compiler of `lowered`; nodes are read as what their tags say.
            unsafe {
                let this = &*context.cast::<Compiler>();
                if !node.is_null() && (*node).type_ == pg_sys::NodeTag::T_Var {
                    let number = (*node.cast::<pg_sys::Var>()).varattno;
                    return match this.places.iter().find(|(n, _)| *n == number) {
                        Some((_, place)) => this.targets[*place].cast(),
                        None => node,
                    };
                }
                #[cfg(feature = "pg15")]
                return unguarded::expression_tree_mutator(node, Some(lower), context);
                #[cfg(not(feature = "pg15"))]
                pg_sys::expression_tree_mutator_impl(node, Some(lower), context)
            }
        }
        // SAFETY: the mutator copies what it changes.
        unsafe { lower(e.cast(), (&raw const *self).cast_mut().cast()).cast() }
    }

    /// The FILTER of a call, as one of the program's; equal ones are one.
    unsafe fn filter(&mut self, e: *mut pg_sys::Expr) -> Option<usize> {
        if e.is_null() {
            return None;
        }
        // SAFETY: both are nodes.
        unsafe {
            let found = self.filters.iter().position(|(other, _)| pg_sys::equal(e.cast(), other.cast()));
            Some(found.unwrap_or_else(|| {
                let own = self.lowered(e);
                let condition = self.condition(own);
                self.filters.push((e, condition));
                self.filters.len() - 1
            }))
        }
    }

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
                    if let Some(column) = self.call(e) {
                        return column;
                    }
                }
                pg_sys::NodeTag::T_CaseExpr => {
                    if let Some(column) = self.case(e) {
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
