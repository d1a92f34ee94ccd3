//! Statements over a raw table are answered from levels that drop keys, where these have every key that is asked for. What is
//! read from where is told by buckets that were falsified.
use hll_lab::Cluster;
use hll_tests::number;
use hll_tests::rewriting::{each, rows, same};
use postgres::Client;

/// Three days of rows, a rollup of hours by site and page, and levels without one of these keys and without both.
fn levels() -> (Cluster, Client) {
    let cluster = Cluster::new().unwrap();
    let mut c = cluster.database("traps").unwrap();
    each(&mut c, "ALTER DATABASE traps SET timezone = 'UTC'; SET timezone = 'UTC'");
    c.batch_execute(
        "CREATE TABLE hit (at timestamptz NOT NULL, site int, page text, v int);
        INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '20 s', nullif(g % 4, 2), nullif('p' || g % 30, 'p7'), g % 50 FROM generate_series(0, 12959) g",
    )
    .unwrap();
    c.batch_execute(
        "SELECT rollup.create('hits', $$ SELECT date_trunc('hour', at) AS at, site, page, count(*) AS n, sum(v) AS total, count(*) FILTER (WHERE v > 20) AS high FROM hit GROUP BY 1, 2, 3 $$,
        every => NULL, on_change => 'recompute', coarser => '{\"hour_whole\": {\"width\": \"1 hour\", \"keys\": []}, \"hour_site\": {\"width\": \"1 hour\", \"keys\": [\"site\"]},
          \"day\": \"1 day\", \"day_site\": {\"width\": \"1 day\", \"keys\": [\"site\"]}, \"week_page\": {\"width\": \"7 days\", \"keys\": [\"page\"]}}')",
    )
    .unwrap();
    each(&mut c, "SELECT rollup_hit(); VACUUM ANALYZE; SET rollup.rewrite = exact");
    (cluster, c)
}

/// What a statement is answered from.
fn from(c: &mut Client, sql: &str) -> String {
    let told = c.query_one("SELECT coalesce(level, rollup, reason) FROM rollup.explain_rewrite($1)", &[&sql]);
    told.unwrap().get(0)
}

/// Whether a statement counts what one bucket of a table has too many.
fn is_read(c: &mut Client, table: &str, bucket: &str, sql: &str) -> bool {
    let more = |c: &mut Client, n: i64| {
        let sql = format!("UPDATE {table} SET n = n + {n} WHERE {bucket}");
        assert_eq!(c.execute(&sql, &[]).unwrap(), 1, "{sql}");
    };
    more(c, 1_000_000);
    let count = number(c, sql);
    more(c, -1_000_000);
    count >= 1_000_000
}

#[test]
fn a_level_without_a_key_answers_what_does_not_ask_for_it() {
    let (_cluster, mut c) = levels();
    for (sql, level) in [
        ("SELECT count(*) FROM hit", "day_site"),
        ("SELECT date_trunc('hour', at), sum(v) FROM hit GROUP BY 1", "hour_whole"),
        ("SELECT count(*) FROM hit WHERE extract(hour FROM at) < 12", "hour_whole"),
        ("SELECT count(*) FILTER (WHERE v > 20), sum(v) FROM hit", "day_site"),
        ("SELECT site, count(*) FROM hit GROUP BY 1", "day_site"),
        ("SELECT site, date_trunc('hour', at), count(*) FROM hit GROUP BY 1, 2", "hour_site"),
        ("SELECT count(*) FROM hit WHERE site = 1", "day_site"),
        ("SELECT count(*) FROM hit WHERE site IS NULL", "day_site"),
        ("SELECT count(*) FILTER (WHERE site = 1) FROM hit", "day_site"),
        ("SELECT count(*) FROM hit HAVING count(*) FILTER (WHERE site > 0) > 5", "day_site"),
        ("SELECT site % 2, count(*) FROM hit GROUP BY 1", "day_site"),
        ("SELECT page, count(*) FROM hit GROUP BY 1", "week_page"),
        ("SELECT count(*) FROM hit WHERE page LIKE 'p1%'", "week_page"),
        ("SELECT page, count(*) FROM hit WHERE site = 3 GROUP BY 1", "day"),
        ("SELECT count(*) FROM hit WHERE site = 1 OR page = 'p3'", "day"),
        ("SELECT coalesce(page, site::text), count(*) FROM hit GROUP BY 1", "day"),
        ("SELECT site, count(*) FROM hit GROUP BY 1 HAVING count(*) FILTER (WHERE page IS NULL) > 1", "day"),
        ("SELECT date_trunc('day', at), page, count(*) FROM hit GROUP BY 1, 2", "day"),
        ("SELECT date_trunc('hour', at), page, count(*) FROM hit GROUP BY 1, 2", "hits"),
        (
            "SELECT site, count(*) FROM hit WHERE at < '2026-01-02 05:00' AND at > '2026-01-01 20:00' GROUP BY 1",
            "hour_site",
        ),
        ("SELECT count(*) FROM hit WHERE v = 3", "v is no key of rollup hits"),
        ("SELECT count(*) FROM hit WHERE site = (SELECT min(g) FROM generate_series(1, 2) g)", "day_site"),
    ] {
        assert_eq!(from(&mut c, sql), level, "{sql}");
        same(&mut c, sql);
    }
    // Rows that no run has merged, and changes that none has followed.
    each(
        &mut c,
        "INSERT INTO hit VALUES ('2026-01-02 05:00', 1, NULL, 7), ('2026-01-09 14:20:10', NULL, 'new', 7); UPDATE hit SET site = 3 WHERE at = '2026-01-01 07:00'; DELETE FROM hit WHERE at = '2026-01-02 09:00:20'",
    );
    for sql in [
        "SELECT count(*), sum(v) FROM hit",
        "SELECT site, count(*) FROM hit GROUP BY 1",
        "SELECT page, count(*) FROM hit WHERE at > '2026-01-01 06:30' GROUP BY 1",
        "SELECT date_trunc('day', at), site, sum(v) FROM hit GROUP BY 1, 2",
    ] {
        same(&mut c, sql);
    }
}

