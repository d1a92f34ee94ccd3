//! Rows that come by every road at once: staging tables, moves, partitions that are attached, detached, exchanged and
//! rewritten, prepared and rolled back, with runs beside them. Each is counted once. In a rollup that ignores changes each
//! batch of rows is a group of its own, so that what is new can always be told; one that follows them takes all.
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::load::Dice;
use hll_tests::{another, number};
use postgres::Client;

const TABLES: &str = "
    CREATE TABLE visit (at timestamptz NOT NULL, slot int, batch bigint, v int, note text) PARTITION BY LIST (slot);
    CREATE TABLE visit_0 PARTITION OF visit FOR VALUES IN (0);
    CREATE TABLE visit_1 PARTITION OF visit FOR VALUES IN (1);
    CREATE TABLE visit_2 PARTITION OF visit FOR VALUES IN (2) PARTITION BY RANGE (at);
    CREATE TABLE visit_2a PARTITION OF visit_2 FOR VALUES FROM ('2026-01-01') TO ('2026-01-03');
    CREATE TABLE visit_2b PARTITION OF visit_2 DEFAULT;";

const VALUES: &str = "count(*) AS n, sum(v) AS total, sum(hashtext(note)::bigint) AS hash, max(v) AS most";

/// Batches whose rows were inserted into the table itself, all of them before any run could see one.
type Batches = Mutex<Vec<u64>>;

struct Roads<'a> {
    dice: Dice,
    batches: &'a Batches,
    next: &'a AtomicU64,
    /// Rows may be changed and deleted, too.
    changes: bool,
}

