//! What tables may have that only newer versions of PostgreSQL know: columns that are computed when they are read, constraints
//! NOT NULL that do not hold for all rows, keys over times. Rollups count them, and statements are answered from rollups, as ever.
use hll_lab::{Cluster, Tree, skip};
use hll_tests::number;
use hll_tests::rewriting::{each, equal, same, why};

/// A server of at least that version; None, which is said, where this one is older.
fn from_version(major: u32) -> Option<Cluster> {
    let has = Tree::prepare().unwrap().major;
    if has < major {
        skip(format_args!("PostgreSQL {has} is older than {major}"));
        return None;
    }
    Some(Cluster::new().unwrap())
}

#[test]
fn columns_that_are_computed_when_they_are_read() {
    let Some(cluster) = from_version(18) else { return };
    let mut c = cluster.database("newer").unwrap();
    each(
        &mut c,
        "SET timezone = 'UTC'; SET rollup.rewrite = exact; SET rollup.batch = on; \
         CREATE TABLE hit (at timestamptz NOT NULL, site int, v int, twice int GENERATED ALWAYS AS (v * 2) VIRTUAL); \
         SELECT rollup.create('hits', 'SELECT date_trunc(''minute'', at) AS at, site, twice, count(*) AS n, sum(twice) AS total, count(v) AS known FROM hit GROUP BY 1, 2, 3', every => NULL, on_change => 'recompute'); \
         INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '20 s', g % 3, nullif(g % 4, 3) FROM generate_series(1, 3000) g; \
         SELECT rollup.run('hit'); \
         INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '20 s', g % 3, g % 4 FROM generate_series(1, 300) g; \
         UPDATE hit SET v = v + 1 WHERE site = 1 AND at < '2026-01-01 02:00'; ANALYZE hit",
    );
    for sql in [
        "SELECT twice, sum(twice), count(*), count(at) FROM hit GROUP BY 1",
        "SELECT site, twice + 1, sum(twice), count(v) FROM hit WHERE twice > 0 OR twice IS NULL GROUP BY CUBE (site, twice)",
        "SELECT date_trunc('hour', at), sum(twice) FILTER (WHERE twice < 4) FROM hit WHERE at > '2026-01-01 01:07:10' GROUP BY 1",
    ] {
        equal(&mut c, sql);
    }
    each(&mut c, "SELECT rollup.run('hit')");
    assert_eq!(number(&mut c, "SELECT count(*) FROM rollup.check('hits')"), 0);
    assert_eq!(number(&mut c, "SELECT sum(total)::bigint - (SELECT sum(v * 2) FROM hit) FROM hits"), 0);
}

#[test]
fn constraints_that_do_not_hold_for_all_rows() {
    let Some(cluster) = from_version(18) else { return };
    let mut c = cluster.database("newer").unwrap();
    each(
        &mut c,
        "SET timezone = 'UTC'; SET rollup.rewrite = exact; CREATE TABLE hit (at timestamptz, k int); \
         INSERT INTO hit VALUES (NULL, 1), ('2026-01-01', NULL), ('2026-01-01', 2); \
         ALTER TABLE hit ADD CONSTRAINT has_k NOT NULL k NOT VALID; ALTER TABLE hit ADD CONSTRAINT has_at NOT NULL at NOT VALID; \
         SELECT rollup.create('hits', 'SELECT date_trunc(''minute'', at) AS at, count(*) AS n FROM hit GROUP BY 1', every => NULL, on_change => 'recompute'); \
         SELECT rollup.run('hit')",
    );
    let counts = ["SELECT count(k) FROM hit", "SELECT count(at) FROM hit"];
    for sql in counts {
        same(&mut c, sql);
        assert!(why(&mut c, sql).contains("no column of which count can be made"), "{sql}");
    }
    equal(&mut c, "SELECT count(*) FROM hit");
    equal(&mut c, "SELECT date_trunc('day', at), count(*) FROM hit GROUP BY 1");
    each(
        &mut c,
        "DELETE FROM hit WHERE k IS NULL OR at IS NULL; ALTER TABLE hit VALIDATE CONSTRAINT has_k; ALTER TABLE hit VALIDATE CONSTRAINT has_at",
    );
    counts.into_iter().for_each(|sql| equal(&mut c, sql));
    each(&mut c, "SELECT rollup.run('hit')");
    counts.into_iter().for_each(|sql| equal(&mut c, sql));
    assert_eq!(number(&mut c, "SELECT sum(n)::bigint FROM hits"), 1);
}

#[test]
fn rows_whose_key_is_a_span_of_time() {
    let Some(cluster) = from_version(18) else { return };
    let mut c = cluster.database("newer").unwrap();
    each(
        &mut c,
        "SET timezone = 'UTC'; CREATE TABLE stay (room int4range, span tstzrange, at timestamptz NOT NULL, PRIMARY KEY (room, span WITHOUT OVERLAPS)); \
         CREATE TABLE guest (room int4range, span tstzrange, FOREIGN KEY (room, PERIOD span) REFERENCES stay); \
         SELECT rollup.create('stays', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM stay GROUP BY 1', every => NULL, on_change => 'recompute'); \
         INSERT INTO stay VALUES ('[1,2)', '[2026-01-01,2026-02-01)', '2026-01-01'), ('[2,3)', '[2026-01-01,2026-02-01)', '2026-01-01'); \
         SELECT rollup.run('stay'); UPDATE stay SET at = '2026-01-02' WHERE room = '[1,2)'; DELETE FROM stay WHERE room = '[2,3)'; SELECT rollup.run('stay')",
    );
    assert_eq!(number(&mut c, "SELECT count(*) FROM stays WHERE at = '2026-01-02' AND n = 1"), 1);
    assert_eq!(number(&mut c, "SELECT count(*) FROM rollup.check('stays')"), 0);
    assert_eq!(number(&mut c, "SELECT sum(n)::bigint FROM stays_live"), 1);
}
