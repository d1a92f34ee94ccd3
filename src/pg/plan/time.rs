//! Times in a query: expressions whose value is the same for all rows of a bucket, and bounds.
use super::offer::{Grid, Offer};
use super::tree::{self, Node};
use crate::pg::constant::{constant, constant_interval};
use crate::pg::zones::{self, Zone};
use hll_rollup::Bucket;
use pgrx::{PgList, pg_sys};

const DAY: i64 = 86_400_000_000;
/// Microseconds from Monday, the first day of year 1, to 2000.
const MONDAY: i64 = 730_119 * DAY;

/// From when on it holds that an expression is the same for all rows of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Always.
    Always,
    /// From this moment on, in microseconds since 2000.
    Moment(i64),
    /// It depends on the time zone of the session that executes: the arguments of `in_step_from`.
    Session(i64, Option<String>),
}

/// What an expression over the time makes of it.
struct Cut {
    bucket: Bucket,
    place: Place,
}

/// By which clock.
enum Place {
    /// None: through changes of the clock, or of times without zone.
    Absolute,
    Session,
    Zone(String),
}

/// # Safety
/// `node` is an expression.
unsafe fn is_time(node: Node, offer: &Offer, rt: i32) -> bool {
    // SAFETY: the tag says what the node is.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_Var && {
            let v = &*node.cast::<pg_sys::Var>();
            v.varno == rt && v.varattno == offer.time && v.varlevelsup == 0
        }
    }
}

/// Since when a value is the same for all rows of a bucket: of the rollup, and of each of its levels where it is.
pub struct Steady {
    /// Of the rollup's own.
    pub since: Since,
    /// Of the levels'.
    pub levels: Vec<Option<Since>>,
}

/// If a node is a call over the time of a row whose value is the same for all rows of a bucket: since when. An error says
/// why it is none. None where it is no such call.
///
/// # Safety
/// `node` is an expression of the query whose entry `rt` is the source.
pub unsafe fn steady(node: Node, offer: &Offer, rt: i32) -> Option<Result<Steady, String>> {
    // SAFETY: the tag says what the node is.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_FuncExpr {
            return None;
        }
        let cut = cut(&*node.cast::<pg_sys::FuncExpr>(), offer, rt)?;
        let levels = || offer.about.levels.iter().map(|l| nests(&l.grid, &cut)).collect();
        let steady = nests(&offer.about.grid, &cut).map(|since| Steady { since, levels: levels() });
        Some(steady.ok_or_else(|| {
            let name =
                crate::pg::deparse::string(pg_sys::get_func_name((*node.cast::<pg_sys::FuncExpr>()).funcid));
            format!("buckets of {} do not lie each inside one of {name}", offer.about.name)
        }))
    }
}

/// # Safety
/// `f` is a call of the query whose entry `rt` is the source.
unsafe fn cut(f: &pg_sys::FuncExpr, offer: &Offer, rt: i32) -> Option<Cut> {
    // SAFETY: the function is known, and with it the types of its arguments.
    unsafe {
        let args: Vec<Node> = PgList::<pg_sys::Node>::from_pg(f.args).iter_ptr().collect();
        let own = |n: usize| args.get(n).is_some_and(|a| is_time(*a, offer, rt));
        let unit = || constant(*args.first()?).map(|u| Bucket::of_unit(&u));
        let local = if offer.about.grid.zoned { Place::Session } else { Place::Absolute };
        let cut = |bucket: Bucket, place: Place| Some(Cut { bucket, place });
        let field = || {
            let field = constant(*args.first()?)?.to_ascii_lowercase();
            Some(Bucket::of_unit(match field.as_str() {
                "dow" | "isodow" | "doy" | "day" => "day",
                "isoyear" => "week",
                // With fractions.
                "second" | "seconds" | "millisecond" | "milliseconds" | "microsecond" | "microseconds" => "",
                other => other,
            }))
        };
        match f.funcid.to_u32() {
            pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ | pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMP if own(1) => {
                cut(unit()?, local)
            }
            pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT if own(1) => {
                cut(unit()?, Place::Zone(constant(*args.get(2)?)?))
            }
            pg_sys::F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ
            | pg_sys::F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP
                if own(1) =>
            {
                let (0, days, micros) = constant_interval(args[0])? else { return None };
                let origin = &*args.get(2)?.cast::<pg_sys::Const>();
                if (*args[2]).type_ != pg_sys::NodeTag::T_Const || origin.constisnull {
                    return None;
                }
                let length = i64::from(days).checked_mul(DAY)?.checked_add(micros).filter(|l| *l > 0)?;
                let offset = (origin.constvalue.value() as i64).checked_add(MONDAY)?.rem_euclid(length);
                cut(Bucket::Fixed { length, offset, absolute: true }, Place::Absolute)
            }
            pg_sys::F_DATE_TIMESTAMPTZ | pg_sys::F_DATE_TIMESTAMP if own(0) => {
                cut(Bucket::of_unit("day"), local)
            }
            pg_sys::F_EXTRACT_TEXT_TIMESTAMPTZ
            | pg_sys::F_EXTRACT_TEXT_TIMESTAMP
            | pg_sys::F_DATE_PART_TEXT_TIMESTAMPTZ
            | pg_sys::F_DATE_PART_TEXT_TIMESTAMP
                if own(1) =>
            {
                cut(field()?, local)
            }
            // By the clock of a zone that is named.
            pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMP => {
                cut(unit()?, Place::Zone(at_zone(*args.get(1)?, offer, rt)?))
            }
            pg_sys::F_DATE_TIMESTAMP => {
                cut(Bucket::of_unit("day"), Place::Zone(at_zone(*args.first()?, offer, rt)?))
            }
            pg_sys::F_EXTRACT_TEXT_TIMESTAMP | pg_sys::F_DATE_PART_TEXT_TIMESTAMP => {
                cut(field()?, Place::Zone(at_zone(*args.get(1)?, offer, rt)?))
            }
            _ => None,
        }
    }
}

