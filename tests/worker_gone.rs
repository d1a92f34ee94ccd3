//! Tables, owners and the extension go away, also in the middle of a run: the worker goes on with the rest.
use hll_lab::wait_for;
use hll_tests::{
    QUERY, ROWS, SCHEDULER, TABLE, another, another_rollup, caught_up, configure, number, prepared, text,
};
use postgres::Client;
use postgres::error::SqlState;

/// Drops it beside workers. These lock tables of the catalog in the order of their statements, DROP in the order of
/// dependencies: where each waits for the other, PostgreSQL ends one of them, which may be the DROP.
fn drop_beside_workers(client: &mut Client, statement: &str) {
    wait_for(statement, 60, || match client.batch_execute(statement) {
        Ok(()) => true,
        Err(e) if e.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => false,
        Err(e) => panic!("{e:?}"),
    });
}

#[test]
fn what_is_gone_stops_no_other() {
    let (cluster, mut client) = prepared("gone", "1 second");
    configure(&mut client, &["SET rollup.retry_delay = '50ms'"]);
    client
        .batch_execute("CREATE ROLE leaver; GRANT ALL ON SCHEMA public TO leaver; SET ROLE leaver")
        .unwrap();
    another_rollup(&mut client, "role_gone");
    client
        .batch_execute(
            "RESET ROLE; REASSIGN OWNED BY leaver TO postgres; DROP OWNED BY leaver; DROP ROLE leaver",
        )
        .unwrap();
    another_rollup(&mut client, "source_gone");
    another_rollup(&mut client, "target_gone");
    client
        .batch_execute(
            "DROP TABLE source_gone CASCADE; DROP TABLE target_gone_1min CASCADE;
             INSERT INTO role_gone VALUES (now(), 1); INSERT INTO target_gone VALUES (now(), 1)",
        )
        .unwrap();
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    wait_for("the rollup of a new owner goes on", 30, || {
        number(&mut client, "SELECT count(*) FROM role_gone_1min") == 1
    });
    for name in ["source_gone", "target_gone"] {
        let state = format!("SELECT state FROM rollup.status WHERE name = '{name}_1min'");
        assert_eq!(text(&mut client, &state), "gone");
    }
    // Nobody tries to run what is gone.
    assert!(cluster.log().matches("source_gone_1min failed").count() <= 1);
    drop_beside_workers(&mut client, "DROP EXTENSION hll CASCADE");
    wait_for("the scheduler leaves", 30, || number(&mut client, SCHEDULER) == 0);
    client.batch_execute("CREATE EXTENSION hll").unwrap();
    wait_for("a scheduler comes", 60, || number(&mut client, SCHEDULER) > 0);
    assert!(
        !cluster.log().contains("you don't own a lock"),
        "a lock was given back that another process has"
    );
    assert!(!cluster.log().contains("PANIC") && !cluster.log().contains("was terminated by signal"));
}

#[test]
fn what_goes_in_the_middle_of_a_run_is_waited_for() {
    let (cluster, mut client) = prepared("middle", "1 second");
    configure(&mut client, &["SET rollup.retry_delay = '50ms'"]);
    let running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rollup: http_request_1min' AND wait_event_type = 'Lock'";
    for (drop, after) in [
        (
            "DROP TABLE http_request CASCADE",
            "SELECT count(*) FROM pg_tables WHERE tablename = 'http_request'",
        ),
        ("DROP EXTENSION hll CASCADE", "SELECT count(*) FROM pg_extension WHERE extname = 'hll'"),
    ] {
        let mut blocker = another(&cluster, "middle");
        if drop.contains("EXTENSION") {
            client.batch_execute("SELECT rollup.drop('http_request_1min')").unwrap();
            client.batch_execute(TABLE).unwrap();
            client
                .batch_execute(&format!(
                    "SELECT rollup.create('http_request_1min', $q${}$q$, every => '1 second')",
                    QUERY
                ))
                .unwrap();
        }
        blocker.batch_execute("BEGIN; LOCK TABLE http_request_1min IN SHARE MODE").unwrap();
        client.batch_execute(ROWS).unwrap();
        wait_for("a run that waits", 30, || number(&mut client, running) == 1);
        let mut dropper = another(&cluster, "middle");
        let dropped = std::thread::spawn(move || drop_beside_workers(&mut dropper, drop));
        wait_for("the drop waits", 30, || {
            number(
                &mut client,
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DROP%' AND wait_event_type = 'Lock'",
            ) == 1
        });
        blocker.batch_execute("COMMIT").unwrap();
        dropped.join().unwrap();
        assert_eq!(number(&mut client, after), 0);
    }
    client.batch_execute("CREATE EXTENSION hll; DROP TABLE http_request").unwrap();
    client.batch_execute(TABLE).unwrap();
    client.batch_execute("DROP TABLE IF EXISTS http_request_1min").unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('http_request_1min', $q${}$q$, every => '1 second')",
            QUERY
        ))
        .unwrap();
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    assert!(!cluster.log().contains("PANIC") && !cluster.log().contains("was terminated by signal"));
}
