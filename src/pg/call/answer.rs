//! Functions that return the rows of a statement.
use crate::pg::v1::Call;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::{PgOid, Spi};
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiResult};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The type of an argument, as the caller wrote it; InvalidOid where it cannot be told.
pub fn argument_type(call: &Call, n: usize) -> pg_sys::Oid {
    // SAFETY: the call information is live.
    unsafe { pg_sys::get_fn_expr_argtype((*call.raw()).flinfo, n as i32) }
}

/// So many plans of statements are kept at most.
const KEPT: usize = 64;

/// The plan of a statement, kept for the session: a chart asks the same again and again, and to plan it takes as long as to
/// run it. PostgreSQL plans again where what it names has changed, and looks at rights whenever it runs.
fn kept(c: &SpiClient, sql: &str, args: &[DatumWithOid]) -> SpiResult<Rc<OwnedPreparedStatement>> {
    thread_local! {
        static PLANS: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::default();
    }
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(sql).cloned()) {
        return Ok(plan);
    }
    let types: Vec<PgOid> = args.iter().map(|arg| PgOid::from(arg.oid())).collect();
    let plan = Rc::new(c.prepare(sql, &types)?.keep());
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= KEPT {
            plans.clear();
        }
        plans.insert(sql.into(), plan.clone())
    });
    Ok(plan)
}

/// Returns the rows of a statement that reads, under the snapshot of the calling one. False for a statement whose columns
/// are not those that the function was declared to return; nothing is returned then.
pub fn answer(call: &mut Call, sql: &str, args: &[DatumWithOid]) -> SpiResult<bool> {
    // SAFETY: the call is live; the function called first checks what the caller accepts, or raises an error, and fills
    // in setResult and setDesc.
    let (store, declared) = unsafe {
        pg_sys::InitMaterializedSRF(call.raw(), 0);
        let info = (*call.raw()).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        ((*info).setResult, (*info).setDesc)
    };
    Spi::connect(|client| {
        let rows = client.select(&*kept(client, sql, args)?, None, args)?.len();
        // SAFETY: the statement has just run, and its rows are in the table until the connection ends; each has the columns
        // of the table's descriptor. Both descriptors outlive the loop.
        unsafe {
            let table = pg_sys::SPI_tuptable;
            if table.is_null() || !same_types((*table).tupdesc, declared) {
                return Ok(false);
            }
            for n in 0..rows {
                pg_sys::tuplestore_puttuple(store, *(*table).vals.add(n));
            }
        }
        Ok(true)
    })
}

/// Whether rows of one descriptor are rows of the other.
///
/// # Safety
/// Both must be valid.
unsafe fn same_types(a: pg_sys::TupleDesc, b: pg_sys::TupleDesc) -> bool {
    // SAFETY: as the caller vouches.
    unsafe {
        let types = |d: pg_sys::TupleDesc| (1..=(*d).natts).map(move |n| pg_sys::SPI_gettypeid(d, n));
        (*a).natts == (*b).natts && types(a).eq(types(b))
    }
}
