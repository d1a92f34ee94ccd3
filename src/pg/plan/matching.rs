//! Whether a query over a raw table can be answered from what a rollup offers, and by which columns.
//!
//! Each expression of the query that is evaluated before rows are grouped, and each aggregate, is put in terms of columns
//! of the sub-query that is to stand for the raw table; whatever cannot be is a reason. The query's own expressions stay
//! trees. What is above the aggregates is left as it is.
use super::Engine;
use super::offer::Offer;
use super::time::{self, Bound, Since, Steady};
use super::tree::{self, Node};
use crate::pg::deparse::string;
use pgrx::{PgList, pg_sys};

/// A column of the sub-query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The key with this number.
    Key(usize),
    /// The bucket of the time, or where a row is by itself its time.
    Time,
    /// The value with this number.
    Value(usize),
}

/// What is asked of the sub-query.
#[derive(Default)]
pub struct Ask {
    /// The columns, in their order.
    pub columns: Vec<Column>,
    /// Bounds of the time.
    pub bounds: Vec<Bound>,
    /// From when on buckets may be used.
    pub since: Vec<Since>,
    /// The same of each level's; None: they may not.
    pub levels: Vec<Option<Vec<Since>>>,
    /// The query groups: without rows it gives no row.
    pub grouped: bool,
}

/// A query put in terms of the sub-query.
pub struct Match {
    /// What is asked for.
    pub ask: Ask,
    /// The select list.
    pub targets: Node,
    /// WHERE.
    pub quals: Node,
    /// HAVING.
    pub having: Node,
    /// The keys of GROUPING SETS, where these are not in the select list.
    pub keys: *mut pg_sys::List,
    /// The conditions on the time, still over the raw table.
    pub times: Vec<Node>,
}

/// A query that is being put in terms of the sub-query.
pub struct Matching<'a> {
    pub(super) engine: &'a Engine,
    pub(super) offer: &'a Offer,
    /// The source in the query, and the sub-query that is to take its place.
    pub(super) rt: i32,
    pub(super) new: i32,
    pub(super) ask: Ask,
    /// Aggregates are of those groups alone that satisfy a FILTER.
    pub(super) filtering: bool,
    why: Option<String>,
}

/// Puts a query in terms of what is offered, or says the first reason why that cannot be.
///
/// # Safety
/// `q` is an analysed SELECT that aggregates rows of its entry `rt` alone, the table of the offer.
pub unsafe fn matched(engine: &Engine, q: &pg_sys::Query, rt: i32, offer: &Offer) -> Result<Match, String> {
    // SAFETY: the list is the query's.
    let new = unsafe { pg_sys::list_length(q.rtable) } + 1;
    let levels = offer.about.levels.iter().map(|_| Some(Vec::new())).collect();
    let ask = Ask { levels, ..Ask::default() };
    let mut m = Matching { engine, offer, rt, new, ask, filtering: false, why: None };
    // SAFETY: the trees are the query's; what is made are copies.
    unsafe {
        let above = Above::of(q);
        refuse_group_keys(q, above.targets)?;
        let (mut times, mut rest) = (Vec::new(), Vec::new());
        let mut lacking: Vec<Node> = offer.filter.clone();
        for c in tree::conjuncts(tree::folded(tree::copied((*q.jointree).quals))) {
            if pg_sys::contain_volatile_functions(c) {
                return Err("WHERE has a volatile function".into());
            }
            let own = |f: &Node| same(*f, c, rt);
            if let Some(at) = lacking.iter().position(own) {
                lacking.swap_remove(at);
                // The sub-query has no other rows; where it is over the time, that is a bound, too.
                continue;
            }
            if offer.filter.iter().any(own) {
                continue;
            }
            match time::bounds(c, offer, rt)? {
                Some(bounds) => {
                    m.ask.bounds.extend(bounds);
                    times.push(c);
                }
                None => rest.push(m.mapped(c)?),
            }
        }
        if !lacking.is_empty() {
            return Err(format!("rollup {} has a condition that WHERE has not", offer.about.name));
        }
        // Of GROUPING SETS one may be of no key, which gives a row of no rows.
        m.ask.grouped = !q.groupClause.is_null() && q.groupingSets.is_null();
        let targets = m.mapped(tree::folded(above.targets))?;
        let having = m.mapped(tree::folded(above.having))?;
        let quals = tree::all_of(&rest);
        #[cfg(feature = "pg18")]
        if q.hasGroupRTE {
            // Where keys may be used as they are: what is above the groups still names them.
            let keys = m.keys(q)?;
            let targets = m.mapped(tree::folded(tree::copied(q.targetList).cast()))?;
            let having = m.mapped(tree::folded(tree::copied(q.havingQual)))?;
            return Ok(Match { ask: m.ask, targets, quals, having, keys, times });
        }
        Ok(Match { ask: m.ask, targets, quals, having, keys: std::ptr::null_mut(), times })
    }
}

