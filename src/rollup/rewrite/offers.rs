//! What the rollups of a table offer to statements over it, kept for the session until word comes that it may be void.
//!
//! Word comes as PostgreSQL's own, of relations: of the table, of all below it, of the rollup's tables and its live view,
//! and of the catalog of rollups, which triggers there send when a definition changes. It is read as committed now; what a
//! statement's own snapshot sees is compared by the statement (see `text`).
use super::super::catalog::{self, Definition, Must};
use super::super::error::{Result, fail};
use super::super::{maps, unwatched};
use super::text::{self, LevelMade};
use crate::pg::deparse::shown_name;
use crate::pg::plan::called::is_superuser;
use crate::pg::plan::offer::{About, Grid, Offer};
use crate::pg::plan::{Asked, Offers};
use crate::pg::reach::TimeType;
use crate::pg::security;
use crate::pg::watched;
use crate::pg::xact::{ActingAs, accept_invalidations, has_rights_of, in_subtransaction};
use hll_rollup::{Kind, Plan, statements};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// What is needed of a rollup to write the text of a sub-query.
struct Known {
    plan: Plan,
    source: String,
    table: String,
    generation: i64,
    clear_from: i64,
    levels: Vec<LevelMade>,
    history: bool,
}

#[derive(Default)]
struct Kept {
    epoch: u64,
    sources: Option<HashSet<pg_sys::Oid>>,
    live: HashSet<pg_sys::Oid>,
    offers: HashMap<(pg_sys::Oid, bool), Offers>,
    known: HashMap<(i64, bool), Rc<Known>>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Forgets what is void. Word is asked for first: a transaction that has its locks already would hear of a level that was dropped
/// when the statement that names it is read.
fn settle() {
    accept_invalidations();
    let epoch = watched::epoch();
    let void = KEPT.with_borrow_mut(|kept| {
        if kept.epoch == epoch {
            return None;
        }
        // What lies in memory of PostgreSQL's is freed outside of the borrow.
        Some(std::mem::replace(kept, Kept { epoch, ..Kept::default() }))
    });
    if void.is_some() {
        watched::clear();
    }
}

/// The catalog of rollups, and the extension's schemas; None where the extension is not in this database.
struct Catalog {
    tables: Vec<pg_sys::Oid>,
    ours: pg_sys::Oid,
}

fn catalog_tables() -> Result<Option<Catalog>> {
    let found = catalog::read(
        "SELECT e.extnamespace, ARRAY(SELECT c.oid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND c.relkind = 'r') FROM pg_catalog.pg_extension e WHERE e.extname = 'hll'",
        &[],
        |row| Ok(row.get::<pg_sys::Oid>(1)?.zip(row.get::<Vec<pg_sys::Oid>>(2)?)),
    )?;
    Ok(found.into_iter().flatten().next().map(|(ours, tables)| Catalog { tables, ours }))
}

fn load_sources() -> Result<(HashSet<pg_sys::Oid>, HashSet<pg_sys::Oid>)> {
    let _acting = ActingAs::catalog();
    let Some(catalog_of) = catalog_tables()?.filter(|c| !c.tables.is_empty()) else {
        return Ok(Default::default());
    };
    catalog_of.tables.iter().for_each(|table| watched::watch(*table));
    let found = catalog::read(
        "SELECT d.source::pg_catalog.oid, d.live::pg_catalog.oid, ARRAY(SELECT l.live::pg_catalog.oid FROM rollup.level l WHERE l.definition = d.id AND l.live IS NOT NULL) FROM rollup.definition d",
        &[],
        |row| Ok((row.get::<pg_sys::Oid>(1)?, row.get::<pg_sys::Oid>(2)?, row.must::<Vec<pg_sys::Oid>>(3)?)),
    )?;
    let (mut sources, mut live) = (HashSet::new(), HashSet::new());
    for (source, view, of_levels) in found {
        sources.extend(source);
        live.extend(view);
        live.extend(of_levels);
    }
    Ok((sources, live))
}

fn with_sources<T>(f: impl FnOnce(&HashSet<pg_sys::Oid>, &HashSet<pg_sys::Oid>) -> T) -> T {
    settle();
    if KEPT.with_borrow(|kept| kept.sources.is_none()) {
        let (sources, live) =
            watched::as_committed_now(load_sources).unwrap_or_else(super::super::error::raise);
        KEPT.with_borrow_mut(|kept| (kept.sources, kept.live) = (Some(sources), live));
    }
    KEPT.with_borrow(|kept| {
        let none = HashSet::new();
        f(kept.sources.as_ref().unwrap_or(&none), &kept.live)
    })
}

/// A table that has rollups.
pub fn is_source(table: pg_sys::Oid) -> bool {
    // Tables of PostgreSQL itself have none, and are read while others are looked up.
    table.to_u32() >= pg_sys::FirstNormalObjectId && with_sources(|sources, _| sources.contains(&table))
}

/// A live view of a rollup.
pub fn is_live(view: pg_sys::Oid) -> bool {
    view.to_u32() >= pg_sys::FirstNormalObjectId && with_sources(|_, live| live.contains(&view))
}

/// What a table's rollups offer; with `history`, also those that know more than the table.
pub fn offers(source: pg_sys::Oid, history: bool) -> Offers {
    settle();
    if let Some(known) = KEPT.with_borrow(|kept| kept.offers.get(&(source, history)).cloned()) {
        return known;
    }
    let (made, known) =
        watched::as_committed_now(|| make(source, history)).unwrap_or_else(super::super::error::raise);
    let made: Offers = Rc::new(made);
    KEPT.with_borrow_mut(|kept| {
        kept.offers.insert((source, history), made.clone());
        kept.known.extend(known);
    });
    made
}

type Found = (Vec<std::result::Result<Rc<Offer>, (String, String)>>, Vec<((i64, bool), Rc<Known>)>);

fn make(source: pg_sys::Oid, history: bool) -> Result<Found> {
    let (mut all, mut known) = (Vec::new(), Vec::new());
    let catalog_of = {
        let _acting = ActingAs::catalog();
        catalog_tables()?
    };
    let Some(catalog_of) = catalog_of else { return Ok((all, known)) };
    let parts: Vec<pg_sys::Oid> = maps::tables(source)?.into_iter().filter(|t| *t != source).collect();
    parts.iter().chain([&source]).for_each(|t| watched::watch(*t));
    for d in catalog::of_source(source, false)? {
        // What its owner has made of a rollup does not stop those who read the raw table.
        let found = in_subtransaction(AssertUnwindSafe(|| of_rollup(&d, &catalog_of, &parts, history)));
        match found {
            Ok(Ok((offer, k))) => {
                known.push(((d.id, history), k));
                all.push(Ok(offer));
            }
            Ok(Err(why)) => all.push(Err((d.name.clone(), why))),
            Err(e) if is_of_the_moment(e.code) => return fail(e.code, e.message, "Try again."),
            Err(e) => {
                all.push(Err((d.name.clone(), format!("rollup {} cannot be read: {}", d.name, e.message))))
            }
        }
    }
    Ok((all, known))
}

/// Whether an error says nothing of the rollup: a session that is told to stop, or lacks memory or locks.
fn is_of_the_moment(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    matches!(
        code,
        ERRCODE_QUERY_CANCELED
            | ERRCODE_ADMIN_SHUTDOWN
            | ERRCODE_CRASH_SHUTDOWN
            | ERRCODE_DATABASE_DROPPED
            | ERRCODE_OUT_OF_MEMORY
            | ERRCODE_DISK_FULL
            | ERRCODE_LOCK_NOT_AVAILABLE
            | ERRCODE_T_R_DEADLOCK_DETECTED
    )
}

/// What is asked of the catalog about a rollup besides its definition.
struct Facts {
    generation: i64,
    whole: bool,
    partial: Vec<String>,
    on_change: String,
    adopted: bool,
    relation: pg_sys::Oid,
    live: Option<pg_sys::Oid>,
    plain: bool,
    secured: bool,
    other_times: bool,
}

fn facts(d: &Definition) -> Result<Option<Facts>> {
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT d.generation, d.whole, d.partial, d.on_change, d.adopted, d.relation::pg_catalog.oid, d.live::pg_catalog.oid, c.relkind = 'r', c.relrowsecurity, \
         EXISTS (SELECT FROM rollup.retention r WHERE r.relation = d.source AND r.time_column::pg_catalog.text <> d.plan->>'time_column' \
           OR r.relation = d.relation AND r.time_column::pg_catalog.text <> d.plan->>'time_key') \
         FROM rollup.definition d JOIN pg_catalog.pg_class c ON c.oid = d.relation WHERE d.id = $1",
        &[d.id.into()],
        |row| {
            Ok(Facts {
                generation: row.must(1)?,
                whole: row.must(2)?,
                partial: row.must(3)?,
                on_change: row.must(4)?,
                adopted: row.must(5)?,
                relation: row.must(6)?,
                live: row.get(7)?,
                plain: row.must(8)?,
                secured: row.must(9)?,
                other_times: row.must(10)?,
            })
        },
    )?;
    Ok(found.into_iter().next())
}

