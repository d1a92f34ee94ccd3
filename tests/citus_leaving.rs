//! On a cluster: partitions that others drop and detach, partitions that are stored by columns, keys that are too long for the
//! index, states that end.
use hll_lab::{Citus, skip, wait_for, wait_until};
use hll_tests::nodes::error;
use hll_tests::{number, text};
use postgres::Client;

/// A partitioned table of a cluster with a rollup by the day and one by the month; the first partition is empty.
fn trips(client: &mut Client, table: &str) {
    for sql in [
        format!("CREATE TABLE {table} (site int, at timestamptz, v int) PARTITION BY RANGE (at)"),
        format!("CREATE TABLE {table}_0 PARTITION OF {table} FOR VALUES FROM ('2025-12-01Z') TO ('2026-01-01Z')"),
        format!("CREATE TABLE {table}_1 PARTITION OF {table} FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z')"),
        format!("CREATE TABLE {table}_2 PARTITION OF {table} FOR VALUES FROM ('2026-02-01Z') TO ('2026-03-01Z')"),
        format!("CREATE TABLE {table}_3 PARTITION OF {table} FOR VALUES FROM ('2026-03-01Z') TO ('2026-04-01Z')"),
        format!("SELECT create_distributed_table('{table}', 'site', shard_count => 4, colocate_with => 'none')"),
        format!(
            "SELECT rollup.create('{table}_day', 'SELECT site, date_trunc(''day'', at) AS at, count(*) AS n, sum(v) AS s FROM {table} GROUP BY 1, 2',
               every => NULL, coarser => '{{\"{table}_month\": \"1 month\"}}')"
        ),
    ] {
        client.batch_execute(&sql).expect(&sql);
    }
    write(client, table, 1000);
    run(client, table);
}

fn write(client: &mut Client, table: &str, rows: i32) {
    client
        .batch_execute(&format!(
            "INSERT INTO {table} SELECT g % 9, timestamptz '2026-01-01Z' + g % 88 * interval '1 day', g FROM generate_series(1, {rows}) g"
        ))
        .expect("rows");
}

fn run(client: &mut Client, table: &str) {
    let lag = format!("SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = '{table}_day'");
    wait_until("everything is merged", 30, || {
        client.batch_execute(&format!("SELECT rollup.run('{table}')"))?;
        Ok(number(client, &lag) == 0)
    });
}

/// What the rollup has counted, and whether anything is said to differ.
fn counted(client: &mut Client, table: &str) -> (i64, i64, i64) {
    (
        number(client, &format!("SELECT sum(n)::bigint FROM {table}_day")),
        number(client, &format!("SELECT sum(n)::bigint FROM {table}_month")),
        number(client, &format!("SELECT count(*) FROM rollup.check('{table}_day')")),
    )
}

fn missing(client: &mut Client, table: &str) -> String {
    let sql = format!(
        "SELECT (missing_rows * tstzmultirange(tstzrange('2000-01-01Z', '2100-01-01Z')))::text FROM rollup.status WHERE name = '{table}_day'"
    );
    text(client, &sql)
}

