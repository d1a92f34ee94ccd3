//! Percentiles: the pure kernel by itself; the aggregates beside sorting, beside `avg`, and beside Debian's `tdigest`.
use std::hint::black_box;
use std::time::Instant;

use hll_ddsketch::{DdSketch, Heap};
use hll_lab::figures::{Figure, figure, note, row, table};
use hll_lab::{Cluster, OURS, Outcome, Tree};
use postgres::Client;

use crate::counters::peak_memory;
use crate::measure::{at_least, at_most, beside, faster, in_turn, ratio};

/// Latencies from 1 ms to a minute, most of them about 200 ms; hours of ten sites have some 400 buckets each.
const DATA: &str = "
  CREATE TABLE latency AS SELECT i % 10 AS site, i % 10000 AS many,
      greatest(1, least(60000, exp(5.3 + 1.2 * (random() + random() + random() + random() + random() + random() - 3) * sqrt(2)))) AS ms
    FROM generate_series(1, 1000000) i;
  CREATE TABLE sketch AS SELECT many, ddsketch_agg(20 * exp(i * 0.01)) AS s FROM generate_series(1, 2000) many, generate_series(1, 650) i GROUP BY many;
  CREATE TABLE part AS SELECT i % 2000 AS few, i / 2000 AS n, i % 10000 AS many, i / 10000 AS m FROM generate_series(0, 999999) i";

/// Nanoseconds that each of so many steps takes: the lowest tenth of many short rounds, in which nothing else ran. What the
/// kernel counts as processor time comes in ticks of milliseconds, and has the rounds when others shared the core.
fn nanoseconds(steps: usize, mut round: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < 101 || begun.elapsed().as_secs_f64() < 1.0 {
        let start = Instant::now();
        round();
        times.push(start.elapsed().as_secs_f64() * 1e9 / steps as f64);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 10]
}

/// Numbers that look random, between 0 and 1.
fn uniform(seed: &mut u64) -> f64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 11) as f64 / (1u64 << 53) as f64
}

/// A row that compares with nothing but what is to be reached: at most so much.
fn alone(name: &str, measured: Figure, most: Option<(f64, &str)>) {
    let goal = most.map_or("".into(), |(most, unit)| at_most(most, unit));
    row([name.into(), measured.into(), "".into(), "".into(), goal]);
}

fn kernel() -> Outcome<()> {
    const VALUES: usize = 1_000_000;
    const ROUND: usize = 10_000;
    let mut seed = 88_172_645_463_325_252;
    let mut latency = || {
        let normal = (0..12).map(|_| uniform(&mut seed)).sum::<f64>() - 6.0;
        ((normal * 1.5).exp() * 245.0).clamp(1.0, 60_000.0)
    };
    let values: Vec<f64> = (0..VALUES).map(|_| latency()).collect();
    let mut sketch = DdSketch::new(5, Heap)?;
    let mut parts = values.chunks(ROUND).cycle();
    let add = nanoseconds(ROUND, || {
        for value in parts.next().unwrap_or_default() {
            black_box(sketch.add(black_box(*value)).is_ok());
        }
    });
    alone("a value added, in the kernel", figure(add, 1).of("ns"), Some((12.0, "ns")));
    let of = |count: i32| -> Outcome<DdSketch> {
        let mut sketch = DdSketch::new(5, Heap)?;
        (0..count).try_for_each(|i| {
            sketch.add_times(20.0 * (f64::from(i) * 0.02166).exp(), i64::from(1 + i % 150))
        })?;
        Ok(sketch)
    };
    let (one, bytes) = (of(300)?, of(300)?.encode());
    let mut whole = of(300)?;
    let merge = nanoseconds(100, || {
        (0..100).for_each(|_| black_box(whole.union_bytes(black_box(&bytes))).unwrap_or_default())
    });
    let name = format!("{} buckets added, from stored bytes, in the kernel", one.buckets().len());
    alone(&name, figure(merge, 0).of("ns"), Some((400.0, "ns")));
    let written = nanoseconds(100, || (0..100).for_each(|_| drop(black_box(one.encode()))));
    alone("the same written, in the kernel", figure(written, 0).of("ns"), None);
    for (number, spread, most) in [(1_000_000, 1.5, 1200), (10_000, 1.5, 400)] {
        let mut sketch = DdSketch::new(5, Heap)?;
        let mut latency = || {
            let normal = (0..12).map(|_| uniform(&mut seed)).sum::<f64>() - 6.0;
            ((normal * spread).exp() * 245.0).clamp(1.0, 60_000.0)
        };
        (0..number).try_for_each(|_| sketch.add(latency()))?;
        let (buckets, bytes) = (sketch.buckets().len(), sketch.encode().len());
        let name = format!("stored, {number} latencies from 1 ms to 60 s in {buckets} buckets");
        alone(&name, figure(bytes as f64, 0).of("bytes"), Some((f64::from(most), "bytes")));
    }
    Ok(())
}

/// Both ways in one process, with the memory that they ask for.
const ONE_PROCESS: &str = "SET jit = off; SET max_parallel_workers_per_gather = 0; SET work_mem = '256MB'";