/// The zone of `time AT TIME ZONE 'zone'`.
///
/// # Safety
/// `node` is an expression of the query whose entry `rt` is the source.
unsafe fn at_zone(node: Node, offer: &Offer, rt: i32) -> Option<String> {
    // SAFETY: the tag says what the node is.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_FuncExpr {
            return None;
        }
        let f = &*node.cast::<pg_sys::FuncExpr>();
        let args: Vec<Node> = PgList::<pg_sys::Node>::from_pg(f.args).iter_ptr().collect();
        let fits =
            f.funcid.to_u32() == pg_sys::F_TIMEZONE_TEXT_TIMESTAMPTZ && is_time(*args.get(1)?, offer, rt);
        if fits { constant(args[0]) } else { None }
    }
}

/// Since when each bucket of a grid lies inside of one of another.
fn nests(grid: &Grid, cut: &Cut) -> Option<Since> {
    let same_zone = |zone: &str| Zone::named(zone).is_some() && Zone::named(zone) == Zone::named(&grid.zone);
    let fits = |bucket: Bucket| bucket == grid.bucket || grid.bucket.nests_in(bucket, true);
    let (Bucket::Fixed { length, offset, .. }, true) = (grid.bucket, grid.absolute) else {
        // Days and longer of a zone: inside those of that zone.
        if !fits(cut.bucket) {
            return None;
        }
        return match &cut.place {
            Place::Zone(zone) if same_zone(zone) => Some(Since::Always),
            Place::Session if zones::session_in_step(0, Some(&grid.zone)) == zones::ALWAYS => {
                Some(Since::Session(0, Some(grid.zone.clone())))
            }
            Place::Absolute if grid.absolute => Some(Since::Always),
            _ => None,
        };
    };
    let divides = match cut.bucket {
        Bucket::Unknown => false,
        Bucket::Months(_) => DAY % length == 0 && offset == 0,
        Bucket::Fixed { length: long, offset: from, .. } => {
            long % length == 0 && (from - offset) % length == 0
        }
    };
    if !divides {
        return None;
    }
    let moment = |from: i64| match from {
        zones::NEVER => None,
        zones::ALWAYS => Some(Since::Always),
        at => Some(Since::Moment(at)),
    };
    match &cut.place {
        Place::Absolute => Some(Since::Always),
        _ if offset != 0 => None,
        Place::Zone(zone) if zone.eq_ignore_ascii_case("utc") => Some(Since::Always),
        Place::Zone(zone) => moment(Zone::named(zone)?.in_step(length)),
        Place::Session => match zones::session_in_step(length, None) {
            zones::NEVER => None,
            _ => Some(Since::Session(length, None)),
        },
    }
}

/// A bound of the time.
#[derive(Clone, Copy)]
pub struct Bound {
    /// Times lie above it; else below.
    pub lower: bool,
    /// It itself belongs to them.
    pub inclusive: bool,
    /// The moment, an expression of the time's type.
    pub moment: Node,
    /// It is a constant of these times.
    pub constant: bool,
}

