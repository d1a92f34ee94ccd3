//! Asking every node of the cluster how far its transactions are, over connections that are kept between runs.
//!
//! Round 1 takes a snapshot on each node and makes its log safe; round 2 begins once all of them have answered, and
//! tells of connections of Citus at work and of transactions that are prepared. A row whose transaction had finished
//! in round 1 is visible once none of those transactions is left.
use super::places::{Place, groups_so_far, nodes};
use crate::pg::libpq::{Connection, Row};
use crate::pg::watched::as_committed_now;
use crate::pg::xact::{ActingAs, own_transaction_id};
use crate::rollup::catalog;
use crate::rollup::error::{Result, internal, report};
use hll_rollup::sql::literal;
use hll_rollup::{Absent, Answer, Answers, MANY, Node, Nodes, Snapshot, restarted};
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

static NODE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5000);

thread_local! {
    /// Connections that are kept, by what they were opened with.
    static KEPT: RefCell<HashMap<String, Connection>> = RefCell::new(HashMap::new());
}

/// Called once when the library is loaded.
pub fn init() {
    GucRegistry::define_int_guc(
        c"rollup.node_timeout",
        c"Time that a run on a Citus cluster waits for a node, or for a transaction in doubt.",
        c"A run without an answer fails and is tried again; rows of a node whose transaction is in doubt come later.",
        &NODE_TIMEOUT,
        10,
        3_600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
}

/// Until when a node has time to answer.
fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(NODE_TIMEOUT.get().unsigned_abs().into())
}

/// Runs on each node the statements made for it; the rows of all of them, node by node.
pub(super) fn ask(places: &[Place], sql: impl Fn(&Place) -> String) -> Result<Vec<Vec<Row>>> {
    let until = deadline();
    // Those that are not given back, because of an error, are closed as they are dropped.
    let mut kept = KEPT.take();
    let mut open = Vec::new();
    for place in places {
        let Some(conninfo) = &place.conninfo else {
            open.push(None);
            continue;
        };
        let sent = kept.remove(conninfo).filter(Connection::alive).filter(|c| c.send(&sql(place)).is_ok());
        let again = sent.is_some();
        let connection = match sent {
            Some(connection) => connection,
            None => begin(conninfo, &sql(place), until).map_err(|why| unreachable(place, &why))?,
        };
        open.push(Some((connection, again)));
    }
    let mut answers = Vec::new();
    for (place, connection) in places.iter().zip(open) {
        let (Some((mut connection, again)), Some(conninfo)) = (connection, &place.conninfo) else {
            answers.push(ask_here(&sql(place))?);
            continue;
        };
        let mut answer = connection.receive(until);
        if answer.is_err() && again && !connection.alive() {
            // It was closed since the last run: a server that was restarted is asked again.
            connection = begin(conninfo, &sql(place), until).map_err(|why| unreachable(place, &why))?;
            answer = connection.receive(until);
        }
        answers.push(answer.map_err(|why| unreachable(place, &why))?);
        kept.insert(conninfo.clone(), connection);
    }
    KEPT.set(kept);
    Ok(answers)
}

fn begin(conninfo: &str, sql: &str, until: Instant) -> std::result::Result<Connection, String> {
    let connection = Connection::open(conninfo, until)?;
    connection.send(sql)?;
    Ok(connection)
}

pub(super) fn unreachable(place: &Place, why: &str) -> pg_sys::panic::ErrorReport {
    report(
        PgSqlErrorCode::ERRCODE_CONNECTION_EXCEPTION,
        format!("node {} (group {}) does not answer: {why}", place.name, place.group),
        "The rollup goes on once it does. SELECT citus_disable_node(…) where it is not to come back soon.",
    )
}

/// The same for the node that asks.
fn ask_here(sql: &str) -> Result<Vec<Row>> {
    // The list of sessions is read once a transaction, and must be that of now.
    catalog::read("SELECT pg_catalog.pg_stat_clear_snapshot()", &[], |_| Ok(()))?;
    let mut rows = Vec::new();
    for one in sql.split(";\n") {
        rows.extend(catalog::write(one, &[], |row| {
            (1..=row.columns()).map(|n| row.get::<String>(n)).collect::<pgrx::spi::SpiResult<Row>>()
        })?);
    }
    Ok(rows)
}

