//! A dump restored into another cluster goes on exactly, whose transaction ids are other ones.
use hll_lab::Cluster;
use hll_tests::{QUERY, TABLE, differences, number};
use postgres::Client;
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
            "SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => NULL, on_change => 'recompute', coarser => '{{\"http_request_1day\": \"1 day\", \"http_request_1min_whole\": {{\"width\": \"1 minute\", \"keys\": []}}}}')"
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
    assert_eq!(
        number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min_whole"),
        number(&mut client, "SELECT count(*) FROM http_request")
    );
    // A second time, by hand.
    client.batch_execute(&insert(5, 50)).unwrap();
    client.batch_execute("SELECT rollup.rebase('http_request')").unwrap();
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
    client.batch_execute(&insert(5, 50)).unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
}

/// Loads of several tables at once, in no order: what is said of rollups refers to nothing that has to be there before.
#[test]
fn a_dump_is_restored_side_by_side() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("ordered").unwrap();
    client
        .batch_execute(
            "CREATE TABLE event (at timestamptz, v int); CREATE TABLE other (at timestamptz); CREATE TABLE \"it's\" (at timestamptz) PARTITION BY RANGE (at);
             SELECT rollup.create('ev_hour', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL, coarser => '{\"ev_day\": \"1 day\"}');
             SELECT rollup.create('other_hour', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM other GROUP BY 1', every => '1 hour', on_change => 'recompute');
             SELECT rollup.create('its_hour', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM \"it''s\" GROUP BY 1', every => NULL);
             SELECT rollup.retain('event', '5000 days'), rollup.retain('ev_day', '5000 days'), rollup.partition('\"it''s\"', '1 day');
             INSERT INTO event SELECT '2026-01-01Z', i FROM generate_series(1, 1000) i; INSERT INTO other VALUES ('2026-01-01Z');
             SELECT rollup_event(), rollup_other(), rollup.pause('other_hour'); UPDATE other SET at = '2026-01-02Z'; ALTER VIEW ev_hour_live RENAME TO now; ALTER TABLE other RENAME TO others",
        )
        .unwrap();
    let tables = "SELECT DISTINCT c.oid::regclass::text FROM pg_extension e, unnest(e.extconfig) x JOIN pg_class c ON c.oid = x WHERE e.extname = 'hll' AND c.relkind = 'r' ORDER BY 1";
    let tables: Vec<String> = client.query(tables, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert!(tables.len() >= 9, "{tables:?}");
    let foreign = "SELECT count(*) FROM pg_extension e, unnest(e.extconfig) x JOIN pg_constraint c ON c.conrelid = x AND c.contype = 'f' WHERE e.extname = 'hll'";
    assert_eq!(number(&mut client, foreign), 0, "they refer to each other");
    let contents = |client: &mut Client| -> Vec<String> {
        let all = |table: &String| {
            let rows = format!(
                "SELECT coalesce(string_agg((to_jsonb(t) - 'generation')::text, E'\\n' ORDER BY t::text), '') FROM {table} t"
            );
            // Levels that come after their rollup are a change of it.
            let rows: String = client.query_one(&rows, &[]).unwrap().get(0);
            format!("{table}: {rows}")
        };
        tables.iter().map(all).collect()
    };
    let functions = "SELECT string_agg(oid::regprocedure || ' ' || pg_get_function_sqlbody(oid), ', ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosqlbody IS NOT NULL";
    let (before, made) =
        (contents(&mut client), client.query_one(functions, &[]).unwrap().get::<_, String>(0));
    let dump = cluster.socket().join("dump");
    let dumped =
        cluster.command("pg_dump").args(["-Fd", "-j2", "-d", "ordered", "-f"]).arg(&dump).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    client.batch_execute("CREATE DATABASE restored TEMPLATE template0").unwrap();
    let restored = cluster.command("pg_restore").args(["-j4", "-d", "restored"]).arg(&dump).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let mut client = cluster.connect("restored").unwrap();
    assert_eq!(contents(&mut client), before);
    assert_eq!(client.query_one(functions, &[]).unwrap().get::<_, String>(0), made);
    client.batch_execute("INSERT INTO event VALUES ('2026-01-01Z', 1)").unwrap();
    client.batch_execute("SELECT rollup_event()").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM ev_day"), 1001);
    client.batch_execute("SELECT rollup.add_column('ev_hour', 'top', 'max(v)'); SELECT top FROM now; SELECT rollup.drop('ev_hour'), rollup.drop('other_hour'), rollup.drop('its_hour')").unwrap();
    let left =
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosqlbody IS NOT NULL";
    assert_eq!(number(&mut client, left), 0, "the functions beside the sources are known, and go");
}
