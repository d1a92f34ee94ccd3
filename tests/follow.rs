//! Lookup tables that are followed while rows come and go, countries are renamed and customers change plans: the views of a rollup
//! give what the query gives over all rows that ever came, at every snapshot.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, wait_for};
use hll_tests::forgive::until_lost;
use hll_tests::load::Dice;
use hll_tests::{another, number, text};
use postgres::Client;

/// Each sale stands in `kept`, too, from which nothing expires.
const TABLES: &str = "
    CREATE TABLE country (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE plan (id int PRIMARY KEY, name text);
    CREATE TABLE customer (id int PRIMARY KEY, plan int);
    INSERT INTO country SELECT i, 'c' || i % 5 FROM generate_series(0, 7) i;
    INSERT INTO plan SELECT i, 'p' || i FROM generate_series(0, 3) i;
    INSERT INTO customer SELECT i, i % 4 FROM generate_series(0, 19) i;
    CREATE TABLE sale (at timestamptz NOT NULL, country int, customer int, amount int);
    CREATE TABLE kept (at timestamptz NOT NULL, country int, customer int, amount int);
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO kept VALUES (NEW.at, NEW.country, NEW.customer, NEW.amount); RETURN NULL; END';
    CREATE TRIGGER keep AFTER INSERT ON sale FOR EACH ROW EXECUTE FUNCTION keep();";

fn query(unit: &str, table: &str) -> String {
    format!(
        "SELECT date_trunc('{unit}', at, 'UTC') AS at, c.name AS country, p.name AS plan, count(*) AS n, sum(amount) AS total, min(amount) AS least,
           avg(amount) AS mean, hll_add_agg(hll_hash_integer(s.customer)) AS customers
         FROM {table} s JOIN country c ON c.id = s.country LEFT JOIN customer u ON u.id = s.customer LEFT JOIN plan p ON p.id = u.plan GROUP BY 1, 2, 3"
    )
}

/// How many groups of a relation differ from the query over all sales.
fn differ(relation: &str, unit: &str) -> String {
    let columns = "at, country, plan, n, total, least, mean, customers::text";
    let raw = query(unit, "kept");
    format!(
        "(SELECT count(*) FROM ((SELECT {columns} FROM ({raw}) q EXCEPT ALL SELECT {columns} FROM {relation})
           UNION ALL (SELECT {columns} FROM {relation} EXCEPT ALL SELECT {columns} FROM ({raw}) q)) d)"
    )
}

const CREATE: &str =
    "every => '100 milliseconds', joins => 'follow', coarser => '{\"sales_day\": \"1 day\"}'";

fn prepared(cluster: &Cluster, database: &str) -> Client {
    let mut client = cluster.database(database).unwrap();
    client.batch_execute(TABLES).unwrap();
    client
        .batch_execute(&format!("SELECT rollup.create('sales', $q${}$q$, {CREATE})", query("hour", "sale")))
        .unwrap();
    client
}

/// Rows of the last days, some of them late.
fn insert(dice: &mut Dice) -> String {
    let (day, n) = (dice.roll(6), dice.roll(1 << 20));
    format!(
        "INSERT INTO sale SELECT now() - {day} * interval '1 day' - g * interval '7 minutes', nullif(({n} + g) % 10, 9), ({n} + g * 7) % 23, ({n} + g) % 1000
         FROM generate_series(1, 40) g"
    )
}

