//! pg_upgrade from an older major version, from under a running worker: data, sketches, counters and rollups arrive, and
//! the worker goes on.
use hll_lab::{Cluster, Tree, skip, wait_for};
use hll_tests::{QUERY, TABLE, caught_up, differences, number};
use postgres::Client;

const OLDEST: u32 = 15;
const PRELOADED: &str = "shared_preload_libraries = 'hll'\nrollup.naptime = 200ms\n";

fn insert(client: &mut Client, from: &str, rows: u32) {
    let sql = format!(
        "INSERT INTO http_request SELECT i % 5, {from} + i * interval '1 second', '10.0.' || i % 7 || '.' || i % 99,
           (ARRAY['Peru', 'India', NULL])[1 + i % 3], 200 + i % 5 / 4 * 300, i % 900 FROM generate_series(1, {rows}) i"
    );
    client.batch_execute(&sql).unwrap();
}

/// What does not depend on the clock.
fn answers(client: &mut Client) -> Vec<String> {
    let sql = "SELECT concat_ws('|', day, md5(visitors::text), #visitors, hll_type(visitors), counts) FROM daily ORDER BY day";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn upgrade(old: Tree, new: Tree) {
    let mut before = Cluster::with(old, PRELOADED).unwrap();
    let mut client = before.database("story").unwrap();
    client.batch_execute(TABLE).unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '1 second', coarser => '{{\"http_request_1hour\": \"1 hour\"}}');
             CREATE TABLE daily (day int PRIMARY KEY, visitors hll(12, 5, -1, 1), counts jsonb);
             INSERT INTO daily SELECT d, hll_add_agg(hll_hash_integer(i), 12), jsonb_counter_agg('k' || i % 9)
               FROM generate_series(0, 4) d, generate_series(1, (10 ^ d)::int) i GROUP BY d;
             CREATE INDEX ON daily (visitors);
             CREATE VIEW total AS SELECT hll_union_agg(visitors) AS visitors FROM daily"
        ))
        .unwrap();
    insert(&mut client, "timestamptz '2026-01-01'", 5000);
    caught_up(&mut client);
    // Each a transaction of its own: what is not committed is not rolled up, and does not expire.
    for sql in [
        "CREATE TABLE event (at timestamptz DEFAULT now(), n int)",
        "SELECT rollup.create('event_daily', 'SELECT date_trunc(''day'', at) AS day, count(*) AS events FROM event GROUP BY 1', every => '1 second')",
        "INSERT INTO event SELECT now() - interval '40 days' * (i % 2), 1 FROM generate_series(1, 14) i",
        "SELECT rollup_event()",
        "SELECT rollup.retain('event', '7 days')",
        "SELECT expire_event()",
    ] {
        client.batch_execute(sql).unwrap();
    }
    assert_eq!(number(&mut client, "SELECT count(*) FROM event"), 7);
    let (said, runs) = (answers(&mut client), number(&mut client, "SELECT count(*) FROM rollup.history"));
    // Rows that no run has seen: the next one does, in whichever server it takes place.
    insert(&mut client, "timestamptz '2026-01-02'", 300);
    drop(client);

    let after = before.upgraded(new, PRELOADED).unwrap();
    let mut client = after.connect("story").unwrap();
    assert_eq!(answers(&mut client), said);
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 5300);
    assert!(number(&mut client, "SELECT count(*) FROM rollup.history") >= runs);
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0, "the live view at once");
    // The worker finds the database by itself.
    insert(&mut client, "timestamptz '2026-01-01'", 100);
    caught_up(&mut client);
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
    let hours = "SELECT count(*) FROM (SELECT site_id, date_trunc('hour', ingest_time), count(*) FROM http_request GROUP BY 1, 2
        EXCEPT SELECT site_id, ingest_time, request_count FROM http_request_1hour) d";
    wait_for("the level holds every row", 30, || number(&mut client, hours) == 0);
    // Raw rows that had expired are in their buckets still.
    client.batch_execute("INSERT INTO event SELECT now(), 1 FROM generate_series(1, 3)").unwrap();
    let events = "SELECT sum(events)::bigint FROM event_daily";
    wait_for("events are counted", 30, || number(&mut client, events) == 17);
    let failed = "SELECT count(*) FROM rollup.status WHERE state <> 'active' OR failures > 0";
    assert_eq!(number(&mut client, failed), 0);
}

#[test]
fn a_cluster_goes_to_this_major_version() {
    let new = Tree::prepare().unwrap();
    let major = new.major;
    let mut without = Vec::new();
    let mut done = 0;
    for older in OLDEST..major {
        match Tree::packaged(older).unwrap() {
            Ok(old) => upgrade(old, new.clone()),
            Err(why) => {
                without.push(why);
                continue;
            }
        }
        done += 1;
    }
    if done == 0 {
        let why = if without.is_empty() { "there is none".into() } else { without.join("; ") };
        skip(format_args!("no PostgreSQL older than {major} to upgrade from: {why}"));
    }
}
