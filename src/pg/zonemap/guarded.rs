//! Whether a source and all tables below it have the triggers and the index by which their changes are told of, as the
//! relation cache says: a hundredth of what asking the catalogs by SQL costs, and no lock is waited for. What is not
//! seen to be right here is not known to be wrong: it is looked at more closely.
use super::look::Held;
use super::method;
use pgrx::{PgList, pg_sys};
use std::collections::HashSet;
use std::ffi::CStr;

/// A trigger that tables are to have.
pub struct Trigger {
    /// Its name.
    pub name: &'static str,
    /// The schema and the name of its function.
    pub function: (&'static str, &'static str),
    /// When it fires: 'A' or 'R', as in pg_trigger.
    pub fires: u8,
    /// It is on partitioned tables, too.
    pub parted: bool,
}

/// What tables are to have.
pub struct Wanted<'a> {
    /// Triggers.
    pub triggers: Vec<&'a Trigger>,
    /// A zone map on the column of this name, on each table that is stored.
    pub map: Option<&'a CStr>,
    /// The trigger after which no other fires but these.
    pub last: Option<(&'a str, &'a [&'a str])>,
    /// A crash of the server leaves their rows.
    pub logged: bool,
}

/// The tables below one, where it and all of these have what is wanted, and it is below no other. None where that is not
/// so, or cannot be told without waiting.
pub fn all_below(root: pg_sys::Oid, wanted: &Wanted) -> Option<Vec<pg_sys::Oid>> {
    // SAFETY: each table is locked before it is looked at; locks are given back at once.
    unsafe {
        if pg_sys::ffi::pg_guard_ffi_boundary(|| has_superclass(root)) {
            return None;
        }
        let (mut all, mut known, mut at) = (vec![root], HashSet::from([root]), 0);
        while let Some(&table) = all.get(at) {
            let _held = Held::table(table)?;
            if !has(table, wanted) {
                return None;
            }
            // A partition that is being detached still counts.
            let below = PgList::<pg_sys::Oid>::from_pg(pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let (detached, xmin) = (std::ptr::null_mut(), std::ptr::null_mut());
                find_inheritance_children_extended(table, false, pg_sys::NoLock as i32, detached, xmin)
            }));
            // A table may inherit from several.
            all.extend(below.iter_oid().filter(|child| known.insert(*child)));
            at += 1;
        }
        Some(all.split_off(1))
    }
}

/// # Safety
/// The caller holds a lock on the relation `table`, which need not exist.
unsafe fn has(table: pg_sys::Oid, wanted: &Wanted) -> bool {
    // SAFETY: the relation stays open while it is looked at.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as i32);
        if relation.is_null() {
            return false;
        }
        let class = &*(*relation).rd_rel;
        let parted = class.relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        let stored = class.relkind as u8 == pg_sys::RELKIND_RELATION;
        let fire = || wanted.triggers.iter().all(|t| parted && !t.parted || fires(relation, t));
        let logged = || !wanted.logged || class.relpersistence as u8 != pg_sys::RELPERSISTENCE_UNLOGGED;
        let mapped = || {
            wanted
                .map
                .is_none_or(|column| class.relam == pg_sys::HEAP_TABLE_AM_OID && mapped(relation, column))
        };
        let last = || wanted.last.is_none_or(|(last, others)| is_last(relation, last, others));
        let right = fire() && last() && (parted || stored && logged() && mapped());
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        right
    }
}

/// Whether no trigger of a name behind this one is there but `others`.
///
/// # Safety
/// The relation must be open and locked.
unsafe fn is_last(relation: pg_sys::Relation, last: &str, others: &[&str]) -> bool {
    // SAFETY: what the relation cache holds of an open relation stays.
    unsafe {
        let described = (*relation).trigdesc;
        if described.is_null() {
            return true;
        }
        let all = std::slice::from_raw_parts((*described).triggers, (*described).numtriggers as usize);
        all.iter()
            .filter(|t| !t.tgisinternal)
            .map(|t| CStr::from_ptr(t.tgname).to_bytes())
            .all(|name| name <= last.as_bytes() || others.iter().any(|other| other.as_bytes() == name))
    }
}

/// # Safety
/// The relation must be open and locked.
unsafe fn fires(relation: pg_sys::Relation, wanted: &Trigger) -> bool {
    // SAFETY: what the relation cache holds of an open relation stays; the names are NULL where there is no such function.
    unsafe {
        let described = (*relation).trigdesc;
        if described.is_null() {
            return false;
        }
        let all = std::slice::from_raw_parts((*described).triggers, (*described).numtriggers as usize);
        let is = |text: *const std::ffi::c_char, name: &str| {
            !text.is_null() && CStr::from_ptr(text).to_bytes() == name.as_bytes()
        };
        all.iter().any(|t| {
            is(t.tgname, wanted.name)
                && t.tgenabled as u8 == wanted.fires
                && is(pg_sys::get_func_name(t.tgfoid), wanted.function.1)
                && is(pg_sys::get_namespace_name(pg_sys::get_func_namespace(t.tgfoid)), wanted.function.0)
        })
    }
}

/// # Safety
/// The relation must be an open and locked table.
unsafe fn mapped(relation: pg_sys::Relation, column: &CStr) -> bool {
    // SAFETY: each index is locked, and known to be there, before it is looked at.
    unsafe {
        let number = pg_sys::get_attnum((*relation).rd_id, column.as_ptr());
        let method = method();
        number > 0
            && PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation)).iter_oid().any(|id| {
                let Some(_held) = Held::table(id) else { return false };
                let index = pg_sys::try_relation_open(id, pg_sys::NoLock as i32);
                if index.is_null() {
                    return false;
                }
                let (class, about) = (&*(*index).rd_rel, &*(*index).rd_index);
                let keys = about.indkey.values.as_slice(about.indkey.dim1 as usize);
                let found = class.relam == method && about.indisready && keys.contains(&number);
                pg_sys::relation_close(index, pg_sys::NoLock as i32);
                found
            })
    }
}

unsafe extern "C-unwind" {
    /// Whether a table is a partition or a child.
    fn has_superclass(table: pg_sys::Oid) -> bool;
    /// The partitions and children of a table, locked.
    fn find_inheritance_children_extended(
        table: pg_sys::Oid,
        omit_detached: bool,
        lock: pg_sys::LOCKMODE,
        detached_exist: *mut bool,
        detached_xmin: *mut pg_sys::TransactionId,
    ) -> *mut pg_sys::List;
}
