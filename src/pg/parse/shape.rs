//! What the SELECT inside a view computes, as text in the names that hold now.
use crate::pg::deparse::{Names, from_clause, string, type_of};
use crate::pg::expression::nodes;
use crate::pg::plan::tree::parsed;
use crate::pg::tables::Tables;
use hll_rollup::Joins;
use pgrx::{PgList, pg_sys};
use serde::{Deserialize, Serialize};
use std::ffi::CString;

/// The parts of a SELECT over groups of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Name, expression and type of each column.
    pub columns: Vec<(String, String, String)>,
    /// The condition that rows satisfy, bounds apart.
    pub filter: Option<String>,
    /// The FROM clause, where it joins: `$1`, `$2`, … stand for the tables.
    pub joins: Option<Joins>,
    /// The column of the table that the time key is made of.
    pub time_column: Option<String>,
}

/// Which SELECT of a view is meant.
pub struct Wanted<'a> {
    /// The table that it reads.
    pub source: pg_sys::Oid,
    /// What the table is called in it.
    pub alias: &'a str,
    /// Columns that it has.
    pub columns: Vec<&'a str>,
    /// The one that is made of the time of a row.
    pub time_key: &'a str,
    /// Its last condition is one of rows, and no bound.
    pub filtered: bool,
}

/// The first SELECT of a view that groups rows of the table into these columns; None where there is no such view, or no
/// such SELECT in it.
pub fn of_view(view: pg_sys::Oid, wanted: &Wanted) -> Option<Shape> {
    // SAFETY: the copy of the tree is ours.
    unsafe { find(query_of_view(view)?, wanted) }
}

