//! A SELECT as PostgreSQL understood it.
use crate::pg::expression::Part;
use crate::pg::steady::Unsteady;
use hll_rollup::Joins;
use pgrx::pg_sys;

/// What kind of thing a select-list entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An expression that is grouped by.
    Key {
        /// Date and time columns of the source that it is made from.
        time_columns: Vec<String>,
        /// The last of them is a timestamptz.
        zoned: bool,
        /// Whether the value can never be NULL.
        never_null: bool,
        /// What makes the buckets: a column is `("", [])`, `date_trunc('hour', at)` is
        /// `("date_trunc", ["hour", None])`; None for a function outside pg_catalog or an operator.
        bucket: Option<(String, Vec<Option<String>>)>,
        /// It is a column, or made of nothing but one by functions of PostgreSQL's own that keep the order of times.
        plain: bool,
    },
    /// An expression over aggregates and keys: `$1`, `$2`, … in it are its parts.
    Value {
        /// The parts; none where a column is used that is neither grouped by nor aggregated.
        parts: Vec<Part>,
        /// It gives the same for the same parts, whatever the session.
        immutable: bool,
    },
}

/// One entry of the select list.
#[derive(Debug, Clone)]
pub struct Target {
    /// Column name.
    pub name: String,
    /// The expression as it was written, every name in it qualified.
    pub written: String,
    /// The expression to run: independent of the session's time zone.
    pub expression: String,
    /// The type, qualified, with its modifier.
    pub sql_type: String,
    /// The collation, where it is not the type's own.
    pub collation: Option<String>,
    /// It is a date or a time stamp.
    pub is_time: bool,
    /// It holds a volatile function.
    pub volatile: bool,
    /// Values of its type have an order, as keys of an index need.
    pub sortable: bool,
    /// What it is.
    pub entry: Entry,
}

/// A table that a query looks things up in.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The table.
    pub table: pg_sys::Oid,
    /// The numbers of its columns that are joined by.
    pub by: Vec<i16>,
    /// The names of those that the query names.
    pub columns: Vec<String>,
}

/// An entry of the select list.
#[derive(Debug, Clone)]
pub struct Taken {
    /// It is a group key made of columns of lookup tables.
    pub joined: bool,
    /// The column of the source that it is.
    pub column: Option<String>,
}

/// The lookup tables of a query.
#[derive(Debug, Clone)]
pub struct Lookups {
    /// The tables of the FROM clause, as `from_clause` numbers them; None: the source.
    pub tables: Vec<Option<Lookup>>,
    /// The columns of the source that are joined by.
    pub by: Vec<String>,
    /// Each entry of the select list that has a name.
    pub entries: Vec<Taken>,
}

/// A SELECT as PostgreSQL understood it.
#[derive(Debug, Clone)]
pub struct Select {
    /// The table whose rows are counted.
    pub source: pg_sys::Oid,
    /// Its relkind.
    pub relkind: char,
    /// It is a partition of another table.
    pub partition: bool,
    /// It is temporary.
    pub temporary: bool,
    /// The FROM clause, where it joins.
    pub joins: Option<Joins>,
    /// What it takes of the tables that it joins, or why it takes more than can be followed.
    pub lookups: Option<Result<Lookups, Unsupported>>,
    /// The name of the source inside the query.
    pub alias: String,
    /// The WHERE clause.
    pub filter: Option<String>,
    /// The WHERE clause holds a volatile function.
    pub filter_volatile: bool,
    /// An expression that is run over the rows and, the time zone apart, depends on more than the row.
    pub session_dependent: Option<String>,
    /// A part of one whose value is not that of the row alone, the time zone and the locale apart.
    pub unsteady: Option<(String, Unsteady)>,
    /// The select list.
    pub targets: Vec<Target>,
    /// Group keys that the select list does not show.
    pub hidden_keys: Vec<String>,
}

/// Why a text is no SELECT that can be looked at: what is there, and what to write instead.
#[derive(Debug, Clone)]
pub struct Unsupported {
    /// What is there.
    pub what: String,
    /// What to write instead.
    pub hint: &'static str,
}

/// What cannot be looked at, and what to write instead.
pub fn no<T>(what: &str, hint: &'static str) -> Result<T, Unsupported> {
    Err(Unsupported { what: what.into(), hint })
}

/// # Safety
/// `relid` is locked by the analyser and `attno` is one of its columns.
pub(crate) unsafe fn attribute_not_null(relid: pg_sys::Oid, attno: pg_sys::AttrNumber) -> bool {
    // SAFETY: the cached tuple is released before return; GETSTRUCT is the fixed part of pg_attribute.
    unsafe {
        let tuple = pg_sys::SearchSysCache2(
            pg_sys::SysCacheIdentifier::ATTNUM as i32,
            pg_sys::Datum::from(relid),
            pg_sys::Datum::from(attno),
        );
        if tuple.is_null() {
            return false;
        }
        let row = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_attribute>(tuple);
        let not_null = (*row).attnotnull;
        pg_sys::ReleaseSysCache(tuple);
        #[cfg(feature = "pg18")]
        return not_null && (attno < 0 || holds_for_all(relid, attno));
        #[cfg(not(feature = "pg18"))]
        not_null
    }
}

/// Whether the constraint NOT NULL of a column holds for the rows, too, that were there before it.
///
/// # Safety
/// As of `attribute_not_null`.
#[cfg(feature = "pg18")]
unsafe fn holds_for_all(relid: pg_sys::Oid, attno: pg_sys::AttrNumber) -> bool {
    // SAFETY: the relation is open while its columns are looked at, of which this is one.
    unsafe {
        let relation = pg_sys::try_relation_open(relid, pg_sys::NoLock as i32);
        if relation.is_null() {
            return false;
        }
        let columns = (*(*relation).rd_att).compact_attrs.as_ptr();
        let column = &*columns.add(attno as usize - 1);
        let valid = column.attnullability as u8 == pg_sys::ATTNULLABLE_VALID;
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        valid
    }
}
