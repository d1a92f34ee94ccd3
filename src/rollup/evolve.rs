//! A rollup changes: columns come and go. Its state row is locked; the table, its levels, their live views and the
//! plan change in the caller's transaction.
use super::catalog::{self, Definition};
use super::citus;
use super::comments::Said;
use super::definition;
use super::error::{Result, fail};
use super::follow;
use super::levels;
use super::newcomers;
use super::range::{self, Range};
use super::session::set_timezone;
use super::views::{self, Names};
use crate::pg::query::{Entry, Select};
use crate::pg::xact::{ActingAs, keeps_one_snapshot};
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Column, Level, Plan, Role, from_clause, keys, statements};
use pgrx::prelude::*;

const WRONG: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;

/// Has a run judge rows that came by another road, before a new column is filled: that takes raw rows for counted whose
/// stamps are merged. None has come unjudged meanwhile, or the caller tries again: who sees the rows sees their notes.
pub fn settled(
    find: impl Fn() -> Result<Definition>,
    backfill: bool,
    fill: impl FnOnce(&Definition) -> Result<()>,
) -> Result<()> {
    let mut d = find()?;
    if backfill && newcomers::wait_now(&d)? {
        if !d.active {
            return fail(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "rows that came by another road wait to be judged by a run of rollup {}, which is paused",
                    d.name
                ),
                format!(
                    "SELECT rollup.resume({0}); SELECT rollup.run({1});",
                    literal(&d.name),
                    literal(d.parts()?.0)
                ),
            );
        }
        {
            let _acting = d.owner.map(ActingAs::role);
            super::run::run_one(d.id, super::run::HowMuch::Piece)?;
        }
        d = find()?;
    }
    fill(&d)?;
    if backfill && newcomers::wait_now(&d)? {
        return fail(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("rows came by another road while a column of rollup {} was filled", d.name),
            "Try again.",
        );
    }
    Ok(())
}

/// Adds a column to a rollup, and with `backfill` fills it from the raw rows that are there.
pub fn add_column(d: &Definition, name: &str, expression: &str, backfill: bool) -> Result<()> {
    let old = d.plan()?;
    let columns = with_column(d, &old, name, expression)?;
    let _acting = d.owner.map(ActingAs::role);
    change(d, &old, columns, backfill)
}

/// The columns of a rollup, whose plan is `old`, with one that is added.
pub fn with_column(d: &Definition, old: &Plan, name: &str, expression: &str) -> Result<Vec<Column>> {
    let (source, _, _) = d.parts()?;
    if old.followed.iter().flat_map(|f| &f.keys).any(|(_, key)| key.name == name) {
        return fail(
            PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            format!("two columns are called {name}"),
            "Name each: expression AS name.",
        );
    }
    let from = old.from_clause(source);
    let keys: Vec<String> = old.keys().map(|c| format!("{} AS {}", c.written, ident(&c.name))).collect();
    let positions: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
    let text = format!(
        "SELECT {}, ({expression}) AS {} FROM {from} GROUP BY {}",
        keys.join(", "),
        ident(name),
        positions.join(", ")
    );
    let mut select = read_for(d, &text)?;
    let _acting = d.owner.map(ActingAs::role);
    citus::create::prepare_again(d, &mut select)?;
    let added = match select.targets.get(keys.len()..) {
        Some([one]) if one.name == name && !matches!(one.entry, Entry::Key { .. }) => one,
        _ => {
            return fail(
                WRONG,
                format!("{expression} is not one expression"),
                "Write what the column is, such as count(*).",
            );
        }
    };
    definition::columns(std::slice::from_ref(added), old.columns.clone(), &from, &d.timezone)
}

/// Reads a text of which a part is the owner's. Names are read as the caller reads them, constants as the owner: of a type whose
/// values are made by code of its owner's, a constant is made where the text is read. All that follows is done as the owner.
fn read_for(d: &Definition, text: &str) -> Result<Select> {
    let _reading = d.owner.map(ActingAs::reader);
    definition::analyse(text, &d.timezone)
}

/// Takes a column away; what other columns are made of stays, hidden.
pub fn drop_column(d: &Definition, name: &str) -> Result<()> {
    let old = d.plan()?;
    match old.seen().column(name) {
        Some(c) if c.is_key() => {
            return fail(
                WRONG,
                format!("column {name} is a group key"),
                "Make another rollup with other keys.",
            );
        }
        Some(c) if !c.hidden => {}
        _ => {
            return fail(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("rollup {} has no column {name}", d.name),
                "Columns are those of its query.",
            );
        }
    }
    let mut columns = old.columns.clone();
    columns.retain(|c| c.name != name || c.merge().is_some());
    columns.iter_mut().filter(|c| c.name == name).for_each(|c| c.hidden = true);
    change(d, &old, columns, false)
}