/// A copy of what a view selects; None where there is no such view.
///
/// # Safety
/// The copy is used while the memory context of the caller is there.
pub unsafe fn query_of_view(view: pg_sys::Oid) -> Option<*mut pg_sys::Query> {
    // SAFETY: the relation is open while its rule is copied, and stays locked; the copy is ours.
    unsafe {
        let relation = pg_sys::try_relation_open(view, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return None;
        }
        let is_view = (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_VIEW;
        let query = is_view.then(|| {
            let query = pg_sys::get_view_query(relation);
            pg_sys::copyObjectImpl(query.cast()).cast::<pg_sys::Query>()
        });
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        query
    }
}

/// The same of a SELECT that is written, every name in it qualified.
pub fn of_text(text: &str, wanted: &Wanted) -> Option<Shape> {
    let text = CString::new(text).ok()?;
    // SAFETY: the parser and the analyser get a string that outlives the trees, which are ours.
    crate::pg::deparse::qualified(|| unsafe {
        let list = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        let query = pg_sys::parse_analyze_fixedparams(
            list.get_ptr(0)?,
            text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        find(query, wanted)
    })
}

/// By which collation each column of a SELECT is told apart, every name in it qualified.
pub fn collations(text: &str) -> Vec<(String, pg_sys::Oid)> {
    // SAFETY: the tree is ours; a column that was written has a name.
    unsafe {
        let targets = PgList::<pg_sys::TargetEntry>::from_pg((*parsed(text, &[])).targetList);
        let seen = targets.iter_ptr().filter(|t| !(**t).resjunk);
        seen.map(|t| (string((*t).resname), pg_sys::exprCollation((*t).expr.cast()))).collect()
    }
}

/// A SELECT as PostgreSQL writes it out where it is that of a view, its names qualified.
pub fn deparsed(text: &str) -> String {
    // SAFETY: the tree is ours.
    crate::pg::deparse::qualified(|| unsafe {
        let query = parsed(text, &[]);
        // The stored query of a view begins with two tables more, and so has each column with its table's name.
        #[cfg(feature = "pg15")]
        for _ in 0..2 {
            let entry = pg_sys::palloc0(size_of::<pg_sys::RangeTblEntry>()).cast::<pg_sys::RangeTblEntry>();
            (*entry).type_ = pg_sys::NodeTag::T_RangeTblEntry;
            (*entry).rtekind = pg_sys::RTEKind::RTE_RESULT;
            (*entry).eref = pg_sys::makeAlias(c"none".as_ptr(), std::ptr::null_mut());
            (*query).rtable = pg_sys::lappend((*query).rtable, entry.cast());
        }
        string(pg_sys::pg_get_querydef(query, false))
    })
}

/// # Safety
/// `query` is an analysed query tree that is ours alone.
unsafe fn find(query: *mut pg_sys::Query, wanted: &Wanted) -> Option<Shape> {
    // SAFETY: the caller vouches for the tree; kinds say what entries are.
    unsafe {
        pg_sys::check_stack_depth();
        let q = &mut *query;
        let entries: Vec<_> = PgList::<pg_sys::RangeTblEntry>::from_pg(q.rtable).iter_ptr().collect();
        let place = entries.iter().position(|e| {
            let e = &**e;
            e.rtekind == pg_sys::RTEKind::RTE_RELATION
                && e.relid == wanted.source
                && string((*e.eref).aliasname) == wanted.alias
        });
        if let (Some(place), true) = (place, q.hasAggs)
            && let Some(shape) = read(q, place + 1, wanted)
        {
            return Some(shape);
        }
        entries
            .iter()
            .filter(|e| (***e).rtekind == pg_sys::RTEKind::RTE_SUBQUERY && !(***e).subquery.is_null())
            .find_map(|e| find((**e).subquery, wanted))
    }
}

/// # Safety
/// `q` is an analysed query tree that is ours alone, whose entry `source` is a table.
unsafe fn read(q: &mut pg_sys::Query, source: usize, wanted: &Wanted) -> Option<Shape> {
    // SAFETY: every node belongs to the tree.
    unsafe {
        #[cfg(feature = "pg18")]
        crate::pg::tables::inline_group_keys(q);
        let tables = Tables::of(q).ok()?;
        let targets: Vec<*mut pg_sys::TargetEntry> =
            PgList::<pg_sys::TargetEntry>::from_pg(q.targetList).iter_ptr().collect();
        let joins = tables.joins().then(|| from_clause(q));
        let names = Names::of(q);
        let (mut columns, mut time_column) = (Vec::new(), None);
        for name in &wanted.columns {
            let target = targets.iter().find(|t| !(***t).resjunk && string((***t).resname) == *name)?;
            let node = tables.flatten(q, (**target).expr.cast());
            if *name == wanted.time_key {
                time_column = only_column(node, source, &tables);
            }
            columns.push((name.to_string(), names.text(node), type_of(node)));
        }
        let quals = tables.flatten(q, (*q.jointree).quals);
        let filter = wanted.filtered.then(|| last_condition(quals)).flatten();
        Some(Shape { columns, filter: filter.map(|node| names.text(node)), joins, time_column })
    }
}

/// The one column of a table that an expression is made of.
///
/// # Safety
/// `node` is an expression over these tables.
unsafe fn only_column(node: *mut pg_sys::Node, source: usize, tables: &Tables) -> Option<String> {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        let mut found = nodes(node)
            .into_iter()
            .filter(|n| (**n).type_ == pg_sys::NodeTag::T_Var)
            .map(|n| &*n.cast::<pg_sys::Var>())
            .filter(|v| v.varlevelsup == 0 && v.varno as usize == source)
            .map(|v| v.varattno)
            .collect::<Vec<_>>();
        found.sort_unstable();
        found.dedup();
        let [one] = found[..] else { return None };
        Some(string(pg_sys::get_attname(tables.entry(source).relid, one, true)))
    }
}

/// The last of the conditions that must all hold.
///
/// # Safety
/// `quals` is NULL or an expression.
unsafe fn last_condition(quals: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        if quals.is_null() || (*quals).type_ != pg_sys::NodeTag::T_BoolExpr {
            return None;
        }
        let all = &*quals.cast::<pg_sys::BoolExpr>();
        if all.boolop != pg_sys::BoolExprType::AND_EXPR {
            return None;
        }
        PgList::<pg_sys::Node>::from_pg(all.args).iter_ptr().last()
    }
}
