//! Thirty seconds of everything that loses rows elsewhere; the rollup must equal the raw table.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_tests::{another, caught_up, differences, number, prepared};
use postgres::Client;

/// A small generator of its own: the load need not be reproducible, only varied.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// `rows` events, some of them hours late, as one statement.
fn insert(dice: &mut Dice, rows: u64) -> String {
    let late = if dice.roll(5) == 0 { dice.roll(20_000) } else { 0 };
    let (site, seed) = (dice.roll(6), dice.roll(1 << 30));
    format!(
        "INSERT INTO http_request SELECT nullif({site}, 5), now() - interval '{late} s' - g * interval '1 s',
           '10.0.' || ({seed} + g) % 200 || '.' || g % 50, (ARRAY['USA','DE','FR',NULL])[1 + ({seed} + g) % 4],
           200 + ({seed} + g) % 300, ({seed} + g) % 1000 FROM generate_series(1, {rows}) g"
    )
}

/// One transaction of a writer, of a kind the dice choose.
fn write(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let rows = 1 + dice.roll(20);
    let (one, two) = (insert(dice, rows), insert(dice, rows));
    match dice.roll(7) {
        0 => client.batch_execute(&format!("BEGIN; {one}; ROLLBACK")),
        1 => client.batch_execute(&format!(
            "BEGIN; {one}; SAVEPOINT a; {two}; ROLLBACK TO a; SAVEPOINT b; {two}; RELEASE b; COMMIT"
        )),
        2 => {
            use std::io::Write;
            let copy = "COPY http_request (site_id, ip_address, request_country, status_code, response_time_msec) FROM STDIN";
            let mut sink = client.copy_in(copy)?;
            for row in 0..rows {
                let line =
                    format!("{}\t10.1.{}.{row}\tUSA\t200\t{}\n", row % 5, dice.roll(99), dice.roll(500));
                sink.write_all(line.as_bytes()).expect("a line of COPY");
            }
            sink.finish().map(drop)
        }
        3 => client.batch_execute(&format!("BEGIN; {one}; SELECT pg_sleep(0.3); {two}; COMMIT")),
        4 => {
            let id = dice.roll(1 << 40);
            client.batch_execute(&format!("BEGIN; {one}; PREPARE TRANSACTION 'p{id}'"))?;
            client.batch_execute(&format!("COMMIT PREPARED 'p{id}'"))
        }
        // A run in the writer's own transaction, between two inserts of it.
        5 if dice.roll(10) == 0 => {
            client.batch_execute(&format!("BEGIN; {one}; SELECT rollup_http_request(); {two}; COMMIT"))
        }
        _ => client.batch_execute(&one),
    }
}

#[test]
fn load_ends_in_equality() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
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
                        Err(error) if error.as_db_error().is_some() => {
                            let code = error.code().expect("a SQLSTATE").code();
                            assert!(["40001", "40P01", "55P03"].contains(&code), "{error:?}");
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
                if runner.batch_execute("SET application_name = 'runner'").is_err() {
                    continue;
                }
                loop {
                    if stop.load(Relaxed) || runner.batch_execute("SELECT rollup_http_request()").is_err() {
                        break;
                    }
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
