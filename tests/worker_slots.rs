//! Where the worker runs: databases that are chosen, few slots for background workers, and another scheduler instead.
use hll_lab::{Cluster, Tree, wait_for};
use hll_tests::{
    QUERY, ROWS, SCHEDULER, TABLE, another_rollup, caught_up, configure, differences, number, prepared, text,
};

#[test]
fn databases_are_chosen_and_dropped() {
    let (cluster, mut client) = prepared("stays", "1 second");
    wait_for("a scheduler", 30, || number(&mut client, SCHEDULER) > 0);
    let mut goes = cluster.database("goes").unwrap();
    wait_for("its scheduler", 60, || number(&mut goes, SCHEDULER) > 0);
    configure(&mut client, &["SET rollup.databases = 'goes, \"no such\"'"]);
    wait_for("this scheduler leaves", 30, || number(&mut client, SCHEDULER) == 0);
    assert!(number(&mut goes, SCHEDULER) > 0);
    drop(goes);
    // Without FORCE: who works in the database notices that it is to go.
    client.batch_execute("DROP DATABASE goes").unwrap();
    client.batch_execute(ROWS).unwrap();
    configure(&mut client, &["SET rollup.databases = '*'"]);
    wait_for("a scheduler again", 60, || number(&mut client, SCHEDULER) > 0);
    caught_up(&mut client);
}

#[test]
fn one_free_slot_is_enough() {
    let settings = "shared_preload_libraries = 'hll'\nrollup.naptime = 50ms\nmax_worker_processes = 4\nmax_parallel_workers = 0\n";
    let cluster = Cluster::with(Tree::prepare().unwrap(), settings).unwrap();
    let mut client = cluster.database("slots").unwrap();
    for name in ["a", "b", "c"] {
        another_rollup(&mut client, name);
    }
    let taken = "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('rollup launcher', 'rollup scheduler', 'logical replication launcher')";
    wait_for("one slot is left", 30, || number(&mut client, taken) == 3);
    for round in 1..=3i64 {
        client
            .batch_execute("BEGIN; INSERT INTO a (x) VALUES (1); INSERT INTO b (x) VALUES (1); INSERT INTO c (x) VALUES (1); COMMIT")
            .unwrap();
        let total = "SELECT (SELECT coalesce(sum(total), 0) FROM a_1min)::bigint * 10000 + (SELECT coalesce(sum(total), 0) FROM b_1min)::bigint * 100
                     + (SELECT coalesce(sum(total), 0) FROM c_1min)::bigint";
        wait_for("all three are run", 30, || number(&mut client, total) == round * 10101);
    }
}

#[test]
fn any_scheduler_will_do() {
    let cluster = Cluster::with(Tree::prepare().unwrap(), "").unwrap();
    let mut client = cluster.database("cron").unwrap();
    client.batch_execute(TABLE).unwrap();
    client.batch_execute(&format!("SELECT rollup.create('http_request_1min', $q${}$q$)", QUERY)).unwrap();
    another_rollup(&mut client, "bad");
    another_rollup(&mut client, "good");
    client
        .batch_execute(
            "ALTER TABLE bad_1min ADD CONSTRAINT never CHECK (total < 0);
             INSERT INTO bad (x) VALUES (1); INSERT INTO good (x) VALUES (1)",
        )
        .unwrap();
    client.batch_execute(ROWS).unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.run_due()"), 1001);
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM good_1min"), 1);
    let failing =
        "SELECT string_agg(name || ': ' || last_error, ', ') FROM rollup.status WHERE state = 'failing'";
    assert!(text(&mut client, failing).starts_with("bad_1min: new row for relation"));
    // It rests: the next call does not try it again.
    assert_eq!(number(&mut client, "SELECT rollup.run_due()"), 0);
    assert_eq!(number(&mut client, "SELECT failures::bigint FROM rollup.status WHERE name = 'bad_1min'"), 1);
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%'"),
        0
    );
}

#[test]
fn without_a_slot_for_the_scheduler_there_is_one_warning() {
    // The launchers of logical replication and of rollups take both.
    let settings = "shared_preload_libraries = 'hll'\nrollup.naptime = 20ms\nmax_worker_processes = 2\nmax_parallel_workers = 0\n";
    let cluster = Cluster::with(Tree::prepare().unwrap(), settings).unwrap();
    let mut client = cluster.database("noslot").unwrap();
    another_rollup(&mut client, "event");
    let warning = "no background worker slot is free for the rollups of database";
    wait_for("a warning", 30, || cluster.log().contains(warning));
    client.batch_execute("INSERT INTO event (x) VALUES (1)").unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.run_due()"), 1);
    let begun = std::time::Instant::now();
    wait_for("more attempts", 10, || begun.elapsed().as_secs() >= 4);
    assert_eq!(cluster.log().matches(warning).count(), 1);
}
