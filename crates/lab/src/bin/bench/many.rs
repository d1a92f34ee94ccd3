//! Two hundred rollups of a hundred tables that have nothing to do: what the server takes for them, and what those who watch
//! them wait for.
use hll_lab::figures::{figure, row, table};
use hll_lab::{Cluster, Outcome, Tree, wait_for};
use postgres::Client;
use std::time::{Duration, Instant};

use crate::measure::{at_most, by_turns};

const TABLES: usize = 100;
/// As long as this the server is looked at.
const WATCHED: Duration = Duration::from_secs(60);

fn load(client: &mut Client) -> Outcome<()> {
    for n in 0..TABLES {
        client
            .batch_execute(&format!("CREATE TABLE event_{n} (at timestamptz NOT NULL, site int, v int)"))?;
        for (width, every) in [("minute", "10 seconds"), ("hour", "10 seconds")] {
            client.batch_execute(&format!(
                "SELECT rollup.create('event_{n}_{width}', $$ SELECT date_trunc('{width}', at) AS at, site, count(*) AS n, sum(v) AS v FROM event_{n} GROUP BY 1, 2 $$, every => '{every}')"
            ))?;
        }
        client.batch_execute(&format!(
            "INSERT INTO event_{n} SELECT timestamptz '2026-01-01' + i * interval '1 minute', i % 5, i FROM generate_series(1, 1000) i"
        ))?;
    }
    Ok(())
}

/// The same tables and rows, without rollups.
fn load_alone(client: &mut Client) -> Outcome<()> {
    for n in 0..TABLES {
        client.batch_execute(&format!(
            "CREATE TABLE event_{n} (at timestamptz NOT NULL, site int, v int);
             INSERT INTO event_{n} SELECT timestamptz '2026-01-01' + i * interval '1 minute', i % 5, i FROM generate_series(1, 1000) i"
        ))?;
    }
    Ok(())
}

/// Partitioned tables that are kept ahead for a week, with a rollup each.
fn load_partitioned(client: &mut Client) -> Outcome<()> {
    for n in 0..TABLES {
        client.batch_execute(&format!(
            "CREATE TABLE event_{n} (at timestamptz NOT NULL, site int, v int) PARTITION BY RANGE (at);
             SELECT rollup.partition('event_{n}', '1 day', ahead => '7 days');
             SELECT rollup.create('event_{n}_minute', $$ SELECT date_trunc('minute', at) AS at, site, count(*) AS n, sum(v) AS v FROM event_{n} GROUP BY 1, 2 $$, every => '10 seconds');
             INSERT INTO event_{n} SELECT now() + i * interval '1 minute', i % 5, i FROM generate_series(1, 1000) i"
        ))?;
    }
    Ok(())
}

/// Seconds that a process has worked: as the scheduler of the system counts them, which is finer than ticks of the clock.
fn alone(pid: i64) -> f64 {
    let spent = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok();
    let nanoseconds = spent.and_then(|s| s.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

/// Seconds that the children of a process had worked which have ended.
fn ended(pid: i64) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces in it. Ticks of the clock, a hundred a second.
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13).take(2);
    Some(fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

/// What all processes of the server have worked so far, in seconds.
fn worked(cluster: &Cluster) -> Outcome<f64> {
    let server = i64::from(cluster.pid().ok_or("the server does not run")?);
    let mut all = alone(server) + ended(server).ok_or("the server's own process cannot be looked at")?;
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i64>().ok());
        if parent == Some(server) {
            all += alone(pid);
        }
    }
    Ok(all)
}

/// A server with these lines in its configuration, and without what it does by itself for tables that were just made.
fn server(settings: &str) -> Outcome<Cluster> {
    Cluster::with(Tree::prepare()?, &format!("autovacuum = off\n{settings}"))
}

fn merged(client: &mut Client, rollups: usize) {
    let merged = "SELECT count(*) FROM rollup.status WHERE lag_rows = 0 AND runs > 0";
    wait_for("all rollups have run", 120, || {
        client.query_one(merged, &[]).is_ok_and(|row| row.get::<_, i64>(0) == rollups as i64)
    });
}

/// Medians of both views.
fn views(client: &mut Client) -> Outcome<[f64; 2]> {
    by_turns(&mut [client], [(0, "TABLE rollup.status"), (0, "TABLE rollup.metrics")])
}

/// Prints the table.
pub fn run() -> Outcome<()> {
    // As it is where nobody sets anything.
    let (ours, bare) = (server("shared_preload_libraries = 'hll'\n")?, server("")?);
    let mut client = ours.database("many")?;
    let mut other = bare.connect("postgres")?;
    load(&mut client)?;
    load_alone(&mut other)?;
    client.batch_execute("VACUUM ANALYZE")?;
    other.batch_execute("VACUUM ANALYZE")?;
    merged(&mut client, 2 * TABLES);
    let [status, metrics] = views(&mut client)?;
    client.batch_execute("CHECKPOINT")?;
    other.batch_execute("CHECKPOINT")?;
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'rollup worker'";
    wait_for("nothing is left to do", 120, || {
        client.query_one(workers, &[]).is_ok_and(|row| row.get::<_, i64>(0) == 0)
    });
    // Both at the same time, on the same machine.
    let (begun, before) = (Instant::now(), [worked(&ours)?, worked(&bare)?]);
    std::thread::sleep(WATCHED);
    let passed = begun.elapsed().as_secs_f64();
    let share = |now: f64, before: f64| (now - before) / passed * 100.0;
    let [share, alone] = [share(worked(&ours)?, before[0]), share(worked(&bare)?, before[1])];
    let mut kept = ours.database("kept")?;
    load_partitioned(&mut kept)?;
    kept.batch_execute("VACUUM ANALYZE")?;
    merged(&mut kept, TABLES);
    let [kept_status, kept_metrics] = views(&mut kept)?;
    table(
        "200 rollups of 100 tables, every 10 seconds, with nothing to merge",
        &["work", "figure", "to reach"],
    );
    row(["`rollup.status`".into(), figure(status, 1).of("ms").into(), at_most(20.0, "ms")]);
    row(["`rollup.metrics`".into(), figure(metrics, 1).of("ms").into(), at_most(20.0, "ms")]);
    row(["the whole server, of one core".into(), figure(share, 3).of("%").into(), at_most(0.3, "%")]);
    row([
        "a server with the same tables and without the extension".into(),
        figure(alone, 3).of("%").into(),
        "".into(),
    ]);
    row([
        "`rollup.status` of 100 rollups whose sources are partitioned, by day, and kept ahead for a week"
            .into(),
        figure(kept_status, 1).of("ms").into(),
        at_most(20.0, "ms"),
    ]);
    row(["`rollup.metrics` of them".into(), figure(kept_metrics, 1).of("ms").into(), at_most(20.0, "ms")]);
    Ok(())
}