#[test]
fn its_buckets_are_read_once() {
    let (_cluster, mut c) = levels();
    // The ends are of the next finer table that has the key.
    let sql =
        "SELECT count(*) FROM hit WHERE site = 1 AND at >= '2026-01-01 10:30' AND at < '2026-01-03 14:20'";
    assert_eq!(from(&mut c, sql), "day_site");
    same(&mut c, sql);
    let own = |at: &str| format!("at = '{at}' AND site = 1 AND page = 'p1'");
    for (table, bucket, read) in [
        ("day_site", "at = '2026-01-02' AND site = 1".to_string(), true),
        ("day_site", "at = '2026-01-02' AND site = 3".into(), false),
        ("day_site", "at = '2026-01-01' AND site = 1".into(), false),
        ("hour_site", "at = '2026-01-01 11:00' AND site = 1".into(), true),
        ("hour_site", "at = '2026-01-02 11:00' AND site = 1".into(), false),
        ("hour_site", "at = '2026-01-03 14:00' AND site = 1".into(), false),
        ("hour_whole", "at = '2026-01-02 11:00'".into(), false),
        ("hits", own("2026-01-01 11:00"), false),
        ("hits", own("2026-01-02 11:00"), false),
        ("day", own("2026-01-02"), false),
    ] {
        assert_eq!(is_read(&mut c, table, &bucket, sql), read, "{table} {bucket}");
    }
}

#[test]
fn what_has_expired_is_answered_from_who_has_it() {
    let (_cluster, mut c) = levels();
    let all = rows(&mut c, "SELECT date_trunc('day', at), site, count(*) FROM hit GROUP BY 1, 2");
    let whole = rows(&mut c, "SELECT count(*) FROM hit");
    each(
        &mut c,
        "SELECT rollup.retain('hit', now() - '2026-01-03'); SELECT rollup.retain('hits', now() - '2026-01-03'); SELECT rollup.retain('hour_site', now() - '2026-01-02'); \
         SELECT rollup.retain('day_site', now() - '2026-01-02'); SELECT rollup.expire('hit'); SELECT rollup.expire('hits'); SELECT rollup.expire('hour_site'); SELECT rollup.expire('day_site')",
    );
    assert_ne!(rows(&mut c, "SELECT count(*) FROM hit"), whole);
    each(&mut c, "SET rollup.rewrite = history");
    // Of the first day the level by site has nothing any more, that of all keys has.
    assert_eq!(rows(&mut c, "SELECT date_trunc('day', at), site, count(*) FROM hit GROUP BY 1, 2"), all);
    assert_eq!(rows(&mut c, "SELECT count(*) FROM hit"), whole);
}

#[test]
fn a_level_with_another_column_in_the_place_of_a_key_answers_nothing() {
    let (_cluster, mut c) = levels();
    let sql = "SELECT site, count(*) FROM hit GROUP BY 1";
    each(
        &mut c,
        "SET rollup.rewrite = off; SELECT rollup.drop_level('hits', 'day_site'); SET rollup.rewrite = exact",
    );
    assert_ne!(from(&mut c, sql), "day_site");
    same(&mut c, sql);
    each(
        &mut c,
        "SELECT rollup.add_level('hits', 'day_site', '1 day', keys => '{site}'); ALTER TABLE day_site ADD COLUMN page text",
    );
    assert_eq!(from(&mut c, sql), "day_site");
    same(&mut c, sql);
    same(&mut c, "SELECT site, page, count(*) FROM hit GROUP BY 1, 2");
    assert_eq!(from(&mut c, "SELECT site, page, count(*) FROM hit GROUP BY 1, 2"), "day");
}