/// When the server began to work, in microseconds, which every session reads alike: a crash starts this process again.
pub(super) const SINCE: &str = "SELECT (1000000 * extract(epoch FROM a.backend_start))::pg_catalog.int8::pg_catalog.text \
  FROM pg_catalog.pg_stat_get_activity(NULL) a WHERE a.backend_type = 'checkpointer'";

/// Round 1: the snapshot; everything else comes after it. Stamps are ids plus `offset`.
fn snapshot_of(group: i32, before: Option<&Node>, offset: i64) -> String {
    let before = before.map(|n| &n.seen).filter(|s| s.xmax > offset);
    let aborted = before.map_or("NULL".into(), |s| {
        let ids: Vec<String> = s.xip.iter().map(|x| (x - offset).to_string()).collect();
        format!(
            "CASE WHEN n.xmax - {xmax} <= {MANY} THEN (SELECT coalesce(pg_catalog.string_agg(x::pg_catalog.text, ','), '') FROM \
             (SELECT pg_catalog.generate_series({xmax}::pg_catalog.int8, n.xmax - 1) UNION SELECT pg_catalog.unnest('{{{}}}'::pg_catalog.int8[])) a (x) \
             WHERE x <> ALL (n.xip) AND x < n.xmax AND pg_catalog.pg_xact_status(x::pg_catalog.text::pg_catalog.xid8) = 'aborted') END",
            ids.join(","),
            xmax = s.xmax - offset
        )
    });
    format!(
        "SELECT l.groupid::pg_catalog.text, n.xmax::pg_catalog.text, pg_catalog.array_to_string(n.xip, ','), {aborted}, \
         ({SINCE}), \
         c.system_identifier::pg_catalog.text, rollup_internal.flush_log()::pg_catalog.text \
         FROM (SELECT pg_catalog.pg_snapshot_xmax(s)::pg_catalog.text::pg_catalog.int8 AS xmax, \
         ARRAY(SELECT x::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_snapshot_xip(s) x ORDER BY 1) AS xip FROM pg_catalog.pg_current_snapshot() s) n, \
         pg_catalog.pg_dist_local_group l, pg_catalog.pg_control_system() c WHERE l.groupid = {group}"
    )
}

/// Round 2. In this order: the clock; who has been at work since when, except for connections called `but`; what is
/// prepared. Who ended work by preparing it is in the last list if not in the one before.
fn activity_of(but: &str) -> String {
    format!(
        "SELECT (1000000 * extract(epoch FROM pg_catalog.clock_timestamp()))::pg_catalog.int8::pg_catalog.text;
SELECT (1000000 * extract(epoch FROM pg_catalog.min(a.xact_start)))::pg_catalog.int8::pg_catalog.text FROM pg_catalog.pg_stat_activity a \
WHERE a.datname = pg_catalog.current_database() AND (a.application_name LIKE 'citus\\_internal%' AND a.application_name <> {} \
OR a.application_name NOT LIKE 'citus\\_%' AND a.pid IN (SELECT t.process_id FROM pg_catalog.get_all_active_transactions() t WHERE t.worker_query));
SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE gid LIKE 'citus\\_%' AND database = pg_catalog.current_database()",
        literal(but)
    )
}

pub(super) fn numbers(text: &str) -> Result<Vec<i64>> {
    text.split(',').filter(|x| !x.is_empty()).map(|x| x.parse().map_err(internal)).collect()
}

/// The number that a node says next, which may be NULL.
fn number(mut rows: impl Iterator<Item = Option<String>>) -> Result<Option<i64>> {
    let text = rows.next().ok_or_else(|| internal("a node says less than it was asked"))?;
    text.map(|t| t.parse().map_err(internal)).transpose()
}

/// What one node says of itself, for people.
pub struct Found {
    /// When its server began to work.
    pub since: String,
    /// Its clock: microseconds.
    pub at: i64,
    /// Since when the oldest connection of Citus that is at work has been so.
    pub oldest: Option<i64>,
    /// Its prepared transactions of Citus.
    pub prepared: Vec<String>,
}

