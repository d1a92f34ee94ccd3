//! Writers that bring rows by every road (see `roads`), and what else happens to their tables meanwhile.
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::forgive::is_one_of;
use crate::load::Dice;
use crate::number;
use postgres::Client;

/// The tables.
pub const TABLES: &str = "
    CREATE ROLE keeper; GRANT ALL ON SCHEMA public TO keeper; SET ROLE keeper;
    CREATE FUNCTION weight(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
    CREATE TABLE visit (at timestamptz NOT NULL, slot int, batch bigint, v int, note text, extra int DEFAULT 3) PARTITION BY LIST (slot);
    CREATE TABLE visit_0 PARTITION OF visit FOR VALUES IN (0);
    CREATE TABLE visit_1 PARTITION OF visit FOR VALUES IN (1);
    CREATE TABLE visit_2 PARTITION OF visit FOR VALUES IN (2) PARTITION BY RANGE (at);
    CREATE TABLE visit_2a PARTITION OF visit_2 FOR VALUES FROM ('2026-01-01') TO ('2026-01-03');
    CREATE TABLE visit_2b PARTITION OF visit_2 DEFAULT;";

/// What the rollup holds of a group.
pub const VALUES: &str = "count(*) AS n, sum(weight(v)) AS total, sum(extra) AS extra, sum(hashtext(note)::bigint) AS hash, max(v) AS most";

/// How many rows of each batch the writers know to be there.
pub type Written = Mutex<BTreeMap<i64, i64>>;

/// Names that change, there and back: the kind of object, and what it is called. Writers name none of them.
pub const NAMES: [(&str, &str); 6] = [
    ("FUNCTION", "weight"),
    ("ROLE", "keeper"),
    ("TABLE", "visits"),
    ("TABLE", "visits_week"),
    ("TABLE", "visit_0"),
    ("VIEW", "visits_live"),
];

/// Batches whose rows were inserted into the table itself, all of them before any run could see one.
pub type Batches = Mutex<Vec<u64>>;

/// A writer.
pub struct Roads<'a> {
    /// What it chooses by.
    pub dice: Dice,
    /// Those that every writer may move and change.
    pub batches: &'a Batches,
    /// The number of the next batch.
    pub next: &'a AtomicU64,
    /// What all of them have written.
    pub written: &'a Written,
    /// Rows of the last statement that was made up.
    pub made: i64,
    /// Rows may be changed and deleted, too.
    pub changes: bool,
    /// Held by whoever empties a table: a dump that began before finds it empty, beside a rollup of before.
    pub shapes: &'a Mutex<()>,
}

