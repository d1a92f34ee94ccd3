//! The extension on a Citus cluster: it is there on every node, its aggregates are split between nodes, and rollups
//! lie next to the rows that they count.

use crate::citus_split::{aggregates_are_split, plan};
use hll_lab::{Citus, wait_for};
use hll_tests::nodes::{error, one_row, page, prepared, run_and_compare, site_on};
use hll_tests::{differences, number};
use postgres::Client;

#[test]
fn a_cluster() {
    let Some((mut citus, mut client)) = prepared() else { return };
    // What expires does so when it is told to, until workers are.
    set_databases(&mut client, "none");
    on_every_node(&citus);
    aggregates_are_split(&mut client);
    rollups_lie_beside_their_rows(&citus, &mut client);
    what_cannot_be_is_refused(&citus, &mut client);
    other_kinds_of_tables(&citus, &mut client);
    the_page_runs(&mut client);
    nodes_added_later(&mut citus, &mut client);
    set_databases(&mut client, "*");
    the_worker_runs_it(&mut client);
}

fn set_databases(client: &mut Client, which: &str) {
    client.batch_execute(&format!("ALTER SYSTEM SET rollup.databases = '{which}'")).unwrap();
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
}

/// The statements of docs/citus.md, which no single server can run, over a table in a schema of its own.
fn the_page_runs(client: &mut Client) {
    client
        .batch_execute("CREATE SCHEMA page; CREATE TABLE page.http_request (site_id int, ingest_time timestamptz, ip_address text); SET search_path TO page, public")
        .unwrap();
    // A transaction each, as psql runs them.
    for statement in page(0) {
        client.batch_execute(&statement).unwrap();
    }
    client.batch_execute("INSERT INTO page.http_request (site_id, ingest_time, ip_address) SELECT g % 7, timestamptz '2026-01-01' + g * interval '1 s', g FROM generate_series(1, 3000) g").unwrap();
    let counted = |client: &mut Client, table: &str| {
        number(client, &format!("SELECT sum(request_count)::bigint FROM page.{table}"))
    };
    assert_eq!(counted(client, "http_request_1min_live"), 3000);
    client.batch_execute("SELECT page.rollup_http_request()").unwrap();
    assert_eq!(counted(client, "http_request_1min"), 3000);
    assert_eq!(counted(client, "http_request_1hour"), 3000);
    // The other schema has the name too.
    for statement in page(1) {
        client.batch_execute(&statement.replace("'http_request_1min'", "'page.http_request_1min'")).unwrap();
    }
    assert_eq!(counted(client, "http_request_1min_all"), 3000);
    client
        .batch_execute(
            "SELECT rollup.drop('page.http_request_1min'); RESET search_path; DROP SCHEMA page CASCADE",
        )
        .unwrap();
}

fn on_every_node(citus: &Citus) {
    for node in 0..3 {
        let mut there = citus.connect(node).unwrap();
        assert_eq!(number(&mut there, "SELECT count(*) FROM pg_extension WHERE extname = 'hll'"), 1);
        assert_eq!(number(&mut there, "SELECT (rollup.stamp() >> 48)"), node as i64, "the group in stamps");
        assert_eq!(number(&mut there, "SELECT (rollup.stamp() >> 47) & 1"), 0, "no connection of Citus");
        let same = "SELECT (rollup.stamp() & ((1::bigint << 47) - 1)) - pg_current_xact_id()::text::bigint";
        assert_eq!(number(&mut there, same), 0);
    }
}

