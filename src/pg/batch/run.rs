//! A run of the node: pages are read, rows grouped, groups handed up.
use super::column::{Kind, Rows, kind_of};
use super::compile::Compiler;
use super::emit::Aggregate;
use super::groups::Groups;
use super::page::Page;
use super::plan::Layout;
use super::program::Program;
use crate::pg::aggcontext::Context;
use crate::pg::error::raise;
use crate::pg::interrupt;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};

#[derive(Clone, Copy, PartialEq)]
pub enum Phase {
    Reading,
    /// The next group to be handed up, and whether there is more to be read after the last.
    Giving(usize, bool),
    /// The executor's own nodes give the rows.
    Executor,
    Done,
}

/// What a run of the node needs. It is dropped with the query's memory context, whichever way the query ends.
pub struct Run {
    layout: Layout,
    pub scan: *mut pg_sys::PlanState,
    /// One for each table that the scan has come to.
    programs: Vec<Program>,
    page: Page,
    groups: Groups,
    found: Vec<u32>,
    /// Of the rows that pass a FILTER.
    passed: (Vec<u16>, Vec<u32>, Option<usize>),
    aggregates: Vec<Aggregate>,
    calls: Vec<*mut pg_sys::Aggref>,
    /// Of groups and states: a context that is reset as a whole.
    memory: *mut pg_sys::ExprContext,
    limit: usize,
    /// What is asked once, before the first row; NULL where nothing is.
    gate: *mut pg_sys::ExprState,
    /// The most memory that groups and states have taken.
    pub peak: usize,
    /// What it begins with.
    pub first: Phase,
    pub phase: Phase,
    /// The executor's own nodes for the same, once they are needed.
    pub executor: *mut pg_sys::PlanState,
}

