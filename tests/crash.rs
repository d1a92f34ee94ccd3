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
