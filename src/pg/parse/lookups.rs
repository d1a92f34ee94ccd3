//! What a query takes of the tables that it joins: whether it can be stored by the columns that it joins by, and joined when it
//! is read.
use crate::pg::deparse::string;
use crate::pg::expression::nodes;
use crate::pg::select::{Lookup, Lookups, Taken, Unsupported};
use crate::pg::tables::Tables;
use pgrx::{PgList, pg_sys};

const SNAPSHOT: &str = "joins => 'snapshot' takes lookup tables as they are when a row is counted, and lets their columns filter and be summed. \
    Or show the column as a group key, and filter in the query over the rollup.";

fn no<T>(what: String, hint: &'static str) -> Result<T, Unsupported> {
    Err(Unsupported { what, hint })
}

/// A query whose expressions name the tables themselves, not joins.
pub struct Joining<'a> {
    query: &'a mut pg_sys::Query,
    tables: &'a Tables,
    source: usize,
}

impl<'a> Joining<'a> {
    /// `source` is the number of the table whose rows are counted.
    pub fn new(query: &'a mut pg_sys::Query, tables: &'a Tables, source: usize) -> Joining<'a> {
        Joining { query, tables, source }
    }

    /// Looks at the whole query.
    ///
    /// # Safety
    /// The tables are those of the query.
    pub unsafe fn read(self) -> Result<Lookups, Unsupported> {
        // SAFETY: the caller vouches for the query; every node looked at belongs to it or is a copy that nobody else has.
        unsafe {
            let mut all = self.relations()?;
            let entries = self.entries()?;
            if let Some(column) = self.of_lookups((*self.query.jointree).quals).first() {
                return no(
                    format!("WHERE filters by {}, a column of a lookup table", self.shown(column)),
                    "Join by JOIN … ON, not by WHERE. joins => 'snapshot' takes lookup tables as they are when a row is counted, and lets their \
                     columns filter; or show the column as a group key, and filter in the query over the rollup.",
                );
            }
            let mut by = Vec::new();
            for condition in self.tables.conditions() {
                let condition = pg_sys::copyObjectImpl((*condition).cast()).cast();
                let condition = self.tables.flatten(self.query, condition);
                let all_of = pg_sys::make_ands_implicit(condition.cast());
                for one in PgList::<pg_sys::Node>::from_pg(all_of).iter_ptr() {
                    for var in self.equated(one)? {
                        match (var.varno as usize == self.source, &mut all[var.varno as usize - 1]) {
                            (true, _) => by.push(var.varattno),
                            (false, Some(lookup)) => lookup.by.push(var.varattno),
                            (false, None) => {}
                        }
                    }
                    self.note(one, &mut all)?;
                }
            }
            for entry in PgList::<pg_sys::TargetEntry>::from_pg(self.query.targetList).iter_ptr() {
                self.note((*entry).expr.cast(), &mut all)?;
            }
            by.sort_unstable();
            by.dedup();
            let source = self.tables.entry(self.source).relid;
            let by = by.into_iter().map(|n| string(pg_sys::get_attname(source, n, false))).collect();
            let is_table = |n: &usize| self.tables.entry(*n).rtekind == pg_sys::RTEKind::RTE_RELATION;
            let tables = (1..=all.len()).filter(is_table).map(|n| all[n - 1].clone()).collect();
            Ok(Lookups { tables, by, entries })
        }
    }

    /// The lookup tables by their numbers in the range table.
    unsafe fn relations(&self) -> Result<Vec<Option<Lookup>>, Unsupported> {
        let (mut all, mut names) = (Vec::new(), Vec::new());
        // SAFETY: the range table belongs to the query.
        unsafe {
            let count = PgList::<pg_sys::RangeTblEntry>::from_pg(self.query.rtable).len();
            for n in 1..=count {
                let rte = self.tables.entry(n);
                if rte.rtekind != pg_sys::RTEKind::RTE_RELATION {
                    all.push(None);
                    continue;
                }
                let name = string((*rte.eref).aliasname);
                if !rte.inh {
                    return no(
                        format!("ONLY {name} cannot be followed"),
                        "Leave ONLY out, or take joins => 'snapshot'.",
                    );
                }
                if names.contains(&name) {
                    return no(
                        format!("two tables of the query are called {name}"),
                        "Give each a name of its own: JOIN lookup AS another ON ….",
                    );
                }
                names.push(name);
                let lookup = Lookup { table: rte.relid, by: Vec::new(), columns: Vec::new() };
                all.push((n != self.source).then_some(lookup));
            }
        }
        Ok(all)
    }

    /// What the entries of the select list are made of.
    unsafe fn entries(&self) -> Result<Vec<Taken>, Unsupported> {
        let mut all = Vec::new();
        // SAFETY: the caller of `read` vouches for the query.
        unsafe {
            let grouped: Vec<u32> = PgList::<pg_sys::SortGroupClause>::from_pg(self.query.groupClause)
                .iter_ptr()
                .map(|g| (*g).tleSortGroupRef)
                .collect();
            for te in PgList::<pg_sys::TargetEntry>::from_pg(self.query.targetList).iter_ptr() {
                if (*te).resjunk {
                    continue;
                }
                let is_key = (*te).ressortgroupref != 0 && grouped.contains(&(*te).ressortgroupref);
                all.push(self.entry(&*te, is_key)?);
            }
        }
        Ok(all)
    }

    unsafe fn entry(&self, te: &pg_sys::TargetEntry, is_key: bool) -> Result<Taken, Unsupported> {
        // SAFETY: as in `entries`.
        unsafe {
            let node = te.expr.cast::<pg_sys::Node>();
            let name = string(te.resname);
            let looked_up = self.of_lookups(node);
            let Some(column) = looked_up.first().map(|var| self.shown(var)) else {
                let plain = is_key && (*node).type_ == pg_sys::NodeTag::T_Var;
                let column = plain.then(|| self.column(&*node.cast::<pg_sys::Var>()));
                return Ok(Taken { joined: false, column });
            };
            let parts = nodes(node);
            let in_aggregate = parts
                .iter()
                .any(|n| (**n).type_ == pg_sys::NodeTag::T_Aggref && !self.of_lookups(*n).is_empty());
            if in_aggregate {
                return no(
                    format!("column {name} aggregates {column}, a column of a lookup table"),
                    SNAPSHOT,
                );
            }
            if !is_key {
                return no(
                    format!("column {name} is computed from {column}, a column of a lookup table"),
                    "Show that column as a group key, and compute in the query over the rollup.",
                );
            }
            if self.vars(node).iter().any(|var| var.varno as usize == self.source) {
                return no(
                    format!(
                        "group key {name} mixes {column}, a column of a lookup table, with columns of the table that is rolled up"
                    ),
                    "Group by each by itself, and compute in the query over the rollup.",
                );
            }
            Ok(Taken { joined: true, column: None })
        }
    }

    /// The two columns that a condition says are equal.
    unsafe fn equated(&self, condition: *mut pg_sys::Node) -> Result<[pg_sys::Var; 2], Unsupported> {
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let refused = || {
                no(
                    "a condition of JOIN is not that two columns are equal".into(),
                    "Join as in FROM table JOIN lookup ON lookup.id = table.lookup_id. joins => 'snapshot' joins by any condition.",
                )
            };
            if (*condition).type_ != pg_sys::NodeTag::T_OpExpr {
                return refused();
            }
            let op = &*condition.cast::<pg_sys::OpExpr>();
            let sides: Vec<_> =
                PgList::<pg_sys::Node>::from_pg(op.args).iter_ptr().map(|side| plain(side)).collect();
            let [Some(a), Some(b)] = sides[..] else { return refused() };
            if a.varno == b.varno {
                return refused();
            }
            for var in [a, b] {
                if !is_equality_of(op, &var) {
                    return no(
                        format!(
                            "{} is compared by another operator, or collation, than the one that it is grouped by",
                            self.shown(&var)
                        ),
                        "Join columns of one type by PostgreSQL's own =, without COLLATE.",
                    );
                }
            }
            Ok([a, b])
        }
    }

    /// Notes which columns of lookup tables an expression names.
    unsafe fn note(&self, node: *mut pg_sys::Node, all: &mut [Option<Lookup>]) -> Result<(), Unsupported> {
        // SAFETY: as in `entries`.
        for var in unsafe { self.of_lookups(node) } {
            if var.varattno <= 0 {
                return no(
                    format!("the query takes {} as a whole, or a system column of it", self.table(&var)),
                    "Name its columns.",
                );
            }
            let column = self.column(&var);
            if let Some(lookup) = &mut all[var.varno as usize - 1]
                && !lookup.columns.contains(&column)
            {
                lookup.columns.push(column);
            }
        }
        Ok(())
    }

    /// The columns in an expression, inside of aggregates too.
    unsafe fn vars(&self, node: *mut pg_sys::Node) -> Vec<pg_sys::Var> {
        if node.is_null() {
            return Vec::new();
        }
        // SAFETY: the tags say what the nodes are.
        unsafe {
            let all = nodes(node).into_iter().filter(|n| (**n).type_ == pg_sys::NodeTag::T_Var);
            all.map(|n| *n.cast::<pg_sys::Var>()).filter(|v| v.varlevelsup == 0).collect()
        }
    }

    /// Those of them that are of lookup tables.
    unsafe fn of_lookups(&self, node: *mut pg_sys::Node) -> Vec<pg_sys::Var> {
        // SAFETY: as in `vars`.
        let mut vars = unsafe { self.vars(node) };
        vars.retain(|var| var.varno as usize != self.source);
        vars
    }

    fn column(&self, var: &pg_sys::Var) -> String {
        // SAFETY: a look-up in the catalog, which gives NULL where there is no such column.
        unsafe {
            string(pg_sys::get_attname(self.tables.entry(var.varno as usize).relid, var.varattno, true))
        }
    }

    fn table(&self, var: &pg_sys::Var) -> String {
        // SAFETY: every entry has a name.
        unsafe { string((*self.tables.entry(var.varno as usize).eref).aliasname) }
    }

    fn shown(&self, var: &pg_sys::Var) -> String {
        format!("{}.{}", self.table(var), self.column(var))
    }
}

