//! Partitions kept without a worker, beside pg_partman, and of a rollup's own table.
use hll_lab::{Cluster, Tree, skip, wait_for};
use hll_tests::number;
use hll_tests::partitioned::{DIFFERENCES, PARTITIONS, ROLLUP, caught_up, event, text};

#[test]
fn without_a_worker_run_due_makes_them() {
    let cluster = Cluster::with(Tree::prepare().unwrap(), "").unwrap();
    let mut client = cluster.database("cron").unwrap();
    client
        .batch_execute(
            "CREATE TABLE event (at timestamptz NOT NULL, x int) PARTITION BY RANGE (at);
             CREATE TABLE event_rest PARTITION OF event DEFAULT",
        )
        .unwrap();
    client.batch_execute(ROLLUP).unwrap();
    client.batch_execute("SELECT rollup.partition('event', '1 day'); INSERT INTO event SELECT now() - g * interval '1 day', g FROM generate_series(0, 9) g").unwrap();
    let before = number(&mut client, PARTITIONS);
    assert_eq!(number(&mut client, "SELECT rollup.run_due()"), 10);
    assert_eq!(number(&mut client, PARTITIONS), before + 9);
    assert_eq!(number(&mut client, "SELECT count(*) FROM event_rest"), 0);
    // What cannot be made is told, and does not stop the rest.
    client
        .batch_execute(
            "ALTER TABLE event_rest ADD CHECK (x < 100); CREATE TABLE broken (at timestamptz) PARTITION BY RANGE (at);
             SELECT rollup.partition('broken', '1 day'); DROP TABLE event_rest",
        )
        .unwrap();
    client
        .batch_execute(
            "CREATE ROLE leaver; ALTER TABLE broken OWNER TO leaver; UPDATE rollup.partitioning SET ahead = '9 days' WHERE relation = 'broken'::regclass;
             INSERT INTO event VALUES (now(), 1)",
        )
        .unwrap();
    // It is due 200 ms after its last run.
    let mut merged = 0;
    wait_for("the row is merged", 30, || {
        merged += number(&mut client, "SELECT rollup.run_due()");
        merged > 0
    });
    assert_eq!(merged, 1);
    let error = "SELECT last_error FROM rollup.partitioning WHERE relation = 'broken'::regclass";
    assert!(
        text(&mut client, error).contains("permission denied for schema public"),
        "{}",
        text(&mut client, error)
    );
    client.batch_execute("GRANT CREATE ON SCHEMA public TO leaver").unwrap();
    assert_eq!(number(&mut client, "SELECT rollup.run_due()"), 0);
    assert_eq!(text(&mut client, error), "");
}

#[test]
fn beside_pg_partman() {
    let Some(tree) = Tree::beside("partman").unwrap() else {
        return skip("the package of pg_partman is not there: make setup-test");
    };
    let cluster =
        Cluster::with(tree, "shared_preload_libraries = 'hll'\nrollup.naptime = 50ms\ntimezone = 'UTC'\n")
            .unwrap();
    let mut client = cluster.database("partman").unwrap();
    client
        .batch_execute(
            "CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman;
             CREATE TABLE event (at timestamptz NOT NULL, x int) PARTITION BY RANGE (at)",
        )
        .unwrap();
    client.batch_execute(ROLLUP).unwrap();
    let old = "SELECT (extversion LIKE '4.%')::int::bigint FROM pg_extension WHERE extname = 'pg_partman'";
    let days = if number(&mut client, old) == 1 { "'native', 'daily'" } else { "'1 day'" };
    client
        .batch_execute(&format!("SELECT partman.create_parent('public.event', 'at', {days}, p_premake => 2)"))
        .unwrap();
    let theirs = number(&mut client, PARTITIONS);
    assert!(theirs >= 3, "{theirs}");
    // Their move of rows out of the default partition: rolled up before, and not yet.
    let rows = "INSERT INTO event SELECT now() - interval '20 days' + g * interval '3 hours', g FROM generate_series(1, 60) g";
    client.batch_execute(rows).unwrap();
    caught_up(&mut client);
    client.batch_execute("SELECT rollup.pause('event_1h')").unwrap();
    client.batch_execute(rows).unwrap();
    client.batch_execute("CALL partman.partition_data_proc('public.event')").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM ONLY event_default"), 0);
    assert_eq!(number(&mut client, DIFFERENCES), 0);
    client.batch_execute("SELECT rollup.resume('event_1h')").unwrap();
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT rows_total FROM rollup.status"), 120);

    // Both keep the same table: ours goes on behind theirs, theirs behind ours, and neither fails.
    let before = number(&mut client, PARTITIONS);
    assert!(number(&mut client, "SELECT rollup.partition('event', '1 day', '5 days')") > 0);
    client
        .batch_execute("UPDATE partman.part_config SET premake = 8; SELECT partman.run_maintenance()")
        .unwrap();
    client.batch_execute("SELECT rollup.partition('event', '1 day', '12 days')").unwrap();
    client.batch_execute("CALL partman.run_maintenance_proc()").unwrap();
    let even = "SELECT count(*) FROM rollup_internal.partition_bounds('event') WHERE upper - lower <> interval '1 day'";
    assert_eq!(number(&mut client, even), 0);
    assert!(number(&mut client, PARTITIONS) >= before + 9);
    assert_eq!(number(&mut client, "SELECT count(*) FROM partman.check_default(true)"), 0);
    client
        .batch_execute(
            "INSERT INTO event SELECT now() + g * interval '1 day', g FROM generate_series(-25, 11) g",
        )
        .unwrap();
    wait_for("rows of the default partition move", 60, || {
        number(&mut client, "SELECT count(*) FROM ONLY event_default") == 0
    });
    caught_up(&mut client);
    // Retention of either drops what the other made; the rollup keeps what was counted.
    client.batch_execute("UPDATE partman.part_config SET retention = '15 days', retention_keep_table = false; SELECT partman.run_maintenance()").unwrap();
    client.batch_execute("SELECT rollup.retain('event', '3 days')").unwrap();
    // Rows that moved keep their partition until a run has judged that they are counted.
    let old = "SELECT count(*) FROM rollup_internal.partition_bounds('event') WHERE upper < now() - interval '3 days'";
    wait_for("what is old goes", 60, || {
        client.batch_execute("SELECT rollup.expire('event')").unwrap();
        number(&mut client, old) == 0
    });
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_1h_live"), 157);
    assert!(!cluster.log().contains("failed"));
}

