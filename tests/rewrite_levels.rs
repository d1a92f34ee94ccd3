//! Statements over a raw table are answered from the levels of a rollup where whole buckets are asked for, and raw where
//! changes wait. What is read from where is told by buckets that were falsified.
use hll_lab::Cluster;
use hll_tests::rewriting::{each, equal, rows, same};
use hll_tests::{another, number};
use postgres::Client;

/// Three days of rows, a rollup of minutes with levels of hours and days, and a session that is answered from them.
fn levels(on_change: &str) -> (Cluster, Client) {
    let cluster = Cluster::new().unwrap();
    let mut c = cluster.database("traps").unwrap();
    each(&mut c, "ALTER DATABASE traps SET timezone = 'UTC'; SET timezone = 'UTC'");
    c.batch_execute(
        "CREATE TABLE hit (at timestamptz NOT NULL, site int, v int);
        INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '20 s', g % 3, g % 50 FROM generate_series(0, 12959) g",
    )
    .unwrap();
    c.batch_execute(&format!("SELECT rollup.create('hits', $$ SELECT date_trunc('minute', at) AS at, site, count(*) AS n, sum(v) AS total FROM hit GROUP BY 1, 2 $$,
        every => NULL, on_change => '{on_change}', coarser => '{{\"hits_hour\": \"1 hour\", \"hits_day\": \"1 day\"}}')")).unwrap();
    each(&mut c, "SELECT rollup_hit(); SET rollup.rewrite = exact");
    (cluster, c)
}

/// The level that a statement is answered from.
fn level(c: &mut Client, sql: &str) -> String {
    let told = c.query_one("SELECT coalesce(level, rollup, reason) FROM rollup.explain_rewrite($1)", &[&sql]);
    told.unwrap().get(0)
}

/// What a statement counts more than there is, once a table has a million more in one bucket.
fn falsified(c: &mut Client, table: &str, at: &str, sql: &str) -> i64 {
    let more = |c: &mut Client, n: i64| {
        let sql = format!("UPDATE {table} SET n = n + {n} WHERE at = '{at}' AND site = 1");
        assert_eq!(c.execute(&sql, &[]).unwrap(), 1, "{sql}");
    };
    more(c, 1_000_000);
    let count = number(c, sql) / 1_000_000;
    more(c, -1_000_000);
    count
}

const TWO_DAYS: &str =
    "SELECT count(*) FROM hit WHERE at >= '2026-01-01 10:30:30' AND at < '2026-01-03 14:20:30'";

#[test]
fn whole_buckets_come_from_levels() {
    let (_cluster, mut c) = levels("recompute");
    assert_eq!(level(&mut c, TWO_DAYS), "hits_day");
    equal(&mut c, TWO_DAYS);
    for (table, at, read) in [
        ("hits_day", "2026-01-02", 1),
        ("hits_day", "2026-01-01", 0),
        ("hits_day", "2026-01-03", 0),
        ("hits_hour", "2026-01-02 12:00", 0),
        ("hits_hour", "2026-01-01 10:00", 0),
        ("hits_hour", "2026-01-01 11:00", 1),
        ("hits_hour", "2026-01-01 23:00", 1),
        ("hits_hour", "2026-01-03 13:00", 1),
        ("hits_hour", "2026-01-03 14:00", 0),
        ("hits", "2026-01-02 12:00", 0),
        ("hits", "2026-01-01 12:00", 0),
        ("hits", "2026-01-01 10:30", 0),
        ("hits", "2026-01-01 10:31", 1),
        ("hits", "2026-01-01 10:59", 1),
        ("hits", "2026-01-03 14:19", 1),
        ("hits", "2026-01-03 14:20", 0),
    ] {
        assert_eq!(falsified(&mut c, table, at, TWO_DAYS), read, "{table} {at}");
    }
    // The coarsest whose buckets lie inside those that are asked for.
    for (sql, from) in [
        ("SELECT count(*) FROM hit", "hits_day"),
        ("SELECT date_trunc('hour', at), count(*) FROM hit GROUP BY 1", "hits_hour"),
        ("SELECT date_trunc('month', at), site, sum(v) FROM hit GROUP BY 1, 2", "hits_day"),
        ("SELECT count(*) FROM hit WHERE extract(hour FROM at) < 12", "hits_hour"),
        ("SELECT date_bin('5 minutes', at, '2000-01-01'), count(*) FROM hit GROUP BY 1", "hits"),
        ("SELECT at::date, date_trunc('minute', at), count(*) FROM hit GROUP BY 1, 2", "hits"),
        ("SELECT count(*) FROM hit WHERE at > '2026-01-02 10:10' AND at < '2026-01-02 12:20'", "hits_hour"),
        ("SELECT count(*) FROM hit WHERE at > '2026-01-02 10:10' AND at < '2026-01-02 10:20'", "hits"),
        (
            "SELECT count(*) FROM hit WHERE at > '2026-01-02 10:10:10' AND at < '2026-01-02 10:10:50'",
            "no bucket of rollup hits lies wholly in the range",
        ),
    ] {
        assert_eq!(level(&mut c, sql), from, "{sql}");
        same(&mut c, sql);
    }
    c.batch_execute("SET timezone = 'Asia/Kathmandu'").unwrap();
    assert_eq!(level(&mut c, "SELECT at::date, count(*) FROM hit GROUP BY 1"), "hits");
    same(&mut c, "SELECT at::date, count(*) FROM hit GROUP BY 1");
    assert_eq!(
        level(&mut c, "SELECT date_trunc('day', at, 'UTC'), count(*) FROM hit GROUP BY 1"),
        "hits_day"
    );
    // Rows that are not merged, in days that are.
    c.batch_execute("SET timezone = 'UTC'; INSERT INTO hit VALUES ('2026-01-02 05:00', 1, 7), ('2026-01-03 14:20:10', 1, 7)").unwrap();
    equal(&mut c, TWO_DAYS);
    // Bounds that are known when a prepared statement is executed.
    c.batch_execute("SET plan_cache_mode = force_generic_plan; PREPARE p (timestamptz, timestamptz) AS SELECT site, count(*), sum(v) FROM hit WHERE at > $1 AND at <= $2 GROUP BY 1").unwrap();
    for (from, to) in [
        ("2026-01-01", "2026-01-03"),
        ("2026-01-01 00:00:01", "2026-01-02 23:59:59"),
        ("2026-01-02 07:07:07", "2026-01-02 07:07:08"),
        ("-infinity", "2026-01-02 12:34:56.789"),
        ("2026-01-03", "infinity"),
        ("2026-01-03", "2026-01-01"),
    ] {
        same(&mut c, &format!("EXECUTE p ('{from}', '{to}')"));
    }
}

#[test]
fn only_buckets_with_changes_are_read_raw() {
    let (cluster, mut c) = levels("recompute");
    let mut other = another(&cluster, "traps");
    let all = "SELECT count(*) FROM hit";
    // In one minute of the second day, and in one of the third, in a transaction that began before the last run.
    other.batch_execute("BEGIN; DELETE FROM hit WHERE at = '2026-01-03 05:05:20'").unwrap();
    each(&mut c, "SELECT rollup_hit(); UPDATE hit SET v = v + 1 WHERE at = '2026-01-02 12:00:20'");
    other.batch_execute("COMMIT").unwrap();
    equal(&mut c, all);
    equal(&mut c, TWO_DAYS);
    for (table, at, read) in [
        ("hits_day", "2026-01-01", 1),
        ("hits_day", "2026-01-02", 0),
        ("hits_day", "2026-01-03", 0),
        ("hits_hour", "2026-01-02 12:00", 0),
        ("hits_hour", "2026-01-02 10:00", 1),
        ("hits_hour", "2026-01-02 13:00", 1),
        ("hits_hour", "2026-01-03 05:00", 0),
        ("hits", "2026-01-02 12:00", 0),
        ("hits", "2026-01-02 12:02", 1),
        ("hits", "2026-01-02 11:58", 1),
        ("hits", "2026-01-03 05:05", 0),
        ("hits", "2026-01-03 05:07", 1),
    ] {
        assert_eq!(falsified(&mut c, table, at, all), read, "{table} {at}");
    }
    // Many of them, over all days: pieces that have what lies between.
    each(&mut c, "UPDATE hit SET at = at + interval '30 minutes' WHERE v = 7");
    equal(&mut c, all);
    equal(&mut c, "SELECT date_trunc('day', at), site, count(*), sum(v) FROM hit GROUP BY 1, 2");
    equal(&mut c, TWO_DAYS);
    each(&mut c, "SELECT rollup_hit()");
    assert_eq!(falsified(&mut c, "hits_day", "2026-01-02", all), 1, "the run has followed");
    equal(&mut c, TWO_DAYS);
    // What a transaction has changed itself, also what it takes back.
    c.batch_execute("BEGIN; SAVEPOINT a; DELETE FROM hit WHERE site = 1; SET LOCAL rollup.rewrite = exact")
        .unwrap();
    equal(&mut c, TWO_DAYS);
    c.batch_execute("ROLLBACK TO a; DELETE FROM hit WHERE at > '2026-01-02' AND site = 2").unwrap();
    equal(&mut c, TWO_DAYS);
    c.batch_execute("ROLLBACK").unwrap();
    equal(&mut c, TWO_DAYS);
    // Rows with stamps that a run has passed, which came in another way.
    each(
        &mut c,
        "CREATE TABLE staged (LIKE hit); INSERT INTO staged SELECT * FROM hit WHERE at < '2026-01-01 00:10'; SELECT rollup_hit()",
    );
    each(&mut c, "INSERT INTO hit SELECT * FROM staged");
    equal(&mut c, all);
    assert_eq!(falsified(&mut c, "hits", "2026-01-01 00:05", all), 0);
    assert_eq!(falsified(&mut c, "hits", "2026-01-01 00:20", all), 1);
    assert_eq!(falsified(&mut c, "hits_day", "2026-01-02", all), 1);
    // When rows changed is for those to know who may read their times: others are answered raw meanwhile.
    let good = |c: &mut Client| {
        number(
            c,
            "SELECT good::int::bigint FROM rollup_internal.state_of(1, (SELECT generation FROM rollup.definition), false, NULL, '{60000000}', '{0}')",
        )
    };
    c.batch_execute("CREATE ROLE of_times LOGIN; CREATE ROLE of_sites LOGIN; GRANT SELECT ON hit TO of_times; GRANT SELECT (site) ON hit TO of_sites; GRANT SELECT ON rollup.definition TO of_times, of_sites").unwrap();
    for (role, knows) in [("of_times", 1), ("of_sites", 0)] {
        c.batch_execute(&format!("SET ROLE {role}")).unwrap();
        assert_eq!(good(&mut c), knows, "{role}");
        same(&mut c, "SELECT site, count(*) FROM hit GROUP BY 1");
        c.batch_execute("RESET ROLE").unwrap();
    }
    let answered = "SELECT rewritten FROM rollup.status";
    let before = number(&mut c, answered);
    rows(&mut c, all);
    assert_eq!(number(&mut c, answered), before + 1, "a query that was answered from the rollup is counted");
    assert_eq!(
        number(
            &mut c,
            "SELECT value::bigint FROM rollup.metrics WHERE name = 'rollup_rewritten_queries_total'"
        ),
        before + 1
    );
    // Changes of what had expired stay as they were in the rollup; its other buckets are used.
    each(
        &mut c,
        "SELECT rollup_hit(); SELECT rollup.retain('hit', now() - timestamptz '2026-01-01 12:00Z'); SELECT rollup.expire('hit')",
    );
    each(
        &mut c,
        "INSERT INTO hit VALUES ('2026-01-01 05:00', 1, 7); SELECT rollup_hit(); DELETE FROM hit WHERE at < '2026-01-01 06:00'; SELECT rollup_hit()",
    );
    assert_eq!(number(&mut c, "SELECT count(*) FROM rollup.status WHERE refused_changes IS NOT NULL"), 1);
    equal(&mut c, all);
    assert_eq!(falsified(&mut c, "hits_day", "2026-01-02", all), 1);
}

#[test]
fn levels_that_come_and_go() {
    let (cluster, mut c) = levels("recompute");
    let mut other = another(&cluster, "traps");
    let all = "SELECT count(*), sum(v) FROM hit";
    // A snapshot from before the level was there: its rows are not seen.
    each(&mut c, "SELECT rollup.drop_level('hits', 'hits_hour'), rollup.drop_level('hits', 'hits_day')");
    other
        .batch_execute(
            "SET rollup.rewrite = exact; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM hit",
        )
        .unwrap();
    each(&mut c, "SELECT rollup.add_level('hits', 'hits_day', '1 day')");
    assert_eq!(rows(&mut other, all), rows(&mut c, all));
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(level(&mut other, all), "hits_day");
    equal(&mut other, all);
    // A plan that reads a level which is then dropped, its table kept as it was.
    let one = "EXECUTE p";
    other.batch_execute("PREPARE p AS SELECT count(*), sum(v) FROM hit; EXECUTE p").unwrap();
    each(&mut c, "SELECT rollup.drop_level('hits', 'hits_day', keep_data => true)");
    each(&mut c, "INSERT INTO hit VALUES ('2026-01-02 05:00', 1, 7); SELECT rollup_hit()");
    same(&mut other, one);
    each(&mut c, "DROP TABLE hits_day; SELECT rollup.add_level('hits', 'hits_day', '1 day')");
    same(&mut other, one);
    equal(&mut c, all);
    c.batch_execute("DROP TABLE hits_day CASCADE").unwrap();
    assert_eq!(level(&mut c, all), "hits");
    same(&mut other, one);
    equal(&mut c, all);
    // One that is dropped while a transaction goes on which has its locks already.
    each(&mut c, "SELECT rollup.add_level('hits', 'hits_day', '1 day')");
    equal(&mut other, all);
    other
        .batch_execute("BEGIN; SET LOCAL rollup.rewrite = off; SELECT count(*), min(site), max(v) FROM hit WHERE site = 1")
        .unwrap();
    each(&mut c, "SELECT rollup.drop_level('hits', 'hits_day')");
    other
        .batch_execute("SET LOCAL rollup.rewrite = exact; SELECT count(*), sum(v) FROM hit WHERE site = 1")
        .unwrap();
    other.batch_execute("COMMIT").unwrap();
    // A level that only begins where the rollup's own buckets had expired.
    each(
        &mut c,
        "SELECT rollup.retain('hits', now() - timestamptz '2026-01-02 12:30Z'); SELECT rollup.expire('hits')",
    );
    each(&mut c, "SELECT rollup.add_level('hits', 'hits_hour', '1 hour')");
    assert!(number(&mut c, "SELECT count(*) FROM hits WHERE at < '2026-01-02 12:29'") == 0);
    equal(&mut c, all);
    equal(&mut c, TWO_DAYS);
}

#[test]
fn each_level_has_expired_by_itself() {
    let (_cluster, mut c) = levels("recompute");
    let days = "SELECT at::date, count(*), sum(v) FROM hit GROUP BY 1";
    // Hours go first, then minutes: what is left is used.
    each(
        &mut c,
        "SELECT rollup.retain('hits_hour', now() - timestamptz '2026-01-02 12:00Z'); SELECT rollup.expire('hits_hour')",
    );
    assert_eq!(number(&mut c, "SELECT count(*) FROM hits_hour WHERE at < '2026-01-02 11:00'"), 0);
    equal(&mut c, days);
    equal(&mut c, TWO_DAYS);
    assert_eq!(falsified(&mut c, "hits", "2026-01-01 12:00", TWO_DAYS), 1, "minutes in the place of hours");
    each(
        &mut c,
        "SELECT rollup.retain('hits_day', now() - timestamptz '2026-01-02 00:00Z'); SELECT rollup.expire('hits_day')",
    );
    equal(&mut c, days);
    each(
        &mut c,
        "SELECT rollup.retain('hits', now() - timestamptz '2026-01-02 06:30Z'); SELECT rollup.expire('hits')",
    );
    equal(&mut c, days);
    equal(&mut c, TWO_DAYS);
    each(&mut c, "UPDATE hit SET v = v + 1 WHERE site = 1");
    equal(&mut c, days);
    each(&mut c, "SELECT rollup_hit()");
    same(&mut c, days);
    each(&mut c, "INSERT INTO hit VALUES ('2026-01-01 05:00', 1, 7), ('2026-01-02 05:00', 1, 7)");
    same(&mut c, days);
    each(&mut c, "SELECT rollup_hit()");
    same(&mut c, days);
    // By another column than the time rows go from anywhere; the session knows offers from before.
    each(
        &mut c,
        "ALTER TABLE hit ADD COLUMN made timestamptz DEFAULT '2026-01-02 18:00'; PREPARE p AS SELECT at::date, count(*), sum(v) FROM hit GROUP BY 1",
    );
    each(
        &mut c,
        "INSERT INTO hit (at, site, v, made) VALUES ('2026-01-03 01:00', 1, 1, '2020-01-01'); SELECT rollup_hit()",
    );
    same(&mut c, "EXECUTE p");
    each(
        &mut c,
        "SELECT rollup.retain('hit', now() - timestamptz '2026-01-01 00:00Z', 'made'); SELECT rollup.expire('hit')",
    );
    same(&mut c, "EXECUTE p");
    same(&mut c, days);
}

#[test]
fn history_goes_on_in_levels() {
    let (_cluster, mut c) = levels("recompute");
    let whole = number(&mut c, "SELECT count(*) FROM hit");
    // Raw rows for a day, minutes for two, days for ever.
    each(
        &mut c,
        "SELECT rollup.retain('hit', now() - timestamptz '2026-01-03 06:30:30Z'); SELECT rollup.expire('hit')",
    );
    each(
        &mut c,
        "SELECT rollup.retain('hits', now() - timestamptz '2026-01-02 12:30Z'); SELECT rollup.expire('hits')",
    );
    each(
        &mut c,
        "SELECT rollup.retain('hits_hour', now() - timestamptz '2026-01-02 06:00Z'); SELECT rollup.expire('hits_hour')",
    );
    assert!(number(&mut c, "SELECT count(*) FROM hit") < whole);
    same(&mut c, "SELECT count(*) FROM hit");
    same(&mut c, TWO_DAYS);
    c.batch_execute("SET rollup.rewrite = history").unwrap();
    assert_eq!(number(&mut c, "SELECT count(*) FROM hit"), whole);
    let count = |c: &mut Client, from: &str, to: &str| {
        number(c, &format!("SELECT count(*) FROM hit WHERE at >= '2026-01-0{from}' AND at < '2026-01-0{to}'"))
    };
    let day = 86_400 / 20;
    // Where nothing finer is left whole days, then hours, then minutes; exact where raw rows are.
    assert_eq!(count(&mut c, "1", "3"), 2 * day);
    assert_eq!(count(&mut c, "1 12:00", "2"), day, "the whole day");
    assert_eq!(count(&mut c, "1 12:00", "2 18:00"), 2 * day, "the second, of which hours have gone, too");
    assert_eq!(count(&mut c, "2 07:30", "2 18:00"), 11 * 180, "from seven o'clock");
    assert_eq!(count(&mut c, "2 13:30:30", "2 18:00"), 4 * 180 + 90, "from half past");
    assert_eq!(count(&mut c, "2 13:30:30", "3 07:00:50"), 17 * 180 + 90 + 3);
    // And what is not merged yet, wherever it lies.
    each(&mut c, "INSERT INTO hit VALUES ('2026-01-01 05:00', 1, 7), ('2026-01-02 20:00', 1, 7)");
    assert_eq!(number(&mut c, "SELECT count(*) FROM hit"), whole + 2);
    each(&mut c, "SELECT rollup_hit()");
    assert_eq!(number(&mut c, "SELECT count(*) FROM hit"), whole + 2);
}

#[test]
fn rows_that_expired_by_another_column() {
    let cluster = Cluster::new().unwrap();
    let mut c = cluster.database("traps").unwrap();
    let create = |name: &str| {
        format!(
            "SELECT rollup.create('{name}', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n, sum(v) AS total, min(loaded) AS loaded FROM hit GROUP BY 1', every => NULL, on_change => 'recompute')"
        )
    };
    each(
        &mut c,
        "SET timezone = 'UTC';
        CREATE TABLE hit (at timestamptz NOT NULL, loaded timestamptz NOT NULL, v int);
        INSERT INTO hit SELECT now() - g * interval '20 minutes', now() - (g % 20) * interval '1 day', g FROM generate_series(1, 400) g",
    );
    each(&mut c, &create("hits"));
    each(&mut c, "SELECT rollup_hit(); SET rollup.rewrite = exact");
    let all = "SELECT at::date, count(*), sum(v) FROM hit GROUP BY 1";
    equal(&mut c, all);
    // They are gone, whether others will go or not.
    each(
        &mut c,
        "SELECT rollup.retain('hit', '10 days', 'loaded'); SELECT rollup.expire('hit'); SELECT rollup.retain('hit', NULL)",
    );
    assert!(number(&mut c, "SELECT count(*) FROM hit") < 300);
    same(&mut c, all);
    // So it is of what expires from the rollup itself.
    each(&mut c, &create("hits_again"));
    equal(&mut c, all);
    each(
        &mut c,
        "SELECT rollup.retain('hits_again', '3 days', 'loaded'); SELECT rollup.expire('hits_again'); SELECT rollup.retain('hits_again', NULL)",
    );
    same(&mut c, all);
}
