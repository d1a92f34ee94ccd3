//! A raw table, its rollup, and statements that are answered from it.
use hll_lab::Cluster;
use postgres::{Client, SimpleQueryMessage};

const TABLE: &str = "CREATE TABLE hit (at timestamptz NOT NULL, site int, status int, v int, who text);
    INSERT INTO hit SELECT timestamptz '2026-01-01' + g * interval '7 s', g % 3, 200 + 100 * (g % 4), nullif(g % 50, 3), 'w' || g % 20 FROM generate_series(1, 5000) g";

const ROLLUP: &str = "SELECT rollup.create('hits', $$ SELECT date_trunc('minute', at) AS at, site, count(*) AS n, sum(v) AS total, count(*) FILTER (WHERE status >= 400) AS bad FROM hit GROUP BY 1, 2 $$,
    every => NULL, on_change => 'recompute')";

/// A table with rows, its rollup, and a session whose statements are answered from it.
pub fn prepared() -> (Cluster, Client) {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("traps").unwrap();
    for sql in [
        "ALTER DATABASE traps SET timezone = 'UTC'",
        "SET timezone = 'UTC'",
        TABLE,
        ROLLUP,
        "SELECT rollup_hit()",
        "SET rollup.rewrite = exact",
    ] {
        client.batch_execute(sql).unwrap();
    }
    (cluster, client)
}

/// Statements, each a transaction of its own.
pub fn each(client: &mut Client, sql: &str) {
    for one in sql.split("; ") {
        client.batch_execute(one).unwrap_or_else(|e| panic!("{one}: {e:?}"));
    }
}

/// What a statement gives, in order.
pub fn rows(client: &mut Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let answer = client.simple_query(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let mut all: Vec<Vec<Option<String>>> = answer
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|n| row.get(n).map(String::from)).collect())
            }
            _ => None,
        })
        .collect();
    all.sort();
    all
}

/// Whether a plan reads the rollup's table.
pub fn reads_rollup(client: &mut Client, sql: &str) -> bool {
    rows(client, &format!("EXPLAIN (COSTS OFF) {sql}"))
        .iter()
        .any(|r| r[0].as_deref().is_some_and(|line| line.contains(" on hits")))
}

/// The same answer with and without, and from the rollup.
pub fn equal(client: &mut Client, sql: &str) {
    assert!(reads_rollup(client, sql), "{sql} is read raw");
    same(client, sql);
}

/// The same answer with and without.
pub fn same(client: &mut Client, sql: &str) {
    client.batch_execute("SET rollup.rewrite = off").unwrap();
    let raw = rows(client, sql);
    client.batch_execute("SET rollup.rewrite = exact").unwrap();
    assert_eq!(rows(client, sql), raw, "{sql}");
}

/// Why a statement is not answered from a rollup; empty where it is.
pub fn why(client: &mut Client, sql: &str) -> String {
    let told = client.query("SELECT reason FROM rollup.explain_rewrite($1)", &[&sql]).unwrap();
    told.first().and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default()
}

/// A range whose ends lie within buckets.
pub const HALF: &str = "SELECT site, count(*), sum(v) FROM hit WHERE at > '2026-01-01 01:00:30' AND at <= '2026-01-01 02:59:30.5' GROUP BY 1";
