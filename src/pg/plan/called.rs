//! What a statement calls: functions, and types that run code of their own.
use super::planned::{self, Read};
use super::tree;
use crate::pg::deparse::{qualified, string};
use pgrx::{PgList, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

/// A function, or a type whose values are made by code that its owner can write: a domain, a range, a composite type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Called {
    /// It is a type.
    pub is_type: bool,
    /// Its oid.
    pub oid: u32,
}

impl Called {
    /// A function.
    pub fn function(oid: pg_sys::Oid) -> Called {
        Called { is_type: false, oid: oid.to_u32() }
    }

    fn id(self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.oid)
    }

    /// The role that it belongs to, if it is there.
    pub fn owner(self) -> Option<pg_sys::Oid> {
        let cache = match self.is_type {
            true => pg_sys::SysCacheIdentifier::TYPEOID,
            false => pg_sys::SysCacheIdentifier::PROCOID,
        };
        // SAFETY: the cached tuple is released before return; what is read of it is its fixed part.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(cache as i32, pg_sys::Datum::from(self.id()));
            if tuple.is_null() {
                return None;
            }
            let owner = match self.is_type {
                true => (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(tuple)).typowner,
                false => (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_proc>(tuple)).proowner,
            };
            pg_sys::ReleaseSysCache(tuple);
            Some(owner)
        }
    }

    /// Its name, qualified, with the types of its arguments.
    pub fn shown(self) -> String {
        // SAFETY: both tolerate oids of what is gone.
        qualified(|| unsafe {
            string(match self.is_type {
                true => pg_sys::format_type_be(self.id()),
                false => pg_sys::format_procedure(self.id()),
            })
        })
    }

    /// Whether it is of this extension.
    pub fn is_of(self, extension: &CStr) -> bool {
        let class = if self.is_type { pg_sys::TypeRelationId } else { pg_sys::ProcedureRelationId };
        // SAFETY: look-ups in the catalog, which tolerate absence.
        unsafe {
            let of = pg_sys::getExtensionOfObject(class, self.id());
            of != pg_sys::InvalidOid && of == pg_sys::get_extension_oid(extension.as_ptr(), true)
        }
    }
}

/// Whether a role is a superuser.
pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up that tolerates absence.
    unsafe { pg_sys::superuser_arg(role) }
}

/// The type that a node makes values of, where its name may have been looked up.
///
/// # Safety
/// The node is live.
unsafe fn made(node: *mut pg_sys::Node) -> Option<Called> {
    use pg_sys::NodeTag::{
        T_ArrayCoerceExpr, T_CoerceToDomain, T_CoerceViaIO, T_Const, T_ConvertRowtypeExpr, T_RelabelType,
        T_RowExpr,
    };
    // SAFETY: the tag says that it is an expression; the others are look-ups in the catalog.
    unsafe {
        if !matches!(
            (*node).type_,
            T_ArrayCoerceExpr
                | T_CoerceToDomain
                | T_CoerceViaIO
                | T_Const
                | T_ConvertRowtypeExpr
                | T_RelabelType
                | T_RowExpr
        ) {
            return None;
        }
        coded(pg_sys::exprType(node))
    }
}

/// A type, or that of its elements, if values of it are made by code that its owner can write.
fn coded(whole: pg_sys::Oid) -> Option<Called> {
    if whole.to_u32() < pg_sys::FirstNormalObjectId {
        return None;
    }
    // SAFETY: look-ups in the catalog.
    unsafe {
        let element = pg_sys::get_element_type(whole);
        let oid = if element == pg_sys::InvalidOid { whole } else { element };
        let runs = matches!(pg_sys::get_typtype(oid) as u8, b'd' | b'r' | b'm' | b'c');
        (runs && oid.to_u32() >= pg_sys::FirstNormalObjectId)
            .then(|| Called { is_type: true, oid: oid.to_u32() })
    }
}

/// What a tree calls that is not of PostgreSQL itself.
///
/// # Safety
/// The tree is live.
pub(super) unsafe fn of(tree: tree::Node) -> Vec<Called> {
    unsafe extern "C-unwind" fn visit(function: pg_sys::Oid, found: *mut c_void) -> bool {
        if function.to_u32() >= pg_sys::FirstNormalObjectId {
            // SAFETY: `found` is the vector below.
            unsafe { (*found.cast::<Vec<Called>>()).push(Called::function(function)) };
        }
        false
    }
    let mut found: Vec<Called> = Vec::new();
    // SAFETY: the caller vouches for the query, whose nodes these are.
    unsafe {
        tree::each(tree, &mut |node, _| {
            found.extend(made(node));
            pg_sys::check_functions_in_node(node, Some(visit), (&raw mut found).cast());
            false
        });
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The tables that a statement writes to, with those below.
///
/// # Safety
/// The tree is live.
unsafe fn written(tree: tree::Node) -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: the tag says what the node is; the list is the query's, and has its result relation.
    unsafe {
        tree::each(tree, &mut |node, _| {
            if (*node).type_ == pg_sys::NodeTag::T_Query {
                let query = &*node.cast::<pg_sys::Query>();
                let tables = PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable);
                if let Some(e) =
                    (query.resultRelation as usize).checked_sub(1).and_then(|n| tables.get_ptr(n))
                {
                    found.extend(crate::pg::lock::below((*e).relid));
                }
            }
            false
        });
    }
    found
}

thread_local! {
    /// The next statement that is analysed is one of this library's making.
    static OURS: Cell<bool> = const { Cell::new(false) };
    /// What statements that are analysed call; None: it is not noted.
    static NOTED: RefCell<Option<Vec<Called>>> = const { RefCell::new(None) };
}

