//! Reading a SELECT with PostgreSQL's own parser and analyser, and writing its parts back as text.
pub use crate::pg::deparse::set_local;
use crate::pg::deparse::{Names, from_clause, string};
use crate::pg::expression::Rewriter;
pub use crate::pg::expression::{Aggregate, Part};
use crate::pg::lookups::Joining;
use crate::pg::select::no;
pub use crate::pg::select::{Entry, Lookup, Lookups, Select, Taken, Target, Unsupported};
pub use crate::pg::steady::Unsteady;
use crate::pg::tables::Tables;
use crate::pg::target::{is_time, key_target, value_target};
use pgrx::{PgList, pg_sys};
use std::ffi::CString;

/// Parses and analyses `text` with the caller's search_path, for a rollup in time zone `zone`, by which clock times in
/// the text are read.
///
/// Raises PostgreSQL's own error where the text is no valid SQL or names things that are not there.
pub fn analyse(text: &str, zone: &str) -> Result<Select, Unsupported> {
    crate::pg::deparse::in_zone(zone, || analysed(text, zone, true))
}

/// The aggregate calls that make up the select list of `text`, which has no GROUP BY. Call with names qualified.
pub fn aggregates(text: &str, zone: &str) -> Result<Vec<Aggregate>, Unsupported> {
    let select = crate::pg::deparse::qualified(|| analysed(text, zone, false))?;
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
        crate::pg::tables::inline_group_keys(&mut *query);
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
        let entries: Vec<*mut pg_sys::TargetEntry> =
            PgList::<pg_sys::TargetEntry>::from_pg(q.targetList).iter_ptr().collect();
        let is_key = |te: *mut pg_sys::TargetEntry| {
            (*te).ressortgroupref != 0 && grouped.contains(&(*te).ressortgroupref)
        };
        let joins = tables.joins().then(|| from_clause(q));
        if tables.joins() {
            flatten(q, &tables, &entries);
        }
        let mut rewriter = Rewriter::new(Names::of(q), zone);
        let keys: Vec<(*mut pg_sys::Node, String)> = entries
            .iter()
            .filter(|te| is_key(**te) && !(***te).resjunk)
            .map(|te| (pg_sys::copyObjectImpl((**te).expr.cast()).cast(), string((**te).resname)))
            .collect();
        let time_keys: Vec<_> =
            keys.iter().filter(|(k, _)| is_time(pg_sys::exprType(*k))).map(|(k, _)| *k).collect();
        let source = if has_time_key { tables.source(&time_keys)? } else { 1 };
        // Before entries are taken apart below.
        let joining = tables.joins() && has_time_key;
        let lookups = joining.then(|| Joining::new(q, &tables, source).read());
        let (mut targets, mut hidden_keys) = (Vec::new(), Vec::new());
        for te in entries {
            match ((*te).resjunk, is_key(te)) {
                (false, true) => targets.push(key_target(&*te, &mut rewriter, &tables, source)),
                (false, false) => targets.push(value_target(&*te, &mut rewriter, &keys, q)),
                (true, true) => hidden_keys.push(rewriter.text((*te).expr.cast())),
                (true, false) => {}
            }
        }
        let quals = (*q.jointree).quals;
        let filter_volatile = pg_sys::contain_volatile_functions(q.jointree.cast());
        if !quals.is_null() {
            rewriter.pin_time_zone(quals);
            rewriter.note_session(quals);
        }
        note_joins(&tables, &mut rewriter)?;
        let rte = tables.entry(source);
        Ok(Select {
            source: rte.relid,
            relkind: rte.relkind as u8 as char,
            partition: pg_sys::get_rel_relispartition(rte.relid),
            temporary: pg_sys::get_rel_persistence(rte.relid) as u8 == b't',
            alias: string((*rte.eref).aliasname),
            joins,
            lookups,
            filter: (!quals.is_null()).then(|| rewriter.text(quals)),
            filter_volatile,
            session_dependent: rewriter.session_dependent(),
            unsteady: rewriter.unsteady(),
            targets,
            hidden_keys,
        })
    }
}

/// Columns of a JOIN … USING become those of the tables joined.
///
/// # Safety
/// The entries are those of `q`, whose tables these are.
unsafe fn flatten(q: &mut pg_sys::Query, tables: &Tables, entries: &[*mut pg_sys::TargetEntry]) {
    // SAFETY: the caller vouches for the trees.
    unsafe {
        for te in entries {
            (**te).expr = tables.flatten(q, (**te).expr.cast()).cast();
        }
        (*q.jointree).quals = tables.flatten(q, (*q.jointree).quals);
    }
}

/// Records what the conditions of joins depend on.
///
/// # Safety
/// The tables are those of the query that the rewriter is for.
unsafe fn note_joins(tables: &Tables, rewriter: &mut Rewriter) -> Result<(), Unsupported> {
    for condition in tables.conditions() {
        // SAFETY: the caller vouches for the trees.
        unsafe {
            if crate::pg::expression::nodes(*condition)
                .into_iter()
                .any(|n| crate::pg::pinned::hides_operator(n))
            {
                return no(
                    "a condition of JOIN compares by an operator that is not PostgreSQL's own and not written",
                    "Write a OPERATOR(schema.=) b instead of IS DISTINCT FROM, NULLIF or CASE … WHEN.",
                );
            }
            rewriter.note_session(*condition);
        }
    }
    Ok(())
}
