//! What a look at a Citus cluster costs that finds nothing new, and a run over few new rows: of a table with many shards and
//! partitions, in time of the processors that the nodes share, and in statements that reach the shards.
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::Citus;
use hll_tests::{alone, number};
use postgres::Client;

/// Processor time that all processes of the nodes have taken, in milliseconds: those that are there, and those that have ended.
fn taken(citus: &Citus) -> f64 {
    let stat = |pid: u32| -> Option<(u32, [u64; 4])> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let rest: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
        Some((rest[1].parse().ok()?, [11, 12, 13, 14].map(|n| rest[n].parse().unwrap_or(0))))
    };
    let roots: Vec<u32> = citus.nodes.iter().filter_map(|n| n.pid()).collect();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let mut ticks = 0;
    for pid in pids {
        let Some((parent, [user, system, of_children, for_children])) = stat(pid) else { continue };
        if roots.contains(&pid) {
            ticks += user + system + of_children + for_children;
        } else if roots.contains(&parent) {
            ticks += user + system;
        }
    }
    ticks as f64 * 10.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Milliseconds of wall, the median, and of processors, on average, of so many rounds.
fn costs(citus: &Citus, rounds: usize, mut one: impl FnMut()) -> (f64, f64) {
    let (mut walls, before) = (Vec::new(), taken(citus));
    for _ in 0..rounds {
        let begun = Instant::now();
        one();
        walls.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    (median(walls), (taken(citus) - before) / rounds as f64)
}

/// A table with so many shards and partitions, a day each, rows in all of them, and its rollup.
fn filled(citus: &Citus, shards: usize, days: usize) -> Client {
    let mut client = citus.connect(0).unwrap();
    client
        .batch_execute("DROP TABLE IF EXISTS events CASCADE; CREATE TABLE events (site int, at timestamptz, v int, ip text) PARTITION BY RANGE (at)")
        .unwrap();
    for day in 0..days {
        client
            .batch_execute(&format!(
                "CREATE TABLE events_{day} PARTITION OF events FOR VALUES FROM (timestamptz '2026-01-01 UTC' + {day} * interval '1 day') TO (timestamptz '2026-01-02 UTC' + {day} * interval '1 day')"
            ))
            .unwrap();
    }
    client
        .batch_execute(&format!(
            "SELECT create_distributed_table('events', 'site', shard_count => {shards}, colocate_with => 'none')"
        ))
        .unwrap();
    client
        .batch_execute("SELECT rollup.create('events_min', 'SELECT site, date_trunc(''minute'', at) AS at, count(*) AS n, sum(v) AS s, hll_add_agg(hll_hash_text(ip)) AS ips FROM events GROUP BY 1, 2', every => NULL)")
        .unwrap();
    client
        .batch_execute(&format!(
            "INSERT INTO events SELECT g % 1000, timestamptz '2026-01-01 UTC' + (g % {days}) * interval '1 day' + (g % 1000) * interval '1 min', g, g % 1000 FROM generate_series(1, 200000) g"
        ))
        .unwrap();
    client.batch_execute("SELECT rollup.run('events')").unwrap();
    client.batch_execute("VACUUM ANALYZE events").unwrap();
    client
}

fn measure(citus: &Citus, shards: usize, days: usize) {
    let mut client = filled(citus, shards, days);
    let what = format!("{shards} shards, {days} partitions");
    client.batch_execute("SELECT rollup.run('events')").unwrap();
    let (wall, cpu) = costs(citus, 20, || client.batch_execute("SELECT rollup.run('events')").unwrap());
    println!("{what}: idle run by hand {wall:.1} ms, {cpu:.1} ms of processors");
    // Ten times less than where it asks for shards and partitions; these are 1,280.
    assert!(cpu < 60.0, "{what}: an idle run by hand takes {cpu} ms of processors");
    let (wall, cpu) =
        costs(citus, 5, || citus.connect(0).unwrap().batch_execute("SELECT rollup.run('events')").unwrap());
    println!("{what}: idle run by hand in a new session {wall:.1} ms, {cpu:.1} ms of processors");
    let (wall, cpu) = costs(citus, 20, || client.batch_execute("SELECT * FROM rollup.status").unwrap());
    println!("{what}: rollup.status {wall:.1} ms, {cpu:.1} ms of processors");
    let (wall, cpu) =
        costs(citus, 5, || citus.connect(0).unwrap().batch_execute("SELECT * FROM rollup.status").unwrap());
    println!("{what}: rollup.status in a new session {wall:.1} ms, {cpu:.1} ms of processors");
    let mut walls = Vec::new();
    let mut cpus = 0.0;
    for round in 0..7 {
        client
            .batch_execute(&format!(
                "INSERT INTO events SELECT g % 1000, timestamptz '2026-01-01 UTC' + ({days} - 1) * interval '1 day' + ({round} * 10 + g % 10) * interval '1 min', g, g % 500 FROM generate_series(1, 1000) g"
            ))
            .unwrap();
        // What the connections of the INSERT take as they end is none of the run's.
        thread::sleep(Duration::from_millis(500));
        let (wall, cpu) = costs(citus, 1, || client.batch_execute("SELECT rollup.run('events')").unwrap());
        walls.push(wall);
        cpus += cpu;
    }
    println!("{what}: run over 1,000 new rows {:.1} ms, {:.1} ms of processors", median(walls), cpus / 7.0);
    client.batch_execute("INSERT INTO events SELECT 7, timestamptz '2026-01-01 UTC', g, g % 500 FROM generate_series(1, 1000) g").unwrap();
    let (wall, cpu) = costs(citus, 1, || client.batch_execute("SELECT rollup.run('events')").unwrap());
    println!("{what}: run over 1,000 new rows of one shard {wall:.1} ms, {cpu:.1} ms of processors");
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM events"),
        number(&mut client, "SELECT sum(n)::bigint FROM events_min")
    );
    // While a rollup is looked at, and while none is: in steps of a second, for which the first few are left out.
    let a_second = |every: &str, client: &mut Client| {
        client
            .batch_execute(&format!("UPDATE rollup.definition SET every = {every} WHERE name = 'events_min'"))
            .unwrap();
        thread::sleep(Duration::from_secs(5));
        let before = taken(citus);
        thread::sleep(Duration::from_secs(10));
        (taken(citus) - before) / 10.0
    };
    let (looks, none) = (a_second("'1 s'", &mut client), a_second("NULL", &mut client));
    println!("{what}: a look a second {looks:.1} ms of processors, no look {none:.1} ms");
    assert!(looks - none < 60.0, "{what}: a look takes {} ms of processors", looks - none);
    client.batch_execute("SELECT rollup.drop('events_min')").unwrap();
}

#[test]
fn a_look_costs_what_nodes_cost() {
    let _alone = alone();
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        there.batch_execute("ALTER SYSTEM SET rollup.naptime = '1s'").unwrap();
        there.batch_execute("ALTER SYSTEM SET citus.recover_2pc_interval = '60s'").unwrap();
        there.batch_execute("SELECT pg_reload_conf()").unwrap();
    }
    measure(&citus, 32, 1);
    measure(&citus, 64, 20);
}
