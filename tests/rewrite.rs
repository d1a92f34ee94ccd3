//! What statements over a raw table are answered from, each trap by itself: the answer is that of the raw table, and what
//! may not be so is read raw.
use hll_lab::Cluster;
use hll_tests::forgive::is_one_of;
use hll_tests::rewriting::{HALF, each, equal, prepared, reads_rollup, rows, same, why};
use hll_tests::{another, number};
use postgres::Client;

#[test]
fn shapes() {
    let (_cluster, mut c) = prepared();
    // A bucket that is half inside at either end, and rows that were not merged.
    equal(&mut c, HALF);
    c.batch_execute("INSERT INTO hit VALUES ('2026-01-01 01:00:20', 1, 200, 1000, 'new'), ('2026-01-01 01:00:40', 1, 200, 2000, 'new'), ('2026-01-01 02:00:00', 1, 500, 3000, 'new')").unwrap();
    for sql in [
        HALF,
        "SELECT count(*), sum(v) FROM hit",
        "SELECT count(*) FROM hit WHERE at > 'infinity'",
        "SELECT date_trunc('hour', at), count(*) FROM hit GROUP BY 1 HAVING sum(v) > 100 ORDER BY 2 DESC, 1 LIMIT 2",
        "SELECT site, count(*), rank() OVER (ORDER BY count(*), site) FROM hit GROUP BY site",
        "SELECT site + 1, count(*) * 2 FROM hit WHERE site IN (SELECT 1 UNION SELECT 2) GROUP BY 1",
        "WITH q AS (SELECT site, count(*) AS n FROM hit GROUP BY 1) SELECT a.n, b.n FROM q a JOIN q b ON a.site = b.site + 1",
        "SELECT 1 WHERE (SELECT count(*) FROM hit) > 0 UNION ALL SELECT count(*) FROM hit WHERE site = 1",
        "SELECT g, (SELECT sum(v) FROM hit WHERE site = g AND at > timestamptz '2026-01-01' + g * interval '1 hour') FROM generate_series(0, 3) g",
        "SELECT DISTINCT ON (site) site, date_trunc('day', at), count(*) FILTER (WHERE status >= 400) FROM hit GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT max(n) FROM (SELECT count(*) AS n FROM hit GROUP BY site, date_bin('5 min', at, '2000-01-01')) x",
        "SELECT count(at), count('x') FROM hit",
        // A FILTER over keys, and one more.
        "SELECT count(*) FILTER (WHERE site = 1), sum(v) FILTER (WHERE site > 1 OR site IS NULL), count(*) FILTER (WHERE site = 77) FROM hit",
        "SELECT date_trunc('hour', at), sum(v) FILTER (WHERE site = 77), count(at) FILTER (WHERE extract(minute FROM at) < 30) FROM hit GROUP BY 1",
        "SELECT site, count(*) FILTER (WHERE site <> 1) * 2 FROM hit GROUP BY 1 HAVING count(*) FILTER (WHERE site < 9) > 0",
        "SELECT count(*) FILTER (WHERE at::date = '2026-01-01' AND site IN (SELECT 1)), sum(v) FILTER (WHERE NULL::bool) FROM hit WHERE at > '2026-01-01 01:00:30'",
    ] {
        equal(&mut c, sql);
    }
    for sql in [
        "SELECT site, date_trunc('day', at), count(*), sum(v), grouping(site, date_trunc('day', at)) FROM hit GROUP BY CUBE (site, date_trunc('day', at))",
        "SELECT site, count(*) FROM hit GROUP BY ROLLUP (site) HAVING grouping(site) = 1 OR site > 0 ORDER BY 1 NULLS FIRST LIMIT 3",
        "SELECT site + 1, count(*), count(*) FILTER (WHERE site = 1) FROM hit GROUP BY GROUPING SETS ((site + 1), ())",
        "SELECT site, count(*) FROM hit WHERE site = 77 GROUP BY ROLLUP (site)",
        "SELECT count(*), sum(v) FROM hit WHERE site = 77 GROUP BY GROUPING SETS ((), ())",
        "SELECT site, count(*) FROM hit GROUP BY GROUPING SETS ((site), (site))",
        // Above the groups a key is NULL where it is none.
        "SELECT site + 1 AS x, coalesce(site, -1), sum(v), site IS NULL FROM hit GROUP BY ROLLUP (site) HAVING site IS NULL OR site > 0",
        "SELECT date_trunc('hour', at) + interval '1 hour', site, count(*), rank() OVER (ORDER BY site) FROM hit GROUP BY GROUPING SETS ((date_trunc('hour', at)), (date_trunc('hour', at), site), ())",
        "SELECT site, n FROM (SELECT site, count(*) AS n FROM hit GROUP BY CUBE (site)) x WHERE site IS NULL",
    ] {
        equal(&mut c, sql);
    }
    // Nothing there: a row or none, as ever.
    equal(&mut c, "SELECT count(*), sum(v) FROM hit WHERE site = 77");
    equal(&mut c, "SELECT site, count(*) FROM hit WHERE site = 77 GROUP BY 1");
    equal(&mut c, "SELECT count(*) FROM hit WHERE at > '2030-01-01' GROUP BY 'x'::text");
    // NULL is a key as any.
    each(
        &mut c,
        "INSERT INTO hit VALUES ('2026-01-01 05:00:20', NULL, 200, 1, 'new'); SELECT rollup_hit(); INSERT INTO hit VALUES ('2026-01-01 05:00:21', NULL, 200, 1, 'new')",
    );
    equal(&mut c, "SELECT site, count(*) FROM hit GROUP BY 1");
    equal(&mut c, "SELECT count(*) FROM hit WHERE site IS NULL");
}

