//! Clocks that jump, memory that ends, transaction ids that wrap, days of 23 and 25 hours, and a lot of everything:
//! afterwards the rollup equals the raw table, and the worker goes on by itself.
use std::fs;
use std::path::Path;
use std::process::Command;

use hll_lab::{Cluster, Tree, skip, wait_for};
use hll_tests::{QUERY, ROWS, TABLE, another, caught_up, differences, number, prepared, text};
use postgres::Client;

const WORKER: &str = "shared_preload_libraries = 'hll'\nrollup.naptime = 100ms\n";

fn rollup(client: &mut Client, every: &str) {
    client.batch_execute(TABLE).unwrap();
    let create = format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '{every}')");
    client.batch_execute(&create).unwrap();
}

#[test]
fn a_clock_that_jumps_stops_nothing() {
    let Some(tool) = Tree::tool("libfaketime").unwrap() else {
        return skip("the package of libfaketime is not there: make setup-test");
    };
    let library = Command::new("find").arg(&tool).args(["-name", "libfaketime.so.1"]).output().unwrap();
    let library = String::from_utf8(library.stdout).unwrap().trim().to_string();
    let clock = std::env::temp_dir().join(format!("hll-clock-{}", std::process::id()));
    let set = |offset: &str| {
        let fresh = clock.with_extension("fresh");
        fs::write(&fresh, format!("{offset}\n")).unwrap();
        fs::rename(fresh, &clock).unwrap();
    };
    set("+0");
    let mut tree = Tree::prepare().unwrap();
    tree.environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .to_vec();
    let cluster = Cluster::with(tree, WORKER).unwrap();
    let mut client = cluster.database("clock").unwrap();
    rollup(&mut client, "500 milliseconds");
    client.batch_execute("SELECT rollup.retain('http_request', '1000 days')").unwrap();
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    let real = number(&mut client, "SELECT extract(epoch FROM clock_timestamp())::bigint");
    let mut rows = 1000;
    for (offset, days) in [("-1d", -1), ("+3d", 3), ("-40d", -40), ("+0", 0), ("+400d", 400), ("+0", 0)] {
        set(offset);
        let moved = "SELECT extract(epoch FROM clock_timestamp())::bigint";
        wait_for("the clock of the server moves", 30, || {
            (number(&mut client, moved) - real - days * 86_400).abs() < 3600
        });
        client.batch_execute(ROWS).unwrap();
        rows += 1000;
        // Nothing but the interval may pass, whatever the clock says.
        wait_for("the rows are merged", 20, || {
            number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min") == rows
        });
        assert_eq!(differences(&mut client, "http_request_1min"), 0);
        // No storm either: what is not due is not run.
        let runs = number(&mut client, "SELECT runs FROM rollup.status");
        assert_eq!(number(&mut client, "SELECT rollup.run_due()"), 0);
        assert!(number(&mut client, "SELECT runs FROM rollup.status") <= runs + 1);
    }
    assert_eq!(number(&mut client, "SELECT failed FROM rollup.status"), 0);
    drop(client);
    drop(cluster);
    fs::remove_file(clock).unwrap();
}

/// The address space that a process may have: so much more than it has; None lifts the limit.
fn limit(cluster: &Cluster, pid: i64, more: Option<u64>) {
    let size = match more {
        None => "unlimited:".to_string(),
        Some(more) => {
            let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
            let now = status.lines().find_map(|l| l.strip_prefix("VmSize:")).unwrap();
            let kilobytes: u64 = now.split_whitespace().next().unwrap().parse().unwrap();
            format!("{}:", kilobytes * 1024 + more)
        }
    };
    // By the account that the process is of: another may not.
    let done =
        cluster.command("/usr/bin/prlimit").arg(format!("--pid={pid}")).arg(format!("--as={size}")).status();
    assert!(done.is_ok_and(|s| s.success()));
}

#[test]
fn a_run_without_memory_fails_and_comes_again() {
    let cluster = Cluster::with(
        Tree::prepare().unwrap(),
        &format!("{WORKER}rollup.retry_delay = 200ms\nwork_mem = 256MB\n"),
    )
    .unwrap();
    let mut client = cluster.database("memory").unwrap();
    rollup(&mut client, "300 milliseconds");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    let process = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE backend_type = 'rollup worker' AND datname = 'memory'";
    let pid = number(&mut client, process);
    assert!(pid > 0, "it stays for a while");
    limit(&cluster, pid, Some(6 << 20));
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g, now() - g * interval '1 second', '10.0.0.' || g % 250, 'C' || g % 9, 200, g FROM generate_series(1, 60000) g",
        )
        .unwrap();
    let error = "SELECT count(*) FROM rollup.status WHERE last_error LIKE 'out of memory%'";
    wait_for("the run runs out of memory", 60, || number(&mut client, error) == 1);
    assert_eq!(number(&mut client, process), pid, "the process lives");
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 1000);
    limit(&cluster, pid, None);
    caught_up(&mut client);
    assert_eq!(number(&mut client, process), pid);
    assert!(!cluster.log().contains("was terminated by signal"));
}

