//! Writers of every kind on every node of a Citus cluster, runs all the while, and everything that can go wrong:
//! statements cancelled, sessions terminated, processes killed and stopped, servers crashed, shards moved and split,
//! tables made anew, a node added and taken away. TORTURE_SECONDS says for how long, TORTURE_SEED what the dice begin with.
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Citus, wait_for, wait_until};
use hll_tests::load::Dice;
use hll_tests::nodes::{KINDS, StopAtEnd, nothing_in_doubt, prepared, run_and_compare, whole_differs};
use hll_tests::number;
use postgres::{Client, Config, NoTls};

/// Who writes through a worker holds it, and who has Citus make a table anew has it alone: Citus locks the table on the
/// coordinator, and loses rows that are written through other nodes meanwhile, with a rollup or without.
static WORKERS: RwLock<()> = RwLock::new(());

/// One transaction of a writer, on a node.
fn write(client: &mut Client, dice: &mut Dice, node: usize) -> Result<(), postgres::Error> {
    let (site, seed, rows) = (dice.roll(40), dice.roll(1 << 30), 1 + dice.roll(12));
    // Many within a minute, whose sketches grow, and many minutes.
    let late = if dice.roll(2) == 0 { dice.roll(5_000) } else { dice.roll(30) };
    let columns = "(site_id, ingest_time, ip_address, request_country, status_code, response_time_msec)";
    let values = format!(
        "now() - interval '{late} s', '10.' || ({seed} + g) % 200, (ARRAY['USA','DE','FR',NULL])[1 + ({seed} + g) % 4], 200, ({seed} + g) % 1000"
    );
    let one =
        format!("INSERT INTO http_request {columns} SELECT {site}, {values} FROM generate_series(1, 1) g");
    let many = format!(
        "INSERT INTO http_request {columns} SELECT ({site} + g) % 40, {values} FROM generate_series(1, {rows}) g"
    );
    let from = |table: &str, rest: &str| {
        format!(
            "INSERT INTO http_request {columns} SELECT id, {values} FROM {table} s(id, g) WHERE g % 7 = {} {rest}",
            seed % 7
        )
    };
    match dice.roll(14) {
        0 => client.batch_execute(&format!("BEGIN; {many}; ROLLBACK")),
        1 => client.batch_execute(&format!(
            "BEGIN; {many}; SAVEPOINT a; {one}; ROLLBACK TO a; SAVEPOINT b; {one}; RELEASE b; COMMIT"
        )),
        2 => {
            use std::io::Write;
            let mut sink = client.copy_in("COPY http_request (site_id, ip_address, request_country, status_code, response_time_msec) FROM STDIN")?;
            for row in 0..rows {
                let line = format!(
                    "{}\t10.1.{}.{row}\tUSA\t200\t{}\n",
                    (site + row) % 40,
                    dice.roll(99),
                    dice.roll(500)
                );
                sink.write_all(line.as_bytes()).expect("a line of COPY");
            }
            sink.finish().map(drop)
        }
        3 => client.batch_execute(&format!(
            "BEGIN; {many}; SELECT pg_sleep({}); {one}; COMMIT",
            dice.roll(10) as f64 / 10.0
        )),
        // On each node, brought to other nodes, and by way of the node that is asked.
        4 => client.batch_execute(&from("beside", "")),
        5 | 6 => client.batch_execute(&from("apart", "")),
        7 => client.batch_execute(&from("apart", "LIMIT 5")),
        8 => client.batch_execute(&format!("{many}; SELECT 1 / 0")),
        9 => client.batch_execute(&format!("BEGIN; {one}; COMMIT")),
        10..=12 => {
            let table = KINDS[dice.roll(KINDS.len() as u64) as usize].table;
            // Within few buckets, whose sketches grow.
            let late = late % 300;
            let _passing = (node > 0).then(|| WORKERS.read().unwrap_or_else(|e| e.into_inner()));
            client.batch_execute(&format!(
                "INSERT INTO {table} SELECT ({seed} + g) % 5, now() - interval '{late} s', {seed} + g FROM generate_series(1, {rows} * 10) g"
            ))
        }
        _ => client.batch_execute(&one),
    }
}

