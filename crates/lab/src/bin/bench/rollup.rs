//! Runs of a rollup beside the plain query over the same rows, and dashboards over both.
use hll_lab::{Cluster, Outcome};
use postgres::Client;

use crate::measure::{by_turns, median, once, table};

/// Columns of the tutorial's table.
pub const COLUMNS: &str = "site_id int, ingest_time timestamptz, url text, request_country text, ip_address text, status_code int, response_time_msec int";

/// The tutorial's query, without GROUP BY.
pub const SELECT: &str =
    "SELECT site_id, date_trunc('minute', ingest_time) AS ingest_time, count(*) AS request_count,
           count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS success_count,
           count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299) AS error_count,
           sum(response_time_msec) / count(*) AS average_response_time_msec,
           hll_add_agg(hll_hash_text(ip_address)) AS distinct_ip_addresses, jsonb_counter_agg(request_country) AS country_counters
      FROM http_request";

const SETTINGS: &str = "SET jit = off; SET max_parallel_workers_per_gather = 0;";

/// The values of events from number `from` on: 20,000 a minute, 20 sites, 12 countries.
fn values(from: i64, rows: i64) -> String {
    format!(
        "SELECT i % 20, timestamptz '2026-01-01' + i * interval '3 ms', '/page/' || i % 50,
           'c' || i * 7919 % 12, '10.' || i * 7919 % 200 || '.' || i * 104729 % 250 || '.1', 200 + i % 2 * 300, i % 900
         FROM generate_series({from}::bigint, {from} + {rows} - 1) i"
    )
}

/// A table with rollups, and how many rows it has.
struct Load {
    client: Client,
    rows: i64,
}

impl Load {
    fn new(cluster: &Cluster, db: &str, coarser: &str) -> Outcome<Load> {
        let mut client = cluster.database(db)?;
        client.batch_execute(&format!(
            "CREATE TABLE http_request ({COLUMNS}); {SETTINGS}
             SELECT rollup.create('http_request_1min', $$ {SELECT} GROUP BY 1, 2 $$, every => NULL, coarser => '{coarser}')"
        ))?;
        Ok(Load { client, rows: 0 })
    }

    fn add(&mut self, rows: i64) -> Outcome<()> {
        self.client.batch_execute(&format!("INSERT INTO http_request {}", values(self.rows, rows)))?;
        self.client.batch_execute("VACUUM ANALYZE http_request")?;
        self.rows += rows;
        Ok(())
    }

    fn run(&mut self) -> Outcome<f64> {
        once(&mut self.client, "SELECT rollup_http_request()")
    }

    /// The last `rows` rows, read by what comes after WHERE.
    fn last(&self, rows: i64) -> String {
        format!("ingest_time >= timestamptz '2026-01-01' + {} * interval '3 ms'", self.rows - rows)
    }
}

/// Prints the table.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let mut one = Load::new(&cluster, "one", "{}")?;
    let mut three = Load::new(
        &cluster,
        "three",
        "{\"http_request_1hour\": \"1 hour\", \"http_request_1day\": \"1 day\"}",
    )?;
    table(
        "Rollup of the tutorial's table: sketch, counters and average",
        &["work", "ms", "against ms", "ratio"],
    );
    let (mut runs, mut plains, mut levels, mut typed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..4 {
        one.add(1_000_000)?;
        three.add(1_000_000)?;
        if round % 2 == 0 {
            runs.push(one.run()?);
            levels.push(three.run()?);
        } else {
            levels.push(three.run()?);
            runs.push(one.run()?);
        }
        let last = one.last(1_000_000);
        let plain = format!(
            "SELECT count(n), sum(s) FROM (SELECT site_id, date_trunc('minute', ingest_time), count(*) AS n, sum(response_time_msec) AS s FROM http_request WHERE {last} GROUP BY 1, 2) s"
        );
        plains.push(once(&mut one.client, &plain)?);
        one.client.batch_execute("DROP TABLE IF EXISTS by_hand")?;
        typed.push(once(
            &mut one.client,
            &format!("CREATE TABLE by_hand AS {SELECT} WHERE {last} GROUP BY 1, 2"),
        )?);
    }
    let (run, plain, by_hand, leveled) = (median(runs), median(plains), median(typed), median(levels));
    println!(
        "| run over 1 M new rows | {run:.0} | {plain:.0} plain GROUP BY, count and sum alone | {:.2} x |",
        run / plain
    );
    println!(
        "| run over 1 M new rows | {run:.0} | {by_hand:.0} the query itself into a new table | {:.2} x |",
        run / by_hand
    );
    println!("| three levels instead of one | {leveled:.0} | {run:.0} one level | {:.2} x |", leveled / run);
    drop(three);
    small_runs(&mut one)?;
    dashboard(&mut one)
}

/// Runs over few rows, new and late, and over none.
fn small_runs(one: &mut Load) -> Outcome<()> {
    for until in [4_000_000, 8_000_000] {
        if one.rows < until {
            one.add(until - one.rows)?;
            one.run()?;
        }
        let (mut small, mut late, mut idle) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..5 {
            one.add(60_000)?;
            small.push(one.run()?);
            one.client.batch_execute(&format!(
                "INSERT INTO http_request SELECT 1, timestamptz '2026-01-01' + i * interval '1 minute', '/', 'c1', '10.0.0.{round}', 200, 5 FROM generate_series(1, 60) i"
            ))?;
            late.push(one.run()?);
            for _ in 0..5 {
                idle.push(one.run()?);
            }
        }
        let raw = one.rows as f64 / 1e6;
        println!("| run over 60,000 new rows, {raw:.1} M raw rows | {:.0} | | |", median(small));
        println!("| run over 60 late rows of 60 minutes, {raw:.1} M raw rows | {:.1} | | |", median(late));
        println!("| idle run, {raw:.1} M raw rows | {:.2} | | |", median(idle));
    }
    Ok(())
}

/// A day of every site from the raw table, from the minutes, and from the hours that the same rollup keeps.
fn dashboard(one: &mut Load) -> Outcome<()> {
    one.client
        .batch_execute("SELECT rollup.add_level('http_request_1min', 'http_request_1hour', '1 hour')")?;
    one.client.batch_execute("VACUUM ANALYZE http_request_1min, http_request_1hour")?;
    let over = |table: &str, requests: &str| {
        format!(
            "SELECT site_id, {requests} FROM {table} WHERE ingest_time >= '2026-01-01' AND ingest_time < '2026-01-02' GROUP BY 1"
        )
    };
    let rolled = "sum(request_count), hll_cardinality(hll_union_agg(distinct_ip_addresses))";
    let [raw, minutes, hours] = by_turns(
        &mut [&mut one.client],
        [
            (0, &*over("http_request", "count(*), hll_cardinality(hll_add_agg(hll_hash_text(ip_address)))")),
            (0, &*over("http_request_1min", rolled)),
            (0, &*over("http_request_1hour", rolled)),
        ],
    )?;
    for (level, time) in [("minutes", minutes), ("hours", hours)] {
        println!(
            "| a day per site over {level} | {time:.2} | {raw:.0} over raw rows | {:.0} x faster |",
            raw / time
        );
    }
    Ok(())
}
