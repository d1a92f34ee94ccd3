//! Expressions of an analysed query: what they hold, and the changes a rollup needs.
//!
//! A node is replaced in place by a parameter, which PostgreSQL writes as `$n`; the text that belongs there is
//! filled in afterwards. Numbers from `TEXTS` on are such texts, lower ones are the caller's.
use crate::pg::deparse::{Names, string};
use crate::pg::steady::Unsteady;
use hll_rollup::fill;
use pgrx::{PgList, pg_sys};

const TEXTS: usize = 10_000;

/// A part of an expression that the caller fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A call of an aggregate.
    Aggregate(Box<Aggregate>),
    /// The group key with this name.
    Key(String),
}

/// A call of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// Its name and argument types, qualified: what rules are found by.
    pub signature: String,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub function: String,
    /// The whole call.
    pub text: String,
    /// Its arguments; none for `count(*)`.
    pub arguments: Vec<String>,
    /// The column that is its first argument, where it is nothing more.
    pub column: Option<String>,
    /// Its FILTER.
    pub filter: Option<String>,
    /// The type it gives.
    pub sql_type: String,
    /// The collation of that type, where it is not the type's own.
    pub collation: Option<String>,
    /// It has DISTINCT inside.
    pub distinct: bool,
    /// It is an ordinary aggregate without ORDER BY.
    pub plain: bool,
}

/// Every node of an expression, parents before their children.
///
/// # Safety
/// `node` is an expression.
pub unsafe fn nodes(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, found: *mut std::ffi::c_void) -> bool {
        if node.is_null() {
            return false;
        }
        // SAFETY: `found` is the vector below; the walker hands over live nodes.
        unsafe {
            (*found.cast::<Vec<*mut pg_sys::Node>>()).push(node);
            pg_sys::expression_tree_walker(node, Some(visit), found)
        }
    }
    let mut found: Vec<*mut pg_sys::Node> = Vec::new();
    // SAFETY: the caller vouches for the node, `visit` for the context.
    unsafe { visit(node, (&raw mut found).cast()) };
    found
}

/// A parameter that looks like `node` to everything around it.
///
/// # Safety
/// `node` is an expression.
unsafe fn parameter(node: *mut pg_sys::Node, number: usize) -> pg_sys::Param {
    // SAFETY: the caller vouches for the node.
    unsafe {
        let mut p = pg_sys::Param::default();
        p.xpr.type_ = pg_sys::NodeTag::T_Param;
        p.paramkind = pg_sys::ParamKind::PARAM_EXTERN;
        p.paramid = number as i32;
        p.paramtype = pg_sys::exprType(node);
        p.paramtypmod = pg_sys::exprTypmod(node);
        p.paramcollid = pg_sys::exprCollation(node);
        p.location = -1;
        p
    }
}

/// Puts a parameter in the place of `node`.
///
/// # Safety
/// `node` is a Var, Aggref, FuncExpr or OpExpr of a tree that is ours alone: each is larger than a Param.
unsafe fn replace(node: *mut pg_sys::Node, number: usize) {
    const _: () = assert!(
        size_of::<pg_sys::Param>() <= size_of::<pg_sys::Var>()
            && size_of::<pg_sys::Param>() <= size_of::<pg_sys::Aggref>()
            && size_of::<pg_sys::Param>() <= size_of::<pg_sys::FuncExpr>()
            && size_of::<pg_sys::Param>() <= size_of::<pg_sys::OpExpr>()
            && size_of::<pg_sys::OpExpr>() == size_of::<pg_sys::DistinctExpr>()
    );
    // SAFETY: the node is at least as large as what is written over it.
    unsafe { node.cast::<pg_sys::Param>().write(parameter(node, number)) };
}

/// Expressions of one query, and the texts that stand for nodes replaced in them.
pub struct Rewriter {
    names: Names,
    /// The time zone of the rollup.
    zone: String,
    texts: Vec<String>,
    /// Something pinned is not IMMUTABLE, though it depends on no setting.
    stable: std::cell::Cell<bool>,
    /// The first expression over rows that depends on the session.
    session: Option<String>,
    /// The first part of one whose value is not that of the row alone.
    unsteady: Option<(String, Unsteady)>,
}

impl Rewriter {
    /// For a query whose columns have these names and a rollup with this time zone.
    pub fn new(names: Names, zone: &str) -> Rewriter {
        Rewriter {
            names,
            zone: zone.to_string(),
            texts: Vec::new(),
            stable: false.into(),
            session: None,
            unsteady: None,
        }
    }

    /// Whether PostgreSQL takes a text that was put in to be less than IMMUTABLE.
    pub fn put_in_a_stable_function(&self) -> bool {
        self.stable.get()
    }

