//! Owners who mean harm: what one of them defines runs as that owner alone, leaves nothing behind in anybody's session,
//! and keeps neither the worker nor readers of rollup.status from the others.
use hll_lab::{Cluster, OURS, Tree, wait_for};
use hll_tests::number;
use postgres::{Client, NoTls};
use std::time::{Duration, Instant};

/// A cluster where transactions can be prepared, with an honest and a hostile owner, each with a schema.
fn owners(db: &str) -> (Cluster, Client) {
    let settings = format!("{OURS}max_prepared_transactions = 10\nmax_worker_processes = 16\n");
    let cluster = Cluster::with(Tree::prepare().unwrap(), &settings).unwrap();
    let mut client = cluster.database(db).unwrap();
    for role in ["honest", "hostile", "watcher"] {
        client
            .batch_execute(&format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA AUTHORIZATION {role}"))
            .unwrap();
    }
    client.batch_execute("GRANT pg_monitor TO watcher").unwrap();
    (cluster, client)
}

fn connect_as(cluster: &Cluster, db: &str, role: &str) -> Client {
    let config = format!("host={} user={role} dbname={db}", cluster.socket().display());
    Client::connect(&config, NoTls).unwrap()
}

fn rollup(client: &mut Client, schema: &str, table: &str, filter: &str, every: &str) {
    client
        .batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS {schema}.{table} (at timestamptz DEFAULT now(), v int);
             SELECT rollup.create('{schema}.{table}_d', $$SELECT date_trunc('day', at) AS day, count(*) AS n,
               hll_add_agg(hll_hash_integer(v)) AS visitors FROM {schema}.{table} {filter} GROUP BY 1$$, every => {every})"
        ))
        .unwrap();
}

#[test]
fn reading_the_status_runs_nothing_of_an_owner() {
    let (cluster, mut admin) = owners("spied");
    let mut hostile = connect_as(&cluster, "spied", "hostile");
    rollup(&mut hostile, "hostile", "event", "", "NULL");
    hostile
        .batch_execute(
            "INSERT INTO hostile.event SELECT now(), g FROM generate_series(1, 3) g;
             GRANT USAGE ON SCHEMA hostile TO PUBLIC; GRANT SELECT ON hostile.event TO PUBLIC;
             CREATE SEQUENCE hostile.calls; GRANT ALL ON SEQUENCE hostile.calls TO PUBLIC;
             CREATE FUNCTION hostile.policy() RETURNS bool LANGUAGE plpgsql AS
               'BEGIN PERFORM nextval(''hostile.calls''); RETURN true; END';
             ALTER TABLE hostile.event ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON hostile.event USING (hostile.policy())",
        )
        .unwrap();
    let read = "SELECT name, lag_rows, oldest_row, open_writers, held_back_by FROM rollup.status";
    let mut watcher = connect_as(&cluster, "spied", "watcher");
    let row = watcher.query_one(read, &[]).unwrap();
    assert_eq!(row.get::<_, Option<i64>>("lag_rows"), None, "row security applies to who reads");
    watcher.batch_execute("TABLE rollup.metrics; TABLE rollup.history").unwrap();
    assert_eq!(admin.query_one(read, &[]).unwrap().get::<_, Option<i64>>("lag_rows"), Some(3));
    // The stamps become something else, with a cast of the owner's making.
    hostile
        .batch_execute(
            "DROP VIEW hostile.event_d_live; DROP TRIGGER zz_rollup_kept ON hostile.event; CREATE TYPE hostile.t AS (x bigint);
             CREATE FUNCTION hostile.cast_t(hostile.t) RETURNS bigint LANGUAGE plpgsql AS
               'BEGIN PERFORM nextval(''hostile.calls''); RETURN ($1).x; END';
             CREATE CAST (hostile.t AS bigint) WITH FUNCTION hostile.cast_t(hostile.t) AS IMPLICIT;
             DO $$ DECLARE i regclass; BEGIN FOR i IN SELECT indexrelid::regclass FROM pg_index
               WHERE indrelid = 'hostile.event'::regclass LOOP EXECUTE 'DROP INDEX ' || i; END LOOP; END $$;
             ALTER TABLE hostile.event ALTER rollup_stamp DROP DEFAULT;
             ALTER TABLE hostile.event ALTER rollup_stamp TYPE hostile.t USING ROW(rollup_stamp)::hostile.t",
        )
        .unwrap();
    assert_eq!(admin.query_one(read, &[]).unwrap().get::<_, Option<i64>>("lag_rows"), None);
    admin.batch_execute("TABLE rollup.status; TABLE rollup.metrics").unwrap();
    assert_eq!(number(&mut admin, "SELECT count(*) FROM hostile.calls WHERE is_called"), 0);
}

