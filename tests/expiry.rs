//! Old rows go, but never a row that some rollup does not have yet.
use hll_lab::wait_for;
use hll_tests::partitioned::days_of_event;
use hll_tests::{another, number, prepared};
use postgres::Client;

const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass";

#[test]
fn a_paused_rollup_holds_expiry() {
    let (_cluster, mut client) = prepared("expiry", "1 hour");
    client
        .batch_execute(
            "SELECT rollup.pause('http_request_1min');
             SELECT rollup.retain('http_request', '1 day');
             INSERT INTO http_request SELECT 1, now() - interval '3 days', '10.0.0.1', 'USA', 200, g
             FROM generate_series(1, 100) g;
             INSERT INTO http_request SELECT 1, now(), '10.0.0.2', 'USA', 200, g FROM generate_series(1, 10) g",
        )
        .unwrap();
    // Paused: nothing is rolled up, so nothing may go.
    client.batch_execute("SELECT expire_http_request()").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 110);
    let held: Option<String> = client
        .query_one("SELECT expiry_held_by::text FROM rollup.status WHERE name = 'http_request_1min'", &[])
        .unwrap()
        .get(0);
    assert!(held.unwrap_or_default().contains("http_request_1min"), "the status names what holds expiry");

    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    client.batch_execute("SELECT expire_http_request()").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 10);
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 110);
    // The live view still knows what expired.
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min_live"), 110);
}

#[test]
fn an_unrolled_late_row_stays() {
    let (_cluster, mut client) = prepared("late", "1 hour");
    client
        .batch_execute(
            "SELECT rollup.retain('http_request', '1 day');
             INSERT INTO http_request SELECT 1, now() - interval '3 days', 'a', 'USA', 200, 1",
        )
        .unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    client
        .batch_execute("INSERT INTO http_request SELECT 1, now() - interval '2 days', 'b', 'USA', 200, 1")
        .unwrap();
    client.batch_execute("SELECT expire_http_request()").unwrap();
    let left: Vec<String> =
        client.query("SELECT ip_address FROM http_request", &[]).unwrap().iter().map(|r| r.get(0)).collect();
    assert!(!left.contains(&"a".into()) || left.len() == 2, "{left:?}");
    // Whatever expiry did first, the late row was rolled up before it went.
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 2);
}

#[test]
fn partitions_are_drained_and_dropped() {
    let (cluster, mut client) = prepared("partitions", "");
    days_of_event(&mut client, 9);
    client.batch_execute("SELECT rollup.retain('event', '3 days')").unwrap();
    // Nothing is rolled up: nothing goes.
    assert_eq!(number(&mut client, "SELECT rollup.expire('event')"), 0);
    assert_eq!(number(&mut client, PARTITIONS), 10);
    assert_eq!(number(&mut client, "SELECT rollup_event()"), 100);
    let cutoff = "date_trunc('day', now()) - interval '3 days'";
    // A late row that is not committed keeps its partition.
    let mut writer = another(&cluster, "partitions");
    writer.batch_execute("BEGIN; INSERT INTO event SELECT now() - interval '6 days', 7").unwrap();
    let would = number(&mut client, "SELECT rollup.expire('event', dry_run => true)");
    assert!(would >= 60, "{would}");
    assert_eq!(number(&mut client, PARTITIONS), 10);
    client.batch_execute("SELECT rollup.expire('event')").unwrap();
    assert_eq!(number(&mut client, PARTITIONS), 10, "the table is being written to");
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_6"), 10, "it keeps its rows");
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_7"), 0, "another one waits without");
    writer.batch_execute("COMMIT").unwrap();
    // Committed but not rolled up: it stays, then goes with the row counted.
    client.batch_execute("SELECT rollup.expire('event')").unwrap();
    assert_eq!(number(&mut client, PARTITIONS), 5, "of six that are past one has a row to roll up");
    assert_eq!(number(&mut client, "SELECT rollup_event()"), 1);
    client.batch_execute("SELECT rollup.expire('event')").unwrap();
    assert_eq!(number(&mut client, PARTITIONS), 4);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_1h_live"), 101);
    assert_eq!(number(&mut client, &format!("SELECT count(*) FROM event WHERE at < {cutoff}")), 0);
    // However short the time: the newest partition stays, its rows go.
    client
        .batch_execute("SELECT rollup.retain('event', '1 microsecond'); SELECT rollup.expire('event')")
        .unwrap();
    assert_eq!(number(&mut client, PARTITIONS), 1);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_1h_live"), 101);
    assert_eq!(number(&mut client, "SELECT dropped FROM rollup.retention"), 9);
}

