//! Statements whose aggregates over a raw table are answered from what a rollup holds of it: the hook of the planner.
//!
//! The analysed query is taken, before it is planned. Of each query in it that aggregates rows of one table, the table is
//! exchanged for a sub-query with columns of keys and of values that merge: stored buckets, and what is read raw. The
//! entry of the raw table stays in the query, so that the reader's rights are checked on it as written; what the sub-query
//! reads is checked as the rollup's owner.
//!
//! Invariant: what cannot be proved to give the same is planned as ever. Nothing is exchanged in statements of the engine
//! itself, which run as an owner in a restricted operation, as REFRESH and CREATE MATERIALIZED VIEW do; nor where row
//! security is in play, nor where a transaction is serializable.
pub mod aggregates;
mod borrowed;
pub mod buckets;
pub mod called;
pub mod choose;
pub mod columns;
pub mod fit;
pub mod graft;
#[cfg(feature = "pg18")]
mod grouped;
pub mod matching;
pub mod offer;
pub mod planned;
pub mod planner;
pub mod refusal;
pub mod split;
pub mod time;
pub mod tree;
pub mod views;

use crate::pg::ctext::c_text;
use crate::pg::deparse::string;
use crate::pg::zones;
use matching::Ask;
use offer::Offer;
use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::OnceLock;
use time::Since;
use tree::Node;

/// What the rollups of a table offer: each, or its name and why it offers nothing.
pub type Offers = Rc<Vec<Result<Rc<Offer>, (String, String)>>>;

/// Calls over the arguments `$1`, … of an aggregate, and its value, of these.
pub type Parts = (Vec<String>, String);

/// What the layer above knows.
pub struct Engine {
    /// Queries are to be exchanged in this session.
    pub wanted: fn() -> bool,
    /// A table that has rollups.
    pub is_source: fn(pg_sys::Oid) -> bool,
    /// A live view of a rollup, in which nothing is exchanged.
    pub is_live: fn(pg_sys::Oid) -> bool,
    /// What the rollups of a table offer.
    pub offers: fn(pg_sys::Oid) -> Offers,
    /// Counts what makes offers void.
    pub epoch: fn() -> u64,
    /// Of which calls over its arguments an aggregate is made, and how.
    pub parts: fn(pg_sys::Oid, usize) -> Option<Parts>,
    /// What a rollup knows more than the raw table is wanted, too.
    pub history: fn() -> bool,
    /// The sub-query that is asked for.
    pub sql: fn(&Offer, &Asked) -> String,
}

/// What is asked of the text of a sub-query, whose parameter `$1` is the condition on the time.
pub struct Asked<'a> {
    /// What is asked for.
    pub ask: &'a Ask,
    /// For each bound, the parameters that are its moment, and the moment's bucket in each table that is read.
    pub bounds: Vec<(usize, Vec<usize>)>,
    /// There is a condition on the time.
    pub timed: bool,
    /// The levels that are read besides the rollup's own table, finest first, each lying inside the next.
    pub levels: &'a [usize],
}

