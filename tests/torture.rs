//! The random mix: writers of every kind, runs, and processes killed at random, the postmaster among them.
//! TORTURE_SECONDS says for how long.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::forgive::{COLLISIONS, answering, done_unless, is_one_of, lost};
use hll_tests::load::{Dice, write};
use hll_tests::nodes::StopAtEnd;
use hll_tests::{another, caught_up, configure, differ, number, prepared};
use postgres::Client;

/// What has been done, and what it led to.
#[derive(Default)]
struct Tally {
    kills: u64,
    crashes: u64,
    comparisons: u64,
    mismatches: u64,
}

/// Compares the live view with the raw table, in one statement; false where the server is gone. Any other error of the
/// live view is a failure.
fn compare(client: &mut Client, tally: &mut Tally) -> bool {
    match differ(client, "http_request_1min_live") {
        Ok(differing) => {
            tally.comparisons += 1;
            tally.mismatches += u64::from(differing != 0);
            true
        }
        Err(error) => {
            assert!(lost(&error), "the live view: {error:?}");
            false
        }
    }
}

/// A process of the server other than the one that serves `client`, by the dice.
fn process(client: &mut Client, dice: &mut Dice) -> Option<i64> {
    let victims = "SELECT pid::bigint FROM pg_stat_activity WHERE pid <> pg_backend_pid()
        AND (application_name LIKE 'rollup%' OR backend_type LIKE 'rollup%' OR backend_type = 'client backend') ORDER BY pid";
    match client.query(victims, &[]) {
        Ok(found) if found.is_empty() => None,
        Ok(found) => Some(found[dice.roll(found.len() as u64) as usize].get(0)),
        Err(error) => {
            assert!(lost(&error), "{error:?}");
            None
        }
    }
}

/// Writes until told to stop, or until the server is gone.
fn write_until(stop: &AtomicBool, writer: &mut Client, mut dice: Dice, written: &AtomicU64) {
    while !stop.load(Relaxed) {
        let outcome = write(writer, &mut dice).map(|()| _ = written.fetch_add(1, Relaxed)).or_else(|error| {
            // A run inside a writer may collide with another run: that transaction is gone, no more.
            if is_one_of(&error, &COLLISIONS) { writer.batch_execute("ROLLBACK") } else { Err(error) }
        });
        if let Err(error) = outcome {
            assert!(lost(&error), "a writer: {error:?}");
            return;
        }
    }
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
            // The process may have ended since it was found.
            if let Some(pid) = process(client, dice)
                && cluster.kill(pid).is_ok()
            {
                tally.crashes += 1;
                wait_for("the server notices", 30, || client.simple_query("SELECT 1").is_err());
            }
        }
        _ => {
            if let Some(pid) = process(client, dice) {
                // NULL or false where it has ended since.
                let sql = "SELECT coalesce(pg_terminate_backend($1::bigint::int), false)";
                match client.query_one(sql, &[&pid]) {
                    Ok(row) => tally.kills += u64::from(row.get::<_, bool>(0)),
                    Err(error) => assert!(lost(&error), "{error:?}"),
                }
            }
        }
    }
}

#[test]
fn torture() {
    let seconds = std::env::var("TORTURE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(15);
    let (mut cluster, mut client) = prepared("torture", "100 milliseconds");
    configure(&mut client, &["SET rollup.crash_hold = '200ms'", "SET synchronous_commit = off"]);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut tally, mut dice, written) = (Tally::default(), Dice(20_261_124), AtomicU64::new(0));
    let mut seed = 1;
    while Instant::now() < end {
        let stop = AtomicBool::new(false);
        let writers: Vec<_> = (0..4).map(|_| answering(|| cluster.connect("torture"))).collect();
        thread::scope(|scope| {
            for mut writer in writers {
                seed += 1;
                let (stop, written, dice) = (&stop, &written, Dice(seed * 0x9E37_79B9_7F4A_7C15));
                scope.spawn(move || write_until(stop, &mut writer, dice, written));
            }
            // Also where this thread fails: else the writers would go on for ever.
            let _stop = StopAtEnd(&stop);
            let pause = Instant::now() + Duration::from_millis(300 + dice.roll(1500));
            while Instant::now() < pause && compare(&mut client, &mut tally) {}
            harm(&mut cluster, &mut client, &mut dice, &mut tally);
        });
        wait_for("a comparison", 60, || {
            client = answering(|| cluster.connect("torture"));
            compare(&mut client, &mut tally)
        });
        for left in client.query("SELECT gid FROM pg_prepared_xacts", &[]).unwrap() {
            let verb = if dice.roll(2) == 0 { "COMMIT" } else { "ROLLBACK" };
            // The backend of a writer that was ended may still be at it, or be done since.
            let end = format!("{verb} PREPARED '{}'", left.get::<_, String>(0));
            done_unless(client.batch_execute(&end), &["55000", "42704"]);
        }
    }
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
