//! Writers that insert, update, delete, move and truncate rows at once, in partitions and next to them: a rollup that
//! follows changes equals the raw rows, its live views do so at every moment.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::load::Dice;
use hll_tests::{another, number};
use postgres::Client;

const TABLES: &str = "CREATE TABLE event (site int, at timestamptz, v int, tag text) PARTITION BY RANGE (at);
    CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
    CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-01-02') TO ('2026-01-03') PARTITION BY LIST (site);
    CREATE TABLE event_2a PARTITION OF event_2 FOR VALUES IN (1, 2);
    CREATE TABLE event_2b PARTITION OF event_2 DEFAULT;
    CREATE TABLE event_rest PARTITION OF event DEFAULT;";

const VALUES: &str = "count(*) AS n, sum(v) AS total, sum(hashtext(tag)::bigint) AS hash, max(v) AS most,
    hll_add_agg(hll_hash_text(tag)) AS tags FROM event GROUP BY 1, 2";

fn query(unit: &str) -> String {
    format!("SELECT date_trunc('{unit}', at) AS at, site, {VALUES}")
}

/// How many groups of a relation differ from the query over raw rows.
fn differ(relation: &str, unit: &str) -> String {
    let columns = "at, site, n, total::numeric, hash::numeric, most, tags::text";
    format!(
        "SELECT count(*) FROM ((SELECT {columns} FROM ({q}) q EXCEPT ALL SELECT {columns} FROM {relation})
           UNION ALL (SELECT {columns} FROM {relation} EXCEPT ALL SELECT {columns} FROM ({q}) q)) d",
        q = query(unit)
    )
}

/// The three tables of the rollup, or their views, in one statement.
fn all_differ(client: &mut Client, suffix: &str) -> i64 {
    let sql = [("minutes", "minute"), ("hours", "hour"), ("days", "day")]
        .map(|(relation, unit)| format!("({})", differ(&format!("{relation}{suffix}"), unit)))
        .join(" + ");
    number(client, &format!("SELECT {sql}"))
}

/// One transaction that changes rows, of a kind the dice choose.
fn change(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let (a, b, n) = (dice.roll(200), dice.roll(3000), dice.roll(1 << 30));
    let table = ["event", "event", "event_1", "event_2", "event_2a", "event_rest"][dice.roll(6) as usize];
    let insert = format!(
        "INSERT INTO event SELECT 1 + ({n} + g) % 5, timestamptz '2026-01-01' + {b} * interval '1 minute' + g * interval '11 s', ({n} + g) % 500, 't' || ({n} + g) % 97
         FROM generate_series(1, 30) g"
    );
    let update = format!("UPDATE {table} SET v = v + 1, tag = 'u' || v WHERE v % 200 = {a}");
    // Rows go to other partitions, at every level of them.
    let shift = format!(
        "UPDATE event SET at = at + interval '{b} minutes', site = 1 + ({n} + v) % 5 WHERE v % 200 = {a} AND at < '2026-01-05'"
    );
    let delete = format!("DELETE FROM {table} WHERE v % 200 IN ({a}, {a} + 1)");
    match dice.roll(12) {
        0 => client.batch_execute(&format!("BEGIN; {update}; ROLLBACK")),
        1 => client.batch_execute(&format!(
            "BEGIN; {insert}; SAVEPOINT a; {delete}; ROLLBACK TO a; SAVEPOINT b; {update}; RELEASE b; {shift}; COMMIT"
        )),
        2 => client.batch_execute(&format!("BEGIN; {update}; SELECT pg_sleep(0.2); {insert}; {delete}; COMMIT")),
        3 => {
            let id = dice.roll(1 << 40);
            client.batch_execute(&format!("BEGIN; {shift}; {delete}; PREPARE TRANSACTION 'c{id}'"))?;
            client.batch_execute(&format!("COMMIT PREPARED 'c{id}'"))
        }
        4 if dice.roll(4) == 0 => client.batch_execute("SET lock_timeout = '1s'; TRUNCATE event_2a"),
        5 if dice.roll(20) == 0 => client.batch_execute("SET lock_timeout = '1s'; TRUNCATE event"),
        6 => client.batch_execute(&format!("BEGIN; {insert}; SELECT rollup_event(); {update}; COMMIT")),
        7 => client.batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {delete}; {insert}; COMMIT")),
        8 => client.batch_execute(&shift),
        9 => client.batch_execute(&delete),
        10 => client.batch_execute(&update),
        _ => client.batch_execute(&insert),
    }
}

#[test]
fn changes_end_in_equality() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(12);
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("changes").unwrap();
    client.batch_execute(TABLES).unwrap();
    client.batch_execute("ALTER SYSTEM SET rollup.batch_rows = 2000; ").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    // A backlog is worked off while its rows change.
    client
        .batch_execute("INSERT INTO event SELECT 1 + g % 5, timestamptz '2026-01-01' + g * interval '7 s', g % 500, 't' || g % 97 FROM generate_series(1, 30000) g")
        .unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('minutes', $q${}$q$, every => '100 milliseconds', on_change => 'recompute',
               coarser => '{{\"hours\": \"1 hour\", \"days\": \"1 day\"}}')",
            query("minute")
        ))
        .unwrap();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let compared = thread::scope(|scope| {
        for seed in 1..=4u64 {
            let (mut writer, stop, written) = (another(&cluster, "changes"), &stop, &written);
            scope.spawn(move || {
                let mut dice = Dice(seed * 0x9E37_79B9_7F4A_7C15);
                while !stop.load(Relaxed) {
                    match change(&mut writer, &mut dice) {
                        Ok(()) => written.fetch_add(1, Relaxed),
                        Err(error) if error.as_db_error().is_some() => {
                            // Deadlocks, and rows that another transaction has moved or changed.
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
        let mut compared = 0u64;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while Instant::now() < end {
                assert_eq!(all_differ(&mut client, "_live"), 0, "a live view differs");
                compared += 1;
            }
        }));
        stop.store(true, Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        compared
    });
    wait_for("the rollup holds every change", 60, || all_differ(&mut client, "") == 0);
    assert_eq!(all_differ(&mut client, "_live"), 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('minutes')"), 0);
    wait_for("no note is left", 30, || number(&mut client, "SELECT count(*) FROM rollup.change") == 0);
    let (rows, merged) = (
        number(&mut client, "SELECT count(*) FROM event"),
        number(&mut client, "SELECT rows_total::bigint FROM rollup.status"),
    );
    println!(
        "{merged} rows merged, {rows} left, {} transactions, {compared} comparisons of the live views",
        written.load(Relaxed)
    );
    assert!(compared > 0 && written.load(Relaxed) > 50);
}