type OfRollup = std::result::Result<(Rc<Offer>, Rc<Known>), String>;

fn of_rollup(d: &Definition, catalog_of: &Catalog, parts: &[pg_sys::Oid], history: bool) -> Result<OfRollup> {
    let name = &d.name;
    if d.state.nodes().is_some() {
        return Ok(Err(format!("rollup {name} is of a table that Citus keeps")));
    }
    let lost = || format!("rollup {name} has lost its table");
    let (Some(source), Some(target), Some(owner)) = (&d.source, &d.target, d.owner) else {
        return Ok(Err(lost()));
    };
    let Some(f) = facts(d)? else { return Ok(Err(lost())) };
    watched::watch(f.relation);
    f.live.iter().for_each(|view| watched::watch(*view));
    let plan = d.plan()?;
    super::super::written::check(d)?;
    if let Some(why) = refusal(d, &plan, &f, owner, history)? {
        return Ok(Err(why));
    }
    let (grid, clear_from) = match grid(d, &plan) {
        Ok(grid) => grid,
        Err(why) => return Ok(Err(why)),
    };
    let (levels, made) = super::coarser::usable(d, &plan, source, grid.zoned)?;
    levels.iter().for_each(|level| watched::watch(level.target));
    let about = About {
        id: d.id,
        name: name.clone(),
        owner,
        source: d.source_oid,
        target: f.relation,
        raw: statements::aggregate_source(&plan, source, "true", None, ""),
        merged: text::merged(&plan, target),
        keys: plan.keys().map(|c| c.name.clone()).collect(),
        values: values(&plan, &f.partial),
        time_key: plan.time_key.clone(),
        time_column: plan.time_column.clone(),
        grid,
        levels,
        catalog: catalog_of.tables.clone(),
        ours: catalog_of.ours,
        parts: parts.to_vec(),
    };
    let known = Known {
        source: source.clone(),
        table: target.clone(),
        generation: f.generation,
        clear_from,
        levels: made,
        history,
        plan,
    };
    Ok(Offer::of(about).map(|offer| (Rc::new(offer), Rc::new(known))))
}