/// Copies of what is above the groups, with the keys in their places.
struct Above {
    targets: Node,
    having: Node,
}

impl Above {
    /// # Safety
    /// `q` is an analysed SELECT.
    unsafe fn of(q: &pg_sys::Query) -> Above {
        // SAFETY: the trees are the query's.
        #[cfg(feature = "pg18")]
        let inlined = |node: Node| unsafe { super::grouped::inlined(q, node) };
        // SAFETY: as above.
        #[cfg(not(feature = "pg18"))]
        let inlined = |node: Node| unsafe { tree::copied(node) };
        Above { targets: inlined(q.targetList.cast()), having: inlined(q.havingQual) }
    }
}

/// Refuses keys that are not the same for each row of a group.
///
/// # Safety
/// `q` is an analysed SELECT, and these are its targets.
unsafe fn refuse_group_keys(q: &pg_sys::Query, targets: Node) -> Result<(), String> {
    // SAFETY: the lists are the query's.
    unsafe {
        let targets = PgList::<pg_sys::TargetEntry>::from_pg(targets.cast());
        for g in PgList::<pg_sys::SortGroupClause>::from_pg(q.groupClause).iter_ptr() {
            let key = targets.iter_ptr().find(|t| (**t).ressortgroupref == (*g).tleSortGroupRef);
            let Some(key) = key else { return Err("a group key is not in the select list".into()) };
            let key: Node = (*key).expr.cast();
            if pg_sys::contain_volatile_functions(key) || pg_sys::expression_returns_set(key) {
                return Err("GROUP BY has a volatile or set-returning function".into());
            }
        }
        Ok(())
    }
}

/// Whether an expression over the only table of one query is that over entry `rt` of another.
///
/// # Safety
/// Both are expressions.
pub(super) unsafe fn same(of_offer: Node, of_query: Node, rt: i32) -> bool {
    // SAFETY: as the caller's.
    unsafe {
        if (*of_offer).type_ != (*of_query).type_ {
            return false;
        }
        if rt == 1 {
            return tree::equal(of_offer, of_query);
        }
        let copy = tree::copied(of_offer);
        pg_sys::ChangeVarNodes(copy, 1, rt, 0);
        tree::equal(copy, of_query)
    }
}

