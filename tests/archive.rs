//! Archive before drop by the worker: each partition is given to its function once it has been counted, whatever fails or
//! ends in between, and no row is in neither the table nor the archive.
use hll_lab::{Cluster, OURS, Tree, wait_for, wait_until};
use hll_tests::{another, number, text};
use postgres::Client;

const DAYS: i64 = 12;

/// A table with a partition for each of some days long ago, each with 50 rows, its rollup, and a schema for what is archived.
fn prepared(client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE event (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
             CREATE TABLE event_new PARTITION OF event FOR VALUES FROM ('2026-01-01+00') TO (MAXVALUE);
             CREATE SCHEMA archive; CREATE TABLE archive.rows (partition name, at timestamptz, n int); CREATE TABLE archive.mood (fails bool, slow float8); INSERT INTO archive.mood VALUES (false, 0);
             CREATE FUNCTION archive.keep(partition regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
             BEGIN
               EXECUTE format('INSERT INTO archive.rows SELECT %L, at, n FROM %s', (SELECT relname FROM pg_class WHERE oid = partition), partition);
               PERFORM pg_sleep(slow) FROM archive.mood WHERE slow > 0;
               IF (SELECT fails FROM archive.mood) THEN RAISE EXCEPTION 'the archive is full'; END IF;
             END $$;
             SELECT rollup.create('by_day', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n, sum(n) AS total FROM event GROUP BY 1', every => '100 milliseconds')",
        )
        .unwrap();
    for day in 1..=DAYS {
        client
            .batch_execute(&format!(
                "CREATE TABLE event_{day} PARTITION OF event FOR VALUES FROM ('2025-01-{day:02}+00') TO ('2025-01-{:02}+00');
                 INSERT INTO event SELECT timestamptz '2025-01-{day:02}+00' + g * interval '1 minute', {day} * 1000 + g FROM generate_series(1, 50) g",
                day + 1
            ))
            .unwrap();
    }
    client.batch_execute("INSERT INTO event VALUES ('2026-02-01+00', 1)").unwrap();
}

const RETAIN: &str = "SELECT rollup.retain('event', '30 days', archive => 'archive.keep')";
const ARCHIVED: &str = "SELECT count(*) FROM archive.rows";
const LEFT: &str = "SELECT count(*) FROM event WHERE at < '2026-01-01'";
const TABLES: &str = "SELECT count(*) FROM pg_class WHERE relname ~ '^event_[0-9]+$' AND relkind = 'r'";

#[test]
fn the_worker_archives_and_drops() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("kept").unwrap();
    prepared(&mut client);
    client.batch_execute("UPDATE archive.mood SET fails = true").unwrap();
    client.batch_execute(RETAIN).unwrap();
    // A failure holds expiry: one partition is detached, and no other, and it is there with all its rows.
    wait_for("the failure is shown", 60, || {
        text(&mut client, "SELECT expiry_error FROM rollup.status").contains("the archive is full")
    });
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.archiving"), 1);
    assert_eq!(text(&mut client, "SELECT name FROM rollup.archiving"), "public.event_1");
    assert_eq!(number(&mut client, TABLES), DAYS);
    assert_eq!((number(&mut client, ARCHIVED), number(&mut client, "SELECT count(*) FROM event_1")), (0, 50));
    assert_eq!(number(&mut client, LEFT), 50 * (DAYS - 1));
    assert!(text(&mut client, "SELECT expiry_held_by FROM rollup.status").contains("the archive is full"));
    // What was counted of it stays so.
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM by_day_live"), 50 * DAYS + 1);
    client
        .batch_execute("UPDATE archive.mood SET fails = false; UPDATE rollup.retention SET hold_until = NULL")
        .unwrap();
    wait_for("all are archived", 60, || number(&mut client, TABLES) == 0);
    assert_eq!(
        (number(&mut client, ARCHIVED), number(&mut client, "SELECT count(DISTINCT n) FROM archive.rows")),
        (50 * DAYS, 50 * DAYS)
    );
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.archiving"), 0);
    wait_for("no failure is left", 30, || {
        text(&mut client, "SELECT expiry_error FROM rollup.status").is_empty()
    });
    assert_eq!(number(&mut client, "SELECT dropped FROM rollup.retention"), DAYS);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM by_day"), 50 * DAYS + 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('by_day')"), 0);
}