    /// A part of what was recorded that no rollup can hold, or perhaps none.
    pub fn unsteady(&self) -> Option<(String, Unsteady)> {
        self.unsteady.clone()
    }

    /// An expression that was recorded to depend on the session, or on the moment.
    pub fn session_dependent(&self) -> Option<String> {
        self.session.clone()
    }

    /// Records an expression that depends on the session or the moment, what was pinned apart.
    ///
    /// # Safety
    /// `node` is an expression of the query.
    pub unsafe fn note_session(&mut self, node: *mut pg_sys::Node) {
        unsafe extern "C-unwind" fn varies(id: pg_sys::Oid, _: *mut std::ffi::c_void) -> bool {
            // SAFETY: the function exists, the analyser has found it.
            id.to_u32() != pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT
                && unsafe { pg_sys::func_volatile(id) } as u8 != pg_sys::PROVOLATILE_IMMUTABLE
        }
        // SAFETY: the caller vouches for the expression, whose nodes these are.
        unsafe {
            let all = nodes(node);
            let found = all.iter().any(|n| {
                (**n).type_ == pg_sys::NodeTag::T_SQLValueFunction
                    || pg_sys::check_functions_in_node(*n, Some(varies), std::ptr::null_mut())
            });
            if found && self.session.is_none() {
                self.session = Some(self.text(node));
            }
            for n in all {
                if let Some(how) = crate::pg::steady::unsteady(n)
                    && self
                        .unsteady
                        .as_ref()
                        .is_none_or(|(_, was)| *was == Unsteady::Perhaps && how == Unsteady::Session)
                {
                    self.unsteady = Some((self.text(n), how));
                }
            }
        }
    }

    /// The text of an expression, with the replaced nodes as what they were replaced by.
    ///
    /// # Safety
    /// `node` is an expression of the query.
    pub unsafe fn text(&self, node: *mut pg_sys::Node) -> String {
        // SAFETY: the caller vouches for the node.
        unsafe { self.expand(&self.names.text(node)) }
    }

    fn expand(&self, template: &str) -> String {
        fill(template, |n| n.checked_sub(TEXTS).and_then(|i| self.texts.get(i)).map(|t| self.expand(t)))
    }

    fn keep(&mut self, text: String) -> usize {
        self.texts.push(text);
        TEXTS + self.texts.len() - 1
    }

    /// Makes what depends on the session's time zone depend on the rollup's, and names operators that no text would: everyone who reads the live view
    /// must see the same buckets. Where the zone is UTC, buckets of fixed length take `date_bin`, a fifth of the
    /// price of `date_trunc` and equal to it (`tests/sql/rollup_sources.sql` compares them).
    ///
    /// # Safety
    /// `node` is an expression of the query.
    pub unsafe fn pin_time_zone(&mut self, node: *mut pg_sys::Node) {
        // SAFETY: children come before their parents, so that each is replaced once its text is final.
        unsafe {
            for n in nodes(node) {
                crate::pg::pinned::compare_in_full(n);
            }
            for n in nodes(node).into_iter().rev() {
                let Some(pinned) = crate::pg::pinned::pinned(n, &self.zone, self.names) else { continue };
                for arg in crate::pg::steady::arguments(n) {
                    self.note_session(arg);
                }
                if pinned.stable {
                    self.stable.set(true);
                }
                let hole = self.keep(pinned.text);
                replace(n, hole);
            }
        }
    }

    /// Takes an expression over aggregates and group keys apart: `$1`, `$2`, … in the text are its parts. None
    /// where a column is neither. A division by zero gives NULL: rows that arrive in pieces may well have a
    /// zero that the whole has not.
    ///
    /// # Safety
    /// `node` is an entry of the query's select list; `keys` are its group keys and their names.
    pub unsafe fn take_apart(
        &mut self,
        node: *mut pg_sys::Node,
        keys: &[(*mut pg_sys::Node, String)],
        query: &pg_sys::Query,
    ) -> Option<(String, Vec<Part>)> {
        let mut parts: Vec<Part> = Vec::new();
        // SAFETY: pull_var_clause lists Vars and Aggrefs of the tree itself, which is ours.
        unsafe {
            let found = PgList::<pg_sys::Node>::from_pg(pg_sys::pull_var_clause(
                node,
                pg_sys::PVC_INCLUDE_AGGREGATES as i32,
            ));
            for n in found.iter_ptr() {
                let part = if (*n).type_ == pg_sys::NodeTag::T_Aggref {
                    self.pin_time_zone(n);
                    self.note_session(n);
                    Part::Aggregate(Box::new(self.aggregate(&*n.cast::<pg_sys::Aggref>(), n, query)))
                } else {
                    let key = keys.iter().find(|(k, _)| pg_sys::equal((*k).cast(), n.cast()))?;
                    Part::Key(key.1.clone())
                };
                let at = parts.iter().position(|p| *p == part).unwrap_or_else(|| {
                    parts.push(part);
                    parts.len() - 1
                });
                replace(n, at + 1);
            }
            // What is stable inside an aggregate is not so in the expression over it.
            self.stable.set(false);
            self.pin_time_zone(node);
            for n in nodes(node).into_iter().rev() {
                self.guard_division(n);
            }
            Some((self.text(node), parts))
        }
    }