#[test]
fn a_lock_keeps_no_reader_of_the_status_waiting() {
    let (cluster, mut admin) = owners("locked");
    let mut hostile = connect_as(&cluster, "locked", "hostile");
    hostile
        .batch_execute(
            "CREATE TABLE hostile.parted (at timestamptz DEFAULT now(), v int) PARTITION BY RANGE (at);
             CREATE TABLE hostile.parted_all PARTITION OF hostile.parted DEFAULT",
        )
        .unwrap();
    rollup(&mut hostile, "hostile", "event", "", "NULL");
    rollup(&mut hostile, "hostile", "parted", "", "NULL");
    hostile
        .batch_execute(
            "SELECT rollup.partition('hostile.parted', '1 day');
             INSERT INTO hostile.event VALUES (now(), 1); INSERT INTO hostile.parted VALUES (now(), 1); COMMIT;
             BEGIN; LOCK TABLE hostile.event; LOCK TABLE hostile.parted_all; PREPARE TRANSACTION 'locks'",
        )
        .unwrap();
    admin.batch_execute("SET statement_timeout = '5s'").unwrap();
    for row in admin.query("SELECT lag_rows, held_back_by FROM rollup.status", &[]).unwrap() {
        assert_eq!(row.get::<_, Option<i64>>(0), None);
        assert!(row.get::<_, Option<String>>(1).unwrap().contains("a lock on hostile."));
    }
    admin.batch_execute("TABLE rollup.status; TABLE rollup.metrics").unwrap();
    admin.batch_execute("ROLLBACK PREPARED 'locks'").unwrap();
    assert_eq!(number(&mut admin, "SELECT sum(lag_rows)::bigint FROM rollup.status"), 2);
    // A table whose stamps are gone breaks nothing but its own rollup.
    hostile.batch_execute("ALTER TABLE hostile.event DROP COLUMN rollup_stamp CASCADE").unwrap();
    assert_eq!(number(&mut admin, "SELECT count(lag_rows) FROM rollup.status"), 1);
    let broken = "SELECT name || ': ' || last_error FROM rollup.status WHERE last_error IS NOT NULL";
    let told: String = admin.query_one(broken, &[]).unwrap().get(0);
    assert_eq!(told, "event_d: column rollup_stamp of hostile.event is gone");
    admin.batch_execute("TABLE rollup.status; TABLE rollup.metrics; SELECT rollup.run_due()").unwrap();
}

