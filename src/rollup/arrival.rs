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
//! Rows that were there, and that the same transaction has moved or changed, are told from those that it brought by the
//! command that wrote them, which is before the first that brought any, or by their header, where it is that very one. A
//! row that an UPDATE or a MERGE has moved to another partition has the header of a new row: where the same transaction has
//! brought others to that partition, the place where it lies is recorded, too, with the file that has it. Of more than a
//! thousand such rows, or where the table was rewritten since, nobody can tell which came.
//!
//! Stamps that no transaction of this server has are an error: they would be taken for merged, or be merged when their
//! time comes. Sources of other clusters that are not brought into this one's ids are left alone: all of their rows are
//! computed again (see `rebase`). So are tables that Citus distributes: their shards are no tables of this node.
use super::catalog::{self, Must};
use super::citus;
use super::error::{Result, fail, raise};
use crate::pg::executing::{self, Left};
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
    arrival::tell(Watcher { column: c"rollup_stamp", offset, own, came, moved });
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
    spans: HashSet<Span>,
    all: bool,
    /// Rows that moved.
    moved: usize,
}

impl Noted {
    fn has_come(&self) -> bool {
        self.all || !self.spans.is_empty()
    }
}

thread_local! {
    /// What is known of tables, until their index is looked up again.
    static SOURCES: RefCell<HashMap<pg_sys::Oid, Rc<Vec<Source>>>> = RefCell::default();
    /// What this part of the transaction has recorded: written once, it need not be again.
    #[allow(clippy::type_complexity)]
    static NOTED: RefCell<((i64, u32), HashMap<Place, Noted>)> = RefCell::default();
    /// Rows that statements which are executed have moved, and none of which any has come beside yet.
    static MOVED: RefCell<HashMap<(Place, u32), Moved>> = RefCell::default();
}

/// A source, the table that rows of it lie in, and the time column.
type Place = (pg_sys::Oid, pg_sys::Oid, String);

/// Of one execution, whose number this is: of which command, and where they lie; one more than MOST at most.
struct Moved {
    execution: u64,
    command: u32,
    places: Vec<i64>,
}

/// So many rows that moved are recorded for a table and a part of a transaction, each by its place. Of more it is recorded that
/// there are.
const MOST: usize = 1000;

/// From when to when; None: without a time.
type Span = (Option<Micros>, Option<Micros>);
const ALWAYS: Span = (Some(i64::MIN), Some(i64::MAX));
/// What says nothing of times.
const NEVER: Span = (Some(i64::MIN), Some(i64::MIN));

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
        let place = (source.id, row.table(), column.clone());
        let by = Some((row.xmin(), row.command()));
        for span in spans(&place, row.time(column)) {
            write(source, &place, by, span)?;
        }
        let moved = MOVED.with_borrow_mut(|moved| moved.remove(&(place.clone(), row.xmin())));
        if let Some(moved) = moved.filter(|moved| executing::is_executed(moved.execution)) {
            write_moved(source, &place, (row.xmin(), moved.command), &moved.places)?;
        }
    }
    Ok(())
}

fn moved(row: &Came, left: &Left) {
    let sources = SOURCES.with_borrow(|known| known.get(&row.table()).cloned());
    for source in sources.iter().flat_map(|s| s.iter()) {
        match came_before(source, row, left) {
            true => note_row(source, row),
            false => note_moved(source, row),
        }
        .unwrap_or_else(raise);
    }
}

/// Whether a row that moves has come to the partition that it leaves in this very part of the transaction: then it comes to the
/// one where it is now. Where others were moved there, it may be one of those.
fn came_before(source: &Source, row: &Came, left: &Left) -> bool {
    let Some(table) = left.table.filter(|_| left.inserter == Some(row.xmin())) else { return false };
    source.columns.iter().all(|column| {
        let place = (source.id, table, column.clone());
        let (came, moved) = with_noted(&place, |noted| (noted.has_come(), noted.moved > 0));
        came && !moved && !MOVED.with_borrow(|m| m.contains_key(&(place.clone(), row.xmin())))
    })
}

/// Records where a row lies that was moved, where others have come to its partition; else it is kept in mind, for as long as
/// the statement is executed: what later ones bring has other commands.
fn note_moved(source: &Source, row: &Came) -> Result<()> {
    for column in &source.columns {
        let place = (source.id, row.table(), column.clone());
        if with_noted(&place, |noted| noted.has_come()) {
            write_moved(source, &place, (row.xmin(), row.command()), &[row.place()])?;
            continue;
        }
        MOVED.with_borrow_mut(|moved| {
            if !moved.contains_key(&(place.clone(), row.xmin())) {
                moved.retain(|_, m| executing::is_executed(m.execution));
            }
            let (execution, command) = (executing::number(), row.command());
            let anew = || Moved { execution, command, places: Vec::new() };
            let kept = moved.entry((place, row.xmin())).or_insert_with(anew);
            if kept.execution != execution {
                *kept = anew();
            }
            if kept.places.len() <= MOST {
                kept.places.push(row.place());
            }
        });
    }
    Ok(())
}

