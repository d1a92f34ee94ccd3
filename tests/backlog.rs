//! Rows that were there before the rollup come in pieces by the worker, whoever is killed meanwhile.
use hll_lab::wait_for;
use hll_tests::{QUERY, another, caught_up, differences, number, prepared};
use std::thread;

#[test]
fn a_backlog_survives_kills() {
    let (cluster, mut client) = prepared("backlog", "");
    for sql in [
        "ALTER SYSTEM SET rollup.batch_rows = 5000",
        "SELECT pg_reload_conf()",
        "INSERT INTO http_request SELECT g % 5, now() - g * interval '2 seconds', '10.0.0.' || g % 250, 'USA', 200, g % 900
         FROM generate_series(1, 100000) g",
    ] {
        client.batch_execute(sql).unwrap();
    }
    let create = format!(
        "SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '100 milliseconds', coarser => '{{\"http_request_1day\": \"1 day\"}}')"
    );
    client.batch_execute(&create).unwrap();
    let pieces = "SELECT coalesce(max(backlog_done), 0)::bigint FROM rollup.definition";
    wait_for("a first piece", 30, || number(&mut client, pieces) > 0);
    let (mut killed, mut compared) = (0, 0);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killer = another(&cluster, "backlog");
            let mut kills = 0;
            for _ in 0..3 {
                kills += number(
                    &mut killer,
                    "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE backend_type = 'rollup scheduler' AND datname = 'backlog'",
                );
                killer
                    .batch_execute(
                        "INSERT INTO http_request VALUES (1, now() - interval '1 day', 'late', 'DE', 200, 1)",
                    )
                    .unwrap();
                let before = number(&mut killer, "SELECT count(*) FROM rollup.run");
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
                while number(&mut killer, "SELECT count(*) FROM rollup.run") == before
                    && std::time::Instant::now() < deadline
                {}
            }
            kills
        });
        while !killer.is_finished() {
            assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
            compared += 1;
        }
        killed = killer.join().unwrap();
    });
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0);
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM rollup.definition WHERE backlog_to_xmax IS NOT NULL"),
        0
    );
    assert!(killed > 0 && compared > 0, "{killed} killed, {compared} comparisons");
    println!("{killed} schedulers killed, {compared} comparisons of the live view");
}

#[test]
fn pieces_do_not_wait_for_the_next_look() {
    let (_cluster, mut client) = prepared("pieces", "");
    for sql in [
        "ALTER SYSTEM SET rollup.batch_rows = 5000",
        "ALTER SYSTEM SET rollup.naptime = '3s'",
        "SELECT pg_reload_conf()",
        "INSERT INTO http_request SELECT g % 5, now() - g * interval '2 seconds', '10.0.0.' || g % 250, 'USA', 200, g % 900
         FROM generate_series(1, 100000) g",
        "CREATE TABLE event (at timestamptz DEFAULT now(), x int)",
        "SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => '1 second')",
        "INSERT INTO event (x) VALUES (1)",
    ] {
        client.batch_execute(sql).unwrap();
    }
    let create = format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '1 hour')");
    client.batch_execute(&create).unwrap();
    let begun = "SELECT count(*) FROM rollup.definition WHERE backlog_done > 0";
    wait_for("the backlog is begun", 60, || number(&mut client, begun) == 1);
    let start = std::time::Instant::now();
    caught_up(&mut client);
    // Twenty pieces, of which each could wait three seconds.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    // The other rollup had its turn.
    wait_for("the other is run", 20, || number(&mut client, "SELECT count(*) FROM event_1h") == 1);
}
