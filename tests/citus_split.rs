//! On a cluster the extension's aggregates are computed on each shard, and put together by the coordinator.
use hll_tests::nodes::{error, run_and_compare};
use hll_tests::number;
use postgres::Client;

/// The plan of a query, one line a node.
pub fn plan(client: &mut Client, sql: &str) -> String {
    let lines = client.query(&format!("EXPLAIN (VERBOSE, COSTS OFF) {sql}"), &[]).unwrap();
    lines.iter().map(|line| line.get::<_, String>(0) + "\n").collect()
}

pub fn aggregates_are_split(client: &mut Client) {
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
        ("ddsketch_agg(response_time_msec)", "http_request"),
        ("approx_percentile(response_time_msec, 0.9)", "http_request"),
    ] {
        let p = plan(client, &format!("SELECT ingest_time, {call} FROM {of} GROUP BY 1"));
        assert!(p.contains("coord_combine_agg(") && p.contains("worker_partial_agg("), "{p}");
    }
    aggregates_take_every_type(client);
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
    let binary = "SELECT count(*) FROM pg_type WHERE typname IN ('hll', 'hll_hashval', 'jsonb_counter_state', 'ddsketch') AND typsend <> 0 AND typreceive <> 0";
    assert_eq!(number(client, binary), 4);
}

/// Citus takes no argument that is not of the very type which the aggregate declares: casts are written out.
fn aggregates_take_every_type(client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE typed (k int, c varchar(9), b bpchar(3), n smallint, i int, l bigint, d numeric, f float8, j jsonb);
             INSERT INTO typed SELECT g % 7, 'k' || g % 3, 'x' || g % 2, g % 5, g, g, g, g, jsonb_build_object('a', g) FROM generate_series(1, 500) g;
             CREATE TABLE typed_here AS TABLE typed; SELECT create_distributed_table('typed', 'k', shard_count => 4)",
        )
        .unwrap();
    for call in [
        "jsonb_counter_agg(c)",
        "jsonb_counter_agg(b)",
        "jsonb_counter_agg(c, n)",
        "jsonb_counter_agg(c, i)",
        "jsonb_counter_agg(c, l, 2)",
        "jsonb_counter_bounded_agg(c, l, 2)",
        "jsonb_counter_agg(c, d)",
        "jsonb_counter_agg(c, f)",
        "jsonb_counter_agg(c) FILTER (WHERE i > 9)",
        "jsonb_counter_merge_agg(j)",
        "jsonb_counter_merge_agg(j, 1)",
        "ddsketch_agg(f)",
        "ddsketch_agg(i)",
        "ddsketch_agg(d, l)",
        "ddsketch_agg(l, n, 7) FILTER (WHERE i > 9)",
        "ddsketch_percentile(ddsketch_agg(n), 0.9)",
        "approx_percentile(f, 0.9)",
        "approx_percentile(i, 0.5) FILTER (WHERE i < 0)",
    ] {
        let [here, there] = ["typed_here", "typed"].map(|table| {
            let sql = format!("SELECT n, ({call})::text FROM {table} GROUP BY 1 ORDER BY 1");
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
