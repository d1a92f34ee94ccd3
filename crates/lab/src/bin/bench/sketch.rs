//! The type `hll` beside the C extension that it answers to: same PostgreSQL, same data, by turns.
use std::fs;

use hll_lab::figures::{Cell, exact, figure, note, row, table};
use hll_lab::{Cluster, Outcome, Tree};
use postgres::Client;

use crate::counters::peak_memory;
use crate::measure::{by_turns, in_turn, median, once};

/// Sketches and rows; the C extension makes the same bytes of the same statements.
const DATA: &str = "
  CREATE EXTENSION IF NOT EXISTS hll;
  CREATE TABLE rows AS SELECT i::bigint AS x, (i % 10000)::int AS g FROM generate_series(1, 1000000) i;
  CREATE TABLE texts AS SELECT lpad(i::text, 16, 'x') AS t FROM generate_series(1, 1000000) i;
  CREATE TABLE sparse AS SELECT g, hll_add_agg(hll_hash_bigint(g * 1000 + k)) AS v FROM generate_series(1, 20000) g, generate_series(1, 300) k GROUP BY g;
  CREATE TABLE dense AS SELECT g, hll_add_agg(hll_hash_bigint(g * 100000 + k)) AS v FROM generate_series(1, 5000) g, generate_series(1, 3000) k GROUP BY g;
  CREATE TABLE dense14 AS SELECT g, hll_add_agg(hll_hash_bigint(g * 100000 + k), 14) AS v FROM generate_series(1, 500) g, generate_series(1, 30000) k GROUP BY g;";

/// Name, statement, what it does besides (reading the values: subtracted in the column "alone"), and what is to be
/// reached: alone, where reading is known.
const OPERATIONS: [(&str, &str, &str, f64); 16] = [
    ("`hll_cardinality` SPARSE", "SELECT sum(hll_cardinality(v)) FROM sparse", SPARSE, 6.0),
    ("`hll_cardinality` FULL 11", "SELECT sum(hll_cardinality(v)) FROM dense", DENSE, 10.0),
    ("`hll_cardinality` FULL 14", "SELECT sum(hll_cardinality(v)) FROM dense14", DENSE14, 12.0),
    ("`hll_union_agg` SPARSE", "SELECT #hll_union_agg(v) FROM sparse", SPARSE, 5.0),
    ("`hll_union_agg` FULL", "SELECT #hll_union_agg(v) FROM dense", DENSE, 10.0),
    ("`hll_union` SPARSE", "SELECT count(v || v) FROM sparse", SPARSE, 8.0),
    ("`hll_union` FULL", "SELECT count(v || v) FROM dense", DENSE, 12.0),
    ("`hll_add` SPARSE", "SELECT count(hll_add(v, hll_hash_integer(g))) FROM sparse", SPARSE, 8.0),
    ("`hll_add` FULL", "SELECT count(hll_add(v, hll_hash_integer(g))) FROM dense", DENSE, 10.0),
    ("`hll_type` SPARSE", "SELECT count(hll_type(v)) FROM sparse", SPARSE, 15.0),
    ("`hll_log2m` FULL 11", "SELECT count(hll_log2m(v)) FROM dense", DENSE, 15.0),
    ("`hll_log2m` FULL 14", "SELECT count(hll_log2m(v)) FROM dense14", DENSE14, 15.0),
    ("`hll_add_agg(hll_hash_bigint(x))`", "SELECT hll_add_agg(hll_hash_bigint(x)) FROM rows", "", 1.1),
    (
        "the same, 10,000 groups",
        "SELECT count(h) FROM (SELECT hll_add_agg(hll_hash_bigint(x)) AS h FROM rows GROUP BY g) s",
        "",
        3.5,
    ),
    ("`hll_add_agg(hll_hash_text(x))`", "SELECT hll_add_agg(hll_hash_text(t)) FROM texts", "", 1.1),
    (
        "window of 30 FULL",
        "SELECT count(h) FROM (SELECT hll_union_agg(v) OVER (ORDER BY g ROWS 29 PRECEDING) AS h FROM dense WHERE g <= 500) s",
        "SELECT count(h) FROM (SELECT count(v) OVER (ORDER BY g ROWS 29 PRECEDING) AS h FROM dense WHERE g <= 500) s",
        20.0,
    ),
];
const SPARSE: &str = "SELECT count(hll_send(v)) FROM sparse";
const DENSE: &str = "SELECT count(hll_send(v)) FROM dense";
const DENSE14: &str = "SELECT count(hll_send(v)) FROM dense14";

