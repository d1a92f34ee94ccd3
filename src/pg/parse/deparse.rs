//! Expressions back as text, every name in it qualified.
use crate::pg::ctext::c_text;
use hll_rollup::{Joined, Joins};
use pgrx::{PgList, pg_sys};
use std::ffi::{CStr, c_char};

/// What the columns of an expression belong to: the tables of one query.
#[derive(Clone, Copy)]
pub struct Names {
    context: *mut pg_sys::List,
    prefix: bool,
}

impl Names {
    /// Names for expressions of `query`: bare columns where it reads one table, prefixed ones where it joins.
    ///
    /// # Safety
    /// `query` is an analysed query tree that outlives the names.
    pub unsafe fn of(query: &pg_sys::Query) -> Names {
        // SAFETY: the context refers to the query's own range table; the statement around it is a blank node.
        unsafe {
            let rtable = PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable);
            if let (1, Some(rte)) = (rtable.len(), rtable.get_ptr(0)) {
                let context = pg_sys::deparse_context_for((*(*rte).eref).aliasname, (*rte).relid);
                return Names { context, prefix: false };
            }
            let statement = pg_sys::palloc0(size_of::<pg_sys::PlannedStmt>()).cast::<pg_sys::PlannedStmt>();
            (*statement).type_ = pg_sys::NodeTag::T_PlannedStmt;
            (*statement).rtable = query.rtable;
            let mut used = std::ptr::null_mut();
            for at in 1..=rtable.len() {
                used = pg_sys::bms_add_member(used, at as i32);
            }
            let names = pg_sys::select_rtable_names_for_explain(query.rtable, used);
            Names { context: pg_sys::deparse_context_for_plan_tree(statement, names), prefix: true }
        }
    }

    /// Whether columns carry the name of their table.
    pub fn prefixed(self) -> bool {
        self.prefix
    }

    /// The text of `node`.
    ///
    /// # Safety
    /// `node` is an expression over the query that these names were made of.
    pub unsafe fn text(self, node: *mut pg_sys::Node) -> String {
        // SAFETY: the caller vouches for the node.
        qualified(|| unsafe { string(pg_sys::deparse_expression(node, self.context, self.prefix, false)) })
    }
}

/// Tables of a FROM clause, with their names of today.
pub fn joined_tables(tables: &[pg_sys::Oid]) -> Vec<Joined> {
    tables.iter().map(|table| Joined { id: table.to_u32(), name: name_of(*table) }).collect()
}

/// The FROM clause of `query`.
///
/// # Safety
/// `query` is an analysed SELECT.
pub unsafe fn from_clause(query: &pg_sys::Query) -> Joins {
    // SAFETY: the copy is the callee's to change; what is left of it is SELECT true FROM ….
    unsafe {
        let copy = pg_sys::copyObjectImpl((query as *const pg_sys::Query).cast()).cast::<pg_sys::Query>();
        let one = pg_sys::makeTargetEntry(
            pg_sys::makeBoolConst(true, false).cast(),
            1,
            pg_sys::pstrdup(c"x".as_ptr()),
            false,
        );
        let mut list = PgList::<pg_sys::TargetEntry>::new();
        list.push(one);
        (*copy).targetList = list.into_pg();
        (*copy).groupClause = std::ptr::null_mut();
        (*copy).hasAggs = false;
        (*(*copy).jointree).quals = std::ptr::null_mut();
        let text = || {
            let text = qualified(|| string(pg_sys::pg_get_querydef(copy, false)));
            let from = text.split_once("FROM ").expect("what is left is SELECT true FROM …").1;
            from.to_string()
        };
        let mut mark = "rollup_table".to_string();
        while text().contains(&mark) {
            mark.push('_');
        }
        // Of a common table expression the name is written as it stands, and the alias after it.
        let (mut tables, mut only) = (Vec::new(), Vec::new());
        for rte in PgList::<pg_sys::RangeTblEntry>::from_pg((*copy).rtable).iter_ptr() {
            if (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION {
                tables.push((*rte).relid);
                only.push(!(*rte).inh);
                let name = c_text(format!("{mark}_{}_", tables.len()));
                (*(*rte).eref).colnames = column_names((*rte).relid, (*(*rte).eref).colnames);
                (*rte).rtekind = pg_sys::RTEKind::RTE_CTE;
                (*rte).ctename = pg_sys::pstrdup(name.as_ptr());
            }
        }
        let mut from = text();
        for (n, only) in (1..).zip(only) {
            let hole = if only { format!("ONLY ${n}") } else { format!("${n}") };
            from = from.replace(&format!("{mark}_{n}_"), &hole);
        }
        Joins::new(from, joined_tables(&tables))
    }
}

/// What columns of a table that were called so are called now, in the order of their numbers: those that were dropped are "".
///
/// # Safety
/// There is such a table.
unsafe fn column_names(table: pg_sys::Oid, were: *mut pg_sys::List) -> *mut pg_sys::List {
    // SAFETY: look-ups in the catalog; the strings are copies.
    unsafe {
        let mut names = PgList::<pg_sys::String>::new();
        for number in 1..=pg_sys::list_length(were) as i16 {
            let name = pg_sys::get_attname(table, number, true);
            let name = if name.is_null() { pg_sys::pstrdup(c"".as_ptr()) } else { name };
            names.push(pg_sys::makeString(name));
        }
        names.into_pg()
    }
}

/// The name of a table, qualified and quoted.
fn name_of(table: pg_sys::Oid) -> String {
    qualified_name(table).unwrap_or_else(|| "\"a table that was dropped\"".into())
}

/// The name of a relation, qualified and quoted; None where there is no such relation.
pub fn qualified_name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: look-ups in the catalog, which give NULL where there is no such relation.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            return None;
        }
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if schema.is_null() {
            return None;
        }
        Some(string(pg_sys::quote_qualified_identifier(schema, name)))
    }
}