/// One transaction that changes rows, or what is looked up.
fn change(client: &mut Client, dice: &mut Dice) -> Result<(), postgres::Error> {
    let (country, other, plan, customer) = (dice.roll(9), dice.roll(8), dice.roll(5), dice.roll(22));
    let insert = insert(dice);
    let rename = format!("UPDATE country SET name = 'c{other}' WHERE id = {country}");
    let moves = format!("UPDATE customer SET plan = {plan} WHERE id = {customer}");
    match dice.roll(10) {
        0 => client.batch_execute(&format!("BEGIN; {insert}; {rename}; {moves}; ROLLBACK")),
        1 => client.batch_execute(&format!("BEGIN; {insert}; SAVEPOINT a; {insert}; ROLLBACK TO a; {rename}; COMMIT")),
        2 => client.batch_execute(&format!(
            "BEGIN; DELETE FROM country WHERE id = {country}; {insert}; INSERT INTO country VALUES ({country}, 'c{other}') ON CONFLICT DO NOTHING; COMMIT"
        )),
        3 => client.batch_execute(&format!(
            "DELETE FROM country WHERE id = {country}; DELETE FROM plan WHERE id = {plan}; DELETE FROM customer WHERE id = {customer}"
        )),
        4 => client.batch_execute(&format!(
            "INSERT INTO country VALUES ({country}, 'c{other}') ON CONFLICT DO NOTHING; INSERT INTO plan VALUES ({plan}, nullif('p{other}', 'p3')) ON CONFLICT DO NOTHING;
             INSERT INTO customer VALUES ({customer}, {plan}) ON CONFLICT DO NOTHING"
        )),
        5 => client.batch_execute(&format!("BEGIN; {insert}; SELECT rollup_sale(); {moves}; COMMIT")),
        6 => client.batch_execute(&rename),
        7 => client.batch_execute(&moves),
        _ => client.batch_execute(&insert),
    }
}

