//! Triggers that an owner switches off, and on again: what was changed meanwhile comes to the rollups that follow changes.
use hll_lab::wait_for;
use hll_tests::{another, number, prepared, text};
use postgres::{Client, Config, NoTls};
use std::sync::{Arc, Mutex};

const DIFFER: &str = "SELECT count(*) FROM rollup.check('hit_d')";

/// A source of ten days, in two partitions with their parts and by itself, counted by a rollup.
fn counted(client: &mut Client, parted: bool, on_change: &str, every: &str) {
    let table = match parted {
        false => "CREATE TABLE hit (at timestamptz NOT NULL, site int, v int)",
        true => {
            "CREATE TABLE hit (at timestamptz NOT NULL, site int, v int) PARTITION BY RANGE (at);
             CREATE TABLE hit_1 PARTITION OF hit FOR VALUES FROM ('2026-01-01Z') TO ('2026-01-06Z');
             CREATE TABLE hit_2 PARTITION OF hit FOR VALUES FROM ('2026-01-06Z') TO ('2027-01-01Z') PARTITION BY LIST (site);
             CREATE TABLE hit_2a PARTITION OF hit_2 DEFAULT"
        }
    };
    client
        .batch_execute(&format!(
            "{table};
             INSERT INTO hit SELECT timestamptz '2026-01-01Z' + g * interval '1 hour', g % 3, g FROM generate_series(0, 239) g;
             SELECT rollup.create('hit_d', 'SELECT date_trunc(''day'', at) AS day, site, count(*) AS n, sum(v) AS total FROM hit GROUP BY 1, 2',
               every => {every}, on_change => '{on_change}', coarser => '{{\"hit_w\": \"5 days\"}}');
             SELECT rollup.run('hit')"
        ))
        .unwrap();
}

/// Of a value, a group that goes, the first day and the last, which no row says was there.
const CHANGES: &str = "UPDATE hit SET v = v + 1000 WHERE v = 30; UPDATE hit SET site = 7 WHERE v = 31;
    DELETE FROM hit WHERE at < '2026-01-02Z' OR at >= '2026-01-10Z'; UPDATE hit SET at = '2026-03-01Z' WHERE v = 32;
    INSERT INTO hit VALUES ('2026-01-03Z', 1, 5)";

#[test]
fn what_was_changed_while_triggers_were_off_is_computed_again() {
    let (_cluster, mut client) = prepared("off_and_on", "");
    for (parted, off, on) in [
        (false, "ALTER TABLE hit DISABLE TRIGGER USER", "ALTER TABLE hit ENABLE TRIGGER USER"),
        (false, "ALTER TABLE hit DISABLE TRIGGER ALL", "ALTER TABLE hit ENABLE TRIGGER ALL"),
        (
            false,
            "ALTER TABLE hit DISABLE TRIGGER zz_rollup_change",
            "ALTER TABLE hit ENABLE TRIGGER zz_rollup_change",
        ),
        (
            false,
            "ALTER TABLE hit DISABLE TRIGGER zz_rollup_change, ADD COLUMN w int",
            "ALTER TABLE hit ENABLE REPLICA TRIGGER zz_rollup_change",
        ),
        (
            false,
            "ALTER TABLE hit ENABLE REPLICA TRIGGER zz_rollup_change, DISABLE TRIGGER zz_rollup_change",
            "ALTER TABLE hit ENABLE ALWAYS TRIGGER zz_rollup_change",
        ),
        (true, "ALTER TABLE hit DISABLE TRIGGER USER", "ALTER TABLE hit ENABLE TRIGGER USER"),
        (
            true,
            "ALTER TABLE hit_1 DISABLE TRIGGER USER; ALTER TABLE hit_2a DISABLE TRIGGER ALL",
            "ALTER TABLE hit_1 ENABLE TRIGGER USER; ALTER TABLE hit_2a ENABLE TRIGGER ALL",
        ),
    ] {
        for together in [false, true] {
            counted(&mut client, parted, "recompute", "NULL");
            client
                .batch_execute(&match together {
                    true => format!("BEGIN; {off}; {CHANGES}; {on}; COMMIT"),
                    false => format!("{off};"),
                })
                .unwrap();
            if !together {
                let told = text(&mut client, "SELECT unwatched FROM rollup.status");
                assert!(told.contains("is switched off"), "{off}: {told}");
                client.batch_execute(CHANGES).unwrap();
                client.batch_execute(on).unwrap();
            }
            assert_eq!(text(&mut client, "SELECT unwatched FROM rollup.status"), "", "{off}, {on}");
            assert!(number(&mut client, DIFFER) > 0, "{off}: the changes are none");
            number(&mut client, "SELECT rollup.run('hit')");
            assert_eq!(number(&mut client, DIFFER), 0, "{off}, {on}, in one transaction: {together}");
            // Told of again.
            client.batch_execute("DELETE FROM hit WHERE v = 50").unwrap();
            number(&mut client, "SELECT rollup.run('hit')");
            assert_eq!(number(&mut client, DIFFER), 0, "{off}, {on}");
            client.batch_execute("SELECT rollup.drop('hit_d'); DROP TABLE hit").unwrap();
        }
    }
}

