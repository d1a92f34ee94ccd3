//! Raw queries that are answered from rollups, beside the same question typed on the rollup and beside the raw rows; and
//! what it costs to plan them, and queries that have nothing to do with rollups.
use hll_lab::figures::{Cell, figure, row, table};
use hll_lab::{Cluster, Outcome, Tree};
use postgres::{Client, SimpleQueryMessage};

use crate::measure::{at_most, by_turns, faster, median, ratio};
use crate::rollup::{COLUMNS, SELECT};

const SETTINGS: &str = "SET jit = off; SET max_parallel_workers_per_gather = 0; SET timezone = 'UTC'";

/// What is preloaded where the library is not loaded at all.
const WITHOUT: &str = "shared_preload_libraries = ''\n";

/// The last five minutes of a million events.
const DASHBOARD: &str = "SELECT site_id, date_trunc('minute', ingest_time), count(*), sum(response_time_msec) / count(*), hll_cardinality(hll_add_agg(hll_hash_text(ip_address)))
   FROM http_request WHERE ingest_time >= timestamptz '2026-01-01 00:45' GROUP BY 1, 2";

/// 20,000 events a minute, of 20 sites.
fn values(rows: i64) -> String {
    format!(
        "SELECT i % 20, timestamptz '2026-01-01' + i * interval '3 ms', '/page/' || i % 50,
           'c' || i * 7919 % 12, '10.' || i * 7919 % 200 || '.' || i * 104729 % 250 || '.1', 200 + i % 2 * 300, i % 900
         FROM generate_series(1::bigint, {rows}) i"
    )
}

/// A raw table, its minutes, hours and days.
fn load(cluster: &Cluster, db: &str, rows: i64) -> Outcome<Client> {
    let mut client = cluster.database(db)?;
    client.batch_execute(&format!(
        "{SETTINGS}; CREATE TABLE http_request ({COLUMNS});
         SELECT rollup.create('http_request_1min', $$ {SELECT} GROUP BY 1, 2 $$, every => NULL, on_change => 'recompute',
           coarser => '{{\"http_request_1hour\": \"1 hour\", \"http_request_1day\": \"1 day\"}}')"
    ))?;
    client.batch_execute(&format!("INSERT INTO http_request {}", values(rows)))?;
    client.batch_execute("SELECT rollup_http_request()")?;
    client.batch_execute("VACUUM ANALYZE")?;
    Ok(client)
}

/// Prints the tables.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    table(
        "Raw queries answered from a rollup, without a changed letter (`rollup.rewrite = exact`)",
        &[
            "query",
            "ms",
            "typed on a live view",
            "ratio",
            "to reach",
            "typed on a table, what is merged alone",
            "over raw rows",
            "ratio",
        ],
    );
    let mut few = load(&cluster, "few", 1_000_000)?;
    let mut raw = beside(&cluster, "few")?;
    compare(
        [&mut few, &mut raw],
        "the tutorial's dashboard, the last five minutes of 1 M rows",
        DASHBOARD,
        "SELECT site_id, ingest_time, request_count, average_response_time_msec, hll_cardinality(distinct_ip_addresses)
         FROM {} WHERE ingest_time >= timestamptz '2026-01-01 00:45'",
        "http_request_1min",
    )?;
    // No sum of minutes answers that: the rows of the first minute are read, all of them but those of its first moment.
    compare(
        [&mut few, &mut raw],
        "the same with > in the place of >=, which cuts a minute; typed with >=",
        &DASHBOARD.replace(">=", ">"),
        "SELECT site_id, ingest_time, request_count, average_response_time_msec, hll_cardinality(distinct_ip_addresses)
         FROM {} WHERE ingest_time >= timestamptz '2026-01-01 00:45'",
        "http_request_1min",
    )?;
    let mut many = load(&cluster, "many", 8_000_000)?;
    let mut raw = beside(&cluster, "many")?;
    // Eight million rows of 6 2/3 hours.
    compare(
        [&mut many, &mut raw],
        "a day of every site, 8 M rows",
        "SELECT site_id, count(*), hll_cardinality(hll_add_agg(hll_hash_text(ip_address)))
         FROM http_request WHERE ingest_time >= '2026-01-01' AND ingest_time < '2026-01-02' GROUP BY 1",
        "SELECT site_id, sum(request_count), hll_cardinality(hll_union_agg(distinct_ip_addresses))
         FROM {} WHERE ingest_time >= '2026-01-01' AND ingest_time < '2026-01-02' GROUP BY 1",
        "http_request_1day",
    )?;
    compare(
        [&mut many, &mut raw],
        "four hours and a half of every site, 8 M rows",
        "SELECT site_id, count(*), hll_cardinality(hll_add_agg(hll_hash_text(ip_address)))
         FROM http_request WHERE ingest_time >= '2026-01-01 01:30' AND ingest_time < '2026-01-01 06:00' GROUP BY 1",
        "SELECT site_id, sum(request_count), hll_cardinality(hll_union_agg(distinct_ip_addresses))
         FROM {} WHERE ingest_time >= '2026-01-01 01:30' AND ingest_time < '2026-01-01 06:00' GROUP BY 1",
        "http_request_1min",
    )?;
    planning(&cluster, &mut few)
}

