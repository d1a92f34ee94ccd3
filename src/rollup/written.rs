//! The columns of a rollup's tables, to which runs write by their names: these are the rollup's, and follow no ALTER TABLE. Who
//! renames one is told at once, and so is who runs the rollup. A view may call them otherwise.
//!
//! Invariant: no statement of ours reads or writes a column by a name that another column has taken. What each column is, its
//! number says, which is recorded when the table is made; in a table that was made anew, as from a dump, the name that the
//! column had when one was last renamed.
use super::arrange::warn;
use super::catalog::{self, Definition, Must};
use super::error::{Result, fail, internal};
use crate::pg::deparse::qualified_name;
use crate::pg::query::set_local;
use crate::pg::security;
use crate::pg::xact::{ActingAs, in_subtransaction};
use hll_rollup::Plan;
use hll_rollup::sql::{ident, literal};
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is recorded of the columns of a table, as JSON.
#[derive(Serialize, Deserialize, PartialEq)]
struct Own {
    /// The table: cluster, database and oid.
    of: String,
    /// By the names that runs use.
    columns: BTreeMap<String, Column>,
}

#[derive(Serialize, Deserialize, PartialEq, Clone)]
struct Column {
    number: i16,
    called: String,
}

/// A table of a rollup, and its columns.
struct Table {
    relation: pg_sys::Oid,
    name: String,
    /// It is a level's.
    is_level: bool,
    /// The keys that a level has besides the time; None: all of the rollup's.
    keys: Option<Vec<String>>,
    of: String,
    live: Option<String>,
    own: Option<Own>,
    columns: Vec<(i16, String)>,
}

/// A column that is called otherwise than runs call it; `now` is None where it is gone.
struct Misnamed {
    name: String,
    now: Option<String>,
}

/// The columns that the tables are to have.
fn names(plan: &Plan) -> impl Iterator<Item = &String> {
    plan.columns.iter().filter(|c| c.in_table()).map(|c| &c.name)
}

fn tables(id: i64) -> Result<Vec<Table>> {
    let _acting = ActingAs::catalog();
    let found = catalog::read_often(
        "SELECT d.relation::pg_catalog.oid, false, d.live::pg_catalog.oid, d.own::pg_catalog.text, NULL::pg_catalog.text[] FROM rollup.definition d WHERE d.id = $1 \
         UNION ALL SELECT l.relation::pg_catalog.oid, true, l.live::pg_catalog.oid, l.own::pg_catalog.text, l.keys FROM rollup.level l WHERE l.definition = $1",
        &[id.into()],
        |row| {
            Ok((
                row.get::<pg_sys::Oid>(1)?,
                row.must::<bool>(2)?,
                row.get::<pg_sys::Oid>(3)?,
                row.get::<String>(4)?,
                row.get::<Vec<String>>(5)?,
            ))
        },
    )?;
    let mut all = Vec::new();
    for (relation, is_level, live, own, keys) in found {
        let Some((relation, name)) = relation.and_then(|r| Some((r, qualified_name(r)?))) else { continue };
        let of = format!("{}/{}/{}", security::system_identifier(), security::database(), relation.to_u32());
        let own = own.map(|own| serde_json::from_str(&own).map_err(internal)).transpose()?;
        let (live, columns) = (live.and_then(qualified_name), security::columns_of(relation));
        all.push(Table { relation, name, is_level, keys, of, live, own, columns });
    }
    Ok(all)
}

impl Table {
    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|(_, there)| there == name)
    }

    /// What a column is called now.
    fn called<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let own = self.own.as_ref();
        let there = |number: i16| self.columns.iter().find(|c| c.0 == number).map(|c| c.1.as_str());
        match own.and_then(|own| Some((&own.of, own.columns.get(name)?))) {
            Some((of, column)) if *of == self.of => there(column.number),
            Some((_, column)) => Some(column.called.as_str()).filter(|called| self.has(called)),
            None => Some(name).filter(|name| self.has(name)),
        }
    }

    fn misnamed(&self, plan: &Plan) -> Vec<Misnamed> {
        names(&plan.with_keys(self.keys.as_deref()))
            .map(|name| Misnamed { name: name.clone(), now: self.called(name).map(String::from) })
            .filter(|m| m.now.as_ref() != Some(&m.name))
            .collect()
    }

    /// What is to be recorded, where columns are called as `called` says.
    fn record(&self, plan: &Plan, called: impl Fn(&str) -> Option<String>) -> Own {
        let column = |name: &String| {
            let called = called(name)?;
            let number = self.columns.iter().find(|(_, there)| *there == called)?.0;
            Some((name.clone(), Column { number, called }))
        };
        Own {
            of: self.of.clone(),
            columns: names(&plan.with_keys(self.keys.as_deref())).filter_map(column).collect(),
        }
    }

    fn store(&self, id: i64, own: &Own) -> Result<()> {
        if self.own.as_ref() == Some(own) {
            return Ok(());
        }
        let (table, which) = if self.is_level { ("level", "definition") } else { ("definition", "id") };
        let _acting = ActingAs::catalog();
        catalog::execute(
            &format!(
                "UPDATE rollup.{table} SET own = $3::pg_catalog.jsonb WHERE {which} = $1 AND relation = $2"
            ),
            &[id.into(), self.relation.into(), serde_json::to_string(own).map_err(internal)?.into()],
        )
    }

    /// Statements that give all columns the names that runs use, one after the other.
    fn back(&self, misnamed: &[Misnamed]) -> String {
        let mut there: Vec<String> = self.columns.iter().map(|c| c.1.clone()).collect();
        let mut left: Vec<(String, &str)> =
            misnamed.iter().filter_map(|m| Some((m.now.clone()?, m.name.as_str()))).collect();
        let mut statements = Vec::new();
        let mut rename = |there: &mut Vec<String>, from: &str, to: &str| {
            there.iter_mut().filter(|c| *c == from).for_each(|c| *c = to.to_string());
            statements.push(format!(
                "ALTER TABLE {} RENAME COLUMN {} TO {};",
                self.name,
                ident(from),
                ident(to)
            ));
        };
        while let Some(first) = left.first().cloned() {
            match left.iter().position(|(_, to)| !there.iter().any(|c| c == to)) {
                Some(free) => {
                    let (from, to) = left.remove(free);
                    rename(&mut there, &from, to);
                }
                // Names that were exchanged, or one that a column of somebody else has taken.
                None => {
                    let aside = (1..).map(|n| format!("column_{n}")).find(|c| !there.contains(c));
                    let Some(aside) = aside else { break };
                    rename(&mut there, first.1, &aside);
                    left.iter_mut().filter(|(from, _)| from == first.1).for_each(|l| l.0 = aside.clone());
                }
            }
        }
        statements.join(" ")
    }
}

