//! Statements over views that only select rows of a raw table are answered from its rollups, with the rights of the view.
use hll_tests::rewriting::{each, equal, prepared, reads_rollup, same, why};

#[test]
fn views_that_select_rows() {
    let (_cluster, mut c) = prepared();
    each(
        &mut c,
        "CREATE VIEW all_hits AS SELECT * FROM hit;
         CREATE VIEW renamed (what, seen, place, code, bytes) AS SELECT 'hit'::text, at, site, status, v FROM hit WHERE site IS NOT NULL;
         CREATE VIEW over AS SELECT place + 1 AS next, seen, bytes, what FROM renamed WHERE place < 3",
    );
    c.batch_execute("INSERT INTO hit VALUES ('2026-01-01 01:00:20', 1, 200, 1000, 'new'), ('2026-01-01 02:00:00', 1, 500, 3000, 'new')").unwrap();
    for sql in [
        "SELECT site, count(*), sum(v) FROM all_hits WHERE at > '2026-01-01 01:00:30' AND at <= '2026-01-01 02:59:30.5' GROUP BY 1",
        "SELECT count(*) FROM all_hits",
        "SELECT place, date_trunc('hour', seen), count(*), sum(bytes), count(*) FILTER (WHERE code >= 400) FROM renamed GROUP BY 1, 2",
        "SELECT what, count(*) FROM renamed GROUP BY what",
        "SELECT next, sum(bytes) FROM over WHERE seen >= '2026-01-01 01:00' GROUP BY 1 HAVING count(*) > 1 ORDER BY 2, 1",
        "SELECT what, next * 2, count(*) FROM over WHERE next <> 77 GROUP BY 1, next ORDER BY next",
        "SELECT site, sum(v) FROM (SELECT at, site, v FROM hit WHERE at < '2026-01-01 02:30:10') x GROUP BY 1",
        "WITH w AS (SELECT place, count(*) AS n FROM renamed GROUP BY 1) SELECT a.n, (SELECT sum(bytes) FROM over), b.n FROM w a JOIN w b ON a.place = b.place + 1",
        "SELECT g, (SELECT sum(bytes) FROM renamed WHERE place = g AND seen > timestamptz '2026-01-01' + g * interval '1 hour') FROM generate_series(0, 3) g",
        "SELECT next, (SELECT count(*) FROM hit), count(*) FROM over GROUP BY next",
    ] {
        equal(&mut c, sql);
    }
    // Both are answered: the one within, and the one around it.
    let told = "SELECT count(*) FROM rollup.explain_rewrite('SELECT next, (SELECT count(*) FROM hit), count(*) FROM over GROUP BY next') WHERE rollup = 'hits'";
    assert_eq!(c.query_one(told, &[]).unwrap().get::<_, i64>(0), 2);
    // A plan that is kept, and a view that changes below it.
    c.batch_execute("PREPARE p AS SELECT count(*) FROM all_hits WHERE at >= $1").unwrap();
    for change in [
        "",
        "CREATE OR REPLACE VIEW all_hits AS SELECT * FROM hit WHERE site = 1",
        "DELETE FROM hit WHERE site = 1 AND v = 3000",
    ] {
        c.batch_execute(change).unwrap();
        for from in ["2026-01-01", "2026-01-01 01:30:30"] {
            same(&mut c, &format!("SELECT count(*) FROM all_hits WHERE at >= '{from}'"));
            let kept: i64 = c.query_one(&*format!("EXECUTE p ('{from}')"), &[]).unwrap().get(0);
            let raw: i64 = c
                .query_one(
                    "SELECT count(*) FROM all_hits WHERE at >= $1::text::timestamptz AND random() < 2",
                    &[&from],
                )
                .unwrap()
                .get(0);
            assert_eq!(kept, raw, "{change} {from}");
        }
    }
}

