//! Expressions whose value depends on the session: the rollup's time zone put in where that is all they depend on, and
//! the first of the others found.
//!
//! Invariant: what a row counts as depends on the row alone. A run and the live view evaluate the same expression in
//! different sessions, at different moments, and must agree. PostgreSQL calls a function IMMUTABLE where this holds;
//! here it is told for the others of pg_catalog, one by one: what is not known to be steady is refused. The locale aside,
//! which is the database's.
use super::deparse::{Names, string};
use super::expression::{constant, constant_interval};
use pgrx::{PgList, pg_sys};

/// Where buckets of fixed length begin: a Monday, midnight in UTC, before any event.
pub const EPOCH: &str = "'0001-01-01 00:00:00+00'::pg_catalog.timestamptz";

/// The bucket of a timestamptz in UTC: by `date_bin`, and where that ends, since it counts microseconds from its origin,
/// as `date_trunc` has it.
pub fn bin(length: &str, unit: &str, time: &str) -> String {
    format!(
        "CASE WHEN {time} OPERATOR(pg_catalog.<) '290000-01-01 00:00:00+00'::pg_catalog.timestamptz THEN pg_catalog.date_bin({length}, {time}, {EPOCH}) \
         ELSE (pg_catalog.date_trunc('{unit}', ({time}) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') END"
    )
}

/// The length of a date_trunc unit, where every one of its buckets has it in UTC.
fn fixed_length(unit: &str) -> Option<String> {
    let length = match unit {
        "milliseconds" => "1 millisecond",
        "second" => "1 second",
        "minute" => "1 minute",
        "hour" => "1 hour",
        "day" => "1 day",
        "week" => "7 days",
        _ => return None,
    };
    Some(format!("'{length}'::pg_catalog.interval"))
}

/// The text that gives the same as a node, in whichever session.
pub struct Pinned {
    /// The text.
    pub text: String,
    /// PostgreSQL takes it to be less than IMMUTABLE.
    pub stable: bool,
}

fn steady(text: String) -> Option<Pinned> {
    Some(Pinned { text, stable: false })
}

fn stable(text: String) -> Option<Pinned> {
    Some(Pinned { text, stable: true })
}

/// What depends on the session's time zone, as it is in `zone`; None where `node` does not, or not so that it can be told.
///
/// # Safety
/// `node` is a node of an expression over the query that these names were made of.
pub unsafe fn pinned(node: *mut pg_sys::Node, zone: &str, names: Names) -> Option<Pinned> {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_FuncExpr => {
                let f = &*node.cast::<pg_sys::FuncExpr>();
                let args: Vec<_> = PgList::<pg_sys::Node>::from_pg(f.args).iter_ptr().collect();
                call(f.funcid.to_u32(), &args, zone, names)
            }
            pg_sys::NodeTag::T_OpExpr => operator(&*node.cast::<pg_sys::OpExpr>(), zone, names),
            pg_sys::NodeTag::T_DistinctExpr | pg_sys::NodeTag::T_NullIfExpr if hides_operator(node) => {
                spelled_out(node, names)
            }
            _ => None,
        }
    }
}

/// True of an expression that PostgreSQL writes without its operator, though that is a user's: where the text is read again,
/// under another search_path, it would be another one. `CASE x WHEN y` is the third kind: see `compare_in_full`.
///
/// # Safety
/// `node` is a node of an expression.
pub unsafe fn hides_operator(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tags say what the nodes are; the first two have the fields of an operator.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_DistinctExpr | pg_sys::NodeTag::T_NullIfExpr => {
                (*node.cast::<pg_sys::OpExpr>()).opno.to_u32() >= pg_sys::FirstNormalObjectId
            }
            pg_sys::NodeTag::T_CaseExpr => {
                let case = &*node.cast::<pg_sys::CaseExpr>();
                !case.arg.is_null()
                    && PgList::<pg_sys::CaseWhen>::from_pg(case.args).iter_ptr().any(|when| {
                        let test = (*when).expr.cast::<pg_sys::OpExpr>();
                        (*test).xpr.type_ == pg_sys::NodeTag::T_OpExpr
                            && (*test).opno.to_u32() >= pg_sys::FirstNormalObjectId
                    })
            }
            _ => false,
        }
    }
}

