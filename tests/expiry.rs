//! Old rows go, but never a row that some rollup does not have yet.
use hll_lab::wait_for;
use hll_tests::{another, number, prepared};

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

/// Days of partitions of `event`, the oldest first, with ten rows each.
fn partitioned(client: &mut postgres::Client, days: i64) {
    client.batch_execute("SET timezone = 'UTC'; CREATE TABLE event (at timestamptz NOT NULL, x int) PARTITION BY RANGE (at)").unwrap();
    let partitions = format!(
        "DO $$ BEGIN FOR d IN 0..{days} LOOP
           EXECUTE format('CREATE TABLE event_%s PARTITION OF event FOR VALUES FROM (%L) TO (%L)', d,
             date_trunc('day', now()) - d * interval '1 day', date_trunc('day', now()) - (d - 1) * interval '1 day');
         END LOOP; END $$"
    );
    client.batch_execute(&partitions).unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n, sum(x) AS total FROM event GROUP BY 1', every => NULL);
             INSERT INTO event SELECT date_trunc('day', now()) - d * interval '1 day' + interval '1 hour', g
             FROM generate_series(0, {days}) d, generate_series(1, 10) g"
        ))
        .unwrap();
}

const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass";

#[test]
fn partitions_are_drained_and_dropped() {
    let (cluster, mut client) = prepared("partitions", "");
    partitioned(&mut client, 9);
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
    assert_eq!(
        number(&mut client, PARTITIONS),
        5,
        "of nine old ones six are past, one of which is written to"
    );
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
    partitioned(&mut client, 5);
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
    partitioned(&mut client, 3);
    client.batch_execute("SELECT rollup.pause('event_1h'); SELECT rollup.retain('event', '1 day')").unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.expire('event')"), 0);
    client.batch_execute("SELECT rollup.expire('event', force => true)").unwrap();
    assert!(number(&mut client, PARTITIONS) <= 2);
}

#[test]
fn late_rows_of_expired_buckets_are_counted() {
    let (_cluster, mut client) = prepared("ignored", "");
    partitioned(&mut client, 5);
    client.batch_execute("SELECT rollup_event(); SELECT rollup.retain('event_1h', '2 days'); SELECT rollup.expire('event_1h')").unwrap();
    let left = number(&mut client, "SELECT count(*) FROM event_1h");
    let ignored = "SELECT late_ignored FROM rollup.status WHERE name = 'event_1h'";
    assert_eq!(number(&mut client, ignored), 0);
    client.batch_execute("INSERT INTO event SELECT now() - interval '4 days', 1").unwrap();
    assert_eq!(number(&mut client, "SELECT rollup_event()"), 1);
    assert_eq!(number(&mut client, "SELECT rollup.expire('event_1h')"), 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_1h"), left);
    assert_eq!(number(&mut client, ignored), 1);
    assert_eq!(
        number(
            &mut client,
            "SELECT value::bigint FROM rollup.metrics WHERE name = 'rollup_late_ignored_total'"
        ),
        1
    );
}
