//! Runs of a rollup beside the plain query over the same rows, and dashboards over both.
use hll_lab::figures::{figure, row, table};
use hll_lab::plans::{Plans, workers};
use hll_lab::{Cluster, Outcome, Tree};
use postgres::Client;

use crate::measure::{beside, by_turns, faster, median, once, ratio};

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

/// The tutorial's statement for the same columns: it counts the countries of each row's group by a window function.
const TUTORIAL: &str = "INSERT INTO by_hand SELECT site_id, date_trunc('minute', ingest_time), count(1),
           sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 1 ELSE 0 END), sum(CASE WHEN status_code BETWEEN 200 AND 299 THEN 0 ELSE 1 END),
           sum(response_time_msec) / count(1), hll_add_agg(hll_hash_text(ip_address)), jsonb_object_agg(request_country, of_country)
      FROM (SELECT *, count(1) OVER (PARTITION BY site_id, date_trunc('minute', ingest_time), request_country) AS of_country FROM http_request) h
     GROUP BY site_id, date_trunc('minute', ingest_time)";

/// The table that the tutorial's statement fills.
const BY_HAND: &str = "CREATE TABLE by_hand (site_id int, ingest_time timestamptz, request_count int, success_count int, error_count int,
    average_response_time_msec int, distinct_ip_addresses hll, country_counters jsonb, UNIQUE (site_id, ingest_time))";

/// Settings are the server's own, but that nothing is compiled: it only takes time where a query is as short as these.
const SETTINGS: &str = "SET jit = off";

const SERIAL: &str = "SET jit = off; SET max_parallel_workers_per_gather = 0";

/// The same, rows taken one by one.
const BY_ROWS: &str = "SET jit = off; SET max_parallel_workers_per_gather = 0; SET rollup.batch = off";

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
    fn new(cluster: &Cluster, db: &str, coarser: &str, settings: &str) -> Outcome<Load> {
        let mut client = cluster.database(db)?;
        client.batch_execute(&format!(
            "CREATE TABLE http_request ({COLUMNS}); {settings};
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

    /// The plain query, count and sum alone, over the last `rows` rows.
    fn plain(&self, rows: i64) -> String {
        plain(MINUTE, &format!("http_request WHERE {}", self.last(rows)))
    }

    /// The same by parallel workers. The planner takes it to have a group to each row, unless it cannot see where the
    /// minutes come from; then it has workers form groups.
    fn plain_parallel(&self, rows: i64) -> String {
        let columns = format!("site_id, {MINUTE} AS minute, response_time_msec");
        plain(
            "minute",
            &format!("(SELECT {columns} FROM http_request WHERE {} OFFSET bigint '0') r", self.last(rows)),
        )
    }
}

const MINUTE: &str = "date_trunc('minute', ingest_time)";

fn plain(minute: &str, from: &str) -> String {
    format!(
        "SELECT count(n), sum(s) FROM (SELECT site_id, {minute}, count(*) AS n, sum(response_time_msec) AS s FROM {from} GROUP BY 1, 2) s"
    )
}

/// Prints the table.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    table(
        "Rollup of the tutorial's table: sketch, counters and average",
        &["work", "ms", "against ms", "ratio"],
    );
    let mut one = Load::new(&cluster, "one", "{}", SETTINGS)?;
    one.add(500_000)?;
    one.run()?;
    small_runs(&mut one)?;
    large_runs(&cluster, &mut one)?;
    one.add(8_000_000 - one.rows)?;
    one.run()?;
    small_runs(&mut one)?;
    dashboard(&mut one)
}

/// Runs over a million rows, beside the plain query over them.
fn large_runs(cluster: &Cluster, one: &mut Load) -> Outcome<()> {
    const ROWS: i64 = 1_000_000;
    let mut three = Load::new(
        cluster,
        "three",
        "{\"http_request_1hour\": \"1 hour\", \"http_request_1day\": \"1 day\"}",
        SETTINGS,
    )?;
    let mut serial = Load::new(cluster, "serial", "{}", SERIAL)?;
    let mut rows = Load::new(cluster, "rows", "{}", BY_ROWS)?;
    let helpers = helpers(cluster, one)?;
    let mut times = [const { Vec::new() }; 8];
    for round in 0..5 {
        for load in [&mut *one, &mut three, &mut serial, &mut rows] {
            load.add(ROWS)?;
        }
        let mut turns: [usize; 4] = [0, 1, 2, 3];
        turns.rotate_left(round % 4);
        for turn in turns {
            let loads = [&mut *one, &mut three, &mut serial, &mut rows];
            times[turn].push(loads.into_iter().nth(turn).expect("four of them").run()?);
        }
        let (plain, parallel, serially) = (one.plain(ROWS), one.plain_parallel(ROWS), serial.plain(ROWS));
        times[4].push(once(&mut one.client, &plain)?);
        times[5].push(once(&mut one.client, &parallel)?);
        times[6].push(once(&mut serial.client, &serially)?);
        one.client.batch_execute("DROP TABLE IF EXISTS by_hand")?;
        let typed = format!("CREATE TABLE by_hand AS {SELECT} WHERE {} GROUP BY 1, 2", one.last(ROWS));
        times[7].push(once(&mut one.client, &typed)?);
    }
    let [run, leveled, alone, by_rows, plain, parallel, serially, typed] = times.map(median);
    let [of_run, of_plain, of_parallel] = helpers;
    let (tutorial, whose) = tutorial(cluster, ROWS)?;
    let name = "run over 1 M new rows";
    let line = |what: String, ms: f64, against: f64, with: String| {
        let [x, y] = beside(ms, against, 0, &with);
        row([what.into(), x, y, ratio(ms, against)]);
    };
    let query = "plain GROUP BY, count and sum alone";
    line(format!("{name}, {of_run}"), run, plain, format!("{query}, {of_plain}: as PostgreSQL plans it"));
    line(format!("{name}, {of_run}"), run, parallel, format!("{query}, {of_parallel}: made parallel"));
    line(format!("{name}, without parallel workers"), alone, serially, format!("{query}, without"));
    line(format!("{name}, without parallel workers"), alone, by_rows, "with `rollup.batch = off`".into());
    line(format!("{name}, {of_run}"), run, typed, "the query itself into a new table".into());
    line(format!("{name}, {of_run}"), run, tutorial, format!("the tutorial's INSERT … SELECT, {whose}"));
    line(format!("{name}, without parallel workers"), alone, tutorial, "the same INSERT … SELECT".into());
    line("three levels instead of one".into(), leveled, run, "one level".into());
    Ok(())
}