/// Why a rollup answers nothing, whatever is asked.
fn refusal(
    d: &Definition,
    plan: &Plan,
    f: &Facts,
    owner: pg_sys::Oid,
    history: bool,
) -> Result<Option<String>> {
    let name = &d.name;
    let reasons = [
        (plan.joins.is_some(), "joins other tables, whose changes it does not follow"),
        (!d.same_cluster, "was restored from another cluster, and has not been computed again yet"),
        (
            !history && f.on_change == "ignore",
            "does not follow changes of raw rows: it is made with on_change 'ignore'",
        ),
        (!history && f.adopted, "has taken a table that was there, of which it is not known what it holds"),
        (
            !history && !f.whole,
            "does not hold all raw rows: it was made without backfill, or changes went unseen; SELECT rollup.rebuild(name) puts that right",
        ),
        (f.live.is_none(), "has no live view, by which names are followed"),
        (!f.plain || f.secured, "has a table with partitions or row-level security"),
        (f.other_times, "expires by another column than its time"),
        (!plan.plain_key, "has a time key of which it is not known where its buckets begin"),
    ];
    if let Some((_, why)) = reasons.iter().find(|(there, _)| *there) {
        return Ok(Some(format!("rollup {name} {why}")));
    }
    if !history && let Some(what) = unwatched::unwatched(d.id)? {
        return Ok(Some(format!("rollup {name} is not told of all changes: {what}")));
    }
    if let Some(why) = of_another(d, f.relation)? {
        return Ok(Some(why));
    }
    let readable = may_read(owner, d.source_oid) && may_read(owner, f.relation);
    Ok((!readable).then(|| format!("the owner of rollup {name} may not read its tables")))
}

