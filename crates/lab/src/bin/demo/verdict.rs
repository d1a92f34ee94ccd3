//! The figures at the end, all of them measured.
use std::time::{Duration, Instant};

use hll_lab::Outcome;
use postgres::Client;

use crate::dashboard::{Screen, query};

/// The groups of the rollup, computed from the raw rows.
const RAW: &str = "(SELECT site_id, date_trunc('minute', ingest_time, 'UTC') AS ingest_time,
    count(*) AS request_count,
    count(*) FILTER (WHERE status_code BETWEEN 200 AND 299) AS success_count,
    count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299) AS error_count,
    sum(response_time_msec) AS total_response_time_msec,
    ddsketch_agg(response_time_msec) AS response_time,
    hll_add_agg(hll_hash_text(ip_address)) AS distinct_ip_addresses,
    jsonb_counter_agg(request_country) AS country_counters
  FROM http_request GROUP BY 1, 2) raw";

const COLUMNS: &str = "site_id, ingest_time, request_count, success_count, error_count,
    total_response_time_msec::numeric, response_time::text, distinct_ip_addresses::text, country_counters";

fn number(client: &mut Client, sql: &str) -> Outcome<i64> {
    Ok(client.query_one(sql, &[])?.get(0))
}

/// The groups that differ, compared both ways in one statement.
fn differences(client: &mut Client, relation: &str) -> Outcome<i64> {
    number(
        client,
        &format!(
            "WITH raw AS (SELECT {COLUMNS} FROM {RAW}), kept AS (SELECT {COLUMNS} FROM {relation})
             SELECT (SELECT count(*) FROM (TABLE raw EXCEPT TABLE kept) a)
                  + (SELECT count(*) FROM (TABLE kept EXCEPT TABLE raw) b)"
        ),
    )
}

/// What a day's busiest URLs are said to have, beside what the raw rows have of them: the line to print, and whether all lie
/// within their limits and none is missing that must be there.
fn busiest(client: &mut Client) -> Outcome<(String, bool)> {
    let row = client.query_one(
        "WITH day AS MATERIALIZED (SELECT jsonb_counter_merge_agg(url_counters) AS c FROM http_request_1day),
              truth AS MATERIALIZED (SELECT url, count(*) AS n FROM http_request WHERE url IS NOT NULL GROUP BY url),
              top AS MATERIALIZED (SELECT t.* FROM day, jsonb_counter_top(c, 20) t)
         SELECT (SELECT count(*) FROM top), (SELECT count(*) FROM truth), coalesce((SELECT max(at_most - n) FROM top), 0)::float8,
                coalesce((SELECT bool_and(r.n IS NOT NULL AND r.n BETWEEN t.n AND t.at_most) FROM top t LEFT JOIN truth r ON r.url = t.key), true),
                NOT EXISTS (SELECT FROM truth r, day WHERE r.n > jsonb_counter_total(c) / 101
                            AND NOT EXISTS (SELECT FROM jsonb_counter_top(c, NULL) t WHERE t.key = r.url)),
                coalesce((SELECT format('%s: %s to %s', t.key, t.n, t.at_most) FROM top t LIMIT 1), 'none')",
        &[],
    )?;
    let (top, all, most): (i64, i64, f64) = (row.get(0), row.get(1), row.get(2));
    let (within, complete, first): (bool, bool, String) = (row.get(3), row.get(4), row.get(5));
    let verdict = if within && complete { "all within their limits" } else { "NOT within their limits" };
    let line = format!("busiest {top} of {all} URLs, too low by at most {most:.0} ({first}): {verdict}");
    Ok((line, within && complete))
}

/// The shortest of five.
fn time(client: &mut Client, sql: &str) -> Outcome<f64> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        client.query(sql, &[])?;
        best = best.min(start.elapsed());
    }
    Ok(best.as_secs_f64() * 1000.0)
}