impl Matching<'_> {
    /// The place of a column, which is asked for.
    pub(super) fn place(&mut self, column: Column) -> i16 {
        let at = self.ask.columns.iter().position(|c| *c == column).unwrap_or_else(|| {
            self.ask.columns.push(column);
            self.ask.columns.len() - 1
        });
        at as i16 + 1
    }

    /// A column of the sub-query that looks like `node`.
    unsafe fn column(&mut self, column: Column, node: Node) -> Node {
        let at = self.place(column);
        // SAFETY: the caller vouches for the node.
        unsafe {
            let (kind, collation) = (pg_sys::exprType(node), pg_sys::exprCollation(node));
            let modifier = if column == Column::Time { -1 } else { pg_sys::exprTypmod(node) };
            pg_sys::makeVar(self.new, at, kind, modifier, collation, 0).cast()
        }
    }

    pub(super) fn refuse(&mut self, why: impl Into<String>) {
        self.why.get_or_insert(why.into());
    }

    /// Why something cannot be, which is said once.
    pub(super) fn reason(&mut self) -> Option<String> {
        self.why.take()
    }

    /// An expression in terms of the sub-query.
    pub(super) unsafe fn mapped(&mut self, node: Node) -> Result<Node, String> {
        // SAFETY: the caller vouches for the node.
        let mapped = unsafe { tree::replaced(node, &mut |n, level| self.one(n, level)) };
        match self.reason() {
            Some(why) => Err(why),
            None => Ok(mapped),
        }
    }

    unsafe fn one(&mut self, n: Node, level: u32) -> Option<Node> {
        // SAFETY: the tags say what nodes are.
        unsafe {
            if self.why.is_some() {
                return Some(n);
            }
            if level > 0 {
                // What sub-selects read of this query they would read of other rows.
                let own = match (*n).type_ {
                    pg_sys::NodeTag::T_Var => (*n.cast::<pg_sys::Var>()).varlevelsup == level,
                    pg_sys::NodeTag::T_Aggref => (*n.cast::<pg_sys::Aggref>()).agglevelsup == level,
                    _ => false,
                };
                if own {
                    self.refuse("a sub-select uses columns of the query");
                }
                return None;
            }
            if (*n).type_ == pg_sys::NodeTag::T_Aggref {
                let a = &*n.cast::<pg_sys::Aggref>();
                if a.agglevelsup != 0 {
                    return None;
                }
                let made = self.aggregate(n);
                if made.is_none() {
                    self.refuse(self.none(a));
                }
                return Some(made.unwrap_or(n));
            }
            if let Some(key) = self.key(n) {
                return Some(key);
            }
            if let Some(steady) = time::steady(n, self.offer, self.rt) {
                return Some(match steady {
                    Ok(steady) => self.bucket(n, steady),
                    Err(why) => {
                        self.refuse(why);
                        n
                    }
                });
            }
            if (*n).type_ == pg_sys::NodeTag::T_Var {
                let v = &*n.cast::<pg_sys::Var>();
                if v.varlevelsup == 0 && v.varno == self.rt {
                    self.refuse(self.no_key(v));
                }
            }
            None
        }
    }

    /// Why a column of the raw table cannot be used by itself.
    unsafe fn no_key(&self, v: &pg_sys::Var) -> String {
        let name = &self.offer.about.name;
        // SAFETY: the column is one of the table's.
        unsafe {
            match v.varattno {
                0 => "a whole row is used".into(),
                n if n < 0 => "a system column is used".into(),
                n if n == self.offer.time => format!(
                    "{} is used otherwise than in buckets that those of rollup {name} lie in, or in a range",
                    self.offer.about.time_column
                ),
                n => format!(
                    "{} is no key of rollup {name}",
                    string(pg_sys::get_attname(self.offer.about.source, n, false))
                ),
            }
        }
    }

    /// The key that an expression is. One whose equal values may differ is used by itself, or compared.
    unsafe fn key(&mut self, n: Node) -> Option<Node> {
        // SAFETY: as the caller's.
        unsafe {
            let offer = self.offer;
            if let Some(at) = offer.keys.iter().position(|k| k.exact && same(k.tree, n, self.rt)) {
                return Some(self.column(Column::Key(at), n));
            }
            let inexact = |n: Node| offer.keys.iter().position(|k| !k.exact && same(k.tree, n, self.rt));
            match (*n).type_ {
                pg_sys::NodeTag::T_TargetEntry => {
                    let t = &*n.cast::<pg_sys::TargetEntry>();
                    let at = inexact(t.expr.cast())?;
                    let copy = tree::copied(n.cast::<pg_sys::TargetEntry>());
                    (*copy).expr = self.column(Column::Key(at), t.expr.cast()).cast();
                    Some(copy.cast())
                }
                pg_sys::NodeTag::T_NullTest => {
                    let t = &*n.cast::<pg_sys::NullTest>();
                    let at = inexact(t.arg.cast())?;
                    let copy = tree::copied(n.cast::<pg_sys::NullTest>());
                    (*copy).arg = self.column(Column::Key(at), t.arg.cast()).cast();
                    Some(copy.cast())
                }
                pg_sys::NodeTag::T_OpExpr => {
                    let o = &*n.cast::<pg_sys::OpExpr>();
                    let args: Vec<Node> = PgList::<pg_sys::Node>::from_pg(o.args).iter_ptr().collect();
                    let [left, right] = args[..] else { return None };
                    let (at, side) = match (inexact(left), inexact(right)) {
                        (Some(at), None) => (at, 0),
                        (None, Some(at)) => (at, 1),
                        _ => return None,
                    };
                    let kind = pg_sys::exprType(args[side]);
                    let collation = pg_sys::exprCollation(args[side]);
                    let family =
                        (*pg_sys::lookup_type_cache(kind, pg_sys::TYPECACHE_BTREE_OPFAMILY as i32)).btree_opf;
                    if family == pg_sys::InvalidOid
                        || pg_sys::get_op_opfamily_strategy(o.opno, family) == 0
                        || o.inputcollid != collation
                    {
                        return None;
                    }
                    let other = tree::replaced(args[1 - side], &mut |n, level| self.one(n, level));
                    let own = self.column(Column::Key(at), args[side]);
                    let copy = tree::copied(n.cast::<pg_sys::OpExpr>());
                    let mut list = PgList::<pg_sys::Node>::new();
                    let pair = if side == 0 { [own, other] } else { [other, own] };
                    pair.into_iter().for_each(|a| list.push(a));
                    (*copy).args = list.into_pg();
                    Some(copy.cast())
                }
                _ => None,
            }
        }
    }

    /// A call over the time as the same over the bucket.
    unsafe fn bucket(&mut self, n: Node, steady: Steady) -> Node {
        if !self.ask.since.contains(&steady.since) {
            self.ask.since.push(steady.since);
        }
        for (known, of_call) in self.ask.levels.iter_mut().zip(steady.levels) {
            match (known.as_mut(), of_call) {
                (Some(known), Some(since)) if !known.contains(&since) => known.push(since),
                (Some(_), None) => *known = None,
                _ => {}
            }
        }
        let (time, rt) = (self.offer.time, self.rt);
        // SAFETY: the caller vouches for the node; the tag says what nodes are.
        unsafe {
            tree::replaced(n, &mut |n, _| {
                if (*n).type_ != pg_sys::NodeTag::T_Var {
                    return None;
                }
                let v = &*n.cast::<pg_sys::Var>();
                (v.varno == rt && v.varattno == time).then(|| self.column(Column::Time, n))
            })
        }
    }
}
