//! What a table of a rollup offers: its keys and values as trees over the raw table, against which queries are matched.
//!
//! Invariant: nothing of a rollup's owner is evaluated as anybody else. The texts are analysed, and what is constant in
//! them computed, as the owner; what is put into a reader's statement is what the reader has written too, by functions of
//! PostgreSQL's own (the bucket of a time), or the merge of an aggregate that the reader calls.
use super::columns;
use super::tree::{self, Memory, Node};
use crate::pg::ctext::c_text;
use crate::pg::deparse::string;
use crate::pg::xact::ActingAs;
use hll_rollup::Bucket;
use hll_rollup::sql::STAMP;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

/// Columns of pg_aggregate, and a support function of B-trees, which the bindings leave out.
const FINAL_FUNCTION: i16 = 5;
const INITIAL_VALUE: i16 = 21;
const EQUAL_IMAGE: i16 = 4;

/// What is known of the buckets of the time key.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Their length.
    pub bucket: Bucket,
    /// They are counted through changes of the clock: as in UTC, or of times without zone.
    pub absolute: bool,
    /// The time zone of those that are not.
    pub zone: String,
    /// The key and the time are timestamptz; else both are timestamp.
    pub zoned: bool,
}

/// A level of a rollup: the same groups in longer buckets, or merged over some keys.
#[derive(Debug, Clone)]
pub struct Coarser {
    /// Its name.
    pub name: String,
    /// Its table, by number.
    pub target: pg_sys::Oid,
    /// A SELECT of the bucket of a raw row, over the raw table alone.
    pub of_row: String,
    /// Its buckets.
    pub grid: Grid,
    /// The keys that it has, that of time among them.
    pub keys: Vec<String>,
    /// Its rows expire.
    pub expires: bool,
}

/// What the layer above knows of a table that rows may be read from.
#[derive(Debug, Clone)]
pub struct About {
    /// Its id.
    pub id: i64,
    /// The rollup.
    pub name: String,
    /// Whose it is.
    pub owner: pg_sys::Oid,
    /// The raw table.
    pub source: pg_sys::Oid,
    /// The table that buckets are read from.
    pub target: pg_sys::Oid,
    /// The SELECT over raw rows whose groups the table holds.
    pub raw: String,
    /// The SELECT over the table that merges its values, named as they are.
    pub merged: String,
    /// The group keys, that of time among them.
    pub keys: Vec<String>,
    /// The values that may be used.
    pub values: Vec<String>,
    /// The key that is the time.
    pub time_key: String,
    /// The column that it is made of.
    pub time_column: String,
    /// Its buckets.
    pub grid: Grid,
    /// Its levels, finest first.
    pub levels: Vec<Coarser>,
    /// The catalog of rollups, read by whoever reads.
    pub catalog: Vec<pg_sys::Oid>,
    /// The schema of the extension's own aggregates.
    pub ours: pg_sys::Oid,
    /// Tables below the source: a plan goes with them.
    pub parts: Vec<pg_sys::Oid>,
}

/// A group key, but that of time.
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its expression, over the raw table.
    pub tree: Node,
    /// Equal values are the same value; else only the value itself may be used, and compared.
    pub exact: bool,
}

/// A value that merges.
pub struct Value {
    /// Its name.
    pub name: String,
    /// The aggregate over raw rows.
    pub tree: Node,
    /// The merge, over columns of the rollup's table; of no rows what the aggregate gives, where that is NULL or a count.
    pub merged: Node,
    /// It gives NULL, or 0 as a count, of no rows.
    pub null_of_nothing: bool,
}

/// One table that rows may be read from.
pub struct Offer {
    /// What is known of it.
    pub about: About,
    /// Its keys, but that of time.
    pub keys: Vec<Key>,
    /// Its values.
    pub values: Vec<Value>,
    /// The rollup's own conditions.
    pub filter: Vec<Node>,
    /// The bucket of a time, over the raw table: that of the rollup, and those of its levels.
    pub buckets: Vec<Node>,
    /// The number of the column that is the time.
    pub time: pg_sys::AttrNumber,
    /// It is never NULL.
    pub time_never_null: bool,
    /// Statements that were made of texts.
    texts: RefCell<HashMap<String, *mut pg_sys::Query>>,
    memory: Memory,
}