/// Reads a statement of somebody's; gives what it calls, and of which types its values are.
pub fn noting<T>(read: impl FnOnce() -> T) -> (T, Vec<Called>) {
    struct Noting;
    impl Drop for Noting {
        fn drop(&mut self) {
            NOTED.set(None);
        }
    }
    NOTED.set(Some(Vec::new()));
    let _noting = Noting;
    let read = read();
    let mut noted = NOTED.take().unwrap_or_default();
    noted.sort_unstable();
    noted.dedup();
    (read, noted)
}

/// What a query calls, for `noting`.
///
/// # Safety
/// The tree is live.
unsafe fn note(tree: tree::Node) {
    use pg_sys::NodeTag::{
        T_Aggref, T_ArrayExpr, T_CaseExpr, T_CoalesceExpr, T_FieldSelect, T_FuncExpr, T_MinMaxExpr, T_OpExpr,
        T_SubscriptingRef, T_Var,
    };
    // SAFETY: as the caller says; the tag says that a node is an expression.
    let found = unsafe {
        let mut found = of(tree);
        tree::each(tree, &mut |node, _| {
            if matches!(
                (*node).type_,
                T_Aggref
                    | T_ArrayExpr
                    | T_CaseExpr
                    | T_CoalesceExpr
                    | T_FieldSelect
                    | T_FuncExpr
                    | T_MinMaxExpr
                    | T_OpExpr
                    | T_SubscriptingRef
                    | T_Var
            ) {
                found.extend(coded(pg_sys::exprType(node)));
            }
            false
        });
        found
    };
    NOTED.with_borrow_mut(|noted| noted.iter_mut().for_each(|noted| noted.extend(&found)));
}

/// While it lives, the first statement that is analysed is known to be of this library's making; what that statement calls
/// may run others.
pub struct Ours(());

impl Ours {
    /// From now on.
    pub fn next() -> Ours {
        OURS.set(true);
        Ours(())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        OURS.set(false);
    }
}

/// What a SELECT calls outside pg_catalog, by operators, aggregates and casts too, with the names in it looked up as they are
/// now. What aggregates call in turn is the aggregates' affair. The statement is analysed and not run.
pub fn outside(text: &str) -> Vec<Called> {
    // SAFETY: the tree is ours.
    unsafe { of(tree::parsed(text, &[]).cast()) }
}

/// What the layer above makes of statements.
pub struct Watch {
    /// It wants to know of a statement of this text, which the current user runs in a restricted operation.
    pub wants: fn(&str) -> bool,
    /// Looks at what one calls; an error ends the statement before anything of it is planned.
    pub check: fn(&str, &[Called]),
    /// Looks at another statement of this library's making.
    pub ours: fn(&Made),
}

/// A statement of this library's making, run as somebody in a restricted operation.
pub struct Made {
    /// What it calls; nothing where `check` has looked at that.
    pub calls: Vec<Called>,
    /// What it reads.
    pub read: Read,
    /// The tables that it writes to.
    pub written: Vec<pg_sys::Oid>,
}

static WATCH: OnceLock<Watch> = OnceLock::new();
static NEXT: OnceLock<pg_sys::post_parse_analyze_hook_type> = OnceLock::new();

/// Installs the hook once.
pub fn install(watch: Watch) {
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        if WATCH.set(watch).is_ok() {
            let _ = NEXT.set(pg_sys::post_parse_analyze_hook);
            pg_sys::post_parse_analyze_hook = Some(analysed);
        }
    }
}

/// Looks at the statement whose names have just become oids: those that are looked at are those that are run.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn analysed(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: PostgreSQL's arguments are passed on as they came; the text outlives the call.
    unsafe {
        if let Some(Some(next)) = NEXT.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| next(state, query, jumble));
        }
        if NOTED.with_borrow(Option::is_some) {
            note(inner(query).cast());
        }
        let Some(watch) = WATCH.get() else { return };
        let ours = OURS.replace(false);
        let text = (*state).p_sourcetext;
        if text.is_null() || !pg_sys::InSecurityRestrictedOperation() {
            return;
        }
        let text = CStr::from_ptr(text).to_string_lossy();
        let wanted = (watch.wants)(&text);
        if !wanted && !ours {
            return;
        }
        let query: tree::Node = inner(query).cast();
        let found = of(query);
        if wanted {
            (watch.check)(&text, &found);
        }
        if ours {
            let calls = if wanted { Vec::new() } else { found };
            let read = planned::of(query, pg_sys::GetUserId());
            (watch.ours)(&Made { calls, read, written: written(query) });
        }
    }
}

/// The query in a statement that explains it or keeps its rows; else the statement.
///
/// # Safety
/// The query is live.
unsafe fn inner(query: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        let utility = (*query).utilityStmt;
        if utility.is_null() {
            return query;
        }
        let inner = match (*utility).type_ {
            pg_sys::NodeTag::T_ExplainStmt => (*utility.cast::<pg_sys::ExplainStmt>()).query,
            pg_sys::NodeTag::T_CreateTableAsStmt => (*utility.cast::<pg_sys::CreateTableAsStmt>()).query,
            pg_sys::NodeTag::T_DeclareCursorStmt => (*utility.cast::<pg_sys::DeclareCursorStmt>()).query,
            _ => return query,
        };
        match !inner.is_null() && (*inner).type_ == pg_sys::NodeTag::T_Query {
            true => inner.cast(),
            false => query,
        }
    }
}