impl Roads<'_> {
    fn rows(&mut self, batch: u64, slot: &str) -> String {
        let (start, n) = (self.dice.roll(5000), 1 + self.dice.roll(20));
        self.made = n as i64;
        format!(
            "SELECT timestamptz '2026-01-01' + {start} * interval '1 minute' + g * interval '{} minutes', {slot}, {batch}, ({batch} + g) % 100, 'n' || g FROM generate_series(1, {n}) g",
            self.dice.roll(120)
        )
    }

    /// The rows that were made up have come, or so many have gone.
    fn came(&self, batch: u64, rows: i64) {
        *self.written.lock().unwrap().entry(batch as i64).or_default() += rows;
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
    pub fn step(&mut self, client: &mut Client, id: usize) -> Result<(), postgres::Error> {
        let kind = self.dice.roll(if self.changes { 18 } else { 14 });
        let known = self.known();
        match (kind, known) {
            (0, _) => {
                let batch = self.stage(client, id)?;
                if self.dice.roll(2) == 0 {
                    thread::sleep(Duration::from_millis(self.dice.roll(150)));
                }
                client.batch_execute(&format!("INSERT INTO visit SELECT * FROM staging_{id} WHERE batch = {batch}"))?;
                self.came(batch, self.made);
                Ok(())
            }
            (1, _) => {
                let batch = self.stage(client, id)?;
                client.batch_execute(&format!(
                    "BEGIN; INSERT INTO visit SELECT * FROM staging_{id} WHERE batch = {batch}; SAVEPOINT a;
                     INSERT INTO visit SELECT * FROM staging_{id}; ROLLBACK TO a; SELECT pg_sleep(0.05); COMMIT"
                ))?;
                self.came(batch, self.made);
                Ok(())
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
                client.batch_execute(&format!("{end} PREPARED 'r{batch}'"))?;
                self.came(batch, if end == "COMMIT" { self.made } else { 0 });
                Ok(())
            }
            // Moved, whether or not they were counted; also back and forth.
            (3 | 4, Some(batch)) => client.batch_execute(&format!(
                "WITH gone AS (DELETE FROM visit WHERE batch = {batch} AND slot < 3 RETURNING *)
                 INSERT INTO visit (at, slot, batch, v, note, rollup_stamp) SELECT at, 2 - slot, batch, v, note, rollup_stamp FROM gone"
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
                ))?;
                self.came(staged, self.made);
                Ok(())
            }
            (7, Some(batch)) => client
                .batch_execute(&format!("UPDATE visit SET rollup_stamp = DEFAULT, note = note WHERE batch = {batch}")),
            (8, _) => {
                let (batch, slot) = (self.new_batch(), self.dice.roll(3));
                let rows = self.rows(batch, &slot.to_string());
                let run = client.batch_execute(&format!(
                    "BEGIN; INSERT INTO visit (at, slot, batch, v, note) {rows}; SELECT rollup.run('visit'); COMMIT"
                ));
                match run {
                    // What the run looked up has been renamed before it had its lock: that transaction is gone, no more.
                    Err(e) if is_one_of(&e, &["42P01", "42883", "42703"]) => return client.batch_execute("ROLLBACK"),
                    other => other?,
                }
                self.came(batch, self.made);
                self.batches.lock().unwrap().push(batch);
                Ok(())
            }
            // A file that COPY wrote without a list of columns.
            (11, _) => {
                let (batch, mut file) = (self.stage(client, id)?, Vec::new());
                let out = format!("COPY (SELECT * FROM staging_{id} WHERE batch = {batch}) TO STDOUT");
                client.copy_out(&out)?.read_to_end(&mut file).expect("what COPY writes");
                let mut sink = client.copy_in("COPY visit FROM STDIN")?;
                sink.write_all(&file).expect("what COPY reads");
                sink.finish()?;
                self.came(batch, self.made);
                Ok(())
            }
            // Rows of the default partition go to partitions of their own, and back.
            (12, _) => client.batch_execute("SELECT rollup.partition('visit_2', '6 hours', '0')"),
            (13, _) => {
                let one = "SELECT partition::text FROM rollup_internal.partition_bounds('visit_2') WHERE partition <> 'visit_2a'::regclass ORDER BY random() LIMIT 1";
                let Some(row) = client.query_opt(one, &[])? else { return Ok(()) };
                let partition: String = row.get(0);
                let moved = client.batch_execute(&format!(
                    "BEGIN; SET LOCAL lock_timeout = '300ms'; LOCK TABLE visit_2 IN ACCESS EXCLUSIVE MODE;
                     CREATE TEMP TABLE away ON COMMIT DROP AS WITH gone AS (DELETE FROM {partition} RETURNING *) SELECT * FROM gone;
                     DROP TABLE {partition}; INSERT INTO visit SELECT * FROM away; COMMIT"
                ));
                match moved {
                    // Somebody else was faster.
                    Err(e) if is_one_of(&e, &["42P01", "42601"]) => client.batch_execute("ROLLBACK"),
                    other => other,
                }
            }
            (14, Some(batch)) => {
                let gone = client.execute(&format!("DELETE FROM visit WHERE batch = {batch} AND v % 2 = 0"), &[])?;
                self.came(batch, -(gone as i64));
                Ok(())
            }
            (15, Some(batch)) => client.batch_execute(&format!(
                "UPDATE visit SET v = v + 1, at = at + interval '7 hours', slot = (slot + 1) % 3 WHERE batch = {batch} AND slot < 3"
            )),
            (16, _) if self.dice.roll(10) == 0 => {
                let _held = self.shapes.lock().unwrap();
                let mut all = client.transaction()?;
                all.batch_execute("LOCK TABLE visit_2a IN ACCESS EXCLUSIVE MODE")?;
                let gone = all.query("SELECT batch, count(*) FROM visit_2a GROUP BY 1", &[])?;
                all.batch_execute("TRUNCATE visit_2a")?;
                all.commit()?;
                gone.iter().for_each(|row| self.came(row.get::<_, i64>(0) as u64, -row.get::<_, i64>(1)));
                Ok(())
            }
            // More of a group that is there, and some of it changed, before a run can judge it.
            (17, Some(batch)) => {
                let rows = self.rows(batch, "g % 3");
                client.batch_execute(&format!("INSERT INTO staging_{id} (at, slot, batch, v, note) {rows}"))?;
                client.batch_execute(&format!(
                    "INSERT INTO visit SELECT * FROM staging_{id} WHERE batch = {batch}; UPDATE visit SET v = v + 1 WHERE batch = {batch} AND v % 3 = 0"
                ))?;
                // Those that were staged for it before have come once more.
                let staged = format!("SELECT count(*) FROM staging_{id} WHERE batch = {batch}");
                self.came(batch, number(client, &staged));
                Ok(())
            }
            _ => {
                let batch = self.new_batch();
                let rows = self.rows(batch, "g % 3");
                client.batch_execute(&format!("INSERT INTO visit (at, slot, batch, v, note) {rows}"))?;
                self.came(batch, self.made);
                self.batches.lock().unwrap().push(batch);
                Ok(())
            }
        }
    }

    /// Changes of rows in a table that is detached, which no trigger tells of.
    fn away(&mut self, client: &mut Client, table: &str) -> Result<(), postgres::Error> {
        let gone = match self.dice.roll(3) {
            0 => client.query(
                &format!("WITH gone AS (DELETE FROM {table} WHERE v % 3 = 0 RETURNING batch) SELECT batch, count(*) FROM gone GROUP BY 1"),
                &[],
            )?,
            1 => {
                let gone = client.query(&format!("SELECT batch, count(*) FROM {table} GROUP BY 1"), &[])?;
                client.batch_execute(&format!("TRUNCATE {table}"))?;
                gone
            }
            _ => Vec::new(),
        };
        gone.iter().for_each(|row| self.came(row.get::<_, i64>(0) as u64, -row.get::<_, i64>(1)));
        client.batch_execute(&format!(
            "UPDATE {table} SET v = v + 1, at = at + interval '5 hours' WHERE v % 2 = 0"
        ))
    }

    /// The same of whole tables: those of slots 10 to 13 come and go.
    pub fn table(&mut self, client: &mut Client, attached: &mut HashSet<u64>) -> Result<(), postgres::Error> {
        let slot = 10 + self.dice.roll(4);
        let table = format!("part_{slot}");
        let there = number(client, &format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'")) == 1;
        let batch = self.new_batch();
        let rows = self.rows(batch, &slot.to_string());
        let attach =
            |table: &str| format!("ALTER TABLE visit ATTACH PARTITION {table} FOR VALUES IN ({slot})");
        let detach = format!("ALTER TABLE visit DETACH PARTITION {table}");
        if !there {
            client.batch_execute(&format!(
                "BEGIN; CREATE TABLE {table} (LIKE visit INCLUDING ALL); INSERT INTO {table} (at, slot, batch, v, note) {rows}; COMMIT"
            ))?;
            // In the end all of them are attached.
            self.came(batch, self.made);
            return Ok(());
        }
        if attached.insert(slot) {
            let done = client.batch_execute(&attach(&table));
            if done.is_err() {
                attached.remove(&slot);
            }
            return done;
        }
        match self.dice.roll(8) {
            0 => {
                client.batch_execute(&detach)?;
                attached.remove(&slot);
                // Filled while it is away, with the default.
                client.batch_execute(&format!("INSERT INTO {table} (at, slot, batch, v, note) {rows}"))?;
                self.came(batch, self.made);
                if self.changes { self.away(client, &table) } else { Ok(()) }
            }
            1 => client.batch_execute(&format!(
                "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; CREATE TABLE copy_{slot} (LIKE visit INCLUDING ALL);
                 INSERT INTO copy_{slot} SELECT * FROM {table}; {detach}; DROP TABLE {table}; ALTER TABLE copy_{slot} RENAME TO {table}; {}; COMMIT",
                attach(&table)
            )),
            2 => client.batch_execute(&format!("BEGIN; {detach}; {}; COMMIT", attach(&table))),
            3 => client.batch_execute(&format!("VACUUM FULL {table}")),
            4 => {
                let (kind, name) = NAMES[self.dice.roll(NAMES.len() as u64) as usize];
                renamed(client, kind, name)
            }
            5 => rename_column(client),
            _ => {
                client.batch_execute(&format!("INSERT INTO visit (at, slot, batch, v, note) {rows}"))?;
                self.came(batch, self.made);
                Ok(())
            }
        }
    }
}

