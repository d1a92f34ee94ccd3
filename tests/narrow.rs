//! Levels that drop keys, while rows are written, changed and merged, and the server crashes: they never disagree with each other,
//! with the rollup or with the raw rows.
//!
//! NARROW_ROUNDS says how often the server crashes.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::forgive::{COLLISIONS, answering, is_one_of, lost};
use hll_tests::load::Dice;
use hll_tests::nodes::StopAtEnd;
use hll_tests::{configure, number};
use postgres::Client;

const TABLE: &str = "CREATE TABLE hit (at timestamptz NOT NULL, country text, page int, ms int, who text);
    SELECT rollup.create('minutes', $$ SELECT date_trunc('minute', at) AS at, country, page % 3 AS p, count(*) AS n, sum(ms) AS total, avg(ms) AS mean, hll_add_agg(hll_hash_text(who)) AS people,
        ddsketch_agg(ms) AS pct, jsonb_counter_agg(who) AS by_who, jsonb_counter_bounded_agg(who, 1, 8) AS top, rollup.last(ms, at) AS latest FROM hit GROUP BY 1, 2, 3 $$,
      every => '100 milliseconds', on_change => 'recompute', coarser => '{\"minutes_whole\": {\"width\": \"1 minute\", \"keys\": []}, \"hours_country\": {\"width\": \"1 hour\", \"keys\": [\"country\"]},
        \"days\": \"1 day\", \"days_p\": {\"width\": \"1 day\", \"keys\": [\"p\"]}, \"days_whole\": {\"width\": \"1 day\", \"keys\": []}}')";

/// Each level with its unit and keys, as a query over the raw rows has them.
const LEVELS: [(&str, &str, &str, &str); 6] = [
    ("minutes", "minute", "country, page % 3,", "country, p,"),
    ("minutes_whole", "minute", "", ""),
    ("hours_country", "hour", "country,", "country,"),
    ("days", "day", "country, page % 3,", "country, p,"),
    ("days_p", "day", "page % 3,", "p,"),
    ("days_whole", "day", "", ""),
];

/// How many groups differ between all live views and the raw rows, in one statement and so in one snapshot.
fn differing(client: &mut Client) -> Result<i64, postgres::Error> {
    let values = "count(*), sum(ms), avg(ms), hll_add_agg(hll_hash_text(who))::text, ddsketch_agg(ms)::text, jsonb_counter_agg(who), rollup.last(ms, at)";
    let each = LEVELS.map(|(level, unit, raw, kept)| {
        let positions = (1..=1 + raw.matches(',').count()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        format!(
            "SELECT count(*) FROM ((SELECT true, t FROM (SELECT date_trunc('{unit}', at, 'UTC'), {raw} {values} FROM hit GROUP BY {positions}) t EXCEPT ALL
                SELECT true, t FROM (SELECT at, {kept} n, total, mean, people::text, pct::text, by_who, latest FROM {level}_live) t) UNION ALL
              (SELECT false, t FROM (SELECT at, {kept} n, total, mean, people::text, pct::text, by_who, latest FROM {level}_live) t EXCEPT ALL
                SELECT false, t FROM (SELECT date_trunc('{unit}', at, 'UTC'), {raw} {values} FROM hit GROUP BY {positions}) t)) d"
        )
    });
    client
        .query_one(&format!("SELECT sum(count)::bigint FROM ({}) d", each.join(" UNION ALL ")), &[])
        .map(|row| row.get(0))
}

/// One transaction of a writer, of a kind the dice choose.
fn write(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let (a, b, n) = (dice.roll(300), dice.roll(4000), dice.roll(1 << 20));
    let insert = format!(
        "INSERT INTO hit SELECT timestamptz '2026-01-01' + {b} * interval '1 minute' + g * interval '13 s', nullif('c' || ({n} + g) % 4, 'c3'), nullif(({n} + g) % 7, 5), ({n} + g) % 300, 'w' || ({n} + g) % 11 FROM generate_series(1, 8) g"
    );
    let update = format!("UPDATE hit SET country = 'u', ms = ms + 1 WHERE ms = {a}");
    let shift =
        format!("UPDATE hit SET at = at + interval '{b} minutes' WHERE ms = {a} AND at < '2026-01-06'");
    match dice.roll(9) {
        0 => client.batch_execute(&format!("BEGIN; {insert}; ROLLBACK")),
        1 => client.batch_execute(&format!(
            "BEGIN; {insert}; SAVEPOINT a; {update}; ROLLBACK TO a; {shift}; COMMIT"
        )),
        2 => client.batch_execute(&format!("BEGIN; {insert}; SELECT pg_sleep(0.2); {insert}; COMMIT")),
        3 => client.batch_execute(&update),
        4 => client.batch_execute(&shift),
        5 => client.batch_execute(&format!("DELETE FROM hit WHERE ms = {a}")),
        6 if dice.roll(4) == 0 => {
            client.batch_execute(&format!("BEGIN; {insert}; SELECT rollup_hit(); {insert}; COMMIT"))
        }
        _ => client.batch_execute(&insert),
    }
}