#[test]
fn a_reader_delays_writers_little() {
    let (cluster, mut client) = prepared("latency", "");
    days_of_event(&mut client, 5);
    client.batch_execute("SELECT rollup_event()").unwrap();
    let mut reader = another(&cluster, "latency");
    reader.batch_execute("BEGIN; SELECT count(*) FROM event").unwrap();
    client.batch_execute("SELECT rollup.retain('event', '2 days')").unwrap();
    let (mut longest, begun) = (std::time::Duration::ZERO, std::time::Instant::now());
    let attempts = |cluster: &hll_lab::Cluster| cluster.log().matches("due to lock timeout").count();
    while attempts(&cluster) < 3 {
        assert!(begun.elapsed().as_secs() < 60, "the worker does not try");
        let insert = std::time::Instant::now();
        client.batch_execute("INSERT INTO event VALUES (now(), 1)").unwrap();
        longest = longest.max(insert.elapsed());
        if begun.elapsed().as_secs() >= 7 {
            break;
        }
    }
    assert!(longest.as_millis() < 900, "an insert took {longest:?}");
    assert_eq!(number(&mut client, PARTITIONS), 6, "nothing goes while somebody reads");
    reader.batch_execute("COMMIT").unwrap();
    wait_for("the partitions go", 60, || number(&mut client, PARTITIONS) == 3);
}

#[test]
fn any_table_expires_in_batches() {
    let (cluster, mut client) = prepared("anytable", "");
    client
        .batch_execute(
            "CREATE TABLE log (at timestamp, line text);
             INSERT INTO log SELECT now() - g * interval '1 minute', repeat('x', 100) FROM generate_series(1, 40000) g;
             CREATE TABLE no_time (x int)",
        )
        .unwrap();
    for (call, error) in [
        ("SELECT rollup.retain('log', '1 day')", "neither rolled up nor a rollup"),
        ("SELECT rollup.retain('log', '1 day', 'line')", "has no column line that holds a date or a time"),
        ("SELECT rollup.retain('no_time', '1 day', 'y')", "has no column y"),
        ("SELECT rollup.retain('pg_locks', '1 day', 'y')", "is not a table"),
    ] {
        let told = client.batch_execute(call).unwrap_err();
        let told = told.as_db_error().unwrap().message().to_string();
        assert!(told.contains(error), "{call}: {told}");
    }
    client.batch_execute("SELECT rollup.retain('log', '1 day', 'at')").unwrap();
    assert!(number(&mut client, "SELECT rollup.expire('log', dry_run => true)") > 38000);
    wait_for("the worker clears it", 60, || number(&mut client, "SELECT count(*) FROM log") < 1445);
    assert!(number(&mut client, "SELECT count(*) FROM log") > 1430);
    assert_eq!(
        number(&mut client, "SELECT removed + (SELECT count(*) FROM log) FROM rollup.retention"),
        40000
    );
    assert!(!cluster.log().contains("failed"));
}

#[test]
fn force_does_not_ask() {
    let (_cluster, mut client) = prepared("force", "");
    days_of_event(&mut client, 3);
    client.batch_execute("SELECT rollup.pause('event_1h'); SELECT rollup.retain('event', '1 day')").unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.expire('event')"), 0);
    client.batch_execute("SELECT rollup.expire('event', force => true)").unwrap();
    assert!(number(&mut client, PARTITIONS) <= 2);
}

