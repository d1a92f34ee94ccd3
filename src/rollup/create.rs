//! rollup.create, rollup.drop: everything in the caller's transaction. The query is read as the caller reads it; tables,
//! views and functions are made as the owner of the source, who then owns the rollup; the catalog rows are written by
//! the extension itself. An error leaves nothing behind.
use super::adopt;
use super::catalog::{self, Definition, Must};
use super::citus;
use super::error::{Result, fail, internal};
use super::options::{Joining, Options};
use super::source::{self, Source};
use super::views::{self, Names};
use super::watch::{self, OnChange};
use super::{add_level, clock, comments::Said, definition, drafted, follow, naming, trust};
use crate::pg::deparse;
use crate::pg::query::Select;
use crate::pg::xact;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Followed, Joins, Plan, State, from_clause, statements};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// A rollup that is about to be made: nothing is written yet.
struct Draft<'a> {
    options: &'a Options,
    text: &'a str,
    source_oid: pg_sys::Oid,
    source: Source,
    /// Where the source lies in a Citus cluster.
    place: Option<citus::Place>,
    plan: Plan,
    /// The name in the catalog.
    name: String,
    /// The rollup's table and its live view, qualified and quoted.
    target: String,
    view: String,
    /// The owner of that table.
    owner: pg_sys::Oid,
}

/// Defines a rollup; returns its id.
pub fn create(name: &str, text: &str, options: Options) -> Result<i64> {
    check_isolation()?;
    let read = drafted::reading(|| draft(name, text, &options))?;
    let _drafted = read.begin(&read.read.name, read.read.owner, trust::pieces(&read.read.plan));
    let mut draft = read.read;
    // From here on what the owners of the tables define may be planned and run: as they, whoever calls.
    let of_source = xact::ActingAs::role(draft.source.owner);
    let key = match &draft.place {
        Some(place) => citus::create::key(place, &draft.plan, &draft.source.qualified())?,
        None => None,
    };
    prepare_source(&draft)?;
    let of_target = xact::ActingAs::role(draft.owner);
    let said = Said::of_others(&draft.target)?;
    make_table(&mut draft, key.as_deref())?;
    let id = insert_definition(&draft)?;
    begin(&draft, id)?;
    let source = draft.source.qualified();
    let names = Names { source: &source, target: &draft.target, view: None, shown: None };
    views::make(draft.place.is_some(), &draft.plan, names, None, id)?;
    said.again(&draft.plan, &source, &draft.target, &draft.view, None)?;
    say_what_the_table_lacks(&draft.plan, &draft.target, &draft.view);
    if !options.coarser.is_empty() {
        let d = locked(id)?;
        for (level, shape) in &options.coarser {
            add_level::add(&d, &draft.plan, level, shape, super::levels::With::NewRollup)?;
        }
    }
    super::written::note(id, &draft.plan)?;
    std::mem::drop(of_target);
    drafted::check_stored(id, &draft.name, draft.owner)?;
    super::switched::arrange(draft.source_oid)?;
    std::mem::drop(of_source);
    super::beside::create(draft.source_oid)?;
    Ok(id)
}

/// Refuses a transaction whose snapshot may be older than what others have committed.
pub fn check_isolation() -> Result<()> {
    if !xact::keeps_one_snapshot() {
        return Ok(());
    }
    fail(
        PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
        "rollup.create needs a READ COMMITTED transaction",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
    )
}

