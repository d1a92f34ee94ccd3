//! Looking for rows of a table of a cluster by their stamps, on the nodes where its shards are: each node looks at its own, without
//! SQL, as `zonemap::look` does on one server, and answers once.
//!
//! Which shards there are, and where, is what this node's catalog says at the moment of asking. A shard that is just being moved may be
//! looked at where it no longer is: so what is found is right for whoever looks again when the moment has changed (see `moment`).
use super::gather;
use super::places::{Place, nodes};
use crate::pg::v1::{Call, new_varlena};
use crate::pg::watched::as_committed_now;
use crate::pg::xact::ActingAs;
use crate::pg::zonemap::look::{self, Row, Wanted};
use crate::rollup::ask::{self, Must};
use crate::rollup::error::{Result, internal, raise};
use hll_rollup::Stamps;
use hll_rollup::sql::{STAMP, literal};
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What was found on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// So many rows.
    Rows(i64),
    /// Somebody holds a lock on a shard, or a part of it, that readers would wait for.
    Locked,
    /// It takes a statement to tell.
    Unknown,
}

/// What a node says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    /// Rows that were found.
    pub(super) rows: i64,
    locked: bool,
    unknown: bool,
    /// The tables that they lie in, shards or parts of them.
    tables: Vec<u32>,
    /// From when to when rows of each of these are.
    pub(super) times: Vec<(i64, i64)>,
    /// Some have no time.
    pub(super) timeless: bool,
    /// Their values of the column that the table is distributed by; None where they are too many, or not asked for.
    pub(super) keys: Option<BTreeSet<String>>,
    /// Equal for equal versions of rows, and for no others that happen to be there.
    print: u64,
}

/// Rows to look for: those whose stamp is wanted, or is one of `left` and their time before `before`, NULL being so too.
pub(super) struct Asked<'a> {
    /// The column of the times.
    pub(super) time: &'a str,
    /// Of the column whose values are asked for, too.
    pub(super) key: Option<&'a str>,
    /// Stamps.
    pub(super) wanted: &'a Stamps,
    /// Stamps of a backlog.
    pub(super) left: &'a Stamps,
    /// How far by time it is not merged.
    pub(super) before: Option<i64>,
    /// How many each node may find before it stops.
    pub(super) most: i64,
    /// Whether more is asked than how many there are.
    pub(super) all: bool,
}

/// More values of the column that a table is distributed by are not told.
const KEYS: usize = 200;

/// Looks for rows of a table whose stamp is wanted, or is one of `left` and their time before that of it, NULL being so too; until
/// `most` were found on a node.
pub fn look(
    table: pg_sys::Oid,
    time: &str,
    wanted: &Stamps,
    (left, before): (&Stamps, Option<i64>),
    most: i64,
) -> Result<Found> {
    let said = ask(table, &Asked { time, key: None, wanted, left, before, most, all: false })?;
    let Some(said) = said else { return Ok(Found::Unknown) };
    let rows = said.iter().map(|(_, said)| said.rows).sum();
    Ok(match said {
        // A row that was found is there, whatever the others could not tell.
        _ if rows >= most => Found::Rows(rows),
        said if said.iter().any(|(_, said)| said.locked) => Found::Locked,
        said if said.iter().any(|(_, said)| said.unknown) => Found::Unknown,
        _ => Found::Rows(rows),
    })
}

/// What each node says of its shards of a table; None where one of these is nowhere to be asked.
pub(super) fn ask(table: pg_sys::Oid, asked: &Asked) -> Result<Option<Vec<(Place, Report)>>> {
    // Statements that would read as committed now take a transaction id.
    as_committed_now(|| ask_all(table, asked))
}

