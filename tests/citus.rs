//! The extension on a Citus cluster: it is there on every node, its aggregates are split between nodes, and rollups
//! lie beside the rows that they count.
use hll_lab::{Citus, wait_for};
use hll_tests::nodes::{error, one_row, page, prepared, run_and_compare, site_on};
use hll_tests::{differences, number};
use postgres::Client;

/// The plan of a query, one line a node.
fn plan(client: &mut Client, sql: &str) -> String {
    let lines = client.query(&format!("EXPLAIN (VERBOSE, COSTS OFF) {sql}"), &[]).unwrap();
    lines.iter().map(|line| line.get::<_, String>(0) + "\n").collect()
}

#[test]
fn a_cluster() {
    let Some((mut citus, mut client)) = prepared() else { return };
    on_every_node(&citus);
    aggregates_are_split(&mut client);
    rollups_lie_beside_their_rows(&citus, &mut client);
    what_cannot_be_is_refused(&citus, &mut client);
    other_kinds_of_tables(&citus, &mut client);
    the_page_runs(&mut client);
    nodes_added_later(&mut citus, &mut client);
    the_worker_runs_it(&mut client);
}

/// The statements of docs/citus.md, which no single server can run, over a table in a schema of its own.
fn the_page_runs(client: &mut Client) {
    client
        .batch_execute("CREATE SCHEMA page; CREATE TABLE page.http_request (site_id int, ingest_time timestamptz, ip_address text); SET search_path TO page, public")
        .unwrap();
    // A transaction each, as psql runs them.
    for statement in page(0) {
        client.batch_execute(&statement).unwrap();
    }
    client.batch_execute("INSERT INTO page.http_request (site_id, ingest_time, ip_address) SELECT g % 7, timestamptz '2026-01-01' + g * interval '1 s', g FROM generate_series(1, 3000) g").unwrap();
    let counted = |client: &mut Client, table: &str| {
        number(client, &format!("SELECT sum(request_count)::bigint FROM page.{table}"))
    };
    assert_eq!(counted(client, "http_request_1min_live"), 3000);
    client.batch_execute("SELECT page.rollup_http_request()").unwrap();
    assert_eq!(counted(client, "http_request_1min"), 3000);
    assert_eq!(counted(client, "http_request_1hour"), 3000);
    client
        .batch_execute(
            "SELECT rollup.drop('page.http_request_1min'); RESET search_path; DROP SCHEMA page CASCADE",
        )
        .unwrap();
}

fn on_every_node(citus: &Citus) {
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        assert_eq!(number(&mut there, "SELECT count(*) FROM pg_extension WHERE extname = 'hll'"), 1);
        assert_eq!(number(&mut there, "SELECT (rollup.stamp() >> 48)"), node as i64, "the group in stamps");
        assert_eq!(number(&mut there, "SELECT (rollup.stamp() >> 47) & 1"), 0, "no connection of Citus");
        let same = "SELECT (rollup.stamp() & ((1::bigint << 47) - 1)) - pg_current_xact_id()::text::bigint";
        assert_eq!(number(&mut there, same), 0);
    }
}

