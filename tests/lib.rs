//! What the tests share: the events table, its rollup, and the comparison of the two.
pub mod load;
pub mod nodes;
pub mod partitioned;

use std::sync::{Mutex, MutexGuard, PoisonError};

use hll_lab::{Cluster, wait_for};
use postgres::{Client, NoTls};

/// The events table of the tests.
pub const TABLE: &str = "CREATE TABLE http_request (site_id int, ingest_time timestamptz DEFAULT now(),
    ip_address text, request_country text, status_code int, response_time_msec int)";

/// What the rollup stores; `count`, `sum` and the sketch are compared.
pub const QUERY: &str = "SELECT site_id, date_trunc('minute', ingest_time) AS ingest_time,
    count(*) AS request_count, sum(response_time_msec) AS total_msec, sum(hashtext(ip_address)) AS hash_sum,
    hll_add_agg(hll_hash_text(ip_address)) AS distinct_ips,
    jsonb_counter_agg(request_country) AS countries FROM http_request GROUP BY 1, 2";

/// A cluster with the table and, unless `every` is empty, its rollup.
pub fn prepared(db: &str, every: &str) -> (Cluster, Client) {
    let cluster = Cluster::new().expect("a private cluster");
    let mut client = cluster.database(db).expect("a database with the extension");
    client.batch_execute(TABLE).expect("the table");
    if !every.is_empty() {
        let create = format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '{every}')");
        client.batch_execute(&create).expect("the rollup");
    }
    (cluster, client)
}

/// Held by a test that measures, while it does.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One number out of one row.
pub fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

/// How many groups differ between `relation` and the query over raw rows: one statement, one snapshot.
pub fn differences(client: &mut Client, relation: &str) -> i64 {
    let columns = "site_id, ingest_time, request_count, total_msec::numeric, hash_sum::numeric,
        distinct_ips::text, countries";
    let sql = format!(
        "WITH raw AS (SELECT {columns} FROM ({QUERY}) q), kept AS (SELECT {columns} FROM {relation})
         SELECT (SELECT count(*) FROM (TABLE raw EXCEPT TABLE kept) a)
              + (SELECT count(*) FROM (TABLE kept EXCEPT TABLE raw) b)"
    );
    number(client, &sql)
}

/// Waits until the rollup holds every raw row.
pub fn caught_up(client: &mut Client) {
    wait_for("the rollup holds every raw row", 60, || differences(client, "http_request_1min") == 0);
}

/// A second connection to the same place.
pub fn another(cluster: &Cluster, db: &str) -> Client {
    let config = format!("host={} user=postgres dbname={db}", cluster.socket().display());
    Client::connect(&config, NoTls).expect("a connection")
}
