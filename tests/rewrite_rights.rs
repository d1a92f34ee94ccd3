//! Statements that are answered from a rollup are so with the rights of the reader on the raw table; the engine's own are not.
use hll_tests::number;
use hll_tests::rewriting::{HALF, each, equal, prepared, rows, same, why};
use postgres::Client;

#[test]
fn rights() {
    let (cluster, mut c) = prepared();
    c.batch_execute("CREATE ROLE owner LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE nobody LOGIN; ALTER TABLE hit OWNER TO owner; ALTER TABLE hits OWNER TO owner; ALTER VIEW hits_live OWNER TO owner;
        GRANT SELECT (at, site) ON hit TO reader; CREATE VIEW plain AS SELECT site, count(*) AS n FROM hit GROUP BY 1;
        CREATE VIEW barrier WITH (security_barrier) AS SELECT site, count(*) AS n FROM hit WHERE site > 0 GROUP BY 1; CREATE VIEW invoker WITH (security_invoker) AS SELECT site, sum(v) AS n FROM hit GROUP BY 1;
        GRANT SELECT ON plain, barrier, invoker TO nobody, reader;
        CREATE FUNCTION of_site(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM hit WHERE site = $1';
        CREATE MATERIALIZED VIEW stored AS SELECT site, count(*) AS n FROM hit GROUP BY 1").unwrap();
    let fails = |c: &mut Client, sql: &str| {
        let code = c.simple_query(sql).unwrap_err().code().map(|code| code.code().to_string());
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    };
    c.batch_execute("SET ROLE reader").unwrap();
    // Of the rollup's table and of the other columns the reader may read nothing by itself.
    fails(&mut c, "SELECT * FROM hits");
    equal(&mut c, "SELECT site, count(*) FROM hit WHERE at > '2026-01-01 01:00:30' GROUP BY 1");
    fails(&mut c, HALF);
    fails(&mut c, "SELECT count(*) FILTER (WHERE status >= 400) FROM hit");
    equal(&mut c, "SELECT * FROM plain");
    equal(&mut c, "SELECT * FROM barrier WHERE n > 10");
    fails(&mut c, "SELECT * FROM invoker");
    equal(&mut c, "SELECT of_site(1), of_site(2), (SELECT count(*) FROM hit WHERE site = 1)");
    c.batch_execute("SET ROLE nobody").unwrap();
    fails(&mut c, "SELECT count(*) FROM hit");
    fails(&mut c, "SELECT of_site(1)");
    equal(&mut c, "SELECT * FROM plain");
    c.batch_execute("RESET ROLE; REFRESH MATERIALIZED VIEW stored").unwrap();
    same(&mut c, "SELECT * FROM stored");
    // A cached plan is the reader's own.
    c.batch_execute("PREPARE p AS SELECT count(*) FROM hit; EXECUTE p; SET ROLE nobody").unwrap();
    fails(&mut c, "EXECUTE p");
    c.batch_execute("RESET ROLE; ALTER TABLE hit ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON hit FOR SELECT TO reader USING (site = 1)").unwrap();
    same(&mut c, "SELECT count(*) FROM hit");
    c.batch_execute("SET ROLE reader").unwrap();
    assert_eq!(why(&mut c, "SELECT count(*) FROM hit"), "row-level security applies to the table");
    same(&mut c, "SELECT site, count(*) FROM hit GROUP BY 1");
    assert_eq!(rows(&mut c, "SELECT site FROM hit GROUP BY 1").len(), 1);
    c.batch_execute("RESET ROLE; ALTER TABLE hit DISABLE ROW LEVEL SECURITY; REVOKE ALL ON hit FROM reader")
        .unwrap();
    c.batch_execute("SET ROLE reader").unwrap();
    fails(&mut c, "SELECT count(*) FROM hit");
    drop(cluster);
}

#[test]
fn the_engine_reads_raw() {
    let (_cluster, mut c) = prepared();
    // An owner whose statements are answered from rollups: what is checked is not compared with itself.
    each(
        &mut c,
        "ALTER DATABASE traps SET rollup.rewrite = exact; UPDATE hits SET n = n + 1 WHERE at = '2026-01-01 02:00'",
    );
    assert!(number(&mut c, "SELECT count(*) FROM rollup.check('hits')") > 0);
    each(&mut c, "SELECT rollup.rebuild('hits')");
    assert_eq!(number(&mut c, "SELECT count(*) FROM rollup.check('hits')"), 0);
    each(
        &mut c,
        "UPDATE hit SET site = 1 WHERE site = 2; INSERT INTO hit VALUES ('2026-01-01 02:00', 0, 1, 1, 'x'); SELECT rollup_hit()",
    );
    assert_eq!(number(&mut c, "SELECT count(*) FROM rollup.check('hits')"), 0);
    same(&mut c, "SELECT * FROM hits_live");
    assert_eq!(
        number(
            &mut c,
            "SELECT count(*) FROM ((TABLE hits_live EXCEPT TABLE hits) UNION (TABLE hits EXCEPT TABLE hits_live)) d"
        ),
        0
    );
}

/// The owner of a rollup makes columns that are read of another type, whose cast is code of the owner's: the reader does not
/// run it.
#[test]
fn no_code_of_the_owner_runs_as_the_reader() {
    let (_cluster, mut c) = prepared();
    c.batch_execute("CREATE ROLE owner; CREATE SCHEMA own AUTHORIZATION owner; GRANT USAGE ON SCHEMA own TO PUBLIC; CREATE TABLE ran (by name)").unwrap();
    c.batch_execute("GRANT INSERT ON ran TO PUBLIC; GRANT CREATE ON SCHEMA public TO owner").unwrap();
    c.batch_execute(
        "SET ROLE owner; SET rollup.rewrite = off;
         CREATE TYPE own.odd AS (x bigint);
         CREATE FUNCTION own.plain(own.odd) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN INSERT INTO ran VALUES (current_user); RETURN ($1).x; END';
         CREATE CAST (own.odd AS bigint) WITH FUNCTION own.plain(own.odd) AS IMPLICIT;
         CREATE TYPE own.when AS (x timestamptz);
         CREATE FUNCTION own.plain(own.when) RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN INSERT INTO ran VALUES (current_user); RETURN ($1).x; END';
         CREATE CAST (own.when AS timestamptz) WITH FUNCTION own.plain(own.when) AS IMPLICIT;
         CREATE FUNCTION own.part(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 2'",
    )
    .unwrap();
    let changes = [
        ("value", "ALTER TABLE own.sums ALTER n TYPE own.odd USING ROW(n)::own.odd"),
        ("key", "ALTER TABLE own.sums ALTER site TYPE own.odd USING ROW(site)::own.odd"),
        ("time", "ALTER TABLE own.sums ALTER day TYPE own.when USING ROW(day)::own.when"),
        (
            "stamp",
            "DROP TRIGGER IF EXISTS zz_rollup_kept ON own.source; DROP INDEX own.source_at_rollup_stamp_idx;
             ALTER TABLE own.source ALTER rollup_stamp DROP DEFAULT; ALTER TABLE own.source ALTER rollup_stamp TYPE own.odd USING ROW(rollup_stamp)::own.odd",
        ),
    ];
    for (what, change) in changes {
        each(
            &mut c,
            "RESET ROLE; SET ROLE owner; CREATE TABLE own.source (at timestamptz NOT NULL, site bigint, v int); SELECT rollup.create('own.sums', $$SELECT date_trunc('day', at) AS day, site, count(*) AS n, sum(v) AS s FROM own.source GROUP BY 1, 2$$, every => NULL, on_change => 'recompute'); INSERT INTO own.source SELECT timestamptz '2026-01-01' + g * interval '1 hour', g % 3, g FROM generate_series(1, 99) g; SELECT rollup.run('own.source')",
        );
        c.batch_execute("CREATE OR REPLACE VIEW own.sums_live AS SELECT NULL::timestamptz AS day, NULL::bigint AS site, NULL::bigint AS n, NULL::bigint AS s").unwrap();
        for one in change.split(';') {
            c.batch_execute(one).unwrap_or_else(|e| panic!("{what}: {one}: {e:?}"));
        }
        c.batch_execute("RESET ROLE; TRUNCATE ran").unwrap();
        for rewrite in ["exact", "history"] {
            c.batch_execute(&format!("SET rollup.rewrite = {rewrite}")).unwrap();
            for sql in [
                "SELECT count(*) FROM own.source",
                "SELECT site, sum(v), count(*) FROM own.source WHERE at > '2026-01-02' AND site < 2 GROUP BY 1",
            ] {
                c.simple_query(sql).unwrap_or_else(|e| panic!("{what}: {sql}: {e:?}"));
                c.simple_query(&format!("SELECT * FROM rollup.explain_rewrite($q${sql}$q$)")).unwrap();
            }
        }
        let ran: Vec<String> =
            c.query("SELECT by::text FROM ran", &[]).unwrap().iter().map(|r| r.get(0)).collect();
        assert!(ran.is_empty(), "{what}: {ran:?}");
        each(
            &mut c,
            "RESET ROLE; DROP VIEW IF EXISTS own.sums_live; SELECT rollup.drop('own.sums'); DROP TABLE own.source CASCADE",
        );
    }
    // A query that cannot be read any more, since what it names is gone, stops nobody who reads the raw table.
    each(
        &mut c,
        "SET ROLE owner; CREATE TABLE own.source (at timestamptz NOT NULL, site int, v int); SELECT rollup.create('own.sums', $$SELECT date_trunc('day', at) AS day, own.part(site) AS half, count(*) AS n FROM own.source GROUP BY 1, 2$$, every => NULL, on_change => 'recompute'); INSERT INTO own.source VALUES ('2026-01-01', 1, 1); SELECT rollup.run('own.source'); CREATE OR REPLACE VIEW own.sums_live AS SELECT NULL::timestamptz AS day, NULL::int AS half, NULL::bigint AS n; ALTER FUNCTION own.part(int) RENAME TO parts; RESET ROLE; SET rollup.rewrite = exact",
    );
    same(&mut c, "SELECT count(*) FROM own.source");
    let reason = why(&mut c, "SELECT count(*) FROM own.source");
    assert!(reason.starts_with("rollup sums cannot be read: ") || reason.contains("live view"), "{reason}");
    each(
        &mut c,
        "RESET ROLE; ALTER FUNCTION own.parts(int) RENAME TO part; DROP VIEW IF EXISTS own.sums_live; SELECT rollup.drop('own.sums'); DROP TABLE own.source CASCADE",
    );
    // A function that the query names is the reader's affair.
    each(
        &mut c,
        "SET ROLE owner; CREATE TABLE own.source (at timestamptz NOT NULL, site int, v int); SELECT rollup.create('own.sums', $$SELECT date_trunc('day', at) AS day, own.part(site) AS half, count(*) AS n FROM own.source GROUP BY 1, 2$$, every => NULL, on_change => 'recompute'); INSERT INTO own.source SELECT timestamptz '2026-01-01' + g * interval '1 hour', g % 3, g FROM generate_series(1, 99) g; SELECT rollup.run('own.source'); RESET ROLE; SET rollup.rewrite = exact",
    );
    let named = "SELECT own.part(site), count(*) FROM own.source GROUP BY 1";
    assert_eq!(why(&mut c, named), "");
    same(&mut c, named);
}

/// Whoever plans to read a table runs what is constant in its indexes: a reader of the raw table has trusted that table's
/// owner, and not the one to whom the rollup's was given.
#[test]
fn a_table_of_a_rollup_that_was_given_away() {
    let (_cluster, mut c) = prepared();
    c.batch_execute("CREATE ROLE owner; CREATE ROLE other; CREATE SCHEMA own AUTHORIZATION other; CREATE TABLE ran (by name); GRANT INSERT ON ran TO PUBLIC; ALTER TABLE hit OWNER TO owner; ALTER TABLE hits OWNER TO owner; ALTER VIEW hits_live OWNER TO owner").unwrap();
    c.batch_execute(
        "SET ROLE other; CREATE FUNCTION own.leave() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN 1; END';
         CREATE FUNCTION own.one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM own.leave(); RETURN $1; END'; RESET ROLE",
    )
    .unwrap();
    let question = "SELECT site, count(*) FROM hit GROUP BY 1";
    equal(&mut c, question);
    c.batch_execute(
        "ALTER TABLE hits OWNER TO other; GRANT SELECT ON hit TO other; ALTER VIEW hits_live OWNER TO other",
    )
    .unwrap();
    c.batch_execute("GRANT CREATE ON SCHEMA public TO other").unwrap();
    c.batch_execute("SET ROLE other; CREATE INDEX ON hits ((own.one(1) + site)); RESET ROLE; TRUNCATE ran")
        .unwrap();
    same(&mut c, question);
    assert_eq!(number(&mut c, "SELECT count(*) FROM ran"), 0);
    assert_eq!(why(&mut c, question), "table hits of rollup hits belongs to another role than the raw table");
    // One that could do the same to the raw table.
    each(&mut c, "DROP INDEX hits_expr_idx; GRANT owner TO other");
    equal(&mut c, question);
}
