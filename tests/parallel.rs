//! Runs that parallel workers serve: which are, that the sums are those of one process, and what is left of one that
//! lost a worker.
use hll_lab::plans::{Plans, workers};
use hll_lab::{Cluster, wait_for};
use hll_tests::{QUERY, TABLE, another, differences, number};
use postgres::Client;

const RUN: &str = "SELECT rollup_http_request()";

/// So many rows, a thousand a minute.
fn insert(client: &mut Client, rows: i64) {
    client
        .batch_execute(&format!(
            "INSERT INTO http_request SELECT g % 7, timestamptz '2026-01-01' + g * interval '60 ms', '10.0.0.' || g % 250,
                 'c' || g % 5, 200, g % 900 FROM generate_series(1, {rows}) g;
             ANALYZE http_request"
        ))
        .unwrap();
}

/// A table with a rollup of that query and two levels.
fn rolled_up(cluster: &Cluster, db: &str, query: &str) -> Client {
    let mut client = cluster.database(db).unwrap();
    client.batch_execute(TABLE).unwrap();
    client
        .batch_execute(&format!(
            "SELECT rollup.create('http_request_1min', $q${query}$q$, every => NULL,
                 coarser => '{{\"http_request_1hour\": \"1 hour\", \"http_request_1day\": \"1 day\"}}')"
        ))
        .unwrap();
    client
}

/// Runs the rollup; the plan of its look at the raw rows.
fn plan_of_run(cluster: &Cluster, db: &str) -> String {
    let (mut client, plans) = Plans::of(cluster, db).unwrap();
    client.simple_query(RUN).unwrap();
    let read: Vec<String> = plans.told().into_iter().filter(|plan| plan.contains("rollup rows")).collect();
    read.into_iter().find(|plan| plan.contains("on http_request")).expect("a statement that reads raw rows")
}

/// Every level holds every raw row.
fn exact(client: &mut Client) {
    assert_eq!(differences(client, "http_request_1min"), 0);
    for level in ["http_request_1hour", "http_request_1day"] {
        let sums = |from: &str, count: &str, of: [&str; 2]| {
            format!(
                "SELECT site_id, {count}::numeric, sum({})::numeric, sum({})::numeric FROM {from} GROUP BY 1",
                of[0], of[1]
            )
        };
        let raw = sums("http_request", "count(*)", ["response_time_msec", "hashtext(ip_address)"]);
        let kept = sums(level, "sum(request_count)", ["total_msec", "hash_sum"]);
        assert_eq!(number(client, &format!("SELECT count(*) FROM ({raw} EXCEPT {kept}) d")), 0, "{level}");
        assert_eq!(number(client, &format!("SELECT count(*) FROM ({kept} EXCEPT {raw}) d")), 0, "{level}");
    }
}

#[test]
fn many_rows_are_summed_up_by_parallel_workers() {
    let cluster = Cluster::new().unwrap();
    let mut client = rolled_up(&cluster, "many", QUERY);
    for _ in 0..2 {
        insert(&mut client, 300_000);
        let plan = plan_of_run(&cluster, "many");
        assert!(
            workers(&plan) > 0 && plan.contains("Finalize HashAggregate") && plan.contains("Batch Aggregate"),
            "{plan}"
        );
        exact(&mut client);
    }
    // A few rows are not worth a worker.
    insert(&mut client, 500);
    let plan = plan_of_run(&cluster, "many");
    assert!(workers(&plan) == 0 && !plan.contains("Gather"), "{plan}");
    exact(&mut client);
}

#[test]
fn the_worker_and_every_isolation_level_do_the_same() {
    let cluster = Cluster::new().unwrap();
    let mut client = rolled_up(&cluster, "levels", QUERY);
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        insert(&mut client, 200_000);
        // Rows of the transaction itself are merged by the next run.
        let again = "INSERT INTO http_request (site_id, ingest_time, ip_address, request_country, status_code, response_time_msec)
            SELECT site_id, ingest_time, ip_address, request_country, status_code, response_time_msec FROM http_request LIMIT 1000";
        client
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; {again}; {RUN}; {again}; COMMIT"))
            .unwrap();
        client.batch_execute(RUN).unwrap();
        exact(&mut client);
    }
    insert(&mut client, 200_000);
    client
        .batch_execute("UPDATE rollup.definition SET every = '1 second'")
        .expect("the superuser may write the catalog");
    wait_for("the worker has merged the rows", 60, || differences(&mut client, "http_request_1min") == 0);
    exact(&mut client);
}