    /// # Safety
    /// `n` is a node of a tree that is ours.
    unsafe fn guard_division(&mut self, n: *mut pg_sys::Node) {
        // SAFETY: operators and functions exist, the analyser has found them; the new node is palloc'd.
        unsafe {
            let (schema, name, args) = match (*n).type_ {
                pg_sys::NodeTag::T_OpExpr => {
                    let o = &*n.cast::<pg_sys::OpExpr>();
                    let f = pg_sys::get_opcode(o.opno);
                    (pg_sys::get_func_namespace(f), string(pg_sys::get_opname(o.opno)), o.args)
                }
                pg_sys::NodeTag::T_FuncExpr => {
                    let f = &*n.cast::<pg_sys::FuncExpr>();
                    (pg_sys::get_func_namespace(f.funcid), string(pg_sys::get_func_name(f.funcid)), f.args)
                }
                _ => return,
            };
            if schema != pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE)
                || !["/", "%", "div", "mod"].contains(&name.as_str())
            {
                return;
            }
            let mut args = PgList::<pg_sys::Node>::from_pg(args);
            let Some(divisor) = args.get_ptr(1) else { return };
            let (mut category, mut preferred) = (0, false);
            pg_sys::get_type_category_preferred(pg_sys::exprType(divisor), &mut category, &mut preferred);
            if args.len() != 2 || category as u8 != b'N' || (*divisor).type_ == pg_sys::NodeTag::T_Const {
                return;
            }
            let text = format!(
                "NULLIF({}, '0'::{})",
                self.names.text(divisor),
                crate::pg::deparse::type_of(divisor)
            );
            let hole = self.keep(text);
            let p = pg_sys::palloc0(size_of::<pg_sys::Param>()).cast::<pg_sys::Param>();
            p.write(parameter(divisor, hole));
            args.replace_ptr(1, p.cast());
            // The list's cells lie where they lay: the node sees the change.
            std::mem::forget(args);
        }
    }

    /// # Safety
    /// `a` is an aggregate call of the query, and `node` the same as a node.
    unsafe fn aggregate(
        &self,
        a: &pg_sys::Aggref,
        node: *mut pg_sys::Node,
        query: &pg_sys::Query,
    ) -> Aggregate {
        // SAFETY: the function exists, the analyser has found it.
        unsafe {
            let arguments: Vec<*mut pg_sys::Node> = PgList::<pg_sys::TargetEntry>::from_pg(a.args)
                .iter_ptr()
                .filter(|te| !(**te).resjunk)
                .map(|te| (*te).expr.cast())
                .collect();
            let column = arguments.first().filter(|n| (***n).type_ == pg_sys::NodeTag::T_Var).map(|n| {
                let v = &*n.cast::<pg_sys::Var>();
                let rte = pg_sys::list_nth(query.rtable, v.varno - 1).cast::<pg_sys::RangeTblEntry>();
                string(pg_sys::get_rte_attribute_name(rte, v.varattno))
            });
            Aggregate {
                signature: crate::pg::deparse::qualified(|| string(pg_sys::format_procedure(a.aggfnoid))),
                schema: string(pg_sys::get_namespace_name(pg_sys::get_func_namespace(a.aggfnoid))),
                function: string(pg_sys::get_func_name(a.aggfnoid)),
                text: self.text(node),
                arguments: arguments.iter().map(|n| self.text(*n)).collect(),
                column,
                filter: (!a.aggfilter.is_null()).then(|| self.text(a.aggfilter.cast())),
                sql_type: crate::pg::deparse::type_of(node),
                collation: collation(node),
                distinct: !a.aggdistinct.is_null(),
                plain: a.aggkind as u8 == b'n' && a.aggorder.is_null(),
            }
        }
    }
}

/// The collation of a value, qualified, where it is not the one its type has by itself.
///
/// # Safety
/// `node` is an expression.
pub unsafe fn collation(node: *mut pg_sys::Node) -> Option<String> {
    // SAFETY: the caller vouches for the node.
    unsafe {
        let own = pg_sys::exprCollation(node);
        let usual = pg_sys::get_typcollation(pg_sys::exprType(node));
        (own != usual && own != pg_sys::InvalidOid)
            .then(|| crate::pg::deparse::qualified(|| string(pg_sys::generate_collation_name(own))))
    }
}