impl Offer {
    /// What a rollup offers, or why it offers nothing.
    pub fn of(about: About) -> Result<Offer, String> {
        let memory = Memory::begin();
        let _acting = ActingAs::role(about.owner);
        // SAFETY: the trees are ours; those that are kept are copied.
        unsafe {
            let raw = &mut *tree::parsed(&about.raw, &[]);
            #[cfg(feature = "pg18")]
            crate::pg::tables::inline_group_keys(raw);
            let find = |query: &pg_sys::Query, name: &str| {
                tree::targets(query)
                    .into_iter()
                    .find(|t| !(**t).resjunk && string((**t).resname) == name)
                    .map(|t| memory.keep(tree::folded((*t).expr.cast())))
                    .ok_or_else(|| format!("column {name} of rollup {} is not found", about.name))
            };
            same_types(&about, |name| find(raw, name))?;
            let merged = &*tree::parsed(&about.merged, &[]);
            let column = c_text(about.time_column.as_str());
            let time = pg_sys::get_attnum(about.source, column.as_ptr());
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for name in about.keys.iter().filter(|name| **name != about.time_key) {
                let tree = find(raw, name)?;
                // What depends on settings, or on when it is asked, may be something else to the reader.
                if !pg_sys::contain_mutable_functions(tree) {
                    keys.push(Key { name: name.clone(), tree, exact: is_exact(tree) });
                }
            }
            for name in &about.values {
                let (tree, merged) = (find(raw, name)?, find(merged, name)?);
                values.extend(value(name, tree, merged, &about, &memory));
            }
            let mut buckets = vec![find(raw, &about.time_key)?];
            for level in &about.levels {
                let bucket = tree::expressions(&level.of_row, &[]).into_iter().next();
                buckets.extend(bucket.map(|bucket| memory.keep(tree::folded(bucket))));
            }
            if buckets.len() != about.levels.len() + 1 || buckets.iter().any(|b| !only_ours(*b)) {
                return Err(format!(
                    "the buckets of {} are not made by functions of PostgreSQL alone",
                    about.name
                ));
            }
            let quals = tree::folded((*raw.jointree).quals);
            if pg_sys::contain_mutable_functions(quals) {
                return Err(format!(
                    "the condition of rollup {} has a function that is not IMMUTABLE",
                    about.name
                ));
            }
            let filter = tree::conjuncts(quals).into_iter().map(|c| memory.keep(c)).collect();
            // Below an ordinary parent a column may be NULL that is not in the parent.
            let parted = pg_sys::get_rel_relkind(about.source) as u8 == b'p' || about.parts.is_empty();
            let never = parted && crate::pg::select::attribute_not_null(about.source, time);
            let texts = RefCell::default();
            Ok(Offer { keys, values, filter, buckets, time, time_never_null: never, texts, memory, about })
        }
    }

    /// The buckets of its table, or of the level before the one with this number.
    pub fn grid(&self, table: usize) -> &Grid {
        match table.checked_sub(1) {
            None => &self.about.grid,
            Some(level) => &self.about.levels[level].grid,
        }
    }

    /// The statement that a text is, of which a copy is given: analysed once, as the owner.
    pub fn statement(&self, text: &str, types: &[pg_sys::Oid]) -> *mut pg_sys::Query {
        // SAFETY: what is kept lasts as long as this.
        unsafe {
            let known = self.texts.borrow().get(text).copied();
            let kept = known.unwrap_or_else(|| {
                let _acting = ActingAs::role(self.about.owner);
                let kept = self.memory.keep(columns::mark(tree::parsed(text, types)));
                self.texts.borrow_mut().insert(text.to_string(), kept);
                kept
            });
            tree::copied(kept)
        }
    }
}

/// Refuses tables whose columns are not of the types that raw rows give them, as their owner may have made them.
///
/// # Safety
/// `raw` gives the expression of a column over raw rows.
unsafe fn same_types(about: &About, raw: impl Fn(&String) -> Result<Node, String>) -> Result<(), String> {
    let of = |table: pg_sys::Oid, name: &str| {
        let column = c_text(name);
        let (mut kind, mut modifier, mut collation) = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
        // SAFETY: look-ups in the catalog; the second is of a column that the first has found.
        unsafe {
            let number = pg_sys::get_attnum(table, column.as_ptr());
            if number > 0 {
                pg_sys::get_atttypetypmodcoll(table, number, &mut kind, &mut modifier, &mut collation);
            }
        }
        (kind, collation)
    };
    let other = |name: &str| format!("column {name} is of another type than rollup {} gives it", about.name);
    if of(about.source, STAMP).0 != pg_sys::INT8OID {
        return Err(other(STAMP));
    }
    for name in about.keys.iter().chain(&about.values) {
        let has = |level: &&Coarser| about.values.contains(name) || level.keys.contains(name);
        let of_levels = about.levels.iter().filter(has).map(|level| level.target);
        // SAFETY: the expression is one of the raw query's.
        let raw = unsafe {
            let tree = raw(name)?;
            (pg_sys::exprType(tree), pg_sys::exprCollation(tree))
        };
        if std::iter::once(about.target).chain(of_levels).any(|table| of(table, name) != raw) {
            return Err(other(name));
        }
    }
    Ok(())
}

