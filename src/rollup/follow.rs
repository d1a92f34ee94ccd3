//! Lookup tables that are followed, `joins => 'follow'`: the rollup's table is grouped by the columns by which the query joins, and
//! views join the lookup tables when they are read. Runs, levels and whatever compares the rollup with its raw rows know of no
//! lookup table: to them it is a rollup of the source alone.
//!
//! Invariant: at each snapshot the views give what the query gives over all raw rows that were counted, those that have expired
//! too, and over the lookup tables as that snapshot has them (`Followed` says why). It holds whatever the lookup tables hold;
//! that a row has at most one partner is asked for all the same, since who counts rows by name wants each to count once.
use super::catalog::{self, Must};
use super::definition;
use super::error::{Result, fail, internal, report};
use super::source::{self, Source};
use crate::pg::deparse::shown_name;
use crate::pg::lookups;
use crate::pg::query::{Entry, Lookup, Lookups, Select, Taken, Target};
use crate::pg::xact::{ActingAs, role_name};
use hll_rollup::sql::ident;
use hll_rollup::{Column, Followed, Named, Plan, Role};
use pgrx::pg_sys;
use pgrx::prelude::*;

const UNSUPPORTED: PgSqlErrorCode = PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED;

/// The query over the source alone by which rows are counted, and what is joined to its groups when they are read; the query
/// itself and None where it joins nothing.
pub fn split(select: Select, zone: &str) -> Result<(Select, Option<Followed>)> {
    let Some(found) = select.lookups.clone() else { return Ok((select, None)) };
    let lookups = match found {
        Ok(lookups) => lookups,
        Err(why) => return fail(UNSUPPORTED, why.what, why.hint),
    };
    if !select.hidden_keys.is_empty() {
        // What is wrong with it is said by who makes a plan of it.
        return Ok((select, None));
    }
    let owner = source::describe(select.source)?;
    for lookup in lookups.tables.iter().flatten() {
        check_unique(lookup)?;
        check_readable(lookup, &owner)?;
    }
    let by = joined_by(&select, &lookups)?;
    let text = over_source(&select, &lookups.entries, &by, &owner.qualified());
    let followed = followed(&select, lookups, by)?;
    Ok((definition::analyse(&text, zone)?, Some(followed)))
}

/// A unique index on columns that a table is joined by: as what it is to be depended on.
fn unique(lookup: &Lookup) -> Result<Option<(pg_sys::Oid, pg_sys::Oid)>> {
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT CASE WHEN c.oid IS NULL THEN 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid ELSE 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid END, \
           coalesce(c.oid, i.indexrelid) \
         FROM pg_catalog.pg_index i LEFT JOIN pg_catalog.pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u') AND c.conrelid = i.indrelid \
         WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
           AND NOT EXISTS (SELECT FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k (number, at) WHERE k.at <= i.indnkeyatts AND k.number <> ALL ($2)) \
         ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1",
        &[lookup.table.into(), lookup.by.clone().into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<pg_sys::Oid>(2)?)),
    )?;
    Ok(found.into_iter().next())
}

/// Refuses a table in which a row may have several partners.
fn check_unique(lookup: &Lookup) -> Result<()> {
    let name = shown_name(lookup.table);
    let all = crate::pg::security::columns_of(lookup.table);
    let columns: Vec<String> =
        all.iter().filter(|(n, _)| lookup.by.contains(n)).map(|(_, name)| ident(name)).collect();
    let columns = columns.join(", ");
    if lookup.by.is_empty() {
        return fail(
            UNSUPPORTED,
            format!("lookup table {name} is joined by no column"),
            "Join as in FROM table JOIN lookup ON lookup.id = table.lookup_id.",
        );
    }
    if unique(lookup)?.is_some() {
        return Ok(());
    }
    fail(
        UNSUPPORTED,
        format!(
            "a row may have several partners in lookup table {name}: no unique index is on ({columns}) alone"
        ),
        format!("ALTER TABLE {name} ADD UNIQUE ({columns});"),
    )
}