/// Makes a rollup that of another query with the same keys: columns that are the same stay, others go and come,
/// filled from the raw rows that are there.
pub fn replace(d: &Definition, text: &str, backfill: bool) -> Result<()> {
    let old = d.plan()?;
    let (source, _, _) = d.parts()?;
    let mut select = read_for(d, text)?;
    if let Some(text) = citus::finest::again(d, &old, &select)? {
        select = read_for(d, &text)?;
    }
    let _acting = d.owner.map(ActingAs::role);
    citus::create::prepare_again(d, &mut select)?;
    let (select, followed) = match &old.followed {
        Some(_) => follow::split(select, &d.timezone)?,
        None => (select, None),
    };
    let other_rows = || {
        fail(
            WRONG,
            format!("the query counts other rows than rollup {}: its table, joins or WHERE differ", d.name),
            "Make another rollup, and drop this one when it has caught up.",
        )
    };
    let joins_as_it_did = match (&old.followed, &followed) {
        (Some(was), Some(now)) => was.is_same(now),
        (was, now) => was.is_none() && now.is_none() && select.joins == old.joins,
    };
    if select.source != d.source_oid || !joins_as_it_did {
        return other_rows();
    }
    let alias = select.alias.clone();
    let from = from_clause(old.joins.as_ref(), source, &alias);
    let mut new = definition::plan(&select, &from, &d.timezone)?;
    super::renamed::agree(d, &old, &mut new, source)?;
    if new.filter != old.filter {
        return other_rows();
    }
    let key = |c: &Column| (c.name.clone(), c.expression.clone(), c.sql_type.clone(), c.collation.clone());
    let keys = |plan: &Plan| plan.keys().map(key).collect::<std::collections::BTreeSet<_>>();
    if keys(&old) != keys(&new) || old.time_key != new.time_key {
        return fail(
            WRONG,
            format!("the group keys are not those of rollup {}", d.name),
            "Keys of the same names and expressions; else make another rollup.",
        );
    }
    let old = Plan { alias, ..old };
    let mut columns = new.columns;
    // What counts the rows stays, whatever the new query shows of it.
    if let Some(rows) = old.rows.as_ref().and_then(|name| old.column(name))
        && !columns.iter().any(|c| c.name == rows.name)
    {
        columns.push(Column { hidden: true, ..rows.clone() });
    }
    change(d, &old, columns, backfill)
}

/// The same column, whatever is done with it beside.
fn same(a: &Column, b: &Column) -> bool {
    let role = match (&a.role, &b.role) {
        (Role::Value(x), Role::Value(y)) => {
            (&x.combine, &x.unite, &x.companion) == (&y.combine, &y.unite, &y.companion)
        }
        (x, y) => x == y,
    };
    role && (&a.name, &a.sql_type, &a.collation, &a.expression)
        == (&b.name, &b.sql_type, &b.collation, &b.expression)
}

/// Goes from the old columns to the new ones.
fn change(d: &Definition, old: &Plan, mut columns: Vec<Column>, backfill: bool) -> Result<()> {
    if keeps_one_snapshot() {
        return fail(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "a rollup's columns change in a READ COMMITTED transaction only",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED.",
        );
    }
    d.check_cluster()?;
    super::written::check(d)?;
    forget_unused(&mut columns, old.rows.as_deref());
    if !columns.iter().any(|c| c.merge().is_some() && (!c.hidden || old.rows.as_ref() != Some(&c.name))) {
        return fail(WRONG, "no aggregate would be left", "Drop the rollup: SELECT rollup.drop(name).");
    }
    for c in &mut columns {
        let kept = old.columns.iter().find(|o| same(o, c));
        if let Role::Value(m) = &mut c.role {
            // Rows that are there have no value until they are filled.
            m.never_null &= kept.and_then(Column::merge).is_some_and(|k| k.never_null);
        }
    }
    let mut plan = Plan { columns, ..old.clone() };
    plan.columns.sort_by_key(|c| c.hidden);
    let (gone, come) = (without(&old.columns, &plan.columns), without(&plan.columns, &old.columns));
    let (source, target, _) = d.parts()?;
    let levels = levels::of(d)?;
    let levels: Vec<Option<&Level>> = std::iter::once(None).chain(levels.iter().map(Some)).collect();
    let table = |level: Option<&Level>| level.map_or(target.to_string(), |l| l.target.clone());
    remake_views(d, old, &plan, &levels, !gone.is_empty(), || {
        levels.iter().try_for_each(|level| {
            let [before, now] = [old, &plan].map(|plan| plan.of_level(*level));
            let (gone, come) =
                (without(&before.columns, &now.columns), without(&now.columns, &before.columns));
            alter(&table(*level), &gone, &come)
        })
    })?;
    if backfill {
        for level in levels {
            fill(d, &plan, level, &table(level), &come)?;
        }
    }
    store_partial(d, &gone, if backfill { &[] } else { &come })?;
    super::written::note(d.id, &plan)?;
    d.store_plan(&plan, &statements::query(&plan, source))
}

/// Columns that are not among others.
fn without<'a>(columns: &'a [Column], others: &[Column]) -> Vec<&'a Column> {
    columns.iter().filter(|c| !others.iter().any(|o| same(o, c))).collect()
}