/// The column that an expression is, whatever type of the same bytes it is taken for.
///
/// # Safety
/// `node` is an expression.
unsafe fn plain(node: *mut pg_sys::Node) -> Option<pg_sys::Var> {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Var => Some(*node.cast::<pg_sys::Var>()).filter(|var| var.varattno > 0),
            pg_sys::NodeTag::T_RelabelType => plain((*node.cast::<pg_sys::RelabelType>()).arg.cast()),
            _ => None,
        }
    }
}

/// Whether values of a column that GROUP BY takes for one are one to a comparison, too.
fn is_equality_of(op: &pg_sys::OpExpr, var: &pg_sys::Var) -> bool {
    // SAFETY: look-ups in the catalog.
    unsafe {
        let order = pg_sys::lookup_type_cache(var.vartype, pg_sys::TYPECACHE_BTREE_OPFAMILY as i32);
        let family = (*order).btree_opf;
        family != pg_sys::InvalidOid
            && pg_sys::get_op_opfamily_strategy(op.opno, family) == pg_sys::BTEqualStrategyNumber as i32
            && (var.varcollid == pg_sys::InvalidOid
                || var.varcollid == op.inputcollid
                || pg_sys::get_collation_isdeterministic(var.varcollid))
    }
}

/// The columns of `table` that sub-selects of a view take, by what they call them there: for each that name and the one of today.
pub fn columns_in_view(view: pg_sys::Oid, table: pg_sys::Oid) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // SAFETY: the copy of the tree is ours.
    if let Some(query) = unsafe { crate::pg::shape::query_of_view(view) } {
        // SAFETY: as above.
        unsafe { columns_in(query, table, &mut found) };
    }
    found
}