fn ask_all(table: pg_sys::Oid, asked: &Asked) -> Result<Option<Vec<(Place, Report)>>> {
    let _acting = ActingAs::catalog();
    let Some(shards) = shards(table)? else { return Ok(None) };
    let places: Vec<Place> =
        nodes()?.0.into_iter().filter(|place| shards.contains_key(&place.group)).collect();
    if places.len() < shards.len() {
        return Ok(None);
    }
    let tables = |place: &Place| {
        let names: Vec<String> = shards[&place.group].iter().map(|name| literal(name)).collect();
        format!(
            "ARRAY(SELECT coalesce(pg_catalog.to_regclass(n)::pg_catalog.oid, 0) FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) n)",
            names.join(",")
        )
    };
    let said = ask_of(&places, tables, asked)?;
    Ok(Some(places.into_iter().zip(said).collect()))
}

/// Whether each node still has the very versions of rows that it told of.
pub(super) fn unchanged(said: &[(Place, Report)], asked: &Asked) -> Result<bool> {
    let _acting = ActingAs::catalog();
    let told: HashMap<i32, &Report> =
        said.iter().filter(|(_, said)| said.rows > 0).map(|(place, said)| (place.group, said)).collect();
    let places: Vec<Place> = nodes()?.0.into_iter().filter(|place| told.contains_key(&place.group)).collect();
    let tables = |place: &Place| {
        let tables: Vec<String> = told[&place.group].tables.iter().map(u32::to_string).collect();
        format!("'{{{}}}'::pg_catalog.oid[]", tables.join(","))
    };
    let now = ask_of(&places, tables, asked)?;
    Ok(places.len() == told.len() && places.iter().zip(&now).all(|(place, now)| now == told[&place.group]))
}

/// What each of these nodes says of its `tables`.
fn ask_of(places: &[Place], tables: impl Fn(&Place) -> String, asked: &Asked) -> Result<Vec<Report>> {
    let array = |stamps: &Stamps| {
        let ends: Vec<String> =
            stamps.ranges().iter().flat_map(|(a, b)| [a.to_string(), b.to_string()]).collect();
        format!("'{{{}}}'::pg_catalog.int8[]", ends.join(","))
    };
    let rest = format!(
        "{}, {}, {}, {}, {}, '{}', {}",
        literal(asked.time),
        asked.key.map_or("NULL".into(), literal),
        array(asked.wanted),
        array(asked.left),
        asked.before.map_or("NULL".into(), |at| format!("'{at}'")),
        asked.most,
        asked.all
    );
    let answers = gather::ask(places, |place| {
        format!("SELECT rollup_internal.look_at_shards({}, {rest})", tables(place))
    })?;
    let said = places.iter().zip(answers).map(|(place, answer)| match answer.first().map(Vec::as_slice) {
        Some([Some(text)]) => serde_json::from_str(text).map_err(internal),
        _ => Err(gather::unreachable(place, "it does not say what its shards hold")),
    });
    said.collect()
}

/// The shards of a table by the group of a node that has each, as names that every session there reads alike; None where one is
/// nowhere.
fn shards(table: pg_sys::Oid) -> Result<Option<HashMap<i32, Vec<String>>>> {
    let found = ask::write_often(
        "SELECT g.groupid, pg_catalog.array_agg(CASE WHEN g.schema OPERATOR(pg_catalog.=) 'public' AND NOT pg_catalog.starts_with(g.name, 'public.') THEN 'public.' || g.name ELSE g.name END) \
         FROM (SELECT (SELECT pg_catalog.min(p.groupid) FROM pg_catalog.pg_dist_placement p WHERE p.shardid = s.shardid AND p.shardstate = 1) AS groupid, \
         n.nspname AS schema, pg_catalog.shard_name(s.logicalrelid, s.shardid) AS name FROM pg_catalog.pg_dist_shard s \
         JOIN pg_catalog.pg_class c ON c.oid = s.logicalrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE s.logicalrelid = $1::pg_catalog.regclass) g GROUP BY 1",
        &[table.into()],
        |row| Ok((row.get::<i32>(1)?, row.must::<Vec<String>>(2)?)),
    )?;
    let placed: Option<HashMap<i32, Vec<String>>> =
        found.into_iter().map(|(group, names)| Some((group?, names))).collect();
    Ok(placed.filter(|placed| !placed.is_empty()))
}