impl Roads<'_> {
    fn rows(&mut self, batch: u64, slot: &str) -> String {
        let (start, n) = (self.dice.roll(5000), 1 + self.dice.roll(20));
        format!(
            "SELECT timestamptz '2026-01-01' + {start} * interval '1 minute' + g * interval '{} minutes', {slot}, {batch}, ({batch} + g) % 100, 'n' || g FROM generate_series(1, {n}) g",
            self.dice.roll(120)
        )
    }

    fn new_batch(&mut self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    fn known(&mut self) -> Option<u64> {
        let batches = self.batches.lock().unwrap();
        (!batches.is_empty()).then(|| batches[self.dice.roll(batches.len() as u64) as usize])
    }

    /// Rows written elsewhere, committed, with the stamps of that.
    fn stage(&mut self, client: &mut Client, id: usize) -> Result<u64, postgres::Error> {
        let batch = self.new_batch();
        let rows = self.rows(batch, "g % 3");
        client.batch_execute(&format!("INSERT INTO staging_{id} (at, slot, batch, v, note) {rows}"))?;
        Ok(batch)
    }

    /// One thing that happens, of a kind the dice choose.
    fn step(&mut self, client: &mut Client, id: usize) -> Result<(), postgres::Error> {
        let kind = self.dice.roll(if self.changes { 15 } else { 11 });
        let known = self.known();
        match (kind, known) {
            (0, _) => {
                let batch = self.stage(client, id)?;
                if self.dice.roll(2) == 0 {
                    thread::sleep(Duration::from_millis(self.dice.roll(150)));
                }
                client.batch_execute(&format!("INSERT INTO visit SELECT * FROM staging_{id} WHERE batch = {batch}"))
            }
            (1, _) => {
                let batch = self.stage(client, id)?;
                client.batch_execute(&format!(
                    "BEGIN; INSERT INTO visit SELECT * FROM staging_{id} WHERE batch = {batch}; SAVEPOINT a;
                     INSERT INTO visit SELECT * FROM staging_{id}; ROLLBACK TO a; SELECT pg_sleep(0.05); COMMIT"
                ))
            }
            (2, _) => {
                let batch = self.stage(client, id)?;
                let part = ["<", ">="].map(|c| {
                    format!("INSERT INTO visit SELECT * FROM staging_{id} WHERE batch = {batch} AND v {c} 50")
                });
                client.batch_execute(&format!(
                    "BEGIN; {}; SAVEPOINT a; {}; PREPARE TRANSACTION 'r{batch}'",
                    part[0], part[1]
                ))?;
                thread::sleep(Duration::from_millis(self.dice.roll(150)));
                let end = if self.dice.roll(4) == 0 { "ROLLBACK" } else { "COMMIT" };
                client.batch_execute(&format!("{end} PREPARED 'r{batch}'"))
            }
            // Moved, whether or not they were counted; also back and forth.
            (3 | 4, Some(batch)) => client.batch_execute(&format!(
                "WITH gone AS (DELETE FROM visit WHERE batch = {batch} AND slot < 3 RETURNING *)
                 INSERT INTO visit SELECT at, 2 - slot, batch, v, note, rollup_stamp FROM gone"
            )),
            (5, Some(batch)) => client
                .batch_execute(&format!("UPDATE visit SET slot = (slot + 1) % 3 WHERE batch = {batch} AND slot < 3")),
            (6, Some(batch)) => {
                let staged = self.stage(client, id)?;
                client.batch_execute(&format!(
                    "MERGE INTO visit t USING (SELECT *, true AS new FROM staging_{id} WHERE batch = {staged}
                       UNION ALL SELECT DISTINCT ON (batch) *, false FROM visit WHERE batch = {batch} AND slot < 3) s
                     ON t.batch = s.batch AND t.slot < 3 AND NOT s.new
                     WHEN MATCHED THEN UPDATE SET slot = (t.slot + 1) % 3
                     WHEN NOT MATCHED AND s.new THEN INSERT (at, slot, batch, v, note, rollup_stamp) VALUES (s.at, s.slot, s.batch, s.v, s.note, s.rollup_stamp)"
                ))
            }
            (7, Some(batch)) => client
                .batch_execute(&format!("UPDATE visit SET rollup_stamp = DEFAULT, note = note WHERE batch = {batch}")),
            (8, _) => {
                let (batch, slot) = (self.new_batch(), self.dice.roll(3));
                let rows = self.rows(batch, &slot.to_string());
                client.batch_execute(&format!(
                    "BEGIN; INSERT INTO visit (at, slot, batch, v, note) {rows}; SELECT rollup.run('visit'); COMMIT"
                ))?;
                self.batches.lock().unwrap().push(batch);
                Ok(())
            }
            (11, Some(batch)) => client.batch_execute(&format!("DELETE FROM visit WHERE batch = {batch} AND v % 2 = 0")),
            (12, Some(batch)) => client.batch_execute(&format!(
                "UPDATE visit SET v = v + 1, at = at + interval '7 hours', slot = (slot + 1) % 3 WHERE batch = {batch} AND slot < 3"
            )),
            (13, _) if self.dice.roll(10) == 0 => client.batch_execute("TRUNCATE visit_2a"),
            // More of a group that is there, and some of it changed, before a run can judge it.
            (14, Some(batch)) => {
                let rows = self.rows(batch, "g % 3");
                client.batch_execute(&format!("INSERT INTO staging_{id} (at, slot, batch, v, note) {rows}"))?;
                client.batch_execute(&format!(
                    "INSERT INTO visit SELECT * FROM staging_{id} WHERE batch = {batch}; UPDATE visit SET v = v + 1 WHERE batch = {batch} AND v % 3 = 0"
                ))
            }
            _ => {
                let batch = self.new_batch();
                let rows = self.rows(batch, "g % 3");
                client.batch_execute(&format!("INSERT INTO visit (at, slot, batch, v, note) {rows}"))?;
                self.batches.lock().unwrap().push(batch);
                Ok(())
            }
        }
    }

    /// The same of whole tables: those of slots 10 to 13 come and go.
    fn table(&mut self, client: &mut Client, attached: &mut HashSet<u64>) -> Result<(), postgres::Error> {
        let slot = 10 + self.dice.roll(4);
        let table = format!("part_{slot}");
        let there = number(client, &format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'")) == 1;
        let batch = self.new_batch();
        let rows = self.rows(batch, &slot.to_string());
        let attach =
            |table: &str| format!("ALTER TABLE visit ATTACH PARTITION {table} FOR VALUES IN ({slot})");
        let detach = format!("ALTER TABLE visit DETACH PARTITION {table}");
        if !there {
            return client.batch_execute(&format!(
                "BEGIN; CREATE TABLE {table} (LIKE visit INCLUDING ALL); INSERT INTO {table} (at, slot, batch, v, note) {rows}; COMMIT"
            ));
        }
        if attached.insert(slot) {
            let done = client.batch_execute(&attach(&table));
            if done.is_err() {
                attached.remove(&slot);
            }
            return done;
        }
        match self.dice.roll(5) {
            0 => {
                client.batch_execute(&detach)?;
                attached.remove(&slot);
                // Filled while it is away, with the default.
                client.batch_execute(&format!("INSERT INTO {table} (at, slot, batch, v, note) {rows}"))
            }
            1 => client.batch_execute(&format!(
                "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; CREATE TABLE copy_{slot} (LIKE visit INCLUDING ALL);
                 INSERT INTO copy_{slot} SELECT * FROM {table}; {detach}; DROP TABLE {table}; ALTER TABLE copy_{slot} RENAME TO {table}; {}; COMMIT",
                attach(&table)
            )),
            2 => client.batch_execute(&format!("BEGIN; {detach}; {}; COMMIT", attach(&table))),
            3 => client.batch_execute(&format!("VACUUM FULL {table}")),
            _ => client.batch_execute(&format!("INSERT INTO visit (at, slot, batch, v, note) {rows}")),
        }
    }
}

/// Runs it all for a while; gives how much was done.
fn all_roads(database: &str, changes: bool, keys: &str, buckets: &str) {
    let seconds = std::env::var("ROADS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let seed = std::env::var("ROADS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(4711u64);
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
    let (batches, next) = (Batches::default(), AtomicU64::new(1));
    let roads = |n: u64| Roads {
        dice: Dice((n * 0x9E37_79B9_7F4A_7C15) ^ seed),
        batches: &batches,
        next: &next,
        changes,
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
        let stop = &stop;
        scope.spawn(move || {
            mover.batch_execute("SET lock_timeout = '2s'").unwrap();
            while !stop.load(Relaxed) {
                let outcome = roads.table(&mut mover, attached);
                count(&mut mover, outcome);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end && !thread::panicking() {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Relaxed);
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
    wait_for("every row was judged", 60, || {
        number(
            &mut client,
            "SELECT (SELECT count(*) FROM rollup.arrival) + (SELECT count(*) FROM rollup.change) + (SELECT lag_rows FROM rollup.status)",
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
        "{on_change}: {} transactions, {rows} rows, {groups} groups, {left} left out",
        done.load(Relaxed)
    );
    assert_eq!(left, 0, "rows were left out");
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