/// Writes until told to stop, or until the server is gone.
fn write_until(stop: &AtomicBool, writer: &mut Client, mut dice: Dice, written: &AtomicU64) {
    while !stop.load(Relaxed) {
        let outcome = write(writer, &mut dice).map(|()| _ = written.fetch_add(1, Relaxed)).or_else(|error| {
            if is_one_of(&error, &COLLISIONS) { writer.batch_execute("ROLLBACK") } else { Err(error) }
        });
        if let Err(error) = outcome {
            assert!(lost(&error), "a writer: {error:?}");
            return;
        }
    }
}

/// Rows are written, and levels come and go, until the server crashes; how often what is shown was compared.
fn round(cluster: &mut Cluster, dice: &mut Dice, written: &AtomicU64) -> u64 {
    let stop = AtomicBool::new(false);
    let writers: Vec<_> = (0..4).map(|_| answering(|| cluster.connect("narrow"))).collect();
    let (mut client, mut keeper) =
        (answering(|| cluster.connect("narrow")), answering(|| cluster.connect("narrow")));
    let mut compared = 0;
    thread::scope(|scope| {
        for mut writer in writers {
            let (stop, dice) = (&stop, Dice(1 + dice.roll(1 << 60)));
            scope.spawn(move || write_until(stop, &mut writer, dice, written));
        }
        let _stop = StopAtEnd(&stop);
        let pause = Instant::now() + Duration::from_millis(1500 + dice.roll(1000));
        while Instant::now() < pause {
            for (level, keys) in [("days_p", "{p}"), ("hours_country", "{country}")] {
                let width = if level == "days_p" { "1 day" } else { "1 hour" };
                let again = format!(
                    "SET lock_timeout = '2s'; SELECT rollup.drop_level('minutes', '{level}'), rollup.add_level('minutes', '{level}', '{width}', keys => '{keys}')"
                );
                if dice.roll(4) == 0
                    && let Err(error) = keeper.batch_execute(&again)
                {
                    assert!(is_one_of(&error, &COLLISIONS), "{error:?}");
                }
                assert_eq!(differing(&mut client).expect("a comparison"), 0);
                compared += 1;
            }
        }
        cluster.crash().unwrap();
        cluster.start().unwrap();
    });
    compared
}

#[test]
fn levels_never_disagree() {
    let rounds = std::env::var("NARROW_ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let seed: u64 = std::env::var("NARROW_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(19);
    let mut cluster = Cluster::new().unwrap();
    let mut client = cluster.database("narrow").unwrap();
    configure(&mut client, &["SET timezone = 'UTC'", "SET synchronous_commit = off"]);
    client.batch_execute(TABLE).unwrap();
    let (mut dice, written, mut compared) = (Dice(seed * 0x9E37_79B9_7F4A_7C15), AtomicU64::new(0), 0);
    for _ in 0..rounds {
        compared += round(&mut cluster, &mut dice, &written);
    }
    let mut client = answering(|| cluster.connect("narrow"));
    // A crash holds up a rollup for a while.
    wait_for("a run", 60, || client.batch_execute("SELECT rollup.resume('minutes'), rollup_hit()").is_ok());
    wait_for("all is merged", 60, || {
        number(&mut client, "SELECT count(*) FROM hit")
            == number(&mut client, "SELECT sum(n)::bigint FROM days_whole")
    });
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('minutes')"), 0);
    assert_eq!(differing(&mut client).unwrap(), 0);
    let levels = "SELECT count(DISTINCT n) FROM (SELECT sum(n) AS n FROM minutes UNION ALL SELECT sum(n) FROM minutes_whole UNION ALL SELECT sum(n) FROM hours_country
        UNION ALL SELECT sum(n) FROM days UNION ALL SELECT sum(n) FROM days_p UNION ALL SELECT sum(n) FROM days_whole) s";
    assert_eq!(number(&mut client, levels), 1);
    let rows = number(&mut client, "SELECT count(*) FROM hit");
    println!(
        "{rounds} crashes, {} runs, {rows} rows, {} transactions, {compared} comparisons, 0 differ",
        number(&mut client, "SELECT runs FROM rollup.status"),
        written.load(Relaxed)
    );
    assert!(rows > 100 && compared > 0);
}