#[test]
fn partitions_that_others_drop() {
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    let mut client = citus.connect(0).expect("the coordinator");
    client.batch_execute("SET timezone = 'UTC'; SET client_min_messages = error").expect("set");
    trips(&mut client, "trip");
    client.batch_execute("DROP TABLE trip_0").expect("an empty one");
    assert_eq!(missing(&mut client, "trip"), "");
    // Two rows that were not counted go with it.
    client
        .batch_execute("INSERT INTO trip VALUES (1, '2026-01-05Z', 1), (2, '2026-01-06Z', 1)")
        .expect("rows");
    client
        .batch_execute(
            "SET client_min_messages = warning; DROP TABLE trip_1; SET client_min_messages = error",
        )
        .expect("dropped");
    assert!(citus.nodes[0].log().contains(
        "rollup trip_day has not counted 2 rows of public.trip that were dropped with a partition"
    ));
    let january = "{[\"2026-01-01 00:00:00+00\",\"2026-01-31 23:59:59.999999+00\"]}";
    assert_eq!(missing(&mut client, "trip"), january);
    assert_eq!(counted(&mut client, "trip"), (1000, 1000, 0));
    let refused = error(&mut client, "SELECT rollup.rebuild('trip_day')");
    assert!(refused.starts_with("55000") && refused.contains("have left with a partition"), "{refused}");
    assert!(number(&mut client, "SELECT rollup.rebuild('trip_day', '2026-02-01Z')") > 0);
    assert_eq!(counted(&mut client, "trip"), (1000, 1000, 0));
    // One that is detached comes back, beside others that stay.
    client.batch_execute("ALTER TABLE trip DETACH PARTITION trip_2").expect("detached");
    assert_eq!(counted(&mut client, "trip"), (1000, 1000, 0));
    assert_ne!(missing(&mut client, "trip"), january);
    client
        .batch_execute(
            "ALTER TABLE trip ATTACH PARTITION trip_2 FOR VALUES FROM ('2026-02-01Z') TO ('2026-03-01Z')",
        )
        .expect("attached");
    assert_eq!(missing(&mut client, "trip"), january);
    // What Citus makes anew is where it was.
    for call in [
        "SELECT alter_distributed_table('trip', shard_count => 6, cascade_to_colocated => true)",
        "SELECT undistribute_table('trip')",
        "SELECT create_distributed_table('trip', 'site', colocate_with => 'trip_day')",
    ] {
        client.batch_execute(call).unwrap_or_else(|e| panic!("{call}: {e:?}"));
        assert_eq!(missing(&mut client, "trip"), january, "{call}");
        write(&mut client, "trip", 0);
        run(&mut client, "trip");
        assert_eq!(counted(&mut client, "trip"), (1000, 1000, 0), "{call}");
    }
    // The call of Citus itself.
    client.batch_execute("CALL drop_old_time_partitions('trip', '2026-03-01Z')").expect("dropped");
    assert_eq!(
        missing(&mut client, "trip"),
        january.replace('}', ",[\"2026-02-01 00:00:00+00\",\"2026-02-28 23:59:59.999999+00\"]}")
    );
    assert_eq!(counted(&mut client, "trip"), (1000, 1000, 0));
    client.batch_execute("INSERT INTO trip VALUES (1, '2026-03-05Z', 1)").expect("a row");
    run(&mut client, "trip");
    assert_eq!(counted(&mut client, "trip"), (1001, 1001, 0));
    assert!(number(&mut client, "SELECT rollup.rebuild('trip_day', force => true)") > 0);
    assert_eq!(missing(&mut client, "trip"), "");
    let raw = number(&mut client, "SELECT count(*) FROM trip");
    assert_eq!(counted(&mut client, "trip"), (raw, raw, 0));
}

#[test]
fn partitions_that_are_stored_by_columns() {
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    let mut client = citus.connect(0).expect("the coordinator");
    client.batch_execute("SET timezone = 'UTC'; SET client_min_messages = error").expect("set");
    if number(&mut client, "SELECT count(*) FROM pg_available_extensions WHERE name = 'citus_columnar'") == 0
    {
        skip("the Citus of PG_CONFIG has no columnar tables");
        return;
    }
    client.batch_execute("CREATE EXTENSION IF NOT EXISTS citus_columnar").expect("columnar tables");
    trips(&mut client, "ride");
    client
        .batch_execute("CALL alter_old_partitions_set_access_method('ride', '2026-03-01Z', 'columnar')")
        .expect("columnar");
    let columnar = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_am a ON a.oid = c.relam WHERE i.inhparent = 'ride'::regclass AND a.amname = 'columnar'";
    assert_eq!(number(&mut client, columnar), 3);
    assert_eq!(missing(&mut client, "ride"), "");
    run(&mut client, "ride");
    assert_eq!(counted(&mut client, "ride"), (1000, 1000, 0));
    // Rows come to these, too, and to partitions that are made later.
    client
        .batch_execute(
            "CREATE TABLE ride_4 PARTITION OF ride FOR VALUES FROM ('2026-04-01Z') TO ('2026-05-01Z')",
        )
        .expect("a partition");
    let maps = "SELECT count(*) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam WHERE m.amname = 'rollup_zonemap' AND i.indrelid::regclass::text LIKE 'ride\\__'";
    assert_eq!(number(&mut client, maps), 2, "each that is a heap has a map");
    client
        .batch_execute(
            "INSERT INTO ride VALUES (1, '2026-01-05Z', 1), (1, '2026-02-05Z', 1), (2, '2026-04-05Z', 1)",
        )
        .expect("rows");
    run(&mut client, "ride");
    assert_eq!(counted(&mut client, "ride"), (1003, 1003, 0));
    // Old as a whole they go; one that is old in part stays, and the rows beside it go.
    let keep = "SELECT (extract(epoch FROM now() - timestamptz '2026-02-15Z'))::bigint";
    let keep = number(&mut client, keep);
    client.batch_execute(&format!("SELECT rollup.retain('ride', '{keep} seconds')")).expect("a retention");
    wait_for("what is old has gone", 30, || {
        client.batch_execute("SELECT rollup.expire('ride')").expect("expiry");
        number(&mut client, columnar) == 1
    });
    let least =
        "SELECT extract(day FROM min(at))::bigint + 100 * extract(month FROM min(at))::bigint FROM ride";
    assert_eq!(number(&mut client, least), 201, "February is there");
    assert_eq!(counted(&mut client, "ride"), (1003, 1003, 0));
    let keep = number(&mut client, "SELECT (extract(epoch FROM now() - timestamptz '2026-03-15Z'))::bigint");
    client.batch_execute(&format!("SELECT rollup.retain('ride', '{keep} seconds')")).expect("a retention");
    wait_for("February has gone, and half of March", 30, || {
        client.batch_execute("SELECT rollup.expire('ride')").expect("expiry");
        number(&mut client, columnar) == 0 && number(&mut client, least) >= 315
    });
    assert_eq!(counted(&mut client, "ride"), (1003, 1003, 0));
    assert_eq!(text(&mut client, "SELECT expiry_error FROM rollup.status WHERE name = 'ride_day'"), "");
}

