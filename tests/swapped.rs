//! A table whose name another table takes while something waits for it: what waited goes on with the rollup's own table, and
//! the other one is left alone.
use hll_lab::{Cluster, wait_for};
use hll_tests::{another, number, text};
use postgres::Client;

const DB: &str = "swapped";

fn prepared() -> (Cluster, Client) {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database(DB).unwrap();
    client.batch_execute("CREATE TABLE event (at timestamptz NOT NULL, v int)").unwrap();
    client
        .batch_execute("SELECT rollup.create('by_day', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n, sum(v) AS s FROM event GROUP BY 1', every => NULL, coarser => '{\"by_month\": \"1 month\"}')")
        .unwrap();
    client.batch_execute("INSERT INTO event SELECT timestamptz '2026-01-01' + g * interval '1 hour', g FROM generate_series(1, 100) g").unwrap();
    client.batch_execute("SELECT rollup.run('event')").unwrap();
    client.batch_execute("INSERT INTO event SELECT timestamptz '2026-01-01' + g * interval '1 hour', g FROM generate_series(1, 50) g").unwrap();
    (cluster, client)
}

/// Calls `call` while a transaction gives the name of `table` to a copy of it with one row that counts 777.
fn meanwhile(cluster: &Cluster, table: &str, call: &str) -> Result<(), postgres::Error> {
    let (mut holder, mut other) = (another(cluster, DB), another(cluster, DB));
    holder
        .batch_execute(&format!(
            "BEGIN; ALTER TABLE {table} RENAME TO own; CREATE TABLE {table} (LIKE own INCLUDING ALL); INSERT INTO {table} (SELECT * FROM own LIMIT 1); UPDATE {table} SET n = 777"
        ))
        .unwrap();
    std::thread::scope(|scope| {
        let waiting = scope
            .spawn(|| another(cluster, DB).batch_execute(&format!("SET application_name = 'waits'; {call}")));
        wait_for("the call waits", 60, || {
            number(
                &mut other,
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.application_name = 'waits'",
            ) > 0
        });
        holder.batch_execute("COMMIT").unwrap();
        waiting.join().unwrap()
    })
}

const UNTOUCHED: &str = "SELECT count(*) FROM by_day WHERE n = 777";
const RAW: &str = "SELECT concat(count(*), ' ', sum(v)) FROM event";

