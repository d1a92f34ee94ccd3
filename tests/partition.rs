//! Partitions are there before rows need them, and rows that a default partition took in go to theirs, counted once.
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::forgive::done_unless;
use hll_tests::nodes::StopAtEnd;
use hll_tests::partitioned::{DEFAULT, DIFFERENCES, caught_up, event, text};
use hll_tests::{another, number};
use postgres::Client;

#[test]
fn partitions_are_there_before_the_rows() {
    let (_cluster, mut client) = event("ahead", "");
    assert_eq!(
        number(&mut client, "SELECT rollup.partition('event', '1 day', '3 days')"),
        4,
        "today and three days"
    );
    assert_eq!(number(&mut client, "SELECT rollup.partition('event', '1 day', '3 days')"), 0);
    let days =
        "SELECT string_agg((lower - date_trunc('day', now()))::text || '/' || (upper - lower)::text, ' ' ORDER BY lower)
         FROM rollup_internal.partition_bounds('event')";
    assert_eq!(text(&mut client, days), "00:00:00/1 day 1 day/1 day 2 days/1 day 3 days/1 day");
    let name = "SELECT partition::text FROM rollup_internal.partition_bounds('event') ORDER BY lower LIMIT 1";
    let today = text(&mut client, "SELECT to_char(now(), '\"event_p\"YYYY_MM_DD')");
    assert_eq!(text(&mut client, name), today);
    let ahead = |client: &mut Client, at_least: &str| {
        number(
            client,
            &format!(
                "SELECT (partitions_until >= now() + interval '{at_least}')::int::bigint FROM rollup.status"
            ),
        ) == 1
    };
    assert!(ahead(&mut client, "3 days") && !ahead(&mut client, "5 days"));
    // What is dropped or lacks in the middle comes again, made by the worker; so does more, when more is wanted.
    client.batch_execute("UPDATE rollup.partitioning SET ahead = '6 days'").unwrap();
    wait_for("the worker makes more", 60, || ahead(&mut client, "6 days"));
    client
        .batch_execute("DO $$ BEGIN EXECUTE 'DROP TABLE ' || to_char(now() + interval '2 days', '\"event_p\"YYYY_MM_DD'); END $$")
        .unwrap();
    assert!(!ahead(&mut client, "3 days"));
    wait_for("the worker fills the gap", 60, || ahead(&mut client, "6 days"));
    client
        .batch_execute(
            "INSERT INTO event SELECT now() + g * interval '1 day', g FROM generate_series(0, 5) g",
        )
        .unwrap();
    caught_up(&mut client);
    let metric = "SELECT (value > 6 * 86400)::int::bigint FROM rollup.metrics
        WHERE name = 'rollup_partitions_ahead_seconds' AND labels->>'relation' = 'event'";
    assert_eq!(number(&mut client, metric), 1);
    client.batch_execute("SELECT rollup.partition('event', NULL)").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.partitioning"), 0);
}

#[test]
fn rows_of_the_default_partition_move_and_count_once() {
    let (_cluster, mut client) = event("moves", DEFAULT);
    client
        .batch_execute(
            "INSERT INTO event SELECT now() - g * interval '6 hours', g FROM generate_series(0, 40) g;
             INSERT INTO event VALUES ('infinity', 1), ('-infinity', 2), ('0044-03-15 BC', 3), (now() + interval '40 days', 4)",
        )
        .unwrap();
    caught_up(&mut client);
    client.batch_execute("SELECT rollup.pause('event_1h'); INSERT INTO event SELECT now() - g * interval '6 hours', g FROM generate_series(0, 40) g").unwrap();
    let stamps = "SELECT string_agg(rollup_stamp::text || x, ' ' ORDER BY rollup_stamp, x) FROM event";
    let before = text(&mut client, stamps);
    let merged = number(&mut client, "SELECT sum(n)::bigint FROM event_1h");
    // 240 hours, and today: eleven days, and three ahead.
    let made = number(&mut client, "SELECT rollup.partition('event', '1 day')");
    assert!((14..=15).contains(&made), "{made}");
    assert_eq!(text(&mut client, stamps), before, "stamps stay");
    assert_eq!(number(&mut client, "SELECT moved FROM rollup.partitioning"), 82);
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM event_rest"),
        4,
        "times that are no times, long ago or far off"
    );
    assert_eq!(number(&mut client, DIFFERENCES), 0);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_1h"), merged);
    client.batch_execute("SELECT rollup.resume('event_1h')").unwrap();
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT rows_total FROM rollup.status"), 86);
    // A late row goes through the default partition, too.
    client.batch_execute("INSERT INTO event VALUES (now() - interval '30 days', 5)").unwrap();
    wait_for("the worker moves it", 60, || number(&mut client, "SELECT count(*) FROM event_rest") == 4);
    caught_up(&mut client);
    // Older than what is kept, it is not worth a partition.
    client
        .batch_execute(
            "SELECT rollup.pause('event_1h'); SELECT rollup.retain('event', '90 days');
             INSERT INTO event VALUES (now() - interval '100 days', 6)",
        )
        .unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.partition('event', '1 day')"), 0);
}