/// Refuses a table of which the owner of the views may not read what the query names.
fn check_readable(lookup: &Lookup, source: &Source) -> Result<()> {
    let lacking = {
        let _acting = ActingAs::catalog();
        catalog::read(
            "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') FROM pg_catalog.unnest($3) c WHERE NOT pg_catalog.has_column_privilege($1, $2, c, 'SELECT')",
            &[source.owner.into(), lookup.table.into(), lookup.columns.clone().into()],
            |row| row.get::<String>(1),
        )?
    };
    let Some(columns) = lacking.into_iter().flatten().next() else { return Ok(()) };
    let (name, role) = (shown_name(lookup.table), role_name(source.owner));
    fail(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!(
            "permission denied for lookup table {name}, which role {role}, the owner of {}, reads in the views of the rollup",
            source.qualified()
        ),
        format!("GRANT SELECT ({columns}) ON {name} TO {};", ident(&role)),
    )
}

/// The columns of the source that are joined by and that the query does not show as they are.
fn joined_by(select: &Select, lookups: &Lookups) -> Result<Vec<String>> {
    let mut hidden = Vec::new();
    for column in &lookups.by {
        let called =
            select.targets.iter().zip(&lookups.entries).find(|(t, taken)| t.name == *column && !taken.joined);
        match called {
            Some((_, taken)) if taken.column.as_ref() == Some(column) => {}
            Some(_) => {
                return fail(
                    PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
                    format!(
                        "column {column} of the query is called like the column of {} that it joins by",
                        shown_name(select.source)
                    ),
                    "Call it something else: expression AS another_name.",
                );
            }
            None => hidden.push(column.clone()),
        }
    }
    Ok(hidden)
}

/// The query over the source alone: grouped by what the query joins by in the place of the columns of lookup tables.
fn over_source(select: &Select, entries: &[Taken], by: &[String], source: &str) -> String {
    let is_key = |t: &Target| matches!(t.entry, Entry::Key { .. });
    let all: Vec<(&Target, &Taken)> = select.targets.iter().zip(entries).collect();
    let first = all.iter().position(|(_, taken)| taken.joined);
    let at = first.or_else(|| all.iter().rposition(|(t, _)| is_key(t)).map(|n| n + 1)).unwrap_or(all.len());
    let joined = || by.iter().map(|c| (format!("{}.{c} AS {c}", ident(&select.alias), c = ident(c)), true));
    let shown = |all: &[(&Target, &Taken)]| -> Vec<(String, bool)> {
        let own = all.iter().filter(|(_, taken)| !taken.joined);
        own.map(|(t, _)| (format!("{} AS {}", t.written, ident(&t.name)), is_key(t))).collect()
    };
    let (before, after) = all.split_at(at);
    let columns: Vec<(String, bool)> =
        shown(before).into_iter().chain(joined()).chain(shown(after)).collect();
    let keys: Vec<String> = (1..=columns.len()).filter(|n| columns[n - 1].1).map(|n| n.to_string()).collect();
    let list: Vec<&str> = columns.iter().map(|(text, _)| text.as_str()).collect();
    let filter = select.filter.as_ref().map_or(String::new(), |f| format!(" WHERE {f}"));
    format!(
        "SELECT {} FROM {source} AS {}{filter} GROUP BY {}",
        list.join(", "),
        ident(&select.alias),
        keys.join(", ")
    )
}

fn followed(select: &Select, lookups: Lookups, by: Vec<String>) -> Result<Followed> {
    let from = select.joins.clone().ok_or_else(|| internal("the query joins nothing"))?;
    let source = lookups.tables.iter().position(Option::is_none).ok_or_else(|| internal("no source"))? + 1;
    let named = |lookup: Option<Lookup>| -> Vec<Named> {
        let Some(lookup) = lookup else { return Vec::new() };
        let all = crate::pg::security::columns_of(lookup.table);
        let joins = |c: &String| all.iter().any(|(n, name)| name == c && lookup.by.contains(n));
        let named = |c: String| Named { joins: joins(&c), now: c.clone(), called: c };
        lookup.columns.into_iter().map(named).collect()
    };
    let mut keys = Vec::new();
    for (at, (t, taken)) in select.targets.iter().zip(&lookups.entries).enumerate() {
        if taken.joined {
            let key = Column {
                name: t.name.clone(),
                sql_type: t.sql_type.clone(),
                collation: t.collation.clone(),
                written: t.written.clone(),
                expression: t.expression.clone(),
                hidden: false,
                role: Role::Key,
            };
            keys.push((at, key));
        }
    }
    let columns = lookups.tables.into_iter().map(named).collect();
    Ok(Followed { from, source, alias: select.alias.clone(), columns, by, keys })
}