#[test]
fn reasons() {
    let (_cluster, mut c) = prepared();
    each(
        &mut c,
        "SELECT rollup.create('filtered', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM hit WHERE status = 500 GROUP BY 1', every => NULL, on_change => 'error')",
    );
    for (sql, reason) in [
        ("SELECT status, count(*) FROM hit GROUP BY 1", "status is no key of rollup hits"),
        ("SELECT count(*) FILTER (WHERE status >= 500) FROM hit", "FILTER of count differs from bad's"),
        ("SELECT count(v) FROM hit", "rollup hits has no column of which count can be made"),
        ("SELECT sum(v + 1) FROM hit", "sum is over another expression than total"),
        ("SELECT count(DISTINCT who) FROM hit", "count has DISTINCT or ORDER BY"),
        ("SELECT max(who) FROM hit", "rollup hits has no column of which max can be made"),
        (
            "SELECT date_trunc('second', at), count(*) FROM hit GROUP BY 1",
            "buckets of hits do not lie each inside one of date_trunc",
        ),
        ("SELECT max(at), count(*) FROM hit", "rollup hits has no column of which max can be made"),
        ("SELECT count(*) FROM hit WHERE random() < 2", "WHERE has a volatile function"),
        (
            "SELECT count(*) FROM hit WHERE at > clock_timestamp() - interval '1 year'",
            "WHERE has a volatile function",
        ),
        ("SELECT count(*) FROM ONLY hit", "the query reads ONLY the table"),
        ("SELECT count(*) FROM hit TABLESAMPLE SYSTEM (100)", "the query has TABLESAMPLE"),
        ("SELECT count(*) FROM hit JOIN hit h USING (at)", "the query reads more than the one table"),
        (
            "SELECT count(*) FILTER (WHERE site = 1 AND status = 200) FROM hit",
            "FILTER of count differs from bad's",
        ),
        ("SELECT count(*) FILTER (WHERE at > now()) FROM hit", "FILTER of count differs from bad's"),
        ("SELECT xmin, count(*) FROM hit GROUP BY 1", "a system column is used"),
        ("SELECT count(*) FROM hit WHERE hit IS NOT NULL", "a whole row is used"),
        (
            "SELECT count(*) FROM hit WHERE EXISTS (SELECT 1 WHERE site = 1)",
            "a sub-select uses columns of the query",
        ),
        ("INSERT INTO hit (at, v) SELECT max(at), count(*) FROM hit", "the statement changes rows"),
        (
            "SELECT count(*), generate_series(1, 2) FROM hit GROUP BY 2",
            "GROUP BY has a volatile or set-returning function",
        ),
    ] {
        assert_eq!(why(&mut c, sql), reason, "{sql}");
    }
    assert!(!reads_rollup(&mut c, "SELECT count(v), sum(v + 1), count(DISTINCT who), max(who) FROM hit"));
    c.batch_execute("SET timezone = 'Asia/Kathmandu'").unwrap();
    equal(
        &mut c,
        "SELECT date_trunc('hour', at), at::date, extract(hour FROM at), count(*) FROM hit GROUP BY 1, 2, 3",
    );
    let told = c.query_one("SELECT rollup, level FROM rollup.explain_rewrite('SELECT count(*) FROM hit WHERE status = 500 AND at < now()')", &[]).unwrap();
    assert_eq!(told.get::<_, Option<String>>(0).as_deref(), Some("filtered"));
    // A table without rollups is no matter.
    assert!(
        c.query("SELECT * FROM rollup.explain_rewrite('SELECT count(*) FROM pg_class')", &[])
            .unwrap()
            .is_empty()
    );
    c.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").unwrap();
    assert!(why(&mut c, HALF).starts_with("the transaction is SERIALIZABLE"));
    assert!(!reads_rollup(&mut c, HALF));
}

