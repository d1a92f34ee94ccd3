//! The background worker: runs by itself, survives failures and termination, and is quiet when idle.
use hll_lab::wait_for;
use hll_tests::{caught_up, differences, number, prepared};

const ROWS: &str = "INSERT INTO http_request SELECT g % 3, now(), '10.0.0.' || g % 250, 'USA', 200, g
                    FROM generate_series(1, 1000) g";

#[test]
fn runs_by_itself() {
    let (_cluster, mut client) = prepared("alone", "1 second");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 1000);
}

#[test]
fn a_failing_rollup_stops_no_other() {
    let (_cluster, mut client) = prepared("failing", "1 second");
    client
        .batch_execute(
            "CREATE TABLE other (at timestamptz DEFAULT now(), x int);
             SELECT rollup.create('other_1min',
                'SELECT date_trunc(''minute'', at) AS at, sum(x) AS total FROM other GROUP BY 1', every => '1 second');
             ALTER TABLE other_1min ADD CONSTRAINT never CHECK (total < 0);
             INSERT INTO other (x) VALUES (1)",
        )
        .unwrap();
    wait_for("the failure is reported", 30, || {
        number(
            &mut client,
            "SELECT coalesce(max(failures), 0)::bigint FROM rollup.status WHERE name = 'other_1min'",
        ) > 0
    });
    let error: String = client
        .query_one("SELECT last_error FROM rollup.status WHERE name = 'other_1min'", &[])
        .unwrap()
        .get(0);
    assert!(error.contains("never"), "{error}");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    client.batch_execute("ALTER TABLE other_1min DROP CONSTRAINT never").unwrap();
    wait_for("the failed rollup recovers", 90, || {
        number(&mut client, "SELECT coalesce(sum(total), 0)::bigint FROM other_1min") == 1
    });
}

#[test]
fn a_terminated_scheduler_comes_back() {
    let (_cluster, mut client) = prepared("killed", "1 second");
    let pid = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity
               WHERE backend_type = 'rollup scheduler' AND datname = 'killed'";
    wait_for("a scheduler", 30, || number(&mut client, pid) > 0);
    let before = number(&mut client, pid);
    client.batch_execute(&format!("SELECT pg_terminate_backend({before})")).unwrap();
    wait_for("another scheduler", 30, || ![0, before].contains(&number(&mut client, pid)));
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
}

#[test]
fn idle_ticks_take_no_transaction_id() {
    let (_cluster, mut client) = prepared("idle", "200 milliseconds");
    client.batch_execute("ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf()").ok();
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    // The state may lag behind the table it describes by one run; three seconds hold at least five ticks.
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let mut quiet = std::time::Instant::now();
    let mut last = number(&mut client, next);
    wait_for("three seconds without a transaction id", 30, || {
        let now = number(&mut client, next);
        if now != last {
            (last, quiet) = (now, std::time::Instant::now());
        }
        quiet.elapsed().as_secs() >= 3
    });
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
}