/// A value of an offer, where the merge gives what the aggregate gives, of the same type.
///
/// # Safety
/// `tree` and `merged` are expressions that the memory keeps.
unsafe fn value(name: &str, tree: Node, merged: Node, about: &About, memory: &Memory) -> Option<Value> {
    // SAFETY: the caller vouches for the trees; the tag says that the first is an aggregate.
    unsafe {
        if (*tree).type_ != pg_sys::NodeTag::T_Aggref || pg_sys::contain_mutable_functions(tree) {
            return None;
        }
        let (merged, null_of_nothing) = of_nothing(&*tree.cast::<pg_sys::Aggref>(), merged, about.ours);
        let merged = memory.keep(merged);
        let same = pg_sys::exprType(tree) == pg_sys::exprType(merged)
            && pg_sys::exprCollation(tree) == pg_sys::exprCollation(merged);
        same.then(|| Value { name: name.to_string(), tree, merged, null_of_nothing })
    }
}

/// The merge of an aggregate, and whether it gives what the aggregate gives of no rows.
///
/// # Safety
/// The aggregate exists; `merged` is an expression of its type.
unsafe fn of_nothing(a: &pg_sys::Aggref, merged: Node, ours: pg_sys::Oid) -> (Node, bool) {
    // SAFETY: the cached tuple is released before return; what is read of it is its fixed part, and whether there is an
    // initial value.
    unsafe {
        let counts = [pg_sys::F_COUNT_, pg_sys::F_COUNT_ANY, pg_sys::F_REGR_COUNT];
        if counts.contains(&a.aggfnoid.to_u32()) {
            let template = tree::expressions("SELECT coalesce($1, 0::pg_catalog.int8)", &[pg_sys::INT8OID]);
            return (tree::filled(template[0], &[merged]), true);
        }
        if pg_sys::get_func_namespace(a.aggfnoid) == ours {
            return (merged, true);
        }
        let of = pg_sys::SysCacheIdentifier::AGGFNOID as i32;
        let tuple = pg_sys::SearchSysCache1(of, pg_sys::Datum::from(a.aggfnoid));
        if tuple.is_null() {
            return (merged, false);
        }
        let mut begins_null = false;
        let end = pg_sys::SysCacheGetAttr(of, tuple, FINAL_FUNCTION, &mut begins_null);
        let end = pg_sys::Oid::from(end.value() as u32);
        pg_sys::SysCacheGetAttr(of, tuple, INITIAL_VALUE, &mut begins_null);
        let null = begins_null && (end == pg_sys::InvalidOid || pg_sys::func_strict(end));
        pg_sys::ReleaseSysCache(tuple);
        (merged, null)
    }
}

/// Whether equal values of an expression are the same value, as an index that keeps each once asks.
///
/// # Safety
/// `node` is an expression.
unsafe fn is_exact(node: Node) -> bool {
    // SAFETY: look-ups in the catalogs; the function is called as an index does.
    unsafe {
        let (kind, collation) = (pg_sys::exprType(node), pg_sys::exprCollation(node));
        let entry = &*pg_sys::lookup_type_cache(kind, pg_sys::TYPECACHE_BTREE_OPFAMILY as i32);
        if entry.btree_opf == pg_sys::InvalidOid {
            return false;
        }
        let f = pg_sys::get_opfamily_proc(
            entry.btree_opf,
            entry.btree_opintype,
            entry.btree_opintype,
            EQUAL_IMAGE,
        );
        // Of functions of others nothing is taken for granted.
        if f == pg_sys::InvalidOid || f.to_u32() >= pg_sys::FirstNormalObjectId {
            return false;
        }
        pg_sys::OidFunctionCall1Coll(f, collation, entry.btree_opintype.into()).value() & 0xff != 0
    }
}

/// Whether it is an expression of functions and operators of PostgreSQL's own alone.
///
/// # Safety
/// `node` is an expression.
unsafe fn only_ours(node: Node) -> bool {
    unsafe extern "C-unwind" fn others(id: pg_sys::Oid, _: *mut std::ffi::c_void) -> bool {
        id.to_u32() >= pg_sys::FirstNormalObjectId
    }
    let mut ours = true;
    // SAFETY: the caller vouches for the node.
    unsafe {
        tree::each(node, &mut |n, _| {
            ours &= !pg_sys::check_functions_in_node(n, Some(others), std::ptr::null_mut());
            false
        });
    }
    ours
}