/// `IS DISTINCT FROM` and `NULLIF` as a CASE that names the operator.
///
/// # Safety
/// `node` is one of the two, over the query that these names were made of.
unsafe fn spelled_out(node: *mut pg_sys::Node, names: Names) -> Option<Pinned> {
    // SAFETY: the copy is ours; both kinds have the fields of an operator.
    unsafe {
        let copy = pg_sys::copyObjectImpl(node.cast()).cast::<pg_sys::OpExpr>();
        let is_distinct = (*copy).xpr.type_ == pg_sys::NodeTag::T_DistinctExpr;
        (*copy).xpr.type_ = pg_sys::NodeTag::T_OpExpr;
        (*copy).opresulttype = pg_sys::BOOLOID;
        let test = names.text(copy.cast());
        let args: Vec<String> =
            PgList::<pg_sys::Node>::from_pg((*copy).args).iter_ptr().map(|a| names.text(a)).collect();
        let [a, b] = &args[..] else { return None };
        let nulls = format!("pg_catalog.num_nulls({a}, {b})");
        steady(if is_distinct {
            format!("(CASE {nulls} WHEN 0 THEN NOT ({test}) WHEN 1 THEN true ELSE false END)")
        } else {
            format!("(CASE WHEN {nulls} OPERATOR(pg_catalog.=) 0 AND ({test}) THEN NULL ELSE {a} END)")
        })
    }
}

/// Makes `CASE x WHEN y` compare in full, `CASE WHEN x = y`, where the operator is a user's.
///
/// # Safety
/// `node` is a node of a tree that is ours alone.
pub unsafe fn compare_in_full(node: *mut pg_sys::Node) {
    // SAFETY: the tags say what the nodes are; the list's cells lie where they lay, so that the node sees the change.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_CaseExpr || !hides_operator(node) {
            return;
        }
        let case = &mut *node.cast::<pg_sys::CaseExpr>();
        let whens = PgList::<pg_sys::CaseWhen>::from_pg(case.args);
        let simple = whens.iter_ptr().all(|when| {
            let args = arguments((*when).expr.cast());
            args.first().is_some_and(|a| (**a).type_ == pg_sys::NodeTag::T_CaseTestExpr)
        });
        if !simple {
            return;
        }
        for when in whens.iter_ptr() {
            let mut args = PgList::<pg_sys::Node>::from_pg((*(*when).expr.cast::<pg_sys::OpExpr>()).args);
            args.replace_ptr(0, pg_sys::copyObjectImpl(case.arg.cast()).cast());
            std::mem::forget(args);
        }
        case.arg = std::ptr::null_mut();
    }
}

/// # Safety
/// `args` are the arguments of a call of function `id`.
unsafe fn call(id: u32, args: &[*mut pg_sys::Node], zone: &str, names: Names) -> Option<Pinned> {
    let quoted = super::literal(zone);
    // SAFETY: the caller vouches for the arguments.
    unsafe {
        let text = |n: usize| names.text(args[n]);
        let local = |n: usize| format!("(({}) AT TIME ZONE {quoted})", text(n));
        match id {
            pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ => {
                let unit = constant(args[0]).unwrap_or_default().to_ascii_lowercase();
                match fixed_length(&unit).filter(|_| zone.eq_ignore_ascii_case("utc")) {
                    Some(length) => steady(bin(&length, &unit, &text(1))),
                    None => stable(format!("pg_catalog.date_trunc({}, {}, {quoted})", text(0), text(1))),
                }
            }
            pg_sys::F_DATE_TIMESTAMPTZ => steady(format!("{}::pg_catalog.date", local(0))),
            pg_sys::F_TIME_TIMESTAMPTZ => steady(format!("{}::pg_catalog.time", local(0))),
            pg_sys::F_TIMESTAMP_TIMESTAMPTZ => steady(local(0)),
            pg_sys::F_TIMESTAMPTZ_TIMESTAMP => steady(local(0)),
            pg_sys::F_TIMESTAMPTZ_DATE => {
                steady(format!("(({})::pg_catalog.timestamp AT TIME ZONE {quoted})", text(0)))
            }
            pg_sys::F_TO_CHAR_TIMESTAMPTZ_TEXT => {
                let format = constant(args[1])?.to_ascii_uppercase();
                let shows_zone = ["TZ", "OF"].iter().any(|pattern| format.contains(pattern));
                (!shows_zone)
                    .then(|| format!("pg_catalog.to_char({}, {})", local(0), text(1)))
                    .and_then(stable)
            }
            pg_sys::F_MAKE_TIMESTAMPTZ_INT4_INT4_INT4_INT4_INT4_FLOAT8 => {
                let all: Vec<String> = (0..args.len()).map(text).collect();
                stable(format!("pg_catalog.make_timestamptz({}, {quoted})", all.join(", ")))
            }
            pg_sys::F_EXTRACT_TEXT_TIMESTAMPTZ | pg_sys::F_DATE_PART_TEXT_TIMESTAMPTZ => {
                let field = constant(args[0])?.to_ascii_lowercase();
                if field == "epoch" || field.starts_with("timezone") {
                    return None;
                }
                let f = if id == pg_sys::F_EXTRACT_TEXT_TIMESTAMPTZ { "extract" } else { "date_part" };
                steady(format!("pg_catalog.\"{f}\"({}, {})", text(0), local(1)))
            }
            _ => None,
        }
    }
}

