//! Which queries are offered to be grouped by pages.
use super::calls::Calls;
use super::compile::Compiler;
use super::known;
use super::plan::{self, Layout};
use super::taken::{cheapest, is_key, is_taken};
use pgrx::{PgList, pg_sys};
use std::cell::Cell;
use std::sync::OnceLock;

/// Which queries a session offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None.
    Nothing,
    /// Those with an aggregate of this extension, and those that `Asked` is there for.
    Ours,
    /// Every one that can be.
    Everything,
}

static WANTED: OnceLock<fn() -> Wanted> = OnceLock::new();

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, statements are offered as if they had an aggregate of this extension.
pub struct Asked(bool);

impl Asked {
    /// Until it is dropped.
    pub fn for_now() -> Asked {
        Asked(ASKED.replace(true))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        ASKED.set(self.0);
    }
}

mod unguarded {
    use pgrx::pg_sys;
    unsafe extern "C-unwind" {
        pub fn get_agg_clause_costs(
            root: *mut pg_sys::PlannerInfo,
            split: pg_sys::AggSplit::Type,
            costs: *mut pg_sys::AggClauseCosts,
        );
    }
}

/// Says once which queries a session offers.
pub fn install(wanted: fn() -> Wanted) {
    if WANTED.set(wanted).is_ok() {
        plan::register();
        known::init();
    }
}

/// Offers the planner to group a query by pages, where that is wanted and can be.
///
/// # Safety
/// The arguments are those of the planner's hook, for the stage that groups.
pub unsafe fn offer(
    root: *mut pg_sys::PlannerInfo,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: the planner's structures are live for the call.
    unsafe {
        if let Some(wanted) = WANTED.get()
            && wanted() != Wanted::Nothing
            && let Some(query) = Query::of(root, input, output, wanted())
        {
            query.offer(&*extra.cast::<pg_sys::GroupPathExtraData>());
        }
    }
}

/// A query that may be offered.
struct Query {
    root: *mut pg_sys::PlannerInfo,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    keys: Vec<*mut pg_sys::Expr>,
    /// The calls in the query's targets and in HAVING.
    calls: Vec<*mut pg_sys::Aggref>,
}

impl Query {
    unsafe fn of(
        root: *mut pg_sys::PlannerInfo,
        input: *mut pg_sys::RelOptInfo,
        output: *mut pg_sys::RelOptInfo,
        wanted: Wanted,
    ) -> Option<Query> {
        // SAFETY: the caller's are the planner's.
        unsafe {
            let parse = &*(*root).parse;
            let plain = parse.hasAggs
                && parse.groupingSets.is_null()
                && !parse.hasTargetSRFs
                && matches!(
                    (*input).reloptkind,
                    pg_sys::RelOptKind::RELOPT_BASEREL | pg_sys::RelOptKind::RELOPT_OTHER_MEMBER_REL
                )
                && (*input).rtekind == pg_sys::RTEKind::RTE_RELATION
                && (*input).lateral_relids.is_null();
            if !plain {
                return None;
            }
            let mut keys = Vec::new();
            for clause in PgList::<pg_sys::SortGroupClause>::from_pg(parse.groupClause).iter_ptr() {
                let entry = pg_sys::get_sortgroupclause_tle(clause, (*root).processed_tlist);
                let e = (*entry).expr;
                if !is_key(e) {
                    return None;
                }
                if !keys.iter().any(|k: &*mut pg_sys::Expr| pg_sys::equal((*k).cast(), e.cast())) {
                    keys.push(e);
                }
            }
            let target = &*(*output).reltarget;
            let mut found = Calls::new(&keys);
            let understood = found.of(target.exprs.cast()) && found.of(parse.havingQual);
            let calls = found.calls;
            if !understood || calls.is_empty() {
                return None;
            }
            if wanted == Wanted::Ours
                && !ASKED.get()
                && !calls.iter().any(|call| known::is_ours((**call).aggfnoid))
            {
                return None;
            }
            (calls.iter().all(|call| is_taken(*call))).then_some(Query { root, input, output, keys, calls })
        }
    }

    unsafe fn offer(&self, extra: &pg_sys::GroupPathExtraData) {
        // SAFETY: the planner's structures are live; paths are made in its memory.
        unsafe {
            let Some(below) = cheapest((*self.input).pathlist, self.root) else { return };
            let Some(layout) = self.layout(below, false) else { return };
            self.whole(below, layout, extra);
            if let Some(below) = cheapest((*self.input).partial_pathlist, self.root)
                && let Some(layout) = self.layout(below, true)
            {
                self.parts(below, layout, extra);
            }
        }
    }

