//! Reading a SELECT with PostgreSQL's own parser and analyser, and writing its parts back as text.
use pgrx::{PgList, pg_sys};
use std::ffi::{CStr, CString, c_char};

/// What kind of thing a select-list entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An expression that is grouped by.
    Key {
        /// Date and time columns of the source that it is made from.
        time_columns: Vec<String>,
        /// True where the value can never be NULL.
        never_null: bool,
    },
    /// A bare aggregate call.
    Aggregate {
        /// Name of the aggregate function.
        function: String,
        /// Its schema.
        schema: String,
        /// It has DISTINCT inside.
        distinct: bool,
        /// It is an ordinary aggregate without ORDER BY.
        plain: bool,
    },
    /// Anything else.
    Other,
}

/// One entry of the select list.
#[derive(Debug, Clone)]
pub struct Target {
    /// Column name.
    pub name: String,
    /// The expression, every name in it qualified.
    pub expression: String,
    /// The type, qualified, with its modifier.
    pub sql_type: String,
    /// It is a date or a time stamp.
    pub is_time: bool,
    /// It holds a volatile function.
    pub volatile: bool,
    /// What it is.
    pub entry: Entry,
}

/// A SELECT as PostgreSQL understood it.
#[derive(Debug, Clone)]
pub struct Select {
    /// The one table it reads.
    pub source: pg_sys::Oid,
    /// Its relkind.
    pub relkind: char,
    /// The WHERE clause.
    pub filter: Option<String>,
    /// The WHERE clause holds a volatile function.
    pub filter_volatile: bool,
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

fn no<T>(what: &str, hint: &'static str) -> Result<T, Unsupported> {
    Err(Unsupported { what: what.into(), hint })
}

/// Parses and analyses `text` with the caller's search_path.
///
/// Raises PostgreSQL's own error where the text is no valid SQL or names things that are not there.
pub fn analyse(text: &str) -> Result<Select, Unsupported> {
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
        read(&*query)
    }
}