fn aggregates_are_split(client: &mut Client) {
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g % 50, timestamptz '2026-01-01' + g * interval '1 s', '10.0.' || g % 700 || '.1',
               (ARRAY['DE','US','FR'])[1 + g % 3], 200, g FROM generate_series(1, 20000) g",
        )
        .unwrap();
    run_and_compare(client, "a first run");
    // By name: the sketch is made on each node, and united on the coordinator.
    let p = plan(
        client,
        "SELECT request_country, hll_add_agg(hll_hash_text(ip_address)) FROM http_request GROUP BY 1",
    );
    assert!(p.contains("hll_union_agg(remote_scan.hll_add_agg)"), "{p}");
    assert!(p.contains("Query: SELECT request_country, public.hll_add_agg("), "{p}");
    let p = plan(client, "SELECT ingest_time, hll_union_agg(distinct_ips) FROM http_request_1min GROUP BY 1");
    assert!(p.contains("hll_union_agg(remote_scan.hll_union_agg)"), "{p}");
    // By combine function, the state as a value.
    for (call, of) in [
        ("jsonb_counter_merge_agg(countries)", "http_request_1min"),
        ("jsonb_counter_agg(request_country)", "http_request"),
    ] {
        let p = plan(client, &format!("SELECT ingest_time, {call} FROM {of} GROUP BY 1"));
        assert!(p.contains("coord_combine_agg(") && p.contains("worker_partial_agg("), "{p}");
    }
    counters_take_every_type(client);
    approx_count_distinct_is_split(client);
    client.batch_execute("SET citus.count_distinct_error_rate = 0.01").unwrap();
    let p = plan(client, "SELECT request_country, count(DISTINCT ip_address) FROM http_request GROUP BY 1");
    assert!(p.contains("hll_cardinality(hll_union_agg(remote_scan.count))"), "{p}");
    assert!(p.contains("hll_add_agg(hll_hash_text(ip_address, 0), 13)"), "{p}");
    let kinds = "SELECT count(DISTINCT ip_address), count(DISTINCT response_time_msec), count(DISTINCT response_time_msec::bigint), count(DISTINCT ingest_time) FROM http_request";
    let found = client.query_one(kinds, &[]).unwrap();
    for (at, exact) in [(0, 700_i64), (1, 20_000), (2, 20_000), (3, 20_000)] {
        let estimate: i64 = found.get(at);
        assert!((estimate - exact).abs() * 25 < exact, "{estimate} for {exact}");
    }
    client.batch_execute("RESET citus.count_distinct_error_rate").unwrap();
    let union = "SELECT hll_cardinality(hll_union_agg(distinct_ips))::bigint FROM http_request_1min";
    let direct = "SELECT hll_cardinality(hll_add_agg(hll_hash_text(ip_address)))::bigint FROM http_request";
    assert_eq!(number(client, union), number(client, direct));
    let sums =
        "SELECT jsonb_counter_total(jsonb_counter_merge_agg(countries))::bigint FROM http_request_1min";
    assert_eq!(number(client, sums), 20_000);
    // Values travel in binary: in text, a sketch of 2^11 registers has more than twice as many letters as bytes.
    let binary = "SELECT count(*) FROM pg_type WHERE typname IN ('hll', 'hll_hashval', 'jsonb_counter_state') AND typsend <> 0 AND typreceive <> 0";
    assert_eq!(number(client, binary), 3);
}

/// Citus takes no argument that is not of the very type which the aggregate declares: casts are written out.
fn counters_take_every_type(client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE typed (k int, c varchar(9), b bpchar(3), n smallint, i int, l bigint, d numeric, f float8, j jsonb);
             INSERT INTO typed SELECT g % 7, 'k' || g % 3, 'x' || g % 2, g % 5, g, g, g, g, jsonb_build_object('a', g) FROM generate_series(1, 500) g;
             CREATE TABLE typed_here AS TABLE typed; SELECT create_distributed_table('typed', 'k', shard_count => 4)",
        )
        .unwrap();
    for call in [
        "agg(c)",
        "agg(b)",
        "agg(c, n)",
        "agg(c, i)",
        "agg(c, l, 2)",
        "agg(c, d)",
        "agg(c, f)",
        "agg(c) FILTER (WHERE i > 9)",
        "merge_agg(j)",
        "merge_agg(j, 1)",
    ] {
        let [here, there] = ["typed_here", "typed"].map(|table| {
            let sql = format!("SELECT n, jsonb_counter_{call}::text FROM {table} GROUP BY 1 ORDER BY 1");
            let rows = client.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
            rows.iter().map(|row| row.get::<_, Option<String>>(1)).collect::<Vec<_>>()
        });
        assert_eq!((here.len(), &here), (5, &there), "{call}");
    }
    client.batch_execute("DROP TABLE typed, typed_here").unwrap();
}

