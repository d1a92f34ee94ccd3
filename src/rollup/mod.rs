//! Rollups: the SQL functions of schema `rollup`. A SELECT becomes a plan (`definition`, with the merge rules of
//! `rules`), the plan becomes SQL (`sql`), is run (`run`) and lets old rows go (`expire`).
use crate::pg::xact::{self, ActingAs};
use crate::pg::{jsonb::Jsonb, v1::Call};
use caller::{as_owner, locked, owned, required};
use error::Result;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::prelude::*;

mod add_level;
mod adopt;
mod again;
mod ahead;
mod anew;
mod archive;
mod arrange;
mod arrival;
mod as_made;
pub mod ask;
pub mod attempt;
mod backlog;
mod batch;
mod beside;
mod called;
mod caller;
mod carried;
pub mod catalog;
mod change;
mod changes;
mod check;
pub mod citus;
mod clock;
mod command;
mod comments;
mod copied;
mod create;
mod deferred;
mod definition;
pub mod diagnose;
mod differences;
mod drafted;
mod drop;
pub mod error;
mod evolve;
pub mod expire;
mod follow;
mod gone;
pub mod grid;
mod guard;
pub mod history;
mod holes;
mod identity;
mod late;
mod leaving;
mod left_out;
mod levels;
mod live;
mod live_sql;
mod long;
mod lost;
mod maps;
mod mend;
mod merged;
mod moved;
mod names;
mod naming;
mod newcomers;
mod notify;
pub mod old_partitions;
mod one_server;
mod options;
pub mod partition;
pub mod patience;
mod place;
mod progress;
mod range;
mod reach;
mod rebase;
mod records;
mod recreated;
mod relocate;
mod removal;
mod renamed;
pub mod retention;
mod rewrite;
mod rule_record;
mod rules;
pub mod run;
mod series;
mod session;
pub mod settings;
mod source;
mod state;
mod staying;
mod strangers;
pub mod sweep;
mod switched;
mod time_key;
mod trust;
mod unlogged;
mod unwatched;
mod views;
pub mod waiting;
mod watch;
mod written;

/// Called once when the library is loaded: registers the settings.
pub fn init() {
    backlog::init();
    batch::init();
    citus::gather::init();
    citus::commit::init();
    if crate::pg::node::citus_loaded() {
        crate::pg::split::install(|table| citus::place(table).is_ok_and(|place| place.is_some()));
    }
    crate::pg::buckets::install();
    crate::pg::executing::install();
    guard::init();
    arrival::init();
    lost::init();
    rewrite::init();
}

crate::v1!(rollup_stamp, stamp);
crate::v1!(rollup_flush_log, flush_log);

fn flush_log(_: &mut Call) -> pg_sys::Datum {
    crate::pg::node::flush_log();
    pg_sys::Datum::from(true)
}

