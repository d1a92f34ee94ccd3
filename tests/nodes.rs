//! What the tests of a Citus cluster share.
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Citus, root, wait_until};
use postgres::Client;

use crate::{QUERY, TABLE, differences, number};

/// A kind of table of a cluster, with columns `site int, at timestamptz, v int`.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The table, qualified where it must be.
    pub table: &'static str,
    /// What makes it; other columns and partitions than that of `CREATE TABLE table (site int, at timestamptz, v int)`
    /// where that is not run before.
    made: &'static str,
    /// What the query of its rollup is limited to.
    pub limit: &'static str,
    /// A run is one task of Citus, on a worker.
    pub one_task: bool,
    /// Its rollup lies on workers.
    pub on_workers: bool,
}

impl Kind {
    const fn new(table: &'static str, made: &'static str) -> Kind {
        Kind { table, made, limit: "", one_task: false, on_workers: true }
    }

    const fn one_task(table: &'static str, made: &'static str, limit: &'static str) -> Kind {
        Kind { one_task: true, limit, ..Kind::new(table, made) }
    }

    const fn here(table: &'static str, made: &'static str) -> Kind {
        Kind { on_workers: false, ..Kind::new(table, made) }
    }

    /// The name of its rollup.
    pub fn rollup(&self) -> String {
        format!("{}_min", self.table.replace('.', "_"))
    }

    /// The table of its rollup: next to its source.
    pub fn target(&self) -> String {
        let schema = self.table.split_once('.').map(|(schema, _)| format!("{schema}.")).unwrap_or_default();
        schema + &self.rollup()
    }

    /// The table of the level of its rollup that has no key but the time: on the coordinator where the rollup is in several
    /// shards.
    pub fn whole(&self) -> String {
        self.target() + "_all"
    }

    /// Makes the table.
    pub fn make(&self, client: &mut Client) {
        let plain = format!("CREATE TABLE {} (site int, at timestamptz, v int)", self.table);
        let statements = if self.made.contains("CREATE TABLE") { "" } else { plain.as_str() };
        let all = format!("{statements};{}", self.made);
        client.batch_execute(&all).unwrap_or_else(|e| panic!("{}: {e:?}", self.table));
    }

