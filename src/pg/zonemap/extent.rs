//! Between which times the rows of a table lie, without SQL: asked where a whole table comes, or goes.
//!
//! All rows that lie in its pages count, whoever sees them: the answer may be wider than what one snapshot would give,
//! and is never narrower. It rests on the map as `look` does; open zones, and a column that no map has, are read.
use super::buffer::{self, blocks, layout};
use super::method;
use super::page::{Bounds, ZONE};
use super::summarize::{Column, columns, read_block};
use crate::pg::interrupt;
use crate::pg::trigger::{Micros, midnight};
use pgrx::PgList;
use pgrx::pg_sys;
use std::ffi::CString;

/// The times of a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// There is no row.
    Empty,
    /// The least and the greatest, where a row has a time; and whether one may have none.
    Times(Option<(Micros, Micros)>, bool),
    /// It cannot be told: the table is no heap, or has no such column of times.
    Unknown,
}

/// The times in a column of a table, which the caller has locked. No table below it is looked at.
pub fn extent(table: pg_sys::Oid, column: &str) -> Extent {
    let Ok(name) = CString::new(column) else { return Extent::Unknown };
    // SAFETY: the relation is open while it is read, and is a heap before it is read as one; the number is of a column of
    // it, whose type is looked at before a value is taken for it.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return Extent::Unknown;
        }
        let class = &*(*relation).rd_rel;
        let heap =
            class.relkind as u8 == pg_sys::RELKIND_RELATION && class.relam == pg_sys::HEAP_TABLE_AM_OID;
        let elsewhere =
            class.relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP && !(*relation).rd_islocaltemp;
        let number = pg_sys::get_attnum(table, name.as_ptr());
        let found = if !heap || elsewhere {
            Extent::Unknown
        } else if blocks(relation) == 0 {
            Extent::Empty
        } else if number <= 0 {
            Extent::Unknown
        } else {
            of_column(relation, i32::from(number))
        };
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        found
    }
}

unsafe fn of_column(table: pg_sys::Relation, number: i32) -> Extent {
    // SAFETY: the caller's table is open and has the column.
    unsafe {
        let of_type = pg_sys::getBaseType(pg_sys::get_atttype((*table).rd_id, number as i16));
        let days = of_type == pg_sys::DATEOID;
        if ![pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID, pg_sys::DATEOID].contains(&of_type) {
            return Extent::Unknown;
        }
        let not_null = super::super::select::attribute_not_null((*table).rd_id, number as i16);
        let bounds = match by_map(table, number) {
            Some(bounds) => bounds,
            None => {
                let mut bounds = [Bounds::NONE];
                let column = [Column::of(table, number, if days { 4 } else { 8 })];
                read(table, 0..blocks(table), &column, &mut bounds);
                bounds[0]
            }
        };
        let micros = |at: i64| if days { midnight(at as i32) } else { at };
        let times = (!bounds.is_none()).then(|| (micros(bounds.least), micros(bounds.greatest)));
        Extent::Times(times, !not_null)
    }
}

unsafe fn read(
    table: pg_sys::Relation,
    pages: std::ops::Range<u32>,
    columns: &[Column],
    bounds: &mut [Bounds],
) {
    for block in pages {
        interrupt::check();
        // SAFETY: the caller's table is open and has so many pages.
        unsafe { read_block(table, block, columns, bounds, std::ptr::null_mut()) };
    }
}

/// By a zone map on the column; None where there is none.
unsafe fn by_map(table: pg_sys::Relation, number: i32) -> Option<Bounds> {
    // SAFETY: the table is open; each index is locked while it is read.
    unsafe {
        let (method, pages) = (method(), blocks(table));
        for id in PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(table)).iter_oid() {
            let index = pg_sys::index_open(id, pg_sys::AccessShareLock as i32);
            let about = &*(*index).rd_index;
            let keys = about.indkey.values.as_slice(about.indkey.dim1 as usize);
            let place = keys.iter().position(|&n| i32::from(n) == number);
            let usable = (*(*index).rd_rel).relam == method && about.indisvalid && !about.indcheckxmin;
            let found = match place {
                Some(n) if usable => Some(zones(table, index, pages, n)),
                _ => None,
            };
            pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

unsafe fn zones(table: pg_sys::Relation, index: pg_sys::Relation, pages: u32, n: usize) -> Bounds {
    let mut all = Bounds::NONE;
    // SAFETY: the caller's relations are open, and the index is a zone map of the table.
    unsafe {
        let (layout, described) = (layout(index), blocks(index));
        let of = columns(table, index);
        for zone in 0..pages.div_ceil(ZONE) {
            let (block, place) = layout.place(zone);
            let known = match block < described {
                true => buffer::read(index, block, |page| layout.bounds(page, place, n)),
                false => None,
            };
            let bounds = known.unwrap_or_else(|| {
                let mut bounds = vec![Bounds::NONE; of.len()];
                read(table, zone * ZONE..((zone + 1) * ZONE).min(pages), &of, &mut bounds);
                bounds[n]
            });
            if !bounds.is_none() {
                all.add(bounds.least);
                all.add(bounds.greatest);
            }
        }
    }
    all
}