impl Run {
    /// # Safety
    /// `node` is one of ours that is begun, in whose query's memory everything is made.
    pub unsafe fn new(node: *mut pg_sys::CustomScanState, scan: *mut pg_sys::PlanState) -> Run {
        // SAFETY: the plan is one that `plan` made: keys, then calls of aggregates.
        unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
            let state = (*node).ss.ps.state;
            let layout = Layout::read((*plan).custom_private);
            let memory = pg_sys::CreateExprContext(state);
            let context = Context::from_raw((*memory).ecxt_per_tuple_memory);
            // What functions of aggregates are told that they are called by.
            let caller = pg_sys::palloc0(size_of::<pg_sys::AggState>()).cast::<pg_sys::AggState>();
            (*caller).ss.ps.type_ = pg_sys::NodeTag::T_AggState;
            (*caller).ss.ps.state = state;
            (*caller).curaggcontext = memory;
            (*caller).tmpcontext = pg_sys::CreateExprContext(state);
            let entries: Vec<*mut pg_sys::TargetEntry> =
                PgList::from_pg((*plan).custom_scan_tlist).iter_ptr().collect();
            let (keys, calls) = entries.split_at(layout.keys.len());
            let kinds = keys
                .iter()
                .map(|k| kind_of(pg_sys::exprType((**k).expr.cast())).unwrap_or(Kind::Word))
                .collect();
            let calls: Vec<*mut pg_sys::Aggref> = calls.iter().map(|c| (**c).expr.cast()).collect();
            let mut aggregates = Vec::new();
            for &call in &calls {
                match Aggregate::new(call, layout.partial, caller, context) {
                    Some(aggregate) => aggregates.push(aggregate),
                    None => raise(PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION, "an aggregate was dropped"),
                }
            }
            let limit = pg_sys::get_hash_memory_limit();
            // A row that is looked at again after it was changed meanwhile is the executor's.
            let again = !(*state).es_epq_active.is_null() && !layout.partial;
            let first = if again { Phase::Executor } else { Phase::Reading };
            Run {
                layout,
                scan,
                programs: Vec::new(),
                page: Page::new(),
                groups: Groups::new(context, kinds),
                found: Vec::new(),
                passed: (Vec::new(), Vec::new(), None),
                aggregates,
                calls,
                memory,
                limit,
                gate: pg_sys::ExecInitQual((*plan).custom_exprs, node.cast()),
                peak: 0,
                first,
                phase: first,
                executor: std::ptr::null_mut(),
            }
        }
    }

    /// Forgets what was made of the scan's expressions: values in them have changed.
    pub fn forget_programs(&mut self) {
        self.programs.clear();
    }

    /// Forgets all groups and their states.
    ///
    /// # Safety
    /// Nothing of them is looked at after this.
    pub unsafe fn forget(&mut self) {
        // SAFETY: nothing of what lies in that memory is looked at after this.
        unsafe { pg_sys::ReScanExprContext(self.memory) };
        self.groups.forget();
        self.aggregates.iter_mut().for_each(|a| a.way.forget());
    }

    /// The next row, NULL after the last.
    ///
    /// # Safety
    /// `node` is the one that this is the run of.
    pub unsafe fn next(&mut self, node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: the node is this run's.
        unsafe {
            loop {
                match self.phase {
                    Phase::Reading => self.read(node),
                    Phase::Giving(group, more) if group >= self.groups.len() => {
                        if more {
                            self.forget();
                            self.phase = Phase::Reading;
                        } else {
                            self.phase = Phase::Done;
                        }
                    }
                    Phase::Giving(group, more) => {
                        self.phase = Phase::Giving(group + 1, more);
                        if let Some(slot) = self.give(node, group) {
                            return slot;
                        }
                    }
                    Phase::Executor => return self.by_executor(node),
                    Phase::Done => return std::ptr::null_mut(),
                }
            }
        }
    }

    /// Reads to the end, or until there is no more room.
    unsafe fn read(&mut self, node: *mut pg_sys::CustomScanState) {
        // SAFETY: the scan is one that `offer` took. Memory of a page is the scan's memory for a row, which it resets.
        unsafe {
            let before = pg_sys::CurrentMemoryContext;
            if self.layout.keys.is_empty() {
                self.groups.whole();
                self.grow();
            }
            let mut more = false;
            // Asked again where it goes on after a full memory: the answer is the same.
            let open = self.gate.is_null() || pg_sys::ExecQual(self.gate, (*node).ss.ps.ps_ExprContext);
            loop {
                interrupt::check();
                let scan = if open { self.page.next(self.scan) } else { std::ptr::null_mut() };
                if scan.is_null() {
                    break;
                }
                let program = match self.programs.iter().position(|p| p.ground.scan == scan) {
                    Some(found) => found,
                    None => {
                        pg_sys::MemoryContextSwitchTo((*(*node).ss.ps.state).es_query_cxt);
                        self.programs.push(self.program(scan));
                        self.programs.len() - 1
                    }
                };
                pg_sys::MemoryContextSwitchTo((*(*scan).ps.ps_ExprContext).ecxt_per_tuple_memory);
                self.take(program);
                pg_sys::MemoryContextSwitchTo(before);
                let used = pg_sys::MemoryContextMemAllocated((*self.memory).ecxt_per_tuple_memory, true);
                self.peak = self.peak.max(used);
                if used > self.limit && !self.layout.keys.is_empty() {
                    more = true;
                    break;
                }
            }
            pg_sys::MemoryContextSwitchTo(before);
            self.phase = match more {
                // The states of other processes are merged above: what is too much is handed up as it is.
                true if self.layout.partial => Phase::Giving(0, true),
                true => {
                    self.forget();
                    Phase::Executor
                }
                false => Phase::Giving(0, false),
            };
        }
    }

    /// The program of a scan, whose conditions are looked at here from now on: it gives all rows.
    unsafe fn program(&self, scan: *mut pg_sys::ScanState) -> Program {
        // SAFETY: the scan is one of a heap that has given its first row; its plan is read as what its tag says.
        unsafe {
            let plan = (*scan).ps.plan;
            let mut conditions = Vec::new();
            if (*plan).type_ == pg_sys::NodeTag::T_BitmapHeapScan {
                conditions.push((*plan.cast::<pg_sys::BitmapHeapScan>()).bitmapqualorig);
            }
            conditions.push((*plan).qual);
            let targets = PgList::<pg_sys::TargetEntry>::from_pg((*plan).targetlist);
            let targets = targets.iter_ptr().map(|t| (*t).expr).collect();
            let compiler = Compiler::new(scan, targets, self.layout.places.clone());
            compiler.finish(&conditions, &self.layout.keys, &self.calls)
        }
    }

    /// Sees that every group has its states.
    fn grow(&mut self) {
        let groups = self.groups.len();
        // SAFETY: the memory of groups and states lasts as long as the run.
        let context = unsafe { Context::from_raw((*self.memory).ecxt_per_tuple_memory) };
        self.aggregates.iter_mut().for_each(|a| a.way.grow(context, groups));
    }

    /// Takes the rows of the page.
    unsafe fn take(&mut self, program: usize) {
        // SAFETY: the program is that of the scan whose page it is.
        unsafe { self.programs[program].run(&self.page) };
        if self.programs[program].rows.is_empty() {
            return;
        }
        let before = self.groups.len();
        let p = &mut self.programs[program];
        self.groups.find(&p.rows, &p.keys, &p.columns, &mut self.found);
        if self.groups.len() > before {
            self.grow();
        }
        let p = &mut self.programs[program];
        let (rows, groups, done) = &mut self.passed;
        *done = None;
        for (n, aggregate) in self.aggregates.iter_mut().enumerate() {
            let filter = p.inputs[n].filter;
            if let Some(filter) = filter
                && *done != Some(filter)
            {
                p.filtered(filter, &self.found, rows, groups);
                *done = Some(filter);
            }
            let taken = match filter {
                Some(_) => Rows { rows, groups },
                None => Rows { rows: &p.rows, groups: &self.found },
            };
            let arguments = &p.inputs[n].arguments;
            match &arguments[..] {
                [] => aggregate.way.add(taken, &[]),
                [a] => aggregate.way.add(taken, &[&p.columns[*a]]),
                all => aggregate.way.add(taken, &all.iter().map(|a| &p.columns[*a]).collect::<Vec<_>>()),
            }
        }
    }

    /// A group as a row, if HAVING lets it through.
    unsafe fn give(
        &mut self,
        node: *mut pg_sys::CustomScanState,
        group: usize,
    ) -> Option<*mut pg_sys::TupleTableSlot> {
        // SAFETY: the slot has a column for each key and for each aggregate, in this order.
        unsafe {
            let scan = &mut (*node).ss;
            let context = scan.ps.ps_ExprContext;
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            let slot = scan.ss_ScanTupleSlot;
            pg_sys::ExecClearTuple(slot);
            let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
            let keys = self.layout.keys.len();
            let set = |n: usize, value: pg_sys::Datum, null: bool| {
                (*slot).tts_values.add(n).write(value);
                (*slot).tts_isnull.add(n).write(null);
            };
            for n in 0..keys {
                let (word, null) = self.groups.key(group, n);
                set(n, pg_sys::Datum::from(word), null);
            }
            for (n, aggregate) in self.aggregates.iter_mut().enumerate() {
                let value = aggregate.value(group);
                set(keys + n, value.unwrap_or(pg_sys::Datum::from(0usize)), value.is_none());
            }
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::ExecStoreVirtualTuple(slot);
            (*context).ecxt_scantuple = slot;
            if !scan.ps.qual.is_null() && !pg_sys::ExecQual(scan.ps.qual, context) {
                return None;
            }
            Some(match scan.ps.ps_ProjInfo.is_null() {
                true => slot,
                false => pg_sys::ExecProject(scan.ps.ps_ProjInfo),
            })
        }
    }

    /// What the executor's own nodes give.
    unsafe fn by_executor(&mut self, node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: the second plan gives the rows that this node gives, column by column.
        unsafe {
            let state = (*node).ss.ps.state;
            if self.executor.is_null() {
                let plan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
                let plans = PgList::<pg_sys::Plan>::from_pg((*plan).custom_plans);
                let Some(other) = plans.get_ptr(1) else {
                    raise(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "the plan has no other way")
                };
                let before = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
                self.executor = pg_sys::ExecInitNode(other, state, 0);
                pg_sys::MemoryContextSwitchTo(before);
            }
            let Some(next) = (*self.executor).ExecProcNode else { return std::ptr::null_mut() };
            let from = next(self.executor);
            if from.is_null() || (*from).tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 != 0 {
                return std::ptr::null_mut();
            }
            // Nodes above take ours for a slot of values.
            pg_sys::slot_getallattrs(from);
            let to = (*node).ss.ps.ps_ResultTupleSlot;
            pg_sys::ExecClearTuple(to);
            let columns = (*(*to).tts_tupleDescriptor).natts as usize;
            std::ptr::copy_nonoverlapping((*from).tts_values, (*to).tts_values, columns);
            std::ptr::copy_nonoverlapping((*from).tts_isnull, (*to).tts_isnull, columns);
            pg_sys::ExecStoreVirtualTuple(to)
        }
    }
}
