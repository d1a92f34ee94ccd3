//! The whole story on three nodes, as a user lives it: events of many sites are distributed, summarised by the minute and
//! by the hour while they come in on every node, given more columns later, asked by a dashboard, and expire. Each
//! answer is compared with what GROUP BY makes of the events themselves, both ways.
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use hll_lab::{Citus, wait_for};
use hll_tests::number;
use postgres::Client;

const EVENTS: &str = "CREATE TABLE http_request (site_id int, ingest_time timestamptz DEFAULT now(), url text, request_country text,
    ip_address text, status_code int, response_time_msec int)";

const ROLLUP: &str = "SELECT rollup.create('http_request_1min', $$
  SELECT site_id,
         date_trunc('minute', ingest_time)                             AS ingest_time,
         count(*)                                                      AS request_count,
         count(*) FILTER (WHERE status_code BETWEEN 200 AND 299)       AS success_count,
         count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299)   AS error_count,
         sum(response_time_msec) / count(*)                            AS average_response_time_msec
  FROM http_request
  GROUP BY 1, 2 $$, every => '200 milliseconds', coarser => '{\"http_request_1hour\": \"1 hour\"}')";

/// Events of `minutes` minutes, `rows` of them: `seed` makes others than another.
fn events(rows: u32, minutes: u32, seed: u32) -> String {
    format!(
        "INSERT INTO http_request (site_id, ingest_time, url, request_country, ip_address, status_code, response_time_msec)
         SELECT (g * 7 + {seed}) % 40, now() - (g % {minutes}) * interval '1 min' - (g % 60) * interval '1 s', '/' || g % 90,
                (ARRAY['USA','DE','FR','JP',NULL])[1 + (g / 3 + {seed}) % 5], '10.' || (g + {seed}) % 97 || '.0.' || g % 211,
                (ARRAY[200,201,404,500])[1 + g % 4], (g * 31 + {seed}) % 900 FROM generate_series(1, {rows}) g"
    )
}

/// What GROUP BY makes of the events of `table`: no counter, sketch or bucket of the extension but the sketch itself.
fn grouped(table: &str, unit: &str) -> String {
    let bucket = format!("date_trunc('{unit}', ingest_time, 'UTC')");
    format!(
        "SELECT r.*, j.country_counters FROM (SELECT site_id, {bucket} AS ingest_time, count(*) AS request_count,
             sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 1 ELSE 0 END) AS success_count,
             sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 0 ELSE 1 END) AS error_count,
             sum(response_time_msec) / count(*) AS average_response_time_msec,
             hll_add_agg(hll_hash_text(ip_address))::text AS distinct_ip_addresses FROM {table} GROUP BY 1, 2) r
         LEFT JOIN (SELECT site_id, ingest_time, jsonb_object_agg(request_country, n) AS country_counters
             FROM (SELECT site_id, {bucket} AS ingest_time, request_country, count(*) AS n FROM {table}
                   WHERE request_country IS NOT NULL GROUP BY 1, 2, 3) c GROUP BY 1, 2) j
         ON j.site_id = r.site_id AND j.ingest_time = r.ingest_time"
    )
}

/// Groups that are in one of the two and not in the other.
fn differences(client: &mut Client, rollup: &str, table: &str, unit: &str) -> i64 {
    number(
        client,
        &format!(
            "WITH raw AS MATERIALIZED ({}), kept AS MATERIALIZED (SELECT site_id, ingest_time, request_count, success_count, error_count,
                 average_response_time_msec, distinct_ip_addresses::text, country_counters FROM {rollup})
             SELECT (SELECT count(*) FROM (TABLE raw EXCEPT ALL TABLE kept) a) + (SELECT count(*) FROM (TABLE kept EXCEPT ALL TABLE raw) b)",
            grouped(table, unit)
        ),
    )
}

fn all_merged(client: &mut Client) {
    wait_for("the worker has merged everything", 60, || {
        number(client, "SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = 'http_request_1min'")
            == 0
    });
}

