//! What gives the same for a row in every session and at every moment, and what does not.
//!
//! PostgreSQL calls a function IMMUTABLE where that holds. Of the others of pg_catalog it is told here, one by one: what is
//! not known to be steady is refused (see `pinned`). The locale aside, which is the database's.
use crate::pg::constant::{constant, constant_interval};
use crate::pg::deparse::string;
use pgrx::{PgList, pg_sys};

/// Whether it is a function of PostgreSQL's own.
///
/// # Safety
/// The function exists.
pub unsafe fn in_pg_catalog(function: pg_sys::Oid) -> bool {
    // SAFETY: the caller vouches for the function.
    unsafe { pg_sys::get_func_namespace(function) == pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE) }
}

/// Whether it is a function that is called STABLE.
///
/// # Safety
/// The function exists.
pub unsafe fn is_stable(function: pg_sys::Oid) -> bool {
    // SAFETY: the caller vouches for the function.
    unsafe { pg_sys::func_volatile(function) as u8 == pg_sys::PROVOLATILE_STABLE }
}

/// How a node depends on more than its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsteady {
    /// On the moment, or on who asks: the rollup cannot hold it.
    Session,
    /// Perhaps: a function of the user's says STABLE.
    Perhaps,
}

/// Whether a node depends on more than its arguments.
///
/// # Safety
/// `node` is a node of an expression.
pub unsafe fn unsteady(node: *mut pg_sys::Node) -> Option<Unsteady> {
    struct Found {
        node: *mut pg_sys::Node,
        worst: Option<Unsteady>,
    }
    unsafe extern "C-unwind" fn visit(function: pg_sys::Oid, found: *mut std::ffi::c_void) -> bool {
        // SAFETY: `found` is the value below; the function exists, the analyser has found it.
        unsafe {
            let found = &mut *found.cast::<Found>();
            if !is_stable(function) {
                return false;
            }
            if !in_pg_catalog(function) {
                found.worst = found.worst.or(Some(Unsteady::Perhaps));
                return false;
            }
            if !is_known(function, found.node) {
                found.worst = Some(Unsteady::Session);
            }
            found.worst == Some(Unsteady::Session)
        }
    }
    // SAFETY: the caller vouches for the node.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_SQLValueFunction {
            return Some(Unsteady::Session);
        }
        // What an aggregate does with its arguments is for the rules of its merge.
        if (*node).type_ == pg_sys::NodeTag::T_Aggref {
            return None;
        }
        let mut found = Found { node, worst: None };
        pg_sys::check_functions_in_node(node, Some(visit), (&raw mut found).cast());
        found.worst
    }
}

/// Whether it is a function of pg_catalog that is called STABLE, and gives the same in every session for what it is given.
///
/// # Safety
/// The function is one that `node` calls.
unsafe fn is_known(function: pg_sys::Oid, node: *mut pg_sys::Node) -> bool {
    // SAFETY: the function exists; the tags say what the nodes are.
    unsafe {
        let args = arguments(node);
        let types: Vec<pg_sys::Oid> = args.iter().map(|a| pg_sys::exprType(*a)).collect();
        match string(pg_sys::get_func_name(function)).as_str() {
            // The zone is an argument.
            "date_trunc" => args.len() == 3,
            "make_timestamptz" => args.len() == 7,
            "to_char" => !types.contains(&pg_sys::TIMESTAMPTZOID),
            "extract" | "date_part" => args
                .first()
                .and_then(|a| constant(*a))
                .is_some_and(|field| field.eq_ignore_ascii_case("epoch")),
            // Moved by a number of microseconds, as what is left of it here is.
            "timestamptz_pl_interval" | "timestamptz_mi_interval" | "interval_pl_timestamptz" => {
                args.iter().any(|a| only_time(*a))
            }
            "to_number" | "to_date" | "pg_typeof" | "enum_out" | "enum_in" => true,
            // What they write is what the types of their arguments write.
            "array_out" | "array_to_string" | "concat" | "concat_ws" | "format" | "quote_literal"
            | "quote_nullable" | "to_json" | "to_jsonb" | "json_build_object" | "jsonb_build_object"
            | "json_build_array" | "jsonb_build_array" | "array_to_json" | "anytextcat" | "textanycat" => {
                types.iter().all(|t| writes_alike(*t))
            }
            _ => false,
        }
    }
}

/// Whether it is an interval that has no months and no days, whatever the row.
///
/// # Safety
/// `node` is an expression.
pub unsafe fn only_time(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        let is_interval = |n: &*mut pg_sys::Node| pg_sys::exprType(*n) == pg_sys::INTERVALOID;
        if !is_interval(&node) {
            return false;
        }
        let args = arguments(node);
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => matches!(constant_interval(node), Some((0, 0, _))),
            pg_sys::NodeTag::T_OpExpr => {
                // A multiple, a part, a sum, a difference of such, by operators of PostgreSQL's own.
                let own = (*node.cast::<pg_sys::OpExpr>()).opno.to_u32() < pg_sys::FirstNormalObjectId;
                own && args.iter().any(is_interval)
                    && args.iter().filter(|a| is_interval(a)).all(|a| only_time(*a))
            }
            pg_sys::NodeTag::T_FuncExpr => {
                let f = (*node.cast::<pg_sys::FuncExpr>()).funcid;
                // Years, months, weeks and days come first; a call by names gives their places.
                let fits = |(at, a): (usize, &*mut pg_sys::Node)| {
                    let (at, value) = if (**a).type_ == pg_sys::NodeTag::T_NamedArgExpr {
                        let named = &*a.cast::<pg_sys::NamedArgExpr>();
                        (named.argnumber as usize, named.arg.cast())
                    } else {
                        (at, *a)
                    };
                    at >= 4 || constant(value).as_deref() == Some("0")
                };
                in_pg_catalog(f)
                    && string(pg_sys::get_func_name(f)) == "make_interval"
                    && args.iter().enumerate().all(fits)
            }
            _ => false,
        }
    }
}

/// The arguments of a call, an operator or a cast.
///
/// # Safety
/// `node` is a node of an expression.
pub unsafe fn arguments(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        let list = match (*node).type_ {
            pg_sys::NodeTag::T_FuncExpr => (*node.cast::<pg_sys::FuncExpr>()).args,
            pg_sys::NodeTag::T_OpExpr => (*node.cast::<pg_sys::OpExpr>()).args,
            pg_sys::NodeTag::T_CoerceViaIO => return vec![(*node.cast::<pg_sys::CoerceViaIO>()).arg.cast()],
            _ => return Vec::new(),
        };
        PgList::<pg_sys::Node>::from_pg(list).iter_ptr().collect()
    }
}

/// Whether values of the type are written alike in every session.
///
/// # Safety
/// The type exists.
unsafe fn writes_alike(kind: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalog of types.
    unsafe {
        let kind = pg_sys::getBaseType(kind);
        let element = pg_sys::get_element_type(kind);
        if element != pg_sys::InvalidOid {
            return writes_alike(element);
        }
        if pg_sys::type_is_enum(kind) || kind == pg_sys::UNKNOWNOID {
            return true;
        }
        let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(kind, &mut output, &mut varlena);
        pg_sys::func_volatile(output) as u8 == pg_sys::PROVOLATILE_IMMUTABLE
    }
}
