//! What a run touches: the shards and partitions that have new rows, and no others.
//!
//! Once a run knows how far it goes, every row that it is to merge can be seen on its node, and none comes later (see `gather`). So nodes
//! are asked where these rows are before the statements of the run are sent, and the statements say so too: of which values of the
//! column that the table is distributed by they are, by which Citus leaves shards out, and from when to when, by which each node leaves
//! partitions out.
//!
//! Invariant: a statement with these conditions merges the rows that it would merge without them.
//! - While nodes are asked no shard changes its place: the lock on shards that the statements take is taken before.
//! - What this transaction has changed itself, nodes do not tell: so it has changed nothing before (see `Runs`).
//! - A row's value of the distribution column does not change: Citus refuses that.
//! - Its time may, by an UPDATE in between, which would take it out of all conditions. So nodes are asked again behind the statements
//!   whether they still have the very versions of rows that they told of: a version that is there before and after was there in between,
//!   and a row that changed has another. If they have not, what was merged is undone, and merged without conditions on the time.
use super::places::Place;
use super::shards::{self, Asked, Report};
use crate::pg::xact::{ActingAs, own_transaction_id_if_any};
use crate::pg::{node, told};
use crate::rollup::ask::{self, Must};
use crate::rollup::catalog::Definition;
use crate::rollup::error::Result;
use hll_rollup::sql::{ident, literal};
use hll_rollup::{Plan, Stamps, statements, times};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// Whether this transaction had changed nothing before the runs at hand; None: none is.
    static ALONE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// A run, or several, begins; until it is dropped. What a transaction changed before, it sees and nodes do not tell: then nothing is
/// left out. What runs change themselves are the tables of rollups, where rows keep their keys.
pub struct Runs(());

impl Runs {
    /// None where others of the same transaction are at hand.
    pub fn begin() -> Option<Runs> {
        if ALONE.get().is_some() {
            return None;
        }
        let touched = own_transaction_id_if_any().is_some()
            || node::citus_loaded() && node::has_touched_nodes().unwrap_or(!told::serves());
        ALONE.set(Some(!touched));
        Some(Runs(()))
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        ALONE.set(None);
    }
}

/// A node that finds so many rows says no more of them: to read more takes longer than to leave something out saves.
const MOST: i64 = 20_000;
/// Times are told apart into so many ranges.
const RANGES: usize = 16;

/// Where the new rows of a run are.
pub struct Where<'a> {
    plan: &'a Plan,
    stamps: &'a Stamps,
    no_others: Stamps,
    key: Option<(String, String)>,
    said: Vec<(Place, Report)>,
}

/// Where rows of these stamps are; None where that cannot be told, or they are many.
pub fn rows<'a>(d: &Definition, plan: &'a Plan, stamps: &'a Stamps) -> Result<Option<Where<'a>>> {
    if ALONE.get() != Some(true) {
        return Ok(None);
    }
    let key = {
        let _acting = ActingAs::catalog();
        hold_shards(d.source_oid)?;
        distribution(d.source_oid)?
    };
    let mut found = Where { plan, stamps, no_others: Stamps::NONE, key, said: Vec::new() };
    let Some(said) = shards::ask(d.source_oid, &found.asked())? else { return Ok(None) };
    let whole = said.iter().all(|(_, said)| said.is_whole(MOST));
    found.said = said;
    Ok(whole.then_some(found))
}

