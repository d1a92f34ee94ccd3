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

/// The one value of a function that is declared to return a composite type: a value for every column; None is NULL.
pub fn record(call: &mut Call, values: &[Option<Datum>]) -> Datum {
    let (mut datums, mut nulls): (Vec<Datum>, Vec<bool>) =
        values.iter().map(|value| (value.unwrap_or(Datum::from(0usize)), value.is_none())).unzip();
    // SAFETY: the call is live, and a row gets the columns of its type.
    unsafe {
        let mut desc = std::ptr::null_mut();
        let class = pg_sys::get_call_result_type(call.raw(), std::ptr::null_mut(), &mut desc);
        assert_eq!(class, pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE, "a function that returns a row");
        assert_eq!((*desc).natts as usize, values.len(), "columns of a row");
        let desc = pg_sys::BlessTupleDesc(desc);
        let tuple = pg_sys::heap_form_tuple(desc, datums.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
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