#[test]
fn what_is_merged_goes_to_the_rollups_own_table() {
    for call in ["SELECT rollup.run('event')", "SELECT rollup.rebuild('by_day')"] {
        let (cluster, mut client) = prepared();
        meanwhile(&cluster, "by_day", call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
        assert_eq!(number(&mut client, UNTOUCHED), 1, "{call}");
        assert_eq!(number(&mut client, "SELECT count(*) FROM by_day"), 1, "{call}");
        client.batch_execute("SELECT rollup.run('event')").unwrap();
        assert_eq!(
            text(&mut client, "SELECT concat(sum(n), ' ', sum(s)) FROM own"),
            text(&mut client, RAW),
            "{call}"
        );
        assert_eq!(
            text(&mut client, "SELECT concat(sum(n), ' ', sum(s)) FROM by_month"),
            text(&mut client, RAW),
            "{call}"
        );
    }
}

#[test]
fn a_level_gets_what_is_its_own() {
    let (cluster, mut client) = prepared();
    meanwhile(&cluster, "by_month", "SELECT rollup.run('event')").unwrap();
    assert_eq!(text(&mut client, "SELECT concat(sum(n), ' ', sum(s)) FROM own"), text(&mut client, RAW));
    assert_eq!(number(&mut client, "SELECT n FROM by_month"), 777);
}

#[test]
fn columns_come_and_go_in_the_rollups_own_table() {
    for (call, columns) in [
        ("SELECT rollup.drop_column('by_day', 's')", 2),
        ("SELECT rollup.add_column('by_day', 'most', 'max(v)')", 4),
    ] {
        let (cluster, mut client) = prepared();
        meanwhile(&cluster, "by_day", call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
        let of = |client: &mut Client, table: &str| {
            number(
                client,
                &format!(
                    "SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
                ),
            )
        };
        assert_eq!((of(&mut client, "own"), of(&mut client, "by_day")), (columns, 3), "{call}");
    }
}

#[test]
fn what_goes_is_the_rollups_own_table() {
    for (table, call) in [
        ("by_day", "SELECT rollup.drop('by_day')"),
        ("by_month", "SELECT rollup.drop_level('by_day', 'by_month')"),
    ] {
        let (cluster, mut client) = prepared();
        meanwhile(&cluster, table, call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
        assert_eq!(number(&mut client, &format!("SELECT n FROM {table}")), 777, "{call}");
        assert_eq!(text(&mut client, "SELECT coalesce(to_regclass('own')::text, 'gone')"), "gone", "{call}");
    }
}

/// A partition that was detached to be archived, and what is done with it, and with the retention, while its function's work
/// waits for a lock.
#[test]
fn what_was_archived_is_what_goes() {
    for (holds, keeps) in [
        (
            "ALTER TABLE old_2020 RENAME TO kept; CREATE TABLE old_2020 AS SELECT 'precious' AS v",
            "SELECT count(*) FROM old_2020, kept",
        ),
        ("ALTER TABLE old_2020 RENAME TO kept", "SELECT count(*) FROM kept"),
        (
            "CREATE TABLE home (LIKE old_2020) PARTITION BY RANGE (at); ALTER TABLE home ATTACH PARTITION old_2020 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
            "SELECT count(*) FROM home",
        ),
        ("SELECT rollup.retain('old', NULL)", "SELECT count(*) FROM old_2020"),
    ] {
        let cluster = Cluster::new().unwrap();
        let mut client = cluster.database(DB).unwrap();
        client
            .batch_execute(
                "SET timezone = 'UTC'; CREATE TABLE old (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at); CREATE TABLE old_2020 PARTITION OF old FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
                 CREATE TABLE old_2026 PARTITION OF old FOR VALUES FROM ('2026-01-01') TO ('2030-01-01'); CREATE TABLE mood (fails bool); INSERT INTO mood VALUES (true);
                 CREATE FUNCTION archived(p regclass) RETURNS void LANGUAGE plpgsql AS 'BEGIN IF (SELECT fails FROM public.mood) THEN RAISE EXCEPTION ''not yet''; END IF; END';
                 INSERT INTO old VALUES ('2020-05-05', 1)",
            )
            .unwrap();
        client.batch_execute("ALTER SYSTEM SET rollup.databases = ''; SELECT pg_reload_conf()").ok();
        client.batch_execute("SELECT rollup.retain('old', '1 year', 'at', archive => 'archived')").unwrap();
        // It is detached, and its function fails.
        for _ in 0..3 {
            client.batch_execute("SELECT rollup.expire('old')").ok();
        }
        wait_for("a partition waits to be archived", 60, || {
            client.batch_execute("SELECT rollup.expire('old')").ok();
            number(&mut client, "SELECT count(*) FROM rollup.archiving") == 1
        });
        let (mut holder, mut other) = (another(&cluster, DB), another(&cluster, DB));
        holder.batch_execute(&format!("BEGIN; LOCK TABLE old_2020; {holds}")).unwrap();
        other.batch_execute("UPDATE mood SET fails = false").unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                another(&cluster, DB)
                    .batch_execute("SET application_name = 'waits'; SELECT rollup.expire('old')")
                    .ok()
            });
            wait_for("expiry waits", 60, || {
                number(
                    &mut other,
                    "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND (a.application_name = 'waits' OR a.backend_type LIKE 'rollup%')",
                ) > 0
            });
            holder.batch_execute("COMMIT").unwrap();
            waiting.join().unwrap()
        });
        assert_eq!(number(&mut client, keeps), 1, "{holds}");
    }
}
