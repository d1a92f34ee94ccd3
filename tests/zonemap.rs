//! The index of rolled-up tables leaves no row out: while sessions write into zones that others close, across crashes,
//! and on a standby.
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, OURS, Tree, wait_for};
use hll_tests::forgive::{done_unless, lost, until_lost};
use hll_tests::{another, number};
use postgres::Client;

/// A row to a page, 32 to a zone; a table of some 30 zones, whose free room is all over it.
const SETUP: [&str; 6] = [
    "CREATE TABLE event (at timestamptz DEFAULT clock_timestamp(), writer int, filler text) WITH (fillfactor = 10)",
    "SELECT rollup.create('event_1min', 'SELECT date_trunc(''minute'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL)",
    "INSERT INTO event SELECT '2026-01-01', 0, repeat('x', 600) FROM generate_series(1, 1000)",
    "SELECT rollup_event()",
    "DELETE FROM event WHERE ctid::text ~ '[13579],'",
    "VACUUM event",
];

/// Each in a transaction of its own, as VACUUM needs.
fn run(client: &mut Client, statements: &[&str]) {
    statements.iter().for_each(|sql| client.batch_execute(sql).unwrap());
}

/// Rows that the index finds by their stamp, and rows that the table has with it: stamps for which the two differ, in
/// one statement and so in one snapshot.
const DIFFERS: &str =
    "WITH every AS MATERIALIZED (SELECT rollup_stamp AS s, count(*) AS n FROM event GROUP BY 1)
    SELECT count(*) FROM every WHERE n <> (SELECT count(*) FROM event WHERE rollup_stamp = every.s)";

/// What closes zones, or builds the index again.
const CLOSING: [&str; 3] =
    ["SELECT rollup_event()", "VACUUM event", "REINDEX INDEX CONCURRENTLY event_at_rollup_stamp_idx"];

const LIGHT: [&str; 2] = ["INSERT INTO light SELECT generate_series(1, 100000)", "VACUUM light"];
const OLD: &str = "DELETE FROM event WHERE at < clock_timestamp() - interval '1 second'";

fn by_index(cluster: &Cluster) -> Client {
    let mut client = another(cluster, "zones");
    client.batch_execute("SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0").unwrap();
    client
}

fn differs(client: &mut Client) -> i64 {
    number(client, DIFFERS)
}