#[test]
fn what_ends_between_detach_and_drop_is_resumed() {
    let mut cluster = Cluster::with(Tree::prepare().unwrap(), OURS).unwrap();
    let mut client = cluster.database("kept").unwrap();
    prepared(&mut client);
    client.batch_execute("UPDATE archive.mood SET slow = 0.4").unwrap();
    client.batch_execute(RETAIN).unwrap();
    let complete = |client: &mut Client| {
        // Each row is in one place: the table, a table that waits, or the archive.
        let waiting = text(
            client,
            "SELECT string_agg(format('SELECT n FROM %s', partition), ' UNION ALL ') FROM rollup.archiving",
        );
        let waiting = if waiting.is_empty() { "SELECT 0 WHERE false".to_string() } else { waiting };
        let all = number(
            client,
            &format!(
                "SELECT count(*) FROM (SELECT n FROM event WHERE at < '2026-01-01' UNION ALL SELECT n FROM archive.rows UNION ALL {waiting}) r"
            ),
        );
        assert_eq!(all, 50 * DAYS);
    };
    let (mut crashes, mut kills) = (0, 0);
    for round in 0..6 {
        wait_until("a function is at work", 60, || {
            Ok(number(&mut client, "SELECT count(*) FROM rollup.archiving") == 1
                && number(
                    &mut client,
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%' AND wait_event = 'PgSleep'",
                ) == 1)
        });
        let mut reader = another(&cluster, "kept");
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").unwrap();
        complete(&mut reader);
        reader.batch_execute("COMMIT").unwrap();
        drop(reader);
        if round % 2 == 0 {
            drop(client);
            cluster.crash().unwrap();
            cluster.start().unwrap();
            client = cluster.connect("kept").unwrap();
            crashes += 1;
        } else {
            client
                .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%' AND wait_event = 'PgSleep'")
                .unwrap();
            kills += 1;
        }
    }
    assert_eq!((crashes, kills), (3, 3));
    wait_for("all are archived", 120, || number(&mut client, TABLES) == 0);
    assert_eq!(
        (number(&mut client, ARCHIVED), number(&mut client, "SELECT count(DISTINCT n) FROM archive.rows")),
        (50 * DAYS, 50 * DAYS)
    );
    assert_eq!(number(&mut client, LEFT), 0);
    client.batch_execute("SELECT rollup.run('event')").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM by_day"), 50 * DAYS + 1);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('by_day')"), 0);
}

#[test]
fn a_dump_has_what_waits_and_its_function() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("before").unwrap();
    prepared(&mut client);
    client.batch_execute("UPDATE archive.mood SET fails = true").unwrap();
    client.batch_execute(RETAIN).unwrap();
    wait_for("one waits", 60, || {
        number(&mut client, "SELECT count(*) FROM rollup.archiving") == 1
            && !text(&mut client, "SELECT expiry_error FROM rollup.status").is_empty()
    });
    let dump = cluster.dump("before").unwrap();
    let mut client = cluster.restore("after", &dump).unwrap();
    assert_eq!(
        text(&mut client, "SELECT archive FROM rollup.retention"),
        "archive.keep(pg_catalog.regclass)"
    );
    assert_eq!(text(&mut client, "SELECT partition::text FROM rollup.archiving"), "event_1");
    client.batch_execute("UPDATE archive.mood SET fails = false; UPDATE rollup.retention SET hold_until = NULL; SELECT rollup.run('event'); SELECT rollup.expire('event')").unwrap();
    wait_for("all are archived", 60, || number(&mut client, TABLES) == 0);
    assert_eq!(number(&mut client, ARCHIVED), 50 * DAYS);
}