/// # Safety
/// `query` is an analysed query tree.
unsafe fn columns_in(query: *mut pg_sys::Query, table: pg_sys::Oid, found: &mut Vec<(String, String)>) {
    // SAFETY: the caller vouches for the tree; kinds say what entries are.
    unsafe {
        pg_sys::check_stack_depth();
        let q = &*query;
        let entries: Vec<_> = PgList::<pg_sys::RangeTblEntry>::from_pg(q.rtable).iter_ptr().collect();
        if let [one] = entries[..]
            && (*one).rtekind == pg_sys::RTEKind::RTE_RELATION
            && (*one).relid == table
            && !q.hasAggs
        {
            for te in PgList::<pg_sys::TargetEntry>::from_pg(q.targetList).iter_ptr() {
                if let Some(var) = plain((*te).expr.cast()) {
                    let now = string(pg_sys::get_attname(table, var.varattno, true));
                    found.push((string((*te).resname), now));
                }
            }
        }
        for entry in entries {
            if (*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY && !(*entry).subquery.is_null() {
                columns_in((*entry).subquery, table, found);
            }
        }
    }
}

/// Has an object, of which the class and the number are given, depend on another.
pub fn rest_on(object: (pg_sys::Oid, pg_sys::Oid), on: (pg_sys::Oid, pg_sys::Oid)) {
    let address = |(class, id): (pg_sys::Oid, pg_sys::Oid)| pg_sys::ObjectAddress {
        classId: class,
        objectId: id,
        objectSubId: 0,
    };
    let (object, on) = (address(object), address(on));
    // SAFETY: both addresses outlive the call, which writes a row of the catalog.
    unsafe { pg_sys::recordDependencyOn(&object, &on, pg_sys::DependencyType::DEPENDENCY_NORMAL) }
}