/// Has the live views show the columns of the plan, and keeps comments; `alter` changes the tables below them.
fn remake_views(
    d: &Definition,
    old: &Plan,
    plan: &Plan,
    levels: &[Option<&Level>],
    drops: bool,
    alter: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (source, target, _) = d.parts()?;
    // The views that say it go.
    let plan = &follow::of_today(d.id, plan)?;
    let table = |level: Option<&Level>| level.map_or(target.to_string(), |l| l.target.clone());
    // A view takes columns at its end; otherwise it is recreated. Those of levels may read the rollup's table too.
    let shown = |p: &Plan| {
        let columns = p.columns.iter().filter(|c| !c.hidden);
        columns.map(|c| (c.name.clone(), c.sql_type.clone())).collect::<Vec<_>>()
    };
    let anew = drops || !shown(plan).starts_with(&shown(old));
    let mut said = Vec::new();
    for level in levels {
        let shape = levels::said(d, *level)?;
        said.push((Said::before(d, old, source, &table(*level), *level, shape.as_deref())?, shape));
    }
    let mut kept = Vec::new();
    for level in levels.iter().filter(|_| anew) {
        kept.extend(views::drop(d.id, *level)?);
    }
    alter()?;
    for (level, (said, shape)) in levels.iter().zip(said) {
        let own = &*plan.of_level(*level);
        let before = kept.iter().find(|k| k.is_of(*level));
        let names = match before {
            Some(before) => before.names(source, target),
            None => Names { source, target, view: None, shown: None },
        };
        let view = views::make(d.state.nodes().is_some(), plan, names, *level, d.id)?;
        if let Some(before) = before {
            before.restore(own)?;
        }
        said.again(own, source, &table(*level), &view, shape.as_deref())?;
    }
    Ok(())
}

/// Records which columns lack the rows that were there before them.
fn store_partial(d: &Definition, gone: &[&Column], lacking: &[&Column]) -> Result<()> {
    let names = |columns: &[&Column]| -> Vec<String> {
        columns.iter().filter(|c| c.merge().is_some()).map(|c| c.name.clone()).collect()
    };
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET partial = ARRAY(SELECT p FROM pg_catalog.unnest(partial) p WHERE p <> ALL ($2) UNION SELECT n FROM pg_catalog.unnest($3) n) WHERE id = $1",
        &[d.id.into(), names(gone).into(), names(lacking).into()],
    )
}

/// Hidden columns that nothing is made of.
fn forget_unused(columns: &mut Vec<Column>, rows: Option<&str>) {
    let mut used: Vec<String> = rows.map(String::from).into_iter().collect();
    for c in columns.iter() {
        match &c.role {
            Role::Result { of, .. } => used.extend(of.iter().cloned()),
            Role::Value(m) => used.extend(m.companion.clone()),
            Role::Key => {}
        }
    }
    let before = columns.len();
    columns.retain(|c| !c.hidden || used.contains(&c.name));
    if columns.len() < before {
        forget_unused(columns, rows);
    }
}

fn alter(table: &str, gone: &[&Column], come: &[&Column]) -> Result<()> {
    let results = |c: &&&Column| matches!(c.role, Role::Result { .. });
    for c in gone.iter().filter(results).chain(gone.iter().filter(|c| !results(c))).filter(|c| c.in_table()) {
        catalog::define(&format!("ALTER TABLE {table} DROP COLUMN {}", ident(&c.name)))?;
    }
    for c in come.iter().filter(|c| !results(c)).chain(come.iter().filter(results)).filter(|c| c.in_table()) {
        catalog::define(&format!("ALTER TABLE {table} ADD COLUMN {}", statements::column_definition(c)))?;
    }
    Ok(())
}

/// Fills new columns from raw rows, in buckets whose raw rows are all there.
fn fill(d: &Definition, plan: &Plan, level: Option<&Level>, table: &str, come: &[&Column]) -> Result<()> {
    let columns: Vec<&str> = come.iter().filter(|c| c.merge().is_some()).map(|c| c.name.as_str()).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let (source, _, owner) = d.parts()?;
    let floors = [range::whole_from(source, plan)?, range::whole_from(table, plan)?];
    let range = Range::of(plan, &d.timezone, None, None)
        .after(&floors)?
        .without(super::holes::whole(d, plan, level)?);
    let fits = keys::and_fits_rollup(plan, level);
    let groups = statements::recomputed(plan, source, &d.state, level, |key| range.holds(key) + &fits);
    let statement = statements::overwrite(&plan.of_level(level), table, &groups, &columns);
    {
        let _acting = ActingAs::role(owner);
        set_timezone(&d.timezone);
        catalog::execute(&statement, &[])?;
    }
    if let Some(floor) = range.from() {
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!(
                "{table}: rows before {floor} UTC have NULL in {}, since raw rows have expired",
                columns.join(", ")
            )
        );
    }
    Ok(())
}