fn prepared(cluster: &Cluster) -> Outcome<Client> {
    let mut client = cluster.connect("postgres")?;
    client.batch_execute("SET jit = off; SET max_parallel_workers_per_gather = 0; SET work_mem = '2GB'")?;
    client.batch_execute(DATA)?;
    client.batch_execute("VACUUM ANALYZE")?;
    Ok(client)
}

/// Highest memory that a backend of its own ever had for `sql`, in KiB.
fn peak(cluster: &Cluster, sql: &str) -> Outcome<f64> {
    let mut client = cluster.connect("postgres")?;
    client.batch_execute("SET max_parallel_workers_per_gather = 0; SET work_mem = '4GB'")?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    once(&mut client, sql)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> f64 {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0)
    };
    // Pages of shared buffers that it touched are not its own.
    Ok(field("VmHWM") - field("RssShmem") - field("RssFile"))
}

/// Prints the tables.
pub fn run() -> Outcome<()> {
    let settings = "shared_buffers = '1GB'\nmax_parallel_workers = 4\n";
    let ours = Cluster::with(Tree::prepare()?, &format!("shared_preload_libraries = 'hll'\n{settings}"))?;
    let mut client = prepared(&ours)?;
    match Tree::original()? {
        None => note("Not beside the C extension: its package is not there.".into(), &[]),
        Some(tree) => beside(&ours, &mut client, &Cluster::with(tree, settings)?)?,
    }
    alone(&mut client)
}

fn one(ms: f64) -> Cell {
    figure(ms, 1).into()
}

fn beside(ours: &Cluster, client: &mut Client, original: &Cluster) -> Outcome<()> {
    let mut theirs = prepared(original)?;
    let version: String =
        theirs.query_one("SELECT extversion FROM pg_extension WHERE extname = 'hll'", &[])?.get(0);
    table(
        &format!("Time of postgresql-hll {version} (C) divided by ours"),
        &["operation", "C ms", "ours ms", "C / ours", "alone", "to reach"],
    );
    for (name, sql, reading, goal) in OPERATIONS {
        let mut sessions = [&mut theirs, &mut *client];
        if reading.is_empty() {
            let [c, r] = by_turns(&mut sessions, [(0, sql), (1, sql)])?;
            row([name.into(), one(c), one(r), figure(c / r, 2).into(), "".into(), exact(goal).into()]);
            continue;
        }
        let [c, r, c0, r0] = by_turns(&mut sessions, [(0, sql), (1, sql), (0, reading), (1, reading)])?;
        // What takes less than a hundredth of the reading cannot be told from nothing.
        let (least, own) = (r0 / 100.0, r - r0);
        let sign = if own < least { ">" } else { "" };
        let alone = figure((c - c0) / own.max(least), 1).after(sign);
        row([name.into(), one(c), one(r), figure(c / r, 2).into(), alone.into(), exact(goal).into()]);
    }
    let groups = "SELECT count(h) FROM (SELECT hll_add_agg(hll_hash_bigint(x % 5000000 + g)) AS h FROM
        (SELECT k AS g, k * 500 + n AS x FROM generate_series(1, 10000) k, generate_series(1, 500) n) d GROUP BY g) s";
    let plain = "SELECT count(h) FROM (SELECT sum(x) AS h FROM
        (SELECT k AS g, k * 500 + n AS x FROM generate_series(1, 10000) k, generate_series(1, 500) n) d GROUP BY g) s";
    let per_group =
        |cluster: &Cluster| -> Outcome<f64> { Ok((peak(cluster, groups)? - peak(cluster, plain)?) / 1e4) };
    let (c, r) = (per_group(original)?, per_group(ours)?);
    note(
        format!(
            "Memory of a group, 500 distinct values, 10,000 groups: C {c:.1} KiB, ours {r:.1} KiB (to reach: 4)"
        ),
        &[("c_kib", c), ("ours_kib", r)],
    );
    Ok(())
}