crate::v1!(rollup_look_at_shards, look_at_shards);

/// `rollup_internal.look_at_shards`: what this node says of some of its shards.
fn look_at_shards(call: &mut Call) -> pg_sys::Datum {
    let ranges = |n: usize| Stamps::from_ranges(call.i64s(n).chunks_exact(2).map(|ends| (ends[0], ends[1])));
    let text = |n: usize| call.bytes(n).and_then(|name| std::str::from_utf8(name).ok());
    let (wanted, left) = (ranges(3), ranges(4));
    let asked = Asked {
        time: text(1).unwrap_or_default(),
        key: text(2),
        wanted: &wanted,
        left: &left,
        before: call.i64(5),
        most: call.i64(6).unwrap_or(i64::MAX),
        all: call.bool(7) == Some(true),
    };
    match serde_json::to_vec(&report(&call.oids(0), &asked)) {
        Ok(text) => new_varlena(&text),
        Err(e) => raise(internal(e)),
    }
}

fn report(tables: &[pg_sys::Oid], asked: &Asked) -> Report {
    let early = |at: Option<i64>| asked.before.is_none_or(|before| at.is_none_or(|at| at < before));
    let said = RefCell::new(Report { keys: asked.key.map(|_| BTreeSet::new()), ..Report::default() });
    let column = Cell::new((pg_sys::InvalidOid, None));
    let each = |row: &Row| said.borrow_mut().add(row, asked.key, &column);
    let either = asked.wanted.union(asked.left);
    for table in tables {
        let here = Wanted {
            stamp: STAMP,
            time: asked.time,
            ranges: either.ranges(),
            between: &|least, greatest| {
                asked.wanted.meets(least, greatest) || asked.left.meets(least, greatest)
            },
            row: &|stamp, at| asked.wanted.contains(stamp) || asked.left.contains(stamp) && early(at),
            most: asked.most - said.borrow().rows,
            each: asked.all.then_some(&each),
        };
        // A shard that is not there, or not yet for others, is none that can be looked at.
        let found =
            if *table == pg_sys::InvalidOid { look::Found::Unknown } else { look::look(*table, &here) };
        let mut said = said.borrow_mut();
        match found {
            look::Found::Rows(rows, _) => said.rows += rows,
            look::Found::Locked => said.locked = true,
            look::Found::Unknown => said.unknown = true,
        }
        if said.locked || said.rows >= asked.most {
            break;
        }
    }
    said.into_inner()
}

impl Report {
    /// Whether it tells of every row, where so many could be found.
    pub(super) fn is_whole(&self, most: i64) -> bool {
        !self.locked && !self.unknown && self.rows < most
    }

    fn add(&mut self, row: &Row, key: Option<&str>, column: &Cell<(pg_sys::Oid, Option<i16>)>) {
        let table = row.table.to_u32();
        if self.tables.last() != Some(&table) {
            self.tables.push(table);
            self.times.push((i64::MAX, i64::MIN));
        }
        match (row.at, self.times.last_mut()) {
            (Some(at), Some((least, greatest))) => (*least, *greatest) = (at.min(*least), at.max(*greatest)),
            _ => self.timeless = true,
        }
        let mut hash = DefaultHasher::new();
        (table, row.version).hash(&mut hash);
        self.print = self.print.wrapping_add(hash.finish());
        let (Some(key), Some(keys)) = (key, &mut self.keys) else { return };
        if column.get().0 != row.table {
            column.set((row.table, look::column_number(row.table, key)));
        }
        match column.get().1.and_then(|number| row.text(number)) {
            Some(value) if keys.len() < KEYS || keys.contains(&value) => {
                keys.insert(value);
            }
            _ => self.keys = None,
        }
    }
}
