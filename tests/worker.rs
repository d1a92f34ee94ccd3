//! The background worker: runs by itself, survives failures and termination, and is quiet when idle.
use hll_lab::{Cluster, Tree, wait_for};
use hll_tests::{another, caught_up, differences, number, prepared};
use postgres::error::SqlState;

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

/// A rollup of its own table, `NAME`, which the worker looks at every second.
fn another_rollup(client: &mut postgres::Client, name: &str) {
    let create = format!(
        "CREATE TABLE {name} (at timestamptz DEFAULT now(), x int);
         SELECT rollup.create('{name}_1min',
            'SELECT date_trunc(''minute'', at) AS at, sum(x) AS total FROM {name} GROUP BY 1', every => '1 second')"
    );
    client.batch_execute(&create).unwrap();
}

fn set(client: &mut postgres::Client, setting: &str) {
    client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
}

fn text(client: &mut postgres::Client, sql: &str) -> String {
    client.query_one(sql, &[]).unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

const SCHEDULER: &str = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity
    WHERE backend_type = 'rollup scheduler' AND datname = current_database()";

#[test]
fn too_many_failures_pause() {
    let (_cluster, mut client) = prepared("pausing", "1 second");
    set(&mut client, "rollup.retry_delay = '20ms'");
    set(&mut client, "rollup.max_failures = 3");
    another_rollup(&mut client, "other");
    client
        .batch_execute(
            "ALTER TABLE other_1min ADD CONSTRAINT never CHECK (total < 0);
             SELECT rollup.retain('other', '1 day'); INSERT INTO other (x) VALUES (1)",
        )
        .unwrap();
    let status = |column: &str| format!("SELECT {column}::text FROM rollup.status WHERE name = 'other_1min'");
    wait_for("it is paused", 30, || text(&mut client, &status("state")) == "paused");
    let why = text(&mut client, &status("paused_for"));
    assert!(why.starts_with("paused after 3 failures") && why.contains("never"), "{why}");
    assert_eq!(text(&mut client, &status("expiry_held_by")), "other_1min");
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM rollup.history WHERE name = 'other_1min' AND error ~ 'never'"
        ),
        3
    );
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    client
        .batch_execute("ALTER TABLE other_1min DROP CONSTRAINT never; SELECT rollup.resume('other_1min')")
        .unwrap();
    wait_for("it goes on", 30, || number(&mut client, "SELECT count(*) FROM other_1min") == 1);
    assert_eq!(text(&mut client, &status("state || failures || coalesce(paused_for, '-')")), "active0-");
}

/// Drops it beside workers. These lock tables of the catalog in the order of their statements, DROP in the order of
/// dependencies: where each waits for the other, PostgreSQL ends one of them, which may be the DROP.
fn drop_beside_workers(client: &mut postgres::Client, statement: &str) {
    wait_for(statement, 60, || match client.batch_execute(statement) {
        Ok(()) => true,
        Err(e) if e.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => false,
        Err(e) => panic!("{e:?}"),
    });
}