fn rollups_lie_beside_their_rows(citus: &Citus, client: &mut Client) {
    let colocated = "SELECT count(DISTINCT colocation_id) FROM citus_tables WHERE table_name IN ('http_request'::regclass, 'http_request_1min'::regclass)";
    assert_eq!(number(client, colocated), 1);
    let explained: String =
        client.query_one("SELECT rollup.explain('http_request_1min')", &[]).unwrap().get(0);
    // What depends on a session's settings is written out.
    assert!(
        explained
            .contains("hll_add_agg\"(public.hll_hash_text(ip_address), 11, 5, '-1'::pg_catalog.int8, 1)"),
        "{explained}"
    );
    let p = plan(client, &explained.replace("WHERE (", "WHERE (true OR "));
    assert!(p.contains("Custom Scan (Citus Adaptive)") && p.contains("Task Count: 8"), "{p}");
    assert!(!p.contains("pull to coordinator") && !p.contains("repartition"), "{p}");
    let (site, _) = site_on(client, citus, 2);
    // Rows written through a worker, in its group's stamps.
    let mut worker = citus.connect(1).unwrap();
    worker.batch_execute(&one_row(site)).unwrap();
    assert_eq!(number(client, "SELECT count(*) FROM http_request WHERE rollup_stamp >> 48 = 1"), 1);
    assert_eq!(differences(client, "http_request_1min_live"), 0);
    assert_eq!(number(client, "SELECT lag_rows FROM rollup.status"), 1);
    run_and_compare(client, "a row written through a worker");
    // check finds what is wrong, rebuild mends it; each on every node.
    client
        .batch_execute("UPDATE http_request_1min SET request_count = request_count + 1 WHERE site_id = 7")
        .unwrap();
    let wrong = "SELECT count(*) FROM rollup.check('http_request_1min')";
    assert!(number(client, wrong) > 0);
    client.batch_execute("SELECT rollup.rebuild('http_request_1min')").unwrap();
    assert_eq!(number(client, wrong), 0);
    // Columns that come and go, filled on every node.
    client
        .batch_execute(
            "SELECT rollup.add_column('http_request_1min', 'slow', 'count(*) FILTER (WHERE response_time_msec > 500)');
             SELECT rollup.add_column('http_request_1min', 'mean', 'avg(response_time_msec)');
             SELECT rollup.add_column('http_request_1min', 'sites', 'hll_add_agg(hll_hash_integer(status_code))')",
        )
        .unwrap();
    let slow = "SELECT sum(slow)::bigint FROM http_request_1min_live";
    assert_eq!(
        number(client, slow),
        number(client, "SELECT count(*) FROM http_request WHERE response_time_msec > 500")
    );
    assert_eq!(number(client, wrong), 0);
    client.batch_execute("SELECT rollup.drop_column('http_request_1min', 'slow')").unwrap();
    client.batch_execute(&one_row(site)).unwrap();
    run_and_compare(client, "after columns came and went");
    // Old rows go on every node, and none that is not rolled up.
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g, '2020-01-01', 'old', 'DE', 200, 1 FROM generate_series(1, 60) g;
             SELECT rollup.retain('http_request', '1000 days')",
        )
        .unwrap();
    assert_eq!(number(client, "SELECT rollup.expire('http_request')"), 0);
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(number(client, "SELECT rollup.expire('http_request', dry_run => true)"), 60);
    assert_eq!(number(client, "SELECT rollup.expire('http_request')"), 60);
    assert_eq!(number(client, "SELECT count(*) FROM http_request WHERE ip_address = 'old'"), 0);
    assert_eq!(
        number(
            client,
            "SELECT sum(request_count)::bigint FROM http_request_1min WHERE ingest_time < '2021-01-01'"
        ),
        60
    );
    assert_eq!(number(client, wrong), 0);
    let e = error(client, "SELECT rollup.rebuild('http_request_1min', '2019-01-01')");
    assert!(e.contains("have expired"), "{e}");
    client
        .batch_execute("SELECT rollup.retain('http_request_1min', '1000 days'); SELECT rollup.expire('http_request_1min')")
        .unwrap();
    assert_eq!(
        number(client, "SELECT removed FROM rollup.retention WHERE relation = 'http_request_1min'::regclass"),
        60
    );
    client
        .batch_execute("SELECT rollup.retain('http_request', NULL), rollup.retain('http_request_1min', NULL)")
        .unwrap();
    run_and_compare(client, "after old rows went");
    // A level, filled and kept.
    client
        .batch_execute("SELECT rollup.add_level('http_request_1min', 'http_request_1day', '1 day')")
        .unwrap();
    client.batch_execute(&one_row(site)).unwrap();
    run_and_compare(client, "with a level");
    let day = "SELECT count(*) FROM (SELECT site_id, date_trunc('day', ingest_time, 'UTC') d, sum(request_count) n FROM http_request_1min GROUP BY 1, 2) f
        FULL JOIN http_request_1day l ON l.site_id = f.site_id AND l.ingest_time = f.d WHERE l.request_count IS DISTINCT FROM f.n";
    assert_eq!(number(client, day), 0);
    assert_eq!(
        number(client, "SELECT sum(request_count)::bigint FROM http_request_1day_live"),
        number(client, "SELECT count(*) FROM http_request")
    );
    // A reader's transaction keeps runs out, and is kept out by none that has ended.
    let mut reader = citus.connect(0).unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM http_request_1min_live").unwrap();
    client.batch_execute(&one_row(site)).unwrap();
    let e = error(client, "SET lock_timeout = '100ms'; SELECT rollup_http_request()");
    assert!(e.starts_with("55P03"), "{e}");
    reader.batch_execute("COMMIT").unwrap();
    client.batch_execute("RESET lock_timeout; SELECT rollup_http_request()").unwrap();
    run_and_compare(client, "after a reader");
    let e =
        error(client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM http_request_1min_live");
    assert!(e.starts_with("0A000"), "{e}");
    client.batch_execute("ROLLBACK").unwrap();
}