/// Group and name of a node, and what it says or why it says nothing.
pub type Asked = (i32, String, std::result::Result<Found, String>);

/// Asks every node for itself.
pub fn each() -> Result<Vec<Asked>> {
    as_committed_now(ask_each)
}

fn ask_each() -> Result<Vec<Asked>> {
    let _acting = ActingAs::catalog();
    let (places, disabled) = nodes()?;
    let one = |place: &Place| {
        let sql = format!("{SINCE};\n{}", activity_of(""));
        let rows = ask(std::slice::from_ref(place), |_| sql.clone()).map_err(|e| e.message().to_string())?;
        let mut rows = rows.into_iter().flatten().map(|row| row.into_iter().next().flatten());
        let since = rows.next().flatten().ok_or("it does not say since when it works")?;
        let mut next = || number(&mut rows).map_err(|e| e.message().to_string());
        let (at, oldest) = (next()?.ok_or("it does not say what time it is")?, next()?);
        Ok(Found { since, at, oldest, prepared: rows.flatten().collect() })
    };
    let mut found: Vec<_> = places.iter().map(|p| (p.group, p.name.clone(), one(p))).collect();
    let waits = "the node is disabled: its rows come once it is activated";
    found.extend(disabled.into_iter().map(|(group, name)| (group, name, Err(waits.to_string()))));
    Ok(found)
}

/// Waits until every statement that Citus has at work has ended, except for those of this session; the groups of nodes.
pub fn wait_for_quiet() -> Result<Vec<i32>> {
    let _acting = ActingAs::catalog();
    let own: String = catalog::one(
        "SELECT pg_catalog.concat('citus_internal gpid=', pg_catalog.citus_backend_gpid())",
        &[],
    )?;
    let (places, disabled) = nodes()?;
    let absent = disabled.into_keys().map(|group| (group, Absent::Disabled)).collect();
    let groups: Vec<i32> = places.iter().map(|p| p.group).collect();
    let nodes = groups.iter().map(|g| (*g, Answer::default())).collect();
    let mut answers = Answers { nodes, absent, ..Answers::default() };
    let prepared = activity(&places, &mut answers, (true, false), &own)?;
    answers.held = in_doubt(&places, prepared)?;
    if answers.quiet() {
        return Ok(groups);
    }
    Err(report(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "statements of Citus are at work, or in doubt, that were sent before the table was locked",
        "Try again when they have ended: citus_stat_activity and pg_prepared_xacts show them.",
    ))
}

/// How far a rollup has come that has merged every row of a table that is locked.
pub fn everything(offset: i64) -> Result<Nodes> {
    // A statement that was sent before the table was locked would write after.
    wait_for_quiet()?;
    let _acting = ActingAs::catalog();
    let own = own_transaction_id() + offset;
    let so_far = groups_so_far()?.unwrap_or(-1);
    let (places, disabled) = nodes()?;
    let mut known = Nodes::new();
    for (place, rows) in places.iter().zip(ask(&places, |p| snapshot_of(p.group, None, offset))?) {
        let answer = snapshot(place, rows, offset)?;
        let here = place.conninfo.is_none();
        // Rows that this transaction is still to write come later.
        let seen = if here { answer.now.hide(Some(own)) } else { answer.now };
        let node = Node { seen: seen.clone(), safe: seen, since: answer.since, system: answer.system };
        known.insert(place.group, node);
    }
    for group in (0..=so_far).filter(|group| !disabled.contains_key(group)) {
        known.entry(group).or_insert(Node {
            seen: Snapshot::everything(),
            safe: Snapshot::everything(),
            ..Node::default()
        });
    }
    Ok(known)
}

