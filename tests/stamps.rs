//! Triggers of users that write the column of stamps, or whole rows: each row is counted once.
use hll_tests::{number, prepared, text};
use postgres::Client;

fn made(client: &mut Client, partitions: &str, on_change: &str) {
    client
        .batch_execute(&format!(
            "CREATE TABLE seen (id int{key}, at timestamptz NOT NULL, v int){partitions};
             CREATE OR REPLACE FUNCTION writes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.rollup_stamp := rollup.stamp(); RETURN NEW; END';
             SELECT rollup.create('seen_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM seen GROUP BY 1', every => NULL, on_change => '{on_change}')",
            key = if partitions.is_empty() { " PRIMARY KEY" } else { "" }
        ))
        .unwrap();
    if !partitions.is_empty() {
        client
            .batch_execute(
                "CREATE TABLE seen_1 PARTITION OF seen FOR VALUES FROM ('2026-01-01Z') TO ('2026-01-02Z');
                 CREATE TABLE seen_2 PARTITION OF seen DEFAULT",
            )
            .unwrap();
    }
}

/// Merges what is new; how many rows the rollup has counted, and how many there are.
fn counted(client: &mut Client) -> (i64, i64) {
    number(client, "SELECT rollup.run('seen')");
    (number(client, "SELECT sum(n)::bigint FROM seen_d"), number(client, "SELECT count(*) FROM seen"))
}

#[test]
fn a_trigger_that_writes_stamps_has_no_row_counted_twice() {
    let (_cluster, mut client) = prepared("written_stamps", "");
    for on_change in ["ignore", "recompute"] {
        for (partitions, change) in [
            ("", "UPDATE seen SET v = v + 1 WHERE id < 6"),
            (
                "",
                "INSERT INTO seen VALUES (1, '2026-01-01Z', 5), (2, '2026-01-01Z', 6) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
            ),
            ("", "BEGIN; UPDATE seen SET v = 1; SAVEPOINT a; UPDATE seen SET v = 2; COMMIT"),
            (" PARTITION BY RANGE (at)", "UPDATE seen SET v = v + 1"),
            (" PARTITION BY RANGE (at)", "UPDATE seen_1 SET v = v + 1"),
        ] {
            made(&mut client, partitions, on_change);
            client
                .batch_execute(
                    "INSERT INTO seen SELECT g, timestamptz '2026-01-01Z' + g * interval '3 hours', g FROM generate_series(1, 10) g",
                )
                .unwrap();
            assert_eq!(counted(&mut client), (10, 10));
            client
                .batch_execute("CREATE TRIGGER own BEFORE INSERT OR UPDATE ON seen FOR EACH ROW EXECUTE FUNCTION writes()")
                .unwrap();
            client.batch_execute(change).unwrap();
            assert_eq!(counted(&mut client), (10, 10), "{change}, {on_change}");
            // What it inserts has the stamp that it would have had.
            client.batch_execute("INSERT INTO seen VALUES (100, '2026-01-01 12:00Z', 0)").unwrap();
            assert_eq!(counted(&mut client), (11, 11), "{change}, {on_change}");
            client.batch_execute("SELECT rollup.drop('seen_d'); DROP TABLE seen").unwrap();
        }
    }
}

#[test]
fn a_row_with_the_stamp_of_another_that_a_trigger_writes_is_judged() {
    let (_cluster, mut client) = prepared("stale_stamps", "");
    made(&mut client, "", "ignore");
    client.batch_execute("INSERT INTO seen VALUES (1, '2026-01-01Z', 1)").unwrap();
    assert_eq!(counted(&mut client), (1, 1));
    client
        .batch_execute(
            "CREATE FUNCTION stale() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.rollup_stamp := 1; RETURN NEW; END';
             CREATE TRIGGER own BEFORE INSERT ON seen FOR EACH ROW EXECUTE FUNCTION stale();
             INSERT INTO seen VALUES (2, '2026-01-01Z', 1), (3, '2026-02-01Z', 1)",
        )
        .unwrap();
    assert_eq!(counted(&mut client), (3, 3));
}

#[test]
fn a_trigger_that_comes_too_late_is_shown() {
    let (_cluster, mut client) = prepared("late_stamps", "");
    made(&mut client, "", "ignore");
    client
        .batch_execute(
            "CREATE TRIGGER zz_rollup_l BEFORE UPDATE ON seen FOR EACH ROW EXECUTE FUNCTION writes()",
        )
        .unwrap();
    let told = text(&mut client, "SELECT unwatched FROM rollup.status");
    assert!(told.starts_with("zz_rollup_l on public.seen fires after the triggers of rollups"), "{told}");
    client.batch_execute("ALTER TRIGGER zz_rollup_l ON seen RENAME TO early").unwrap();
    assert_eq!(text(&mut client, "SELECT unwatched FROM rollup.status"), "");
    // One that writes no stamps may fire when it likes.
    client
        .batch_execute(
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := 3; RETURN NEW; END';
             CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON seen FOR EACH ROW EXECUTE FUNCTION other()",
        )
        .unwrap();
    assert_eq!(text(&mut client, "SELECT unwatched FROM rollup.status"), "");
}