/// Whether it is a relation that goes with its session.
pub fn is_temporary(relation: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalog, which tolerate that there is no such relation.
    unsafe { pg_sys::isAnyTempNamespace(pg_sys::get_rel_namespace(relation)) }
}

/// The name of a relation for a message, as `regclass` writes it: with its schema where the search_path does not find it,
/// its number where there is no such relation.
pub fn shown_name(relation: pg_sys::Oid) -> String {
    // SAFETY: look-ups in the catalog, which give NULL where there is no such relation.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            return relation.to_u32().to_string();
        }
        let schema = match pg_sys::RelationIsVisible(relation) {
            true => std::ptr::null_mut(),
            false => pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)),
        };
        string(pg_sys::quote_qualified_identifier(schema, name))
    }
}

/// Runs `f` with settings of its own. An error inside aborts the transaction, which restores them too.
fn with_settings<T>(set: impl FnOnce(), f: impl FnOnce() -> T) -> T {
    // SAFETY: the level that was opened is closed again.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        set();
        let out = f();
        pg_sys::AtEOXact_GUC(true, level);
        out
    }
}

/// Runs `f` with settings by which PostgreSQL writes every name outside pg_catalog qualified, and every value as it
/// is read again, whatever the session's are.
pub fn qualified<T>(f: impl FnOnce() -> T) -> T {
    with_settings(fix_settings, f)
}

/// Runs `f` in a time zone.
pub fn in_zone<T>(zone: &str, f: impl FnOnce() -> T) -> T {
    let zone = c_text(zone);
    with_settings(|| set_local(c"timezone", &zone), f)
}

/// Settings by which a text means something else, or a value looks otherwise, as they are by default. The time zone is
/// the rollup's.
///
/// Invariant: text that is made here is read under the same settings.
const FIXED: [(&CStr, &CStr); 13] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"standard_conforming_strings", c"on"),
    (c"escape_string_warning", c"off"),
    (c"backslash_quote", c"safe_encoding"),
    (c"transform_null_equals", c"off"),
    (c"array_nulls", c"on"),
    (c"quote_all_identifiers", c"off"),
    (c"DateStyle", c"ISO, MDY"),
    (c"IntervalStyle", c"postgres"),
    (c"extra_float_digits", c"1"),
    (c"bytea_output", c"hex"),
    (c"xmloption", c"content"),
    (c"xmlbinary", c"base64"),
];

/// Makes them so until the current GUC nest level ends.
pub fn fix_settings() {
    for (name, value) in FIXED {
        // SAFETY: a look-up that tolerates absence; the text is compared at once.
        let is_so = unsafe {
            let now = pg_sys::GetConfigOption(name.as_ptr(), true, false);
            !now.is_null() && CStr::from_ptr(now) == value
        };
        if !is_so {
            set_local(name, value);
        }
    }
}

/// Sets a setting until the current GUC nest level ends.
pub fn set_local(name: &CStr, value: &CStr) {
    // SAFETY: both strings are NUL-terminated and copied by the callee.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// The type of `node`, qualified, with its modifier.
///
/// # Safety
/// `node` is an expression.
pub unsafe fn type_of(node: *mut pg_sys::Node) -> String {
    // SAFETY: the caller vouches for the node.
    unsafe {
        string(pg_sys::format_type_extended(
            pg_sys::exprType(node),
            pg_sys::exprTypmod(node),
            (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as _,
        ))
    }
}

/// A Rust copy of a C string.
///
/// # Safety
/// `p` is NULL or a NUL-terminated string.
pub unsafe fn string(p: *const c_char) -> String {
    if p.is_null() {
        return String::new();
    }
    // SAFETY: the caller vouches for the string.
    unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned()
}