/// A connection, tried until `stop`.
fn connected(to: &Config, stop: &AtomicBool) -> Option<Client> {
    while !stop.load(Relaxed) {
        match to.connect(NoTls) {
            Ok(client) => return Some(client),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    None
}

/// Does `what` again and again, over new connections where one is lost. Its errors are thrown away: what Citus says when
/// a node of its is killed, stopped or moved has SQLSTATEs of every class, XX000 too. What must hold is looked at when it
/// is over.
fn keep_on(
    to: &Config,
    stop: &AtomicBool,
    count: &AtomicU64,
    mut what: impl FnMut(&mut Client) -> Result<(), postgres::Error>,
) {
    while let Some(mut client) = connected(to, stop) {
        while !stop.load(Relaxed) {
            match what(&mut client) {
                Ok(()) => drop(count.fetch_add(1, Relaxed)),
                Err(_) if client.batch_execute("ROLLBACK").is_err() => break,
                Err(_) => {}
            }
        }
    }
}

#[derive(Debug, Default)]
struct Harm {
    ended: u64,
    stopped: u64,
    crashes: u64,
    moves: u64,
    /// Of these, by logical replication.
    logical: u64,
    splits: u64,
    /// Tables made anew with other shards, and on one node and back.
    anew: [u64; 2],
    /// Why others were not.
    kept: std::collections::BTreeMap<String, u64>,
}

fn victim(client: &mut Client, dice: &mut Dice) -> Option<i64> {
    let sql = "SELECT pid::bigint FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND state = 'active' ORDER BY pid";
    let found = client.query(sql, &[]).ok()?;
    (!found.is_empty()).then(|| found[dice.roll(found.len() as u64) as usize].get(0))
}

fn signal(signal: &str, pid: i64) -> bool {
    std::process::Command::new("sh")
        .args(["-c", "kill \"$0\" \"$1\" 2>/dev/null", signal, &pid.to_string()])
        .status()
        .is_ok_and(|s| s.success())
}

fn move_a_shard(citus: &Citus, dice: &mut Dice, harm: &mut Harm) {
    let Ok(mut client) = citus.connect(0) else { return };
    let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.on_workers).collect();
    let table = match dice.roll(3) {
        0 => "http_request",
        _ => kinds[dice.roll(kinds.len() as u64) as usize].table,
    };
    let shards = format!(
        "SELECT shardid, nodename, nodeport FROM citus_shards WHERE table_name = '{table}'::regclass ORDER BY shardid"
    );
    let Ok(found) = client.query(&shards, &[]) else { return };
    if found.is_empty() {
        return;
    }
    let row = &found[dice.roll(found.len() as u64) as usize];
    let (shard, host, port): (i64, String, i32) = (row.get(0), row.get(1), row.get(2));
    if table == "http_request" && dice.roll(5) == 0 && found.len() < 14 {
        // Not without blocking writes: where a row changes while shards are copied, Citus 13.2 waits for ever then for
        // a part that stays on its node, which has no replica identity yet.
        let split = format!(
            "SELECT citus_split_shard_by_split_points({shard}, ARRAY[((shardminvalue::bigint + shardmaxvalue::bigint) / 2)::text],
               ARRAY(SELECT nodeid FROM pg_dist_node WHERE noderole = 'primary' AND shouldhaveshards ORDER BY nodeid LIMIT 2), 'block_writes') FROM pg_dist_shard WHERE shardid = {shard}"
        );
        harm.splits += u64::from(client.batch_execute(&split).is_ok());
        return;
    }
    let to = citus.nodes[1 + dice.roll(citus.size() as u64 - 1) as usize].port();
    let logical = dice.roll(2) == 0;
    let mode = if logical { "force_logical" } else { "block_writes" };
    let call = format!(
        "SELECT citus_move_shard_placement({shard}, '{host}', {port}, '127.0.0.1', {to}, shard_transfer_mode => '{mode}')"
    );
    let moved = u64::from(client.batch_execute(&call).is_ok());
    harm.moves += moved;
    harm.logical += if logical { moved } else { 0 };
}