    /// Where keys and columns lie in what a path hands up; None where one does not, or where the executor would be asked
    /// too often.
    unsafe fn layout(&self, below: *mut pg_sys::Path, partial: bool) -> Option<Layout> {
        // SAFETY: the path's target and the relation's conditions are the planner's.
        unsafe {
            let targets: Vec<*mut pg_sys::Expr> =
                PgList::from_pg((*(*below).pathtarget).exprs).iter_ptr().collect();
            let place =
                |e: *mut pg_sys::Expr| targets.iter().position(|t| pg_sys::equal((*t).cast(), e.cast()));
            let keys = self.keys.iter().map(|k| place(*k)).collect::<Option<Vec<_>>>()?;
            let mut calls = PgList::<pg_sys::Aggref>::new();
            self.calls.iter().for_each(|call| calls.push(*call));
            let flags = pg_sys::PVC_RECURSE_AGGREGATES | pg_sys::PVC_RECURSE_PLACEHOLDERS;
            let vars = pg_sys::pull_var_clause(calls.into_pg().cast(), flags as i32);
            let mut places = Vec::new();
            for var in PgList::<pg_sys::Var>::from_pg(vars).iter_ptr() {
                let number = (*var).varattno;
                if number <= 0 || (*var).varno as u32 != (*self.input).relid {
                    return None;
                }
                if !places.iter().any(|(n, _)| *n == number) {
                    places.push((number, place(var.cast())?));
                }
            }
            let mut conditions = Vec::new();
            let clauses = PgList::<pg_sys::RestrictInfo>::from_pg((*self.input).baserestrictinfo);
            for clause in clauses.iter_ptr() {
                let e = (*clause).clause;
                if pg_sys::contain_volatile_functions(e.cast()) || pg_sys::contain_subplans(e.cast()) {
                    return None;
                }
                // One that no row has a part in is asked once: see `plan`.
                if !(*clause).pseudoconstant {
                    conditions.push(e);
                }
            }
            let unknown = Compiler::unknown(targets, places.clone(), &conditions, &keys, &self.calls);
            (unknown <= 1).then_some(Layout { partial, keys, places })
        }
    }

    /// How many groups the planner takes so many rows to have.
    unsafe fn groups(&self, rows: f64) -> f64 {
        if self.keys.is_empty() {
            return 1.0;
        }
        // SAFETY: a list of expressions over the relation.
        unsafe {
            let keys = list(&self.keys);
            pg_sys::estimate_num_groups(self.root, keys, rows, std::ptr::null_mut(), std::ptr::null_mut())
        }
    }

    /// All of it in one process.
    unsafe fn whole(&self, below: *mut pg_sys::Path, layout: Layout, extra: &pg_sys::GroupPathExtraData) {
        // SAFETY: as in `offer`. The second path is the executor's way for the same.
        unsafe {
            let groups = self.groups((*below).rows);
            let mut costs = pg_sys::AggClauseCosts::default();
            let having: *mut pg_sys::List = extra.havingQual.cast();
            unguarded::get_agg_clause_costs(self.root, pg_sys::AggSplit::AGGSPLIT_SIMPLE, &mut costs);
            let executor = self.by_executor(below, having, groups, pg_sys::AggSplit::AGGSPLIT_SIMPLE, &costs);
            let target = (*self.output).reltarget;
            let path = self.path(self.output, below, target, layout, &self.calls, groups, &(*executor).path);
            (*path).custom_paths = pg_sys::lappend((*path).custom_paths, executor.cast());
            (*path).custom_private = pg_sys::lappend((*path).custom_private, having.cast());
            pg_sys::add_path(self.output, path.cast());
        }
    }

    unsafe fn by_executor(
        &self,
        below: *mut pg_sys::Path,
        having: *mut pg_sys::List,
        groups: f64,
        split: pg_sys::AggSplit::Type,
        costs: &pg_sys::AggClauseCosts,
    ) -> *mut pg_sys::AggPath {
        // SAFETY: as in `offer`.
        unsafe {
            #[cfg(feature = "pg15")]
            let clause = (*(*self.root).parse).groupClause;
            #[cfg(not(feature = "pg15"))]
            let clause = (*self.root).processed_groupClause;
            let strategy = match clause.is_null() {
                true => pg_sys::AggStrategy::AGG_PLAIN,
                false => pg_sys::AggStrategy::AGG_HASHED,
            };
            let target = (*self.output).reltarget;
            pg_sys::create_agg_path(
                self.root,
                self.output,
                below,
                target,
                strategy,
                split,
                clause,
                having,
                costs,
                groups,
            )
        }
    }