fn all_equal(client: &mut Client, table: &str, levels: &[(&str, &str)], what: &str) {
    for (level, unit) in levels {
        assert_eq!(differences(client, level, table, unit), 0, "{what}: {level}");
        assert_eq!(
            differences(client, &format!("{level}_live"), table, unit),
            0,
            "{what}: {level}, the live view"
        );
    }
}

/// Writes through a node until it is told to stop; returns how many rows it has written.
fn writer(citus: &Citus, node: usize, done: &AtomicBool) -> u64 {
    let mut client = citus.connect(node).unwrap();
    let mut written = 0;
    while !done.load(Relaxed) {
        written += client.execute(&events(20, 200, written as u32 + 1), &[]).unwrap();
        let mut copy = client
            .copy_in("COPY http_request (site_id, request_country, ip_address, status_code, response_time_msec) FROM STDIN")
            .unwrap();
        for row in 0..5 {
            let line = format!("{}\tUSA\t10.9.{node}.{}\t200\t{row}\n", written % 40, written % 250);
            copy.write_all(line.as_bytes()).unwrap();
        }
        written += copy.finish().unwrap();
    }
    written
}

#[test]
fn from_events_to_a_dashboard() {
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    let mut client = citus.connect(0).unwrap();
    client.batch_execute(EVENTS).unwrap();
    client.batch_execute("SELECT create_distributed_table('http_request', 'site_id')").unwrap();
    client.batch_execute(&events(100_000, 300, 0)).unwrap();
    client.batch_execute(ROLLUP).unwrap();
    let levels = [("http_request_1min", "minute"), ("http_request_1hour", "hour")];

    // Writers on every node while columns are added and the worker runs.
    let done = AtomicBool::new(false);
    let written: u64 = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|node| {
                let (citus, done) = (&citus, &done);
                scope.spawn(move || writer(citus, node, done))
            })
            .collect();
        wait_for("runs have merged what writers wrote", 60, || {
            number(&mut client, "SELECT count(*) FROM rollup.history WHERE rows_in > 0") > 3
        });
        for (name, expression) in [
            ("distinct_ip_addresses", "hll_add_agg(hll_hash_text(ip_address))"),
            ("country_counters", "jsonb_counter_agg(request_country)"),
        ] {
            let add = format!("SELECT rollup.add_column('http_request_1min', '{name}', '{expression}')");
            client.batch_execute(&add).unwrap();
        }
        let runs = number(&mut client, "SELECT runs FROM rollup.status");
        wait_for("runs fill the new columns", 60, || {
            number(&mut client, "SELECT runs FROM rollup.status") > runs + 3
        });
        done.store(true, Relaxed);
        writers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 100_000 + written as i64);
    let nodes = "SELECT count(DISTINCT (rollup_stamp >> 48)) FROM http_request";
    assert_eq!(number(&mut client, nodes), 3, "rows of every node");
    all_merged(&mut client);
    all_equal(&mut client, "http_request", &levels, "columns added while rows came");
    dashboard(&mut client);

    // A coarser level, later.
    client
        .batch_execute("SELECT rollup.add_level('http_request_1min', 'http_request_1day', '1 day')")
        .unwrap();
    let levels = [levels[0], levels[1], ("http_request_1day", "day")];
    // Rows that come days late, through a worker.
    citus
        .connect(1)
        .unwrap()
        .batch_execute(&events(600, 300, 5).replace("now() -", "now() - interval '3 days' -"))
        .unwrap();
    all_merged(&mut client);
    all_equal(&mut client, "http_request", &levels, "a level, and late rows");
    expiry(&citus, &mut client, &levels);
    assert_eq!(number(&mut client, "SELECT failed FROM rollup.status"), 0, "no run has failed");
}

