//! Generated statements over a raw table, answered from it and from its rollups in one snapshot, while writers insert,
//! change and remove rows, runs merge them, and old ones expire: the answers are the same.
//!
//! REWRITE_QUERIES says how many; `make torture` asks thousands.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use hll_lab::{Cluster, wait_for};
use hll_tests::load::Dice;
use hll_tests::questions::{ZONES, question};
use hll_tests::{another, number};
use postgres::{Client, SimpleQueryMessage};

const TABLES: &str = "CREATE TABLE event (site int, at timestamptz, status int NOT NULL, v int, f float8, n numeric, tag text) PARTITION BY RANGE (at);
    CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
    CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-01-02') TO ('2026-01-03') PARTITION BY LIST (site);
    CREATE TABLE event_2a PARTITION OF event_2 FOR VALUES IN (1, 2);
    CREATE TABLE event_2b PARTITION OF event_2 DEFAULT;
    CREATE TABLE event_rest PARTITION OF event DEFAULT;
    CREATE TABLE clock (at timestamp NOT NULL, site int, v int, f float8, tag text);
    CREATE VIEW seen_event AS SELECT tag, n, f, v, status, at, site FROM event; CREATE VIEW seen_clock AS SELECT * FROM (SELECT v, tag, f, at, site FROM clock) c;";

const ROLLUPS: &str = "
    SELECT rollup.create('minutes', $$ SELECT date_trunc('minute', at) AS at, site, status, count(*) AS n_, sum(v) AS total, min(v) AS least, max(v) AS most, avg(v) AS mean,
        sum(n) AS total_n, avg(n) AS mean_n, sum(f) AS total_f, avg(f) AS mean_f, variance(f) AS var_f, stddev(v) AS dev, count(*) FILTER (WHERE v > 100) AS large, bool_or(v > 400) AS any,
        hll_add_agg(hll_hash_text(tag)) AS tags, jsonb_counter_agg(tag) AS by_tag, ddsketch_agg(v) AS sketch, rollup.last(v, at) AS latest FROM event GROUP BY 1, 2, 3 $$,
      every => '100 milliseconds', on_change => 'recompute', coarser => '{\"hours\": \"1 hour\", \"days\": \"1 day\",
        \"minutes_whole\": {\"width\": \"1 minute\", \"keys\": []}, \"hours_site\": {\"width\": \"1 hour\", \"keys\": [\"site\"]}, \"days_status\": {\"width\": \"1 day\", \"keys\": [\"status\"]}, \"days_whole\": {\"width\": \"1 day\", \"keys\": []}}');
    SELECT rollup.create('errors', $$ SELECT date_trunc('day', at) AS at, site, count(*) AS n, sum(v) AS total FROM event WHERE status >= 500 GROUP BY 1, 2 $$,
      every => '300 milliseconds', on_change => 'recompute', timezone => 'Europe/Berlin', coarser => '{\"weeks\": \"7 days\", \"months\": \"1 month\", \"errors_whole\": {\"width\": \"1 day\", \"keys\": []}}');
    SELECT rollup.create('by_n', $$ SELECT date_bin('10 minutes', at, '2000-01-01 00:03Z') AS at, n, tag, count(*) AS c FROM event GROUP BY 1, 2, 3 $$, every => '500 milliseconds', on_change => 'recompute');
    SELECT rollup.create('local', $$ SELECT date_trunc('hour', at) AS at, site, count(*) AS n, sum(v) AS total, count(v) AS with_v FROM event GROUP BY 1, 2 $$,
      every => '400 milliseconds', on_change => 'recompute', timezone => 'Australia/Lord_Howe', coarser => '{\"local_days\": \"1 day\", \"local_months\": \"1 month\"}');
    SELECT rollup.create('clocks', $$ SELECT date_trunc('hour', at) AS at, site, count(*) AS n, sum(v) AS total, max(f) AS most FROM clock GROUP BY 1, 2 $$, every => '100 milliseconds', on_change => 'error', coarser => '{\"clock_days\": \"1 day\", \"clock_whole\": {\"width\": \"1 hour\", \"keys\": []}}');";

/// The levels that drop keys.
const NARROW: [&str; 6] =
    ["minutes_whole", "hours_site", "days_status", "days_whole", "errors_whole", "clock_whole"];

type Rows = Vec<Vec<Option<String>>>;

fn rows(client: &mut Client, sql: &str) -> Result<Rows, postgres::Error> {
    let mut all = Vec::new();
    for message in client.simple_query(sql)? {
        if let SimpleQueryMessage::Row(row) = message {
            all.push((0..row.len()).map(|n| row.get(n).map(String::from)).collect::<Vec<_>>());
        }
    }
    all.sort();
    Ok(all)
}

fn same(a: &Rows, b: &Rows, doubles: &[bool]) -> bool {
    let close = |x: &Option<String>, y: &Option<String>| {
        let number = |t: &Option<String>| t.as_deref().and_then(|t| t.parse::<f64>().ok());
        match (number(x), number(y)) {
            (Some(x), Some(y)) => {
                x == y || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()) || (x - y).abs() < 1e-9
            }
            _ => x == y,
        }
    };
    a.len() == b.len()
        && a.iter().zip(b).all(|(x, y)| {
            x.iter().zip(y).zip(doubles).all(|((x, y), double)| x == y || *double && close(x, y))
        })
}

