//! Thirty seconds of everything that loses rows elsewhere; the rollup must equal the raw table.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_tests::forgive::{COLLISIONS, is_one_of, lost};
use hll_tests::load::{Dice, insert, write};
use hll_tests::{another, caught_up, differences, number, prepared};

#[test]
fn load_ends_in_equality() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let (cluster, mut client) = prepared("load", "100 milliseconds");
    let (stop, kills, written) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);

    let mut open = another(&cluster, "load");
    open.batch_execute("BEGIN").unwrap();
    open.batch_execute(&insert(&mut Dice(77), 50)).unwrap();
    let compared = thread::scope(|scope| {
        for seed in 1..=5u64 {
            let (mut writer, stop, written) = (another(&cluster, "load"), &stop, &written);
            scope.spawn(move || {
                let mut dice = Dice(seed * 0x9E37_79B9_7F4A_7C15);
                while !stop.load(Relaxed) {
                    match write(&mut writer, &mut dice) {
                        Ok(()) => written.fetch_add(1, Relaxed),
                        // A run inside a writer may collide with another run: that transaction is gone, no more.
                        Err(error) if is_one_of(&error, &COLLISIONS) => {
                            writer.batch_execute("ROLLBACK").unwrap();
                            0
                        }
                        Err(error) => panic!("{error:?}"),
                    };
                }
            });
        }
        // Runs by hand, beside those of the worker; each connection lives until it is killed.
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let mut runner = another(&cluster, "load");
                let mut done = runner.batch_execute("SET application_name = 'runner'");
                while done.is_ok() && !stop.load(Relaxed) {
                    done = runner.batch_execute("SELECT rollup_http_request()");
                }
                if let Err(error) = done {
                    assert!(lost(&error) || is_one_of(&error, &COLLISIONS), "{error:?}");
                }
            }
        });
        scope.spawn(|| {
            let (mut killer, mut dice) = (another(&cluster, "load"), Dice(4711));
            let sql = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                       WHERE application_name = 'runner' AND datname = 'load'";
            while !stop.load(Relaxed) {
                thread::sleep(Duration::from_millis(20 + dice.roll(300)));
                kills.fetch_add(number(&mut killer, sql) as u64, Relaxed);
            }
        });
        let mut compared = 0u64;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while Instant::now() < end {
                assert_eq!(differences(&mut client, "http_request_1min_live"), 0, "the live view differs");
                compared += 1;
            }
            // The writer that stayed open did not hold the others back.
            number(&mut client, "SELECT coalesce(sum(request_count), 0)::bigint FROM http_request_1min")
        }));
        stop.store(true, Relaxed);
        let rolled = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(rolled > 0, "nothing was rolled up while one writer was open");
        compared
    });
    open.batch_execute("COMMIT").unwrap();
    caught_up(&mut client);
    assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
    let rows = number(&mut client, "SELECT count(*) FROM http_request");
    assert_eq!(rows, number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"));
    println!(
        "{rows} rows, {} transactions, {compared} comparisons of the live view, {} runs killed",
        written.load(Relaxed),
        kills.load(Relaxed)
    );
    assert!(rows > 0 && compared > 0 && kills.load(Relaxed) > 0);
}
