//! Reading a SELECT with PostgreSQL's own parser and analyser, and writing its parts back as text.
pub use super::deparse::{Joins, set_local};
use super::deparse::{Names, from_clause, string, type_of};
pub use super::expression::{Aggregate, Part};
use super::expression::{Rewriter, collation, constant};
pub use super::steady::Unsteady;
use super::tables::Tables;
use pgrx::{PgList, pg_sys};
use std::ffi::CString;

/// What kind of thing a select-list entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An expression that is grouped by.
    Key {
        /// Date and time columns of the source that it is made from.
        time_columns: Vec<String>,
        /// The last of them is a timestamptz.
        zoned: bool,
        /// True where the value can never be NULL.
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
#[derive(Debug)]
pub struct Unsupported {
    /// What is there.
    pub what: String,
    /// What to write instead.
    pub hint: &'static str,
}

pub(super) fn no<T>(what: &str, hint: &'static str) -> Result<T, Unsupported> {
    Err(Unsupported { what: what.into(), hint })
}

/// Parses and analyses `text` with the caller's search_path, for a rollup in time zone `zone`, by which clock times in
/// the text are read.
///
/// Raises PostgreSQL's own error where the text is no valid SQL or names things that are not there.
pub fn analyse(text: &str, zone: &str) -> Result<Select, Unsupported> {
    super::deparse::in_zone(zone, || analysed(text, zone, true))
}

/// The aggregate calls that make up the select list of `text`, which has no GROUP BY. Call with names qualified.
pub fn aggregates(text: &str, zone: &str) -> Result<Vec<Aggregate>, Unsupported> {
    let select = super::deparse::qualified(|| analysed(text, zone, false))?;
    let one = |t: Target| match t.entry {
        Entry::Value { parts, .. } => parts.into_iter().next(),
        Entry::Key { .. } => None,
    };
    Ok(select
        .targets
        .into_iter()
        .filter_map(one)
        .filter_map(|p| match p {
            Part::Aggregate(a) => Some(*a),
            Part::Key(_) => None,
        })
        .collect())
}

fn analysed(text: &str, zone: &str, grouped: bool) -> Result<Select, Unsupported> {
    let Ok(source_text) = CString::new(text) else {
        return no("the query holds a NUL byte", "Write it without.");
    };
    // SAFETY: the parser and the analyser get a NUL-terminated string that outlives the trees used below.
    unsafe {
        let list = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            source_text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        if list.len() != 1 {
            return no("the query is not one statement", "Write one SELECT.");
        }
        let raw = list.get_ptr(0).expect("one statement");
        if (*(*raw).stmt).type_ != pg_sys::NodeTag::T_SelectStmt {
            return no("the query is not a SELECT", "Write one SELECT … FROM table GROUP BY ….");
        }
        let query = pg_sys::parse_analyze_fixedparams(
            raw,
            source_text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        #[cfg(feature = "pg18")]
        super::tables::inline_group_keys(&mut *query);
        read(&mut *query, zone, grouped)
    }
}

fn refuse(q: &pg_sys::Query) -> Result<(), Unsupported> {
    if q.commandType != pg_sys::CmdType::CMD_SELECT || !q.utilityStmt.is_null() {
        return no("the query is not a SELECT", "Write one SELECT … FROM table GROUP BY ….");
    }
    let refused: [(bool, &str, &'static str); 11] = [
        (!q.setOperations.is_null(), "UNION, INTERSECT or EXCEPT", "Make a rollup of each part."),
        (!q.cteList.is_null(), "WITH", "Write the SELECT over the table itself."),
        (q.hasWindowFuncs, "a window function", "Use it in the query over the rollup."),
        (q.hasTargetSRFs, "a set-returning function", "Use it in the query over the rollup."),
        (q.hasSubLinks, "a sub-select", "Filter on columns of the table."),
        (!q.groupingSets.is_null(), "GROUPING SETS", "Make a rollup of each set."),
        (!q.havingQual.is_null(), "HAVING", "Filter in the query over the rollup: groups change."),
        (!q.distinctClause.is_null(), "DISTINCT", "GROUP BY makes rows distinct already."),
        (!q.sortClause.is_null(), "ORDER BY", "Order in the query over the rollup."),
        (
            !q.limitCount.is_null() || !q.limitOffset.is_null(),
            "LIMIT or OFFSET",
            "Limit in the query over the rollup.",
        ),
        (!q.rowMarks.is_null(), "FOR UPDATE", "Leave it out."),
    ];
    match refused.into_iter().find(|(there, _, _)| *there) {
        Some((_, what, hint)) => no(&format!("{what} cannot be rolled up"), hint),
        None => Ok(()),
    }
}

/// # Safety
/// `q` is an analysed query tree that is the caller's to change.
unsafe fn read(q: &mut pg_sys::Query, zone: &str, has_time_key: bool) -> Result<Select, Unsupported> {
    refuse(q)?;
    // SAFETY: every pointer below belongs to the analysed tree, or is a list that PostgreSQL made of it.
    unsafe {
        let tables = Tables::of(q)?;
        let grouped: Vec<u32> = PgList::<pg_sys::SortGroupClause>::from_pg(q.groupClause)
            .iter_ptr()
            .map(|g| (*g).tleSortGroupRef)
            .collect();
        let entries: Vec<&mut pg_sys::TargetEntry> =
            PgList::<pg_sys::TargetEntry>::from_pg(q.targetList).iter_ptr().map(|te| &mut *te).collect();
        let is_key =
            |te: &pg_sys::TargetEntry| te.ressortgroupref != 0 && grouped.contains(&te.ressortgroupref);
        let joins = tables.joins().then(|| from_clause(q));
        if tables.joins() {
            // Columns of a JOIN … USING become those of the tables joined.
            for te in entries.iter() {
                let te: *const pg_sys::TargetEntry = *te;
                let flat = tables.flatten(q, (*te).expr.cast());
                (*te.cast_mut()).expr = flat.cast();
            }
            (*q.jointree).quals = tables.flatten(q, (*q.jointree).quals);
        }
        let mut rewriter = Rewriter::new(Names::of(q), zone);
        let keys: Vec<(*mut pg_sys::Node, String)> = entries
            .iter()
            .filter(|te| is_key(te) && !te.resjunk)
            .map(|te| (pg_sys::copyObjectImpl(te.expr.cast()).cast(), string(te.resname)))
            .collect();
        let time_keys: Vec<_> =
            keys.iter().filter(|(k, _)| is_time(pg_sys::exprType(*k))).map(|(k, _)| *k).collect();
        let source = if has_time_key { tables.source(&time_keys)? } else { 1 };
        let (mut targets, mut hidden_keys) = (Vec::new(), Vec::new());
        for te in entries {
            let node = te.expr.cast::<pg_sys::Node>();
            let is_key = is_key(te);
            if te.resjunk {
                if is_key {
                    hidden_keys.push(rewriter.text(node));
                }
                continue;
            }
            let oid = pg_sys::exprType(node);
            let mut target = Target {
                name: string(te.resname),
                written: rewriter.text(node),
                expression: String::new(),
                sql_type: type_of(node),
                collation: collation(node),
                is_time: is_time(oid),
                volatile: pg_sys::contain_volatile_functions(node),
                sortable: sortable(oid),
                entry: Entry::Value { parts: Vec::new(), immutable: false },
            };
            if is_key {
                target.entry = key(node, &tables, source);
                rewriter.pin_time_zone(node);
                rewriter.note_session(node);
                target.expression = rewriter.text(node);
            } else {
                target.expression = target.written.clone();
                if let Some((text, parts)) = rewriter.take_apart(node, &keys, q) {
                    target.expression = text;
                    target.entry = Entry::Value {
                        parts,
                        immutable: !pg_sys::contain_mutable_functions(node)
                            && !rewriter.put_in_a_stable_function(),
                    };
                }
            }
            targets.push(target);
        }
        let quals = (*q.jointree).quals;
        let filter_volatile = pg_sys::contain_volatile_functions(q.jointree.cast());
        if !quals.is_null() {
            rewriter.pin_time_zone(quals);
            rewriter.note_session(quals);
        }
        for condition in tables.conditions() {
            if super::expression::nodes(*condition).into_iter().any(|n| super::pinned::hides_operator(n)) {
                return no(
                    "a condition of JOIN compares by an operator that is not PostgreSQL's own and not written",
                    "Write a OPERATOR(schema.=) b instead of IS DISTINCT FROM, NULLIF or CASE … WHEN.",
                );
            }
            rewriter.note_session(*condition);
        }
        let rte = tables.entry(source);
        Ok(Select {
            source: rte.relid,
            relkind: rte.relkind as u8 as char,
            partition: pg_sys::get_rel_relispartition(rte.relid),
            temporary: pg_sys::get_rel_persistence(rte.relid) as u8 == b't',
            alias: string((*rte.eref).aliasname),
            joins,
            filter: (!quals.is_null()).then(|| rewriter.text(quals)),
            filter_volatile,
            session_dependent: rewriter.session_dependent(),
            unsteady: rewriter.unsteady(),
            targets,
            hidden_keys,
        })
    }
}

fn is_time(oid: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the catalog of types.
    let base = unsafe { pg_sys::getBaseType(oid) };
    [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID, pg_sys::DATEOID].contains(&base)
}

fn sortable(oid: pg_sys::Oid) -> bool {
    // SAFETY: the type cache gives an entry for every type, or raises an error.
    unsafe { (*pg_sys::lookup_type_cache(oid, pg_sys::TYPECACHE_LT_OPR as i32)).lt_opr != pg_sys::InvalidOid }
}

/// # Safety
/// `node` is a group key of the query whose tables these are.
unsafe fn key(node: *mut pg_sys::Node, tables: &Tables, source: usize) -> Entry {
    // SAFETY: the caller vouches for the node; pull_var_clause lists Var nodes of level 0.
    unsafe {
        let vars = PgList::<pg_sys::Var>::from_pg(pg_sys::pull_var_clause(node, 0));
        let mut time_columns = Vec::new();
        let (mut not_null, mut zoned) = (true, false);
        for v in vars.iter_ptr() {
            let rte = tables.entry((*v).varno as usize);
            if is_time((*v).vartype) && (*v).varno as usize == source {
                let att = string(pg_sys::get_attname(rte.relid, (*v).varattno, false));
                zoned = pg_sys::getBaseType((*v).vartype) == pg_sys::TIMESTAMPTZOID;
                if !time_columns.contains(&att) {
                    time_columns.push(att);
                }
            }
            not_null &=
                attribute_not_null(rte.relid, (*v).varattno) && !tables.may_be_missing((*v).varno as usize);
        }
        let mut bucket = None;
        if (*node).type_ == pg_sys::NodeTag::T_Var {
            bucket = Some((String::new(), Vec::new()));
        } else if (*node).type_ == pg_sys::NodeTag::T_FuncExpr {
            let f = &*node.cast::<pg_sys::FuncExpr>();
            if pg_sys::get_func_namespace(f.funcid) == pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE) {
                let args = PgList::<pg_sys::Node>::from_pg(f.args);
                bucket = Some((
                    string(pg_sys::get_func_name(f.funcid)),
                    args.iter_ptr().map(|a| constant(a)).collect(),
                ));
            }
        }
        // A column that is NOT NULL, or date_trunc / date_bin of one, which give NULL for NULL only.
        let faithful =
            bucket.as_ref().is_some_and(|(f, _)| ["", "date_trunc", "date_bin"].contains(&f.as_str()));
        let plain = is_plain(node);
        Entry::Key {
            time_columns,
            zoned,
            never_null: not_null && !vars.is_empty() && faithful,
            bucket,
            plain,
        }
    }
}

/// # Safety
/// `node` is an expression.
unsafe fn is_plain(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Var => true,
            pg_sys::NodeTag::T_RelabelType => is_plain((*node.cast::<pg_sys::RelabelType>()).arg.cast()),
            pg_sys::NodeTag::T_FuncExpr => {
                let f = &*node.cast::<pg_sys::FuncExpr>();
                let name = string(pg_sys::get_func_name(f.funcid));
                let known = ["date_trunc", "date_bin", "timezone", "date", "timestamp", "timestamptz"];
                let args = PgList::<pg_sys::Node>::from_pg(f.args);
                let (constants, others): (Vec<_>, Vec<_>) =
                    args.iter_ptr().partition(|a| (**a).type_ == pg_sys::NodeTag::T_Const);
                pg_sys::get_func_namespace(f.funcid) == pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE)
                    && known.contains(&name.as_str())
                    && constants.len() + 1 == args.len()
                    && others.first().is_some_and(|a| is_plain(*a))
            }
            _ => false,
        }
    }
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
        not_null
    }
}