fn prepared(cluster: &Cluster) -> Outcome<Client> {
    let mut client = cluster.database("percentiles")?;
    client.batch_execute(ONE_PROCESS)?;
    client.batch_execute("SELECT setseed(0.5)")?;
    client.batch_execute(DATA)?;
    client.batch_execute("VACUUM ANALYZE")?;
    Ok(client)
}

/// Prints the table.
pub fn run() -> Outcome<()> {
    table("Percentiles", &["work", "ours ms", "against ms", "ratio", "to reach"]);
    kernel()?;
    let digest = Tree::beside("tdigest")?;
    let has_digest = digest.is_some();
    let cluster = Cluster::with(digest.map_or_else(Tree::prepare, Ok)?, OURS)?;
    let mut client = prepared(&cluster)?;
    let (a, b) = in_turn(&mut client, "SELECT ddsketch_agg(ms) FROM latency", "SELECT avg(ms) FROM latency")?;
    let [x, y] = beside(a, b, 0, "`avg(ms)`");
    row(["`ddsketch_agg(ms)`, 1 M rows".into(), x, y, ratio(a, b), at_most(1.25, "x")]);
    // What no aggregate can do without: the rows are read, and each is handed over.
    let (scan, least) = in_turn(&mut client, "SELECT count(*) FROM latency", "SELECT max(ms) FROM latency")?;
    let [x, y] = beside(scan, least, 0, "`max(ms)`");
    row(["`count(*)`, 1 M rows".into(), x, y, ratio(scan, least), "".into()]);
    let (a, b) = in_turn(
        &mut client,
        "SELECT ddsketch_percentile(ddsketch_agg(ms), 0.99) FROM latency",
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) FROM latency",
    )?;
    let [x, y] = beside(a, b, 0, "by sorting in memory (`percentile_cont`)");
    row(["the 99th percentile of 1 M rows, one process".into(), x, y, faster(a, b, 1), at_least(8.0)]);
    // A sort for an ordered-set aggregate is one process's, and goes to disk past work_mem.
    client.batch_execute("RESET max_parallel_workers_per_gather; RESET work_mem; RESET jit")?;
    let (a, b) = in_turn(
        &mut client,
        "SELECT ddsketch_percentile(ddsketch_agg(ms), 0.99) FROM latency",
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) FROM latency",
    )?;
    let [x, y] = beside(a, b, 0, "`percentile_cont`");
    row(["the same with PostgreSQL's own settings".into(), x, y, faster(a, b, 1), at_least(8.0)]);
    client.batch_execute(ONE_PROCESS)?;
    let (a, b) = in_turn(
        &mut client,
        "SELECT approx_percentile(ms, 0.99) FROM latency GROUP BY site",
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) FROM latency GROUP BY site",
    )?;
    let [x, y] = beside(a, b, 0, "by sorting (`percentile_cont`)");
    row(["`approx_percentile`, ten groups of 100,000 rows".into(), x, y, faster(a, b, 1), at_least(8.0)]);
    if has_digest {
        beside_tdigest(&mut client)?;
    } else {
        note("Not beside Debian's `tdigest`: its package is not there.".into(), &[]);
    }
    for (groups, buckets, most, sql) in [
        (2_000, 500, 4.5, "SELECT few, ddsketch_agg(exp(n * 0.0217)) FROM part GROUP BY 1"),
        (10_000, 50, 1.0, "SELECT many, ddsketch_agg(exp(m * 0.0217)) FROM part WHERE m < 50 GROUP BY 1"),
    ] {
        let kilobytes = peak_memory(&mut client, sql)? / f64::from(groups) / 1024.0;
        let name = format!("memory of {groups} groups of {buckets} buckets");
        alone(&name, figure(kilobytes, 2).of("KB a group"), Some((most, "KB")));
    }
    Ok(())
}

/// Compared with the extension tdigest.
fn beside_tdigest(client: &mut Client) -> Outcome<()> {
    client.batch_execute("CREATE EXTENSION tdigest")?;
    client.batch_execute("CREATE TABLE digest AS SELECT many, tdigest(20 * exp(i * 0.01), 100) AS d FROM generate_series(1, 2000) many, generate_series(1, 650) i GROUP BY many")?;
    client.batch_execute("VACUUM ANALYZE digest")?;
    let (a, b) = in_turn(
        client,
        "SELECT ddsketch_percentile(ddsketch_agg(ms), 0.99) FROM latency",
        "SELECT tdigest_percentile(ms, 100, 0.99) FROM latency",
    )?;
    let [x, y] = beside(a, b, 0, "by `tdigest`, compression 100");
    row(["the 99th percentile of 1 M rows".into(), x, y, faster(a, b, 1), at_least(3.0)]);
    let (a, b) = in_turn(
        client,
        "SELECT ddsketch_percentile(ddsketch_union_agg(s), 0.99) FROM sketch",
        "SELECT tdigest_percentile(d, 0.99) FROM digest",
    )?;
    let [x, y] = beside(a, b, 1, "by `tdigest`, compression 100");
    row(["2,000 sketches of 300 buckets united".into(), x, y, faster(a, b, 1)]);
    Ok(())
}