/// Whether a table of the rollup belongs to a role that could not do the same to the raw table, which the reader has named:
/// where PostgreSQL plans to read a table, it calls what the owner of that table has put into indexes and constraints.
fn of_another(d: &Definition, relation: pg_sys::Oid) -> Result<Option<String>> {
    let levels: Vec<Option<pg_sys::Oid>> = {
        let _acting = ActingAs::catalog();
        catalog::read(
            "SELECT l.relation::pg_catalog.oid FROM rollup.level l WHERE l.definition = $1",
            &[d.id.into()],
            |row| row.get::<pg_sys::Oid>(1),
        )?
    };
    let Some(of_source) = security::owner_of(d.source_oid) else { return Ok(None) };
    let is_other = |table: &pg_sys::Oid| {
        security::owner_of(*table).is_some_and(|of| !is_superuser(of) && !has_rights_of(of, of_source))
    };
    let other = levels.into_iter().flatten().chain([relation]).find(is_other);
    Ok(other.map(|table| {
        format!("table {} of rollup {} belongs to another role than the raw table", shown_name(table), d.name)
    }))
}

/// The buckets of a rollup, and from when on days of their zone follow each other, or hours are in step; or why they
/// are of no use.
fn grid(d: &Definition, plan: &Plan) -> std::result::Result<(Grid, i64), String> {
    let name = &d.name;
    let time = TimeType::of(d.source_oid, &plan.time_column);
    let zoned = match (plan.key_kind(), time) {
        (Some(Kind::Zoned), Some(TimeType::ZONED)) => true,
        (Some(Kind::Local), Some(TimeType::LOCAL)) => false,
        _ => {
            return Err(format!(
                "the buckets of rollup {name} are of another type than {}",
                plan.time_column
            ));
        }
    };
    super::coarser::clear(plan.bucket, zoned, &d.timezone)
        .ok_or_else(|| format!("the clock of {} is not in step with buckets of rollup {name}", d.timezone))
}

/// The values that may be used: those that hold all rows, and are no approximation that depends on the order of merges.
fn values(plan: &Plan, partial: &[String]) -> Vec<String> {
    plan.values()
        .filter(|(c, m)| {
            let bounded = c.expression.contains("jsonb_counter_bounded_agg");
            let lacks = |name: &String| partial.contains(name);
            !bounded && !lacks(&c.name) && !m.companion.as_ref().is_some_and(lacks)
        })
        .map(|(c, _)| c.name.clone())
        .collect()
}

fn may_read(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    crate::pg::security::may_read(table, None, role)
}

/// The text of the sub-query that is asked for.
pub fn sql_of(offer: &Offer, asked: &Asked, history: bool) -> String {
    let key = (offer.about.id, history);
    let Some(k) = KEPT.with_borrow(|kept| kept.known.get(&key).cloned()) else { return String::new() };
    let made = text::Made {
        plan: &k.plan,
        source: &k.source,
        table: &k.table,
        generation: k.generation,
        clear_from: k.clear_from,
        levels: &k.levels,
        history: k.history,
    };
    text::sub_query(&made, offer, asked)
}
