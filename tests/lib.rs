//! What the tests share: the events table, its rollup, and the comparison of the two.
#![allow(clippy::too_many_lines, reason = "a test is one story, told from its first statement to its last")]
pub mod dumped;
pub mod every_road;
pub mod forgive;
pub mod load;
pub mod nodes;
pub mod partitioned;
pub mod questions;
pub mod rewriting;

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

/// A thousand rows of now.
pub const ROWS: &str = "INSERT INTO http_request SELECT g % 3, now(), '10.0.0.' || g % 250, 'USA', 200, g
    FROM generate_series(1, 1000) g";

/// The process id of the scheduler of the database at hand, 0 without one.
pub const SCHEDULER: &str = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity
    WHERE backend_type = 'rollup scheduler' AND datname = current_database()";

/// A rollup of its own table, `NAME`, which the worker looks at every second.
pub fn another_rollup(client: &mut Client, name: &str) {
    let create = format!(
        "CREATE TABLE {name} (at timestamptz DEFAULT now(), x int);
         SELECT rollup.create('{name}_1min',
            'SELECT date_trunc(''minute'', at) AS at, sum(x) AS total FROM {name} GROUP BY 1', every => '1 second')"
    );
    client.batch_execute(&create).expect("a table and its rollup");
}

/// Changes settings of the server, such as `SET fsync = off` or `RESET fsync`, and has it read them. Each is a message of
/// its own: ALTER SYSTEM runs in no transaction, which several statements of one message are.
pub fn configure(client: &mut Client, settings: &[&str]) {
    for setting in settings {
        let alter = format!("ALTER SYSTEM {setting}");
        client.batch_execute(&alter).unwrap_or_else(|e| panic!("{alter}: {e:?}"));
    }
    client.batch_execute("SELECT pg_reload_conf()").expect("the settings are read");
}

/// One text out of one row; empty for NULL.
pub fn text(client: &mut Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

/// How many groups differ between `relation` and the query over raw rows: one statement, one snapshot.
pub fn differences(client: &mut Client, relation: &str) -> i64 {
    differ(client, relation).unwrap_or_else(|e| panic!("{relation}: {e:?}"))
}

/// The same where the server may go away meanwhile.
pub fn differ(client: &mut Client, relation: &str) -> Result<i64, postgres::Error> {
    let columns = "site_id, ingest_time, request_count, total_msec::numeric, hash_sum::numeric,
        distinct_ips::text, countries";
    let sql = format!(
        "WITH raw AS (SELECT {columns} FROM ({QUERY}) q), kept AS (SELECT {columns} FROM {relation})
         SELECT (SELECT count(*) FROM (TABLE raw EXCEPT TABLE kept) a)
              + (SELECT count(*) FROM (TABLE kept EXCEPT TABLE raw) b)"
    );
    client.query_one(&sql, &[]).map(|row| row.get(0))
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
