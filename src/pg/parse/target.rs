//! Entries of the select list of a query: group keys and values.
use crate::pg::constant::constant;
use crate::pg::deparse::{string, type_of};
use crate::pg::expression::{Rewriter, collation};
use crate::pg::select::{Entry, Target, attribute_not_null};
use crate::pg::tables::Tables;
use pgrx::{PgList, pg_sys};

/// An entry of the select list, as it is written.
///
/// # Safety
/// It is an entry of the query that the rewriter is for.
unsafe fn target(te: &pg_sys::TargetEntry, rewriter: &mut Rewriter) -> Target {
    let node = te.expr.cast::<pg_sys::Node>();
    // SAFETY: the caller vouches for the entry.
    unsafe {
        let oid = pg_sys::exprType(node);
        Target {
            name: string(te.resname),
            written: rewriter.text(node),
            expression: String::new(),
            sql_type: type_of(node),
            collation: collation(node),
            is_time: is_time(oid),
            volatile: pg_sys::contain_volatile_functions(node),
            sortable: sortable(oid),
            entry: Entry::Value { parts: Vec::new(), immutable: false },
        }
    }
}

/// A group key, in the rollup's time zone.
///
/// # Safety
/// It is an entry of the query that the rewriter is for, whose tables these are.
pub unsafe fn key_target(
    te: &pg_sys::TargetEntry,
    rewriter: &mut Rewriter,
    tables: &Tables,
    source: usize,
) -> Target {
    let node = te.expr.cast::<pg_sys::Node>();
    // SAFETY: the caller vouches for the entry.
    unsafe {
        let mut target = target(te, rewriter);
        target.entry = key(node, tables, source);
        rewriter.pin_time_zone(node);
        rewriter.note_session(node);
        target.expression = rewriter.text(node);
        target
    }
}

/// A value, taken apart into the aggregates that it is computed from.
///
/// # Safety
/// It is an entry of `q`, which the rewriter is for and whose group keys these are.
pub unsafe fn value_target(
    te: &pg_sys::TargetEntry,
    rewriter: &mut Rewriter,
    keys: &[(*mut pg_sys::Node, String)],
    q: &pg_sys::Query,
) -> Target {
    let node = te.expr.cast::<pg_sys::Node>();
    // SAFETY: the caller vouches for the entry.
    unsafe {
        let mut target = target(te, rewriter);
        target.expression = target.written.clone();
        if let Some((text, parts)) = rewriter.take_apart(node, keys, q) {
            target.expression = text;
            let immutable = !pg_sys::contain_mutable_functions(node) && !rewriter.put_in_a_stable_function();
            target.entry = Entry::Value { parts, immutable };
        }
        target
    }
}

/// It is a date or a time stamp, or a domain over one.
pub fn is_time(oid: pg_sys::Oid) -> bool {
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