#[test]
fn what_is_gone_stops_no_other() {
    let (cluster, mut client) = prepared("gone", "1 second");
    set(&mut client, "rollup.retry_delay = '50ms'");
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
fn databases_are_chosen_and_dropped() {
    let (cluster, mut client) = prepared("stays", "1 second");
    wait_for("a scheduler", 30, || number(&mut client, SCHEDULER) > 0);
    let mut goes = cluster.database("goes").unwrap();
    wait_for("its scheduler", 60, || number(&mut goes, SCHEDULER) > 0);
    set(&mut client, "rollup.databases = 'goes, \"no such\"'");
    wait_for("this scheduler leaves", 30, || number(&mut client, SCHEDULER) == 0);
    assert!(number(&mut goes, SCHEDULER) > 0);
    drop(goes);
    // Without FORCE: who works in the database notices that it is to go.
    client.batch_execute("DROP DATABASE goes").unwrap();
    client.batch_execute(ROWS).unwrap();
    set(&mut client, "rollup.databases = '*'");
    wait_for("a scheduler again", 60, || number(&mut client, SCHEDULER) > 0);
    caught_up(&mut client);
}

#[test]
fn owners_are_served_at_once() {
    let (cluster, mut client) = prepared("atonce", "1 second");
    client
        .batch_execute("CREATE ROLE neighbour; GRANT ALL ON SCHEMA public TO neighbour; SET ROLE neighbour")
        .unwrap();
    another_rollup(&mut client, "other");
    client.batch_execute("RESET ROLE").unwrap();
    let mut blocker = another(&cluster, "atonce");
    // A run of the one waits for this; the other, of another owner, is run meanwhile.
    blocker.batch_execute("BEGIN; LOCK TABLE http_request_1min IN SHARE MODE").unwrap();
    client.batch_execute(ROWS).unwrap();
    let waits = |name: &str| {
        format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rollup: {name}'
             AND query = 'rollup.run of {name}' AND state = 'active' AND wait_event_type = 'Lock'"
        )
    };
    wait_for("the run waits", 30, || number(&mut client, &waits("http_request_1min")) == 1);
    client.batch_execute("INSERT INTO other (x) VALUES (7)").unwrap();
    wait_for("the other is run meanwhile", 30, || {
        number(&mut client, "SELECT count(*) FROM other_1min") == 1
    });
    assert_eq!(number(&mut client, &waits("http_request_1min")), 1);
    blocker.batch_execute("COMMIT").unwrap();
    caught_up(&mut client);
    wait_for("the helper leaves", 60, || {
        number(&mut client, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker'") == 0
    });
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
fn versions_that_differ_wait() {
    let (cluster, mut client) = prepared("versions", "1 second");
    client.batch_execute("UPDATE pg_extension SET extversion = '2.21' WHERE extname = 'hll'").unwrap();
    let says = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler'
                AND query LIKE 'waiting: the library is version %, the extension 2.21'";
    wait_for("the scheduler says that it waits", 30, || number(&mut client, says) == 1);
    client.batch_execute(ROWS).unwrap();
    let before = number(&mut client, SCHEDULER);
    client.batch_execute("UPDATE pg_extension SET extversion = '3.0.0' WHERE extname = 'hll'").unwrap();
    caught_up(&mut client);
    assert_eq!(number(&mut client, SCHEDULER), before, "the same process all the time");
    assert_eq!(cluster.log().matches("rollups of this database wait").count(), 1);
    assert!(cluster.log().contains("ALTER EXTENSION hll UPDATE"));
}

#[test]
fn a_run_has_its_time() {
    let (cluster, mut client) = prepared("timeouts", "1 second");
    set(&mut client, "rollup.timeout = '200ms'");
    let mut blocker = another(&cluster, "timeouts");
    blocker.batch_execute("BEGIN; LOCK TABLE http_request_1min IN SHARE MODE").unwrap();
    client.batch_execute(ROWS).unwrap();
    let error = "SELECT last_error FROM rollup.status";
    wait_for("the run is cut off", 30, || text(&mut client, error).contains("statement timeout"));
    let before = number(&mut client, SCHEDULER);
    set(&mut client, "rollup.timeout = 0");
    set(&mut client, "rollup.lock_timeout = '100ms'");
    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    wait_for("the run does not wait", 30, || text(&mut client, error).contains("lock timeout"));
    assert_eq!(number(&mut client, SCHEDULER), before);
    blocker.batch_execute("COMMIT").unwrap();
    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    caught_up(&mut client);
}

#[test]
fn any_scheduler_will_do() {
    let cluster = Cluster::with(Tree::prepare().unwrap(), "").unwrap();
    let mut client = cluster.database("cron").unwrap();
    client.batch_execute(hll_tests::TABLE).unwrap();
    client
        .batch_execute(&format!("SELECT rollup.create('http_request_1min', $q${}$q$)", hll_tests::QUERY))
        .unwrap();
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

#[test]
fn what_goes_in_the_middle_of_a_run_is_waited_for() {
    let (cluster, mut client) = prepared("middle", "1 second");
    set(&mut client, "rollup.retry_delay = '50ms'");
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
            client.batch_execute(hll_tests::TABLE).unwrap();
            client
                .batch_execute(&format!(
                    "SELECT rollup.create('http_request_1min', $q${}$q$, every => '1 second')",
                    hll_tests::QUERY
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
    client.batch_execute(hll_tests::TABLE).unwrap();
    client.batch_execute("DROP TABLE IF EXISTS http_request_1min").unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('http_request_1min', $q${}$q$, every => '1 second')",
            hll_tests::QUERY
        ))
        .unwrap();
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    assert!(!cluster.log().contains("PANIC") && !cluster.log().contains("was terminated by signal"));
}

#[test]
fn a_database_that_is_read_only_is_left_alone() {
    let (cluster, mut client) = prepared("readonly", "100 ms");
    client.batch_execute(ROWS).unwrap();
    caught_up(&mut client);
    client.batch_execute("SELECT rollup.retain('http_request', '1 year')").unwrap();
    client.batch_execute("ALTER DATABASE readonly SET default_transaction_read_only = on").unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler' AND query = 'waiting: default_transaction_read_only is on'";
    let works = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker' AND query NOT LIKE 'waiting: %'";
    wait_for("the scheduler waits", 30, || {
        number(&mut client, waits) == 1 && number(&mut client, works) == 0
    });
    client.batch_execute(ROWS).unwrap();
    let lines =
        || cluster.log().lines().filter(|l| l.contains("rollup") && !l.contains("statement:")).count();
    let before = lines();
    let (begun, mut looks) = (std::time::Instant::now(), 0);
    while begun.elapsed() < std::time::Duration::from_secs(4) {
        looks += number(
            &mut client,
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler'",
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(looks > 20, "it is there, and waits: {looks}");
    assert!(lines() - before <= 1, "{}", cluster.log());
    assert!(differences(&mut client, "http_request_1min") > 0);
    client.batch_execute("ALTER DATABASE readonly RESET default_transaction_read_only").unwrap();
    caught_up(&mut client);
}