#[test]
fn views_that_do_more() {
    let (_cluster, mut c) = prepared();
    each(
        &mut c,
        "CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM hit WHERE site = 1;
         CREATE VIEW uncertain AS SELECT at, site, v + random()::int AS v FROM hit;
         CREATE VIEW newest AS SELECT * FROM hit ORDER BY at DESC LIMIT 10; CREATE VIEW once AS SELECT DISTINCT site, at FROM hit;
         CREATE VIEW two AS SELECT h.* FROM hit h JOIN hit i USING (at); CREATE VIEW twice AS SELECT * FROM hit UNION ALL SELECT * FROM hit;
         CREATE VIEW numbered AS SELECT *, row_number() OVER (ORDER BY at) AS n FROM hit; CREATE VIEW listed AS SELECT *, (SELECT 1) AS one FROM hit;
         CREATE VIEW groups AS SELECT site, count(*) AS n FROM hit GROUP BY 1",
    );
    for (of, reason) in [
        ("barrier", "that is a security barrier"),
        ("uncertain", "with a volatile function"),
        ("newest", "with ORDER BY or LIMIT"),
        ("once", "with DISTINCT"),
        ("two", "of more than one table"),
        ("numbered", "with window functions, sets or queries in it"),
        ("listed", "with window functions, sets or queries in it"),
    ] {
        let sql = format!("SELECT count(*) FROM {of}");
        assert_eq!(why(&mut c, &sql), format!("the query is over a view or a sub-select {reason}"));
        assert!(!reads_rollup(&mut c, &sql));
        same(&mut c, &sql);
    }
    for sql in ["SELECT count(*) FROM twice", "SELECT count(hit), count(x) FROM (SELECT * FROM hit) x, hit"] {
        assert!(!reads_rollup(&mut c, sql), "{sql}");
        same(&mut c, sql);
    }
    assert_eq!(
        why(&mut c, "SELECT count(x) FROM (SELECT * FROM hit) x"),
        "a whole row of a view or a sub-select is used"
    );
    assert!(
        why(&mut c, "SELECT site, count(*) FROM (SELECT * FROM hit) x GROUP BY ROLLUP (site)")
            .starts_with("the query has GROUPING SETS over")
    );
    // Groups in a view are answered, and what is made of them is left.
    equal(&mut c, "SELECT max(n), count(*) FROM groups");
    assert_eq!(why(&mut c, "SELECT max(n), count(*) FROM groups"), "");
}

#[test]
fn the_rights_are_those_of_the_view() {
    let (_cluster, mut c) = prepared();
    c.batch_execute("CREATE ROLE owner; CREATE ROLE keeper; CREATE ROLE reader; ALTER TABLE hit OWNER TO owner; ALTER TABLE hits OWNER TO owner; ALTER VIEW hits_live OWNER TO owner;
        GRANT SELECT (at, site) ON hit TO keeper;
        CREATE VIEW places AS SELECT at, site FROM hit; CREATE VIEW wide AS SELECT at, site, v FROM hit;
        CREATE VIEW invoker WITH (security_invoker) AS SELECT at, site FROM hit; CREATE VIEW over AS SELECT site FROM places;
        ALTER VIEW places OWNER TO keeper; ALTER VIEW wide OWNER TO keeper; ALTER VIEW over OWNER TO keeper;
        GRANT SELECT ON places, wide, invoker, over TO reader").unwrap();
    let fails = |c: &mut postgres::Client, sql: &str| {
        let code = c.simple_query(sql).unwrap_err().code().map(|code| code.code().to_string());
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    };
    let counts = |of: &str| format!("SELECT site, count(*) FROM {of} GROUP BY 1");
    c.batch_execute("SET ROLE reader; SET rollup.rewrite = exact").unwrap();
    equal(&mut c, &counts("places"));
    equal(&mut c, &counts("over"));
    // The view's owner may not read a column of it; the reader not the table below one that reads as its reader.
    for of in ["wide", "invoker", "hit"] {
        fails(&mut c, &counts(of));
    }
    c.batch_execute("RESET ROLE; REVOKE SELECT ON over FROM reader; SET ROLE reader").unwrap();
    fails(&mut c, &counts("over"));
    c.batch_execute("RESET ROLE; REVOKE ALL ON hit FROM keeper; SET ROLE reader").unwrap();
    fails(&mut c, &counts("places"));
    // Row security of the table is that of the view's owner.
    c.batch_execute("RESET ROLE; GRANT SELECT ON hit TO keeper; ALTER TABLE hit ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON hit FOR SELECT TO keeper USING (site = 1); SET ROLE reader").unwrap();
    assert_eq!(why(&mut c, &counts("places")), "row-level security applies to the table");
    same(&mut c, &counts("places"));
}