#[test]
fn writers_go_on_while_partitions_come() {
    let (cluster, mut client) = event("busy", DEFAULT);
    let mut writer = another(&cluster, "busy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                // Ever more days, so that there is always one to be moved.
                writer
                    .batch_execute(&format!(
                        "INSERT INTO event SELECT now() - (random() * {n} / 20) * interval '1 hour', g FROM generate_series(1, 5) g"
                    ))
                    .unwrap();
            }
        });
        let _stop = StopAtEnd(&stop);
        let end = Instant::now() + Duration::from_secs(4);
        let mut compared = 0;
        while Instant::now() < end || compared < 3 {
            // The worker moves rows too. Whoever comes meanwhile waits for a while, and sees them before or after.
            let moved = client.batch_execute("SELECT rollup.partition('event', '1 hour')");
            done_unless(moved, &["55P03"]);
            assert_eq!(number(&mut client, DIFFERENCES), 0);
            compared += 1;
        }
    });
    caught_up(&mut client);
    // Whoever makes partitions of the table takes its locks in one order.
    assert!(!cluster.log().contains("deadlock detected"), "{}", cluster.log());
    assert!(number(&mut client, "SELECT moved FROM rollup.partitioning") > 0);
    assert_eq!(
        number(&mut client, "SELECT rows_total FROM rollup.status"),
        number(&mut client, "SELECT count(*) FROM event")
    );
}

#[test]
fn others_wait_shortly() {
    let (cluster, mut client) = event("shortly", "");
    let mut writer = another(&cluster, "shortly");
    client.batch_execute("SELECT rollup.partition('event', '1 day', '0')").unwrap();
    // Beside a long writer a partition is made, as long as no row must move.
    writer.batch_execute("BEGIN; INSERT INTO event VALUES (now(), 1)").unwrap();
    assert!(number(&mut client, "SELECT rollup.partition('event', '1 day', '2 days')") >= 2);
    writer.batch_execute("COMMIT").unwrap();
    client.batch_execute(DEFAULT).unwrap();
    client.batch_execute("INSERT INTO event VALUES (now() - interval '3 days', 2)").unwrap();
    writer.batch_execute("BEGIN; INSERT INTO event VALUES (now(), 3)").unwrap();
    let refused = client.batch_execute("SELECT rollup.partition('event', '1 day')").unwrap_err();
    assert_eq!(refused.code(), Some(&postgres::error::SqlState::LOCK_NOT_AVAILABLE));
    let (mut longest, begun) = (Duration::ZERO, Instant::now());
    while begun.elapsed().as_secs() < 6 {
        let insert = Instant::now();
        client.batch_execute("INSERT INTO event VALUES (now(), 4)").unwrap();
        longest = longest.max(insert.elapsed());
    }
    assert!(cluster.log().contains("a partition of event has to wait"));
    assert!(longest.as_millis() < 900, "an insert took {longest:?}");
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_rest"), 1);
    writer.batch_execute("COMMIT").unwrap();
    wait_for("the row moves", 60, || number(&mut client, "SELECT count(*) FROM event_rest") == 0);
    caught_up(&mut client);
}

