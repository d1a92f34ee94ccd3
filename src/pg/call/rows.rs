//! Functions that return rows.
use crate::pg::v1::Call;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// Returns the rows that `make` hands on, each a value for every declared OUT column; None is NULL.
pub fn materialize(call: &mut Call, make: impl FnOnce(&mut dyn FnMut(&[Option<Datum>]))) -> Datum {
    const MOST: usize = 20;
    // SAFETY: the call is live. The function called first checks what the caller accepts, or raises an error, and then
    // fills in setResult and setDesc; a row must have the columns of setDesc.
    unsafe {
        pg_sys::InitMaterializedSRF(call.raw(), 0);
        let info = (*call.raw()).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let (store, desc) = ((*info).setResult, (*info).setDesc);
        make(&mut |values| {
            assert_eq!((*desc).natts as usize, values.len(), "columns of a row");
            let (mut datums, mut nulls) = ([Datum::from(0usize); MOST], [false; MOST]);
            for (n, value) in values.iter().enumerate() {
                (datums[n], nulls[n]) = (value.unwrap_or(Datum::from(0usize)), value.is_none());
            }
            pg_sys::tuplestore_putvalues(store, desc, datums.as_mut_ptr(), nulls.as_mut_ptr());
        });
    }
    call.null()
}

/// An array of timestamptz, of moments in microseconds since 2000.
pub fn moments(all: &[i64]) -> Datum {
    let mut datums: Vec<Datum> = all.iter().map(|at| Datum::from(*at)).collect();
    // SAFETY: a timestamptz is eight bytes that are passed by value; the array is copied into the current memory context.
    Datum::from(unsafe {
        pg_sys::construct_array(
            datums.as_mut_ptr(),
            datums.len() as i32,
            pg_sys::TIMESTAMPTZOID,
            8,
            true,
            pg_sys::TYPALIGN_DOUBLE as std::ffi::c_char,
        )
    })
}
