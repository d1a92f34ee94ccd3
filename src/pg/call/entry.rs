//! Whether the key of a group fits into the index on the group keys: an entry of a B-tree takes a third of a page at
//! most, long values compressed.
use crate::pg::v1::Call;
use pgrx::pg_sys::{self, Datum};
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::panic::AssertUnwindSafe;

/// `BTMaxItemSize` of nbtree.h: a page without its header, three pointers and what lies at its end, shared by three
/// entries, each with room for the place of its row.
pub const MOST: usize = (((pg_sys::BLCKSZ as usize - 40 - 16) / 3) & !7) - 8;

crate::v1!(rollup_key_fits, key_fits);

fn key_fits(call: &mut Call) -> Datum {
    let types: Vec<pg_sys::Oid> = (0..call.nargs()).map(|n| type_of(call, n)).collect();
    let most: usize = types.iter().enumerate().map(|(n, kind)| at_most(*kind, call.arg(n))).sum();
    // The header of an entry and the map of its NULLs.
    Datum::from(most + 16 <= MOST || size(call, &types).is_some_and(|size| size <= MOST))
}

fn type_of(call: &Call, n: usize) -> pg_sys::Oid {
    // SAFETY: the call information is live, and the function is called from an expression.
    unsafe { pg_sys::get_fn_expr_argtype((*call.raw()).flinfo, n as i32) }
}

/// The bytes that a value takes at most, aligned; more than there is room for where that takes a closer look.
fn at_most(kind: pg_sys::Oid, value: Option<Datum>) -> usize {
    let Some(value) = value else { return 0 };
    // SAFETY: a look-up in the catalog; a value of a type of variable length is the address of one.
    unsafe {
        match pg_sys::get_typlen(kind) {
            -1 if pgrx::varatt_is_1b_e(value.cast_mut_ptr()) => MOST,
            -1 => pgrx::varsize_any(value.cast_mut_ptr()) + 8,
            -2 => MOST,
            length => length as usize + 8,
        }
    }
}

/// The size of the entry; None where it is longer than any.
fn size(call: &Call, types: &[pg_sys::Oid]) -> Option<usize> {
    let (mut values, mut nulls) = (Vec::new(), Vec::new());
    for n in 0..types.len() {
        let value = call.arg(n);
        nulls.push(value.is_none());
        values.push(value.unwrap_or(Datum::from(0usize)));
    }
    let form = || {
        // SAFETY: as many values as the descriptor has columns, of their types. It is made in the memory of the call.
        unsafe {
            let shape = pg_sys::CreateTemplateTupleDesc(types.len() as i32);
            for (n, kind) in types.iter().enumerate() {
                pg_sys::TupleDescInitEntry(shape, n as i16 + 1, std::ptr::null(), *kind, -1, 0);
            }
            let entry = pg_sys::index_form_tuple(shape, values.as_mut_ptr(), nulls.as_mut_ptr());
            let size = ((*entry).t_info & 0x1fff) as usize;
            pg_sys::pfree(entry.cast());
            pg_sys::pfree(shape.cast());
            Some((size + 7) & !7)
        }
    };
    // The error says that it is longer than its header can say, and comes of nothing that had to be undone.
    PgTryBuilder::new(AssertUnwindSafe(form))
        .catch_when(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, |_| None)
        .execute()
}
