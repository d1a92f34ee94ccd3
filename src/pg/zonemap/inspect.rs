//! What a zone map says, as rows.
use super::buffer::{self, blocks, layout};
use super::page::ZONE;
use super::summarize::width;
use super::{NAME, method};
use crate::pg::error::raise;
use crate::pg::interrupt;
use crate::pg::rows::materialize;
use crate::pg::v1::Call;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;
use std::ffi::CStr;

crate::v1!(rollup_zones, zones);

fn zones(call: &mut Call) -> Datum {
    let Some(id) = call.arg(0) else { return call.null() };
    let id = pg_sys::Oid::from(id.value() as u32);
    // SAFETY: the relation stays open and locked while it is read, and is a zone map before its pages are read as one.
    unsafe {
        // The table first, as whoever drops or builds an index locks them: the other way round waits for each other.
        let share = pg_sys::AccessShareLock as i32;
        let table = pg_sys::IndexGetRelation(id, true);
        let table = (table != pg_sys::InvalidOid).then(|| pg_sys::table_open(table, share));
        let relation = pg_sys::relation_open(id, share);
        let class = &*(*relation).rd_rel;
        let is_map = class.relkind as u8 == pg_sys::RELKIND_INDEX && class.relam == method();
        let Some(table) = table.filter(|_| is_map) else {
            let name = CStr::from_ptr(class.relname.data.as_ptr()).to_string_lossy();
            raise(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("\"{name}\" is not an index of access method {NAME}"),
            );
        };
        let out = materialize(call, |row| each(relation, blocks(table).div_ceil(ZONE), row));
        pg_sys::relation_close(relation, share);
        pg_sys::table_close(table, share);
        out
    }
}

/// # Safety
/// `index` must be an open zone map.
unsafe fn each(index: pg_sys::Relation, zones: u32, row: &mut dyn FnMut(&[Option<Datum>])) {
    // SAFETY: the caller vouches for the index; a value of a column's type is given to that type's function.
    unsafe {
        let (layout, described) = (layout(index), blocks(index));
        let columns = (*(*index).rd_rel).relnatts as usize;
        for zone in 0..zones {
            interrupt::check();
            let (block, place) = layout.place(zone);
            for n in 0..columns {
                let bounds = (block < described)
                    .then(|| buffer::read(index, block, |page| layout.bounds(page, place, n)))
                    .flatten();
                let kind = *(*index).rd_opcintype.add(n);
                let text = |value: i64| {
                    let value =
                        if width(index, n) == 4 { Datum::from(value as i32) } else { Datum::from(value) };
                    let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
                    pg_sys::getTypeOutputInfo(kind, &mut function, &mut varlena);
                    let text = pg_sys::OidOutputFunctionCall(function, value);
                    Datum::from(pg_sys::cstring_to_text(text))
                };
                let held = bounds.filter(|b| !b.is_none());
                let name = pg_sys::get_attname((*index).rd_id, n as i16 + 1, false);
                let mut padded = [0 as std::ffi::c_char; pg_sys::NAMEDATALEN as usize];
                pg_sys::namestrcpy(padded.as_mut_ptr().cast(), name);
                row(&[
                    Some(Datum::from(i64::from(zone * ZONE))),
                    Some(Datum::from(padded.as_ptr())),
                    Some(Datum::from(bounds.is_some())),
                    held.map(|b| text(b.least)),
                    held.map(|b| text(b.greatest)),
                ]);
            }
        }
    }
}
