//! A dump restored into another cluster goes on exactly, whose transaction ids are other ones.
use hll_lab::Cluster;
use hll_tests::{QUERY, TABLE, differences, number};
use std::process::Stdio;

fn insert(site: i64, rows: i64) -> String {
    format!(
        "INSERT INTO http_request SELECT {site}, timestamptz '2026-01-01' + g * interval '17 s', '10.0.0.' || g % 90, 'USA', 200, g FROM generate_series(1, {rows}) g"
    )
}

#[test]
fn a_restored_database_goes_on() {
    let mut old = Cluster::new().unwrap();
    let mut client = old.database("shop").unwrap();
    client.batch_execute(TABLE).unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => NULL, on_change => 'recompute', coarser => '{{\"http_request_1day\": \"1 day\"}}')"
        ))
        .unwrap();
    // Ids of the old cluster run ahead of the new one's.
    client.batch_execute("CREATE TABLE burn (i int); DO $$ BEGIN FOR i IN 1..3000 LOOP BEGIN INSERT INTO burn VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$").unwrap();
    client.batch_execute(&insert(1, 500)).unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    client.batch_execute(&insert(2, 300)).unwrap();
    // Changes that no run has followed yet come along too.
    client
        .batch_execute("UPDATE http_request SET response_time_msec = 0 WHERE response_time_msec % 10 = 0")
        .unwrap();
    client.batch_execute("CREATE FUNCTION longer(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT greatest($1, $2)'; CREATE AGGREGATE longest(text) (SFUNC = longer, STYPE = text); SELECT rollup.add_merge_rule('longest(text)', 'longer(text,text)', 'longest(text)'::regprocedure)").unwrap();
    // The tables that a query joins are found again, whatever they are called by then.
    client.batch_execute("CREATE SCHEMA lookup; CREATE TABLE lookup.site (id int PRIMARY KEY, title text); INSERT INTO lookup.site VALUES (1, 'one'); CREATE TABLE sale (at timestamptz, site int);
        SELECT rollup.create('sale_1h', 'SELECT date_trunc(''hour'', at) AS at, title, count(*) AS n FROM sale JOIN lookup.site ON id = site GROUP BY 1, 2', every => NULL, joins => 'snapshot');
        INSERT INTO sale VALUES ('2026-01-01', 1); SELECT rollup_sale()").unwrap();
    let dump = old.socket().join("dump.sql");
    let dumped = old.command("pg_dump").args(["-d", "shop", "-f"]).arg(&dump).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));

    let new = Cluster::new().unwrap();
    new.connect("postgres").unwrap().batch_execute("CREATE DATABASE shop TEMPLATE template0").unwrap();
    let restored = new
        .command("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "shop", "-f", "-"])
        .stdin(std::fs::File::open(&dump).unwrap())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    old.stop().unwrap();

    let mut client = new.connect("shop").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.merge_rule WHERE added_by IS NOT NULL"), 1);
    client.batch_execute("ALTER TABLE lookup.site RENAME TO place; INSERT INTO sale VALUES ('2026-01-01', 1); SELECT rollup_sale()").unwrap();
    assert_eq!(number(&mut client, "SELECT n FROM sale_1h WHERE title = 'one'"), 2);
    // Rows of the new cluster, whose ids the old one has used, before anything has run here.
    client.batch_execute(&insert(3, 200)).unwrap();
    client.batch_execute("UPDATE http_request SET site_id = 7 WHERE response_time_msec = 15").unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    for round in 0..3 {
        client.batch_execute(&insert(round, 100)).unwrap();
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
        client.batch_execute("UPDATE http_request SET site_id = 8 WHERE response_time_msec = 16").unwrap();
        assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
        assert_eq!(number(&mut client, "SELECT rollup_http_request()"), 100);
        assert_eq!(differences(&mut client, "http_request_1min"), 0);
    }
    assert_eq!(number(&mut client, "SELECT rollup_http_request()"), 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0);
    // Another rollup of the same table begins where the first one is.
    client.batch_execute("SELECT rollup.create('by_hour', 'SELECT date_trunc(''hour'', ingest_time) AS at, count(*) AS n FROM http_request GROUP BY 1', every => NULL)").unwrap();
    client.batch_execute(&insert(4, 50)).unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM by_hour"), 1350);
    // A second time, by hand.
    client.batch_execute(&insert(5, 50)).unwrap();
    client.batch_execute("SELECT rollup.rebase('http_request')").unwrap();
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    client.batch_execute(&insert(5, 50)).unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
}