/// In the words of `hll_add_agg`, wherever the call stands; the same numbers as over a table of this node alone.
fn approx_count_distinct_is_split(client: &mut Client) {
    client.batch_execute("CREATE TABLE copied AS SELECT * FROM http_request").unwrap();
    let p = plan(
        client,
        "SELECT request_country, approx_count_distinct(ip_address) FROM http_request GROUP BY 1",
    );
    assert!(p.contains("approx_count_distinct_estimate(hll_union_agg(remote_scan."), "{p}");
    let on_nodes =
        "public.hll_add_agg(public.approx_count_distinct_hash(ip_address), 11, 6, '-1'::bigint, 1)";
    assert!(p.contains(on_nodes) && p.contains("GROUP BY request_country"), "{p}");
    let p = plan(client, "SELECT approx_count_distinct(ip_address) FROM copied");
    assert!(p.contains("approx_count_distinct(ip_address)") && !p.contains("hll_add_agg"), "{p}");
    for query in [
        "SELECT request_country AS k, approx_count_distinct(ip_address) AS n FROM TABLE GROUP BY 1",
        "SELECT status_code AS k, approx_count_distinct(response_time_msec, 14) AS n FROM TABLE GROUP BY 1",
        "SELECT 1 AS k, approx_count_distinct(ingest_time) FILTER (WHERE site_id < 9) + approx_count_distinct(ip_address) AS n FROM TABLE",
        "SELECT request_country AS k, count(*) AS n FROM TABLE GROUP BY 1 HAVING approx_count_distinct(response_time_msec) > 100",
        "WITH w AS (SELECT site_id, approx_count_distinct(ip_address || status_code) AS n FROM TABLE GROUP BY 1) SELECT site_id AS k, n FROM w WHERE n > (SELECT approx_count_distinct(request_country) FROM TABLE)",
        "SELECT 1 AS k, approx_count_distinct(ip_address) AS n FROM TABLE WHERE site_id = 3",
        "SELECT 1 AS k, approx_count_distinct(ip_address) AS n FROM TABLE WHERE site_id < 0",
        "SELECT 1 AS k, approx_count_distinct(NULL::text) AS n FROM TABLE",
        "SELECT 1 AS k, approx_count_distinct(DISTINCT ip_address) AS n FROM TABLE",
        "SELECT 1 AS k, approx_count_distinct(ip_address ORDER BY site_id) AS n FROM TABLE",
        "SELECT 1 AS k, approx_count_distinct(ip_address, (SELECT 12)) AS n FROM TABLE",
    ] {
        let answer = |client: &mut Client, table: &str| -> Vec<(String, i64)> {
            let text = query.replace("TABLE", table);
            let sql = format!("SELECT k::text, n::bigint FROM ({text}) q ORDER BY 1, 2");
            let rows = client.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        };
        let (here, there) = (answer(client, "copied"), answer(client, "http_request"));
        assert!(!here.is_empty(), "{query}");
        assert_eq!(here, there, "{query}");
    }
    let e = error(client, "SELECT approx_count_distinct(ip_address, 99) FROM http_request");
    assert!(e.starts_with("22023 log2m"), "{e}");
    client.batch_execute("DROP TABLE copied").unwrap();
}