#[test]
fn days_of_23_and_25_hours() {
    let cluster = Cluster::with(Tree::prepare().unwrap(), WORKER).unwrap();
    let mut client = cluster.database("dst").unwrap();
    client.batch_execute("CREATE TABLE event (at timestamptz, x int)").unwrap();
    let zones = [("berlin", "Europe/Berlin"), ("howe", "Australia/Lord_Howe"), ("york", "America/New_York")];
    for (name, zone) in zones {
        client
            .batch_execute(&format!(
                "SELECT rollup.create('{name}', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n, sum(x) AS total FROM event GROUP BY 1',
                   every => '100 milliseconds', timezone => '{zone}', coarser => '{{\"{name}_day\": \"1 day\"}}')"
            ))
            .unwrap();
    }
    // The days on which the clocks of each change, forth and back, written by sessions of other zones.
    for (session, day) in [
        ("Asia/Kolkata", "2026-03-29"),
        ("America/New_York", "2026-10-25"),
        ("UTC", "2026-03-08"),
        ("Europe/Berlin", "2026-11-01"),
        ("Europe/London", "2026-04-05"),
        ("Asia/Tokyo", "2026-10-04"),
    ] {
        client.batch_execute(&format!(
            "SET timezone = '{session}'; INSERT INTO event SELECT timestamptz '{day} 00:00+00' - interval '1 day' + g * interval '5 minutes', g FROM generate_series(0, 864) g ORDER BY random()"
        )).unwrap();
    }
    for (name, zone) in zones {
        client.batch_execute(&format!("SET timezone = '{zone}'")).unwrap();
        for (table, unit) in [(name.to_string(), "hour"), (format!("{name}_day"), "day")] {
            let differs = format!(
                "WITH raw AS (SELECT date_trunc('{unit}', at) AS at, count(*) AS n, sum(x) AS total FROM event GROUP BY 1), kept AS (SELECT at, n, total FROM {table})
                 SELECT (SELECT count(*) FROM (TABLE raw EXCEPT TABLE kept) a) + (SELECT count(*) FROM (TABLE kept EXCEPT TABLE raw) b)"
            );
            wait_for("the rollup equals the raw table", 60, || number(&mut client, &differs) == 0);
        }
        assert_eq!(number(&mut client, &format!("SELECT count(*) FROM rollup.check('{name}')")), 0);
    }
    for (table, day, rows) in [
        ("berlin_day", "2026-03-29 00:00 Europe/Berlin", 23 * 12),
        ("berlin_day", "2026-10-25 00:00 Europe/Berlin", 25 * 12),
        ("york_day", "2026-03-08 00:00 America/New_York", 23 * 12),
        ("york_day", "2026-11-01 00:00 America/New_York", 25 * 12),
        ("howe_day", "2026-04-05 00:00 Australia/Lord_Howe", 24 * 12 + 6),
    ] {
        assert_eq!(number(&mut client, &format!("SELECT n FROM {table} WHERE at = '{day}'")), rows, "{day}");
    }
}

#[test]
fn two_hundred_rollups() {
    let cluster = Cluster::with(Tree::prepare().unwrap(), WORKER).unwrap();
    let mut client = cluster.database("many").unwrap();
    client
        .batch_execute(
            "DO $$ BEGIN FOR n IN 1..100 LOOP
               EXECUTE format('CREATE TABLE event_%s (at timestamptz DEFAULT now(), x int)', n);
               FOR m IN 1..2 LOOP
                 PERFORM rollup.create(format('event_%s_%s', n, m), format('SELECT date_trunc(''minute'', at) AS at, count(*) AS n, sum(x) AS total FROM event_%s GROUP BY 1', n),
                   every => '500 milliseconds');
               END LOOP;
             END LOOP; END $$",
        )
        .unwrap();
    let fill = "DO $$ BEGIN FOR n IN 1..100 LOOP EXECUTE format('INSERT INTO event_%s (x) SELECT g FROM generate_series(1, 100) g', n); END LOOP; END $$";
    let merged = "SELECT sum(rows_total)::bigint FROM rollup.definition";
    for round in 1..=3 {
        client.batch_execute(fill).unwrap();
        if round == 2 {
            client.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%' AND datname = 'many'").unwrap();
        }
        wait_for("all two hundred are merged", 60, || number(&mut client, merged) == round * 20_000);
    }
    let wrong = "SELECT count(*) FROM generate_series(1, 100) n, generate_series(1, 2) m,
        LATERAL (SELECT query_to_xml(format('SELECT (SELECT count(*) FROM event_%1$s) = (SELECT sum(n) FROM event_%1$s_%2$s) AND (SELECT sum(x) FROM event_%1$s) = (SELECT sum(total) FROM event_%1$s_%2$s) AS ok', n, m), true, true, '')::text AS x) q
        WHERE x NOT LIKE '%<ok>true</ok>%'";
    assert_eq!(number(&mut client, wrong), 0);
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM rollup.status WHERE failed = 0 AND lag_rows = 0"),
        200
    );
}