/// What all nodes say, ids as stamps: `offset` added to each; `before` is how far the rollup has come.
pub fn all(before: &Nodes, offset: i64) -> Result<Answers> {
    let _acting = ActingAs::catalog();
    let so_far = groups_so_far()?;
    let (places, disabled) = nodes()?;
    let absent = disabled.into_keys().map(|group| (group, Absent::Disabled)).collect();
    let mut answers = Answers { absent, ..Answers::default() };
    let first = ask(&places, |p| snapshot_of(p.group, before.get(&p.group), offset))?;
    for (place, rows) in places.iter().zip(first) {
        answers.nodes.insert(place.group, snapshot(place, rows, offset)?);
    }
    let given = so_far.unwrap_or(-1);
    // A restored table may name groups that are still to be given out here.
    for group in before.keys().copied().filter(|g| *g <= given).chain(0..given + 1) {
        if !answers.nodes.contains_key(&group) {
            answers.absent.entry(group).or_insert(Absent::Gone);
        }
    }
    let restarted = restarted(before, &answers);
    let wait = (!restarted.is_empty(), before.is_empty());
    let prepared = activity(&places, &mut answers, wait, "")?;
    if !restarted.is_empty() && !answers.quiet() {
        return Err(report(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "group {} was restarted, and statements of Citus that were sent before may still be at work",
                restarted[0]
            ),
            "The rollup goes on once they have ended: citus_stat_activity shows them.",
        ));
    }
    answers.held = in_doubt(&places, prepared)?;
    Ok(answers)
}

fn snapshot(place: &Place, rows: Vec<Row>, offset: i64) -> Result<Answer> {
    let Some([_, Some(xmax), Some(xip), aborted, Some(since), Some(system), _]) =
        rows.first().map(Vec::as_slice)
    else {
        return Err(unreachable(place, "it is no node of this group"));
    };
    let stamps =
        |text: &str| -> Result<Vec<i64>> { Ok(numbers(text)?.into_iter().map(|x| x + offset).collect()) };
    let xmax: i64 = xmax.parse().map_err(internal)?;
    Ok(Answer {
        now: Snapshot { xmax: xmax + offset, xip: stamps(xip)? },
        aborted: aborted.as_deref().map(stamps).transpose()?,
        since: since.clone(),
        system: system.clone(),
        ..Answer::default()
    })
}

/// Asks who is at work; where it must be quiet, or had better be, until it is or time is over. Returns the prepared
/// transactions that were there then.
fn activity(
    places: &[Place],
    answers: &mut Answers,
    (must, may): (bool, bool),
    but: &str,
) -> Result<Vec<String>> {
    let until = deadline();
    let soon = Instant::now() + Duration::from_millis(200);
    loop {
        let mut prepared = Vec::new();
        for (place, rows) in places.iter().zip(ask(places, |_| activity_of(but))?) {
            let Some(answer) = answers.nodes.get_mut(&place.group) else { continue };
            let mut rows = rows.into_iter().map(|row| row.into_iter().next().flatten());
            let at = number(&mut rows)?.ok_or_else(|| internal("no clock"))?;
            if answer.at == 0 {
                answer.at = at;
            }
            answer.oldest = number(&mut rows)?;
            prepared.extend(rows.flatten());
        }
        let now = Instant::now();
        if answers.quiet() || !(must && now < until || may && now < soon) {
            return Ok(prepared);
        }
        pause()?;
    }
}

fn pause() -> Result<()> {
    catalog::read("SELECT pg_catalog.pg_sleep(0.01)", &[], |_| Ok(())).map(drop)
}

/// Waits for prepared transactions to end; returns the groups that began those which have not.
fn in_doubt(places: &[Place], mut prepared: Vec<String>) -> Result<Vec<i32>> {
    let until = deadline();
    while !prepared.is_empty() {
        if Instant::now() >= until {
            // citus_<group>_<process>_<transaction>_<connection>
            let group = |gid: &String| gid.split('_').nth(1).and_then(|g| g.parse::<i32>().ok());
            let mut groups: Vec<i32> = prepared.iter().filter_map(group).collect();
            groups.sort_unstable();
            groups.dedup();
            return Ok(groups);
        }
        pause()?;
        let mut left = Vec::new();
        for rows in ask(places, |_| activity_of(""))? {
            left.extend(rows.into_iter().skip(2).filter_map(|row| row.into_iter().next().flatten()));
        }
        prepared.retain(|gid| left.contains(gid));
    }
    Ok(Vec::new())
}