#[test]
fn late_rows_of_expired_buckets_are_counted() {
    let (_cluster, mut client) = prepared("ignored", "");
    days_of_event(&mut client, 5);
    client.batch_execute("SELECT rollup_event(); SELECT rollup.retain('event_1h', '2 days'); SELECT rollup.expire('event_1h')").unwrap();
    let left = number(&mut client, "SELECT count(*) FROM event_1h");
    let ignored = "SELECT late_ignored FROM rollup.status WHERE name = 'event_1h'";
    assert_eq!(number(&mut client, ignored), 0);
    client
        .batch_execute("INSERT INTO event SELECT now() - interval '4 days', 1 FROM generate_series(1, 3); INSERT INTO event VALUES (date_trunc('day', now()) + interval '1 hour', 1)")
        .unwrap();
    assert_eq!(number(&mut client, "SELECT rollup_event()"), 4);
    assert_eq!(number(&mut client, ignored), 3, "rows are counted, not the group that they make");
    // The worker may have been there first.
    assert!(number(&mut client, "SELECT rollup.expire('event_1h')") <= 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_1h"), left);
    assert_eq!(number(&mut client, ignored), 3);
    assert_eq!(
        number(
            &mut client,
            "SELECT value::bigint FROM rollup.metrics WHERE name = 'rollup_late_ignored_total'"
        ),
        3
    );
}

#[test]
fn a_long_writer_keeps_no_rows_from_going() {
    let (cluster, mut client) = prepared("longwriter", "");
    days_of_event(&mut client, 5);
    client.batch_execute("SELECT rollup_event()").unwrap();
    // It writes to today's partition, and so holds a lock on the table above all of them.
    let mut writer = another(&cluster, "longwriter");
    writer.batch_execute("BEGIN; INSERT INTO event VALUES (now(), 1)").unwrap();
    client.batch_execute("SELECT rollup.retain('event', '2 days')").unwrap();
    let old = "SELECT count(*) FROM event WHERE at < date_trunc('day', now()) - interval '2 days'";
    let (mut longest, begun, mut inserted) = (std::time::Duration::ZERO, std::time::Instant::now(), 60);
    while number(&mut client, old) > 0 {
        inserted += 1;
        assert!(begun.elapsed().as_secs() < 60, "the worker does not empty them");
        let insert = std::time::Instant::now();
        client.batch_execute("INSERT INTO event VALUES (now(), 1)").unwrap();
        longest = longest.max(insert.elapsed());
    }
    assert!(longest.as_millis() < 900, "an insert took {longest:?}");
    assert_eq!(number(&mut client, PARTITIONS), 6, "what is empty is dropped later");
    assert!(number(&mut client, "SELECT removed FROM rollup.retention") >= 30);
    // A late row into an emptied partition is merged before that goes.
    client.batch_execute("INSERT INTO event VALUES (now() - interval '4 days', 1)").unwrap();
    writer.batch_execute("COMMIT").unwrap();
    wait_for("those without the late row go", 60, || number(&mut client, PARTITIONS) == 4);
    client.batch_execute("SELECT rollup_event()").unwrap();
    wait_for("it goes, too", 60, || number(&mut client, PARTITIONS) == 3);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_1h_live"), inserted + 2);
    // By hand it is the same.
    writer.batch_execute("BEGIN; INSERT INTO event VALUES (now(), 1)").unwrap();
    client.batch_execute("SELECT rollup.retain('event', NULL); SELECT rollup_event()").unwrap();
    client.batch_execute("SELECT rollup.retain('event', '1 day')").unwrap();
    client.batch_execute("SELECT rollup.expire('event')").unwrap();
    let left = "SELECT count(*) FROM event WHERE at < date_trunc('day', now()) - interval '1 day'";
    assert_eq!(number(&mut client, left), 0);
    assert!(number(&mut client, PARTITIONS) >= 2);
    writer.batch_execute("COMMIT").unwrap();
    client.batch_execute("SELECT rollup_event()").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_1h_live"), inserted + 3);
}

#[test]
fn batches_read_their_pages_and_no_others() {
    let (cluster, mut client) = prepared("pages", "");
    client
        .batch_execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on;
             CREATE TABLE log (at timestamptz, line text); CREATE INDEX ON log (at); CREATE INDEX ON log USING brin (at);
             INSERT INTO log SELECT now() - g * interval '1 minute', repeat('x', 100) FROM generate_series(1, 60000) g; ANALYZE log",
        )
        .unwrap();
    // Rolled back: the worker shall find nothing to do before.
    client
        .batch_execute(
            "BEGIN; SELECT rollup.retain('log', '1 day', 'at'); SELECT rollup.expire('log'); ROLLBACK",
        )
        .unwrap();
    let logged = cluster.log();
    let plans: Vec<&str> =
        logged.split("Delete on log").skip(1).map(|p| p.split("Query Text").next().unwrap_or(p)).collect();
    assert!(plans.len() >= 4, "{} batches", plans.len());
    for plan in plans {
        assert!(plan.contains("Tid Range Scan on log") && !plan.contains("Seq Scan on log"), "{plan}");
    }
}

