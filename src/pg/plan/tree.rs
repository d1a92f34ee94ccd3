//! Trees: copied with parts replaced, and made of a text that names parts `$1`, `$2`, ….
use crate::pg::ctext::c_text;
use crate::pg::deparse::qualified;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};
use std::ffi::c_void;

/// A node of any kind.
pub type Node = *mut pg_sys::Node;

mod unguarded {
    use pgrx::pg_sys;
    use std::ffi::{c_int, c_void};
    pub type Visit = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;
    pub type Step = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> *mut pg_sys::Node;
    // Without pgrx's guard for every node: the outermost call has one, and frames that an error jumps over own nothing.
    unsafe extern "C-unwind" {
        #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_mutator_impl")]
        pub fn expression_tree_mutator(
            node: *mut pg_sys::Node,
            step: Option<Step>,
            context: *mut c_void,
        ) -> *mut pg_sys::Node;
        #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_mutator_impl")]
        pub fn query_tree_mutator(
            query: *mut pg_sys::Query,
            step: Step,
            context: *mut c_void,
            flags: c_int,
        ) -> *mut pg_sys::Query;
        #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
        pub fn expression_tree_walker(
            node: *mut pg_sys::Node,
            visit: Option<Visit>,
            context: *mut c_void,
        ) -> bool;
        #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
        pub fn query_tree_walker(
            query: *mut pg_sys::Query,
            visit: Option<Visit>,
            context: *mut c_void,
            flags: c_int,
        ) -> bool;
        pub fn setup_parse_fixed_parameters(
            state: *mut pg_sys::ParseState,
            types: *const pg_sys::Oid,
            count: c_int,
        );
    }
}

/// What stands in the place of a node, if anything else does; and how many queries lie around it.
pub type Replace<'a> = dyn FnMut(Node, u32) -> Option<Node> + 'a;

struct Context<'a, 'b> {
    replace: &'a mut Replace<'b>,
    level: u32,
}

#[pg_guard]
unsafe extern "C-unwind" fn step(node: Node, context: *mut c_void) -> Node {
    if node.is_null() {
        return node;
    }
    // SAFETY: the context is that of `replaced`; the tag says what the node is.
    unsafe {
        let c = &mut *context.cast::<Context>();
        if let Some(other) = (c.replace)(node, c.level) {
            return other;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            c.level += 1;
            let query = unguarded::query_tree_mutator(node.cast(), step, context, 0);
            c.level -= 1;
            return query.cast();
        }
        unguarded::expression_tree_mutator(node, Some(step), context)
    }
}

/// A copy of a tree in which other nodes stand for some, which are not looked into.
///
/// # Safety
/// `node` is NULL or a tree.
pub unsafe fn replaced(node: Node, replace: &mut Replace) -> Node {
    let mut context = Context { replace, level: 0 };
    // SAFETY: the caller vouches for the tree; the context outlives the call.
    unsafe { pg_guard_ffi_boundary(|| step(node, (&raw mut context).cast())) }
}

/// What is called with each node of a tree and how many queries lie around it; true: it does not matter what is in the node.
pub type Look<'a> = dyn FnMut(Node, u32) -> bool + 'a;

struct Looking<'a, 'b> {
    look: &'a mut Look<'b>,
    level: u32,
}

#[pg_guard]
unsafe extern "C-unwind" fn visit(node: Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is that of `each`; the tag says what the node is.
    unsafe {
        let c = &mut *context.cast::<Looking>();
        if (c.look)(node, c.level) {
            return false;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            c.level += 1;
            unguarded::query_tree_walker(node.cast(), Some(visit), context, 0);
            c.level -= 1;
            return false;
        }
        unguarded::expression_tree_walker(node, Some(visit), context)
    }
}

/// Calls `look` with each node of a tree and how many queries lie around it; not with what is in one of which it gives true.
///
/// # Safety
/// `node` is NULL or a tree.
pub unsafe fn each(node: Node, look: &mut Look) {
    let mut context = Looking { look, level: 0 };
    // SAFETY: the caller vouches for the tree; the context outlives the call.
    unsafe { pg_guard_ffi_boundary(|| visit(node, (&raw mut context).cast())) };
}

/// A copy of a tree that is ours to change.
///
/// # Safety
/// `node` is NULL or a tree.
pub unsafe fn copied<T>(node: *mut T) -> *mut T {
    // SAFETY: the caller vouches for the tree.
    unsafe { pg_sys::copyObjectImpl(node.cast()).cast() }
}

/// Whether two trees are equal, places in the text apart.
///
/// # Safety
/// Both are NULL or trees.
pub unsafe fn equal(a: Node, b: Node) -> bool {
    // SAFETY: the caller vouches for the trees.
    unsafe { pg_sys::equal(a.cast(), b.cast()) }
}

/// A tree with what is constant computed.
///
/// # Safety
/// `node` is NULL or an expression.
pub unsafe fn folded(node: Node) -> Node {
    if node.is_null() {
        return node;
    }
    // SAFETY: the caller vouches for the tree.
    unsafe { pg_sys::eval_const_expressions(std::ptr::null_mut(), node) }
}

