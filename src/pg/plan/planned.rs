//! What PostgreSQL computes when it plans a statement that reads a table, whatever the statement says: the constant parts of
//! expressions that the table's owner has put into indexes, statistics, partition keys and CHECK constraints.
//!
//! `evil(1) + id` in an index is planned by calling `evil(1)`, if it is said to be IMMUTABLE, as whoever plans. What has a column
//! in it is not called then, but for functions that are written in SQL, and those with defaults: their bodies and
//! defaults are put into the expression first, and may have constant parts of their own.
//!
//! PostgreSQL looks at such expressions once more when it plans: an index that comes in between is not seen here.
use super::called::{Called, is_superuser};
use super::tree;
use crate::pg::lock::{self, Mode};
use crate::pg::security::owner_of;
use pgrx::{PgList, pg_sys};
use std::collections::BTreeSet;
use std::ffi::c_void;

/// Columns of the catalogs that hold expressions: of pg_index, pg_statistic_ext and pg_partitioned_table.
const OF_INDEX: [i16; 2] = [20, 21];
const OF_STATISTICS: [i16; 1] = [9];
const OF_PARTITIONS: [i16; 1] = [8];

/// The language SQL.
const SQL: u32 = 14;

/// What a statement reads, and its reader's own views in turn, that another role has a say in.
#[derive(Default)]
pub struct Read {
    /// Views of other roles.
    pub views: Vec<pg_sys::Oid>,
    /// What planning the statement may call that is another role's, and the table that says so.
    pub planned: Vec<(Called, pg_sys::Oid)>,
}

/// What is read where `reader` reads these relations, each with those below.
pub fn of_relations(relations: &[pg_sys::Oid], reader: pg_sys::Oid) -> Read {
    let mut found = Found::default();
    for relation in relations {
        found.note(*relation, true);
    }
    found.followed(reader)
}

/// What a statement reads.
///
/// # Safety
/// The tree is live.
pub(super) unsafe fn of(statement: tree::Node, reader: pg_sys::Oid) -> Read {
    let mut found = Found::default();
    // SAFETY: as the caller says.
    unsafe { found.note_all(statement) };
    found.followed(reader)
}

/// Relations that are read, and whether those below are, too.
#[derive(Default)]
struct Found {
    views: Vec<pg_sys::Oid>,
    tables: BTreeSet<(u32, bool)>,
}

impl Found {
    fn note(&mut self, relation: pg_sys::Oid, below: bool) {
        // SAFETY: a look-up in the catalog that tolerates absence.
        match unsafe { pg_sys::get_rel_relkind(relation) } as u8 {
            b'v' if self.views.contains(&relation) => (),
            b'v' => self.views.push(relation),
            _ => _ = self.tables.insert((relation.to_u32(), below)),
        }
    }

    /// # Safety
    /// The tree is live.
    unsafe fn note_all(&mut self, tree: tree::Node) {
        // SAFETY: the tag says what the node is; the list is the query's.
        unsafe {
            tree::each(tree, &mut |node, _| {
                if (*node).type_ == pg_sys::NodeTag::T_Query {
                    let read = (*node.cast::<pg_sys::Query>()).rtable;
                    for e in PgList::<pg_sys::RangeTblEntry>::from_pg(read).iter_ptr() {
                        if (*e).rtekind == pg_sys::RTEKind::RTE_RELATION {
                            self.note((*e).relid, (*e).inh);
                        }
                    }
                }
                false
            });
        }
    }