/// Records which columns of its tables are a rollup's, which has just made them, or given them their names.
pub fn note(id: i64, plan: &Plan) -> Result<()> {
    record(id, plan, &tables(id)?)
}

fn record(id: i64, plan: &Plan, tables: &[Table]) -> Result<()> {
    for table in tables {
        table.store(id, &table.record(plan, |name| Some(name.to_string())))?;
    }
    Ok(())
}

/// Refuses to read or write tables of a rollup of which a column is called otherwise.
pub fn check(d: &Definition) -> Result<()> {
    refuse(d, &d.stored_plan()?, &tables(d.id)?)
}

fn refuse(d: &Definition, plan: &Plan, tables: &[Table]) -> Result<()> {
    for table in tables {
        let misnamed = table.misnamed(plan);
        let Some(one) = misnamed.first() else { continue };
        let (rollup, column) = (&d.name, &one.name);
        let what = match (table.has(column), &one.now) {
            (true, Some(now)) => format!(
                "column {column} of table {} is not the one that runs of rollup {rollup} write to, which is called {now}",
                table.name
            ),
            (true, None) => format!(
                "column {column} of table {} is not the one that runs of rollup {rollup} wrote to, which is gone",
                table.name
            ),
            (false, _) => format!(
                "table {} of rollup {rollup} has no column {column}, to which its runs write",
                table.name
            ),
        };
        return fail(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            what,
            match misnamed.iter().all(|m| m.now.is_some()) {
                true => table.back(&misnamed),
                false => {
                    format!(
                        "SELECT rollup.drop({}); removes the rollup, and rollup.create makes it again.",
                        literal(rollup)
                    )
                }
            },
        );
    }
    Ok(())
}

/// The same before a run, whose state row is locked; what is recorded of a table that was made anew follows.
pub fn settle(d: &Definition) -> Result<()> {
    let (plan, tables) = (d.stored_plan()?, tables(d.id)?);
    refuse(d, &plan, &tables)?;
    record(d.id, &plan, &tables)
}

/// A column of a table was renamed: where it is one of a rollup, or of a level, that is said, and what it is called remembered.
pub fn renamed(table: pg_sys::Oid, was: &str, now: &str) -> Result<()> {
    let found = {
        let _acting = ActingAs::catalog();
        catalog::write_often(
            "SELECT v.id FROM (SELECT id, relation FROM rollup.definition UNION ALL SELECT definition, relation FROM rollup.level) v (id, relation) WHERE v.relation = $1",
            &[table.into()],
            |row| row.must::<i64>(1),
        )?
    };
    for id in found {
        let Some(d) = catalog::by_id_now(id)? else { continue };
        let plan = d.stored_plan()?;
        for table in tables(id)?.into_iter().filter(|t| t.relation == table) {
            let misnamed = table.misnamed(&plan);
            remember(id, &plan, &table);
            let Some(of) = misnamed.iter().find(|m| m.now.as_deref() == Some(now) || m.name == was) else {
                continue;
            };
            let instead = match &table.live {
                Some(view) if misnamed.len() == 1 => format!(
                    " The live view may call it otherwise: ALTER VIEW {view} RENAME COLUMN {} TO {};",
                    ident(&of.name),
                    ident(now)
                ),
                _ => String::new(),
            };
            warn(
                format!(
                    "runs of rollup {} write to column {} of {}, and fail while it is called {now}",
                    d.name, of.name, table.name
                ),
                format!("{}{instead}", table.back(&misnamed)),
            );
        }
    }
    Ok(())
}

/// Records what columns are called, for a table that is made anew with these names. Fails no command.
fn remember(id: i64, plan: &Plan, table: &Table) {
    let done = in_subtransaction(std::panic::AssertUnwindSafe(|| {
        set_local(c"lock_timeout", c"50ms");
        table.store(id, &table.record(plan, |name| table.called(name).map(String::from)))
    }));
    if let Err(e) = done {
        log!("rollup: what columns of {} are called is not remembered: {}", table.name, e.message);
    }
}
