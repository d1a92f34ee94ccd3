//! The background worker: runs by itself, survives failures and termination, and is quiet when idle.
use std::thread;
use std::time::Duration;

use hll_lab::wait_for;
use hll_tests::{
    ROWS, SCHEDULER, another, another_rollup, caught_up, configure, differences, number, prepared, text,
};

#[test]
fn runs_by_itself() {
    let (_cluster, mut client) = prepared("alone", "1 second");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 1000);
}

#[test]
fn a_failing_rollup_stops_no_other() {
    let (_cluster, mut client) = prepared("failing", "1 second");
    client
        .batch_execute(
            "CREATE TABLE other (at timestamptz DEFAULT now(), x int);
             SELECT rollup.create('other_1min',
                'SELECT date_trunc(''minute'', at) AS at, sum(x) AS total FROM other GROUP BY 1', every => '1 second');
             ALTER TABLE other_1min ADD CONSTRAINT never CHECK (total < 0);
             INSERT INTO other (x) VALUES (1)",
        )
        .unwrap();
    wait_for("the failure is reported", 30, || {
        number(
            &mut client,
            "SELECT coalesce(max(failures), 0)::bigint FROM rollup.status WHERE name = 'other_1min'",
        ) > 0
    });
    let error: String = client
        .query_one("SELECT last_error FROM rollup.status WHERE name = 'other_1min'", &[])
        .unwrap()
        .get(0);
    assert!(error.contains("never"), "{error}");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    client.batch_execute("ALTER TABLE other_1min DROP CONSTRAINT never").unwrap();
    wait_for("the failed rollup recovers", 90, || {
        number(&mut client, "SELECT coalesce(sum(total), 0)::bigint FROM other_1min") == 1
    });
}

#[test]
fn a_terminated_scheduler_comes_back() {
    let (_cluster, mut client) = prepared("killed", "1 second");
    let pid = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity
               WHERE backend_type = 'rollup scheduler' AND datname = 'killed'";
    wait_for("a scheduler", 30, || number(&mut client, pid) > 0);
    let before = number(&mut client, pid);
    client.batch_execute(&format!("SELECT pg_terminate_backend({before})")).unwrap();
    wait_for("another scheduler", 30, || ![0, before].contains(&number(&mut client, pid)));
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
}

#[test]
fn idle_ticks_take_no_transaction_id() {
    let (_cluster, mut client) = prepared("idle", "200 milliseconds");
    configure(&mut client, &["SET autovacuum = off"]);
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    // The state may lag behind the table it describes by one run; three seconds hold at least five ticks.
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let mut quiet = std::time::Instant::now();
    let mut last = number(&mut client, next);
    wait_for("three seconds without a transaction id", 30, || {
        let now = number(&mut client, next);
        if now != last {
            (last, quiet) = (now, std::time::Instant::now());
        }
        quiet.elapsed().as_secs() >= 3
    });
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
}

#[test]
fn idle_ticks_read_no_table() {
    let (_cluster, mut client) = prepared("unread", "200 milliseconds");
    configure(&mut client, &["SET autovacuum = off"]);
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    // Processes tell of their scans once a second: three seconds hold at least five ticks of which was told.
    let scans = "SELECT sum(pg_stat_get_numscans(r))::bigint FROM (SELECT c FROM unnest('{rollup.definition,rollup.attempt}'::regclass[]) c \
        UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid IN ('rollup.definition'::regclass, 'rollup.attempt'::regclass)) t (r)";
    let mut quiet = std::time::Instant::now();
    let mut last = number(&mut client, scans);
    wait_for("three seconds without a scan", 30, || {
        let now = number(&mut client, scans);
        if now != last {
            (last, quiet) = (now, std::time::Instant::now());
        }
        quiet.elapsed().as_secs() >= 3
    });
    // What is kept is read again: after a pause, and when it is resumed.
    client.batch_execute(&format!("SELECT rollup.pause('http_request_1min'); {ROWS}")).unwrap();
    wait_for("the pause is seen", 30, || number(&mut client, scans) > last);
    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    caught_up(&mut client);
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
}

#[test]
fn too_many_failures_pause() {
    let (_cluster, mut client) = prepared("pausing", "1 second");
    configure(&mut client, &["SET rollup.retry_delay = '20ms'"]);
    configure(&mut client, &["SET rollup.max_failures = 3"]);
    another_rollup(&mut client, "other");
    client
        .batch_execute(
            "ALTER TABLE other_1min ADD CONSTRAINT never CHECK (total < 0);
             SELECT rollup.retain('other', '1 day'); INSERT INTO other (x) VALUES (1)",
        )
        .unwrap();
    let status = |column: &str| format!("SELECT {column}::text FROM rollup.status WHERE name = 'other_1min'");
    wait_for("it is paused", 30, || text(&mut client, &status("state")) == "paused");
    let why = text(&mut client, &status("paused_for"));
    assert!(why.starts_with("paused after 3 failures") && why.contains("never"), "{why}");
    assert_eq!(text(&mut client, &status("expiry_held_by")), "other_1min");
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM rollup.history WHERE name = 'other_1min' AND error ~ 'never'"
        ),
        3
    );
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    client
        .batch_execute("ALTER TABLE other_1min DROP CONSTRAINT never; SELECT rollup.resume('other_1min')")
        .unwrap();
    wait_for("it goes on", 30, || number(&mut client, "SELECT count(*) FROM other_1min") == 1);
    assert_eq!(text(&mut client, &status("state || failures || coalesce(paused_for, '-')")), "active0-");
}

