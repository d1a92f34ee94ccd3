//! Times in columns of domains, whose base types they are: a table with one does what the same table without does.
use hll_lab::wait_for;
use hll_tests::{configure, number, prepared, text};
use postgres::Client;

/// What rollups, partitions and expiry make of a table whose time is of this type: figures that no clock changes.
fn story(client: &mut Client, of_type: &str, parted: bool) -> Vec<String> {
    let table = if parted { " PARTITION BY RANGE (at)" } else { "" };
    client
        .batch_execute(&format!(
            "SET timezone = 'UTC';
             CREATE TABLE seen (at {of_type} NOT NULL, v int){table};
             SELECT rollup.create('seen_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n, sum(v) AS s FROM seen GROUP BY 1',
               every => NULL, on_change => 'recompute')"
        ))
        .unwrap_or_else(|e| panic!("{of_type}: {e:?}"));
    let mut told = Vec::new();
    if parted {
        client.batch_execute("CREATE TABLE seen_rest PARTITION OF seen DEFAULT").unwrap();
    }
    let rows = "INSERT INTO seen SELECT date_trunc('day', now()) - g * interval '6 hours', g FROM generate_series(0, 39) g";
    client.batch_execute(rows).unwrap();
    told.push(text(client, "SELECT concat(lag_rows, ' ', timezone('UTC', oldest_row) - date_trunc('day', now() AT TIME ZONE 'UTC')) FROM rollup.status"));
    told.push(text(client, "SELECT rollup.run('seen')::text"));
    if parted {
        told.push(text(client, "SELECT rollup.partition('seen', '1 day', '2 days')::text"));
        told.push(text(client, "SELECT count(*)::text FROM seen_rest"));
        let bounds = "SELECT string_agg(concat(lower - date_trunc('day', now()), ' ', upper - lower), ',' ORDER BY lower) FROM rollup_internal.partition_bounds('seen')";
        told.push(text(client, bounds));
    }
    client
        .batch_execute("UPDATE seen SET v = v + 100 WHERE v % 10 = 3; DELETE FROM seen WHERE v % 10 = 5")
        .unwrap();
    told.push(text(client, "SELECT count(DISTINCT (since, until))::text FROM rollup.change"));
    told.push(text(client, "SELECT rollup.run('seen')::text"));
    told.push(text(client, "SELECT count(*)::text FROM rollup.check('seen_d')"));
    told.push(text(client, "SELECT rollup.retain('seen', '4 days')::text"));
    told.push(text(client, "SELECT rollup.expire('seen', dry_run => true)::text"));
    told.push(text(client, "SELECT rollup.expire('seen')::text"));
    told.push(text(client, "SELECT concat(count(*), ' ', sum(v)) FROM seen"));
    told.push(text(client, "SELECT concat(sum(n), ' ', sum(s), ' ', count(*)) FROM seen_d_live"));
    if parted {
        // One that leaves by hand: how far it reached is known.
        let oldest = text(
            client,
            "SELECT partition::text FROM rollup_internal.partition_bounds('seen') ORDER BY lower LIMIT 1",
        );
        client.batch_execute(&format!("DROP TABLE {oldest}")).unwrap();
        let until =
            "SELECT string_agg(DISTINCT (until - date_trunc('day', now()))::text, ',') FROM rollup.departure";
        told.push(text(client, until));
    }
    // By a column of its own, of a table without rollups.
    client
        .batch_execute(&format!(
            "SELECT rollup.drop('seen_d'); DROP TABLE seen; CREATE TABLE plain (moment {of_type});
             INSERT INTO plain SELECT date_trunc('day', now()) - g * interval '1 day' FROM generate_series(0, 9) g;
             SELECT rollup.retain('plain', '5 days', 'moment')"
        ))
        .unwrap();
    told.push(number(client, "SELECT rollup.expire('plain')").to_string());
    client.batch_execute("DROP TABLE plain").unwrap();
    told
}

#[test]
fn a_domain_over_times_is_one_of_times() {
    let (_cluster, mut client) = prepared("domains", "");
    // Rows expire when they are told to, and not by the worker before.
    configure(&mut client, &["SET rollup.databases = ''"]);
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'rollup%' AND datname = current_database()";
    wait_for("the worker leaves", 60, || number(&mut client, workers) == 0);
    client.batch_execute("CREATE SCHEMA \"Of\"").unwrap();
    for (number, base) in ["timestamptz", "timestamp", "date"].into_iter().enumerate() {
        let (own, outer) = (format!("\"Of\".\"T{number}\""), format!("\"Of\".outer_{number}"));
        client
            .batch_execute(&format!(
                "CREATE DOMAIN {own} AS {base} CHECK (VALUE > '2000-01-01'); CREATE DOMAIN {outer} AS {own} NOT NULL"
            ))
            .unwrap();
        for parted in [false, true] {
            let wanted = story(&mut client, base, parted);
            for domain in [&own, &outer] {
                assert_eq!(
                    story(&mut client, domain, parted),
                    wanted,
                    "{domain} over {base}, in partitions: {parted}"
                );
            }
        }
    }
    // What holds no times is refused as ever.
    client.batch_execute("CREATE DOMAIN word AS text; CREATE TABLE words (at word)").unwrap();
    let refused = client.batch_execute("SELECT rollup.retain('words', '1 day', 'at')").expect_err("no time");
    assert_eq!(refused.as_db_error().unwrap().code().code(), "42703");
}