/// Whether a call is done, at the third attempt at the latest; what stands in its way is counted.
fn done(client: &mut Client, call: &str, harm: &mut Harm) -> bool {
    (0..3).any(|_| attempted(client, call, harm))
}

fn attempted(client: &mut Client, call: &str, harm: &mut Harm) -> bool {
    let Err(e) = client.batch_execute(call) else { return true };
    let code = e.code().map_or("no answer", |code| code.code());
    let called = call.split(['(', ' ']).find(|word| word.contains('_')).unwrap_or(call);
    *harm.kept.entry(format!("{called} {code}")).or_default() += 1;
    false
}

/// Has Citus make a table anew, with its rollup, while it is written to and run.
fn make_anew(citus: &Citus, dice: &mut Dice, harm: &mut Harm) {
    let Ok(mut client) = citus.connect(0) else { return };
    // Who waits for its lock keeps the others waiting.
    if client.batch_execute("SET lock_timeout = '3s'; SET statement_timeout = '20s'").is_err() {
        return;
    }
    let table = ["several", "parted"][dice.roll(2) as usize];
    let _alone = WORKERS.write().unwrap_or_else(|e| e.into_inner());
    // What is in doubt is committed by Citus at any time, as if it were written meanwhile.
    if !nothing_in_doubt(citus, 5) {
        return;
    }
    let there = format!(
        "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass AND partmethod = 'h'"
    );
    let distributed = client.query_one(&there, &[]).map(|row| row.get::<_, i64>(0));
    if distributed.as_ref().is_ok_and(|n| *n == 1) && dice.roll(2) == 0 {
        let shards = 2 + dice.roll(6);
        let call = format!(
            "SELECT alter_distributed_table('{table}', shard_count => {shards}, cascade_to_colocated => true)"
        );
        harm.anew[0] += u64::from(done(&mut client, &call, harm));
        return;
    }
    if distributed.is_ok_and(|n| n == 1)
        && !done(&mut client, &format!("SELECT undistribute_table('{table}')"), harm)
    {
        return;
    }
    thread::sleep(Duration::from_millis(dice.roll(300)));
    back(&mut client, table, harm);
}

/// Distributes a table that was brought to one node, beside its rollup.
fn back(client: &mut Client, table: &str, harm: &mut Harm) {
    for call in [
        format!("DROP TRIGGER IF EXISTS zz_rollup_kept ON {table}"),
        format!("SELECT create_distributed_table('{table}', 'site', colocate_with => '{table}_min')"),
    ] {
        if !done(client, &call, harm) {
            return;
        }
    }
    harm.anew[1] += 1;
}

fn harm_once(citus: &mut Citus, dice: &mut Dice, harm: &mut Harm) {
    let node = dice.roll(citus.size() as u64) as usize;
    let Ok(mut client) = citus.connect(node) else { return };
    match dice.roll(19) {
        16..=18 => make_anew(citus, dice, harm),
        0 => {
            citus.nodes[node].quit().unwrap();
            citus.nodes[node].start().unwrap();
            harm.crashes += 1;
        }
        1 | 2 => {
            if let Some(pid) = victim(&mut client, dice) {
                harm.crashes += u64::from(signal("-KILL", pid));
                let end = Instant::now() + Duration::from_secs(10);
                while client.simple_query("SELECT 1").is_ok() && Instant::now() < end {}
                wait_for("the server answers again", 60, || citus.connect(node).is_ok());
            }
        }
        3..=6 => {
            if let Some(pid) = victim(&mut client, dice) {
                harm.stopped += u64::from(signal("-STOP", pid));
                thread::sleep(Duration::from_millis(100 + dice.roll(400)));
                signal("-CONT", pid);
            }
        }
        7..=9 => move_a_shard(citus, dice, harm),
        _ => {
            if let Some(pid) = victim(&mut client, dice) {
                let call = if dice.roll(2) == 0 { "terminate" } else { "cancel" };
                harm.ended +=
                    u64::from(client.batch_execute(&format!("SELECT pg_{call}_backend({pid}::int)")).is_ok());
            }
        }
    }
}