/// Gives an object the other of its two names.
pub fn renamed(client: &mut Client, kind: &str, name: &str) -> Result<(), postgres::Error> {
    let there = match kind {
        "FUNCTION" => "SELECT count(*) FROM pg_proc WHERE proname = $1::text",
        "ROLE" => "SELECT count(*) FROM pg_roles WHERE rolname = $1::text",
        _ => "SELECT count(*) FROM pg_class WHERE relname = $1::text",
    };
    let back = client.query_one(there, &[&name])?.get::<_, i64>(0) == 0;
    let (from, to) =
        if back { (format!("{name}_b"), name.into()) } else { (name.into(), format!("{name}_b")) };
    let rename = format!("ALTER {kind} {from} RENAME TO {to}");
    match kind {
        // The session is that of a superuser, who acts as the role.
        "ROLE" => client.batch_execute(&format!("RESET ROLE; {rename}; SET ROLE {to}")),
        _ => client.batch_execute(&rename),
    }
}

/// The same of a column, in tables that are away, too: else they could not come back.
pub fn rename_column(client: &mut Client) -> Result<(), postgres::Error> {
    client.batch_execute(
        "DO $$ DECLARE t regclass; was name := (SELECT attname FROM pg_attribute WHERE attrelid = 'visit'::regclass AND attnum = 6); BEGIN
           FOR t IN SELECT c.oid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = was
             WHERE c.relname = 'visit' OR c.relname ~ '^part_[0-9]+$' AND c.relkind = 'r' AND NOT c.relispartition ORDER BY c.relname DESC LOOP
             EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', t, was, CASE was WHEN 'extra' THEN 'extra_b' ELSE 'extra' END);
           END LOOP; END $$",
    )
}