    /// Parallel workers each group what they read, and their states are merged as PostgreSQL does.
    unsafe fn parts(&self, below: *mut pg_sys::Path, layout: Layout, extra: &pg_sys::GroupPathExtraData) {
        // SAFETY: as in `offer`. The relation of partial groups has a target where the planner has thought of them.
        unsafe {
            let kind = pg_sys::UpperRelationKind::UPPERREL_PARTIAL_GROUP_AGG;
            let partial = pg_sys::fetch_upper_rel(self.root, kind, (*self.output).relids);
            let target = (*partial).reltarget;
            let able = extra.flags & pg_sys::GROUPING_CAN_PARTIAL_AGG as i32 != 0 && extra.partial_costs_set;
            if !able || !(*self.output).consider_parallel || target.is_null() || (*target).exprs.is_null() {
                return;
            }
            let mut found = Calls::new(&self.keys);
            if !found.of((*target).exprs.cast()) {
                return;
            }
            let groups = self.groups((*below).rows);
            let alone = self.by_executor(
                below,
                std::ptr::null_mut(),
                groups,
                pg_sys::AggSplit::AGGSPLIT_INITIAL_SERIAL,
                &extra.agg_partial_costs,
            );
            let path = self.path(partial, below, target, layout, &found.calls, groups, &(*alone).path);
            (*path).path.parallel_safe = true;
            (*path).path.parallel_workers = (*below).parallel_workers;
            let mut rows = groups * f64::from((*below).parallel_workers);
            let gather = pg_sys::create_gather_path(
                self.root,
                partial,
                path.cast(),
                target,
                std::ptr::null_mut(),
                &mut rows,
            );
            let all = self.groups((*self.input).rows);
            let last = self.by_executor(
                gather.cast(),
                extra.havingQual.cast(),
                all,
                pg_sys::AggSplit::AGGSPLIT_FINAL_DESERIAL,
                &extra.agg_final_costs,
            );
            pg_sys::add_path(self.output, last.cast());
        }
    }

    /// A path of ours over `below`. What the rows cost is a third of what they cost in the executor's way, `executor`:
    /// what was measured is less.
    #[allow(clippy::too_many_arguments)]
    unsafe fn path(
        &self,
        rel: *mut pg_sys::RelOptInfo,
        below: *mut pg_sys::Path,
        target: *mut pg_sys::PathTarget,
        layout: Layout,
        calls: &[*mut pg_sys::Aggref],
        groups: f64,
        executor: &pg_sys::Path,
    ) -> *mut pg_sys::CustomPath {
        // SAFETY: zeros are a path of no content; its tag and methods make it one.
        unsafe {
            let path = pg_sys::palloc0(size_of::<pg_sys::CustomPath>()).cast::<pg_sys::CustomPath>();
            let p = &mut (*path).path;
            p.type_ = pg_sys::NodeTag::T_CustomPath;
            p.pathtype = pg_sys::NodeTag::T_CustomScan;
            p.parent = rel;
            p.pathtarget = target;
            p.parallel_safe = (*rel).consider_parallel && (*below).parallel_safe;
            p.rows = executor.rows;
            let pages = f64::from((*self.input).pages) * pg_sys::seq_page_cost;
            let read = pages.min((*below).total_cost);
            let given = groups * pg_sys::cpu_tuple_cost;
            let all = read + (executor.total_cost - read).max(0.0) / 3.0 + given;
            p.startup_cost = all - given;
            p.total_cost = all;
            #[cfg(feature = "pg18")]
            {
                p.disabled_nodes = (*below).disabled_nodes;
            }
            (*path).custom_paths = pg_sys::lappend(std::ptr::null_mut(), below.cast());
            let mut private = pg_sys::lappend(std::ptr::null_mut(), layout.written().cast());
            private = pg_sys::lappend(private, list(&self.keys).cast());
            (*path).custom_private = pg_sys::lappend(private, list(calls).cast());
            (*path).methods = &raw const plan::PATH.0;
            path
        }
    }
}

unsafe fn list<T>(items: &[*mut T]) -> *mut pg_sys::List {
    // SAFETY: appends live nodes to a list of our own.
    items.iter().fold(std::ptr::null_mut(), |list, item| unsafe { pg_sys::lappend(list, (*item).cast()) })
}
