//! From expressions of PostgreSQL to what a program does.
//!
//! What is not recognised becomes a step of the executor's: nothing is refused here.
use super::column::Column;
use super::condition::Condition;
use super::program::{Ground, Input, Program, Step};
use super::walk::Walk;
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
    pub(super) targets: Vec<*mut pg_sys::Expr>,
    /// For columns as expressions above the scan name them, which of the targets they are.
    places: Vec<(i16, usize)>,
    columns: Vec<Column>,
    pub(super) steps: Vec<Step>,
    /// Buckets that are computed: of which expression, in which column, by which of the steps.
    pub(super) computed: Vec<(*mut pg_sys::Expr, usize, usize)>,
    /// Columns of the table that are read, each with that which it becomes.
    pub(super) wanted: Vec<(i16, usize)>,
    filters: Vec<(*mut pg_sys::Expr, Condition)>,
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
            computed: Vec::new(),
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
            let conditions: Vec<(usize, Condition)> = conditions
                .iter()
                .flat_map(|list| PgList::<pg_sys::Expr>::from_pg(*list).iter_ptr().collect::<Vec<_>>())
                .map(|e| {
                    let condition = self.condition(e);
                    (self.steps.len(), condition)
                })
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

    pub(super) fn add(&mut self, column: Column) -> usize {
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
}