#[test]
fn ten_thousand_sites() {
    let (cluster, mut client) = prepared("sites", "200 milliseconds");
    let mut writer = another(&cluster, "sites");
    for round in 0..5 {
        writer
            .batch_execute(&format!(
                "INSERT INTO http_request SELECT g % 10000, now() - (g % 3) * interval '1 minute', '10.0.' || g % 7 || '.' || {round}, 'C' || g % 5, 200, g FROM generate_series(1, 20000) g"
            ))
            .unwrap();
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
    }
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT count(DISTINCT site_id) FROM http_request_1min"), 10_000);
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 100_000);
}

/// Lets the cluster, every row of which is frozen, go on at another transaction id: at the start of a page of the
/// commit log, which is made when the first id of it is used.
fn go_on_at(cluster: &mut Cluster, xid: u32) {
    let frozen = cluster.command("vacuumdb").args(["--all", "--freeze", "-q"]).output().unwrap();
    assert!(frozen.status.success(), "{}", String::from_utf8_lossy(&frozen.stderr));
    cluster.stop().unwrap();
    let data = cluster.socket().join("data");
    let done = cluster.command("pg_resetwal").arg("-x").arg(xid.to_string()).arg(data).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    cluster.start().unwrap();
}

#[test]
fn transaction_ids_wrap() {
    let mut cluster =
        Cluster::with(Tree::prepare().unwrap(), &format!("{WORKER}autovacuum = off\n")).unwrap();
    let mut client = cluster.database("wrap").unwrap();
    client.batch_execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true").unwrap();
    rollup(&mut client, "200 milliseconds");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    drop(client);
    const PAGE: u32 = 32_768;
    // An id is in the future of those that it is less than 2^31 behind: so far in three steps.
    for xid in [45_000 * PAGE, 90_000 * PAGE, 0u32.wrapping_sub(PAGE)] {
        go_on_at(&mut cluster, xid);
        let mut client = cluster.connect("wrap").unwrap();
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
        client.batch_execute(ROWS).unwrap();
        caught_up(&mut client);
    }
    let mut client = cluster.connect("wrap").unwrap();
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let before = number(&mut client, next);
    assert!(before > (1 << 32) - i64::from(PAGE) && before < 1 << 32, "{before}");
    // One transaction is open across, one is prepared.
    let (mut open, mut prepared) = (another(&cluster, "wrap"), another(&cluster, "wrap"));
    open.batch_execute(&format!("BEGIN; {ROWS}")).unwrap();
    prepared.batch_execute(&format!("BEGIN; {ROWS}")).unwrap();
    prepared.batch_execute("PREPARE TRANSACTION 'across'").unwrap();
    let mut burner = another(&cluster, "wrap");
    let burnt = std::thread::spawn(move || {
        burner.batch_execute(
            "DO $$ BEGIN FOR n IN 1..33500 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$",
        )
    });
    while number(&mut client, next) < (1 << 32) + 500 {
        assert!(!burnt.is_finished() || number(&mut client, next) > 1 << 32);
        client.batch_execute("INSERT INTO http_request SELECT g % 3, now(), 'a', 'USA', 200, g FROM generate_series(1, 10) g").unwrap();
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
    }
    burnt.join().unwrap().unwrap();
    caught_up(&mut client);
    open.batch_execute("COMMIT").unwrap();
    client.batch_execute("COMMIT PREPARED 'across'").unwrap();
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    assert!(number(&mut client, "SELECT max(rollup_stamp) FROM http_request") > 1 << 32);
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request WHERE rollup_stamp = 0"), 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0);
    assert_eq!(text(&mut client, "SELECT state FROM rollup.status"), "active");
}