#[test]
fn owners_are_served_at_once() {
    let (cluster, mut client) = prepared("atonce", "1 second");
    client
        .batch_execute("CREATE ROLE neighbour; GRANT ALL ON SCHEMA public TO neighbour; SET ROLE neighbour")
        .unwrap();
    another_rollup(&mut client, "other");
    client.batch_execute("RESET ROLE").unwrap();
    let mut blocker = another(&cluster, "atonce");
    // A run of the one waits for this; the other, of another owner, is run meanwhile.
    blocker.batch_execute("BEGIN; LOCK TABLE http_request_1min IN SHARE MODE").unwrap();
    client.batch_execute(ROWS).unwrap();
    let waits = |name: &str| {
        format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rollup: {name}'
             AND query = 'rollup.run of {name}' AND state = 'active' AND wait_event_type = 'Lock'"
        )
    };
    wait_for("the run waits", 30, || number(&mut client, &waits("http_request_1min")) == 1);
    client.batch_execute("INSERT INTO other (x) VALUES (7)").unwrap();
    wait_for("the other is run meanwhile", 30, || {
        number(&mut client, "SELECT count(*) FROM other_1min") == 1
    });
    assert_eq!(number(&mut client, &waits("http_request_1min")), 1);
    blocker.batch_execute("COMMIT").unwrap();
    caught_up(&mut client);
    wait_for("the helper leaves", 60, || {
        number(&mut client, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker'") == 0
    });
}

#[test]
fn versions_that_differ_wait() {
    let (cluster, mut client) = prepared("versions", "1 second");
    client.batch_execute("UPDATE pg_extension SET extversion = '2.21' WHERE extname = 'hll'").unwrap();
    let says = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler'
                AND query LIKE 'waiting: the library is version %, the extension 2.21'";
    wait_for("the scheduler says that it waits", 30, || number(&mut client, says) == 1);
    client.batch_execute(ROWS).unwrap();
    let before = number(&mut client, SCHEDULER);
    let version = env!("CARGO_PKG_VERSION");
    client
        .batch_execute(&format!("UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'hll'"))
        .unwrap();
    caught_up(&mut client);
    assert_eq!(number(&mut client, SCHEDULER), before, "the same process all the time");
    assert_eq!(cluster.log().matches("rollups of this database wait").count(), 1);
    assert!(cluster.log().contains("ALTER EXTENSION hll UPDATE"));
}

#[test]
fn a_run_has_its_time() {
    let (cluster, mut client) = prepared("timeouts", "1 second");
    configure(&mut client, &["SET rollup.timeout = '200ms'"]);
    let mut blocker = another(&cluster, "timeouts");
    blocker.batch_execute("BEGIN; LOCK TABLE http_request_1min IN SHARE MODE").unwrap();
    client.batch_execute(ROWS).unwrap();
    let error = "SELECT last_error FROM rollup.status";
    wait_for("the run is cut off", 30, || text(&mut client, error).contains("statement timeout"));
    let before = number(&mut client, SCHEDULER);
    configure(&mut client, &["SET rollup.timeout = 0"]);
    configure(&mut client, &["SET rollup.lock_timeout = '100ms'"]);
    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    wait_for("the run does not wait", 30, || text(&mut client, error).contains("lock timeout"));
    assert_eq!(number(&mut client, SCHEDULER), before);
    blocker.batch_execute("COMMIT").unwrap();
    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    caught_up(&mut client);
}

#[test]
fn a_database_that_is_read_only_is_left_alone() {
    let (cluster, mut client) = prepared("readonly", "100 ms");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    client.batch_execute("SELECT rollup.retain('http_request', '1 year')").unwrap();
    client.batch_execute("ALTER DATABASE readonly SET default_transaction_read_only = on").unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler' AND query = 'waiting: default_transaction_read_only is on'";
    let works = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker' AND query NOT LIKE 'waiting: %'";
    wait_for("the scheduler waits", 30, || {
        number(&mut client, waits) == 1 && number(&mut client, works) == 0
    });
    client.batch_execute(ROWS).unwrap();
    let lines =
        || cluster.log().lines().filter(|l| l.contains("rollup") && !l.contains("statement:")).count();
    let before = lines();
    let (begun, mut looks) = (std::time::Instant::now(), 0);
    while begun.elapsed() < std::time::Duration::from_secs(4) {
        looks += number(
            &mut client,
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler'",
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(looks > 20, "it is there, and waits: {looks}");
    assert!(lines() - before <= 1, "{}", cluster.log());
    assert!(differences(&mut client, "http_request_1min") > 0);
    client.batch_execute("ALTER DATABASE readonly RESET default_transaction_read_only").unwrap();
    caught_up(&mut client);
}

#[test]
fn rows_of_a_transaction_that_ends_while_nobody_else_writes_are_found() {
    let (cluster, mut client) = prepared("late", "100 milliseconds");
    let counted = "SELECT coalesce(sum(request_count), 0)::bigint FROM http_request_1min";
    let insert =
        "INSERT INTO http_request SELECT g, now(), '10.0.0.1', 'DE', 200, g FROM generate_series(1, 10) g";
    let ends = [("COMMIT", ""), ("PREPARE TRANSACTION 'late'", "COMMIT PREPARED 'late'")];
    let mut rows = 0;
    for round in 0..6 {
        let (end, then) = ends[round % 2];
        let mut writer = another(&cluster, "late");
        writer.batch_execute(&format!("BEGIN; SAVEPOINT a; {insert}; RELEASE a")).unwrap();
        // The scheduler looks some times, and finds nothing.
        thread::sleep(Duration::from_millis(700));
        writer.batch_execute(end).unwrap();
        if !then.is_empty() {
            thread::sleep(Duration::from_millis(500));
            assert_eq!(number(&mut client, counted), rows);
            writer.batch_execute(then).unwrap();
        }
        rows += 10;
        wait_for("the rows to be counted", 20, || number(&mut client, counted) == rows);
    }
}
