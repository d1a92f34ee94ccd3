//! Rows that come to a source in another way than an INSERT or COPY that leaves the stamp to its default: with the
//! stamps of those who wrote them elsewhere, which a run may have passed. They are recorded, and the next run of each rollup
//! judges them (see `newcomers`).
//!
//! Invariant: every row of a source whose stamp is not that of the transaction that put it there is a new version of a row
//! that was there (an UPDATE, also one that moves it to another partition), or is recorded in that transaction.
//! It rests on this: the index tells of each row that is inserted (`pg::zonemap::arrival`), which is why every leaf has it;
//! the commands that bring a table as a whole are told of by an event trigger (`arrange`); a row that is inserted has its
//! `xmin`, which outlives freezing, VACUUM FULL and CLUSTER; and before a source has its first rollup, whoever writes to it
//! is waited for. A record is a row, written by the transaction itself: rolled back with it, with a part of it, prepared
//! with it.
//!
//! Stamps that no transaction of this server has are an error: they would be taken for merged, or be merged when their
//! time comes. Sources of other clusters that are not brought into this one's ids are left alone: all of their rows are
//! computed again (see `rebase`). So are tables that Citus distributes: their shards are no tables of this node.
use super::catalog::{self, Must};
use super::citus;
use super::error::{Result, fail, raise};
use crate::pg::trigger::{self, Micros};
use crate::pg::xact::{ActingAs, next_transaction_id, own_transaction_id};
use crate::pg::zonemap::arrival::{self, Came, Watcher};
use crate::pg::zonemap::extent::{Extent, extent};
use hll_rollup::sql::STAMP;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Called once when the library is loaded.
pub fn init() {
    arrival::tell(Watcher { column: c"rollup_stamp", offset, own, came });
}

/// A source whose rollups want to be told.
struct Source {
    id: pg_sys::Oid,
    name: String,
    offset: i64,
    /// The time columns of its rollups.
    columns: Vec<String>,
}

const MINUTE: i64 = 60_000_000;
/// Records of one table that a part of a transaction writes by the minute, by the hour, and by the day. More are one: all
/// times.
const MANY: [(usize, i64); 3] = [(500, MINUTE), (1000, 60 * MINUTE), (1500, 1440 * MINUTE)];

/// What a part of a transaction has recorded of a table and a time column.
#[derive(Default)]
struct Noted {
    spans: HashSet<(Option<Micros>, Option<Micros>)>,
    all: bool,
}

thread_local! {
    /// What is known of tables, until their index is looked up again.
    static SOURCES: RefCell<HashMap<pg_sys::Oid, Rc<Vec<Source>>>> = RefCell::default();
    /// What this part of the transaction has recorded: written once, it need not be again.
    #[allow(clippy::type_complexity)]
    static NOTED: RefCell<((i64, u32), HashMap<(pg_sys::Oid, pg_sys::Oid, String), Noted>)> = RefCell::default();
}

fn own() -> i64 {
    own_transaction_id() + citus::stamp_base()
}

/// The offset of the stamps of a table that has rollups, or lies below one that has.
fn offset(table: pg_sys::Oid) -> Option<i64> {
    let sources = sources(table).unwrap_or_else(raise);
    let offset = sources.first().map(|s| s.offset);
    // Where two sources lie above with offsets of their own, no stamp is that of both: all rows are looked at.
    let one = sources.iter().all(|s| Some(s.offset) == offset);
    SOURCES.with_borrow_mut(|known| known.insert(table, Rc::new(sources)));
    offset.map(|offset| if one { offset } else { i64::MIN / 2 })
}

fn sources(table: pg_sys::Oid) -> Result<Vec<Source>> {
    let _acting = ActingAs::catalog();
    catalog::read(
        "WITH RECURSIVE up (relation) AS (SELECT $1::pg_catalog.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.relation) \
         SELECT s.relation::pg_catalog.oid, s.relation::pg_catalog.text, s.stamp_offset, pg_catalog.array_agg(DISTINCT d.plan->>'time_column') \
         FROM rollup.source s JOIN up ON up.relation = s.relation JOIN rollup.definition d ON d.source = s.relation AND d.nodes IS NULL GROUP BY 1, 2, 3 \
         HAVING pg_catalog.bool_and(d.system_id = (SELECT system_identifier FROM pg_catalog.pg_control_system()))",
        &[table.into()],
        |row| {
            Ok(Source { id: row.must(1)?, name: row.must(2)?, offset: row.must(3)?, columns: row.must(4)? })
        },
    )
}

fn came(row: &Came) {
    let sources = SOURCES.with_borrow(|known| known.get(&row.table()).cloned());
    for source in sources.iter().flat_map(|s| s.iter()) {
        note_row(source, row).unwrap_or_else(raise);
    }
}