/// Reads the query, and refuses what cannot be rolled up, is not the caller's, or has a name that is taken.
fn draft<'a>(name: &str, text: &'a str, options: &'a Options) -> Result<Draft<'a>> {
    let timezone = options.timezone.as_str();
    clock::check_timezone(timezone)?;
    let mut select = definition::analyse(text, timezone)?;
    check_source(&select, options.joins != Joining::Refuse)?;
    refuse_rollups(select.source, options.on_change)?;
    let place = citus::place(select.source)?;
    if let Some(place) = &place {
        citus::create::prepare(place, &mut select)?;
        citus::create::refuse_options(options)?;
    }
    let (select, followed) = followed(select, options, place.is_some())?;
    let source = source::describe(select.source)?;
    let from = from_clause(select.joins.as_ref(), &source.qualified(), &select.alias);
    let mut plan = definition::plan(&select, &from, timezone)?;
    if place.is_none() {
        definition::count_rows(&mut plan, &from, timezone)?;
    }
    plan.followed = followed;
    plan.whole = options.whole.clone();
    if options.on_change == OnChange::Recompute {
        watch::check_followed(select.source, &plan)?;
        plan.follows = Some(timezone.to_string());
    }
    catalog::check_owner(Some(source.owner), &format!("table {}", source.qualified()))?;
    super::unlogged::check_source(select.source, options.on_change)?;
    let (schema, table) = naming::split(name, &source.schema)?;
    let name = naming::name_in_catalog(&schema, &table, &source.schema)?;
    let ((target, view), owner) = match &options.into {
        None => (naming::refuse_taken(&schema, &table, plan.followed.is_some())?, source.owner),
        Some(into) => {
            let names = names_beside(into, &source)?;
            let owner = adopt::check_table(&names.0)?;
            (names, owner)
        }
    };
    Ok(Draft { options, text, source_oid: select.source, source, place, plan, name, target, view, owner })
}

/// The query by which rows are counted, and the lookup tables that are joined to what it counts.
fn followed(select: Select, options: &Options, on_nodes: bool) -> Result<(Select, Option<Followed>)> {
    if options.joins != Joining::Follow || select.joins.is_none() {
        return Ok((select, None));
    }
    let refuse = |what: &str, hint: &str| fail(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, what, hint);
    if on_nodes {
        return refuse(
            "lookup tables of a table that Citus keeps cannot be followed",
            "joins => 'snapshot' joins each row to reference tables as they are when it is counted.",
        );
    }
    if options.into.is_some() {
        return refuse(
            "a table that was there before cannot be the one of a rollup that follows lookup tables",
            "Leave INTO_TABLE out: the rollup makes its own table, under its name and _keys.",
        );
    }
    follow::split(select, &options.timezone)
}

/// Gives the source its stamp column and zone map, as its owner.
fn prepare_source(draft: &Draft) -> Result<()> {
    let (options, source, relation) = (draft.options, &draft.source, draft.source_oid);
    let is_new = source::add_stamp(source)?;
    if is_new {
        super::identity::tell_publishers(relation, &source.qualified())?;
    } else if draft.place.is_none() {
        super::maps::settle(relation, source)?;
    }
    if options.on_change != OnChange::Ignore || draft.place.is_some() && !options.backfill {
        // Whoever has changed rows before has committed; whoever will finds the triggers.
        source::lock_exclusively(source)?;
    }
    source::register(relation, &draft.plan)?;
    super::maps::add_index(relation, source, &draft.plan)
}

/// Makes the rollup's table, or has the one that is there fit the plan; `key` distributes it.
fn make_table(draft: &mut Draft, key: Option<&str>) -> Result<()> {
    let (source, target) = (draft.source.qualified(), &draft.target);
    match &draft.options.into {
        None => catalog::define(&statements::create_table(&draft.plan, target))?,
        Some(_) => adopt::adopt(&mut draft.plan, &source, target, draft.options.backfill)?,
    }
    super::identity::give(target)?;
    let Some(place) = &draft.place else { return Ok(()) };
    match &draft.options.into {
        None => citus::create::distribute(place, key, &source, target),
        Some(_) => citus::create::check_adopted(place, key, &source, target),
    }
}

/// Says where counting begins.
fn begin(draft: &Draft, id: i64) -> Result<()> {
    match (&draft.place, draft.options.backfill) {
        (Some(_), backfill) => citus::create::begin(id, locked(id)?.offset, !backfill),
        (None, true) => Ok(()),
        // The rows that are there are taken as counted.
        (None, false) => {
            let d = locked(id)?;
            super::state::store(id, &State::at(catalog::current_frontier(true, d.offset)?), 0)
        }
    }
}

fn locked(id: i64) -> Result<Definition> {
    catalog::lock(id)?.ok_or_else(|| internal("the rollup is not there"))
}

/// A table that is there, and the live view that it gets.
fn names_beside(into: &str, source: &Source) -> Result<(String, String)> {
    let (schema, table) = naming::split(into, &source.schema)?;
    let view = format!("{}.{}", ident(&schema), ident(&format!("{table}_live")));
    naming::refuse_existing(&view)?;
    Ok((format!("{}.{}", ident(&schema), ident(&table)), view))
}