#[test]
fn a_backlog_holds_expiry_and_says_so() {
    let (_cluster, mut client) = prepared("held", "");
    client.batch_execute("CREATE TABLE event (at timestamptz, x int); INSERT INTO event SELECT now() - g * interval '1 hour', g FROM generate_series(1, 5000) g").unwrap();
    client.batch_execute("SET rollup.batch_rows = 1000; SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL)").unwrap();
    client
        .batch_execute("SELECT rollup_internal.work_off('event_1h'); SELECT rollup.retain('event', '1 day')")
        .unwrap();
    let held = "SELECT count(*) FROM rollup.status WHERE expiry_held_by = 'event_1h' AND backlog_rows > backlog_done";
    assert_eq!(number(&mut client, held), 1);
    let before = number(&mut client, "SELECT count(*) FROM event");
    client.batch_execute("SELECT rollup.expire('event')").unwrap();
    assert!(
        number(&mut client, "SELECT count(*) FROM event") > before - 1001,
        "what is merged may go, no other"
    );
    client.batch_execute("CALL rollup.catch_up('event_1h')").unwrap();
    client.batch_execute("SELECT rollup.expire('event')").unwrap();
    assert_eq!(number(&mut client, held), 0);
    assert!(number(&mut client, "SELECT count(*) FROM event") <= 24);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_1h_live"), 5000);
}

#[test]
fn what_a_trigger_keeps_is_said_and_goes_once_it_may() {
    let (_cluster, mut client) = prepared("kept", "1 second");
    client
        .batch_execute(
            "CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER keeps BEFORE DELETE ON http_request FOR EACH ROW EXECUTE FUNCTION keeps();
             SELECT rollup.retain('http_request', '1 day');
             INSERT INTO http_request SELECT 1, now() - interval '3 days', '10.0.0.1', 'USA', 200, g
             FROM generate_series(1, 100) g",
        )
        .unwrap();
    let held = "SELECT coalesce(expiry_held_by, '') FROM rollup.status WHERE name = 'http_request_1min'";
    let held = |client: &mut Client| client.query_one(held, &[]).unwrap().get::<_, String>(0);
    wait_for("the reason", 60, || held(&mut client).contains("a trigger before DELETE keeps them"));
    client.batch_execute("DROP TRIGGER keeps ON http_request").unwrap();
    wait_for("the rows go", 60, || number(&mut client, "SELECT count(*) FROM http_request") == 0);
    wait_for("the reason goes", 60, || held(&mut client).is_empty());
}