#[test]
fn the_table_of_a_rollup_may_be_partitioned_too() {
    let (_cluster, mut client) = event("target", "");
    client
        .batch_execute("SELECT rollup.pause('event_1h'); SELECT rollup.partition('event', '1 day')")
        .unwrap();
    // The table of the rollup gives way to one of the same columns and key that is partitioned by its time.
    client
        .batch_execute(
            "CREATE TABLE partitioned (LIKE event_1h INCLUDING ALL) PARTITION BY RANGE (at);
             CREATE TABLE partitioned_rest PARTITION OF partitioned DEFAULT;
             UPDATE rollup.definition SET relation = 'partitioned';
             SELECT rollup.partition('partitioned', '1 month', '2 months'); SELECT rollup.resume('event_1h')",
        )
        .unwrap();
    let months = "SELECT count(*) FROM rollup_internal.partition_bounds('partitioned')";
    let before = number(&mut client, months);
    assert!(before >= 3, "{before}");
    let merged =
        "SELECT (SELECT coalesce(sum(n), 0) FROM partitioned)::bigint - (SELECT count(*) FROM event)";
    client
        .batch_execute(
            "INSERT INTO event SELECT now() + g * interval '1 hour', g FROM generate_series(0, 40) g",
        )
        .unwrap();
    wait_for("it is run", 60, || number(&mut client, merged) == 0);
    // A late row makes a group in the default partition, which moves, and goes on being merged where it has come.
    client
        .batch_execute(
            "SELECT rollup.partition('event', '1 month'); CREATE TABLE event_rest PARTITION OF event DEFAULT",
        )
        .unwrap();
    for _ in 0..2 {
        client.batch_execute("INSERT INTO event VALUES (now() - interval '200 days', 7)").unwrap();
        wait_for("it is run", 60, || number(&mut client, merged) == 0);
        wait_for("the group moves", 60, || {
            number(&mut client, "SELECT count(*) FROM partitioned_rest") == 0
                && number(&mut client, "SELECT count(*) FROM event_rest") == 0
        });
    }
    assert_eq!(number(&mut client, months), before + 1);
    assert_eq!(number(&mut client, "SELECT n FROM partitioned WHERE at < now() - interval '199 days'"), 2);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('event_1h')"), 0);
    let until = "SELECT count(*) FROM rollup.status WHERE partitions_until BETWEEN now() + interval '59 days' AND now() + interval '125 days'";
    assert_eq!(number(&mut client, until), 1, "the least of source and rollup");
    let options = "SELECT count(*) FROM rollup_internal.partition_bounds('partitioned') b JOIN pg_class c ON c.oid = b.partition WHERE reloptions = '{fillfactor=70}'";
    assert_eq!(number(&mut client, options), before + 1);
    // Its old partitions expire as those of any other table.
    client
        .batch_execute(
            "SELECT rollup.retain('partitioned', '100 days', 'at'); SELECT rollup.expire('partitioned')",
        )
        .unwrap();
    assert_eq!(number(&mut client, months), before);
}