#[test]
fn groups_as_many_as_rows_are_left_to_one_process() {
    let cluster = Cluster::new().unwrap();
    let mut client = rolled_up(&cluster, "sparse", QUERY);
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g % 7, timestamptz '2000-01-01' + g * interval '61 s', '10.0.0.' || g % 250,
                 'c1', 200, g % 900 FROM generate_series(1, 200000) g;
             ANALYZE http_request",
        )
        .unwrap();
    let plan = plan_of_run(&cluster, "sparse");
    assert!(!plan.contains("Finalize") && !plan.contains("Gather"), "{plan}");
    exact(&mut client);
}

#[test]
fn a_function_that_is_not_parallel_safe_keeps_the_run_in_one_process() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("careful").unwrap();
    client
        .batch_execute(&format!(
            "{TABLE}; CREATE FUNCTION late(t timestamptz) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE AS
                 'BEGIN RETURN t; END'"
        ))
        .unwrap();
    let query = QUERY.replace("GROUP BY", "WHERE late(ingest_time) IS NOT NULL GROUP BY");
    client
        .batch_execute(&format!("SELECT rollup.create('http_request_1min', $q${query}$q$, every => NULL)"))
        .unwrap();
    insert(&mut client, 300_000);
    let plan = plan_of_run(&cluster, "careful");
    assert!(!plan.contains("Gather"), "{plan}");
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
}

#[test]
fn groups_that_memory_does_not_hold_go_to_disk() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("disk").unwrap();
    client.batch_execute(&format!("{TABLE}; ALTER TABLE http_request ADD COLUMN body text")).unwrap();
    client
        .batch_execute(
            "SET work_mem = '64kB';
             SELECT rollup.create('http_request_1min', 'SELECT site_id, date_trunc(''minute'', ingest_time) AS ingest_time,
                 count(*) AS n, max(body) AS body FROM http_request GROUP BY 1, 2', every => NULL);
             INSERT INTO http_request SELECT g % 100, timestamptz '2026-01-01' + g * interval '60 ms', '', '', 200, 1,
                 CASE WHEN g % 20 = 0 THEN (SELECT string_agg(md5((g + i)::text), '') FROM generate_series(1, 300) i) END
                 FROM generate_series(1, 100000) g;
             ANALYZE http_request",
        )
        .unwrap();
    // The values lie out of line: what is kept of them until the merge must not.
    let out_of_line =
        "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'http_request'::regclass";
    assert!(number(&mut client, out_of_line) > 10_000_000);
    client.batch_execute(RUN).unwrap();
    let raw = "SELECT site_id, date_trunc('minute', ingest_time), count(*), max(body) FROM http_request GROUP BY 1, 2";
    let kept = "SELECT site_id, ingest_time, n, body FROM http_request_1min";
    assert_eq!(number(&mut client, &format!("SELECT count(*) FROM ({raw} EXCEPT {kept}) d")), 0);
    assert_eq!(number(&mut client, &format!("SELECT count(*) FROM ({kept} EXCEPT {raw}) d")), 0);
    assert!(number(&mut client, "SELECT count(*) FROM http_request_1min") > 9000);
}

#[test]
fn a_run_that_loses_a_worker_leaves_nothing() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("lost").unwrap();
    client
        .batch_execute(&format!(
            "{TABLE}; CREATE TABLE brake (on_ boolean); INSERT INTO brake VALUES (true);
             CREATE FUNCTION slow(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
                 'BEGIN IF n = 7 AND (SELECT on_ FROM public.brake) THEN PERFORM pg_sleep(0.1); END IF; RETURN n; END'"
        ))
        .unwrap();
    let query = QUERY.replace("sum(response_time_msec)", "sum(slow(response_time_msec))");
    client
        .batch_execute(&format!("SELECT rollup.create('http_request_1min', $q${query}$q$, every => NULL)"))
        .unwrap();
    insert(&mut client, 300_000);
    for end in ["pg_terminate_backend", "pg_cancel_backend"] {
        let mut runner = another(&cluster, "lost");
        let run = std::thread::spawn(move || runner.simple_query(RUN).map(|_| ()));
        let worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'PgSleep'";
        wait_for("a parallel worker is at work", 60, || number(&mut client, worker) > 0);
        client
            .batch_execute(&format!(
                "SELECT {end}(pid) FROM pg_stat_activity WHERE backend_type = 'parallel worker'"
            ))
            .unwrap();
        assert!(run.join().unwrap().is_err(), "{end}: the run came to its end");
        assert_eq!(number(&mut client, "SELECT count(*) FROM http_request_1min"), 0);
    }
    client.batch_execute("UPDATE brake SET on_ = false").unwrap();
    assert_eq!(number(&mut client, &RUN.replace("()", "()::int8")), 300_000);
    assert_eq!(differences(&mut client, "http_request_1min"), 0);
}
