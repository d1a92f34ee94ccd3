//! Memory contexts of aggregates and of plain calls.
use crate::pg::error::raise_with_hint;
use crate::pg::v1::Call;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;

/// The memory context in which a state must be allocated.
#[derive(Clone, Copy)]
pub struct Context(pg_sys::MemoryContext);

impl Context {
    /// The context that lives as long as the aggregate's group.
    ///
    /// Raises an error when the function was not called by an aggregate. Ask once per state, not per row.
    pub fn of_aggregate(call: &Call) -> Context {
        let mut context: pg_sys::MemoryContext = std::ptr::null_mut();
        // SAFETY: the call information is live and `context` is writable.
        if unsafe { pg_sys::AggCheckCallContext(call.raw(), &mut context) } == 0 {
            refuse();
        }
        Context(context)
    }

    /// Whether an aggregate made the call: `AggCheckCallContext` without its call, for every row.
    #[inline(always)]
    pub fn is_of_aggregate(call: &Call) -> bool {
        // SAFETY: fcinfo is live, and its context is NULL or a node.
        unsafe {
            let node = (*call.raw()).context;
            !node.is_null()
                && matches!((*node).type_, pg_sys::NodeTag::T_AggState | pg_sys::NodeTag::T_WindowAggState)
        }
    }

    /// Raises the same error where there is no aggregate.
    #[inline(always)]
    pub fn check_aggregate(call: &Call) {
        if !Context::is_of_aggregate(call) {
            refuse();
        }
    }

    /// The context of the current call: short-lived inside a query.
    pub fn current() -> Context {
        // SAFETY: reading the global of a single-threaded backend.
        Context(unsafe { pg_sys::CurrentMemoryContext })
    }

    /// A context known to the other files of the fence.
    pub(in crate::pg) fn from_raw(context: pg_sys::MemoryContext) -> Context {
        Context(context)
    }

    /// The raw context, for the other files of the fence.
    pub fn raw(self) -> pg_sys::MemoryContext {
        self.0
    }
}

#[cold]
#[inline(never)]
fn refuse() -> ! {
    raise_with_hint(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "this function may only be called as part of an aggregate",
        "Call the aggregate itself: jsonb_counter_agg, jsonb_counter_merge_agg, ddsketch_agg, ddsketch_union_agg, approx_percentile, rollup.first or rollup.last.",
    )
}