fn what_cannot_be_is_refused(citus: &Citus, client: &mut Client) {
    let create = |query: &str| format!("SELECT rollup.create('refused', $q${query}$q$)");
    let e = error(
        client,
        &create(
            "SELECT date_trunc('hour', ingest_time) AS at, count(*) AS site_id FROM http_request GROUP BY 1",
        ),
    );
    assert!(e.starts_with("0A000 no group key is site_id"), "{e}");
    let e = error(
        client,
        &create(
            "SELECT site_id, date_trunc('hour', ingest_time) AS at, count(*) FILTER (WHERE ingest_time::text LIKE '%5') FROM http_request GROUP BY 1, 2",
        ),
    );
    assert!(e.contains("depends on the session or on the moment"), "{e}");
    client
        .batch_execute("CREATE FUNCTION odd(timestamptz) RETURNS bool LANGUAGE sql STABLE AS 'SELECT extract(second FROM $1)::int % 2 = 1'")
        .unwrap();
    let e = error(
        client,
        &create(
            "SELECT site_id, date_trunc('hour', ingest_time) AS at, count(*) FILTER (WHERE odd(ingest_time)) FROM http_request GROUP BY 1, 2",
        ),
    );
    assert!(e.contains("depends on settings of the session"), "{e}");
    let query = "$$ SELECT site_id, date_trunc('hour', ingest_time) AS at, count(*) FROM http_request GROUP BY 1, 2 $$";
    client.batch_execute("CREATE TABLE looked_up (site int PRIMARY KEY, name text)").unwrap();
    let joined = "SELECT e.site_id, l.name, date_trunc('hour', e.ingest_time) AS at, count(*) FROM http_request e JOIN looked_up l ON l.site = e.site_id GROUP BY 1, 2, 3";
    let e = error(client, &format!("SELECT rollup.create('refused', $q${joined}$q$, joins => 'snapshot')"));
    assert!(e.starts_with("0A000 looked_up, which the query joins to"), "{e}");
    client
        .batch_execute("CREATE TABLE elsewhere (site_id int, at timestamptz, count bigint, UNIQUE NULLS NOT DISTINCT (site_id, at))")
        .unwrap();
    for call in [
        "rollup.add_column('http_request_1min', 'more', 'max(ingest_time::text)')",
        &format!("rollup.create('refused', {query}, on_change => 'recompute')"),
        &format!("rollup.create('refused', {query}, into_table => 'elsewhere')"),
    ] {
        let e = error(client, &format!("SELECT {call}"));
        assert!(e.starts_with("0A000"), "{e}");
    }
    let mut worker = citus.connect(1).unwrap();
    let e = error(
        &mut worker,
        &create(
            "SELECT site_id, date_trunc('hour', ingest_time) AS at, count(*) FROM http_request GROUP BY 1, 2",
        ),
    );
    assert!(e.contains("this node is not the coordinator"), "{e}");
    let e = error(&mut worker, "SELECT count(*) FROM http_request_1min_live");
    assert!(e.contains("rollup"), "{e}");
    // Nothing is left behind.
    for node in 0..3 {
        let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'refused%'";
        assert_eq!(number(&mut citus.connect(node).unwrap(), left), 0);
    }
}