fn rollups_lie_beside_their_rows(citus: &Citus, client: &mut Client) {
    let colocated = "SELECT count(DISTINCT colocation_id) FROM citus_tables WHERE table_name IN ('http_request'::regclass, 'http_request_1min'::regclass)";
    assert_eq!(number(client, colocated), 1);
    let explained: String =
        client.query_one("SELECT rollup.explain('http_request_1min')", &[]).unwrap().get(0);
    // What depends on a session's settings is written out.
    assert!(
        explained
            .contains("hll_add_agg\"(public.hll_hash_text(ip_address), 11, 5, '-1'::pg_catalog.int8, 1)"),
        "{explained}"
    );
    let p = plan(client, &explained.replace("WHERE (", "WHERE (true OR "));
    assert!(p.contains("Custom Scan (Citus Adaptive)") && p.contains("Task Count: 8"), "{p}");
    assert!(!p.contains("pull to coordinator") && !p.contains("repartition"), "{p}");
    let (site, _) = site_on(client, citus, 2);
    // Rows written through a worker, in its group's stamps.
    let mut worker = citus.connect(1).unwrap();
    worker.batch_execute(&one_row(site)).unwrap();
    assert_eq!(number(client, "SELECT count(*) FROM http_request WHERE rollup_stamp >> 48 = 1"), 1);
    assert_eq!(differences(client, "http_request_1min_live"), 0);
    assert_eq!(number(client, "SELECT lag_rows FROM rollup.status"), 1);
    run_and_compare(client, "a row written through a worker");
    // check finds what is wrong, rebuild mends it; each on every node.
    client
        .batch_execute("UPDATE http_request_1min SET request_count = request_count + 1 WHERE site_id = 7")
        .unwrap();
    let wrong = "SELECT count(*) FROM rollup.check('http_request_1min')";
    assert!(number(client, wrong) > 0);
    client.batch_execute("SELECT rollup.rebuild('http_request_1min')").unwrap();
    assert_eq!(number(client, wrong), 0);
    // Columns that come and go, filled on every node.
    client
        .batch_execute(
            "SELECT rollup.add_column('http_request_1min', 'slow', 'count(*) FILTER (WHERE response_time_msec > 500)');
             SELECT rollup.add_column('http_request_1min', 'mean', 'avg(response_time_msec)');
             SELECT rollup.add_column('http_request_1min', 'sites', 'hll_add_agg(hll_hash_integer(status_code))')",
        )
        .unwrap();
    let slow = "SELECT sum(slow)::bigint FROM http_request_1min_live";
    assert_eq!(
        number(client, slow),
        number(client, "SELECT count(*) FROM http_request WHERE response_time_msec > 500")
    );
    assert_eq!(number(client, wrong), 0);
    client.batch_execute("SELECT rollup.drop_column('http_request_1min', 'slow')").unwrap();
    client.batch_execute(&one_row(site)).unwrap();
    run_and_compare(client, "after columns came and went");
    // Old rows go on every node, and none that is not rolled up.
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g, '2020-01-01', 'old', 'DE', 200, 1 FROM generate_series(1, 60) g;
             SELECT rollup.retain('http_request', '1000 days')",
        )
        .unwrap();
    assert_eq!(number(client, "SELECT rollup.expire('http_request')"), 0);
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(number(client, "SELECT rollup.expire('http_request', dry_run => true)"), 60);
    assert_eq!(number(client, "SELECT rollup.expire('http_request')"), 60);
    assert_eq!(number(client, "SELECT count(*) FROM http_request WHERE ip_address = 'old'"), 0);
    assert_eq!(
        number(
            client,
            "SELECT sum(request_count)::bigint FROM http_request_1min WHERE ingest_time < '2021-01-01'"
        ),
        60
    );
    assert_eq!(number(client, wrong), 0);
    let e = error(client, "SELECT rollup.rebuild('http_request_1min', '2019-01-01')");
    assert!(e.contains("have expired"), "{e}");
    client
        .batch_execute("SELECT rollup.retain('http_request_1min', '1000 days'); SELECT rollup.expire('http_request_1min')")
        .unwrap();
    assert_eq!(
        number(client, "SELECT removed FROM rollup.retention WHERE relation = 'http_request_1min'::regclass"),
        60
    );
    client
        .batch_execute("SELECT rollup.retain('http_request', NULL), rollup.retain('http_request_1min', NULL)")
        .unwrap();
    run_and_compare(client, "after old rows went");
    // A level, filled and kept.
    client
        .batch_execute("SELECT rollup.add_level('http_request_1min', 'http_request_1day', '1 day')")
        .unwrap();
    client.batch_execute(&one_row(site)).unwrap();
    run_and_compare(client, "with a level");
    let day = "SELECT count(*) FROM (SELECT site_id, date_trunc('day', ingest_time, 'UTC') d, sum(request_count) n FROM http_request_1min GROUP BY 1, 2) f
        FULL JOIN http_request_1day l ON l.site_id = f.site_id AND l.ingest_time = f.d WHERE l.request_count IS DISTINCT FROM f.n";
    assert_eq!(number(client, day), 0);
    assert_eq!(
        number(client, "SELECT sum(request_count)::bigint FROM http_request_1day_live"),
        number(client, "SELECT count(*) FROM http_request")
    );
    // A reader's transaction keeps runs out, and is kept out by none that has ended.
    let mut reader = citus.connect(0).unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM http_request_1min_live").unwrap();
    client.batch_execute(&one_row(site)).unwrap();
    let e = error(client, "SET lock_timeout = '100ms'; SELECT rollup_http_request()");
    assert!(e.starts_with("55P03"), "{e}");
    reader.batch_execute("COMMIT").unwrap();
    client.batch_execute("RESET lock_timeout; SELECT rollup_http_request()").unwrap();
    run_and_compare(client, "after a reader");
    let e =
        error(client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM http_request_1min_live");
    assert!(e.starts_with("0A000"), "{e}");
    client.batch_execute("ROLLBACK").unwrap();
}