fn stamp(_: &mut Call) -> pg_sys::Datum {
    pg_sys::Datum::from(xact::own_transaction_id() + citus::stamp_base())
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn rollup_create(
    name: Option<&str>,
    query: Option<&str>,
    every: Option<Interval>,
    coarser: Option<Jsonb>,
    timezone: Option<&str>,
    joins: Option<&str>,
    on_change: Option<&str>,
    into: Option<&str>,
    backfill: Option<bool>,
    if_not_exists: Option<bool>,
    replace: Option<bool>,
    notify: Option<bool>,
) -> Result<i64> {
    let names_levels = coarser.is_some();
    let coarser = add_level::named(coarser)?;
    let again = options::Again::of(required(if_not_exists, "if_not_exists")?, required(replace, "replace")?)?;
    let joins = options::Joining::parse(joins)?;
    let timezone = required(timezone, "timezone")?.to_string();
    let on_change = watch::OnChange::parse(required(on_change, "on_change")?)?;
    let options = options::Options {
        every,
        coarser,
        names_levels,
        again,
        timezone,
        joins,
        on_change,
        into: into.map(str::to_string),
        backfill: required(backfill, "backfill")?,
        notify: required(notify, "notify")?,
        whole: None,
    };
    let (name, query) = (required(name, "name")?, required(query, "query")?);
    if let Some(every) = &options.every {
        clock::check_every(every)?;
    }
    patience::patiently(&format!("rollup {name}"), || again::create(name, query, options))
}

#[pg_extern(sql = false)]
fn rollup_run_source(source: pg_sys::Oid) -> Result<i64> {
    run::run_source(source)
}

#[pg_extern(sql = false)]
fn rollup_work_off(name: &str) -> Result<i64> {
    let d = owned(name)?;
    run::naming(&d, || run::run_one(d.id, run::HowMuch::Piece))?;
    backlog::rest(d.id)
}

#[pg_extern(sql = false)]
fn rollup_rebase(source: pg_sys::Oid) -> Result<()> {
    rebase::by_hand(source)
}

#[pg_extern(sql = false)]
fn rollup_run_due() -> Result<i64> {
    attempt::run_due()
}

#[pg_extern(sql = false)]
fn rollup_retain(
    relation: Option<pg_sys::Oid>,
    keep: Option<Interval>,
    time_column: Option<&str>,
    timezone: Option<&str>,
    archive: Option<pg_sys::Oid>,
) -> Result<()> {
    let relation = required(relation, "relation")?;
    if let Some(keep) = &keep {
        clock::check_keep(keep)?;
    }
    let what = format!("retention of table {}", crate::pg::deparse::shown_name(relation));
    patience::patiently(&what, || {
        let archive = |name: &str, owner| archive::signature(archive, relation, name, owner);
        retention::retain(relation, keep, time_column, timezone, archive)
    })
}

#[pg_extern(sql = false)]
fn rollup_expire(relation: pg_sys::Oid, dry_run: bool, force: bool) -> Result<i64> {
    expire::expire(relation, dry_run, force)
}

#[pg_extern(sql = false)]
fn rollup_partition(
    relation: Option<pg_sys::Oid>,
    width: Option<Interval>,
    ahead: Option<Interval>,
    timezone: Option<&str>,
) -> Result<i64> {
    let (relation, timezone) = (required(relation, "relation")?, required(timezone, "timezone")?);
    if let Some(width) = &width {
        clock::check_partitions(width, ahead.as_ref())?;
    }
    let what = format!("a partition of {}", crate::pg::deparse::shown_name(relation));
    patience::patiently(&what, || partition::partition(relation, width, ahead, timezone))
}

fn set_state(name: &str, state: &str) -> Result<()> {
    let d = owned(name)?;
    let _acting = ActingAs::catalog();
    catalog::execute("UPDATE rollup.definition SET state = $2 WHERE id = $1", &[d.id.into(), state.into()])
}

#[pg_extern(sql = false)]
fn rollup_pause(name: &str) -> Result<()> {
    set_state(name, "paused")
}

#[pg_extern(sql = false)]
fn rollup_resume(name: &str) -> Result<()> {
    set_state(name, "active")?;
    attempt::forgive(owned(name)?.id)
}

#[pg_extern(sql = false)]
fn rollup_drop(name: &str, keep_data: bool, if_exists: bool) -> Result<()> {
    if if_exists && caller::skips(&format!("rollup {name}"), catalog::named(name)?.is_some()) {
        return Ok(());
    }
    drop::drop(&owned(name)?, keep_data)
}

#[pg_extern(sql = false)]
fn rollup_explain(name: &str) -> Result<String> {
    let d = owned(name)?;
    let _acting = as_owner(&d);
    run::place_of(&d).explain(&d)
}

#[pg_extern(sql = false)]
fn rollup_move(name: &str, relation: pg_sys::Oid) -> Result<()> {
    copied::move_to(&locked(name)?, relation)
}

#[pg_extern(sql = false)]
fn rollup_add_level(
    name: Option<&str>,
    level: Option<&str>,
    width: Option<Interval>,
    if_not_exists: Option<bool>,
    keys: Option<Vec<Option<String>>>,
) -> Result<()> {
    let (Some(name), Some(level), Some(width), Some(if_not_exists)) = (name, level, width, if_not_exists)
    else {
        return Ok(());
    };
    let d = locked(name)?;
    let width: String = catalog::one("SELECT $1::pg_catalog.text", &[width.into()])?;
    let keys = keys.map(|keys| keys.into_iter().flatten().collect());
    let shape = levels::meant(&d, levels::Shape { width, keys })?;
    if if_not_exists && again::has_level(&d, level, &shape)? {
        return Ok(());
    }
    patience::patiently(&format!("level {level}"), || {
        let _acting = as_owner(&d);
        add_level::add(&d, &d.plan()?, level, &shape, levels::With::Rollup)
    })
}

#[pg_extern(sql = false)]
fn rollup_drop_level(name: &str, level: &str, keep_data: bool, if_exists: bool) -> Result<()> {
    let d = locked(name)?;
    if if_exists && caller::skips(&format!("level {level} of rollup {name}"), levels::is_one(&d, level)?) {
        return Ok(());
    }
    let _acting = as_owner(&d);
    add_level::drop(&d, level, keep_data)
}

#[pg_extern(sql = false)]
fn rollup_add_column(
    name: &str,
    column: &str,
    expression: &str,
    backfill: bool,
    if_not_exists: bool,
) -> Result<()> {
    if if_not_exists && again::has_column(&locked(name)?, column, expression)? {
        return Ok(());
    }
    evolve::settled(|| locked(name), backfill, |d| evolve::add_column(d, column, expression, backfill))
}

#[pg_extern(sql = false)]
fn rollup_drop_column(name: &str, column: &str, if_exists: bool) -> Result<()> {
    let d = locked(name)?;
    let there = d.plan()?.seen().column(column).is_some_and(|c| !c.hidden);
    if if_exists && caller::skips(&format!("column {column} of rollup {name}"), there) {
        return Ok(());
    }
    let _acting = as_owner(&d);
    evolve::drop_column(&d, column)
}

#[pg_extern(sql = false)]
fn rollup_replace(name: &str, query: &str, backfill: bool) -> Result<()> {
    evolve::settled(|| locked(name), backfill, |d| evolve::replace(d, query, backfill))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn rollup_nodes(
    name: &str,
) -> Result<
    TableIterator<
        'static,
        (
            name!(group_id, i32),
            name!(node, Option<String>),
            name!(seen_xmax, Option<i64>),
            name!(open, Option<i32>),
            name!(waits_for, Option<String>),
        ),
    >,
> {
    let d = catalog::by_name(name)?;
    if !catalog::is_monitor()? {
        catalog::check_owner(d.owner, &format!("rollup {name}"))?;
    }
    let found = match d.state.nodes() {
        Some(nodes) => citus::status::nodes(nodes, d.state.candidate.as_ref(), d.offset)?,
        None => Vec::new(),
    };
    Ok(TableIterator::new(found))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn rollup_rest(
    id: i64,
) -> Result<
    TableIterator<
        'static,
        (name!(first, i64), name!(last, i64), name!(before, Option<TimestampWithTimeZone>)),
    >,
> {
    Ok(TableIterator::new(citus::view::rest(id)?))
}

#[pg_extern(sql = false)]
fn rollup_unwatched(
    id: i64,
    table: pg_sys::Oid,
    minds: bool,
    holds: bool,
    subscribed: bool,
) -> Option<String> {
    unwatched::told(id, table, &unwatched::Source { minds, holds, subscribed })
}

#[pg_extern(sql = false)]
fn rollup_is_free(relation: pg_sys::Oid) -> Option<bool> {
    crate::pg::zonemap::look::is_free(relation)
}
