//! What reading a live view costs: the rollup and the rows not yet rolled up, found through the index, however many
//! rows the table has, in partitions or not, and whoever keeps a transaction open.
use std::fmt::Write;

use hll_lab::Cluster;
use hll_tests::{another, number};
use postgres::{Client, SimpleQueryMessage};
use serde_json::Value;

const ROLLUP: &str = "SELECT rollup.create('NAME_1min', 'SELECT date_trunc(''minute'', at) AS at, count(*) AS n, sum(v) AS total, sum(hashint4(v)::bigint) AS hash FROM NAME GROUP BY 1', every => NULL, on_change => 'ON_CHANGE')";
const LIVE: &str = "SELECT count(*), sum(n)::bigint, sum(total)::bigint FROM NAME_1min_live";

/// What was done at one table of a plan.
struct Scan {
    table: String,
    kind: String,
    rows: i64,
    pages: i64,
}

fn scans(plan: &Value, prefix: &str, found: &mut Vec<Scan>) {
    // Since PostgreSQL 18 the rows of a loop are a mean, with decimals.
    let int = |key: &str| plan[key].as_f64().unwrap_or_default().round() as i64;
    if let Some(table) =
        plan["Relation Name"].as_str().filter(|t| t.starts_with(prefix) && !t.contains("1min"))
    {
        // Never executed: no loops, no rows.
        let rows =
            (int("Actual Rows") + int("Rows Removed by Filter") + int("Rows Removed by Index Recheck"))
                * int("Actual Loops");
        found.push(Scan {
            table: table.into(),
            kind: plan["Node Type"].as_str().unwrap_or_default().into(),
            rows,
            pages: int("Shared Hit Blocks") + int("Shared Read Blocks"),
        });
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        scans(child, prefix, found);
    }
}

/// Reads the live view, and returns what it read of the raw table: rows looked at and pages.
fn cost(client: &mut Client, name: &str) -> (i64, i64) {
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {}", LIVE.replace("NAME", name));
    let answer = client.simple_query(&sql).unwrap();
    let text = answer.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = serde_json::from_str(text.unwrap()).unwrap();
    let mut found = Vec::new();
    scans(&plan[0]["Plan"], name, &mut found);
    let mut told = String::new();
    for s in &found {
        writeln!(told, "{}: {}, {} rows, {} pages", s.table, s.kind, s.rows, s.pages).unwrap();
    }
    assert!(!found.is_empty(), "no raw table in {plan:#}");
    assert!(found.iter().all(|s| s.kind != "Seq Scan" || s.rows == 0), "the table is read:\n{told}");
    (found.iter().map(|s| s.rows).sum(), found.iter().map(|s| s.pages).sum())
}

fn equal(client: &mut Client, name: &str) {
    let raw = "SELECT count(DISTINCT date_trunc('minute', at)), count(*), sum(v)::bigint FROM NAME";
    let sql = format!("SELECT count(*) FROM ({raw} EXCEPT {LIVE}) d").replace("NAME", name);
    assert_eq!(number(client, &sql), 0, "{name}: the live view differs");
}

fn insert(name: &str, from: i64, rows: i64) -> String {
    format!(
        "INSERT INTO {name} SELECT timestamptz '2026-01-01' + g * interval '0.1 s', g % 1000 FROM generate_series({from} + 1, {from} + {rows}) g"
    )
}

/// Fills a table behind the back of a transaction that stays open, and looks at its live view: `newer` rows come while it is open, a transaction each quarter.
fn look(cluster: &Cluster, client: &mut Client, name: &str, on_change: &str, newer: i64) {
    client.batch_execute(&ROLLUP.replace("NAME", name).replace("ON_CHANGE", on_change)).unwrap();
    let mut old = another(cluster, "tail");
    old.batch_execute(&format!("BEGIN; INSERT INTO {name} VALUES ('2026-01-01 12:00', 1)")).unwrap();
    for quarter in 0..4 {
        client.batch_execute(&insert(name, quarter * newer / 4, newer / 4)).unwrap();
    }
    client.batch_execute("SET rollup.batch_rows = 10000000").unwrap();
    let merged = number(client, &format!("SELECT rollup_{name}()"));
    assert_eq!(merged, newer);
    client.batch_execute(&format!("VACUUM (ANALYZE) {name}")).unwrap();
    let pages = number(
        client,
        &format!(
            "SELECT (pg_relation_size('{name}') + coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('{name}')), 0))::bigint / 8192"
        ),
    );

    let (rows, read) = cost(client, name);
    println!("{name}, nothing new: {rows} rows in {read} of {pages} pages");
    assert!(rows < 20_000 && read < pages / 20, "{name}: {rows} rows in {read} of {pages} pages for none");
    client.batch_execute(&insert(name, newer, 1000)).unwrap();
    let (rows, read) = cost(client, name);
    println!("{name}, 1000 new rows: {rows} rows in {read} of {pages} pages");
    assert!(
        (1000..30_000).contains(&rows) && read < pages / 20,
        "{name}: {rows} rows in {read} of {pages} pages for 1000"
    );
    equal(client, name);
    // The old transaction's row is new as soon as it ends, and found among the others.
    old.batch_execute("COMMIT").unwrap();
    equal(client, name);
    let (rows, read) = cost(client, name);
    println!("{name}, and an old one: {rows} rows in {read} of {pages} pages");
    assert!(rows < 60_000 && read < pages / 10, "{name}: {rows} rows in {read} of {pages} pages for 1001");
    assert_eq!(number(client, &format!("SELECT rollup_{name}()")), 1001);
}

#[test]
fn a_live_view_reads_the_tail() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("tail").unwrap();
    client.batch_execute("ALTER DATABASE tail SET max_parallel_workers_per_gather = 0; ALTER DATABASE tail SET synchronous_commit = off").unwrap();
    let mut client2 = another(&cluster, "tail");
    client.batch_execute("CREATE TABLE plain (at timestamptz NOT NULL, v int)").unwrap();
    look(&cluster, &mut client2, "plain", "ignore", 2_000_000);
    client
        .batch_execute(
            "DROP TABLE plain CASCADE;
             CREATE TABLE parted (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
             CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM ('2026-01-03') TO ('2026-01-04');",
        )
        .unwrap();
    look(&cluster, &mut client2, "parted", "recompute", 400_000);
}