/// A session that reads the raw rows. Each keeps its setting: one that is set has what was kept for plans made anew.
fn beside(cluster: &Cluster, db: &str) -> Outcome<Client> {
    let mut client = cluster.connect(db)?;
    client.batch_execute(&format!("{SETTINGS}; SET rollup.rewrite = off"))?;
    Ok(client)
}

/// One query over raw rows, with and without, and what means the same on a live view, which has what is not merged yet, too;
/// and on the table below the view. `typed` has {} where it names either.
fn compare(mut sessions: [&mut Client; 2], name: &str, raw: &str, typed: &str, table: &str) -> Outcome<()> {
    sessions[0].batch_execute("SET rollup.rewrite = exact")?;
    let (live, stored) = (typed.replace("{}", &format!("{table}_live")), typed.replace("{}", table));
    let [ours, typed, stored, off] = by_turns(&mut sessions, [(0, raw), (0, &live), (0, &stored), (1, raw)])?;
    row([
        name.into(),
        figure(ours, 2).into(),
        figure(typed, 2).into(),
        ratio(ours, typed),
        at_most(1.2, "x"),
        figure(stored, 2).into(),
        figure(off, 0).into(),
        faster(ours, off, 0),
    ]);
    Ok(())
}

/// Microseconds that a statement is planned in, the median of many.
fn planned(client: &mut Client, sql: &str) -> Outcome<f64> {
    const TIMES: usize = 101;
    let explain = format!("EXPLAIN (SUMMARY) {sql}");
    let mut times = Vec::new();
    for _ in 0..TIMES {
        for message in client.simple_query(&explain)? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let line = row.get(0).unwrap_or_default();
            if let Some(ms) = line.strip_prefix("Planning Time: ").and_then(|l| l.strip_suffix(" ms")) {
                times.push(ms.parse::<f64>()? * 1e3);
            }
        }
    }
    if times.len() != TIMES {
        return Err(format!("{} planning times of {TIMES}", times.len()).into());
    }
    Ok(median(times))
}

/// What planning takes, of queries over tables without rollups and of such that are answered from one.
fn planning(cluster: &Cluster, few: &mut Client) -> Outcome<()> {
    table("Planning", &["query", "µs", "without µs", "more µs", "to reach"]);
    let plain = Cluster::with(Tree::prepare()?, WITHOUT)?;
    let (mut with, mut without) = (cluster.database("plain")?, plain.connect("postgres")?);
    with.batch_execute("SET rollup.rewrite = exact")?;
    for client in [&mut with, &mut without] {
        client.batch_execute(&format!(
            "{SETTINGS}; SELECT pg_catalog.set_config('search_path', 'public', false)"
        ))?;
        for n in 0..10 {
            client.batch_execute(&format!("CREATE TABLE t{n} (a int, b int)"))?;
        }
    }
    for tables in [1, 10] {
        let from: Vec<String> = (0..tables).map(|n| format!("t{n}")).collect();
        let conditions: Vec<String> = (1..tables).map(|n| format!(" AND t{n}.a = t0.b")).collect();
        let sql = format!("SELECT count(*) FROM {} WHERE t0.a > 7{}", from.join(", "), conditions.concat());
        let [ours, plain] = in_turns(&mut [&mut with, &mut without], [&sql, &sql])?;
        let name = format!("{tables} tables without rollups, the library not loaded")
            .replace("1 tables", "one table");
        line(&name, ours, plain, 20.0);
    }
    for (name, sql) in [
        ("all rows by site, answered from days", "SELECT site_id, count(*) FROM http_request GROUP BY 1"),
        (
            "a range by site and minute, answered from minutes",
            "SELECT site_id, date_trunc('minute', ingest_time), count(*) FROM http_request WHERE ingest_time > now() - interval '5 minutes' GROUP BY 1, 2",
        ),
        (
            "a range by site, answered from days, hours and minutes",
            "SELECT site_id, count(*) FROM http_request WHERE ingest_time > '2025-01-01 00:30' AND ingest_time < '2027-01-01' GROUP BY 1",
        ),
    ] {
        few.batch_execute("SET rollup.rewrite = off")?;
        let off = planned(few, sql)?;
        few.batch_execute("SET rollup.rewrite = exact")?;
        let exact = planned(few, sql)?;
        line(name, exact, off, 300.0);
    }
    Ok(())
}

/// Medians of two sessions by turns.
fn in_turns(clients: &mut [&mut Client; 2], sql: [&str; 2]) -> Outcome<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for n in 0..2 {
            times[n].push(planned(clients[n], sql[n])?);
        }
    }
    Ok(times.map(median))
}

fn line(name: &str, ours: f64, without: f64, most: f64) {
    let cell = |v: f64| -> Cell { figure(v, 0).into() };
    row([name.into(), cell(ours), cell(without), figure(ours - without, 0).into(), at_most(most, "µs")]);
}