/// What a dashboard asks: each answer of the rollup and that of the events.
fn dashboard(client: &mut Client) {
    let five = "ingest_time >= date_trunc('minute', now(), 'UTC') - interval '90 min'";
    let sums = |client: &mut Client, sql: &str| {
        let row = client.query_one(sql, &[]).unwrap();
        (0..3).map(|n| row.get::<_, Option<i64>>(n)).collect::<Vec<_>>()
    };
    let rollup = sums(
        client,
        &format!(
            "SELECT sum(request_count)::bigint, sum(error_count)::bigint, sum((country_counters->>'USA')::bigint)::bigint FROM http_request_1min WHERE site_id = 7 AND {five}"
        ),
    );
    let events = sums(
        client,
        &format!(
            "SELECT count(*), count(*) FILTER (WHERE status_code >= 300), count(*) FILTER (WHERE request_country = 'USA') FROM http_request WHERE site_id = 7 AND {five}"
        ),
    );
    assert_eq!(rollup, events, "one site");
    assert!(rollup[0] > Some(100), "{rollup:?}");

    // All sites: sketches are united, counters added, between nodes.
    let visitors = format!(
        "SELECT hll_cardinality(hll_union_agg(distinct_ip_addresses))::bigint FROM http_request_1min WHERE {five}"
    );
    let exact = number(client, &format!("SELECT count(DISTINCT ip_address) FROM http_request WHERE {five}"));
    let estimate = number(client, &visitors);
    // A standard error of 2.3 %: four of them.
    assert!((estimate - exact).abs() * 11 < exact, "{estimate} visitors, where there are {exact}");
    let text = |client: &mut Client, sql: &str| client.query_one(sql, &[]).unwrap().get::<_, String>(0);
    assert_eq!(
        text(client, "SELECT jsonb_counter_merge_agg(country_counters)::text FROM http_request_1hour"),
        text(
            client,
            "WITH c AS MATERIALIZED (SELECT request_country, count(*) AS n FROM http_request WHERE request_country IS NOT NULL GROUP BY 1) SELECT jsonb_object_agg(request_country, n)::text FROM c"
        ),
        "requests by country"
    );
}

/// Events go after a day and minutes after two, on every node; hours and days stay, and say what they said.
fn expiry(citus: &Citus, client: &mut Client, levels: &[(&str, &str)]) {
    // All events, for the comparison: those of the rollup itself will be gone.
    client
        .batch_execute(
            "CREATE TABLE history (site_id int, ingest_time timestamptz, url text, request_country text, ip_address text, status_code int, response_time_msec int);
             SELECT create_distributed_table('history', 'site_id', colocate_with => 'http_request');
             INSERT INTO history SELECT site_id, ingest_time, url, request_country, ip_address, status_code, response_time_msec FROM http_request;
             SELECT rollup.retain('http_request', '1 day'), rollup.retain('http_request_1min', '2 days')",
        )
        .unwrap();
    wait_for("the worker removes old events", 60, || {
        number(client, "SELECT count(*) FROM http_request WHERE ingest_time < now() - interval '1 day'") == 0
    });
    wait_for("and old minutes", 60, || {
        number(client, "SELECT count(*) FROM http_request_1min WHERE ingest_time < now() - interval '2 days'")
            == 0
    });
    assert_eq!(
        number(client, "SELECT removed FROM rollup.retention WHERE relation = 'http_request'::regclass"),
        600
    );
    all_equal(client, "history", &levels[1..], "hours and days without their events");
    let minutes = "(SELECT * FROM history WHERE ingest_time >= now() - interval '1 day')";
    assert_eq!(
        differences(client, "http_request_1min", &format!("{minutes} h"), "minute"),
        0,
        "minutes that stay"
    );
    // A row that comes after its minute has expired: it is in the hours and days, and counted as late.
    let at: String = client.query_one("SELECT (now() - interval '4 days')::text", &[]).unwrap().get(0);
    let late = format!("VALUES (3, '{at}', '/', 'DE', '10.0.0.1', 200, 5)");
    citus.connect(2).unwrap().batch_execute(&format!("INSERT INTO http_request {late}")).unwrap();
    client.batch_execute(&format!("INSERT INTO history {late}")).unwrap();
    all_merged(client);
    all_equal(client, "history", &levels[1..], "a row that came too late for its minute");
    assert_eq!(number(client, "SELECT late_ignored FROM rollup.status"), 1);
    wait_for("its minute expires in turn", 60, || {
        number(client, "SELECT count(*) FROM http_request_1min WHERE ingest_time < now() - interval '2 days'")
            == 0
    });
}