/// A group whose key is too long for the index keeps no other from being counted.
#[test]
fn keys_that_are_too_long() {
    let Some(citus) = Citus::new().expect("a cluster") else { return };
    let mut client = citus.connect(0).expect("the coordinator");
    client
        .batch_execute("SET client_min_messages = error; CREATE TABLE hit (site int, at timestamptz, url text, v int); CREATE TABLE one (site int, at timestamptz, url text, v int)")
        .expect("tables");
    client
        .batch_execute("SELECT create_distributed_table('hit', 'site', shard_count => 4)")
        .expect("distributed");
    client
        .batch_execute("SELECT create_distributed_table('one', NULL, colocate_with => 'none')")
        .expect("distributed");
    client
        .batch_execute("CREATE FUNCTION noise(bytes int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT left(string_agg(md5(i::text), ''''), bytes) FROM generate_series(0, bytes / 32) i'")
        .expect("a function");
    for table in ["hit", "one"] {
        client
            .batch_execute(&format!(
                "SELECT rollup.create('{table}_h', 'SELECT site, date_trunc(''hour'', at) AS at, url, count(*) AS n FROM {table} GROUP BY 1, 2, 3', every => NULL, coarser => '{{\"{table}_d\": \"1 day\"}}')"
            ))
            .expect("a rollup");
        client
            .batch_execute(&format!(
                "INSERT INTO {table} SELECT g % 5, '2026-01-01Z', CASE WHEN g % 10 = 0 THEN noise(9600) ELSE '/' || g % 3 END, g FROM generate_series(1, 100) g"
            ))
            .expect("rows");
        let lag = format!("SELECT coalesce(lag_rows, -1) FROM rollup.status WHERE name = '{table}_h'");
        wait_until("everything is merged", 30, || {
            client.batch_execute(&format!("SELECT rollup.run('{table}')"))?;
            Ok(number(&mut client, &lag) == 0)
        });
        for of in ["h", "d"] {
            assert_eq!(number(&mut client, &format!("SELECT sum(n)::bigint FROM {table}_{of}")), 90);
        }
        let status = format!(
            "SELECT concat(state, ' ', long_keys, ' ', rows_total) FROM rollup.status WHERE name = '{table}_h'"
        );
        assert_eq!(text(&mut client, &status), "active 10 90");
        // Alone, it is no reason to fail either.
        client
            .batch_execute(&format!("INSERT INTO {table} VALUES (1, '2026-01-01Z', noise(5000), 1)"))
            .expect("a row");
        wait_until("it is left out", 30, || {
            client.batch_execute(&format!("SELECT rollup.run('{table}')"))?;
            Ok(text(&mut client, &status) == "active 11 90")
        });
    }
    assert!(citus.nodes[0].log().contains("10 rows are left out, since group key url has up to 9600 bytes"));
}
