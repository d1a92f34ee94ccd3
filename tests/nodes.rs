//! What the tests of a Citus cluster share.
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hll_lab::{Citus, root, wait_for};
use postgres::Client;

use crate::{QUERY, TABLE, differences, number};

/// A cluster with the distributed events table and its rollup, which runs when it is told to; None without Citus.
pub fn prepared() -> Option<(Citus, Client)> {
    let citus = Citus::new().expect("a cluster")?;
    let mut client = citus.connect(0).expect("the coordinator");
    client.batch_execute(TABLE).expect("the table");
    client
        .batch_execute("SELECT create_distributed_table('http_request', 'site_id', shard_count => 8)")
        .expect("shards");
    let create = format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => NULL)");
    client.batch_execute(&create).expect("the rollup");
    Some((citus, client))
}

/// Tells other threads to stop, also where this one panics: else they would go on for ever.
#[derive(Debug)]
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// The statements of an example of docs/citus.md, which no single server can run.
pub fn page(example: usize) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/citus.md")).expect("the page");
    let block = page.split("```psql\n").nth(example + 1).and_then(|rest| rest.split("```").next());
    block.expect("an example").split_inclusive(";\n").map(String::from).collect()
}

/// Runs until nothing is left to merge, and compares.
pub fn run_and_compare(client: &mut Client, what: &str) {
    wait_for("everything is merged", 30, || {
        client.batch_execute("SELECT rollup_http_request()").is_ok()
            && number(
                client,
                "SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = 'http_request_1min'",
            ) == 0
    });
    assert_eq!(differences(client, "http_request_1min"), 0, "{what}");
    assert_eq!(differences(client, "http_request_1min_live"), 0, "{what}: live");
}

/// Rows in the rollup.
pub fn merged(client: &mut Client) -> i64 {
    number(client, "SELECT coalesce(sum(request_count), 0)::bigint FROM http_request_1min")
}

/// Rows in the table.
pub fn rows(client: &mut Client) -> i64 {
    number(client, "SELECT count(*) FROM http_request")
}

/// A site whose rows lie on that node, and the name of their shard.
pub fn site_on(client: &mut Client, citus: &Citus, node: usize) -> (i32, String) {
    value_on(client, citus, "http_request", node)
}

/// The same for another table.
pub fn value_on(client: &mut Client, citus: &Citus, table: &str, node: usize) -> (i32, String) {
    let port = i32::from(citus.nodes[node].port());
    let sql = format!(
        "SELECT g, '{table}_' || s.shardid FROM generate_series(1, 1000) g, LATERAL (SELECT get_shard_id_for_distribution_column('{table}', g) AS shardid) s
         JOIN citus_shards c ON c.shardid = s.shardid WHERE c.nodeport = $1 LIMIT 1"
    );
    let row = client.query_one(&sql, &[&port]).expect("a site on that node");
    (row.get(0), row.get(1))
}

/// One row of a site.
pub fn one_row(site: i32) -> String {
    format!("INSERT INTO http_request VALUES ({site}, now(), '10.0.0.1', 'DE', 200, 5)")
}

/// SQLSTATE, message and hint of a statement that fails.
pub fn error(client: &mut Client, sql: &str) -> String {
    let e = client.batch_execute(sql).expect_err(sql);
    let e = e.as_db_error().unwrap_or_else(|| panic!("{sql}: {e:?}"));
    format!("{} {} {}", e.code().code(), e.message(), e.hint().unwrap_or_default())
}