    /// Makes its rollup, by the minute, with a level of all sites by the hour, which runs when it is told to.
    pub fn roll_up(&self, client: &mut Client) {
        let create = format!(
            "SELECT rollup.create('{}', 'SELECT site, date_trunc(''minute'', at) AS at, count(*) AS n, sum(v) AS s, hll_add_agg(hll_hash_integer(v)) AS vs
               FROM {} {} GROUP BY 1, 2', every => NULL, coarser => '{{\"{0}_all\": {{\"width\": \"1 hour\", \"keys\": []}}}}')",
            self.rollup(), self.table, self.limit
        );
        client.batch_execute(&create).unwrap_or_else(|e| panic!("{}: {e:?}", self.table));
    }

    /// Every row is merged, once.
    pub fn exact(&self, client: &mut Client, what: &str) {
        let name = self.rollup();
        let what = format!("{}: {what}", self.table);
        let lag = format!("SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = '{name}'");
        wait_until(&format!("{what}: everything is merged"), 60, || {
            client.batch_execute(&format!("SELECT rollup_internal.work_off('{name}')"))?;
            Ok(number(client, &lag) == 0)
        });
        let raw = number(client, &format!("SELECT count(*) FROM {} {}", self.table, self.limit));
        let kept = number(client, &format!("SELECT coalesce(sum(n), 0)::bigint FROM {}", self.target()));
        assert_eq!(raw, kept, "{what}: raw rows and rolled up ones");
        let whole = format!(
            "WITH raw AS MATERIALIZED (SELECT date_trunc('hour', at, 'UTC'), count(*), sum(v), hll_add_agg(hll_hash_integer(v))::text FROM {} {} GROUP BY 1),
             kept AS MATERIALIZED (SELECT at, n, s, vs::text FROM {})
             SELECT count(*) FROM ((TABLE raw EXCEPT ALL TABLE kept) UNION ALL (TABLE kept EXCEPT ALL TABLE raw)) d",
            self.table,
            self.limit,
            self.whole()
        );
        assert_eq!(number(client, &whole), 0, "{what}: groups of all sites that differ");
        let check = format!("SELECT count(*) FROM rollup.check('{name}')");
        assert_eq!(number(client, &check), 0, "{what}: buckets that differ");
    }
}

/// All kinds of tables of a cluster.
pub const KINDS: [Kind; 8] = [
    Kind::new("several", "SELECT create_distributed_table('several', 'site', shard_count => 8, colocate_with => 'none')"),
    Kind::new(
        "parted",
        "CREATE TABLE parted (site int, at timestamptz, v int) PARTITION BY RANGE (at);
         CREATE TABLE parted_old PARTITION OF parted FOR VALUES FROM (MINVALUE) TO ('2026-02-01');
         CREATE TABLE parted_new PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO (MAXVALUE);
         SELECT create_distributed_table('parted', 'site', shard_count => 4, colocate_with => 'none')",
    ),
    Kind::one_task("single", "SELECT create_distributed_table('single', NULL, colocate_with => 'none')", ""),
    Kind::one_task(
        "tenant.events",
        "SET citus.enable_schema_based_sharding = on; CREATE SCHEMA tenant; RESET citus.enable_schema_based_sharding;
         CREATE TABLE tenant.events (site int, at timestamptz, v int)",
        "",
    ),
    Kind::one_task(
        "one_shard",
        "SELECT create_distributed_table('one_shard', 'site', shard_count => 1, colocate_with => 'none')",
        "",
    ),
    Kind::one_task(
        "one_value",
        "SELECT create_distributed_table('one_value', 'site', shard_count => 5, colocate_with => 'none')",
        "WHERE site = 3",
    ),
    Kind::here("reference", "SELECT create_reference_table('reference')"),
    Kind::here("here", "SELECT citus_add_local_table_to_metadata('here')"),
];

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

/// Whether no node has a prepared transaction, or has none any more within some seconds.
pub fn nothing_in_doubt(citus: &Citus, seconds: u64) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    (0..citus.size()).all(|node| {
        while Instant::now() < end {
            let asked = citus.connect(node).ok().map(|mut c| c.query("SELECT FROM pg_prepared_xacts", &[]));
            if asked.is_some_and(|found| found.is_ok_and(|rows| rows.is_empty())) {
                return true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        false
    })
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
    wait_until("everything is merged", 30, || {
        client.batch_execute("SELECT rollup_http_request()")?;
        let lag = "SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = 'http_request_1min'";
        Ok(number(client, lag) == 0)
    });
    assert_eq!(differences(client, "http_request_1min"), 0, "{what}");
    assert_eq!(differences(client, "http_request_1min_live"), 0, "{what}: live");
}

/// Of the level of all sites with buckets of this unit, which has percentiles and a bounded counter besides: how many groups differ from those of the raw rows, and how many there are.
pub fn whole_differs(client: &mut Client, unit: &str) -> (i64, i64) {
    let table = format!("http_request_1{}_all", if unit == "minute" { "min" } else { unit });
    let sql = format!(
        "WITH raw AS MATERIALIZED (SELECT date_trunc('{unit}', ingest_time, 'UTC') AS ingest_time, count(*), sum(response_time_msec), sum(hashtext(ip_address)), hll_add_agg(hll_hash_text(ip_address))::text,
           jsonb_counter_agg(request_country), ddsketch_agg(response_time_msec)::text, jsonb_counter_bounded_agg(request_country, 1, 8) FROM http_request GROUP BY 1),
         kept AS MATERIALIZED (SELECT ingest_time, request_count, total_msec, hash_sum, distinct_ips::text, countries, times::text, top FROM {table})
         SELECT count(*) FROM ((TABLE raw EXCEPT ALL TABLE kept) UNION ALL (TABLE kept EXCEPT ALL TABLE raw)) d"
    );
    (number(client, &sql), number(client, &format!("SELECT count(*) FROM {table}")))
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
