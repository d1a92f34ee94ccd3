//! What a zone map says, as rows.
use super::buffer::{self, blocks, layout};
use super::page::{Bounds, ZONE};
use super::summarize::width;
use super::{NAME, method};
use crate::pg::error::{raise, raise_with_hint};
use crate::pg::interrupt;
use crate::pg::rows::materialize;
use crate::pg::security;
use crate::pg::v1::Call;
use pgrx::PgMemoryContexts;
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
        let table = if table == pg_sys::InvalidOid {
            std::ptr::null_mut()
        } else {
            pg_sys::try_relation_open(table, share)
        };
        let relation = pg_sys::try_relation_open(id, share);
        if relation.is_null() {
            raise_with_hint(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("there is no relation with OID {}", id.to_u32()),
                format!(
                    "SELECT c.oid::regclass FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = '{NAME}' AND c.relkind = 'i';"
                ),
            );
        }
        let class = &*(*relation).rd_rel;
        let is_map = class.relkind as u8 == pg_sys::RELKIND_INDEX && class.relam == method();
        if table.is_null() || !is_map {
            let name = CStr::from_ptr(class.relname.data.as_ptr()).to_string_lossy();
            raise(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("\"{name}\" is not an index of access method {NAME}"),
            );
        }
        let shown = may_read((*table).rd_id);
        let out = materialize(call, |row| each(relation, blocks(table).div_ceil(ZONE), shown, row));
        pg_sys::relation_close(relation, share);
        pg_sys::table_close(table, share);
        out
    }
}

/// Whether the caller may read all rows of a table: their values are not for others.
pub fn may_read(table: pg_sys::Oid) -> bool {
    // SAFETY: reads a variable of this process.
    security::may_read(table, None, unsafe { pg_sys::GetUserId() })
}

/// # Safety
/// `index` must be an open zone map.
unsafe fn each(index: pg_sys::Relation, zones: u32, shown: bool, row: &mut dyn FnMut(&[Option<Datum>])) {
    let mut texts = PgMemoryContexts::new("a zone's bounds as text");
    // SAFETY: the caller vouches for the index; a value of a column's type is given to that type's function.
    unsafe {
        let (layout, described) = (layout(index), blocks(index));
        let columns: Vec<Column> =
            (0..(*(*index).rd_rel).relnatts as usize).map(|n| Column::of(index, n)).collect();
        for zone in 0..zones {
            interrupt::check();
            let (block, place) = layout.place(zone);
            let bounds = |page: &[u64]| (0..columns.len()).map(|n| layout.bounds(page, place, n)).collect();
            let bounds: Vec<Option<Bounds>> = match block < described {
                true => buffer::read(index, block, bounds),
                false => vec![None; columns.len()],
            };
            for (column, bounds) in columns.iter().zip(bounds) {
                let held = bounds.filter(|b| shown && !b.is_none());
                texts.switch_to(|_| {
                    row(&[
                        Some(Datum::from(i64::from(zone) * i64::from(ZONE))),
                        Some(Datum::from(column.name.as_ptr())),
                        Some(Datum::from(bounds.is_some())),
                        held.map(|b| column.text(b.least)),
                        held.map(|b| column.text(b.greatest)),
                    ])
                });
            }
            texts.reset();
        }
    }
}

/// What is told of an indexed column.
struct Column {
    name: [std::ffi::c_char; pg_sys::NAMEDATALEN as usize],
    width: usize,
    /// Of the column's type, from a value to text.
    output: pg_sys::Oid,
}

impl Column {
    /// # Safety
    /// `index` must be an open zone map and have column `n`, from 0.
    unsafe fn of(index: pg_sys::Relation, n: usize) -> Column {
        let mut name = [0; pg_sys::NAMEDATALEN as usize];
        let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: the caller vouches for the index; the name is as long as a name is.
        unsafe {
            let of = pg_sys::get_attname((*index).rd_id, n as i16 + 1, false);
            pg_sys::namestrcpy(name.as_mut_ptr().cast(), of);
            pg_sys::getTypeOutputInfo(*(*index).rd_opcintype.add(n), &mut output, &mut varlena);
            Column { name, width: width(index, n), output }
        }
    }

    /// A value as text, allocated where the caller allocates.
    unsafe fn text(&self, value: i64) -> Datum {
        let value = if self.width == 4 { Datum::from(value as i32) } else { Datum::from(value) };
        // SAFETY: the value is one of the column's type.
        unsafe { Datum::from(pg_sys::cstring_to_text(pg_sys::OidOutputFunctionCall(self.output, value))) }
    }
}