/// Refuses what is no table that rows are added to, and joins that were not asked for.
pub fn check_source(select: &Select, joins: bool) -> Result<()> {
    let name = crate::pg::deparse::shown_name(select.source);
    let wrong = |what: String, hint: &str| fail(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, what, hint);
    if !['r', 'p'].contains(&select.relkind) {
        return wrong(format!("{name} is not a table"), "Write the query over the table itself.");
    }
    if select.partition {
        return wrong(
            format!("{name} is a partition"),
            "Write the query over the partitioned table: rows of every partition count.",
        );
    }
    if select.temporary {
        return wrong(format!("{name} is temporary"), "The worker cannot see it: use a table that stays.");
    }
    let passing =
        select.joins.iter().flat_map(|j| &j.tables).find(|table| deparse::is_temporary(table.id.into()));
    if let Some(table) = passing {
        let table = crate::pg::deparse::shown_name(table.id.into());
        return wrong(format!("{table} is temporary"), "The worker cannot see it: join a table that stays.");
    }
    if select.joins.is_some() && !joins {
        return fail(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("the query joins {name} to other tables"),
            "joins => 'follow' joins lookup tables when the rollup is read, and follows their changes; joins => 'snapshot' joins each row to what they hold when it is counted.",
        );
    }
    Ok(())
}

/// Refuses to roll up a table of a rollup without following its changes: its rows change with every run.
fn refuse_rollups(source: pg_sys::Oid, on_change: OnChange) -> Result<()> {
    if on_change == OnChange::Recompute {
        return Ok(());
    }
    let _acting = xact::ActingAs::catalog();
    let found = catalog::read(
        "WITH RECURSIVE t (oid) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN t ON i.inhparent = t.oid) \
         SELECT d.name, d.relation IN (SELECT t.oid FROM t) FROM rollup.definition d WHERE d.relation IN (SELECT t.oid FROM t) \
         OR EXISTS (SELECT FROM rollup.level l JOIN t ON t.oid = l.relation WHERE l.definition = d.id) ORDER BY d.id LIMIT 1",
        &[source.into()],
        |row| Ok((row.must::<String>(1)?, row.get::<bool>(2)? == Some(true))),
    )?;
    let Some((rollup, own)) = found.into_iter().next() else { return Ok(()) };
    fail(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!(
            "{} is {} of rollup {rollup}, whose runs change rows that are there",
            crate::pg::deparse::shown_name(source),
            if own { "the table" } else { "a level" }
        ),
        format!(
            "on_change => 'recompute' follows the changes. Longer buckets alone are a level: SELECT rollup.add_level({}, 'name', '1 day').",
            literal(&rollup)
        ),
    )
}

fn say_what_the_table_lacks(plan: &Plan, target: &str, view: &str) {
    for c in plan.columns.iter().filter(|c| !c.in_table()) {
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("column {} is in {view} only, not in {target}: its expression is not immutable", c.name)
        );
    }
}

fn insert_definition(draft: &Draft) -> Result<i64> {
    let (options, plan) = (draft.options, &draft.plan);
    let oids = |joins: &Joins| joins.tables.iter().map(|table| table.id.into()).collect::<Vec<pg_sys::Oid>>();
    let joined = plan.joins.as_ref().or(plan.followed.as_ref().map(|f| &f.from)).map(oids);
    let plan = serde_json::to_string(plan).map_err(internal)?;
    let adopted = options.into.is_some();
    let whole = options.backfill && !adopted;
    let _acting = xact::ActingAs::catalog();
    catalog::write(
        "INSERT INTO rollup.definition (name, relation, source, query, plan, timezone, every, on_change, adopted, joined, whole, notify, system_id) \
         SELECT $1, $2::pg_catalog.regclass, $3, $4, $5::pg_catalog.jsonb, $6, $7, $8, $9, $10::pg_catalog.regclass[], $11, $12, system_identifier \
         FROM pg_catalog.pg_control_system() RETURNING id",
        &[
            draft.name.as_str().into(),
            draft.target.as_str().into(),
            draft.source_oid.into(),
            draft.text.into(),
            plan.into(),
            options.timezone.as_str().into(),
            options.every.into(),
            options.on_change.text().into(),
            adopted.into(),
            joined.into(),
            whole.into(),
            options.notify.into(),
        ],
        |row| row.must::<i64>(1),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| internal("no id"))
}