/// One query of a statement, for users who ask why.
pub struct Told {
    /// The table.
    pub source: pg_sys::Oid,
    /// Rollup and level that it is answered from.
    pub from: Option<(String, Option<String>)>,
    /// Why not.
    pub why: Option<String>,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();
static NEXT: OnceLock<pg_sys::planner_hook_type> = OnceLock::new();

thread_local! {
    /// What is asked of the catalogs for it is planned as ever.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

struct Within;

impl Within {
    fn enter() -> Option<Within> {
        (!WITHIN.replace(true)).then(|| Within)
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        WITHIN.set(false);
    }
}

/// Installs the hook once.
pub fn install(engine: Engine) {
    if ENGINE.set(engine).is_err() {
        return;
    }
    // SAFETY: the library is loaded by the only thread of the process; the next hook is kept and called.
    unsafe {
        let _ = NEXT.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

/// Plans made so far are recreated at their next use.
pub fn forget_plans() {
    // SAFETY: marks entries of this process.
    unsafe { pg_sys::ResetPlanCache() }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const std::ffi::c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the arguments are the planner's, and the query is its to change.
    unsafe {
        let mut used = Vec::new();
        if let Some(engine) = ENGINE.get().filter(|e| (e.wanted)())
            && let Some(_within) = Within::enter()
            && !pg_sys::InSecurityRestrictedOperation()
            // What is planned while others work along takes no snapshot of its own.
            && !pg_sys::IsInParallelMode()
            && has_source(engine, query)
        {
            let mut told = Vec::new();
            exchange(engine, query, parameters, &mut told, &mut used);
        }
        let plan = match NEXT.get() {
            Some(Some(next)) => pg_sys::ffi::pg_guard_ffi_boundary(|| next(query, text, options, parameters)),
            _ => pg_sys::standard_planner(query, text, options, parameters),
        };
        // Triggers of tables below the source are a part of why it holds.
        for offer in used {
            for part in &offer.about.parts {
                (*plan).relationOids = pg_sys::list_append_unique_oid((*plan).relationOids, *part);
            }
        }
        plan
    }
}

/// Says of each query of a text that aggregates a table with rollups what it is answered from, or why not. The text is read
/// as the caller reads it; nothing of it is executed.
pub fn explain(text: &str) -> Vec<Told> {
    let mut told = Vec::new();
    let text = c_text(text);
    // SAFETY: parser, analyser and rewriter get a string and a list of types that outlive the trees.
    unsafe {
        let raw = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        for statement in PgList::<pg_sys::RawStmt>::from_pg(raw).iter_ptr() {
            let (mut types, mut count) = (std::ptr::null_mut(), 0);
            let queries = pg_sys::pg_analyze_and_rewrite_varparams(
                statement,
                text.as_ptr(),
                &mut types,
                &mut count,
                std::ptr::null_mut(),
            );
            for query in PgList::<pg_sys::Query>::from_pg(queries).iter_ptr() {
                if let Some(engine) = ENGINE.get()
                    && let Some(_within) = Within::enter()
                {
                    exchange(engine, query, std::ptr::null_mut(), &mut told, &mut Vec::new());
                }
            }
        }
    }
    told
}

/// How a walk goes on from a query.
enum Walk {
    /// Into it.
    In,
    /// Past it.
    Past,
    /// No further.
    End,
}

/// Shows the queries of a statement to `see`, each before those inside it; true if that has ended the walk.
///
/// # Safety
/// `query` is an analysed statement.
unsafe fn each_query(query: *mut pg_sys::Query, see: &mut dyn FnMut(*mut pg_sys::Query) -> Walk) -> bool {
    unsafe extern "C-unwind" fn visit(node: Node, see: *mut std::ffi::c_void) -> bool {
        if node.is_null() {
            return false;
        }
        // SAFETY: the context is that below; the tag says what the node is.
        unsafe {
            if (*node).type_ != pg_sys::NodeTag::T_Query {
                return pg_sys::expression_tree_walker(node, Some(visit), see);
            }
            let q = node.cast::<pg_sys::Query>();
            match (*see.cast::<&mut dyn FnMut(*mut pg_sys::Query) -> Walk>())(q) {
                Walk::In => pg_sys::query_tree_walker(q, Some(visit), see, 0),
                Walk::Past => false,
                Walk::End => true,
            }
        }
    }
    let mut see = see;
    // SAFETY: the caller vouches for the statement; the context outlives the walk.
    unsafe { visit(query.cast(), (&raw mut see).cast()) }
}

/// Whether a query reads a relation for which `holds`.
///
/// # Safety
/// `q` is an analysed query.
unsafe fn reads(q: *mut pg_sys::Query, holds: impl Fn(&pg_sys::RangeTblEntry) -> bool) -> bool {
    // SAFETY: the caller vouches for the query.
    unsafe { PgList::<pg_sys::RangeTblEntry>::from_pg((*q).rtable).iter_ptr().any(|e| holds(&*e)) }
}

/// Whether any query of a statement reads a table that has rollups.
///
/// # Safety
/// `query` is an analysed statement.
unsafe fn has_source(engine: &Engine, query: *mut pg_sys::Query) -> bool {
    let is_source =
        |e: &pg_sys::RangeTblEntry| e.rtekind == pg_sys::RTEKind::RTE_RELATION && (engine.is_source)(e.relid);
    // SAFETY: the caller vouches for the statement.
    unsafe { each_query(query, &mut |q| if reads(q, is_source) { Walk::End } else { Walk::In }) }
}

/// Exchanges in a statement what can be.
///
/// # Safety
/// `top` is analysed, and the caller's to change; the parameters are those of its planning.
unsafe fn exchange(
    engine: &Engine,
    top: *mut pg_sys::Query,
    parameters: pg_sys::ParamListInfo,
    told: &mut Vec<Told>,
    used: &mut Vec<Rc<Offer>>,
) {
    // SAFETY: the queries are those of the statement, each found once; what is put into one is not looked into.
    unsafe {
        let mut all = Vec::new();
        queries(engine, top, &mut all);
        let of_all = refusal::of_statement(&*top, &all, engine);
        // Those inside others first, since of what is exchanged around them they are copies.
        let first = told.len();
        for typed in all.into_iter().rev() {
            #[cfg(feature = "pg18")]
            grouped::inline_keys(engine, typed);
            let flat = match views::flat(typed, engine) {
                Ok(flat) => flat,
                Err((source, why)) => {
                    told.push(Told { source, from: None, why: Some(of_all.clone().unwrap_or(why)) });
                    continue;
                }
            };
            let q = flat.unwrap_or(typed);
            let Some((rt, source)) = refusal::candidate(&*q, engine) else { continue };
            let why = match of_all.clone().or_else(|| refusal::of_query(&*q, rt)) {
                Some(why) => why,
                None => match fit::try_offers(engine, &mut *q, rt, source, parameters) {
                    Ok(found) => {
                        if flat.is_some() {
                            typed.copy_from_nonoverlapping(q, 1);
                        }
                        let about = &found.offer.about;
                        let level = found.levels.last().map(|n| about.levels[*n].name.clone());
                        told.push(Told { source, from: Some((about.name.clone(), level)), why: None });
                        used.push(found.offer);
                        continue;
                    }
                    Err(why) => why,
                },
            };
            told.push(Told { source, from: None, why: Some(why) });
        }
        told[first..].reverse();
    }
}

/// The queries of a statement, except for those of live views.
///
/// # Safety
/// `query` is analysed.
unsafe fn queries(engine: &Engine, query: *mut pg_sys::Query, all: &mut Vec<*mut pg_sys::Query>) {
    let is_live = |e: &pg_sys::RangeTblEntry| e.relid != pg_sys::InvalidOid && (engine.is_live)(e.relid);
    // SAFETY: the caller vouches for the statement.
    unsafe {
        each_query(query, &mut |q| {
            if reads(q, is_live) {
                return Walk::Past;
            }
            all.push(q);
            Walk::In
        });
    }
}

/// The moment from which on buckets may be used, as far as it is known now; the arguments of `in_step_from` for what is
/// not.
pub fn since(all: &[Since]) -> (Option<i64>, Vec<(i64, Option<String>)>) {
    let moments = all.iter().filter_map(|s| match s {
        Since::Moment(at) => Some(*at),
        _ => None,
    });
    let asked = all.iter().filter_map(|s| match s {
        Since::Session(step, zone) => Some((*step, zone.clone())),
        _ => None,
    });
    (moments.max(), asked.collect())
}

/// From when on the days of a zone follow each other, or its hours are in step.
pub fn zone_since(zone: &str, step: Option<i64>) -> Option<i64> {
    let zone = zones::Zone::named(zone)?;
    match step.map_or_else(|| zone.days_in_order(), |step| zone.in_step(step)) {
        zones::NEVER => None,
        at => Some(at),
    }
}

/// The name of a relation's schema.
pub fn schema_of(relation: pg_sys::Oid) -> String {
    // SAFETY: look-ups in the catalog, which give NULL where there is none.
    unsafe { string(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation))) }
}