#[test]
fn what_is_looked_up_changes_while_rows_come_and_expire() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    let cluster = Cluster::new().unwrap();
    let mut client = prepared(&cluster, "follow");
    client.batch_execute("SELECT rollup.retain('sale', '2 days')").unwrap();
    let (stop, changed) = (AtomicBool::new(false), AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut compared, mut expired) = (0u64, 0i64);
    thread::scope(|scope| {
        for seed in 1..=3u64 {
            let (mut writer, stop, changed) = (another(&cluster, "follow"), &stop, &changed);
            scope.spawn(move || {
                let mut dice = Dice(seed * 0x9E37_79B9_7F4A_7C15);
                while !stop.load(Relaxed) {
                    match change(&mut writer, &mut dice) {
                        Ok(()) => _ = changed.fetch_add(1, Relaxed),
                        Err(error) if error.as_db_error().is_some() => {
                            let code = error.code().expect("a SQLSTATE").code();
                            assert!(["40001", "40P01", "55P03"].contains(&code), "{error:?}");
                            writer.batch_execute("ROLLBACK").unwrap();
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while Instant::now() < end {
                let both =
                    format!("SELECT {} + {}", differ("sales_live", "hour"), differ("sales_day_live", "day"));
                assert_eq!(number(&mut client, &both), 0, "a live view differs");
                compared += 1;
                if compared % 3 == 0 {
                    expired += number(&mut client, "SELECT rollup.expire('sale')");
                }
            }
        }));
        stop.store(true, Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let stored = format!("SELECT {} + {}", differ("sales", "hour"), differ("sales_day", "day"));
    wait_for("every row is merged", 60, || number(&mut client, &stored) == 0);
    client.batch_execute("UPDATE country SET name = 'one'; INSERT INTO country SELECT i, 'one' FROM generate_series(0, 8) i ON CONFLICT DO NOTHING").unwrap();
    assert_eq!(number(&mut client, &stored), 0, "after a last renaming");
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('sales')"), 0);
    assert_eq!(text(&mut client, "SELECT string_agg(DISTINCT country, ',') FROM sales"), "one");
    println!("{} changes, compared {compared} times, {expired} rows expired", changed.load(Relaxed));
    assert!(changed.load(Relaxed) > 20 && compared > 3 && expired > 0);
}

#[test]
fn a_crash_loses_nothing_of_what_is_followed() {
    let mut cluster = Cluster::new().unwrap();
    let mut client = prepared(&cluster, "follow");
    for round in 0..2 {
        let before = number(&mut client, "SELECT count(*) FROM sale");
        let writers: Vec<_> = (0..3)
            .map(|seed| {
                let mut writer = another(&cluster, "follow");
                let mut dice = Dice((seed + 1) * 0x9E37_79B9_7F4A_7C15);
                let rename = format!("UPDATE country SET name = 'r{round}' WHERE id = {seed}");
                let sql = format!("{}; {rename}", insert(&mut dice));
                thread::spawn(move || until_lost(&mut writer, &sql))
            })
            .collect();
        wait_for("some load", 30, || number(&mut client, "SELECT count(*) FROM sale") > before + 1000);
        cluster.crash().unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        cluster.start().unwrap();
        client = another(&cluster, "follow");
        let live = format!("SELECT {} + {}", differ("sales_live", "hour"), differ("sales_day_live", "day"));
        assert_eq!(number(&mut client, &live), 0, "after crash {round}");
        let stored = format!("SELECT {} + {}", differ("sales", "hour"), differ("sales_day", "day"));
        wait_for("every row is merged", 60, || number(&mut client, &stored) == 0);
    }
}

#[test]
fn a_restored_database_follows_on() {
    let cluster = Cluster::new().unwrap();
    let mut client = prepared(&cluster, "follow");
    // A unique index that is no constraint, and columns whose numbers are other ones in the dump.
    client
        .batch_execute(
            "ALTER TABLE plan DROP CONSTRAINT plan_pkey CASCADE; CREATE UNIQUE INDEX ON plan (id);
             ALTER TABLE country ADD old int; ALTER TABLE country ADD code text UNIQUE; ALTER TABLE country DROP old; UPDATE country SET code = 'x' || id;
             ALTER TABLE sale ADD code text; ",
        )
        .unwrap();
    client
        .batch_execute("SELECT rollup.create('codes', 'SELECT date_trunc(''day'', at, ''UTC'') AS at, c.name, p.name AS plan, count(*) AS n FROM sale s LEFT JOIN country c ON c.code = s.code LEFT JOIN plan p ON p.id = s.country GROUP BY 1, 2, 3', every => NULL, joins => 'follow')")
        .unwrap();
    let mut dice = Dice(7);
    for _ in 0..20 {
        client.batch_execute(&insert(&mut dice)).unwrap();
    }
    client.batch_execute("INSERT INTO sale (at, code) SELECT now(), 'x' || i % 9 FROM generate_series(1, 30) i; SELECT rollup_sale()").unwrap();
    client
        .batch_execute("ALTER TABLE country RENAME name TO title; ALTER TABLE country RENAME title TO name")
        .unwrap();
    let dump = cluster.dump("follow").unwrap();
    let mut restored = cluster.restore("again", &dump).unwrap();
    let shown = "SELECT coalesce(string_agg(shown::text, ',' ORDER BY name), '') FROM rollup.definition";
    assert_eq!(text(&mut restored, shown), text(&mut client, shown));
    for statement in [
        "INSERT INTO sale (at, country, customer, amount, code) VALUES (now(), 1, 1, 1, 'x1')",
        "SELECT rollup_sale()",
        "UPDATE country SET name = 'new' WHERE id = 1",
    ] {
        restored.batch_execute(statement).unwrap();
    }
    let codes = "SELECT count(*) FROM (SELECT date_trunc('day', at, 'UTC') AS at, c.name, p.name AS plan, count(*) AS n FROM sale s LEFT JOIN country c ON c.code = s.code LEFT JOIN plan p ON p.id = s.country GROUP BY 1, 2, 3
        EXCEPT ALL SELECT at, name, plan, n FROM codes) d";
    assert_eq!(number(&mut restored, codes), 0);
    assert_eq!(number(&mut restored, "SELECT count(*) FROM rollup.check('codes')"), 0);
    restored.batch_execute("ALTER TABLE country RENAME name TO title; SELECT rollup.add_level('codes', 'codes_month', '1 month')").unwrap();
    assert_eq!(
        number(&mut restored, "SELECT sum(n)::bigint FROM codes_month"),
        number(&mut restored, "SELECT count(*) FROM sale")
    );
    // What is unique is held again.
    for drop in ["ALTER TABLE country DROP CONSTRAINT country_code_key", "DROP INDEX plan_id_idx"] {
        let refused = restored.batch_execute(drop).unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some("2BP01"), "{drop}");
    }
}
