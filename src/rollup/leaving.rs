//! Rows that leave a source unseen, and changes that nobody tells of: what was counted stays in its rollups, so that they
//! are not the same as the raw rows any more. Statements over the source are not answered from what may differ (see
//! `rewrite`); `rollup.rebuild` puts the rest right.
//!
//! Of a partition that goes, by DETACH or DROP, it is recorded up to when its rows reached, in `rollup.departure`, for which
//! nobody is waited for. What begins there or later is as it was.
use super::arrange::sources_above;
use super::catalog::{self, Must};
use super::error::Result;
use crate::pg::ddl;
use crate::pg::leaving::taken_away;
use crate::pg::trigger::timestamptz;
use crate::pg::xact::ActingAs;
use crate::pg::zonemap::extent::{Extent, extent};
use pgrx::pg_sys;

/// What a command says: parts that have left, and tables that a crash empties.
pub fn told(command: &ddl::Command) -> Result<()> {
    command.left.iter().try_for_each(|(parent, part)| left(*parent, *part))?;
    for &child in &command.freed {
        taken_away(child).into_iter().try_for_each(|parent| left(parent, child))?;
    }
    command.unlogged.iter().try_for_each(|table| unlogged(*table))
}

/// A part has left a table, by a command that has just been executed, and is there still.
fn left(parent: pg_sys::Oid, part: pg_sys::Oid) -> Result<()> {
    for source in sources_above(parent)? {
        let until = match part {
            pg_sys::InvalidOid => i64::MAX,
            _ => {
                let column = time_column(source)?;
                let until = |table: &pg_sys::Oid| match (extent(*table, &column), is_stored(*table)) {
                    (Extent::Times(Some((_, greatest)), _), _) => greatest,
                    (Extent::Empty | Extent::Times(None, _), _) | (_, false) => i64::MIN,
                    (Extent::Unknown, true) => i64::MAX,
                };
                super::maps::tables(part)?.iter().map(until).max().unwrap_or(i64::MAX)
            }
        };
        note(source, until)?;
    }
    Ok(())
}

/// A table may be unlogged, or have unlogged ones below it: a crash takes their rows away, and nobody tells of it.
pub fn unlogged(table: pg_sys::Oid) -> Result<()> {
    if super::unlogged::at_and_below(table)?.is_empty() {
        return Ok(());
    }
    sources_above(table)?.into_iter().try_for_each(unseen)
}

fn is_stored(table: pg_sys::Oid) -> bool {
    crate::pg::tables::is_stored(table)
}

/// Tables were dropped by the command at hand: those that stood below a source are recorded.
pub fn dropped(tables: &[pg_sys::Oid]) -> Result<()> {
    for table in tables {
        let (mut part, mut ends) = (*table, Vec::new());
        // A part of a part reaches no farther than that.
        while let Some(parent) = ddl::parent_before(part) {
            ends.extend(parted_by(parent)?.zip(ddl::end_before(part)));
            if is_source(parent)? {
                let column = time_column(parent)?;
                let of_time = ends.iter().filter(|(by, _)| *by == column).map(|(_, end)| *end);
                note(parent, of_time.min().unwrap_or(i64::MAX))?;
            }
            part = parent;
        }
    }
    Ok(())
}

/// The first column that a table which is there still is partitioned by, in ranges.
fn parted_by(table: pg_sys::Oid) -> Result<Option<String>> {
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] \
         WHERE p.partrelid = $1 AND p.partstrat = 'r'",
        &[table.into()],
        |row| row.get::<String>(1),
    )?;
    Ok(found.into_iter().flatten().next())
}

fn is_source(table: pg_sys::Oid) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let found =
        catalog::read("SELECT true FROM rollup.source WHERE relation = $1", &[table.into()], |row| {
            row.get::<bool>(1)
        })?;
    Ok(!found.is_empty())
}

fn time_column(source: pg_sys::Oid) -> Result<String> {
    let _acting = ActingAs::catalog();
    catalog::one(
        "SELECT time_column::pg_catalog.text FROM rollup.source WHERE relation = $1",
        &[source.into()],
    )
}

fn note(source: pg_sys::Oid, until: i64) -> Result<()> {
    let _acting = ActingAs::catalog();
    if until == i64::MIN {
        return Ok(());
    }
    catalog::execute(
        "INSERT INTO rollup.departure (source, until) VALUES ($1, $2 + interval '1 microsecond')",
        &[source.into(), timestamptz(Some(until))],
    )
}

/// Changes of a source's rows may have been made that nobody was told of.
pub fn unseen(source: pg_sys::Oid) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "UPDATE rollup.definition SET whole = false WHERE source = $1 AND on_change <> 'ignore' AND whole",
        &[source.into()],
    )
}

/// Triggers of ours were dropped from these tables, each with its schema, which are there still.
pub fn untold(tables: &[(String, String)]) -> Result<()> {
    for (schema, name) in tables {
        let found = {
            let _acting = ActingAs::catalog();
            catalog::read(
                "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1::pg_catalog.name AND c.relname = $2::pg_catalog.name",
                &[schema.as_str().into(), name.as_str().into()],
                |row| row.must::<pg_sys::Oid>(1),
            )?
        };
        for table in found {
            sources_above(table)?.into_iter().try_for_each(unseen)?;
        }
    }
    Ok(())
}
