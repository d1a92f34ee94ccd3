//! What the tests of partitions share: a partitioned table of events, its rollup, and the comparison of the two.
use hll_lab::{Cluster, wait_for};
use postgres::Client;

use crate::number;

/// Makes the rollup of `event`, which the worker runs.
pub const ROLLUP: &str = "SELECT rollup.create('event_1h',
    'SELECT date_trunc(''hour'', at) AS at, count(*) AS n, sum(x) AS total FROM event GROUP BY 1', every => '200 milliseconds')";

/// A cluster with `event`, partitioned by time, its time zone that of the server.
pub fn event(db: &str, more: &str) -> (Cluster, Client) {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database(db).unwrap();
    client.batch_execute("SET timezone = 'UTC'").unwrap();
    client
        .batch_execute("CREATE TABLE event (at timestamptz NOT NULL, x int) PARTITION BY RANGE (at)")
        .unwrap();
    client.batch_execute(more).unwrap();
    client.batch_execute(ROLLUP).unwrap();
    (cluster, client)
}

/// A default partition.
pub const DEFAULT: &str = "CREATE TABLE event_rest PARTITION OF event DEFAULT";
/// How many partitions with bounds there are.
pub const PARTITIONS: &str = "SELECT count(*) FROM rollup_internal.partition_bounds('event')";
/// How many groups differ between the raw rows and the live view.
pub const DIFFERENCES: &str =
    "WITH raw AS (SELECT date_trunc('hour', at, 'UTC') AS at, count(*) AS n, sum(x) AS total FROM event GROUP BY 1),
     kept AS (SELECT at, n, total FROM event_1h_live)
     SELECT (SELECT count(*) FROM (TABLE raw EXCEPT TABLE kept) a) + (SELECT count(*) FROM (TABLE kept EXCEPT TABLE raw) b)";

pub use crate::text;

/// Waits until the rollup has every row, and compares the two.
pub fn caught_up(client: &mut Client) {
    let merged = "SELECT (SELECT coalesce(sum(n), 0) FROM event_1h)::bigint - (SELECT count(*) FROM event)";
    wait_for("the rollup has every row", 60, || number(client, merged) == 0);
    assert_eq!(number(client, DIFFERENCES), 0);
}

/// Days of partitions of `event`, the oldest first, with ten rows each.
pub fn days_of_event(client: &mut postgres::Client, days: i64) {
    client.batch_execute("SET timezone = 'UTC'; CREATE TABLE event (at timestamptz NOT NULL, x int) PARTITION BY RANGE (at)").unwrap();
    let partitions = format!(
        "DO $$ BEGIN FOR d IN 0..{days} LOOP
           EXECUTE format('CREATE TABLE event_%s PARTITION OF event FOR VALUES FROM (%L) TO (%L)', d,
             date_trunc('day', now()) - d * interval '1 day', date_trunc('day', now()) - (d - 1) * interval '1 day');
         END LOOP; END $$"
    );
    client.batch_execute(&partitions).unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n, sum(x) AS total FROM event GROUP BY 1', every => NULL);
             INSERT INTO event SELECT date_trunc('day', now()) - d * interval '1 day' + interval '1 hour', g
             FROM generate_series(0, {days}) d, generate_series(1, 10) g"
        ))
        .unwrap();
}