/// A timestamptz compared with a clock time, or moved by months and days.
///
/// # Safety
/// `o` is an operator of an expression over the query that these names were made of.
unsafe fn operator(o: &pg_sys::OpExpr, zone: &str, names: Names) -> Option<Pinned> {
    let quoted = super::literal(zone);
    // SAFETY: the operator exists, the analyser has found it.
    unsafe {
        let args: Vec<_> = PgList::<pg_sys::Node>::from_pg(o.args).iter_ptr().collect();
        let [left, right] = args[..] else { return None };
        let function = pg_sys::get_opcode(o.opno);
        if !in_pg_catalog(function) || !is_stable(function) {
            return None;
        }
        let name = string(pg_sys::get_opname(o.opno));
        let zoned = |n: *mut pg_sys::Node| pg_sys::exprType(n) == pg_sys::TIMESTAMPTZOID;
        let clock =
            |n: *mut pg_sys::Node| [pg_sys::TIMESTAMPOID, pg_sys::DATEOID].contains(&pg_sys::exprType(n));
        let as_zoned = |n: *mut pg_sys::Node| {
            let text = names.text(n);
            if zoned(n) {
                format!("({text})")
            } else {
                format!("((({text})::pg_catalog.timestamp) AT TIME ZONE {quoted})")
            }
        };
        if zoned(left) && clock(right) || clock(left) && zoned(right) {
            return steady(format!("({} OPERATOR(pg_catalog.{name}) {})", as_zoned(left), as_zoned(right)));
        }
        let (time, moved) = if zoned(left) { (left, right) } else { (right, left) };
        if !zoned(time) || pg_sys::exprType(moved) != pg_sys::INTERVALOID {
            return None;
        }
        if only_time(moved) {
            // So many microseconds, in any zone.
            return None;
        }
        let (months, days, micros) = constant_interval(moved)?;
        // As PostgreSQL does it: months and days by the clock, the rest by time.
        let by_clock = format!(
            "(((({}) AT TIME ZONE {quoted}) OPERATOR(pg_catalog.{name}) '{months} months {days} days'::pg_catalog.interval) AT TIME ZONE {quoted})",
            names.text(time)
        );
        if micros == 0 {
            return steady(by_clock);
        }
        stable(format!(
            "({by_clock} OPERATOR(pg_catalog.{name}) '{micros} microseconds'::pg_catalog.interval)"
        ))
    }
}

/// # Safety
/// The function exists.
unsafe fn in_pg_catalog(function: pg_sys::Oid) -> bool {
    // SAFETY: the caller vouches for the function.
    unsafe { pg_sys::get_func_namespace(function) == pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE) }
}

/// # Safety
/// The function exists.
unsafe fn is_stable(function: pg_sys::Oid) -> bool {
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

/// True of a function of pg_catalog that is called STABLE, and gives the same in every session for what it is given.
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

/// True of an interval that has no months and no days, whatever the row.
///
/// # Safety
/// `node` is an expression.
unsafe fn only_time(node: *mut pg_sys::Node) -> bool {
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

/// True where values of the type are written alike in every session.
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