#[test]
fn rows_keep_what_hangs_on_them() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("hangs").unwrap();
    client
        .batch_execute(
            "CREATE TABLE told (what text);
             CREATE FUNCTION told(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (current_setting('session_replication_role')); RETURN true; END $$;
             CREATE TABLE event (id int GENERATED ALWAYS AS IDENTITY, at timestamp, gone int, x int CHECK (told(x)), twice int GENERATED ALWAYS AS (x * 2) STORED,
               name text COLLATE \"C\" DEFAULT 'n', UNIQUE (at, id)) PARTITION BY RANGE (at);
             ALTER TABLE event DROP COLUMN gone;
             CREATE TABLE event_rest PARTITION OF event DEFAULT;
             CREATE TABLE note (at timestamp, id int);
             CREATE TABLE seen (what text);
             CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (tg_op); RETURN coalesce(new, old); END $$;
             CREATE TRIGGER tell BEFORE INSERT OR DELETE ON event FOR EACH ROW EXECUTE FUNCTION tell();
             INSERT INTO event (at, x) SELECT localtimestamp, g FROM generate_series(1, 10) g;
             INSERT INTO note SELECT at, id FROM event;
             TRUNCATE seen, told",
        )
        .unwrap();
    let rows = "SELECT string_agg(e::text, ' ' ORDER BY id) FROM event e";
    let before = text(&mut client, rows);
    // Whatever refers to the rows: what would go or change with them keeps them where they are, with the reason.
    for (action, error) in
        [("ON DELETE CASCADE", "foreign key note_fk"), ("", "violates foreign key constraint")]
    {
        client
            .batch_execute(&format!("ALTER TABLE note ADD CONSTRAINT note_fk FOREIGN KEY (at, id) REFERENCES event (at, id) {action}"))
            .unwrap();
        let told = client.batch_execute("SELECT rollup.partition('event', '1 day')").unwrap_err();
        let told = told.as_db_error().unwrap();
        assert!(told.message().contains(error), "{told:?}");
        assert_eq!(&told.code().code()[..2], "23", "{told:?}");
        assert_eq!(number(&mut client, "SELECT count(*) FROM note"), 10, "nobody's rows went with the move");
        assert_eq!(text(&mut client, rows), before);
        client.batch_execute("ALTER TABLE note DROP CONSTRAINT note_fk").unwrap();
    }
    // A key that no row uses stands in nobody's way.
    client
        .batch_execute(
            "CREATE TABLE unused (at timestamp, id int, FOREIGN KEY (at, id) REFERENCES event (at, id))",
        )
        .unwrap();
    assert!(number(&mut client, "SELECT rollup.partition('event', '1 day')") >= 4);
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_rest"), 0);
    assert_eq!(text(&mut client, rows), before);
    assert_eq!(number(&mut client, "SELECT count(*) FROM seen"), 0, "no trigger saw it");
    assert_eq!(
        text(&mut client, "SELECT DISTINCT what FROM told"),
        "origin",
        "code of the table's owner runs under the settings of any session"
    );
    client.batch_execute("INSERT INTO event (at, x) VALUES (localtimestamp, 11)").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM seen"), 1, "triggers are on the new partition");
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgname = 'tell' AND tgenabled <> 'O'"),
        0
    );
    assert!(client.batch_execute("INSERT INTO unused VALUES (localtimestamp, 999)").is_err());
    assert_eq!(number(&mut client, "SELECT max(id)::bigint FROM event"), 11);
}

#[test]
fn a_partition_attached_between_two_runs_is_seen() {
    let (cluster, mut client) = event("attached", "");
    client.batch_execute("SELECT rollup.pause('event_1h'); SELECT rollup.partition('event', '1 day', '0'); SELECT rollup.resume('event_1h')").unwrap();
    let mut worker = another(&cluster, "attached");
    client.batch_execute("INSERT INTO event VALUES (now(), 1)").unwrap();
    caught_up(&mut client);
    // The state row is held, so that no other run comes between.
    worker.batch_execute("BEGIN; INSERT INTO event VALUES (now(), 0); SELECT rollup_event()").unwrap();
    client
        .batch_execute(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE later (LIKE event INCLUDING DEFAULTS); ALTER TABLE event ATTACH PARTITION later FOR VALUES FROM (%L) TO (%L)',
               date_trunc('day', now(), 'UTC') + interval '1 day', date_trunc('day', now(), 'UTC') + interval '9 days'); END $$;
             INSERT INTO event VALUES (now() + interval '2 days', 2)",
        )
        .unwrap();
    worker.batch_execute("SELECT rollup_event(); COMMIT").unwrap();
    caught_up(&mut client);
}