fn what_cannot_be_is_refused(citus: &Citus, client: &mut Client) {
    let create = |query: &str| format!("SELECT rollup.create('refused', $q${query}$q$)");
    let e = error(
        client,
        &create("SELECT date_trunc('hour', ingest_time) AS at, count(*) FROM http_request GROUP BY 1"),
    );
    assert!(e.starts_with("0A000 no group key is site_id"), "{e}");
    let e = error(
        client,
        &create(
            "SELECT site_id, date_trunc('hour', ingest_time) AS at, count(*) FILTER (WHERE ingest_time::text LIKE '%5') FROM http_request GROUP BY 1, 2",
        ),
    );
    assert!(e.contains("depends on settings of the session"), "{e}");
    let query = "$$ SELECT site_id, date_trunc('hour', ingest_time) AS at, count(*) FROM http_request GROUP BY 1, 2 $$";
    client.batch_execute("CREATE TABLE looked_up (site int PRIMARY KEY, name text)").unwrap();
    let joined = "SELECT e.site_id, l.name, date_trunc('hour', e.ingest_time) AS at, count(*) FROM http_request e JOIN looked_up l ON l.site = e.site_id GROUP BY 1, 2, 3";
    let e = error(client, &format!("SELECT rollup.create('refused', $q${joined}$q$, joins => 'snapshot')"));
    assert!(e.starts_with("0A000 looked_up, which the query joins to"), "{e}");
    client
        .batch_execute("CREATE TABLE elsewhere (site_id int, at timestamptz, count bigint, UNIQUE NULLS NOT DISTINCT (site_id, at))")
        .unwrap();
    for call in [
        "rollup.add_column('http_request_1min', 'more', 'max(ingest_time::text)')",
        &format!("rollup.create('refused', {query}, on_change => 'recompute')"),
        &format!("rollup.create('refused', {query}, into_table => 'elsewhere')"),
        &format!("rollup.create('refused', {query}, backfill => false)"),
    ] {
        let e = error(client, &format!("SELECT {call}"));
        assert!(e.starts_with("0A000"), "{e}");
    }
    let mut worker = citus.connect(1).unwrap();
    let e = error(
        &mut worker,
        &create(
            "SELECT site_id, date_trunc('hour', ingest_time) AS at, count(*) FROM http_request GROUP BY 1, 2",
        ),
    );
    assert!(e.contains("this node is not the coordinator"), "{e}");
    let e = error(&mut worker, "SELECT count(*) FROM http_request_1min_live");
    assert!(e.contains("rollup"), "{e}");
    // Nothing is left behind.
    for node in 0..3 {
        let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'refused%'";
        assert_eq!(number(&mut citus.connect(node).unwrap(), left), 0);
    }
}