/// Everything that a session has set.
fn settings(client: &mut Client) -> Vec<(String, Option<String>)> {
    client
        .query("SELECT name, current_setting(name, true) FROM pg_settings ORDER BY 1", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .chain(["hll.session_defaults", "hll.session_max_sparse", "hostile.mark"].map(|name| {
            let row = client.query_one("SELECT current_setting($1, true)", &[&name]).unwrap();
            (name.to_string(), row.get::<_, Option<String>>(0).filter(|v| !v.is_empty()))
        }))
        .collect()
}

/// A function that sets what it can for the session that calls it.
const SETTER: &str = "CREATE FUNCTION hostile.setter(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $f$
  BEGIN
    IF current_user <> 'hostile' THEN RAISE EXCEPTION 'setter runs as %', current_user; END IF;
    PERFORM set_config('search_path', 'hostile, pg_catalog', false), set_config('default_transaction_read_only', 'on', false),
      set_config('standard_conforming_strings', 'off', false), set_config('extra_float_digits', '-15', false),
      set_config('hll.estimator', 'classic', false), set_config('TimeZone', 'Asia/Tokyo', false),
      set_config('work_mem', '64kB', false), set_config('hostile.mark', 'seen', false), set_config('enable_hashagg', 'off', false);
    PERFORM public.hll_set_defaults(4, 1, 0, 0), public.hll_set_max_sparse(7);
    RETURN true;
  END $f$";

#[test]
fn nothing_that_an_owner_sets_stays_with_the_caller() {
    let (cluster, mut admin) = owners("setters");
    let mut hostile = connect_as(&cluster, "setters", "hostile");
    hostile.batch_execute(SETTER).unwrap();
    rollup(&mut hostile, "hostile", "event", "WHERE hostile.setter(v)", "NULL");
    hostile
        .batch_execute(
            "INSERT INTO hostile.event SELECT now(), g FROM generate_series(1, 30) g;
             INSERT INTO hostile.event SELECT now() - interval '90 days', g FROM generate_series(1, 30) g",
        )
        .unwrap();
    let before = settings(&mut admin);
    for call in [
        "SELECT rollup.run('hostile.event')",
        "SELECT rollup.check('event_d')",
        "SELECT rollup.rebuild('event_d')",
        "SELECT rollup.explain('event_d')",
        "SELECT rollup.add_level('event_d', 'hostile.event_w', '7 days')",
        "SELECT rollup.add_column('event_d', 'most', 'max(v)')",
        "SELECT rollup.rebase('hostile.event')",
        "INSERT INTO hostile.event SELECT now(), 1; SELECT rollup_internal.work_off('event_d')",
        "UPDATE rollup.definition SET every = '1 millisecond'; INSERT INTO hostile.event SELECT now(), 1; SELECT rollup.run_due()",
        "SELECT rollup.retain('hostile.event', '30 days'); SELECT rollup.expire('hostile.event')",
        "INSERT INTO hostile.event SELECT now(), 1; TABLE rollup.status; TABLE rollup.metrics",
        "SELECT rollup.create('hostile.event_m', 'SELECT date_trunc(''month'', at) AS m, count(*) AS n FROM hostile.event WHERE hostile.setter(v) GROUP BY 1')",
        "SELECT rollup.run('hostile.event')",
        "SELECT rollup.replace('event_d', $$SELECT date_trunc('day', at) AS day, count(*) AS n, sum(v) AS total FROM hostile.event WHERE hostile.setter(v) GROUP BY 1$$)",
        "SELECT rollup.drop_column('event_d', 'total')",
        "SELECT rollup.drop('event_d')",
    ] {
        admin.batch_execute(call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
        assert_eq!(settings(&mut admin), before, "after {call}");
    }
    // Where the owner's code fails, too.
    hostile
        .batch_execute(
            "CREATE OR REPLACE FUNCTION hostile.failing(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
               $f$ BEGIN PERFORM hostile.setter(1); RAISE EXCEPTION 'no'; END $f$;
             CREATE TABLE hostile.broken (at timestamptz DEFAULT now(), v int);
             SELECT rollup.create('hostile.broken_d', 'SELECT date_trunc(''day'', at) AS d, count(*) AS n FROM hostile.broken WHERE hostile.failing(v) GROUP BY 1', every => '1 millisecond');
             INSERT INTO hostile.broken VALUES (now(), 1)",
        )
        .unwrap();
    let failed = admin.batch_execute("SELECT rollup.run('hostile.broken')").expect_err("it fails");
    assert_eq!(failed.as_db_error().unwrap().message(), "rollup broken_d: no");
    assert_eq!(settings(&mut admin), before, "after an error");
    admin.batch_execute("SELECT rollup.run_due()").unwrap();
    assert_eq!(settings(&mut admin), before, "after an error in run_due");
}

#[test]
fn code_of_an_owner_runs_as_the_owner_whoever_calls() {
    let (cluster, mut admin) = owners("whom");
    let mut hostile = connect_as(&cluster, "whom", "hostile");
    hostile.batch_execute(include_str!("data/spies.sql")).unwrap();
    for call in [
        "SELECT rollup.create('hostile.src_x', 'SELECT date_trunc(''hour'', at) AS h, count(*) AS n, hostile.f_res(count(*)) AS r FROM hostile.src WHERE hostile.f_filter(v) GROUP BY 1', every => NULL)",
        "SELECT rollup.run('hostile.src')",
        "SELECT count(*) FROM rollup.check('src_h')",
        "SELECT rollup.rebuild('src_h')",
        "SELECT rollup.explain('src_h')",
        "SELECT rollup_internal.work_off('src_h')",
        "SELECT rollup_internal.waiting(d.id, d.source, d.plan ->> 'time_column', true, seen_xmax, seen_xip, NULL, NULL, NULL, NULL, NULL), lag_rows, oldest_row, unwatched FROM rollup.definition d JOIN rollup.status USING (name)",
        "SELECT rollup.add_level('src_h', 'hostile.src_w', '7 days')",
        "SELECT rollup.drop_level('src_h', 'src_w')",
        "SELECT rollup.add_column('src_h', 'mx', 'max(v)')",
        "SELECT rollup.add_column('src_h', 'r2', 'hostile.f_res(count(*)) + 1')",
        "SELECT rollup.drop_column('src_h', 'mx')",
        "SELECT rollup.replace('src_h', $$SELECT date_trunc('hour', at) AS h, hostile.f_key(v) AS k, count(*) AS n, hostile.ag(v::bigint) AS s, sum(v) AS sm, hostile.f_res(sum(v)) AS r3 FROM hostile.src WHERE hostile.f_filter(v) GROUP BY 1, 2$$)",
        "SELECT rollup.rebase('hostile.src')",
        "SELECT rollup.retain('hostile.src', '5 hours')",
        "SELECT rollup.expire('hostile.src', true)",
        "SELECT rollup.expire('hostile.src')",
        "UPDATE rollup.definition SET every = '1 millisecond'; INSERT INTO hostile.src SELECT now(), g FROM generate_series(1, 3) g; SELECT rollup.run_due()",
        "SELECT rollup.drop('src_x')",
        "SELECT rollup.drop('src_h')",
    ] {
        // The source has constraint triggers, which are not put off within an owner's operation.
        admin.batch_execute(call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    }
    let spied = admin.query("SELECT DISTINCT what FROM hostile.seen WHERE who <> 'hostile'", &[]).unwrap();
    // An INSERT by the superuser runs the table's own triggers and constraints as the superuser, as in any database.
    let foreign: Vec<String> =
        spied.iter().map(|row| row.get(0)).filter(|what: &String| what != "insert").collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(number(&mut admin, "SELECT count(DISTINCT what) FROM hostile.seen WHERE who = 'hostile'") >= 6);
}

/// How long the honest owner's rows wait to be counted, at most.
fn longest_wait(honest: &mut Client, seconds: u64, mut disturb: impl FnMut(u64)) -> Duration {
    let (end, mut longest, mut round) = (Instant::now() + Duration::from_secs(seconds), Duration::ZERO, 0);
    while Instant::now() < end {
        disturb(round);
        honest
            .batch_execute("INSERT INTO honest.event SELECT now(), g FROM generate_series(1, 100) g")
            .unwrap();
        let written = Instant::now();
        let want = number(honest, "SELECT count(*) FROM honest.event");
        wait_for("the honest owner's rows are counted", 60, || {
            number(honest, "SELECT coalesce(sum(n), 0)::bigint FROM honest.event_d") == want
        });
        longest = longest.max(written.elapsed());
        round += 1;
    }
    longest
}

#[test]
fn no_owner_keeps_the_worker_from_another() {
    let (cluster, mut admin) = owners("slow");
    let mut hostile = connect_as(&cluster, "slow", "hostile");
    let mut honest = connect_as(&cluster, "slow", "honest");
    rollup(&mut honest, "honest", "event", "", "'1 second'");
    for n in 1..=6 {
        rollup(&mut hostile, "hostile", &format!("held{n}"), "", "'1 second'");
    }
    hostile
        .batch_execute(
            "CREATE FUNCTION hostile.nap(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(3600); RETURN true; END'",
        )
        .unwrap();
    rollup(&mut hostile, "hostile", "nap", "WHERE hostile.nap(v)", "'1 second'");
    hostile
        .batch_execute(
            "INSERT INTO hostile.held5 VALUES (now(), 1); INSERT INTO hostile.nap VALUES (now(), 1); COMMIT;
             BEGIN; LOCK TABLE hostile.held1, hostile.held2, hostile.held3, hostile.held4; PREPARE TRANSACTION 'held'",
        )
        .unwrap();
    let naps = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker' AND wait_event = 'PgSleep'";
    wait_for("the hostile owner's run sleeps", 60, || number(&mut admin, naps) == 1);
    let longest = longest_wait(&mut honest, 6, |_| {});
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    assert_eq!(number(&mut admin, naps), 1, "one owner has one process");
    admin.batch_execute("ROLLBACK PREPARED 'held'").unwrap();
}

/// What belongs to the line before.
const DETAILS: [&str; 4] = [" DETAIL: ", " HINT: ", " CONTEXT: ", " STATEMENT: "];

#[test]
fn hostile_owners_leave_the_honest_one_alone() {
    let seconds = std::env::var("OWNERS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    let (cluster, mut admin) = owners("mixed");
    admin.batch_execute("CREATE ROLE wicked LOGIN; CREATE SCHEMA AUTHORIZATION wicked").unwrap();
    let mut honest = connect_as(&cluster, "mixed", "honest");
    let mut hostile = connect_as(&cluster, "mixed", "hostile");
    let mut wicked = connect_as(&cluster, "mixed", "wicked");
    rollup(&mut honest, "honest", "event", "", "'1 second'");
    hostile.batch_execute(SETTER).unwrap();
    hostile.batch_execute("GRANT USAGE ON SCHEMA hostile TO wicked").unwrap();
    rollup(&mut hostile, "hostile", "event", "WHERE hostile.setter(v)", "'100 milliseconds'");
    wicked
        .batch_execute(
            "CREATE FUNCTION wicked.work(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN
               CASE (random() * 5)::int
                 WHEN 0 THEN RAISE EXCEPTION 'no';
                 WHEN 1 THEN PERFORM pg_sleep(1.5);
                 WHEN 2 THEN PERFORM pg_advisory_lock(7);
                 WHEN 3 THEN PERFORM setseed(0.5), public.hll_set_defaults(5, 2, 0, 0);
                 WHEN 4 THEN PERFORM set_config('search_path', 'wicked', false), set_config('statement_timeout', '1', false);
                 ELSE PERFORM set_config('lock_timeout', '1', false);
               END CASE; RETURN true; END $f$",
        )
        .unwrap();
    rollup(&mut wicked, "wicked", "event", "WHERE wicked.work(v)", "'100 milliseconds'");
    let longest = longest_wait(&mut honest, seconds, |round| {
        wicked.batch_execute("INSERT INTO wicked.event VALUES (now(), 1)").unwrap();
        if round % 3 != 2 {
            hostile.batch_execute("INSERT INTO hostile.event VALUES (now(), 1)").unwrap();
        }
        if round % 3 == 0 {
            // The row of the last attempt stays locked, and the table, while the honest owner's rows come.
            hostile
                .batch_execute(
                    "ROLLBACK; BEGIN; SELECT rollup.resume('hostile.event_d'); LOCK TABLE hostile.event",
                )
                .unwrap();
        } else if round % 3 == 1 {
            hostile.batch_execute("ROLLBACK").unwrap();
        }
    });
    println!("the honest owner's rows waited {longest:?} at most");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    // No owner makes the worker fill the log: a line a minute, with its details.
    let log = cluster.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("] rollup worker ") && line.contains(": "))
        .filter(|line| !DETAILS.iter().any(|d| line.contains(d)))
        .collect();
    println!("the worker logged {} lines in {seconds} s", told.len());
    let (owners, minutes) = (3, (seconds as usize).div_ceil(60));
    assert!(told.len() <= owners * minutes, "{} lines in {seconds} s:\n{}", told.len(), told.join("\n"));
    let state =
        "SELECT count(*) FROM rollup.status WHERE owner = 'honest' AND state = 'active' AND failed = 0";
    assert_eq!(number(&mut admin, state), 1);
    let sketch =
        "SELECT count(*) FROM honest.event_d WHERE hll_log2m(visitors) <> 11 OR hll_regwidth(visitors) <> 5";
    assert_eq!(number(&mut admin, sketch), 0);
    let differ = "SELECT count(*) FROM rollup.check((SELECT name FROM rollup.status WHERE owner = 'honest'))";
    assert_eq!(number(&mut admin, differ), 0);
    assert_eq!(
        number(&mut admin, "SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'"),
        0
    );
}

/// The owner of a rollup is that of its table, whatever the role is called, and whoever has its name by now.
#[test]
fn a_rollup_follows_the_owner_of_its_table() {
    let (cluster, mut admin) = owners("followed");
    let mut first = connect_as(&cluster, "followed", "honest");
    rollup(&mut first, "honest", "event", "", "'100 ms'");
    first
        .batch_execute(
            "SELECT rollup.retain('honest.event', '1000 days'); INSERT INTO honest.event VALUES (now(), 1)",
        )
        .unwrap();
    let merged = "SELECT coalesce(sum(n), 0)::bigint FROM honest.event_d";
    wait_for("the worker runs it", 30, || number(&mut admin, merged) == 1);
    admin.batch_execute("ALTER ROLE honest RENAME TO upright; CREATE ROLE honest LOGIN; GRANT ALL ON SCHEMA honest TO honest; GRANT ALL ON ALL TABLES IN SCHEMA honest TO honest").unwrap();
    admin.batch_execute("INSERT INTO honest.event VALUES (now(), 1)").unwrap();
    wait_for("the worker runs it for the role of another name", 30, || number(&mut admin, merged) == 2);
    let name = "SELECT owner::text FROM rollup.status";
    assert_eq!(admin.query_one(name, &[]).unwrap().get::<_, String>(0), "upright");
    let mut renamed = connect_as(&cluster, "followed", "upright");
    renamed.batch_execute("SELECT rollup.pause('event_d'), rollup.resume('event_d'), honest.rollup_event(), honest.expire_event()").unwrap();
    let mut newcomer = connect_as(&cluster, "followed", "honest");
    for call in [
        "rollup.pause('event_d')",
        "rollup.run('honest.event')",
        "rollup.drop('event_d')",
        "rollup.retain('honest.event', NULL)",
        "rollup.add_column('event_d', 'c', 'max(v)')",
    ] {
        let error = newcomer.batch_execute(&format!("SELECT {call}")).expect_err(call);
        assert_eq!(error.code().unwrap().code(), "42501", "{call}");
    }
    drop((newcomer, first, renamed));
    // Another takes it over, and the first goes.
    admin
        .batch_execute("CREATE ROLE heir LOGIN; REASSIGN OWNED BY upright TO heir; DROP OWNED BY upright; INSERT INTO honest.event VALUES (now(), 1)")
        .unwrap();
    wait_for("the worker leaves the first", 30, || admin.batch_execute("DROP ROLE upright").is_ok());
    wait_for("the worker runs it for the heir", 30, || number(&mut admin, merged) == 3);
    let mut heir = connect_as(&cluster, "followed", "heir");
    heir.batch_execute(
        "SELECT honest.rollup_event(), honest.expire_event(), rollup.add_column('event_d', 'most', 'max(v)'), rollup.add_level('event_d', 'honest.event_m', '1 month');
         SELECT rollup.check('event_d'); SELECT rollup.rebuild('event_d'), rollup.drop('event_d')",
    )
    .unwrap();
    let left = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'honest'::regnamespace";
    assert_eq!(number(&mut admin, left), 0);
    // A table alone goes to another: the function next to it may stay with who made it, and says so.
    rollup(&mut heir, "honest", "event", "", "NULL");
    admin.batch_execute("ALTER TABLE honest.event OWNER TO hostile; ALTER TABLE honest.event_d OWNER TO hostile; ALTER VIEW honest.event_d_live OWNER TO hostile; GRANT ALL ON SCHEMA honest TO hostile").unwrap();
    let mut other = connect_as(&cluster, "followed", "hostile");
    other.batch_execute("SELECT rollup.run('honest.event'); SELECT rollup.drop('event_d')").unwrap();
    assert_eq!(number(&mut admin, left), 2);
}