fn note_row(source: &Source, row: &Came) -> Result<()> {
    if row.stamp == own() + source.offset {
        return Ok(());
    }
    if row.stamp <= 0 || row.stamp >= next_transaction_id() + citus::stamp_base() + source.offset {
        return fail(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!(
                "{STAMP} {} of a new row of {} is of no transaction of this server",
                row.stamp, source.name
            ),
            format!(
                "Leave the column out, of INSERT and COPY with a list of the others: it has a default. To load a dump that has it: \
                 CREATE TRIGGER load BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION rollup.own_stamp(); and when it is loaded: DROP TRIGGER load ON {0};",
                source.name
            ),
        );
    }
    for column in &source.columns {
        let note = |since, until| write(source, row.table(), Some(row.xmin()), column, since, until);
        match row.time(column) {
            None => {
                note(Some(i64::MIN), Some(i64::MAX))?;
                note(None, None)?;
            }
            Some(None) => note(None, None)?,
            Some(Some(t)) => {
                let (since, until) = around(source, row.table(), column, t);
                note(Some(since), Some(until))?;
            }
        }
    }
    Ok(())
}

/// The span of time that is recorded for a row: the longer, the more there are.
fn around(source: &Source, table: pg_sys::Oid, column: &str, at: Micros) -> (Micros, Micros) {
    let noted = with_noted(source.id, table, column, |noted| (noted.spans.len(), noted.all));
    let unit = MANY.iter().find(|(many, _)| noted.0 < *many).map(|(_, unit)| *unit);
    match unit {
        Some(unit) if !noted.1 && at > i64::MIN && at < trigger::END => {
            let since = at.div_euclid(unit).checked_mul(unit).unwrap_or(i64::MIN);
            (since, since.saturating_add(unit - 1))
        }
        Some(_) if at == i64::MIN => (at, at),
        Some(_) if at >= trigger::END => (trigger::END - 1440 * MINUTE, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}

fn with_noted<T>(
    source: pg_sys::Oid,
    table: pg_sys::Oid,
    column: &str,
    f: impl FnOnce(&mut Noted) -> T,
) -> T {
    let now = trigger::subtransaction();
    NOTED.with_borrow_mut(|(of, noted)| {
        if *of != now {
            *of = now;
            noted.clear();
        }
        f(noted.entry((source, table, column.to_string())).or_default())
    })
}

fn write(
    source: &Source,
    table: pg_sys::Oid,
    xid: Option<u32>,
    column: &str,
    since: Option<Micros>,
    until: Option<Micros>,
) -> Result<()> {
    let all = (since, until) == (Some(i64::MIN), Some(i64::MAX));
    let is_new = with_noted(source.id, table, column, |noted| {
        let is_new = !(noted.all && since.is_some()) && (all || noted.spans.insert((since, until)));
        noted.all |= all;
        is_new
    });
    // A table that comes as a whole is recorded whatever was recorded of rows in it.
    if !is_new && xid.is_some() {
        return Ok(());
    }
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.arrival (source, relation, rollup_stamp, xid, time_column, since, until) VALUES ($1, $2, $3, $4::pg_catalog.xid, $5::pg_catalog.name, $6, $7)",
        &[
            source.id.into(),
            table.into(),
            (own() + source.offset).into(),
            xid.map(|xid| xid.to_string()).into(),
            column.into(),
            trigger::timestamptz(since),
            trigger::timestamptz(until),
        ],
    )
}

/// Records that tables came to stand below a source, each as a whole. The caller's command has them locked.
pub fn note_tables(tables: &[pg_sys::Oid]) -> Result<()> {
    for &table in tables {
        for source in sources(table)?.iter().filter(|s| s.id != table) {
            for column in &source.columns {
                match extent(table, column) {
                    Extent::Empty => {}
                    Extent::Times(times, some_without) => {
                        if let Some((least, greatest)) = times {
                            let until = if greatest >= trigger::END { i64::MAX } else { greatest };
                            let since = least.min(trigger::END - 1440 * MINUTE);
                            write(source, table, None, column, Some(since), Some(until))?;
                        }
                        if some_without {
                            write(source, table, None, column, None, None)?;
                        }
                    }
                    Extent::Unknown => {
                        write(source, table, None, column, Some(i64::MIN), Some(i64::MAX))?;
                        write(source, table, None, column, None, None)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Records that came along in a dump, into another database of this cluster: its ids are those of here, but who inserted the rows
/// is whoever restored them. What is to be judged then is all of the table, as after a restore into another cluster.
pub fn came_along(source: pg_sys::Oid) -> Result<bool> {
    if !catalog::has_arrivals(source)? {
        return Ok(false);
    }
    let _acting = ActingAs::catalog();
    let found = catalog::read(
        "SELECT EXISTS (SELECT FROM rollup.arrival n WHERE n.source = $1 AND n.home <> 'rollup.arrival'::pg_catalog.regclass)",
        &[source.into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.first() == Some(&Some(true)))
}
