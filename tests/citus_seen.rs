//! Looks at a cluster that found nothing: they ask nodes for no more than how far they are, whatever shards and partitions there are,
//! and whatever makes a row visible later is seen all the same. And runs over few rows: they touch no shard and no partition but theirs.
use std::thread;
use std::time::Duration;

use hll_lab::{Citus, wait_for, wait_until};
use hll_tests::nodes::value_on;
use hll_tests::number;
use postgres::Client;

/// How often nodes were asked how far they are, and how often for anything about shards.
fn asked(citus: &Citus) -> (i64, i64) {
    let (mut moments, mut shards) = (0, 0);
    for node in 1..citus.size() {
        let Ok(mut there) = citus.connect(node) else { continue };
        let calls = |there: &mut Client, what: &str| {
            number(
                there,
                &format!(
                    "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database() WHERE query NOT LIKE '%pg_stat_statements%' AND {what}"
                ),
            )
        };
        moments += calls(&mut there, "query LIKE '%pg_current_snapshot%' AND query NOT LIKE '%flush_log%'");
        shards +=
            calls(&mut there, "(query LIKE '%look_at_shards%' OR query ~ 'events[a-z0-9_]*_10[0-9]{4}')");
    }
    (moments, shards)
}

/// The table with its rollup, which runs when it is told to.
fn made(client: &mut Client, shards: usize, days: usize) {
    let mut one = |sql: String| client.batch_execute(&sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    one("CREATE TABLE events (site int, at timestamptz, v int) PARTITION BY RANGE (at)".into());
    for day in 0..days {
        one(format!(
            "CREATE TABLE events_{day} PARTITION OF events FOR VALUES FROM (timestamptz '2026-01-01 UTC' + {day} * interval '1 day') TO (timestamptz '2026-01-02 UTC' + {day} * interval '1 day')"
        ));
    }
    one(format!(
        "SELECT create_distributed_table('events', 'site', shard_count => {shards}, colocate_with => 'none')"
    ));
    one("SELECT rollup.create('events_min', 'SELECT site, date_trunc(''minute'', at) AS at, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2', every => NULL)".into());
    one(rows(days));
    one("SELECT rollup.run('events')".into());
}

/// Rows for all shards and partitions.
fn rows(days: usize) -> String {
    format!(
        "INSERT INTO events SELECT g % 100, timestamptz '2026-01-01 UTC' + g % {days} * interval '1 day', g FROM generate_series(1, 2000) g"
    )
}

/// Rows that wait.
const LAG: &str = "SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = 'events_min'";

/// All rows are merged, once.
fn exact(client: &mut Client, what: &str) {
    let differing = "SELECT count(*) FROM (SELECT site, date_trunc('minute', at) AS at, count(*) AS n, sum(v) AS s FROM events GROUP BY 1, 2) a
        FULL JOIN events_min b USING (site, at) WHERE a.n IS DISTINCT FROM b.n OR a.s IS DISTINCT FROM b.s";
    assert_eq!(number(client, differing), 0, "{what}");
}

/// The worker has merged all there is, and its looks find nothing.
fn quiet(citus: &Citus, client: &mut Client, what: &str) {
    wait_until(&format!("{what}: merged"), 60, || Ok(client.query_one(LAG, &[])?.get::<_, i64>(0) == 0));
    exact(client, what);
    let mut before = asked(citus);
    let mut looks = 0;
    wait_for(&format!("{what}: looks that ask for nothing else"), 60, || {
        thread::sleep(Duration::from_millis(300));
        let now = asked(citus);
        looks = if now.1 == before.1 && now.0 > before.0 { looks + 1 } else { 0 };
        before = now;
        looks >= 3
    });
}

fn started() -> Option<(Citus, Client)> {
    let citus = Citus::new().expect("a cluster")?;
    let mut client = citus.connect(0).unwrap();
    client.batch_execute("CREATE EXTENSION pg_stat_statements").unwrap();
    client.batch_execute("ALTER SYSTEM SET rollup.naptime = '200ms'").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    Some((citus, client))
}

fn every(client: &mut Client, every: &str) {
    client
        .batch_execute(&format!("UPDATE rollup.definition SET every = {every} WHERE name = 'events_min'"))
        .unwrap();
}

#[test]
fn a_look_asks_for_no_shard() {
    let Some((citus, mut client)) = started() else { return };
    for (shards, days) in [(4, 1), (12, 10)] {
        made(&mut client, shards, days);
        let what = format!("{shards} shards, {days} partitions");
        every(&mut client, "'200 ms'");
        quiet(&citus, &mut client, &what);
        // A second's looks more: two workers are asked once each, and nothing else.
        every(&mut client, "NULL");
        let sessions =
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker' AND state = 'active'";
        wait_for("no run is on", 30, || number(&mut client, sessions) == 0);
        client.batch_execute("SELECT rollup.run('events')").unwrap();
        let before = asked(&citus);
        for _ in 0..10 {
            client.batch_execute("SELECT rollup.run('events')").unwrap();
        }
        let now = asked(&citus);
        assert_eq!((now.0 - before.0, now.1 - before.1), (20, 0), "{what}: runs by hand");
        // The status asks for no more in a session that has asked before, and else each node once for all its shards.
        let before = asked(&citus);
        for _ in 0..10 {
            assert_eq!(number(&mut client, LAG), 0);
        }
        assert_eq!(asked(&citus).1, before.1, "{what}: rollup.status");
        assert_eq!(number(&mut citus.connect(0).unwrap(), LAG), 0);
        assert_eq!(asked(&citus).1 - before.1, 2, "{what}: rollup.status in a new session");
        // Rows of one shard: what reaches shards is a look where they are, one whether they still are, and the statement that merges
        // them. One shard of four or of twelve, of one partition or ten.
        client.batch_execute("INSERT INTO events SELECT 7, timestamptz '2026-01-01 UTC', g FROM generate_series(1, 1000) g").unwrap();
        let before = asked(&citus);
        client.batch_execute("SELECT rollup.run('events')").unwrap();
        let touched = asked(&citus).1 - before.1;
        exact(&mut client, &what);
        // Whether any came: a node each; where: a node each; merge: a shard; whether still there: the one node.
        assert!(touched <= 2 + 2 + 1 + 1, "{what}: {touched} statements at shards");
        client.batch_execute("SELECT rollup.drop('events_min'); DROP TABLE events").unwrap();
    }
}

#[test]
fn whatever_comes_later_is_seen() {
    let Some((mut citus, mut client)) = started() else { return };
    made(&mut client, 4, 3);
    every(&mut client, "'200 ms'");
    quiet(&citus, &mut client, "at first");
    let (site, shard) = value_on(&mut client, &citus, "events", 1);
    let here = shard.replace("events_", "events_1_");
    let row = format!("({site}, timestamptz '2026-01-02 00:07 UTC', 1)");

    // A transaction that a node has prepared, and whose end nobody but that node hears of.
    let mut worker = citus.connect(1).unwrap();
    let part: String = worker
        .query_one(
            "SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = to_regclass($1) AND i.inhrelid::regclass::text LIKE 'events_1_%'",
            &[&shard],
        )
        .unwrap_or_else(|e| panic!("a part of {shard} such as {here}: {e:?}"))
        .get(0);
    let through = |into: &str| format!("INSERT INTO {into} (site, at, v) VALUES {row}");
    worker.batch_execute(&format!("BEGIN; {}; PREPARE TRANSACTION 'elsewhere'", through(&part))).unwrap();
    quiet(&citus, &mut client, "while it is prepared");
    worker.batch_execute("COMMIT PREPARED 'elsewhere'").unwrap();
    quiet(&citus, &mut client, "a transaction that was prepared");

    // One that was at work when it was looked at, and one that began before and ends after.
    worker.batch_execute(&format!("BEGIN; {}", through("events"))).unwrap();
    let mut other = citus.connect(2).unwrap();
    other.batch_execute(&through("events")).unwrap();
    quiet(&citus, &mut client, "while it is at work");
    worker.batch_execute("COMMIT").unwrap();
    quiet(&citus, &mut client, "a transaction that was at work");

    // What began and ended by way of a node on which no shard lies changes nothing there but the number.
    client.batch_execute(&through("events")).unwrap();
    quiet(&citus, &mut client, "through the coordinator");

    // A server that crashes, and begins anew; its ids may be those of before.
    drop((worker, other));
    citus.nodes[1].crash().unwrap();
    citus.nodes[1].start().unwrap();
    let mut worker = citus.connect(1).unwrap();
    worker.batch_execute(&through("events")).unwrap();
    quiet(&citus, &mut client, "after a crash");

    // A partition that was filled before others attach it.
    for sql in [
        "CREATE TABLE events_9 (LIKE events INCLUDING DEFAULTS)",
        "SELECT create_distributed_table('events_9', 'site', colocate_with => 'events')",
        "INSERT INTO events_9 (site, at, v) SELECT g % 9, '2026-01-10 12:00 UTC', g FROM generate_series(1, 100) g",
    ] {
        client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    quiet(&citus, &mut client, "before a partition is attached");
    client.batch_execute("ALTER TABLE events ATTACH PARTITION events_9 FOR VALUES FROM ('2026-01-10 UTC') TO ('2026-01-11 UTC')").unwrap();
    quiet(&citus, &mut client, "a partition that was attached");

    // A rollup that did not run meanwhile, since it was told so.
    client.batch_execute("SELECT rollup.pause('events_min')").unwrap();
    worker.batch_execute(&through("events")).unwrap();
    client.batch_execute("SELECT rollup.resume('events_min')").unwrap();
    quiet(&citus, &mut client, "after a pause");

    // A node that is added, rows through it and on it, and one that is not to be asked for a while.
    let node = citus.start_node().unwrap();
    let mut there = citus.connect(node).unwrap();
    there.batch_execute("CREATE EXTENSION hll; CREATE EXTENSION pg_stat_statements").unwrap();
    citus.add(node).unwrap();
    there.batch_execute(&through("events")).unwrap();
    quiet(&citus, &mut client, "through a node that was added");
    let to = citus.nodes[node].port();
    let from = citus.nodes[1].port();
    let id: i64 = shard.rsplit('_').next().unwrap().parse().unwrap();
    client
        .batch_execute(&format!("SELECT citus_move_shard_placement({id}, '127.0.0.1', {from}, '127.0.0.1', {to}, shard_transfer_mode => 'block_writes')"))
        .unwrap();
    quiet(&citus, &mut client, "after a shard was moved");
    client.batch_execute(&through("events")).unwrap();
    quiet(&citus, &mut client, "a row of a shard that was moved");
    client.batch_execute(&format!("SELECT citus_move_shard_placement({id}, '127.0.0.1', {to}, '127.0.0.1', {from}, shard_transfer_mode => 'block_writes')")).unwrap();
    there.batch_execute(&through("events")).unwrap();
    drop(there);
    client.batch_execute(&format!("SELECT citus_remove_node('127.0.0.1', {to})")).unwrap();
    quiet(&citus, &mut client, "through a node that is gone");
}

#[test]
fn a_row_that_changes_its_time_meanwhile() {
    let Some((citus, mut client)) = started() else { return };
    made(&mut client, 4, 3);
    client
        .batch_execute(
            "INSERT INTO events VALUES (1, '2026-01-01 00:30 UTC', 1), (2, '2026-01-02 00:30 UTC', 2)",
        )
        .unwrap();
    let mut holder = citus.connect(0).unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE events_min IN SHARE MODE").unwrap();
    let mut runner = citus.connect(0).unwrap();
    let pid = number(&mut runner, "SELECT pg_backend_pid()::bigint");
    let run = thread::spawn(move || runner.batch_execute("SELECT rollup.run('events')"));
    wait_for("the run waits, once it knows where rows are", 30, || {
        number(&mut client, &format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = {pid}")) > 0
    });
    client
        .batch_execute(
            "UPDATE events SET at = '2026-01-03 00:30 UTC' WHERE v = 1 AND at = '2026-01-01 00:30 UTC'",
        )
        .unwrap();
    holder.batch_execute("ROLLBACK").unwrap();
    run.join().unwrap().unwrap();
    exact(&mut client, "a row that went to another partition meanwhile");
    assert_eq!(number(&mut client, LAG), 0);
    assert_eq!(number(&mut client, "SELECT rows_total FROM rollup.status"), 2002);
    // One that the run's own transaction has sent there, which no other session sees.
    client.batch_execute("INSERT INTO events VALUES (1, '2026-01-01 00:40 UTC', 3)").unwrap();
    client
        .batch_execute("BEGIN; UPDATE events SET at = '2026-01-03 00:40 UTC' WHERE v = 3 AND at = '2026-01-01 00:40 UTC'")
        .unwrap();
    client.batch_execute("SELECT rollup.run('events')").unwrap();
    client.batch_execute("COMMIT").unwrap();
    exact(&mut client, "a row that went to another partition in the transaction of the run");
    assert_eq!(number(&mut client, LAG), 0);
}