#[test]
fn triggers_that_were_on_make_no_work() {
    let (_cluster, mut client) = prepared("on_and_on", "");
    counted(&mut client, false, "recompute", "NULL");
    client.batch_execute("ALTER TABLE hit ENABLE TRIGGER USER, ENABLE TRIGGER ALL").unwrap();
    assert_eq!(text(&mut client, "SELECT unwatched FROM rollup.status"), "", "they fire for all who write");
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.change"), 0);
    client
        .batch_execute(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER own BEFORE UPDATE ON hit FOR EACH ROW EXECUTE FUNCTION f();
             ALTER TABLE hit DISABLE TRIGGER own; ALTER TABLE hit ENABLE TRIGGER own",
        )
        .unwrap();
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM rollup.change"),
        0,
        "a trigger of hers is no matter"
    );
    // A table that was given to a rollup says more than the raw rows do, which stays.
    client
        .batch_execute(
            "CREATE TABLE kept (day timestamptz, n bigint, UNIQUE (day)); INSERT INTO kept VALUES ('2020-01-01Z', 12);
             SELECT rollup.create('kept', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM hit GROUP BY 1',
               every => NULL, on_change => 'recompute', into_table => 'kept', backfill => false);
             ALTER TABLE hit DISABLE TRIGGER USER; DELETE FROM hit WHERE v = 60; ALTER TABLE hit ENABLE TRIGGER USER",
        )
        .unwrap();
    number(&mut client, "SELECT rollup.run('hit')");
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM kept WHERE day < '2021-01-01Z'"), 12);
    assert_eq!(number(&mut client, DIFFER), 0);
}

#[test]
fn an_idle_run_switches_triggers_on() {
    let (cluster, mut client) = prepared("idle_mends", "");
    counted(&mut client, true, "recompute", "'1 second'");
    client.batch_execute(&format!("BEGIN; ALTER TABLE hit DISABLE TRIGGER USER; {CHANGES}; COMMIT")).unwrap();
    wait_for("the worker has put it right", 60, || {
        text(&mut client, "SELECT unwatched FROM rollup.status").is_empty()
            && number(&mut client, DIFFER) == 0
    });
    // With not one row more than the one above.
    let mut other = another(&cluster, "idle_mends");
    other.batch_execute("ALTER TABLE hit_1 DISABLE TRIGGER ALL; DELETE FROM hit_1 WHERE site = 2").unwrap();
    wait_for("it has again", 60, || {
        text(&mut client, "SELECT unwatched FROM rollup.status").is_empty()
            && number(&mut client, DIFFER) == 0
    });
    assert_eq!(number(&mut client, "SELECT count(*) FROM hit_d WHERE site = 2 AND day < '2026-01-06Z'"), 0);
}

#[test]
fn who_switches_is_told() {
    let (cluster, mut client) = prepared("told_of_switches", "");
    counted(&mut client, false, "error", "NULL");
    let told = Arc::new(Mutex::new(Vec::new()));
    let (mut config, notices) = (Config::new(), told.clone());
    config.host_path(cluster.socket()).user("postgres").dbname("told_of_switches");
    config.notice_callback(move |notice| {
        let hint = notice.hint().unwrap_or_default().to_string();
        notices.lock().unwrap().push((notice.message().to_string(), hint));
    });
    let mut owner = config.connect(NoTls).unwrap();
    let say = |owner: &mut Client, sql: &str| {
        owner.batch_execute(sql).unwrap();
        std::mem::take(&mut *told.lock().unwrap())
    };
    let off = say(&mut owner, "ALTER TABLE hit DISABLE TRIGGER USER");
    assert!(
        off.len() == 1 && off[0].0.contains("rollup hit_d is not told of changes in public.hit"),
        "{off:?}"
    );
    assert!(off[0].1.starts_with("ALTER TABLE public.hit ENABLE TRIGGER USER;"), "{off:?}");
    let on = say(&mut owner, "DELETE FROM hit WHERE v = 7; ALTER TABLE hit ENABLE TRIGGER USER");
    assert!(on.len() == 1 && on[0].1.contains("SELECT rollup.rebuild('hit_d')"), "{on:?}");
    assert!(number(&mut owner, DIFFER) > 0);
    owner.batch_execute("SELECT rollup.rebuild('hit_d')").unwrap();
    assert_eq!(number(&mut owner, DIFFER), 0);
    owner.batch_execute("DELETE FROM hit WHERE v = 8").expect_err("it allows no changes");
    // Where rollups do not mind, nobody is bothered.
    owner
        .batch_execute("SELECT rollup.drop('hit_d'); SELECT rollup.create('hit_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM hit GROUP BY 1', every => NULL)")
        .unwrap();
    std::mem::take(&mut *told.lock().unwrap());
    let quiet = say(&mut owner, "ALTER TABLE hit DISABLE TRIGGER USER; ALTER TABLE hit ENABLE TRIGGER USER");
    assert!(quiet.is_empty(), "{quiet:?}");
}