    fn followed(mut self, reader: pg_sys::Oid) -> Read {
        let is_other = |relation: pg_sys::Oid| {
            owner_of(relation).is_some_and(|role| role != reader && !is_superuser(role))
        };
        let (mut read, mut at) = (Read::default(), 0);
        while let Some(&view) = self.views.get(at) {
            at += 1;
            // Whoever reads it waits for the same lock.
            if !lock::relation(view, Mode::Read) {
                continue;
            }
            if is_other(view) {
                read.views.push(view);
                continue;
            }
            // SAFETY: the view is locked and there; its query is looked at while it is open.
            unsafe {
                let relation = pg_sys::relation_open(view, pg_sys::NoLock as i32);
                self.note_all(pg_sys::get_view_query(relation).cast());
                pg_sys::relation_close(relation, pg_sys::NoLock as i32);
            }
        }
        let with_those_below = |(table, below): (u32, bool)| match below {
            true => lock::below(table.into()),
            false => vec![table.into()],
        };
        let all: Vec<pg_sys::Oid> = self.tables.into_iter().flat_map(with_those_below).collect();
        for table in all {
            if !is_other(table) || !lock::relation(table, Mode::Read) {
                continue;
            }
            // SAFETY: the table is locked and there; the trees are copies.
            let called = unsafe { expressions(table).into_iter().flat_map(|tree| constant_calls(tree)) };
            let strange = called
                .filter(|called| called.owner().is_some_and(|role| role != reader && !is_superuser(role)));
            read.planned.extend(strange.map(|called| (called, table)));
        }
        read
    }
}

/// The expressions that a table has on it.
///
/// # Safety
/// The table is there and locked.
unsafe fn expressions(table: pg_sys::Oid) -> Vec<tree::Node> {
    use pg_sys::SysCacheIdentifier::{INDEXRELID, PARTRELID, STATEXTOID};
    // SAFETY: what the relation cache holds of an open relation stays while it is read; nothing is computed by opening it.
    unsafe {
        let relation = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let mut found = stored(PARTRELID as i32, table, &OF_PARTITIONS);
        for index in PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation)).iter_oid() {
            found.extend(stored(INDEXRELID as i32, index, &OF_INDEX));
        }
        for one in PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetStatExtList(relation)).iter_oid() {
            found.extend(stored(STATEXTOID as i32, one, &OF_STATISTICS));
        }
        let constraints = (*(*relation).rd_att).constr;
        if !constraints.is_null() {
            for n in 0..usize::from((*constraints).num_check) {
                let text = (*(*constraints).check.add(n)).ccbin;
                if !text.is_null() {
                    found.push(pg_sys::stringToNode(text).cast());
                }
            }
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        found
    }
}

/// The trees in these columns of a row of a catalog.
fn stored(cache: i32, key: pg_sys::Oid, columns: &[i16]) -> Vec<tree::Node> {
    // SAFETY: a look-up that tolerates absence; the row is released when its texts have been copied; the columns hold trees.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(key));
        if row.is_null() {
            return Vec::new();
        }
        let tree = |column: &i16| {
            let mut null = true;
            let text = pg_sys::SysCacheGetAttr(cache, row, *column, &mut null);
            (!null).then(|| pg_sys::stringToNode(pg_sys::text_to_cstring(text.cast_mut_ptr())).cast())
        };
        let found = columns.iter().filter_map(tree).collect();
        pg_sys::ReleaseSysCache(row);
        found
    }
}

/// The functions, not of PostgreSQL itself, that are called where an expression is planned.
///
/// # Safety
/// The tree is live.
unsafe fn constant_calls(tree: tree::Node) -> Vec<Called> {
    unsafe extern "C-unwind" fn note(function: pg_sys::Oid, found: *mut c_void) -> bool {
        if function.to_u32() >= pg_sys::FirstNormalObjectId {
            // SAFETY: `found` is the vector below.
            unsafe { (*found.cast::<Vec<pg_sys::Oid>>()).push(function) };
        }
        false
    }
    let mut found = Vec::new();
    // SAFETY: as the caller says.
    unsafe {
        tree::each(tree, &mut |node, _| {
            let mut calls: Vec<pg_sys::Oid> = Vec::new();
            pg_sys::check_functions_in_node(node, Some(note), (&raw mut calls).cast());
            let constant = !calls.is_empty() && !pg_sys::contain_var_clause(node);
            found.extend(calls.into_iter().filter(|f| constant || is_unfolded(*f)).map(Called::function));
            false
        });
    }
    found
}

/// Whether what a call of this function becomes may be more than the call: it is written in SQL, or has defaults.
fn is_unfolded(function: pg_sys::Oid) -> bool {
    // SAFETY: a look-up that tolerates absence; what is read is the fixed part of the row.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(function));
        if row.is_null() {
            return false;
        }
        let about = &*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_proc>(row);
        let unfolded = about.prolang.to_u32() == SQL || about.pronargdefaults > 0;
        pg_sys::ReleaseSysCache(row);
        unfolded
    }
}