fn other_kinds_of_tables(citus: &Citus, client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE refr (at timestamptz NOT NULL, k int NOT NULL, v int);
             SELECT create_reference_table('refr');
             CREATE TABLE alone (at timestamptz NOT NULL, k int NOT NULL, v int);
             SELECT create_distributed_table('alone', NULL);
             CREATE TABLE plain (at timestamptz NOT NULL, k int NOT NULL, v int);
             CREATE TABLE parts (at timestamptz NOT NULL, k int NOT NULL, v int) PARTITION BY RANGE (at);
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             SELECT create_distributed_table('parts', 'k', shard_count => 4)",
        )
        .unwrap();
    for table in ["refr", "alone", "plain", "parts"] {
        let query = format!(
            "SELECT k, date_trunc('hour', at) AS at, count(*) AS n, sum(v) AS s FROM {table} GROUP BY 1, 2"
        );
        client
            .batch_execute(&format!("SELECT rollup.create('{table}_1h', $q${query}$q$, every => NULL)"))
            .unwrap();
        for node in if table == "plain" { 0..1 } else { 0..3 } {
            let mut there = citus.connect(node).unwrap();
            there
                .batch_execute(&format!(
                    "INSERT INTO {table} SELECT timestamptz '2026-01-05' + g * interval '1 min', g % 7, g FROM generate_series(1, 200) g"
                ))
                .unwrap();
        }
        wait_for("its rows are merged", 30, || {
            client.batch_execute(&format!("SELECT rollup_{table}()")).unwrap();
            number(client, &format!("SELECT coalesce(sum(n), 0)::bigint FROM {table}_1h"))
                == number(client, &format!("SELECT count(*) FROM {table}"))
        });
        let differing = format!(
            "SELECT count(*) FROM (SELECT k, date_trunc('hour', at, 'UTC') AS at, count(*) AS n, sum(v) AS s FROM {table} GROUP BY 1, 2) r
             FULL JOIN {table}_1h t USING (k, at) WHERE r.n IS DISTINCT FROM t.n OR r.s IS DISTINCT FROM t.s"
        );
        assert_eq!(number(client, &differing), 0, "{table}");
        assert_eq!(
            number(client, &format!("SELECT sum(n)::bigint FROM {table}_1h_live")),
            number(client, &format!("SELECT count(*) FROM {table}"))
        );
    }
    // A partition that comes later.
    client
        .batch_execute(
            "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
             INSERT INTO parts VALUES ('2026-02-05', 3, 1)",
        )
        .unwrap();
    client.batch_execute("SELECT rollup_parts()").unwrap();
    assert_eq!(
        number(client, "SELECT sum(n)::bigint FROM parts_1h"),
        number(client, "SELECT count(*) FROM parts")
    );
    // A table of one node that is given to Citus takes its rollup along, with the next run. Citus takes no table with
    // triggers.
    let e = error(client, "SELECT create_distributed_table('plain', 'k')");
    assert!(e.contains("has triggers"), "{e}");
    client
        .batch_execute(
            "INSERT INTO plain VALUES (now(), 1, 1); DROP TRIGGER zz_rollup_kept ON plain; SELECT create_distributed_table('plain', 'k'); INSERT INTO plain VALUES (now(), 1, 1)",
        )
        .unwrap();
    assert_eq!(number(client, "SELECT rollup_plain()"), 2);
    let beside = "SELECT count(DISTINCT colocation_id) FROM citus_tables WHERE table_name IN ('plain'::regclass, 'plain_1h'::regclass)";
    assert_eq!(number(client, beside), 1);
    let same = |client: &mut Client, table: &str| {
        let merged = number(client, &format!("SELECT sum(n)::bigint FROM {table}"));
        assert_eq!(merged, number(client, "SELECT count(*) FROM plain"), "{table}");
    };
    same(client, "plain_1h");
    let index = "SELECT count(*) FROM pg_indexes WHERE tablename = 'plain' AND indexdef LIKE '%USING btree (rollup_stamp)'";
    assert_eq!(number(client, index), 1);
    let mut worker = citus.connect(1).unwrap();
    worker.batch_execute("INSERT INTO plain SELECT now(), g, 1 FROM generate_series(1, 20) g").unwrap();
    same(client, "plain_1h_live");
    assert_eq!(number(client, "SELECT rollup_plain()"), 20);
    same(client, "plain_1h");
    assert_eq!(number(client, "SELECT count(*) FROM rollup.check('plain_1h')"), 0);
    // Nor does it hurt to have all computed again.
    client.batch_execute("SELECT rollup.rebase('plain')").unwrap();
    same(client, "plain_1h");
    // What cannot go on there says why, and what to do.
    client
        .batch_execute(
            "CREATE TABLE followed (at timestamptz, k int);
             SELECT rollup.create('followed_1h', 'SELECT k, date_trunc(''hour'', at) AS at, count(*) AS n FROM followed GROUP BY 1, 2', every => NULL, on_change => 'recompute');
             SELECT citus_add_local_table_to_metadata('followed')",
        )
        .unwrap();
    let e = error(client, "SELECT rollup_followed()");
    assert!(e.starts_with("0A000 rollup followed_1h follows changes of"), "{e}");
    client.batch_execute("SELECT rollup.drop('followed_1h'); DROP TABLE followed").unwrap();
    // A schema that is distributed as a whole.
    client
        .batch_execute(
            "SET citus.enable_schema_based_sharding = on; CREATE SCHEMA tenant; RESET citus.enable_schema_based_sharding;
             CREATE TABLE tenant.event (at timestamptz NOT NULL, v int);
             SELECT rollup.create('event_1h', $$SELECT date_trunc('hour', at) AS at, count(*) AS n FROM tenant.event GROUP BY 1$$, every => NULL);
             INSERT INTO tenant.event SELECT now(), g FROM generate_series(1, 50) g",
        )
        .unwrap();
    client.batch_execute("SELECT tenant.rollup_event()").unwrap();
    assert_eq!(number(client, "SELECT sum(n)::bigint FROM tenant.event_1h"), 50);
}