fn alone(client: &mut Client) -> Outcome<()> {
    let serial = "SELECT hll_add_agg(hll_hash_bigint(x)) FROM rows, generate_series(1, 4)";
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..5 {
        client.batch_execute("SET max_parallel_workers_per_gather = 0")?;
        times.0.push(once(client, serial)?);
        client.batch_execute(
            "SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off;
             SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0",
        )?;
        times.1.push(once(client, serial)?);
    }
    client.batch_execute(
        "RESET ALL; SET jit = off; SET max_parallel_workers_per_gather = 0; SET work_mem = '2GB'",
    )?;
    let (one, two) = (median(times.0), median(times.1));
    let ratio = one / two;
    note(
        format!(
            "2 parallel workers against one process: {one:.0} ms / {two:.0} ms = {ratio:.2} (to reach: 1.6)"
        ),
        &[("one_process_ms", one), ("two_workers_ms", two)],
    );
    interleaved(client)?;
    let approx = "SELECT count(*) FROM pg_proc WHERE proname = 'approx_count_distinct'";
    if client.query_one(approx, &[])?.get::<_, i64>(0) > 0 {
        let (exact, sketch) = in_turn(
            client,
            "SELECT count(DISTINCT t) FROM texts",
            "SELECT approx_count_distinct(t) FROM texts",
        )?;
        let ratio = exact / sketch;
        note(
            format!(
                "`approx_count_distinct(text)` against `count(DISTINCT text)`, 1 M distinct: {exact:.0} ms / {sketch:.0} ms = {ratio:.1} (to reach: 3)"
            ),
            &[("exact_ms", exact), ("sketch_ms", sketch)],
        );
    }
    Ok(())
}

/// Rows of many groups that come by turns, a page at a time and by the executor.
fn interleaved(client: &mut Client) -> Outcome<()> {
    client.batch_execute(
        "CREATE TABLE interleaved AS SELECT i % 10000 AS g, i FROM generate_series(0, 1999999) i",
    )?;
    client.batch_execute("VACUUM ANALYZE interleaved")?;
    let over =
        |call: &str| format!("SELECT count(h) FROM (SELECT {call} AS h FROM interleaved GROUP BY g) s");
    let (sketches, plain) = (over("hll_add_agg(hll_hash_bigint(i))"), over("sum(i)"));
    for (how, setting) in [("a page at a time", "on"), ("by the executor", "off")] {
        client.batch_execute(&format!("SET rollup.batch = {setting}"))?;
        let (ours, sum) = in_turn(client, &sketches, &plain)?;
        let kilobytes =
            peak_memory(client, "SELECT hll_add_agg(hll_hash_bigint(i)) FROM interleaved GROUP BY g")?
                / 1e4
                / 1024.0;
        let ratio = ours / sum;
        note(
            format!(
                "`hll_add_agg` {how}, 10,000 groups of 200 values that come by turns, against `sum(i)`: {ours:.0} ms / {sum:.0} ms = {ratio:.2} (to reach: 1.5), {kilobytes:.1} KB a group (to reach: 3.5)"
            ),
            &[("sketches_ms", ours), ("sum_ms", sum), ("kilobytes", kilobytes)],
        );
    }
    client.batch_execute("RESET rollup.batch")?;
    Ok(())
}