/// The bounds that a condition is, if it is nothing else; an error says why it cannot be one.
///
/// # Safety
/// `node` is a condition of the query whose entry `rt` is the source.
pub unsafe fn bounds(node: Node, offer: &Offer, rt: i32) -> Result<Option<Vec<Bound>>, String> {
    // SAFETY: the tags say what the nodes are.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_NullTest {
            let t = &*node.cast::<pg_sys::NullTest>();
            let is_time = is_time(t.arg.cast(), offer, rt);
            let not_null = t.nulltesttype == pg_sys::NullTestType::IS_NOT_NULL;
            return Ok((is_time && not_null).then(Vec::new));
        }
        if (*node).type_ != pg_sys::NodeTag::T_OpExpr {
            return Ok(None);
        }
        let o = &*node.cast::<pg_sys::OpExpr>();
        let args: Vec<Node> = PgList::<pg_sys::Node>::from_pg(o.args).iter_ptr().collect();
        let [left, right] = args[..] else { return Ok(None) };
        let (other, turned) = match (is_time(left, offer, rt), is_time(right, offer, rt)) {
            (true, false) => (right, false),
            (false, true) => (left, true),
            _ => return Ok(None),
        };
        let mut uses_rows = false;
        tree::each(other, &mut |n, level| {
            if (*n).type_ == pg_sys::NodeTag::T_Var {
                let v = &*n.cast::<pg_sys::Var>();
                uses_rows |= v.varlevelsup == level;
            }
            false
        });
        if uses_rows {
            return Ok(None);
        }
        if pg_sys::contain_volatile_functions(other)
            || pg_sys::checkExprHasSubLink(other)
            || pg_sys::expression_returns_set(other)
        {
            return Err("a bound of the time has a sub-select or a volatile function".into());
        }
        let kind = if offer.about.grid.zoned { pg_sys::TIMESTAMPTZOID } else { pg_sys::TIMESTAMPOID };
        let family = (*pg_sys::lookup_type_cache(kind, pg_sys::TYPECACHE_BTREE_OPFAMILY as i32)).btree_opf;
        let strategy = pg_sys::get_op_opfamily_strategy(o.opno, family) as u32;
        let Some(moment) = as_moment(other, kind) else {
            return Err("the time is compared with a value of another type".into());
        };
        let constant = (*moment).type_ == pg_sys::NodeTag::T_Const && {
            let c = &*moment.cast::<pg_sys::Const>();
            !c.constisnull && (c.constvalue.value() as i64).unsigned_abs() < (1 << 60)
        };
        let bound =
            |lower: bool, inclusive: bool| Bound { lower: lower != turned, inclusive, moment, constant };
        Ok(match strategy {
            pg_sys::BTLessStrategyNumber => Some(vec![bound(false, false)]),
            pg_sys::BTLessEqualStrategyNumber => Some(vec![bound(false, true)]),
            pg_sys::BTEqualStrategyNumber => Some(vec![bound(false, true), bound(true, true)]),
            pg_sys::BTGreaterEqualStrategyNumber => Some(vec![bound(true, true)]),
            pg_sys::BTGreaterStrategyNumber => Some(vec![bound(true, false)]),
            _ => None,
        })
    }
}

/// What a time is compared with, as a moment of the type `kind`: dates and times by the clock as PostgreSQL compares them,
/// those beyond the last moment as the infinity that they are next to.
///
/// # Safety
/// `node` is an expression.
unsafe fn as_moment(node: Node, kind: pg_sys::Oid) -> Option<Node> {
    // SAFETY: the caller vouches for the node; what is made is a call with an argument of the type that it takes.
    unsafe {
        let from = pg_sys::exprType(node);
        if from == kind {
            return Some(node);
        }
        let (name, to) = match kind {
            pg_sys::TIMESTAMPTZOID => ("timestamptz", kind),
            _ => ("timestamp", kind),
        };
        let text = match from {
            pg_sys::DATEOID => format!(
                "SELECT CASE WHEN $1 OPERATOR(pg_catalog.>) '290000-01-01'::pg_catalog.date THEN 'infinity'::pg_catalog.{name} \
                 WHEN $1 OPERATOR(pg_catalog.<) '4712-01-01 BC'::pg_catalog.date THEN '-infinity'::pg_catalog.{name} ELSE $1::pg_catalog.{name} END"
            ),
            pg_sys::TIMESTAMPOID if to == pg_sys::TIMESTAMPTZOID => format!(
                "SELECT CASE WHEN $1 OPERATOR(pg_catalog.>) '290000-01-01'::pg_catalog.timestamp THEN 'infinity'::pg_catalog.{name} \
                 WHEN $1 OPERATOR(pg_catalog.<) '4712-01-01 BC'::pg_catalog.timestamp THEN '-infinity'::pg_catalog.{name} ELSE $1::pg_catalog.{name} END"
            ),
            // A timestamptz with which a timestamp is compared depends on the zone, in which times go back.
            _ => return None,
        };
        let template = tree::expressions(&text, &[from]);
        Some(tree::filled(*template.first()?, &[node]))
    }
}
