//! Expressions whose value depends on the session: the rollup's time zone put in where that is all they depend on, and
//! the first of the others found.
//!
//! Invariant: what a row counts as depends on the row alone. A run and the live view evaluate the same expression in
//! different sessions, at different moments, and must agree. PostgreSQL calls a function IMMUTABLE where this holds;
//! here it is told for the others of pg_catalog, one by one: what is not known to be steady is refused. The locale aside,
//! which is the database's.
use crate::pg::constant::{constant, constant_interval};
use crate::pg::deparse::{Names, string};
use crate::pg::steady::{arguments, in_pg_catalog, is_stable, only_time};
use hll_rollup::bin;
use pgrx::{PgList, pg_sys};

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

/// Whether it is an expression that PostgreSQL writes without its operator, though that is a user's: where the text is read again,
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
    let quoted = crate::pg::literal(zone);
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
    let quoted = crate::pg::literal(zone);
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