/// The statement that a text is, with parameters of these types. Names are looked up in pg_catalog alone.
pub fn parsed(text: &str, types: &[pg_sys::Oid]) -> *mut pg_sys::Query {
    let text = c_text(text);
    // SAFETY: the parser and the analyser get a string and a list of types that are copied for them, and so outlive the trees.
    qualified(|| unsafe {
        let text = pg_sys::pstrdup(text.as_ptr());
        let list = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text,
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        let raw = list.get_ptr(0).expect("one statement");
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        (*state).p_sourcetext = text;
        if !types.is_empty() {
            let kept = pg_sys::palloc(size_of_val(types)).cast::<pg_sys::Oid>();
            kept.copy_from_nonoverlapping(types.as_ptr(), types.len());
            pg_guard_ffi_boundary(|| {
                unguarded::setup_parse_fixed_parameters(state, kept, types.len() as i32)
            });
        }
        let query = pg_sys::transformTopLevelStmt(state, raw);
        pg_sys::free_parsestate(state);
        query
    })
}

/// The expressions of a select list that a text is.
pub fn expressions(text: &str, types: &[pg_sys::Oid]) -> Vec<Node> {
    // SAFETY: the statement is ours, and so is its list.
    unsafe {
        let query = parsed(text, types);
        targets(&*query).into_iter().map(|t| (*t).expr.cast()).collect()
    }
}

/// The select list of a query.
///
/// # Safety
/// The query is live.
pub unsafe fn targets(query: &pg_sys::Query) -> Vec<*mut pg_sys::TargetEntry> {
    // SAFETY: the list is the query's.
    unsafe { PgList::<pg_sys::TargetEntry>::from_pg(query.targetList).iter_ptr().collect() }
}

/// The conditions that must all hold.
///
/// # Safety
/// `quals` is NULL or a condition; lists of implicit AND are not there before planning.
pub unsafe fn conjuncts(quals: Node) -> Vec<Node> {
    // SAFETY: the tag says what the node is.
    unsafe {
        if quals.is_null() {
            return Vec::new();
        }
        if (*quals).type_ == pg_sys::NodeTag::T_BoolExpr
            && (*quals.cast::<pg_sys::BoolExpr>()).boolop == pg_sys::BoolExprType::AND_EXPR
        {
            let args = (*quals.cast::<pg_sys::BoolExpr>()).args;
            let args = PgList::<pg_sys::Node>::from_pg(args);
            return args.iter_ptr().flat_map(|a| conjuncts(a)).collect();
        }
        // What folding leaves of a condition that always holds.
        if (*quals).type_ == pg_sys::NodeTag::T_Const {
            let c = &*quals.cast::<pg_sys::Const>();
            if !c.constisnull && c.constvalue.value() & 0xff != 0 {
                return Vec::new();
            }
        }
        vec![quals]
    }
}

/// One condition of several; NULL of none.
///
/// # Safety
/// They are conditions.
pub unsafe fn all_of(conditions: &[Node]) -> Node {
    // SAFETY: the caller vouches for them.
    unsafe {
        match conditions {
            [] => std::ptr::null_mut(),
            [one] => *one,
            several => {
                let mut list = PgList::<pg_sys::Node>::new();
                several.iter().for_each(|c| list.push(*c));
                pg_sys::make_andclause(list.into_pg()).cast()
            }
        }
    }
}

/// `template` with trees in the places of its parameters, each moved into as many queries as lie around its place.
///
/// # Safety
/// All are trees; `template` is NULL or one.
pub unsafe fn filled(template: Node, parts: &[Node]) -> Node {
    // SAFETY: as the caller's.
    unsafe {
        replaced(template, &mut |n, level| {
            if (*n).type_ != pg_sys::NodeTag::T_Param {
                return None;
            }
            let p = &*n.cast::<pg_sys::Param>();
            let part = parts.get((p.paramid as usize).wrapping_sub(1))?;
            let part = copied(*part);
            pg_sys::IncrementVarSublevelsUp(part, level as i32, 0);
            Some(part)
        })
    }
}

/// A memory context that lasts as long as this does.
pub struct Memory(pg_sys::MemoryContext);

impl Memory {
    /// A new one.
    pub fn begin() -> Memory {
        // SAFETY: a context below the one that lasts as long as the process; its name is a constant.
        Memory(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CacheMemoryContext,
                c"rewriting".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            )
        })
    }

    /// A copy of a tree in it.
    ///
    /// # Safety
    /// `node` is NULL or a tree.
    pub unsafe fn keep<T>(&self, node: *mut T) -> *mut T {
        // SAFETY: the context is live; the former one is put back, after an error by whoever catches it.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let kept = copied(node);
            pg_sys::MemoryContextSwitchTo(before);
            kept
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `begin`, deleted once.
        unsafe { pg_sys::MemoryContextDelete(self.0) }
    }
}
