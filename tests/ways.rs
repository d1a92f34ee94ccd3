//! The README's comparison of four ways to keep a summary table: each is made, and asked what the table says of it.
use std::fs;

use hll_lab::{Cluster, root};
use hll_tests::{another, number};
use postgres::Client;

/// One way: what makes it, what brings its summary up to date, and where the number of events is then.
struct Way {
    /// How its row of the table begins.
    name: &'static str,
    made: &'static str,
    run: &'static str,
    expire: &'static str,
}

const TOTAL: &str = "SELECT coalesce(sum(events), 0)::bigint FROM daily";

const WAYS: [Way; 4] = [
    Way {
        name: "`REFRESH MATERIALIZED VIEW`",
        made: "CREATE MATERIALIZED VIEW daily AS SELECT date_trunc('day', at) AS day, count(*) AS events FROM event GROUP BY 1",
        run: "REFRESH MATERIALIZED VIEW daily",
        expire: "DELETE FROM event WHERE at < now() - interval '7 days'",
    },
    Way {
        name: "a function that cron calls, bounded by time",
        made: "CREATE TABLE daily (day timestamptz PRIMARY KEY, events bigint);
            CREATE TABLE done (until timestamptz); INSERT INTO done VALUES ('-infinity');
            CREATE FUNCTION roll_up() RETURNS void LANGUAGE plpgsql AS $$ DECLARE since timestamptz; BEGIN
              SELECT until INTO since FROM done;
              INSERT INTO daily SELECT date_trunc('day', at), count(*) FROM event WHERE at >= since AND at < now() GROUP BY 1
              ON CONFLICT (day) DO UPDATE SET events = daily.events + EXCLUDED.events;
              UPDATE done SET until = now(); END $$",
        run: "SELECT roll_up()",
        expire: "DELETE FROM event WHERE at < now() - interval '7 days'",
    },
    Way {
        name: "a trigger that adds to the summary",
        made: "CREATE TABLE daily (day timestamptz PRIMARY KEY, events bigint);
            CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              INSERT INTO daily SELECT date_trunc('day', at), count(*) FROM new GROUP BY 1
              ON CONFLICT (day) DO UPDATE SET events = daily.events + EXCLUDED.events;
              RETURN NULL; END $$;
            CREATE TRIGGER add AFTER INSERT ON event REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION add()",
        run: "SELECT 1",
        expire: "DELETE FROM event WHERE at < now() - interval '7 days'",
    },
    Way {
        name: "a rollup of this extension",
        made: "SELECT rollup.create('daily', 'SELECT date_trunc(''day'', at) AS day, count(*) AS events FROM event GROUP BY 1', every => '1 hour');
            SELECT rollup.retain('event', '7 days')",
        run: "SELECT rollup_event()",
        expire: "SELECT expire_event()",
    },
];

/// Rows of the events table that a run reads, where one event is new.
fn read(client: &mut Client, run: &str) -> i64 {
    // Each a transaction: what a function takes for new ends where its own begins. Vacuum sums up new pages, as it does by itself within a minute.
    // Rows that an index alone answers for are not counted.
    let flush = "SET enable_indexonlyscan = off; SELECT pg_stat_force_next_flush()";
    for sql in ["INSERT INTO event DEFAULT VALUES", "VACUUM ANALYZE event", flush, "BEGIN", run] {
        client.batch_execute(sql).unwrap();
    }
    let counted = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'event'";
    let rows = number(client, counted);
    client.batch_execute("COMMIT").unwrap();
    rows
}

/// The cells of the way's row, found out.
fn found(cluster: &Cluster, db: &str, way: &Way) -> [&'static str; 4] {
    let mut client = cluster.database(db).unwrap();
    client
        .batch_execute("CREATE TABLE event (at timestamptz DEFAULT now(), what text DEFAULT repeat('x', 80)); CREATE INDEX ON event (at)")
        .unwrap();
    client.batch_execute(way.made).unwrap();
    client
        .batch_execute("INSERT INTO event SELECT now() - interval '40 days' + i * interval '30 seconds' FROM generate_series(1, 100000) i")
        .unwrap();
    client.batch_execute(way.run).unwrap();
    assert_eq!(number(&mut client, TOTAL), 100_000, "{}", way.name);

    let mut slow = another(cluster, db);
    slow.batch_execute("BEGIN; INSERT INTO event DEFAULT VALUES").unwrap();
    // In a transaction of its own, as a writer's is.
    client.batch_execute("SET lock_timeout = '300ms'").unwrap();
    let waits = match client.batch_execute("INSERT INTO event DEFAULT VALUES") {
        Ok(()) => "no",
        Err(error) => {
            assert_eq!(error.code().map(|code| code.code()), Some("55P03"), "{error:?}");
            "for each other"
        }
    };
    client.batch_execute("RESET lock_timeout").unwrap();
    client.batch_execute(way.run).unwrap();
    slow.batch_execute("COMMIT").unwrap();
    client.batch_execute(way.run).unwrap();
    let missing = number(&mut client, "SELECT count(*) FROM event") - number(&mut client, TOTAL);
    let late = match missing {
        0 => "counted",
        1 => "lost",
        other => panic!("{}: {other} events are missing", way.name),
    };

    let reads = match (read(&mut client, way.run), number(&mut client, "SELECT count(*) FROM event")) {
        (0, _) => "nothing",
        (rows, all) if rows >= all => "every raw row",
        (rows, all) if rows < all / 10 => "the newest",
        (rows, all) => panic!("{}: {rows} of {all}", way.name),
    };

    let before = number(&mut client, TOTAL);
    client.batch_execute(way.expire).unwrap();
    client.batch_execute(way.run).unwrap();
    let raw = number(&mut client, "SELECT count(*) FROM event");
    assert!(raw < 30_000, "{}: {raw} raw rows", way.name);
    let kept = match number(&mut client, TOTAL) {
        total if total == before => "kept",
        total if total == raw => "lost",
        total => panic!("{}: {total} of {before}", way.name),
    };
    [late, kept, reads, waits]
}

#[test]
fn the_comparison_is_what_each_way_does() {
    let cluster = Cluster::new().unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (number, way) in WAYS.iter().enumerate() {
        let [late, kept, reads, waits] = found(&cluster, &format!("way{number}"), way);
        let row = format!("| {} | {late} | {kept} | {reads} | {waits} |", way.name);
        assert!(readme.contains(&row), "the README has not this row:\n{row}");
    }
}
