//! What code of an owner may do to the process that serves that owner, to the server's log, and to others who wait.
use hll_lab::{Cluster, OURS, Tree, wait_for};
use hll_tests::{another, number, text};
use postgres::{Client, NoTls};
use std::time::{Duration, Instant};

const DB: &str = "code";

/// A cluster with an honest and a hostile owner, each with a schema.
fn owners(settings: &str) -> (Cluster, Client) {
    let cluster = Cluster::with(Tree::prepare().unwrap(), &format!("{OURS}{settings}\n")).unwrap();
    let mut client = cluster.database(DB).unwrap();
    for role in ["honest", "hostile", "wicked"] {
        client
            .batch_execute(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA AUTHORIZATION {role}"))
            .unwrap();
    }
    (cluster, client)
}

fn connect_as(cluster: &Cluster, role: &str) -> Client {
    let config = format!("host={} user={role} dbname={DB}", cluster.socket().display());
    Client::connect(&config, NoTls).unwrap()
}

fn rollup(client: &mut Client, schema: &str, table: &str, filter: &str, every: &str) {
    client
        .batch_execute(&format!(
            "CREATE TABLE {schema}.{table} (at timestamptz DEFAULT now(), v int);
             SELECT rollup.create('{schema}.{table}_d', $$SELECT date_trunc('day', at) AS day, count(*) AS n FROM {schema}.{table} {filter} GROUP BY 1$$, every => {every})"
        ))
        .unwrap();
}

/// Twenty rollups of one owner fail again and again, each time with another long message, and warn at each row, too.
#[test]
fn failures_do_not_fill_the_log() {
    let (cluster, mut admin) = owners("rollup.retry_delay = 50ms");
    let mut hostile = connect_as(&cluster, "hostile");
    hostile
        .batch_execute(
            "CREATE TABLE hostile.mood (fails bool); INSERT INTO hostile.mood VALUES (true);
             CREATE FUNCTION hostile.noise(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN
               IF NOT (SELECT fails FROM hostile.mood) THEN RETURN true; END IF;
               PERFORM set_config('debug_print_plan', 'on', false), set_config('trace_sort', 'on', false);
               PERFORM g FROM generate_series(1, 100) g ORDER BY random();
               FOR n IN 1..3 LOOP RAISE WARNING 'warned % %', random(), repeat('w', 20000); RAISE LOG 'logged % %', random(), repeat('l', 20000); END LOOP;
               RAISE EXCEPTION 'failed % %', random(), repeat('\u{e9}', 20000) USING HINT = repeat('h', 20000); END $f$",
        )
        .unwrap();
    for n in 1..=20 {
        rollup(&mut hostile, "hostile", &format!("e{n}"), "WHERE hostile.noise(v)", "'50 milliseconds'");
    }
    let before = cluster.log().len();
    for n in 1..=20 {
        hostile.batch_execute(&format!("INSERT INTO hostile.e{n} VALUES (now(), 1)")).unwrap();
    }
    let begun = Instant::now();
    wait_for("all fail, often", 60, || {
        number(
            &mut admin,
            "SELECT count(*) FROM rollup.status WHERE failures >= 3 AND state = 'failing' AND last_error LIKE 'failed%'",
        ) == 20
    });
    let failed = number(&mut admin, "SELECT sum(failed)::bigint FROM rollup.status");
    let log = cluster.log();
    let new = &log[before..];
    let told: Vec<&str> =
        new.lines().filter(|line| line.contains("] rollup worker ") && !line.contains(" HINT: ")).collect();
    let told: Vec<&&str> = told
        .iter()
        .filter(|line| [" DETAIL: ", " CONTEXT: ", " STATEMENT: "].iter().all(|d| !line.contains(d)))
        .collect();
    println!(
        "{failed} failures in {:?}: {} lines of workers, {} bytes of log",
        begun.elapsed(),
        told.len(),
        new.len()
    );
    let minutes = begun.elapsed().as_secs() as usize / 60 + 1;
    assert!((1..=minutes).contains(&told.len()), "{} lines: {told:?}", told.len());
    assert!(new.len() < 12_000 * minutes, "{} bytes", new.len());
    for stored in [
        "SELECT max(length(last_error))::bigint FROM rollup.status",
        "SELECT max(length(error))::bigint FROM rollup.history",
        "SELECT max(length(last_error))::bigint FROM rollup.attempt",
    ] {
        let length = number(&mut admin, stored);
        assert!((500..2200).contains(&length), "{stored}: {length}");
    }
    hostile.batch_execute("UPDATE hostile.mood SET fails = false").unwrap();
    wait_for("all are well again", 60, || {
        number(
            &mut admin,
            "SELECT count(*) FROM rollup.status WHERE failures = 0 AND state = 'active' AND last_error IS NULL AND rows_total = 1",
        ) == 20
    });
}

/// Code that catches the cancellation goes on for ever: the process is ended, the owner who waits is served, and the run
/// has failed and rests.
#[test]
fn code_that_catches_the_cancellation_is_ended() {
    let (cluster, mut admin) = owners("rollup.max_workers = 1\nrollup.longest_turn = 1s");
    for role in ["hostile", "wicked"] {
        let mut client = connect_as(&cluster, role);
        client
            .batch_execute(&format!(
                "CREATE FUNCTION {role}.stays(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN
                   LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $f$"
            ))
            .unwrap();
        rollup(&mut client, role, "event", &format!("WHERE {role}.stays(v)"), "'100 milliseconds'");
        client.batch_execute(&format!("INSERT INTO {role}.event VALUES (now(), 1)")).unwrap();
    }
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker' AND wait_event = 'PgSleep'";
    wait_for("both have all the room", 60, || number(&mut admin, busy) == 2);
    let mut honest = connect_as(&cluster, "honest");
    rollup(&mut honest, "honest", "event", "", "'100 milliseconds'");
    honest.batch_execute("INSERT INTO honest.event VALUES (now(), 1)").unwrap();
    wait_for("the honest owner is served", 25, || {
        number(&mut admin, "SELECT count(*) FROM honest.event_d") == 1
    });
    let log = cluster.log();
    assert!(log.contains("rollup scheduler: ends process"), "{log}");
    wait_for("the run that was ended has failed", 30, || {
        number(
            &mut admin,
            "SELECT count(*) FROM rollup.status WHERE owner <> 'honest' AND failures > 0 AND last_error LIKE 'the process that ran it ended%'",
        ) > 0
    });
}

/// Locks that a session holds can be given back by whatever it calls; those that keep rollups exact cannot.
#[test]
fn locks_that_foreign_code_gives_back_count_nothing_twice() {
    let (cluster, mut admin) = owners("");
    let mut hostile = connect_as(&cluster, "hostile");
    hostile
        .batch_execute(
            "CREATE FUNCTION hostile.frees(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
               'BEGIN PERFORM pg_advisory_unlock_all(); PERFORM pg_advisory_xact_lock_shared(7); PERFORM pg_advisory_unlock_all(); RETURN true; END'",
        )
        .unwrap();
    admin.batch_execute("SELECT pg_advisory_lock(7)").unwrap();
    rollup(&mut hostile, "hostile", "event", "WHERE hostile.frees(v)", "'100 milliseconds'");
    // Another rollup of the same source, and one of another source of the owner's.
    hostile
        .batch_execute("SELECT rollup.create('hostile.event_m', $$SELECT date_trunc('month', at) AS m, count(*) AS n FROM hostile.event WHERE hostile.frees(v) GROUP BY 1$$, every => '100 milliseconds')")
        .unwrap();
    rollup(&mut hostile, "hostile", "other", "WHERE hostile.frees(v)", "'100 milliseconds'");
    hostile.batch_execute("INSERT INTO hostile.event SELECT now(), g FROM generate_series(1, 50) g; INSERT INTO hostile.other SELECT now(), g FROM generate_series(1, 50) g").unwrap();
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND classid = 0 AND NOT granted";
    wait_for("the worker's run waits", 60, || number(&mut admin, waits) >= 1);
    std::thread::scope(|scope| {
        for source in ["event", "event", "other"] {
            let mut client = another(&cluster, DB);
            scope.spawn(move || {
                client.batch_execute(&format!("SELECT rollup.run('hostile.{source}')")).unwrap();
            });
        }
        // A second process for the same owner, and a scheduler that knows of neither.
        admin
            .batch_execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler'",
            )
            .unwrap();
        wait_for("another scheduler", 60, || {
            number(
                &mut admin,
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup scheduler' AND datname = current_database()",
            ) == 1
        });
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend')";
        wait_for("callers wait, too", 60, || number(&mut admin, waiting) >= 2);
        admin.batch_execute("SELECT pg_advisory_unlock(7)").unwrap();
    });
    wait_for("all is counted", 60, || {
        text(
            &mut admin,
            "SELECT concat((SELECT sum(n) FROM hostile.event_d), ' ', (SELECT sum(n) FROM hostile.event_m), ' ', (SELECT sum(n) FROM hostile.other_d))",
        ) == "50 50 50"
    });
    hostile.batch_execute("INSERT INTO hostile.event SELECT now(), g FROM generate_series(1, 50) g").unwrap();
    wait_for("what came later is counted", 60, || {
        text(
            &mut admin,
            "SELECT concat((SELECT sum(n) FROM hostile.event_d), ' ', (SELECT sum(n) FROM hostile.event_m))",
        ) == "100 100"
    });
    assert_eq!(
        number(
            &mut admin,
            "SELECT (SELECT count(*) FROM rollup.check('event_d')) + (SELECT count(*) FROM rollup.check('event_m')) + (SELECT count(*) FROM rollup.check('other_d'))"
        ),
        0
    );
    assert!(!cluster.log().contains("you don't own a lock"), "{}", cluster.log());
}

/// An open transaction that has resumed rollups holds up the look at nobody else's.
#[test]
fn rows_of_the_catalog_that_an_owner_locks() {
    let (cluster, mut admin) = owners("rollup.retry_delay = 50ms");
    let mut hostile = connect_as(&cluster, "hostile");
    hostile.batch_execute("CREATE FUNCTION hostile.fails(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''no''; END'").unwrap();
    for n in 1..=3 {
        rollup(&mut hostile, "hostile", &format!("e{n}"), "WHERE hostile.fails(v)", "'50 milliseconds'");
        hostile.batch_execute(&format!("INSERT INTO hostile.e{n} VALUES (now(), 1)")).unwrap();
    }
    wait_for("all fail", 60, || {
        number(&mut admin, "SELECT count(*) FROM rollup.status WHERE failures > 1") == 3
    });
    let mut holder = connect_as(&cluster, "hostile");
    holder
        .batch_execute("BEGIN; SELECT rollup.resume('e1_d'), rollup.resume('e2_d'), rollup.resume('e3_d')")
        .unwrap();
    hostile.batch_execute("TRUNCATE hostile.e1, hostile.e2, hostile.e3").unwrap();
    let mut honest = connect_as(&cluster, "honest");
    rollup(&mut honest, "honest", "event", "", "'100 milliseconds'");
    for round in 1..=5 {
        let begun = Instant::now();
        honest.batch_execute("INSERT INTO honest.event VALUES (now(), 1)").unwrap();
        wait_for("it is counted", 60, || {
            number(&mut admin, "SELECT coalesce(sum(n), 0)::bigint FROM honest.event_d") == round
        });
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