fn other_kinds_of_tables(citus: &Citus, client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE refr (at timestamptz NOT NULL, k int NOT NULL, v int);
             SELECT create_reference_table('refr');
             CREATE TABLE alone (at timestamptz NOT NULL, k int NOT NULL, v int);
             SELECT create_distributed_table('alone', NULL);
             CREATE TABLE plain (at timestamptz NOT NULL, k int NOT NULL, v int);
             CREATE TABLE parts (at timestamptz NOT NULL, k int NOT NULL, v int) PARTITION BY RANGE (at);
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             SELECT create_distributed_table('parts', 'k', shard_count => 4)",
        )
        .unwrap();
    for table in ["refr", "alone", "plain", "parts"] {
        let query = format!(
            "SELECT k, date_trunc('hour', at) AS at, count(*) AS n, sum(v) AS s FROM {table} GROUP BY 1, 2"
        );
        client
            .batch_execute(&format!("SELECT rollup.create('{table}_1h', $q${query}$q$, every => NULL)"))
            .unwrap();
        for node in if table == "plain" { 0..1 } else { 0..3 } {
            let mut there = citus.connect(node).unwrap();
            there
                .batch_execute(&format!(
                    "INSERT INTO {table} SELECT timestamptz '2026-01-05' + g * interval '1 min', g % 7, g FROM generate_series(1, 200) g"
                ))
                .unwrap();
        }
        wait_for("its rows are merged", 30, || {
            client.batch_execute(&format!("SELECT rollup_{table}()")).unwrap();
            number(client, &format!("SELECT coalesce(sum(n), 0)::bigint FROM {table}_1h"))
                == number(client, &format!("SELECT count(*) FROM {table}"))
        });
        let differing = format!(
            "SELECT count(*) FROM (SELECT k, date_trunc('hour', at, 'UTC') AS at, count(*) AS n, sum(v) AS s FROM {table} GROUP BY 1, 2) r
             FULL JOIN {table}_1h t USING (k, at) WHERE r.n IS DISTINCT FROM t.n OR r.s IS DISTINCT FROM t.s"
        );
        assert_eq!(number(client, &differing), 0, "{table}");
        assert_eq!(
            number(client, &format!("SELECT sum(n)::bigint FROM {table}_1h_live")),
            number(client, &format!("SELECT count(*) FROM {table}"))
        );
    }
    // A partition that comes later.
    client
        .batch_execute(
            "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
             INSERT INTO parts VALUES ('2026-02-05', 3, 1)",
        )
        .unwrap();
    client.batch_execute("SELECT rollup_parts()").unwrap();
    assert_eq!(
        number(client, "SELECT sum(n)::bigint FROM parts_1h"),
        number(client, "SELECT count(*) FROM parts")
    );
    // A table of one node that is given to Citus has other stamps from then on.
    client
        .batch_execute(
            "SELECT create_distributed_table('plain', 'k'); INSERT INTO plain VALUES (now(), 1, 1)",
        )
        .unwrap();
    let e = error(client, "SELECT rollup_plain()");
    assert!(e.contains("was given to Citus after") && e.contains("rollup.rebase"), "{e}");
    client.batch_execute("SELECT rollup.rebase('plain')").unwrap();
    let same = |client: &mut Client, table: &str| {
        let merged = number(client, &format!("SELECT sum(n)::bigint FROM {table}"));
        assert_eq!(merged, number(client, "SELECT count(*) FROM plain"), "{table}");
    };
    same(client, "plain_1h");
    let index = "SELECT count(*) FROM pg_indexes WHERE tablename = 'plain' AND indexdef LIKE '%USING btree (rollup_stamp)'";
    assert_eq!(number(client, index), 1);
    let mut worker = citus.connect(1).unwrap();
    worker.batch_execute("INSERT INTO plain SELECT now(), g, 1 FROM generate_series(1, 20) g").unwrap();
    same(client, "plain_1h_live");
    assert_eq!(number(client, "SELECT rollup_plain()"), 20);
    same(client, "plain_1h");
    // A schema that is distributed as a whole.
    client
        .batch_execute(
            "SET citus.enable_schema_based_sharding = on; CREATE SCHEMA tenant; RESET citus.enable_schema_based_sharding;
             CREATE TABLE tenant.event (at timestamptz NOT NULL, v int);
             SELECT rollup.create('event_1h', $$SELECT date_trunc('hour', at) AS at, count(*) AS n FROM tenant.event GROUP BY 1$$, every => NULL);
             INSERT INTO tenant.event SELECT now(), g FROM generate_series(1, 50) g",
        )
        .unwrap();
    client.batch_execute("SELECT tenant.rollup_event()").unwrap();
    assert_eq!(number(client, "SELECT sum(n)::bigint FROM tenant.event_1h"), 50);
}

fn nodes_added_later(citus: &mut Citus, client: &mut Client) {
    let node = citus.start_node().unwrap();
    // A session that knew the server as one of its own must learn that it is a node.
    let mut there = citus.connect(node).unwrap();
    there.batch_execute("CREATE EXTENSION hll").unwrap();
    assert_eq!(number(&mut there, "SELECT rollup.stamp() >> 48"), 0);
    citus.add(node).unwrap();
    assert_eq!(number(&mut there, "SELECT count(*) FROM pg_extension WHERE extname = 'hll'"), 1);
    there.batch_execute(&one_row(3)).unwrap();
    assert_eq!(number(client, "SELECT count(*) FROM http_request WHERE rollup_stamp >> 48 = 3"), 1);
    run_and_compare(client, "a row written through a new node");
}

fn the_worker_runs_it(client: &mut Client) {
    client
        .batch_execute(
            "UPDATE rollup.definition SET every = '200 milliseconds' WHERE name = 'http_request_1min'",
        )
        .unwrap();
    client.batch_execute(&one_row(5)).unwrap();
    wait_for("the worker merges the row", 30, || {
        number(client, "SELECT lag_rows FROM rollup.status WHERE name = 'http_request_1min'") == 0
    });
    assert_eq!(differences(client, "http_request_1min"), 0);
    let settled = number(client, "SELECT runs FROM rollup.status WHERE name = 'http_request_1min'");
    client.batch_execute("SELECT pg_sleep(0.6)").unwrap();
    let idle = number(client, "SELECT runs FROM rollup.status WHERE name = 'http_request_1min'");
    assert_eq!(settled, idle, "an idle tick writes nothing");
    client.batch_execute("SELECT rollup.drop('http_request_1min')").unwrap();
    assert_eq!(number(client, "SELECT count(*) FROM pg_class WHERE relname LIKE 'http_request_1%'"), 0);
}