impl Where<'_> {
    fn asked(&self) -> Asked<'_> {
        Asked {
            time: &self.plan.time_column,
            key: self.key.as_ref().map(|(column, _)| column.as_str()),
            wanted: self.stamps,
            left: &self.no_others,
            before: None,
            most: MOST,
            all: true,
        }
    }

    /// How many rows there are.
    pub fn count(&self) -> i64 {
        self.said.iter().map(|(_, said)| said.rows).sum()
    }

    /// Whether the very rows are still there.
    pub fn unchanged(&self) -> Result<bool> {
        shards::unchanged(&self.said, &self.asked())
    }

    /// The condition on the values of the distribution column, to be put behind another; empty where they are many.
    pub fn of_keys(&self) -> String {
        let Some((column, type_)) = &self.key else { return String::new() };
        let mut all = Vec::new();
        for (_, said) in self.said.iter().filter(|(_, said)| said.rows > 0) {
            let Some(keys) = &said.keys else { return String::new() };
            all.extend(
                keys.iter().map(|key| format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))),
            );
        }
        let prefix = statements::prefix(self.plan);
        format!(
            " AND {prefix}{} OPERATOR(pg_catalog.=) ANY ({}::{type_}[])",
            ident(column),
            literal(&format!("{{{}}}", all.join(",")))
        )
    }

    /// The condition on the time; empty where some rows have none, or one that has no ordinary text.
    pub fn of_times(&self) -> String {
        let said: Vec<&Report> = self.said.iter().map(|(_, said)| said).collect();
        if said.iter().any(|said| said.timeless) {
            return String::new();
        }
        let ranges = joined(said.iter().flat_map(|said| said.times.iter().copied()).collect());
        let column = format!("{}{}", statements::prefix(self.plan), ident(&self.plan.time_column));
        let moment = |micros: i64| {
            let text = times::text_of(micros)?;
            Some(match self.plan.time_zoned {
                true => format!("'{text}+00'::pg_catalog.timestamptz"),
                false => format!("'{text}'::pg_catalog.timestamp"),
            })
        };
        let parts: Option<Vec<String>> = ranges
            .into_iter()
            .map(|(least, greatest)| {
                Some(format!(
                    "{column} OPERATOR(pg_catalog.>=) {} AND {column} OPERATOR(pg_catalog.<=) {}",
                    moment(least)?,
                    moment(greatest)?
                ))
            })
            .collect();
        match parts {
            Some(parts) if !parts.is_empty() => format!(" AND ({})", parts.join(" OR ")),
            _ => String::new(),
        }
    }
}

/// Ranges of times in order, those that overlap as one, and all as one where they are many.
fn joined(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut all: Vec<(i64, i64)> = Vec::new();
    for (least, greatest) in ranges {
        match all.last_mut() {
            Some(last) if least <= last.1 => last.1 = greatest.max(last.1),
            _ => all.push((least, greatest)),
        }
    }
    match (all.first(), all.last()) {
        (Some(first), Some(last)) if all.len() > RANGES => vec![(first.0, last.1)],
        _ => all,
    }
}

/// Keeps shards of a table where they are until the transaction ends, as statements that change them do.
fn hold_shards(table: pg_sys::Oid) -> Result<()> {
    ask::write_often(
        "SELECT pg_catalog.lock_shard_metadata(5, s.all) FROM (SELECT pg_catalog.array_agg(s.shardid ORDER BY s.shardid) AS all \
         FROM pg_catalog.pg_dist_shard s WHERE s.logicalrelid = $1::pg_catalog.regclass) s WHERE s.all IS NOT NULL",
        &[table.into()],
        |_| Ok(()),
    )
    .map(drop)
}

/// The column that a table is distributed by, with its type, where Citus leaves shards out by values that every session writes
/// alike.
fn distribution(table: pg_sys::Oid) -> Result<Option<(String, String)>> {
    let found = ask::write_often(
        "SELECT a.attname::pg_catalog.text, 'pg_catalog.' || t.typname FROM pg_catalog.pg_dist_partition p \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = p.logicalrelid AND a.attname = pg_catalog.column_to_column_name(p.logicalrelid, p.partkey)::pg_catalog.name \
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
         WHERE p.logicalrelid = $1::pg_catalog.regclass AND p.partmethod = 'h' AND coalesce(c.collisdeterministic, true) \
         AND a.atttypid = ANY ('{int2,int4,int8,text,uuid}'::pg_catalog.regtype[])",
        &[table.into()],
        |row| Ok((row.must::<String>(1)?, row.must::<String>(2)?)),
    )?;
    Ok(found.into_iter().next())
}
