//! Two hundred rollups of a hundred tables that have nothing to do: what the server takes for them, and what those who watch
//! them wait for.
use hll_lab::figures::{figure, row, table};
use hll_lab::{Cluster, Outcome, wait_for};
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

/// Ticks of the clock, a hundred a second, that a process has worked, with those of its children that have ended.
fn ticks(pid: i64, with_children: bool) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces in it.
    let fields: Vec<u64> =
        stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4).filter_map(|f| f.parse().ok()).collect();
    Some(fields.iter().take(if with_children { 4 } else { 2 }).sum())
}

/// What all processes of the server have worked so far, in seconds.
fn worked(client: &mut Client) -> Outcome<f64> {
    let server: i64 =
        client.query_one("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::bigint", &[])?.get(0);
    let mut all = ticks(server, true).ok_or("the server's own process cannot be looked at")?;
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i64>().ok());
        if parent == Some(server) {
            all += ticks(pid, false).unwrap_or(0);
        }
    }
    Ok(all as f64 / 100.0)
}

/// Prints the table.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let mut client = cluster.database("many")?;
    // What the server does by itself for tables that were just made is none of this.
    client.batch_execute("ALTER SYSTEM SET autovacuum = off")?;
    client.batch_execute("SELECT pg_reload_conf()")?;
    load(&mut client)?;
    client.batch_execute("VACUUM ANALYZE")?;
    let merged = "SELECT count(*) FROM rollup.status WHERE lag_rows = 0 AND runs > 0";
    wait_for("all rollups have run", 120, || {
        client.query_one(merged, &[]).is_ok_and(|row| row.get::<_, i64>(0) == 2 * TABLES as i64)
    });
    let [status, metrics] =
        by_turns(&mut [&mut client], [(0, "TABLE rollup.status"), (0, "TABLE rollup.metrics")])?;
    client.batch_execute("CHECKPOINT")?;
    let (begun, before) = (Instant::now(), worked(&mut client)?);
    std::thread::sleep(WATCHED);
    let share = (worked(&mut client)? - before) / begun.elapsed().as_secs_f64() * 100.0;
    table(
        "200 rollups of 100 tables, every 10 seconds, with nothing to merge",
        &["work", "figure", "to reach"],
    );
    row(["`rollup.status`".into(), figure(status, 1).of("ms").into(), at_most(20.0, "ms")]);
    row(["`rollup.metrics`".into(), figure(metrics, 1).of("ms").into(), at_most(20.0, "ms")]);
    row(["the whole server, of one core".into(), figure(share, 2).of("%").into(), at_most(0.3, "%")]);
    Ok(())
}