/// # Safety
/// `q` is an analysed query tree.
unsafe fn read(q: &pg_sys::Query) -> Result<Select, Unsupported> {
    // SAFETY: every pointer below belongs to the analysed tree, or is a list that PostgreSQL made of it.
    unsafe {
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
        for (there, what, hint) in refused {
            if there {
                return no(&format!("{what} cannot be rolled up"), hint);
            }
        }
        let rtable = PgList::<pg_sys::RangeTblEntry>::from_pg(q.rtable);
        if rtable.len() != 1 {
            return no(
                "a rollup reads exactly one table",
                "Join lookup tables in the query over the rollup.",
            );
        }
        let rte = &*rtable.get_ptr(0).expect("one table");
        if rte.rtekind != pg_sys::RTEKind::RTE_RELATION {
            return no("a rollup reads a table", "Write FROM table, not a sub-select, function or VALUES.");
        }
        if !rte.tablesample.is_null() {
            return no("TABLESAMPLE cannot be rolled up", "Leave it out.");
        }
        let context = pg_sys::deparse_context_for((*rte.eref).aliasname, rte.relid);
        let quals = (*q.jointree).quals;
        let grouped: Vec<u32> = PgList::<pg_sys::SortGroupClause>::from_pg(q.groupClause)
            .iter_ptr()
            .map(|g| (*g).tleSortGroupRef)
            .collect();
        let (mut targets, mut hidden_keys) = (Vec::new(), Vec::new());
        for te in PgList::<pg_sys::TargetEntry>::from_pg(q.targetList).iter_ptr() {
            let te = &*te;
            let node = te.expr.cast::<pg_sys::Node>();
            let expression = deparse(node, context);
            let is_key = te.ressortgroupref != 0 && grouped.contains(&te.ressortgroupref);
            if te.resjunk {
                if is_key {
                    hidden_keys.push(expression);
                }
                continue;
            }
            let kind = if is_key {
                key(node, rte.relid)
            } else if (*node).type_ == pg_sys::NodeTag::T_Aggref {
                aggregate(&*node.cast::<pg_sys::Aggref>())
            } else {
                Entry::Other
            };
            let oid = pg_sys::exprType(node);
            targets.push(Target {
                name: string(te.resname),
                expression,
                sql_type: string(pg_sys::format_type_extended(
                    oid,
                    pg_sys::exprTypmod(node),
                    (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as _,
                )),
                is_time: is_time(oid),
                volatile: pg_sys::contain_volatile_functions(node),
                entry: kind,
            });
        }
        Ok(Select {
            source: rte.relid,
            relkind: rte.relkind as u8 as char,
            filter: (!quals.is_null()).then(|| deparse(quals, context)),
            filter_volatile: !quals.is_null() && pg_sys::contain_volatile_functions(quals),
            targets,
            hidden_keys,
        })
    }
}

fn is_time(oid: pg_sys::Oid) -> bool {
    [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID, pg_sys::DATEOID].contains(&oid)
}

/// # Safety
/// `node` is an expression of a query whose only table is `relid`.
unsafe fn key(node: *mut pg_sys::Node, relid: pg_sys::Oid) -> Entry {
    // SAFETY: the caller vouches for the node; pull_var_clause lists Var nodes of level 0.
    unsafe {
        let vars = PgList::<pg_sys::Var>::from_pg(pg_sys::pull_var_clause(node, 0));
        let mut time_columns = Vec::new();
        let mut not_null = true;
        for v in vars.iter_ptr() {
            let att = string(pg_sys::get_attname(relid, (*v).varattno, false));
            if is_time((*v).vartype) && !time_columns.contains(&att) {
                time_columns.push(att);
            }
            not_null &= attribute_not_null(relid, (*v).varattno);
        }
        // A column that is NOT NULL, or date_trunc / date_bin of one, which give NULL for NULL only.
        let bare = (*node).type_ == pg_sys::NodeTag::T_Var;
        let trunc = (*node).type_ == pg_sys::NodeTag::T_FuncExpr && {
            let f = (*node.cast::<pg_sys::FuncExpr>()).funcid;
            pg_sys::get_func_namespace(f) == pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE)
                && ["date_trunc", "date_bin"].contains(&string(pg_sys::get_func_name(f)).as_str())
        };
        Entry::Key { time_columns, never_null: not_null && !vars.is_empty() && (bare || trunc) }
    }
}

/// # Safety
/// `relid` is locked by the analyser and `attno` is one of its columns.
unsafe fn attribute_not_null(relid: pg_sys::Oid, attno: pg_sys::AttrNumber) -> bool {
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

/// # Safety
/// `a` is an analysed aggregate call.
unsafe fn aggregate(a: &pg_sys::Aggref) -> Entry {
    // SAFETY: the function exists, the analyser has just found it.
    unsafe {
        Entry::Aggregate {
            function: string(pg_sys::get_func_name(a.aggfnoid)),
            schema: string(pg_sys::get_namespace_name(pg_sys::get_func_namespace(a.aggfnoid))),
            distinct: !a.aggdistinct.is_null(),
            plain: a.aggkind as u8 == b'n' && a.aggorder.is_null(),
        }
    }
}

/// # Safety
/// `node` belongs to a query over the one table that `context` names.
unsafe fn deparse(node: *mut pg_sys::Node, context: *mut pg_sys::List) -> String {
    // SAFETY: search_path is narrowed for the call so that every name outside pg_catalog is written qualified;
    // an error inside aborts the transaction, which restores it too.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        set_local(c"search_path", c"pg_catalog, pg_temp");
        let text = string(pg_sys::deparse_expression(node, context, false, false));
        pg_sys::AtEOXact_GUC(true, level);
        text
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

/// # Safety
/// `p` is NULL or a NUL-terminated string.
unsafe fn string(p: *const c_char) -> String {
    if p.is_null() {
        return String::new();
    }
    // SAFETY: the caller vouches for the string.
    unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned()
}
