//! Memory contexts of aggregates and of plain calls.
use super::v1::Call;
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
            pgrx::error!("this function may only be called as part of an aggregate");
        }
        Context(context)
    }

    /// The context of the current call: short-lived inside a query.
    pub fn current() -> Context {
        // SAFETY: reading the global of a single-threaded backend.
        Context(unsafe { pg_sys::CurrentMemoryContext })
    }

    /// A context known to the other files of the fence.
    pub(super) fn from_raw(context: pg_sys::MemoryContext) -> Context {
        Context(context)
    }

    /// The raw context, for the other files of the fence.
    pub fn raw(self) -> pg_sys::MemoryContext {
        self.0
    }
}
