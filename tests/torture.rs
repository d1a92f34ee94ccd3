//! The random mix: writers of every kind, runs, and processes killed at random, the postmaster among them.
//! TORTURE_SECONDS says for how long.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::load::{Dice, write};
use hll_tests::{another, caught_up, differences, number, prepared};
use postgres::Client;

/// What has been done, and what it led to.
#[derive(Default)]
struct Tally {
    kills: u64,
    crashes: u64,
    comparisons: u64,
    mismatches: u64,
}

/// Compares the live view with the raw table, in one statement; false where the server is gone.
fn compare(client: &mut Client, tally: &mut Tally) -> bool {
    match catch_unwind(AssertUnwindSafe(|| differences(client, "http_request_1min_live"))) {
        Ok(differing) => {
            tally.comparisons += 1;
            tally.mismatches += u64::from(differing != 0);
            true
        }
        Err(_) => false,
    }
}

fn process(client: &mut Client, dice: &mut Dice) -> i64 {
    let victims = "SELECT pid::bigint FROM pg_stat_activity WHERE pid <> pg_backend_pid()
        AND (application_name LIKE 'rollup%' OR backend_type LIKE 'rollup%' OR backend_type = 'client backend') ORDER BY pid";
    let found = client.query(victims, &[]).unwrap_or_default();
    if found.is_empty() { 0 } else { found[dice.roll(found.len() as u64) as usize].get(0) }
}

/// One thing that goes wrong.
fn harm(cluster: &mut Cluster, client: &mut Client, dice: &mut Dice, tally: &mut Tally) {
    match dice.roll(6) {
        0 => {
            cluster.crash().unwrap();
            cluster.start().unwrap();
            tally.crashes += 1;
        }
        1 => {
            cluster.quit().unwrap();
            cluster.start().unwrap();
            tally.crashes += 1;
        }
        2 | 3 => {
            let pid = process(client, dice);
            if pid != 0 && cluster.kill(pid).is_ok() {
                tally.crashes += 1;
                wait_for("the server notices", 30, || client.simple_query("SELECT 1").is_err());
            }
        }
        _ => {
            let pid = process(client, dice);
            tally.kills +=
                u64::from(client.batch_execute(&format!("SELECT pg_terminate_backend({pid}::int)")).is_ok());
        }
    }
}

fn reconnect(cluster: &Cluster) -> Client {
    let mut client = None;
    wait_for("the server answers", 60, || {
        client = cluster.connect("torture").ok();
        client.as_mut().is_some_and(|c| c.simple_query("SELECT 1").is_ok())
    });
    client.unwrap()
}

#[test]
fn torture() {
    let seconds = std::env::var("TORTURE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let (mut cluster, mut client) = prepared("torture", "100 milliseconds");
    client.batch_execute("ALTER SYSTEM SET rollup.crash_hold = '200ms'").unwrap();
    client.batch_execute("ALTER SYSTEM SET synchronous_commit = off; ").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut tally, mut dice, written) = (Tally::default(), Dice(20_261_124), AtomicU64::new(0));
    // Errors of connections that were killed are what this is about; they need not be told.
    std::panic::set_hook(Box::new(|_| {}));
    let mut seed = 1;
    while Instant::now() < end {
        let stop = AtomicBool::new(false);
        let writers: Vec<_> = (0..4).filter_map(|_| cluster.connect("torture").ok()).collect();
        thread::scope(|scope| {
            for mut writer in writers {
                seed += 1;
                let (stop, written, mut dice) = (&stop, &written, Dice(seed * 0x9E37_79B9_7F4A_7C15));
                scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        match write(&mut writer, &mut dice) {
                            Ok(()) => written.fetch_add(1, Relaxed),
                            Err(_) if writer.batch_execute("ROLLBACK").is_err() => return,
                            Err(_) => 0,
                        };
                    }
                });
            }
            let pause = Instant::now() + Duration::from_millis(300 + dice.roll(1500));
            while Instant::now() < pause && compare(&mut client, &mut tally) {}
            harm(&mut cluster, &mut client, &mut dice, &mut tally);
            stop.store(true, Relaxed);
        });
        wait_for("a comparison", 60, || {
            client = reconnect(&cluster);
            compare(&mut client, &mut tally)
        });
        for left in client.query("SELECT gid FROM pg_prepared_xacts", &[]).unwrap_or_default() {
            let verb = if dice.roll(2) == 0 { "COMMIT" } else { "ROLLBACK" };
            let _ = client.batch_execute(&format!("{verb} PREPARED '{}'", left.get::<_, String>(0)));
        }
    }
    let _ = std::panic::take_hook();
    let mut client = another(&cluster, "torture");
    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    caught_up(&mut client);
    let rows = number(&mut client, "SELECT count(*) FROM http_request");
    let merged = number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min");
    tally.comparisons += 1;
    tally.mismatches += u64::from(rows != merged);
    println!(
        "{} runs, {rows} rows, {} transactions, {} kills, {} crashes, {} comparisons, {} mismatches",
        number(&mut client, "SELECT runs FROM rollup.status"),
        written.load(Relaxed),
        tally.kills,
        tally.crashes,
        tally.comparisons,
        tally.mismatches
    );
    assert_eq!(tally.mismatches, 0);
    assert!(rows > 0 && tally.comparisons > 1 && tally.crashes + tally.kills > 0);
}
