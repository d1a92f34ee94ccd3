//! The server dies in the middle of everything; nothing is lost and nothing counted twice.
use std::thread;

use hll_lab::Cluster;
use hll_tests::forgive::until_lost;
use hll_tests::{QUERY, TABLE, another, caught_up, differences, number};

#[test]
fn a_crash_keeps_it_exact() {
    let mut cluster = Cluster::new().unwrap();
    let mut client = cluster.database("crash").unwrap();
    client.batch_execute(TABLE).unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '100 milliseconds')"
        ))
        .unwrap();
    for round in 0..3 {
        let before = number(&mut client, "SELECT count(*) FROM http_request");
        let writers: Vec<_> = (0..3)
            .map(|w| {
                let mut writer = another(&cluster, "crash");
                thread::spawn(move || {
                    let sql = format!(
                        "INSERT INTO http_request SELECT g % 4, now(), '10.{w}.0.' || g % 99, 'DE', 200, g
                         FROM generate_series(1, 25) g"
                    );
                    until_lost(&mut writer, &sql);
                })
            })
            .collect();
        hll_lab::wait_for("some load", 30, || {
            number(&mut client, "SELECT count(*) FROM http_request") > before + 2000
        });
        cluster.crash().unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        cluster.start().unwrap();
        client = another(&cluster, "crash");
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0, "after crash {round}");
        caught_up(&mut client);
    }
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM http_request"),
        number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min")
    );
}

#[test]
fn what_was_counted_of_an_unlogged_table_outlives_a_crash() {
    let mut cluster = Cluster::new().unwrap();
    let mut client = cluster.database("unlogged").unwrap();
    for statement in [
        "CREATE UNLOGGED TABLE staged (at timestamptz NOT NULL, n int)",
        "SELECT rollup.create('counted', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM staged GROUP BY 1', every => NULL)",
        "INSERT INTO staged SELECT timestamptz '2026-01-01' + i * interval '1 hour', i FROM generate_series(1, 100) i",
        "SELECT rollup.run('staged')",
        "INSERT INTO staged VALUES ('2026-01-01', 1)",
    ] {
        client.batch_execute(statement).unwrap();
    }
    cluster.crash().unwrap();
    cluster.start().unwrap();
    client = another(&cluster, "unlogged");
    assert_eq!(number(&mut client, "SELECT count(*) FROM staged"), 0);
    client.batch_execute("INSERT INTO staged VALUES ('2026-01-01', 1), ('2026-02-01', 2)").unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.run('staged')"), 2);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM counted"), 102);
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM counted_live"), 102);
}