/// One transaction that adds or changes rows, of a kind the dice choose.
fn write(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let (a, b, n) = (dice.roll(200), dice.roll(4000), dice.roll(1 << 30));
    let table = ["event", "event", "event_1", "event_2", "event_2a", "event_rest"][dice.roll(6) as usize];
    let row = |at: &str| {
        format!(
            "INSERT INTO event SELECT nullif(1 + ({n} + g) % 5, 5), {at}, 200 + 100 * (({n} + g) % 4), nullif(({n} + g) % 500, 7), ({n} + g) % 1000 / 7.0, (1 + ({n} + g) % 5) * 0.5, nullif('t' || ({n} + g) % 9, 't3') FROM generate_series(1, 12) g"
        )
    };
    let insert =
        row(&format!("timestamptz '2026-01-01' + {b} * interval '1 minute' + g * interval '11.5 s'"));
    let odd = row([
        "NULL::timestamptz",
        "'infinity'::timestamptz",
        "timestamptz '1880-06-01 00:00Z' + g * interval '97 s'",
        "timestamptz '2026-03-29 00:50Z' + g * interval '2 min'",
        "timestamptz '2026-10-25 00:50Z' + g * interval '2 min'",
        "timestamptz '294276-12-31 22:59Z' + g * interval '1 min'",
    ][dice.roll(6) as usize]);
    let clock = format!(
        "INSERT INTO clock SELECT timestamp '2026-01-01' + {b} * interval '1 minute' + g * interval '7 min', g % 4, g, g, 't' FROM generate_series(1, 9) g"
    );
    let update = format!("UPDATE {table} SET v = v + 1, tag = 'u' || v WHERE v % 200 = {a}");
    let shift = format!(
        "UPDATE event SET at = at + interval '{b} minutes' WHERE v % 200 = {a} AND at < '2026-01-05'"
    );
    let delete = format!("DELETE FROM {table} WHERE v % 200 IN ({a}, {a} + 1)");
    match dice.roll(16) {
        0 => client.batch_execute(&format!("BEGIN; {update}; ROLLBACK")),
        1 => client.batch_execute(&format!(
            "BEGIN; {insert}; SAVEPOINT a; {delete}; ROLLBACK TO a; SAVEPOINT b; {update}; RELEASE b; {shift}; COMMIT"
        )),
        2 => client.batch_execute(&format!("BEGIN; {insert}; SELECT pg_sleep(0.4); {insert}; COMMIT")),
        3 => {
            let id = dice.roll(1 << 40);
            client.batch_execute(&format!("BEGIN; {insert}; {delete}; PREPARE TRANSACTION 'c{id}'"))?;
            client.batch_execute(&format!("COMMIT PREPARED 'c{id}'"))
        }
        4 if dice.roll(8) == 0 => client.batch_execute("SET lock_timeout = '1s'; TRUNCATE event_2a"),
        5 if dice.roll(3) == 0 => client.batch_execute(&format!("BEGIN; {insert}; SELECT rollup_event(); {insert}; COMMIT")),
        6 => client.batch_execute(&odd),
        7 => client.batch_execute(&shift),
        8 => client.batch_execute(&delete),
        9 => client.batch_execute(&update),
        10 | 11 => client.batch_execute(&clock),
        // Rows that come in another way.
        12 if dice.roll(4) == 0 => client.batch_execute("INSERT INTO event SELECT * FROM event_1 WHERE v % 200 = 3 LIMIT 5"),
        _ => client.batch_execute(&insert),
    }
}