/// How many parallel workers serve a run over a million rows and the plain query, as it is and made parallel.
fn helpers(cluster: &Cluster, one: &mut Load) -> Outcome<[String; 3]> {
    const ROWS: i64 = 1_000_000;
    one.add(ROWS)?;
    let (mut client, plans) = Plans::of(cluster, "one")?;
    client.batch_execute(SETTINGS)?;
    let mut told = Vec::new();
    for sql in ["SELECT rollup_http_request()".into(), one.plain(ROWS), one.plain_parallel(ROWS)] {
        plans.told();
        client.simple_query(&sql)?;
        told.push(match plans.told().iter().map(|plan| workers(plan)).sum() {
            0 => "no parallel worker".to_string(),
            1 => "1 parallel worker".to_string(),
            n => format!("{n} parallel workers"),
        });
    }
    told.try_into().map_err(|_| "three statements".into())
}

/// Milliseconds of the tutorial's statement over so many rows, and whose sketches they are: the C extension's, where
/// its package is there.
fn tutorial(ours: &Cluster, rows: i64) -> Outcome<(f64, String)> {
    let original = Tree::original()?.map(|tree| Cluster::with(tree, "")).transpose()?;
    let whose = if original.is_some() { "sketches of the C extension" } else { "our sketches" };
    let mut client = original.as_ref().unwrap_or(ours).database("tutorial")?;
    client.batch_execute(&format!(
        "{SETTINGS}; CREATE TABLE http_request ({COLUMNS}); INSERT INTO http_request {}; {BY_HAND}",
        values(0, rows)
    ))?;
    client.batch_execute("VACUUM ANALYZE http_request")?;
    let mut times = Vec::new();
    for _ in 0..3 {
        client.batch_execute("TRUNCATE by_hand")?;
        times.push(once(&mut client, TUTORIAL)?);
    }
    Ok((median(times), whose.into()))
}

/// Runs over few rows, new and late, and over none.
fn small_runs(one: &mut Load) -> Outcome<()> {
    let (mut small, mut late, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    let hour = one.rows >= 1_200_000;
    for round in 0..5 {
        one.add(60_000)?;
        small.push(one.run()?);
        if hour {
            one.client.batch_execute(&format!(
                "INSERT INTO http_request SELECT 1, timestamptz '2026-01-01' + i * interval '1 minute', '/', 'c1', '10.0.0.{round}', 200, 5 FROM generate_series(0, 59) i"
            ))?;
            late.push(one.run()?);
        }
        for _ in 0..5 {
            idle.push(one.run()?);
        }
    }
    let raw = one.rows as f64 / 1e6;
    let name = format!("run over 60,000 new rows, {raw:.1} M raw rows");
    row([name.into(), figure(median(small), 1).into()]);
    if hour {
        let name = format!("run over 60 late rows of 60 minutes, {raw:.1} M raw rows");
        row([name.into(), figure(median(late), 1).into()]);
    }
    row([format!("idle run, {raw:.1} M raw rows").into(), figure(median(idle), 2).into()]);
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
    let raw = over("http_request", "count(*), hll_cardinality(hll_add_agg(hll_hash_text(ip_address)))");
    let (minutes, hours) = (over("http_request_1min", rolled), over("http_request_1hour", rolled));
    for (settings, how) in
        [(SERIAL, ""), ("RESET max_parallel_workers_per_gather", ", parallel workers allowed")]
    {
        one.client.batch_execute(settings)?;
        let [raw, minutes, hours] =
            by_turns(&mut [&mut one.client], [(0, &*raw), (0, &*minutes), (0, &*hours)])?;
        for (level, time) in [("minutes", minutes), ("hours", hours)] {
            let (name, against) =
                (format!("a day per site over {level}{how}"), figure(raw, 0).of("over raw rows"));
            row([name.into(), figure(time, 2).into(), against.into(), faster(time, raw, 0)]);
        }
    }
    Ok(())
}
