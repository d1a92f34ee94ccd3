//! The JSONB counters beside the SQL that people write for them.
use hll_lab::figures::{figure, row, table};
use hll_lab::{Cluster, Outcome};
use postgres::Client;

use crate::measure::{at_least, at_most, beside, faster, in_turn, ratio};

const DATA: &str = "
  CREATE TABLE hit AS SELECT (i % 20)::int AS site, timestamptz '2026-01-01' + i * interval '1680 microseconds' AS at,
      'c' || (i::bigint * 7919 % 3)::text AS few, 'c' || (i::bigint * 7919 % 250)::text AS many, i % 900 AS ms FROM generate_series(1, 1000000) i;
  CREATE TABLE counter AS SELECT i AS id, (SELECT jsonb_object_agg('key' || k, (i + k) % 100) FROM generate_series(1, 50) k) AS c FROM generate_series(1, 100000) i;
  CREATE TABLE part AS SELECT i FROM generate_series(0, 499999) i;
  CREATE FUNCTION merge_sql(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_object_agg(key, n) FROM (SELECT key, sum(value::numeric) AS n
      FROM (SELECT * FROM jsonb_each_text(a) UNION ALL SELECT * FROM jsonb_each_text(b)) u GROUP BY key) s $$";

/// Prints the table.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let mut client = cluster.database("counters")?;
    client.batch_execute("SET jit = off; SET max_parallel_workers_per_gather = 0; SET work_mem = '256MB'")?;
    client.batch_execute(DATA)?;
    client.batch_execute("VACUUM ANALYZE")?;
    table("JSONB counters", &["work", "ours ms", "against ms", "ratio", "to reach"]);
    let group = "GROUP BY site, date_trunc('minute', at)";
    // What nothing reads, the planner leaves out.
    let plain = format!("SELECT sum(n), sum(t) FROM (SELECT count(*) AS n, sum(ms) AS t FROM hit {group}) s");
    for key in ["few", "many"] {
        let ours = format!(
            "SELECT sum(n), sum(t), count(c) FROM (SELECT count(*) AS n, sum(ms) AS t, jsonb_counter_agg({key}) AS c FROM hit {group}) s"
        );
        let (a, b) = in_turn(&mut client, &ours, &plain)?;
        let name = format!("`jsonb_counter_agg`, {key} keys, with count and sum");
        let [x, y] = beside(a, b, 0, "without");
        row([name.into(), x, y, ratio(a, b), at_most(1.35, "x")]);
        let window = format!(
            "SELECT sum(n), count(c) FROM (SELECT site, minute, sum(n) AS n, jsonb_object_agg(key, n) AS c FROM (
               SELECT DISTINCT site, date_trunc('minute', at) AS minute, {key} AS key,
                      count(*) OVER (PARTITION BY site, date_trunc('minute', at), {key}) AS n FROM hit) w GROUP BY site, minute) s"
        );
        let (a, b) = in_turn(&mut client, &ours, &window)?;
        let [x, y] = beside(a, b, 0, "by window function");
        row(["the same".into(), x, y, faster(a, b, 1), at_least(2.5)]);
    }
    let (a, b) = in_turn(
        &mut client,
        "SELECT jsonb_counter_merge_agg(c) FROM counter",
        "SELECT jsonb_object_agg(key, n) FROM (SELECT key, sum(value::numeric) AS n FROM counter, jsonb_each_text(c) GROUP BY key) s",
    )?;
    let [x, y] = beside(a, b, 0, "in SQL");
    let name = "`jsonb_counter_merge_agg`, 100,000 counters of 50 keys";
    row([name.into(), x, y, faster(a, b, 1), at_least(8.0)]);
    let (a, b) = in_turn(
        &mut client,
        "SELECT count(jsonb_counter_merge(c, c)) FROM counter WHERE id <= 10000",
        "SELECT count(merge_sql(c, c)) FROM counter WHERE id <= 10000",
    )?;
    let [x, y] = beside(a, b, 0, "in SQL");
    row(["`jsonb_counter_merge(a, b)`, 50 keys each".into(), x, y, faster(a, b, 1), at_least(10.0)]);
    for (name, sql) in [
        ("counted", "SELECT i % 10000, jsonb_counter_agg('key' || i / 10000) FROM part GROUP BY 1"),
        (
            "counted a group at a time",
            "SELECT i / 50, jsonb_counter_agg('key' || i % 50) FROM part GROUP BY 1",
        ),
        ("merged", "SELECT id % 10000, jsonb_counter_merge_agg(c) FROM counter WHERE id <= 20000 GROUP BY 1"),
    ] {
        let bytes = peak_memory(&mut client, sql)?;
        let name = format!("memory of 10,000 groups of 50 keys, {name}");
        let held = figure(bytes / 10_000.0 / 1024.0, 1).of("KB a group");
        row([name.into(), held.into(), "".into(), "".into(), at_most(6.0, "KB")]);
    }
    Ok(())
}

/// Bytes that the statement's groups held at their peak, hash table and all.
pub fn peak_memory(client: &mut Client, sql: &str) -> Outcome<f64> {
    let explained: String = client
        .query(&format!("EXPLAIN (ANALYZE, TIMING OFF) {sql}"), &[])?
        .iter()
        .map(|row| row.get::<_, String>(0) + "\n")
        .collect();
    let kilobytes = explained.split_once("Memory Usage: ").and_then(|(_, rest)| rest.split_once("kB"));
    let whole = explained.contains("Batches: 1 ")
        || explained.contains("Batch Aggregate") && !explained.contains("Left to the Executor");
    match kilobytes.filter(|_| whole) {
        Some((kilobytes, _)) => Ok(kilobytes.trim().parse::<f64>()? * 1024.0),
        None => Err(format!("not one aggregate in memory:\n{explained}").into()),
    }
}