/// One writer: transactions of up to ten rows, some of them undone in part, some that change rows or remove older ones.
/// After each commit the index must find what was committed.
fn write(cluster: &Cluster, writer: i64, until: &AtomicBool, looked: &AtomicI64) {
    let mut client = by_index(cluster);
    let mut round = 0;
    while !until.load(Ordering::Relaxed) {
        round += 1;
        let rows = 1 + (round * 7 + writer) % 10;
        let mut all = client.transaction().unwrap();
        let insert = format!(
            "INSERT INTO event SELECT clock_timestamp(), {writer}, repeat('x', 600) FROM generate_series(1, {rows})"
        );
        let mut expected = rows;
        all.batch_execute(&insert).unwrap();
        if round % 3 == 0 {
            all.batch_execute(&format!("SAVEPOINT s; {insert}; ROLLBACK TO s")).unwrap();
        }
        if round % 5 == 0 {
            all.batch_execute(&format!("SAVEPOINT s; {insert}; RELEASE s")).unwrap();
            expected += rows;
        }
        let stamp: i64 = all.query_one("SELECT pg_current_xact_id()::text::bigint", &[]).unwrap().get(0);
        if round % 4 == 0 {
            all.batch_execute(&format!(
                "UPDATE event SET at = '2026-02-01', filler = filler || 'y' WHERE rollup_stamp = {stamp}"
            ))
            .unwrap();
        }
        all.batch_execute(&format!(
            "DELETE FROM event WHERE writer = {writer} AND rollup_stamp < {stamp} - 300"
        ))
        .unwrap();
        all.commit().unwrap();
        let found = number(&mut client, &format!("SELECT count(*) FROM event WHERE rollup_stamp = {stamp}"));
        assert_eq!(found, expected, "writer {writer}, round {round}: rows with stamp {stamp}");
        looked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the other threads, also when the one that has this panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something over and over; counts how often.
fn again(cluster: &Cluster, sql: &str, until: &AtomicBool, times: &AtomicI64) {
    let mut client = by_index(cluster);
    while !until.load(Ordering::Relaxed) {
        // What waits for all transactions may be the victim of a deadlock with another that does.
        if done_unless(client.simple_query(sql), &["40P01"]) {
            times.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn no_row_is_left_out_while_zones_open_and_close() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("zones").unwrap();
    run(&mut client, &SETUP);
    let seconds: u64 = std::env::var("ZONES_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    let (until, looked) = (AtomicBool::new(false), AtomicI64::new(0));
    let times = CLOSING.map(|_| AtomicI64::new(0));
    let closed = "SELECT count(DISTINCT first_page) FILTER (WHERE closed) FROM rollup.zones('event_at_rollup_stamp_idx')";
    thread::scope(|scope| {
        let writers: Vec<_> = (1..=3)
            .map(|w| {
                scope.spawn({
                    let (c, u, l) = (&cluster, &until, &looked);
                    move || write(c, w, u, l)
                })
            })
            .collect();
        for (sql, times) in CLOSING.iter().zip(&times) {
            let (c, u) = (&cluster, &until);
            scope.spawn(move || again(c, sql, u, times));
        }
        let ends = End(&until);
        let (end, mut states) = (Instant::now() + Duration::from_secs(seconds), Vec::new());
        let mut reader = by_index(&cluster);
        let enough = || times.iter().all(|n| n.load(Ordering::Relaxed) > 3);
        while (Instant::now() < end || !enough() || states.len() < 4)
            && !writers.iter().any(|w| w.is_finished())
        {
            assert_eq!(differs(&mut reader), 0, "stamps whose rows the index does not all find");
            states.push(number(&mut reader, closed));
            states.dedup();
        }
        drop(ends);
        writers.into_iter().for_each(|w| w.join().unwrap());
        println!(
            "{looked:?} commits looked at, {times:?} runs, vacuums and builds, closed zones changed {} times",
            states.len()
        );
    });
    client.batch_execute("VACUUM event").unwrap();
    let open = "SELECT count(*) FROM rollup.zones('event_at_rollup_stamp_idx')
        WHERE NOT closed AND (first_page + 32) * 8192 <= pg_relation_size('event')";
    assert_eq!(number(&mut client, open), 0, "after VACUUM every full zone is closed");
    assert_eq!(differs(&mut by_index(&cluster)), 0);
    client.batch_execute("SELECT rollup_event()").unwrap();
    assert_eq!(number(&mut client, "SELECT rollup_event()"), 0);
    // Each UPDATE changes an indexed column; writers that are gone have sent their counts.
    let hot = number(&mut client, "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'event'");
    let summarizing = number(&mut client, "SELECT current_setting('server_version_num')::bigint") >= 160_000;
    assert_eq!(hot > 0, summarizing, "{hot} HOT updates");
}

#[test]
fn a_crash_and_a_standby_leave_none_out() {
    // Kept while the server is down, for the standby, which then is behind.
    let settings = format!("{OURS}wal_keep_size = '4GB'\n");
    let mut cluster = Cluster::with(Tree::prepare().unwrap(), &settings).unwrap();
    let mut client = cluster.database("zones").unwrap();
    run(&mut client, &SETUP);
    run(
        &mut client,
        &[
            "CREATE UNLOGGED TABLE light (n bigint); CREATE INDEX light_zones ON light USING rollup_zonemap (n)",
        ],
    );
    run(&mut client, &LIGHT);
    assert!(number(&mut client, "SELECT count(*) FROM rollup.zones('light_zones') WHERE closed") > 0);
    let mut standby = cluster.standby().unwrap();
    for round in 0..3 {
        let before = number(&mut client, "SELECT count(*) FROM event");
        let mut sessions: Vec<_> = (1..=3)
            .map(|w| {
                let mut writer = another(&cluster, "zones");
                let sql = format!(
                    "INSERT INTO event SELECT clock_timestamp(), {w}, repeat('x', 600) FROM generate_series(1, 5)"
                );
                thread::spawn(move || until_lost(&mut writer, &sql))
            })
            .collect();
        for sql in [&["SELECT rollup_event()"][..], &[OLD, "VACUUM event"]] {
            let mut client = by_index(&cluster);
            sessions.push(thread::spawn(move || {
                let error = sql.iter().cycle().find_map(|sql| client.simple_query(sql).err());
                let error = error.expect("the server goes away");
                assert!(lost(&error), "{sql:?}: {error:?}");
            }));
        }
        let mut follower = by_index(&standby);
        let mut looks = 0;
        wait_for("some load, and looks at it on the standby", 60, || {
            assert_eq!(differs(&mut follower), 0, "on the standby, round {round}");
            looks += 1;
            looks > 3 && number(&mut client, "SELECT count(*) FROM event") != before
        });
        cluster.crash().unwrap();
        sessions.into_iter().for_each(|session| session.join().unwrap());
        cluster.start().unwrap();
        client = by_index(&cluster);
        assert_eq!(differs(&mut client), 0, "after crash {round}");
        // An unlogged table is empty after a crash, and its index a map of nothing.
        assert_eq!(number(&mut client, "SELECT count(*) FROM light WHERE n = 5"), 0);
        run(&mut client, &LIGHT);
        assert_eq!(number(&mut client, "SELECT count(*) FROM light WHERE n = 5"), 1);
    }
    let rows = number(&mut client, "SELECT count(*) FROM event");
    let mut follower = by_index(&standby);
    wait_for("the standby follows", 60, || number(&mut follower, "SELECT count(*) FROM event") == rows);
    assert_eq!(differs(&mut follower), 0, "on the standby");
    // Promoted, it goes on.
    follower.batch_execute("SELECT pg_promote()").unwrap();
    wait_for("the standby is promoted", 60, || {
        number(&mut follower, "SELECT (NOT pg_is_in_recovery())::int::bigint") == 1
    });
    let insert = "INSERT INTO event SELECT now(), 9, repeat('x', 600) FROM generate_series(1, 500)";
    run(&mut follower, &[insert, "VACUUM event", insert]);
    assert_eq!(differs(&mut follower), 0, "on the promoted standby");
    standby.stop().unwrap();
}

#[test]
fn a_run_leaves_out_the_temporary_tables_of_other_sessions() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("zones").unwrap();
    run(&mut client, &SETUP);
    let mut other = another(&cluster, "zones");
    run(
        &mut other,
        &[
            "CREATE TEMP TABLE mine (LIKE event INCLUDING ALL) INHERITS (event)",
            "INSERT INTO mine SELECT '2026-01-01', 1, repeat('x', 600) FROM generate_series(1, 1000)",
        ],
    );
    run(&mut client, &["INSERT INTO event SELECT '2026-01-01', 2, 'y'"]);
    number(&mut client, "SELECT rollup_event()");
    // Those of the session itself are its to close.
    run(&mut other, &["INSERT INTO event SELECT '2026-01-01', 3, 'z'"]);
    number(&mut other, "SELECT rollup_event()");
    let closed = "SELECT count(*) FROM rollup.zones('mine_at_rollup_stamp_idx') WHERE closed";
    assert!(number(&mut other, closed) > 0);
}

#[test]
fn looking_at_an_index_waits_for_its_table_first() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("zones").unwrap();
    run(&mut client, &SETUP);
    let mut holder = client.transaction().unwrap();
    holder.batch_execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE").unwrap();
    let mut looking = another(&cluster, "zones");
    let looking = thread::spawn(move || {
        looking.query("SELECT rollup.zones('event_at_rollup_stamp_idx')", &[]).map(|rows| rows.len())
    });
    let mut watcher = another(&cluster, "zones");
    wait_for("somebody waits for the table", 60, || {
        number(&mut watcher, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0
    });
    // Would wait for the one that waits, had that locked the index before the table.
    holder.batch_execute("REINDEX INDEX event_at_rollup_stamp_idx").unwrap();
    holder.commit().unwrap();
    assert!(looking.join().unwrap().unwrap() > 0);
}
