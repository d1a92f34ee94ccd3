//! What EXPLAIN says of the node.
use super::node;
use super::plan::Layout;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};

/// The keys, as other nodes that group show theirs.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn explain(
    node: *mut pg_sys::CustomScanState,
    ancestors: *mut pg_sys::List,
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: PostgreSQL hands over a node of ours and what it explains.
    unsafe {
        let plan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
        let keys = Layout::read((*plan).custom_private).keys.len();
        if node::is_left_to_the_executor(node) {
            pg_sys::ExplainPropertyText(c"Left to the Executor".as_ptr(), c"memory".as_ptr(), es);
        }
        let names = pg_sys::set_deparse_context_plan((*es).deparse_cxt, plan.cast(), ancestors);
        let several = (*es).verbose || !(*es).rtable.is_null() && (*(*es).rtable).length > 1;
        if !(*plan).custom_exprs.is_null() {
            let gate = pg_sys::make_ands_explicit((*plan).custom_exprs);
            let text = pg_sys::deparse_expression(gate.cast(), names, several, false);
            pg_sys::ExplainPropertyText(c"One-Time Filter".as_ptr(), text, es);
        }
        if keys == 0 {
            return;
        }
        let mut shown = std::ptr::null_mut();
        let entries = PgList::<pg_sys::TargetEntry>::from_pg((*plan).custom_scan_tlist);
        for entry in entries.iter_ptr().take(keys) {
            let text = pg_sys::deparse_expression((*entry).expr.cast(), names, several, false);
            shown = pg_sys::lappend(shown, text.cast());
        }
        pg_sys::ExplainPropertyList(c"Group Key".as_ptr(), shown, es);
        if let Some(bytes) = node::peak(node).filter(|_| (*es).analyze) {
            let kilobytes = bytes.div_ceil(1024) as i64;
            pg_sys::ExplainPropertyInteger(c"Memory Usage".as_ptr(), c"kB".as_ptr(), kilobytes, es);
        }
    }
}