#[test]
fn torture() {
    let seconds = std::env::var("TORTURE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let seed = std::env::var("TORTURE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_124);
    let Some((mut citus, mut client)) = prepared() else { return };
    client
        .batch_execute(
            "CREATE TABLE beside (id int, g int); SELECT create_distributed_table('beside', 'id', colocate_with => 'http_request');
             CREATE TABLE apart (id int, g int); SELECT create_distributed_table('apart', 'g', shard_count => 5, colocate_with => 'none');
             INSERT INTO beside SELECT g % 40, g FROM generate_series(1, 80) g; INSERT INTO apart TABLE beside",
        )
        .unwrap();
    let node = citus.start_node().unwrap();
    citus.add(node).unwrap();
    // Another rollup has a backlog, of which pieces come all the while.
    client.batch_execute("ALTER DATABASE cluster SET rollup.batch_rows = 100").unwrap();
    for sql in [
        "INSERT INTO http_request SELECT g % 40, now() - g * interval '7 s', 'before', 'DE', 200, g FROM generate_series(1, 8000) g",
        "SELECT rollup.create('by_hour', 'SELECT site_id, date_trunc(''hour'', ingest_time) AS at, count(*) AS n, sum(response_time_msec) AS s FROM http_request GROUP BY 1, 2', every => NULL, coarser => '{\"by_hour_all\": {\"width\": \"1 hour\", \"keys\": []}}')",
        "SELECT rollup.add_column('http_request_1min', 'times', 'ddsketch_agg(response_time_msec)', backfill => true), rollup.add_column('http_request_1min', 'top', 'jsonb_counter_bounded_agg(request_country, 1, 8)', backfill => true),
           rollup.add_level('http_request_1min', 'http_request_1min_all', '1 minute', keys => '{}'), rollup.add_level('http_request_1min', 'http_request_1day_all', '1 day', keys => '{}')",
    ] {
        client.batch_execute(sql).unwrap();
    }
    for kind in KINDS {
        kind.make(&mut client);
        kind.roll_up(&mut client);
        // A sketch above 126 bytes in each, however few transactions come through.
        let many = format!(
            "INSERT INTO {} SELECT 3, now() - interval '100 s', g FROM generate_series(1, 100) g",
            kind.table
        );
        client.batch_execute(&many).unwrap();
    }
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let of_kinds: [AtomicU64; KINDS.len()] = Default::default();
    let (runs, pieces) = (AtomicU64::new(0), AtomicU64::new(0));
    let (mut harm, mut dice) = (Harm::default(), Dice(seed));
    let addresses: Vec<Config> = (0..citus.size()).map(|n| citus.address(n)).collect();
    let (begun, nodes) = (Instant::now(), addresses.len());
    thread::scope(|scope| {
        for (at, to) in addresses.iter().chain(&addresses[..3]).enumerate() {
            let (stop, written) = (&stop, &written);
            scope.spawn(move || {
                let mut dice = Dice(seed ^ (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                keep_on(to, stop, written, |client| write(client, &mut dice, at % nodes));
            });
        }
        let others = KINDS.iter().zip(&of_kinds).map(|(kind, count)| (kind.rollup(), count));
        let these = [("http_request_1min".to_string(), &runs), ("by_hour".to_string(), &pieces)];
        for (name, count) in these.into_iter().chain(others) {
            let (to, stop) = (&addresses[0], &stop);
            scope.spawn(move || {
                let sql = format!("SELECT rollup_internal.work_off('{name}')");
                keep_on(to, stop, count, |client| client.batch_execute(&sql))
            });
        }
        let _stop = StopAtEnd(&stop);
        while begun.elapsed() < Duration::from_secs(seconds) {
            harm_once(&mut citus, &mut dice, &mut harm);
            thread::sleep(Duration::from_millis(100 + dice.roll(400)));
        }
        // Dice and dead nodes may have let no table be made anew.
        while seconds >= 60 && harm.anew == [0, 0] && begun.elapsed() < Duration::from_secs(seconds + 60) {
            make_anew(&citus, &mut dice, &mut harm);
        }
    });
    // The node that was added goes, with rows of it that no run has merged.
    let mut client = citus.connect(0).unwrap();
    let port = citus.nodes[node].port();
    citus.connect(node).unwrap().batch_execute("INSERT INTO http_request SELECT g % 40, now(), 'last', 'DE', 200, g FROM generate_series(1, 30) g").unwrap();
    wait_until("its shards are elsewhere", 60, || {
        client.batch_execute(&format!("SELECT citus_drain_node('127.0.0.1', {port}, 'block_writes')"))?;
        Ok(true)
    });
    wait_until("the node is gone", 60, || {
        client.batch_execute(&format!("SELECT citus_remove_node('127.0.0.1', {port})"))?;
        Ok(true)
    });
    for at in 0..3 {
        wait_for("nothing is in doubt", 60, || {
            citus.connect(at).is_ok_and(|mut c| number(&mut c, "SELECT count(*) FROM pg_prepared_xacts") == 0)
        });
    }
    run_and_compare(&mut client, "after all of it");
    let rows = number(&mut client, "SELECT count(*) FROM http_request");
    wait_until("the other rollup is there too", 30, || {
        client.batch_execute("SELECT rollup_http_request()")?;
        let lag =
            "SELECT sum(lag_rows)::bigint FROM rollup.status WHERE name IN ('http_request_1min', 'by_hour')";
        Ok(number(&mut client, lag) == 0)
    });
    assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM by_hour"), rows);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('by_hour')"), 0);
    let mut others = Vec::new();
    let totals = ["minute", "day"].map(|unit| whole_differs(&mut client, unit));
    assert_eq!(totals.map(|(differences, _)| differences), [0, 0], "groups of all sites");
    let mut long =
        number(&mut client, "SELECT max(octet_length(distinct_ips::bytea))::bigint FROM http_request_1min");
    for kind in KINDS {
        kind.exact(&mut client, "after all of it");
        let found = client
            .query_one(
                &format!(
                    "SELECT sum(n)::bigint, max(octet_length(vs::bytea))::bigint FROM {}",
                    kind.target()
                ),
                &[],
            )
            .unwrap();
        let (raw, sketch): (Option<i64>, Option<i64>) = (found.get(0), found.get(1));
        long = long.min(sketch.unwrap_or_default());
        others.push((kind.table, raw));
    }
    // A server may end because of what was done to it here, and of nothing else.
    for node in &citus.nodes {
        assert!(!node.log().contains("terminated by signal 11"), "a server has crashed by itself");
    }
    let late = number(&mut client, "SELECT count(*) FROM http_request WHERE (rollup_stamp >> 47) & 1 = 1");
    println!(
        "{rows} rows, in {totals:?} groups of all sites, {others:?}, a sketch of {long} bytes in each, {late} stamped by connections of Citus, {} transactions, {} runs, {} pieces, {harm:?}",
        written.load(Relaxed),
        runs.load(Relaxed),
        pieces.load(Relaxed)
    );
    assert!(seconds < 60 || harm.anew.iter().sum::<u64>() > 0, "no table was made anew");
    assert!(rows > 100 && late > 0 && long > 126 && runs.load(Relaxed) > 1 && pieces.load(Relaxed) > 1);
}
