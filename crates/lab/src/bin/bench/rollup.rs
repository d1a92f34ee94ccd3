//! Runs of a rollup beside the plain query over the same rows.
use hll_lab::{Cluster, Outcome};
use postgres::Client;

use crate::measure::{median, once, table};

const TABLE: &str = "
  CREATE TABLE http_request (site_id int, ingest_time timestamptz, url text, request_country text, ip_address text, status_code int, response_time_msec int);
  SELECT rollup.create('http_request_1min', $$
    SELECT site_id, date_trunc('minute', ingest_time) AS ingest_time, count(*) AS request_count,
           count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS success_count,
           count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299) AS error_count,
           sum(response_time_msec) AS total_response_time_msec,
           hll_add_agg(hll_hash_text(ip_address)) AS distinct_ip_addresses, jsonb_counter_agg(request_country) AS country_counters
      FROM http_request GROUP BY 1, 2 $$, every => NULL);
  SET jit = off; SET max_parallel_workers_per_gather = 0;";

/// `rows` events from number `from` on, 20,000 a minute, 20 sites, 12 countries.
fn load(client: &mut Client, from: i64, rows: i64) -> Outcome<()> {
    client.batch_execute(&format!(
        "INSERT INTO http_request SELECT i % 20, timestamptz '2026-01-01' + i * interval '3 ms', '/page/' || i % 50,
           'c' || i * 7919 % 12, '10.' || i * 7919 % 200 || '.' || i * 104729 % 250 || '.1', 200 + i % 2 * 300, i % 900
         FROM generate_series({from}::bigint, {from} + {rows} - 1) i"
    ))?;
    client.batch_execute("VACUUM ANALYZE http_request")?;
    Ok(())
}

/// Prints the table.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let mut client = cluster.database("rollup")?;
    client.batch_execute(TABLE)?;
    table(
        "Rollup of the tutorial's table: 7 aggregates with sketch and counters",
        &["work", "ms", "against ms", "ratio"],
    );
    let plain = |from: i64, rows: i64| {
        format!(
            "SELECT count(*) FROM (SELECT site_id, date_trunc('minute', ingest_time), count(*), sum(response_time_msec) FROM http_request
             WHERE ingest_time >= timestamptz '2026-01-01' + {from} * interval '3 ms' AND ingest_time < timestamptz '2026-01-01' + {} * interval '3 ms' GROUP BY 1, 2) s",
            from + rows
        )
    };
    let (mut runs, mut plains, mut next) = (Vec::new(), Vec::new(), 0);
    for _ in 0..3 {
        load(&mut client, next, 1_000_000)?;
        runs.push(once(&mut client, "SELECT rollup_http_request()")?);
        plains.push(once(&mut client, &plain(next, 1_000_000))?);
        next += 1_000_000;
    }
    let (run, group) = (median(runs), median(plains));
    println!(
        "| run over 1 M new rows | {run:.0} | {group:.0} plain GROUP BY, count and sum alone | {:.2} x |",
        run / group
    );
    let mut small = Vec::new();
    for _ in 0..5 {
        load(&mut client, next, 60_000)?;
        next += 60_000;
        small.push(once(&mut client, "SELECT rollup_http_request()")?);
    }
    println!("| run over 60,000 new rows, {:.1} M raw rows | {:.0} | | |", next as f64 / 1e6, median(small));
    let mut idle = Vec::new();
    for _ in 0..21 {
        idle.push(once(&mut client, "SELECT rollup_http_request()")?);
    }
    println!("| idle run | {:.2} | | |", median(idle));
    let dashboard = |table: &str, requests: &str| {
        format!(
            "SELECT site_id, {requests} FROM {table} WHERE ingest_time >= '2026-01-01' AND ingest_time < '2026-01-02' GROUP BY 1"
        )
    };
    let (mut raw, mut rolled) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        raw.push(once(
            &mut client,
            &dashboard("http_request", "count(*), hll_cardinality(hll_add_agg(hll_hash_text(ip_address)))"),
        )?);
        rolled.push(once(
            &mut client,
            &dashboard(
                "http_request_1min",
                "sum(request_count), hll_cardinality(hll_union_agg(distinct_ip_addresses))",
            ),
        )?);
    }
    let (raw, rolled) = (median(raw), median(rolled));
    println!(
        "| dashboard per site over the rollup | {rolled:.1} | {raw:.0} over raw rows | {:.0} x faster |",
        raw / rolled
    );
    Ok(())
}