/// Table, width, ahead, zone, and the bounds to come.
#[test]
fn bounds_are_those_of_the_calendar() {
    let (_cluster, mut client) = event("calendar", "");
    client
        .batch_execute(
            "CREATE TABLE of_day (d date) PARTITION BY RANGE (d);
             CREATE TABLE of_time (t timestamp) PARTITION BY RANGE (t);
             CREATE TABLE of_zone (t timestamptz) PARTITION BY RANGE (t);
             CREATE TABLE anchored (t timestamptz) PARTITION BY RANGE (t);
             CREATE TABLE anchored_1 PARTITION OF anchored FOR VALUES FROM ('2020-02-10 05:00+00') TO ('2020-02-17 05:00+00');
             CREATE TABLE anchored_2 PARTITION OF anchored FOR VALUES FROM (MINVALUE) TO ('2019-01-01 00:00+00')",
        )
        .unwrap();
    for (table, width, zone) in [
        ("of_day", "1 month", "UTC"),
        ("of_time", "90 minutes", "Asia/Kolkata"),
        ("of_zone", "1 day", "Europe/Berlin"),
        ("anchored", "1 week", "UTC"),
    ] {
        client
            .batch_execute(&format!("SELECT rollup.partition('{table}', '{width}', timezone => '{zone}')"))
            .unwrap();
    }
    let bounds = |client: &mut Client, table: &str, bound: &str| {
        text(
            client,
            &format!(
                "SELECT format('%s %s', lower, upper) FROM rollup_internal.partition_for('{table}', '{bound}')"
            ),
        )
    };
    for (table, bound, wanted) in [
        ("of_day", "2020-02-29", "2020-02-01 00:00:00+00 2020-03-01 00:00:00+00"),
        ("of_day", "1999-12-31", "1999-12-01 00:00:00+00 2000-01-01 00:00:00+00"),
        ("of_time", "2020-06-01 04:29:59", "2020-06-01 03:00:00+00 2020-06-01 04:30:00+00"),
        // Both days on which the clocks of Berlin change have their 23 and 25 hours.
        ("of_zone", "2020-03-29 12:00", "2020-03-28 23:00:00+00 2020-03-29 22:00:00+00"),
        ("of_zone", "2020-10-25 22:59:59", "2020-10-24 22:00:00+00 2020-10-25 23:00:00+00"),
        // Beside what is there: counted from the newest, cut where another begins.
        ("anchored", "2020-02-17 05:00", "2020-02-17 05:00:00+00 2020-02-24 05:00:00+00"),
        ("anchored", "2019-01-02", "2019-01-01 00:00:00+00 2019-01-07 05:00:00+00"),
        ("anchored", "2020-02-11", " "),
        ("anchored", "2001-01-01", " "),
    ] {
        assert_eq!(bounds(&mut client, table, bound), wanted, "{table} at {bound}");
    }
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM rollup.partitioning t WHERE (rollup_internal.partitions_ahead(t.relation, t.timezone)).until < now() + interval '1 hour'"
        ),
        0
    );
    client.batch_execute("INSERT INTO of_zone VALUES (now()); INSERT INTO of_day VALUES (current_date); INSERT INTO of_time VALUES (now() AT TIME ZONE 'Asia/Kolkata')").unwrap();
    for (call, error) in [
        ("'of_day', '6 hours'", "width is 06:00:00, but the column holds days"),
        ("'of_time', '10 seconds'", "width is 00:00:10, less than a minute"),
        ("'of_time', '-1 day'", "less than a minute"),
        ("'of_time', '1 month 3 days'", "months and more"),
        ("'of_time', '1 day', '5 years'", "more than a thousand times"),
        ("'of_time', '1 day', '-5 days'", "less than nothing"),
        ("'of_time', '1 day', timezone => 'Mars'", "time zone Mars is not known"),
        ("'event_1h', '1 day'", "event_1h is not partitioned by range"),
        ("NULL, '1 day'", "relation must not be NULL"),
    ] {
        let told = client.batch_execute(&format!("SELECT rollup.partition({call})")).unwrap_err();
        let told = told.as_db_error().unwrap().message().to_string();
        assert!(told.contains(error), "{call}: {told}");
    }
    client
        .batch_execute("CREATE ROLE somebody; GRANT ALL ON SCHEMA public TO somebody; SET ROLE somebody")
        .unwrap();
    let told = client.batch_execute("SELECT rollup.partition('of_day', '1 day')").unwrap_err();
    assert_eq!(told.code(), Some(&postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));
    client
        .batch_execute(
            "SELECT relation, moved FROM rollup.partitioning; SELECT partitions_until FROM rollup.status",
        )
        .unwrap();
    assert!(client.batch_execute("SELECT last_error FROM rollup.partitioning").is_err());
}