/// Records rows that a (sub)transaction has moved, which has brought others: from this command on.
fn write_moved(source: &Source, place: &Place, by: (u32, u32), places: &[i64]) -> Result<()> {
    let before = with_noted(place, |noted| {
        noted.moved += places.len();
        noted.moved - places.len()
    });
    if before > MOST {
        return Ok(());
    }
    let listed = if before + places.len() > MOST { &[] } else { places };
    insert(source, place, Some(by), NEVER, Some(listed))
}

/// The spans of time that are recorded for a row: the longer, the more there are. None is a time that cannot be told.
fn spans(place: &Place, time: Option<Option<Micros>>) -> Vec<Span> {
    let (many, all) = with_noted(place, |noted| (noted.spans.len(), noted.all));
    let at = match time {
        None => return vec![ALWAYS, (None, None)],
        Some(None) => return vec![(None, None)],
        Some(Some(at)) => at,
    };
    let unit = MANY.iter().find(|(most, _)| many < *most).map(|(_, unit)| *unit);
    vec![match unit {
        Some(unit) if !all && at > i64::MIN && at < trigger::END => {
            let since = at.div_euclid(unit).checked_mul(unit).unwrap_or(i64::MIN);
            (Some(since), Some(since.saturating_add(unit - 1)))
        }
        Some(_) if at == i64::MIN => (Some(at), Some(at)),
        Some(_) if at >= trigger::END => (Some(trigger::END - 1440 * MINUTE), Some(i64::MAX)),
        _ => ALWAYS,
    }]
}

fn with_noted<T>(place: &Place, f: impl FnOnce(&mut Noted) -> T) -> T {
    let now = trigger::subtransaction();
    NOTED.with_borrow_mut(|(of, noted)| {
        if *of != now {
            *of = now;
            noted.clear();
        }
        f(noted.entry(place.clone()).or_default())
    })
}

/// Records when rows lie that came: by a (sub)transaction from this command on, or with their table.
fn write(source: &Source, place: &Place, by: Option<(u32, u32)>, (since, until): Span) -> Result<()> {
    let all = (since, until) == ALWAYS;
    let is_new = with_noted(place, |noted| {
        let is_new = !(noted.all && since.is_some()) && (all || noted.spans.insert((since, until)));
        noted.all |= all;
        is_new
    });
    // A table that comes as a whole is recorded whatever was recorded of rows in it.
    match !is_new && by.is_some() {
        true => Ok(()),
        false => insert(source, place, by, (since, until), None),
    }
}

fn insert(
    source: &Source,
    place: &Place,
    by: Option<(u32, u32)>,
    (since, until): Span,
    moved: Option<&[i64]>,
) -> Result<()> {
    let _acting = ActingAs::catalog();
    catalog::execute(
        "INSERT INTO rollup.arrival (source, relation, rollup_stamp, xid, time_column, since, until, command, moved, file) \
         VALUES ($1, $2, $3, $4::pg_catalog.xid, $5::pg_catalog.name, $6, $7, $8, $9, CASE WHEN $9 IS NOT NULL THEN pg_catalog.pg_relation_filenode($2) END)",
        &[
            source.id.into(),
            place.1.into(),
            (own() + source.offset).into(),
            by.map(|(xid, _)| xid.to_string()).into(),
            place.2.as_str().into(),
            trigger::timestamptz(since),
            trigger::timestamptz(until),
            by.map(|(_, command)| i64::from(command)).into(),
            moved.map(<[i64]>::to_vec).into(),
        ],
    )
}

/// Records that tables came to stand below a source, each as a whole. The caller's command has them locked.
pub fn note_tables(tables: &[pg_sys::Oid]) -> Result<()> {
    for &table in tables {
        for source in sources(table)?.iter().filter(|s| s.id != table) {
            for column in &source.columns {
                let place = (source.id, table, column.clone());
                match extent(table, column) {
                    Extent::Empty => {}
                    Extent::Times(times, some_without) => {
                        if let Some((least, greatest)) = times {
                            let until = if greatest >= trigger::END { i64::MAX } else { greatest };
                            let since = least.min(trigger::END - 1440 * MINUTE);
                            write(source, &place, None, (Some(since), Some(until)))?;
                        }
                        if some_without {
                            write(source, &place, None, (None, None))?;
                        }
                    }
                    Extent::Unknown => {
                        write(source, &place, None, ALWAYS)?;
                        write(source, &place, None, (None, None))?;
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
