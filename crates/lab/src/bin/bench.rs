//! One measurement: how many values a second `hll_add_agg` takes.
use std::time::Instant;

use hll_lab::{Cluster, Outcome};

fn main() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let mut client = cluster.database("bench")?;
    let rows = 1_000_000;
    client.batch_execute(&format!(
        "SET max_parallel_workers_per_gather = 0;
         CREATE TABLE v AS SELECT g AS x FROM generate_series(1, {rows}) g; ANALYZE v"
    ))?;
    let mut measure = |sql: &str| -> Outcome<f64> {
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            client.query(sql, &[])?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(best)
    };
    let count = measure("SELECT count(x) FROM v")?;
    let sketch = measure("SELECT hll_cardinality(hll_add_agg(hll_hash_integer(x))) FROM v")?;
    println!("count(x) over {rows} rows: {:.1} ms", count * 1e3);
    println!(
        "hll_add_agg(hll_hash_integer(x)): {:.1} ms, {:.1} million values a second",
        sketch * 1e3,
        rows as f64 / sketch / 1e6
    );
    Ok(())
}