/// Prints every figure and says whether the rollup equals the raw rows.
pub fn give(client: &mut Client, screen: &mut Screen, written: u64, begun: Instant) -> Outcome<bool> {
    // The worker catches up by itself; the deadline only bounds a failure.
    let (start, total) =
        (Instant::now(), "SELECT coalesce(sum(request_count), 0)::bigint FROM http_request_1min");
    let raw = number(client, "SELECT count(*) FROM http_request")?;
    while number(client, total)? != raw && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let lag = start.elapsed();
    screen.refresh(client, written, begun.elapsed())?;
    client.batch_execute("VACUUM ANALYZE http_request")?;
    client.batch_execute("VACUUM ANALYZE http_request_1min")?;
    let (rolled, groups) =
        (number(client, total)?, number(client, "SELECT count(*) FROM http_request_1min")?);
    let (differ, live) =
        (differences(client, "http_request_1min")?, differences(client, "http_request_1min_live")?);
    let estimate: f64 = client
        .query_one(
            "SELECT coalesce(hll_cardinality(hll_union_agg(distinct_ip_addresses)), 0)::float8
             FROM http_request_1min",
            &[],
        )?
        .get(0);
    let distinct = number(client, "SELECT count(DISTINCT ip_address) FROM http_request")?;
    let sizes = client.query_one(
        "SELECT pg_total_relation_size('http_request'), pg_total_relation_size('http_request_1min')",
        &[],
    )?;
    let (large, small): (i64, i64) = (sizes.get(0), sizes.get(1));
    let (slow, fast) = (time(client, &query(RAW))?, time(client, &query("http_request_1min"))?);
    let mut exact = differ == 0 && live == 0 && rolled == raw && raw as u64 == written;

    println!();
    println!("raw rows: {raw} ({written} committed by the writers)");
    println!(
        "rolled up: {rolled} rows in {groups} groups, complete {:.1} s after the last write",
        lag.as_secs_f64()
    );
    println!("groups that differ: {differ} in the rollup, {live} in the live view");
    let error = if distinct == 0 { 0.0 } else { 100.0 * (estimate - distinct as f64) / distinct as f64 };
    let (line, well) = busiest(client)?;
    exact &= well;
    println!("{line}");
    println!("distinct IPs: {estimate:.0} estimated, {distinct} true, error {error:+.2} %");
    println!(
        "bytes: {large} raw, {small} rolled up, {:.1} times smaller",
        large as f64 / small.max(1) as f64
    );
    println!(
        "dashboard query: {slow:.2} ms over raw rows, {fast:.2} ms over the rollup, {:.0} times faster",
        slow / fast
    );
    exact &= expire(client, raw)?;
    println!("exact: {}", if exact { "yes" } else { "no" });
    Ok(exact)
}

/// Expires raw rows and shows that none goes that is not rolled up: old rows come in while the rollup is paused.
fn expire(client: &mut Client, raw: i64) -> Outcome<bool> {
    let late = 1000;
    client.batch_execute(&format!(
        "SELECT rollup.pause('http_request_1min');
         INSERT INTO http_request (site_id, ingest_time, ip_address, status_code)
         SELECT 1, now() - interval '1 day', '10.0.0.1', 200 FROM generate_series(1, {late})"
    ))?;
    client.batch_execute("SELECT rollup.retain('http_request', '1 hour')")?;
    client.batch_execute("SELECT expire_http_request()")?;
    let kept = number(client, "SELECT count(*) FROM http_request WHERE url IS NULL")?;
    println!("expiry while the rollup was paused: {} of {late} rows not rolled up were removed", late - kept);
    client.batch_execute("SELECT rollup.resume('http_request_1min'); SELECT rollup_http_request()")?;
    client.batch_execute("SELECT expire_http_request()")?;
    let left = number(client, "SELECT count(*) FROM http_request")?;
    let sum = number(client, "SELECT sum(request_count)::bigint FROM http_request_1min")?;
    let total = raw + late;
    println!("expiry: {} of {total} raw rows removed, the rollup still counts {sum}", total - left);
    Ok(kept == late && sum == total && left < total)
}