/// Rows expire, of the tables and of their rollups, more of them as time goes by; levels come and go.
fn keep(client: &mut Client, stop: &AtomicBool) {
    client.batch_execute("SET lock_timeout = '1s'").unwrap();
    for round in 1.. {
        let keep =
            |minutes: i64| format!("now() - (timestamptz '2026-01-01' + interval '{minutes} minutes')");
        for sql in [
            format!(
                "SELECT rollup.retain('event', {}), rollup.retain('errors', now() - timestamptz '2025-06-01')",
                keep(round * 3)
            ),
            format!(
                "SELECT rollup.retain('minutes', {}), rollup.retain('hours', {})",
                keep(round * 5 - 600),
                keep(round * 4 - 300)
            ),
            format!("SELECT rollup.drop_level('minutes', '{}')", ["hours", "days"][round as usize / 3 % 2]),
            "SELECT rollup.add_level('minutes', 'hours', '1 hour')".into(),
            "SELECT rollup.add_level('minutes', 'days', '1 day')".into(),
            format!("SELECT rollup.retain('hours_site', {})", keep(round * 4 - 200)),
            format!("SELECT rollup.drop_level('minutes', '{}')", NARROW[round as usize / 2 % 4]),
            "SELECT rollup.add_level('minutes', 'minutes_whole', '1 minute', keys => '{}')".into(),
            "SELECT rollup.add_level('minutes', 'hours_site', '1 hour', keys => '{site}')".into(),
            "SELECT rollup.add_level('minutes', 'days_status', '1 day', keys => '{status}')".into(),
            "SELECT rollup.add_level('minutes', 'days_whole', '1 day', keys => '{}'); ANALYZE minutes_whole, hours_site, days, days_status, days_whole, hours".into(),
        ] {
            if let Err(error) = client.batch_execute(&sql) {
                assert!(error.as_db_error().is_some(), "{error:?}");
            }
            for _ in 0..3 {
                if stop.load(Relaxed) {
                    return;
                }
                thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}

/// Asks `queries` questions; how many were answered from a rollup, and from a level that drops keys, and what differed.
fn compare(client: &mut Client, queries: u64, dice: &mut Dice) -> (u64, u64, Vec<String>) {
    let (mut rewritten, mut narrow, mut differing) = (0, 0, Vec::new());
    let mut asked = 0;
    while asked < queries {
        // A statement is asked several times, as it is or prepared.
        let q = question(dice);
        let zone = ZONES[dice.roll(8) as usize];
        client.batch_execute(&format!("SET timezone = '{zone}'")).unwrap();
        let quoted: Vec<String> = q.values.iter().map(|v| format!("'{v}'")).collect();
        let literal =
            (1..).zip(&quoted).fold(q.sql.clone(), |sql, (n, v)| sql.replace(&format!("${n}::text"), v));
        let prepared = !q.values.is_empty() || dice.roll(3) == 0;
        if prepared {
            client
                .batch_execute(&format!(
                    "SET rollup.rewrite = exact; DEALLOCATE ALL; SET plan_cache_mode = {}; PREPARE q AS {}",
                    ["auto", "force_generic_plan"][dice.roll(2) as usize],
                    q.sql
                ))
                .unwrap();
        }
        for _ in 0..1 + dice.roll(3) {
            asked += 1;
            if prepared && dice.roll(2) == 0 {
                client.batch_execute(&format!("SET timezone = '{}'", ZONES[dice.roll(8) as usize])).unwrap();
            }
            client
                .batch_execute(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE event, clock IN ACCESS SHARE MODE",
                )
                .unwrap();
            let own = dice.roll(6) == 0;
            if own {
                // What the transaction has done itself, it sees.
                client.batch_execute("INSERT INTO event VALUES (1, '2026-01-01 00:00:30Z', 500, 77, 1, 1, 'own'); UPDATE event SET v = 78 WHERE tag = 'own'").unwrap();
            }
            client.batch_execute("SET LOCAL rollup.rewrite = off").unwrap();
            // Near the last moment of all PostgreSQL itself fails.
            let raw = match rows(client, &literal) {
                Ok(raw) => raw,
                Err(e) if e.code().is_some_and(|c| c.code() == "22008") => {
                    client.batch_execute("ROLLBACK").unwrap();
                    continue;
                }
                Err(e) => panic!("{literal}: {e:?}"),
            };
            client.batch_execute("SET LOCAL rollup.rewrite = exact").unwrap();
            let again = match prepared {
                true if quoted.is_empty() => "EXECUTE q".to_string(),
                true => format!("EXECUTE q ({})", quoted.join(", ")),
                false => literal.clone(),
            };
            let exact = rows(client, &again).unwrap_or_else(|e| panic!("{literal}: {e:?}"));
            if !same(&raw, &exact, &q.doubles) {
                let zone = client.query_one("SHOW timezone", &[]).unwrap().get::<_, String>(0);
                differing.push(format!("{zone} {again} of {literal}\n  raw {raw:?}\n  exact {exact:?}"));
            }
            client.batch_execute("ROLLBACK").unwrap();
        }
        client.batch_execute("SET rollup.rewrite = off").unwrap();
        let told = client
            .query("SELECT rollup, level FROM rollup.explain_rewrite($1) WHERE reason IS NULL", &[&literal])
            .unwrap_or_else(|e| panic!("{literal}: {e:?}"));
        rewritten += u64::from(!told.is_empty());
        let level = told.first().and_then(|row| row.get::<_, Option<String>>(1));
        narrow += u64::from(level.is_some_and(|level| NARROW.contains(&level.as_str())));
    }
    (rewritten, narrow, differing)
}

#[test]
fn answers_are_those_of_the_raw_table() {
    let queries = std::env::var("REWRITE_QUERIES").ok().and_then(|s| s.parse().ok()).unwrap_or(100);
    let seed: u64 = std::env::var("REWRITE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_128);
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("rewriting").unwrap();
    client.batch_execute(TABLES).unwrap();
    client.batch_execute("ALTER DATABASE rewriting SET timezone = 'UTC'").unwrap();
    client.batch_execute("ALTER SYSTEM SET rollup.batch_rows = 3000").unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    let mut client = another(&cluster, "rewriting");
    // A backlog is worked off while statements are asked.
    client.batch_execute("INSERT INTO event SELECT nullif(1 + g % 5, 5), timestamptz '2026-01-01' + g * interval '5 s', 200 + 100 * (g % 4), g % 500, g / 7.0, (1 + g % 5) * 0.5, 't' || g % 9 FROM generate_series(1, 20000) g").unwrap();
    client.batch_execute(ROLLUPS).unwrap();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let (rewritten, narrow, differing) = thread::scope(|scope| {
        for n in 1..=5u64 {
            let (mut writer, stop, written) = (another(&cluster, "rewriting"), &stop, &written);
            scope.spawn(move || {
                let mut dice = Dice((seed + n) * 0x9E37_79B9_7F4A_7C15);
                while !stop.load(Relaxed) {
                    match write(&mut writer, &mut dice) {
                        Ok(()) => written.fetch_add(1, Relaxed),
                        Err(error) if error.as_db_error().is_some() => {
                            let code = error.code().expect("a SQLSTATE").code();
                            assert!(["40001", "40P01", "55P03"].contains(&code), "{error:?}");
                            writer.batch_execute("ROLLBACK").unwrap();
                            0
                        }
                        Err(error) => panic!("{error:?}"),
                    };
                    thread::sleep(std::time::Duration::from_millis(3));
                }
            });
        }
        let (mut keeper, stop_keeper) = (another(&cluster, "rewriting"), &stop);
        scope.spawn(move || keep(&mut keeper, stop_keeper));
        let mut dice = Dice(seed * 0x9E37_79B9_7F4A_7C15);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            compare(&mut client, queries, &mut dice)
        }));
        stop.store(true, Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let counted = number(&mut client, "SELECT sum(rewritten)::bigint FROM rollup.status");
    println!(
        "{queries} questions, {counted} answered from rollups, {rewritten} kinds of them, {narrow} from levels that drop keys, {} differ, {} transactions",
        differing.len(),
        written.load(Relaxed)
    );
    for d in differing.iter().take(3) {
        println!("{d}");
    }
    assert!(differing.is_empty());
    assert!(rewritten * 5 > queries / 2, "{rewritten} of {queries}");
    assert!(counted as u64 * 8 > queries, "{counted} of {queries}");
    assert!(narrow > 0, "{narrow} of {queries}");
    client.batch_execute("SET rollup.rewrite = exact").unwrap();
    wait_for("the rollup holds every change", 60, || {
        number(&mut client, "SELECT count(*) FROM rollup.check('minutes')") == 0
    });
}
