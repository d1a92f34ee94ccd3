//! The tables that a query reads: the one whose rows are counted, and those it looks things up in.
use crate::pg::deparse::string;
use crate::pg::select::{Unsupported, no};
use pgrx::{PgList, pg_sys};

/// Puts the group keys where 18 refers to them: it appends a list of them to the tables and makes columns of it.
///
/// # Safety
/// `q` is an analysed query tree that is the caller's to change.
#[cfg(feature = "pg18")]
pub unsafe fn inline_group_keys(q: &mut pg_sys::Query) {
    if !q.hasGroupRTE {
        return;
    }
    // SAFETY: the select list is a list of expressions of the query; the list of keys is the last entry.
    unsafe {
        q.targetList = pg_sys::flatten_group_exprs(std::ptr::null_mut(), q, q.targetList.cast()).cast();
        q.rtable = pg_sys::list_delete_last(q.rtable);
    }
    q.hasGroupRTE = false;
}

/// The range table of a query, numbered from 1.
pub struct Tables {
    entries: Vec<*mut pg_sys::RangeTblEntry>,
    /// Tables of which a joined row may hold nothing.
    missing: Vec<usize>,
    conditions: Vec<*mut pg_sys::Node>,
}

impl Tables {
    /// Reads the FROM clause, or says what in it cannot be rolled up.
    ///
    /// # Safety
    /// `q` is an analysed query tree that outlives the answer.
    pub unsafe fn of(q: &pg_sys::Query) -> Result<Tables, Unsupported> {
        // SAFETY: the range table and the join tree belong to the query.
        unsafe {
            let entries: Vec<_> = PgList::<pg_sys::RangeTblEntry>::from_pg(q.rtable).iter_ptr().collect();
            if entries.is_empty() {
                return no("the query reads no table", "Write FROM table.");
            }
            for rte in &entries {
                let rte = &**rte;
                if !rte.tablesample.is_null() {
                    return no("TABLESAMPLE cannot be rolled up", "Leave it out.");
                }
                match rte.rtekind {
                    pg_sys::RTEKind::RTE_RELATION
                        if rte.relkind as u8 == b'v' || rte.relkind as u8 == b'm' =>
                    {
                        return no(
                            &format!("{} is a view", string((*rte.eref).aliasname)),
                            "Write the query over the table behind it.",
                        );
                    }
                    pg_sys::RTEKind::RTE_RELATION if !rte.inh && entries.len() == 1 => {
                        return no(
                            "ONLY cannot be rolled up",
                            "Leave it out: rows of partitions count as rows of their table.",
                        );
                    }
                    pg_sys::RTEKind::RTE_RELATION => {}
                    pg_sys::RTEKind::RTE_JOIN => {}
                    _ => {
                        return no(
                            "a rollup reads a table",
                            "Write FROM table, not a sub-select, function or VALUES.",
                        );
                    }
                }
            }
            let mut tables = Tables { entries, missing: Vec::new(), conditions: Vec::new() };
            for item in PgList::<pg_sys::Node>::from_pg((*q.jointree).fromlist).iter_ptr() {
                tables.join(item, false)?;
            }
            Ok(tables)
        }
    }

    /// # Safety
    /// `item` is a node of a join tree.
    unsafe fn join(&mut self, item: *mut pg_sys::Node, missing: bool) -> Result<(), Unsupported> {
        // SAFETY: the tag says which of the two kinds of node a join tree has this is.
        unsafe {
            if (*item).type_ == pg_sys::NodeTag::T_JoinExpr {
                let j = &*item.cast::<pg_sys::JoinExpr>();
                let (left, right) = match j.jointype {
                    pg_sys::JoinType::JOIN_INNER => (false, false),
                    pg_sys::JoinType::JOIN_LEFT => (false, true),
                    pg_sys::JoinType::JOIN_RIGHT => (true, false),
                    _ => {
                        return no(
                            "FULL JOIN cannot be rolled up",
                            "Join with LEFT JOIN: each row counts once.",
                        );
                    }
                };
                if !j.quals.is_null() {
                    self.conditions.push(j.quals);
                }
                self.join(j.larg, missing || left)?;
                return self.join(j.rarg, missing || right);
            }
            if missing {
                self.missing.push((*item.cast::<pg_sys::RangeTblRef>()).rtindex as usize);
            }
            Ok(())
        }
    }

    /// More than one table is read.
    pub fn joins(&self) -> bool {
        self.entries.len() > 1
    }

    /// The table with this number.
    pub fn entry(&self, number: usize) -> &pg_sys::RangeTblEntry {
        // SAFETY: the entry outlives the query, which outlives this.
        unsafe { &*self.entries[number - 1] }
    }

    /// What ON says of the tables joined.
    pub fn conditions(&self) -> &[*mut pg_sys::Node] {
        &self.conditions
    }

    /// A row of the query may come about without a row of this table.
    pub fn may_be_missing(&self, number: usize) -> bool {
        self.missing.contains(&number)
    }

    /// `node` with columns of joins as the columns of tables that they are.
    ///
    /// # Safety
    /// `node` is NULL or an expression of `q`.
    pub unsafe fn flatten(&self, q: &mut pg_sys::Query, node: *mut pg_sys::Node) -> *mut pg_sys::Node {
        if node.is_null() {
            return node;
        }
        // SAFETY: the caller vouches for the node.
        unsafe {
            #[cfg(feature = "pg15")]
            return pg_sys::flatten_join_alias_vars(q, node);
            #[cfg(not(feature = "pg15"))]
            return pg_sys::flatten_join_alias_vars(std::ptr::null_mut(), q, node);
        }
    }

    /// The number of the table whose rows are counted: the one that the time key comes from.
    ///
    /// # Safety
    /// `time_keys` are group keys of the query.
    pub unsafe fn source(&self, time_keys: &[*mut pg_sys::Node]) -> Result<usize, Unsupported> {
        if !self.joins() {
            return Ok(1);
        }
        // SAFETY: pull_var_clause lists the Vars of the keys.
        let source = unsafe {
            time_keys.iter().find_map(|key| {
                let vars = PgList::<pg_sys::Var>::from_pg(pg_sys::pull_var_clause(*key, 0));
                vars.get_ptr(0).map(|v| (*v).varno as usize)
            })
        };
        let Some(source) = source else {
            return no(
                "the query has no time key",
                "Group by the time of the rows, as in date_trunc('minute', ingest_time) AS ingest_time.",
            );
        };
        let same = self.entries.iter().filter(|e| {
            // SAFETY: as in `entry`.
            let e = unsafe { &***e };
            e.rtekind == pg_sys::RTEKind::RTE_RELATION && e.relid == self.entry(source).relid
        });
        if same.count() > 1 {
            return no(
                "a table joined to itself cannot be rolled up",
                "A row that comes later would have to be joined to those that were counted.",
            );
        }
        if self.may_be_missing(source) {
            return no(
                "an outer join may give rows without a row of the table that is rolled up",
                "Write the table first: FROM table LEFT JOIN lookup ON ….",
            );
        }
        Ok(source)
    }
}

/// Whether it is a table that holds rows itself.
pub fn is_stored(table: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the catalog, which tolerates absence.
    unsafe { pg_sys::get_rel_relkind(table) as u8 == pg_sys::RELKIND_RELATION }
}