/// The plan, with the names that columns of lookup tables have today: the views of the rollup follow them, those that belong to its
/// owner.
pub fn of_today(id: i64, plan: &Plan) -> Result<Plan> {
    let mut plan = plan.clone();
    let Some(followed) = &mut plan.followed else { return Ok(plan) };
    let views = {
        let _acting = ActingAs::catalog();
        catalog::read_often(
            "SELECT c.oid FROM (SELECT d.shown::pg_catalog.oid, d.relation FROM rollup.definition d WHERE d.id = $1 UNION ALL SELECT d.live::pg_catalog.oid, d.relation FROM rollup.definition d WHERE d.id = $1 \
             UNION ALL SELECT l.shown::pg_catalog.oid, l.relation FROM rollup.level l WHERE l.definition = $1) v (view, relation) \
             JOIN pg_catalog.pg_class c ON c.oid = v.view JOIN pg_catalog.pg_class t ON t.oid = v.relation AND t.relowner = c.relowner",
            &[id.into()],
            |row| row.get::<pg_sys::Oid>(1),
        )?
    };
    for (table, columns) in followed.from.tables.iter().zip(&mut followed.columns) {
        if columns.is_empty() {
            continue;
        }
        for view in views.iter().flatten() {
            let now = lookups::columns_in_view(*view, table.id.into());
            for column in columns.iter_mut() {
                if let Some((_, name)) =
                    now.iter().find(|(was, now)| *was == column.called && !now.is_empty())
                {
                    column.now = name.clone();
                }
            }
        }
    }
    Ok(plan)
}

/// Has the views of a rollup that came with a dump go with the unique indexes again.
pub fn rest_again(id: i64, plan: &Plan) -> Result<()> {
    if plan.followed.is_none() {
        return Ok(());
    }
    let views = {
        let _acting = ActingAs::catalog();
        catalog::write(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM (SELECT d.shown FROM rollup.definition d WHERE d.id = $1 UNION ALL SELECT l.shown FROM rollup.level l WHERE l.definition = $1) v \
             JOIN pg_catalog.pg_class c ON c.oid = v.shown AND c.relkind = 'v' JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
            &[id.into()],
            |row| row.must::<String>(1),
        )?
    };
    let plan = of_today(id, plan)?;
    views.iter().try_for_each(|view| rest_on_unique(&plan, view))
}

/// Has a view go with the unique indexes of the lookup tables, by which a row has one partner: PostgreSQL drops none of them
/// unless told to drop the view, too.
pub fn rest_on_unique(plan: &Plan, view: &str) -> Result<()> {
    let Some(followed) = &plan.followed else { return Ok(()) };
    let rule = catalog::write(
        "SELECT r.tableoid, r.oid FROM pg_catalog.pg_rewrite r WHERE r.ev_class = $1::pg_catalog.regclass",
        &[view.into()],
        |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<pg_sys::Oid>(2)?)),
    )?;
    let Some(rule) = rule.into_iter().next() else { return Ok(()) };
    for (table, columns) in
        followed.from.tables.iter().zip(&followed.columns).filter(|(_, all)| !all.is_empty())
    {
        let table = pg_sys::Oid::from(table.id);
        let joins = |name: &String| columns.iter().any(|c| c.joins && c.now == *name);
        let all = crate::pg::security::columns_of(table).into_iter();
        let by = all.filter(|(_, name)| joins(name)).map(|(number, _)| number).collect();
        match unique(&Lookup { table, by, columns: Vec::new() })? {
            Some(index) => lookups::rest_on(rule, index),
            None => report(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "lookup table {} is not unique any more in what {view} joins it by",
                    shown_name(table)
                ),
                "A row counts once for each partner, as in the query itself.",
            )
            .report(PgLogLevel::WARNING),
        }
    }
    Ok(())
}
