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