fn nodes_added_later(citus: &mut Citus, client: &mut Client) {
    let node = citus.start_node().unwrap();
    // A session that knew the server as one of its own must learn that it is a node.
    let mut there = citus.connect(node).unwrap();
    there.batch_execute("CREATE EXTENSION hll").unwrap();
    assert_eq!(number(&mut there, "SELECT rollup.stamp() >> 48"), 0);
    citus.add(node).unwrap();
    assert_eq!(number(&mut there, "SELECT count(*) FROM pg_extension WHERE extname = 'hll'"), 1);
    there.batch_execute(&one_row(3)).unwrap();
    assert_eq!(number(client, "SELECT count(*) FROM http_request WHERE rollup_stamp >> 48 = 3"), 1);
    run_and_compare(client, "a row written through a new node");
    // One that is disabled is named, and what it has not said is waited for.
    let port = citus.nodes[node].port();
    client.batch_execute(&format!("SELECT citus_disable_node('127.0.0.1', {port}, true)")).unwrap();
    let held: String = client
        .query_one("SELECT held_back_by FROM rollup.status WHERE name = 'http_request_1min'", &[])
        .unwrap()
        .get(0);
    assert!(held.contains(&format!("node 127.0.0.1:{port} (group 3): the node is disabled")), "{held}");
    client.batch_execute(&format!("SELECT citus_activate_node('127.0.0.1', {port})")).unwrap();
    there.batch_execute(&one_row(4)).unwrap();
    run_and_compare(client, "a row written through a node that was disabled");
}

fn the_worker_runs_it(client: &mut Client) {
    client
        .batch_execute(
            "UPDATE rollup.definition SET every = '200 milliseconds' WHERE name = 'http_request_1min'",
        )
        .unwrap();
    client.batch_execute(&one_row(5)).unwrap();
    wait_for("the worker merges the row", 30, || {
        number(client, "SELECT lag_rows FROM rollup.status WHERE name = 'http_request_1min'") == 0
    });
    assert_eq!(differences(client, "http_request_1min"), 0);
    let settled = number(client, "SELECT runs FROM rollup.status WHERE name = 'http_request_1min'");
    client.batch_execute("SELECT pg_sleep(0.6)").unwrap();
    let idle = number(client, "SELECT runs FROM rollup.status WHERE name = 'http_request_1min'");
    assert_eq!(settled, idle, "an idle tick writes nothing");
    client.batch_execute("SELECT rollup.drop('http_request_1min')").unwrap();
    assert_eq!(number(client, "SELECT count(*) FROM pg_class WHERE relname LIKE 'http_request_1%'"), 0);
}