#[test]
fn zones_and_clocks() {
    let (_cluster, mut c) = prepared();
    each(&mut c, "CREATE TABLE tick (at timestamptz, v int);
        SELECT rollup.create('hits_local', $$ SELECT date_trunc('day', at) AS at, count(*) AS n FROM tick GROUP BY 1 $$, every => NULL, on_change => 'recompute', timezone => 'America/St_Johns');
        INSERT INTO tick SELECT t + g * interval '37 s', g FROM unnest(ARRAY[timestamptz '2010-11-07 01:00Z', '2026-03-08 02:00Z', '2026-11-01 02:00Z', '1880-06-01 02:00Z', '2026-07-01Z']) t, generate_series(1, 400) g;
        INSERT INTO tick VALUES (NULL, 1), ('infinity', 2), ('-infinity', 3); SELECT rollup_tick(); INSERT INTO tick VALUES (NULL, 1), ('infinity', 2), ('2026-03-08 02:00Z', 4)");
    for zone in ["America/St_Johns", "UTC", "Asia/Tokyo"] {
        c.batch_execute(&format!("SET timezone = '{zone}'")).unwrap();
        for sql in [
            "SELECT date_trunc('day', at), count(*) FROM tick GROUP BY 1",
            "SELECT date_trunc('month', at), count(*) FROM tick GROUP BY 1",
            "SELECT count(*) FROM tick",
            "SELECT count(*) FROM tick WHERE at >= '2026-03-08 03:30Z' AND at < '2026-11-01 03:31Z'",
            "SELECT count(*) FROM tick WHERE at >= '2010-11-07 02:00Z' AND at < '2010-11-07 04:00Z'",
            "SELECT date_trunc('day', at, 'America/St_Johns'), count(*) FROM tick WHERE at <= '2026-11-01' GROUP BY 1",
        ] {
            same(&mut c, sql);
        }
    }
    assert!(
        why(&mut c, "SELECT date_trunc('day', at), count(*) FROM tick GROUP BY 1")
            .contains("do not lie each inside")
    );
    // A plan that was made in one zone, executed in another.
    c.batch_execute("SET timezone = 'UTC'; SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT date_trunc('hour', at) AT TIME ZONE 'UTC', count(*) FROM hit GROUP BY 1").unwrap();
    for zone in ["UTC", "Asia/Kathmandu", "Africa/Monrovia", "UTC"] {
        c.batch_execute(&format!("SET timezone = '{zone}'; SET rollup.rewrite = off")).unwrap();
        let raw =
            rows(&mut c, "SELECT date_trunc('hour', at) AT TIME ZONE 'UTC', count(*) FROM hit GROUP BY 1");
        each(&mut c, "SET rollup.rewrite = exact");
        assert_eq!(rows(&mut c, "EXECUTE p"), raw, "{zone}");
    }
}

#[test]
fn prepared_statements() {
    let (cluster, mut c) = prepared();
    let mut other = another(&cluster, "traps");
    c.batch_execute("SET plan_cache_mode = force_generic_plan; PREPARE p (timestamptz, int) AS SELECT site, count(*), sum(v) FROM hit WHERE at >= $1 AND site <> $2 GROUP BY 1; PREPARE now_ AS SELECT count(*) FROM hit WHERE at > now() - interval '10 minutes'").unwrap();
    assert!(reads_rollup(&mut c, "EXECUTE p ('2026-01-01 01:00:30', 1)"));
    let check = |c: &mut Client| {
        for (at, site) in [("2026-01-01 01:00:30", 1), ("2026-01-01 00:00:00", 2), ("infinity", 0)] {
            let raw = rows(
                c,
                &format!(
                    "SET rollup.rewrite = off; SELECT site, count(*), sum(v) FROM hit WHERE at >= '{at}' AND site <> {site} GROUP BY 1"
                ),
            );
            each(c, "SET rollup.rewrite = exact");
            assert_eq!(rows(c, &format!("EXECUTE p ('{at}', {site})")), raw);
        }
        assert_eq!(rows(c, "EXECUTE p (NULL, 1)"), rows(c, "SELECT 1 WHERE false"));
    };
    check(&mut c);
    // Between plan and execution: rows, a run, a change, a level, a column.
    each(&mut other, "INSERT INTO hit VALUES (now(), 2, 200, 5, 'x'), ('2026-01-01 03:00', 2, 200, 5, 'x')");
    check(&mut c);
    assert_eq!(rows(&mut c, "EXECUTE now_")[0][0].as_deref(), Some("1"));
    each(
        &mut other,
        "SELECT rollup_hit(); INSERT INTO hit VALUES (now() - interval '9 minutes', 2, 200, 5, 'x')",
    );
    check(&mut c);
    assert_eq!(rows(&mut c, "EXECUTE now_")[0][0].as_deref(), Some("2"));
    each(&mut other, "UPDATE hit SET v = v + 1 WHERE site = 2");
    check(&mut c);
    each(
        &mut other,
        "SELECT rollup_hit(), rollup.add_column('hits', 'most', 'max(v)'), rollup.add_level('hits', 'hits_day', '1 day')",
    );
    check(&mut c);
    assert!(reads_rollup(&mut c, "EXECUTE p ('2026-01-01 01:00:30', 1)"));
    // An old snapshot, from before the run, the column and the level.
    c.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    each(
        &mut other,
        "INSERT INTO hit SELECT at, site, status, v, who FROM hit WHERE site = 0 LIMIT 500; SELECT rollup_hit(), rollup.add_column('hits', 'least', 'min(v)')",
    );
    check(&mut c);
    same(&mut c, "SELECT site, min(v), count(*) FROM hit GROUP BY 1");
    c.batch_execute("COMMIT").unwrap();
    check(&mut c);
    equal(&mut c, "SELECT site, min(v), count(*) FROM hit GROUP BY 1");
    each(&mut other, "SELECT rollup.drop('hits')");
    check(&mut c);
    assert!(!reads_rollup(&mut c, "EXECUTE p ('2026-01-01 01:00:30', 1)"));
}

#[test]
fn what_is_not_whole() {
    let (cluster, mut c) = prepared();
    // A transaction that was open at the last run.
    let mut old = another(&cluster, "traps");
    old.batch_execute("BEGIN; INSERT INTO hit VALUES ('2026-01-01 02:00:00', 1, 500, 1, 'old')").unwrap();
    each(&mut c, "INSERT INTO hit VALUES ('2026-01-01 02:00:01', 1, 500, 1, 'new'); SELECT rollup_hit()");
    equal(&mut c, HALF);
    old.batch_execute("COMMIT").unwrap();
    equal(&mut c, HALF);
    // Rows that have changed, and rows that come in another way.
    c.batch_execute("UPDATE hit SET v = 10000, site = 2 WHERE v = 49; DELETE FROM hit WHERE v = 7").unwrap();
    equal(&mut c, HALF);
    each(
        &mut c,
        "SELECT rollup_hit(); CREATE TABLE staged AS SELECT * FROM hit WHERE site = 1; INSERT INTO hit SELECT * FROM staged LIMIT 100",
    );
    equal(&mut c, HALF);
    each(&mut c, "SELECT rollup_hit(); TRUNCATE hit");
    equal(&mut c, HALF);
    // Changes that nobody is told of.
    each(
        &mut c,
        "INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '7 s', g % 3, 200, g, 'w' FROM generate_series(1, 3000) g; SELECT rollup_hit()",
    );
    equal(&mut c, HALF);
    each(
        &mut c,
        "ALTER TABLE hit DISABLE TRIGGER zz_rollup_change; UPDATE hit SET v = 1; ALTER TABLE hit ENABLE ALWAYS TRIGGER zz_rollup_change",
    );
    assert!(why(&mut c, HALF).contains("rollup.rebuild"));
    same(&mut c, HALF);
    each(&mut c, "SELECT rollup.rebuild('hits')");
    equal(&mut c, HALF);
    each(&mut c, "DROP TRIGGER zz_rollup_change ON hit; UPDATE hit SET v = 2; SELECT rollup_hit()");
    same(&mut c, HALF);
    assert!(!reads_rollup(&mut c, HALF));
    each(&mut c, "INSERT INTO hit VALUES ('2026-01-01 02:00:01', 1, 500, 1, 'new'); SELECT rollup_hit()");
    assert!(why(&mut c, HALF).contains("rollup.rebuild"));
    each(&mut c, "SELECT rollup.rebuild('hits')");
    equal(&mut c, HALF);
    // A column without what was there before it, and one with.
    each(&mut c, "SELECT rollup.add_column('hits', 'most', 'max(v)', backfill => false)");
    assert!(!reads_rollup(&mut c, "SELECT max(v) FROM hit"));
    each(&mut c, "SELECT rollup.drop_column('hits', 'most'), rollup.add_column('hits', 'most', 'max(v)')");
    equal(&mut c, "SELECT max(v) FROM hit");
    // What was made without backfill, does not follow, or joins.
    each(&mut c, "SELECT rollup.drop('hits')");
    for options in ["backfill => false, on_change => 'error'", "on_change => 'ignore'"] {
        c.batch_execute(&format!("SELECT rollup.create('hits', 'SELECT date_trunc(''minute'', at) AS at, site, count(*) AS n, sum(v) AS total FROM hit GROUP BY 1, 2', every => NULL, {options})")).unwrap();
        assert!(!why(&mut c, HALF).is_empty());
        same(&mut c, HALF);
        each(&mut c, "SELECT rollup.drop('hits')");
    }
}

#[test]
fn rows_that_have_gone() {
    let cluster = Cluster::new().unwrap();
    let mut c = cluster.database("traps").unwrap();
    each(&mut c, "SET timezone = 'UTC';
        CREATE TABLE hit (at timestamptz NOT NULL, site int, v int) PARTITION BY RANGE (at);
        CREATE TABLE hit_1 PARTITION OF hit FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
        CREATE TABLE hit_2 PARTITION OF hit FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
        CREATE TABLE hit_3 PARTITION OF hit FOR VALUES FROM ('2026-01-03') TO ('2026-01-04');
        CREATE TABLE hit_4 PARTITION OF hit FOR VALUES FROM ('2026-01-04') TO ('2026-01-05');
        INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '40 s', g % 3, g FROM generate_series(1, 8000) g;
        SELECT rollup.create('hits', 'SELECT date_trunc(''minute'', at) AS at, site, count(*) AS n, sum(v) AS total FROM hit GROUP BY 1, 2', every => NULL, on_change => 'recompute');
        SELECT rollup_hit(); SET rollup.rewrite = exact");
    let all = "SELECT at::date, count(*), sum(v) FROM hit GROUP BY 1";
    equal(&mut c, all);
    c.batch_execute("DROP TABLE hit_1").unwrap();
    equal(&mut c, all);
    c.batch_execute("ALTER TABLE hit DETACH PARTITION hit_2").unwrap();
    equal(&mut c, all);
    each(
        &mut c,
        "SELECT rollup.retain('hit', now() - timestamptz '2026-01-03 12:00:30Z'); SELECT rollup_hit(), expire_hit()",
    );
    equal(&mut c, all);
    equal(&mut c, "SELECT count(*) FROM hit WHERE at > '2026-01-03 11:00:30' AND at < '2026-01-03 13:00:30'");
    assert!(number(&mut c, "SELECT count(*) FROM hits WHERE at < '2026-01-03'") > 0, "the rollup keeps them");
    // What comes too late is there raw.
    each(&mut c, "INSERT INTO hit VALUES ('2026-01-03 01:00', 1, 1); SELECT rollup_hit()");
    equal(&mut c, all);
}

#[test]
fn parts_that_leave_in_other_ways() {
    let cluster = Cluster::new().unwrap();
    let mut c = cluster.database("traps").unwrap();
    let rollup = "SELECT rollup.create('hits', 'SELECT date_trunc(''minute'', at) AS at, site, count(*) AS n, sum(v) AS total FROM hit GROUP BY 1, 2', every => NULL, on_change => 'recompute'); SELECT rollup_hit(); SET rollup.rewrite = exact";
    let rows =
        "SELECT timestamp '2026-01-01' + g * interval '40 s', g % 3, g FROM generate_series(1, 4000) g";
    let all = "SELECT date_trunc('day', at), count(*), sum(v) FROM hit GROUP BY 1";
    // A child.
    each(
        &mut c,
        "SET timezone = 'UTC'; CREATE TABLE hit (at timestamp, site int, v int); CREATE TABLE hit_old () INHERITS (hit)",
    );
    each(
        &mut c,
        &format!("INSERT INTO hit_old {rows}; INSERT INTO hit VALUES ('2026-02-01', 1, 1); {rollup}"),
    );
    equal(&mut c, all);
    c.batch_execute("ALTER TABLE hit_old NO INHERIT hit").unwrap();
    equal(&mut c, all);
    // Rows at the ends of time that have changed, before a run has followed.
    each(
        &mut c,
        "INSERT INTO hit VALUES ('-infinity', 1, 1), ('infinity', 1, 1), ('0044-03-15 BC', 1, 1); SELECT rollup_hit(); UPDATE hit SET v = v + 1",
    );
    equal(&mut c, all);
    // A partition whose departure was begun and is waited for.
    each(
        &mut c,
        "SELECT rollup.drop('hits'); DROP TABLE hit, hit_old; CREATE TABLE hit (at timestamp, site int, v int) PARTITION BY RANGE (at)",
    );
    each(
        &mut c,
        "CREATE TABLE hit_1 PARTITION OF hit FOR VALUES FROM ('2026-01-01') TO ('2026-01-02'); CREATE TABLE hit_2 PARTITION OF hit FOR VALUES FROM ('2026-01-02') TO ('2026-02-01')",
    );
    each(&mut c, &format!("INSERT INTO hit {rows}; {rollup}"));
    equal(&mut c, all);
    let mut reader = another(&cluster, "traps");
    reader.batch_execute("BEGIN; SELECT count(*) FROM hit").unwrap();
    each(&mut c, "SET lock_timeout = '100ms'");
    let detach = c.batch_execute("ALTER TABLE hit DETACH PARTITION hit_1 CONCURRENTLY");
    assert!(is_one_of(&detach.expect_err("the reader holds a lock"), &["55P03"]));
    equal(&mut c, all);
    reader.batch_execute("COMMIT").unwrap();
    equal(&mut c, all);
    c.batch_execute("ALTER TABLE hit DETACH PARTITION hit_1 FINALIZE").unwrap();
    equal(&mut c, all);
}

#[test]
fn history() {
    let (_cluster, mut c) = prepared();
    each(&mut c, "SELECT rollup.drop('hits')");
    each(
        &mut c,
        "SELECT rollup.create('hits', 'SELECT date_trunc(''minute'', at) AS at, site, count(*) AS n FROM hit GROUP BY 1, 2', every => NULL)",
    );
    each(&mut c, "SELECT rollup_hit(); SET rollup.rewrite = exact");
    let half = "SELECT count(*) FROM hit WHERE at > '2026-01-01 01:00:30' AND at < '2026-01-01 06:00:10'";
    assert!(why(&mut c, half).contains("on_change 'ignore'"));
    let raw = rows(&mut c, half);
    c.batch_execute("SET rollup.rewrite = history").unwrap();
    assert!(reads_rollup(&mut c, half));
    assert_eq!(rows(&mut c, half), raw);
    // Rows as they were inserted.
    c.batch_execute("DELETE FROM hit WHERE at < '2026-01-01 02:00'").unwrap();
    assert!(
        rows(&mut c, half)
            > rows(
                &mut c,
                "SELECT count(*) FROM hit WHERE at > '2026-01-01 01:00:30' AND at < '2026-01-01 06:00:10' AND who <> ''"
            )
    );
    // Of what has expired buckets are whole; of the rest the range is what it is.
    c.batch_execute("SELECT rollup.retain('hit', now() - timestamptz '2026-01-01 03:00:20Z')").unwrap();
    c.batch_execute("SELECT expire_hit()").unwrap();
    let stored = "SELECT (SELECT sum(n) FROM hits WHERE at >= '2026-01-01 01:00' AND at < '2026-01-01 03:01') + (SELECT count(*) FROM generate_series(1, 5000) g WHERE timestamptz '2026-01-01' + g * interval '7 s' >= '2026-01-01 03:01' AND timestamptz '2026-01-01' + g * interval '7 s' < '2026-01-01 06:00:10')";
    assert_eq!(rows(&mut c, half), rows(&mut c, stored));
    // What comes too late is counted once it is merged, and before.
    for _ in 0..2 {
        c.batch_execute("INSERT INTO hit VALUES ('2026-01-01 01:00:40', 1)").unwrap();
        let more = number(
            &mut c,
            "SELECT count(*) FROM hit WHERE at > '2026-01-01 01:00:30' AND at < '2026-01-01 01:01:00'",
        );
        c.batch_execute("SELECT rollup_hit()").unwrap();
        assert_eq!(
            number(
                &mut c,
                "SELECT count(*) FROM hit WHERE at > '2026-01-01 01:00:30' AND at < '2026-01-01 01:01:00'"
            ),
            more
        );
    }
}
