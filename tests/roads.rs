//! Rows that come by every road at once: staging tables, moves, partitions that are attached, detached, exchanged and
//! rewritten, prepared and rolled back, COPY out and in, names that change, dumps, with concurrent runs. Each is counted once. In a rollup that ignores changes each
//! batch of rows is a group of its own, so that what is new can always be told; one that follows them takes all. What the
//! rollup holds is compared with the raw rows, and with what the writers know to have committed. TORTURE_SECONDS says for how
//! long, TORTURE_SEED what the dice begin with.
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::dumped;
use hll_tests::every_road::{Batches, NAMES, Roads, TABLES, VALUES, Written, rename_column, renamed};
use hll_tests::load::Dice;
use hll_tests::nodes::StopAtEnd;
use hll_tests::{another, configure, number};
use postgres::Client;

/// Runs it all for a while; gives how much was done.
fn all_roads(database: &str, changes: bool, keys: &str, buckets: &str) {
    let seconds = std::env::var("TORTURE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let seed = std::env::var("TORTURE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(4711u64);
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database(database).unwrap();
    let query = format!("SELECT {keys}, {VALUES} FROM visit GROUP BY {buckets}");
    client.batch_execute(TABLES).unwrap();
    let on_change = if changes { "recompute" } else { "ignore" };
    client
        .batch_execute(&format!(
            "SELECT rollup.create('visits', $q${query}$q$, every => '100 milliseconds', on_change => '{on_change}', coarser => '{{\"visits_week\": \"7 days\"}}')"
        ))
        .unwrap();
    for id in 1..=3 {
        client.batch_execute(&format!("CREATE TABLE staging_{id} (LIKE visit INCLUDING DEFAULTS)")).unwrap();
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (batches, next, written) = (Batches::default(), AtomicU64::new(1), Written::default());
    // Held by whoever changes tables, or copies them.
    let (shapes, dumps) = (Mutex::new(()), AtomicU64::new(0));
    client.batch_execute("RESET ROLE").unwrap();
    // Of a database that is being restored the worker would run rollups before all of their rows are there.
    configure(&mut client, &[&format!("SET rollup.databases = '{database}'")]);
    let roads = |n: u64| Roads {
        dice: Dice((n * 0x9E37_79B9_7F4A_7C15) ^ seed),
        batches: &batches,
        next: &next,
        written: &written,
        made: 0,
        changes,
        shapes: &shapes,
    };
    let count = |client: &mut Client, outcome: Result<(), postgres::Error>| match outcome {
        Ok(()) => _ = done.fetch_add(1, Relaxed),
        Err(error) if error.as_db_error().is_some() => {
            let code = error.code().expect("a SQLSTATE").code();
            assert!(["40001", "40P01", "55P03", "21000"].contains(&code), "{error:?}");
            client.batch_execute("ROLLBACK").unwrap();
        }
        Err(error) => panic!("{error:?}"),
    };
    let mut attached = HashSet::new();
    thread::scope(|scope| {
        for id in 1..=3 {
            let (mut writer, mut roads, stop) = (another(&cluster, database), roads(id), &stop);
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    let outcome = roads.step(&mut writer, id as usize);
                    count(&mut writer, outcome);
                }
            });
        }
        let (mut mover, mut roads, attached) = (another(&cluster, database), roads(9), &mut attached);
        let shapes = &shapes;
        let stop = &stop;
        scope.spawn(move || {
            mover.batch_execute("SET lock_timeout = '2s'; SET ROLE keeper").unwrap();
            while !stop.load(Relaxed) {
                let held = shapes.lock().unwrap();
                let outcome = roads.table(&mut mover, attached);
                count(&mut mover, outcome);
                drop(held);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let _stop = StopAtEnd(stop);
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(1000 * seconds / 8));
            let held = shapes.lock().unwrap();
            let dump = dumped::dump(&cluster, database);
            // Roles are of the cluster: what they are called in the dump they are to be called where it is restored.
            let differ = dumped::differ(&cluster, &dump, &query);
            drop(held);
            assert_eq!(differ, 0, "restored, the rollup differs");
            dumps.fetch_add(1, Relaxed);
        }
    });
    // What is away comes back.
    for slot in 10..14 {
        let there =
            number(&mut client, &format!("SELECT count(*) FROM pg_class WHERE relname = 'part_{slot}'")) == 1;
        if there && !attached.contains(&slot) {
            client
                .batch_execute(&format!(
                    "ALTER TABLE visit ATTACH PARTITION part_{slot} FOR VALUES IN ({slot})"
                ))
                .unwrap();
        }
    }
    for (kind, name) in NAMES {
        let away = number(
            &mut client,
            &format!(
                "SELECT (SELECT count(*) FROM pg_class WHERE relname = '{name}_b') + (SELECT count(*) FROM pg_proc WHERE proname = '{name}_b') + (SELECT count(*) FROM pg_roles WHERE rolname = '{name}_b')"
            ),
        );
        if away > 0 {
            renamed(&mut client, kind, name).unwrap();
        }
    }
    if number(
        &mut client,
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'visit'::regclass AND attname = 'extra'",
    ) == 0
    {
        rename_column(&mut client).unwrap();
    }
    wait_for("every row was judged", 60, || {
        number(
            &mut client,
            "SELECT (SELECT count(*) FROM rollup.arrival) + (SELECT count(*) FROM rollup.change) + coalesce((SELECT lag_rows FROM rollup.status), 1)",
        ) == 0
    });
    let columns = |suffix: &str| {
        let week = query.replace("'day'", "'week'");
        let of = |table: &str, query: &str| {
            format!(
                "(SELECT count(*) FROM ((SELECT to_jsonb(q) FROM ({query}) q EXCEPT ALL SELECT to_jsonb(t) FROM {table} t)
                   UNION ALL (SELECT to_jsonb(t) FROM {table} t EXCEPT ALL SELECT to_jsonb(q) FROM ({query}) q)) d)"
            )
        };
        format!(
            "SELECT {} + {}",
            of(&format!("visits{suffix}"), &query),
            of(&format!("visits_week{suffix}"), &week)
        )
    };
    let (rows, groups, left) = (
        number(&mut client, "SELECT count(*) FROM visit"),
        number(&mut client, "SELECT count(*) FROM visits"),
        number(&mut client, "SELECT sum(left_out)::bigint FROM rollup.status"),
    );
    println!(
        "{on_change}: seed {seed}, {} transactions, {rows} rows, {groups} groups, {left} left out, {} dumps, {} partitions made",
        done.load(Relaxed),
        dumps.load(Relaxed),
        number(&mut client, "SELECT coalesce(sum(made), 0)::bigint FROM rollup.partitioning")
    );
    assert_eq!(left, 0, "rows were left out");
    let there = client.query("SELECT batch, count(*) FROM visit GROUP BY 1 ORDER BY 1", &[]).unwrap();
    let there: BTreeMap<i64, i64> = there.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut known = written.into_inner().unwrap();
    known.retain(|_, rows| *rows != 0);
    assert_eq!(there, known, "raw rows are not those that were committed");
    assert_eq!(number(&mut client, &columns("")), 0, "the rollup differs");
    assert_eq!(number(&mut client, &columns("_live")), 0, "the live view differs");
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('visits')"), 0);
    assert!(done.load(Relaxed) > 50 && rows > 100);
}

#[test]
fn each_row_is_counted_once() {
    all_roads("ignoring", false, "date_trunc('day', at) AS at, batch", "1, 2");
}

#[test]
fn changes_are_followed_beside() {
    all_roads("following", true, "date_trunc('day', at) AS at", "1");
}
