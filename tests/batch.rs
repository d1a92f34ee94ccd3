//! Rows that are grouped a page at a time, beside the executor that takes them one by one: the same rows come out, byte by
//! byte, whatever the table has been through.
use hll_lab::Cluster;
use postgres::{Client, IsolationLevel};

/// Types of all kinds, NULLs, a column that is gone and two that rows are older than, values out of line and compressed,
/// rows that were updated, deleted, rolled back.
const CHANGES: [&str; 9] = [
    "CREATE TABLE t (a int, gone text, small smallint, big bigint, at timestamptz, local timestamp, day date, word text,
         long text, f float8, r real, n numeric, id uuid, b bool, name name, v varchar(20), c char(6)) WITH (fillfactor = 70)",
    "INSERT INTO t SELECT i % 11, repeat('x', i % 9), i % 300 - 150, i::bigint * 7919 - 40000,
         timestamptz '2026-03-28 22:00+00' + i * interval '17 seconds', timestamp '1999-12-31 23:59' + i * interval '31 seconds',
         date '2024-02-27' + i % 40, 'w' || i % 13, CASE WHEN i % 500 = 0 THEN repeat('long ' || i, 900)
           WHEN i % 501 = 0 THEN (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 200) j) ELSE 'l' || i % 5 END,
         i * 0.37, i * 0.5, (i % 97) * 1.10, md5((i % 6)::text)::uuid, i % 3 = 0, 'n' || i % 4, 'v' || i % 8, 'c' || i % 3
       FROM generate_series(1, 6000) i",
    "ALTER TABLE t DROP COLUMN gone",
    "UPDATE t SET a = NULL, word = NULL, f = NULL WHERE big % 17 = 0; UPDATE t SET at = NULL, n = NULL, id = NULL, b = NULL, long = NULL WHERE big % 19 = 0",
    "ALTER TABLE t ADD COLUMN late int DEFAULT 42; ALTER TABLE t ADD COLUMN later text DEFAULT 'never written'",
    "INSERT INTO t (a, at, late, later) SELECT i % 5, timestamptz 'infinity', i % 3, 'l' || i % 3 FROM generate_series(1, 50) i;
     INSERT INTO t (a, at, local, day) VALUES (1, '-infinity', '-infinity', 'infinity'), (2, '4713-01-02 00:00:00 BC', '4713-01-02 BC', '4713-01-02 BC'),
         (3, '294276-12-31 23:59:59', '294276-12-31 23:59:59', '5874897-12-31'), (4, '0001-01-01 00:00:00 BC', '0044-03-15 BC', '-infinity')",
    "BEGIN; INSERT INTO t (a, big) SELECT 99, i FROM generate_series(1, 300) i; ROLLBACK;
     BEGIN; SAVEPOINT s; UPDATE t SET big = 0 WHERE a = 3; ROLLBACK TO s; DELETE FROM t WHERE a = 4 AND big % 2 = 0; COMMIT",
    "VACUUM t",
    "UPDATE t SET small = small + 1 WHERE a = 5; DELETE FROM t WHERE a = 6 AND small > 0; ANALYZE t",
];

/// Queries that are grouped by pages, each with what it is there for.
const QUERIES: [&str; 50] = [
    "SELECT hashint4(a), count(*), sum(hashtext(word)), max(hashint8(big)), min(-a) FROM t WHERE small > -100 GROUP BY 1",
    "SELECT a, sum(hashtext(v)), count(*) FILTER (WHERE small = hashint4(3) OR a = 3), jsonb_counter_agg(word, hashint4(4)) FROM t GROUP BY 1",
    "SELECT a, count(*), count(word), count(*) FILTER (WHERE small > 0), sum(small), sum(a), max(big), min(at), max(day), min(local) FROM t GROUP BY a",
    "SELECT a, date_trunc('minute', at, 'UTC'), hll_add_agg(hll_hash_text(word)), jsonb_counter_agg(word), sum(big), avg(a), avg(big) FROM t GROUP BY 1, 2",
    "SELECT date_trunc('hour', at), count(*), hll_add_agg(hll_hash_bigint(big)) FROM t GROUP BY 1",
    "SELECT date_trunc('day', at, 'Europe/Berlin'), count(*), hll_add_agg(hll_hash_integer(a)) FROM t GROUP BY 1",
    "SELECT date_trunc('hour', at, 'Asia/Kathmandu'), date_trunc('week', local), count(*) FROM t GROUP BY 1, 2",
    "SELECT date_trunc('month', local), date_trunc('second', local), date_trunc('week', at, 'UTC'), count(*) FROM t GROUP BY 1, 2, 3",
    "SELECT date_bin('7 minutes', at, '2026-03-29 01:00+00'), count(*), sum(a) FROM t WHERE at BETWEEN '2026-03-28' AND '2026-04-30' GROUP BY 1",
    "SELECT date_bin('15 minutes', local, '2000-01-01'), count(*) FROM t WHERE local > '1999-01-01' AND local < '2001-01-01' GROUP BY 1",
    "SELECT CASE WHEN at < '290000-01-01' THEN date_bin('1 hour', at, '0001-01-01') ELSE date_trunc('hour', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END, count(*) FROM t WHERE at > '-infinity' AND at > '0001-01-01' OR at IS NULL GROUP BY 1",
    "SELECT local::date, count(*), max(at) FROM t WHERE isfinite(local) GROUP BY 1",
    "SELECT word, v, count(*), sum(late), max(late) FROM t GROUP BY word, v",
    "SELECT long, count(*) FROM t GROUP BY long",
    "SELECT later, late, count(*), jsonb_counter_agg(later), hll_add_agg(hll_hash_text(later)) FROM t GROUP BY later, late",
    "SELECT id, b, count(*), jsonb_counter_agg(long, a), jsonb_counter_agg(word, big) FROM t GROUP BY id, b",
    "SELECT a, ddsketch_agg(f), ddsketch_agg(r), ddsketch_agg(small), approx_percentile(f, 0.9) FROM t WHERE f > 1 GROUP BY a",
    "SELECT count(*), hll_add_agg(hll_hash_text(long)), ddsketch_agg(big), sum(n), avg(n), stddev(a), sum(f), avg(r), bool_and(b), bit_or(a), string_agg(word, ',') FROM t",
    "SELECT count(*), max(at), hll_add_agg(hll_hash_text(word)), ddsketch_agg(f), jsonb_counter_agg(word), sum(a) FROM t WHERE a = 12345",
    "SELECT a, count(*) FROM t WHERE a = 12345 GROUP BY a",
    "SELECT a, sum(big) / count(*) AS q, count(*) FROM t GROUP BY a HAVING count(*) > 400 AND sum(small) IS NOT NULL",
    "SELECT a % 3, count(*), sum(f) FROM t WHERE word = 'w3' AND long IS NOT NULL GROUP BY 1",
    "SELECT a, count(*) FROM t WHERE big = ANY ('{-32081, -24162, 7919, 12345}') OR small <> ALL ('{1, 2, 3}') AND b GROUP BY a",
    "SELECT a, count(*) FILTER (WHERE b), count(*) FILTER (WHERE NOT b), count(*) FILTER (WHERE b IS NULL), sum(big) FILTER (WHERE word = 'w1' OR a IS NULL) FROM t GROUP BY a",
    "SELECT a, count(*) FROM t WHERE small < a AND NOT (big > 100 AND a > 3) GROUP BY a",
    "SELECT a, count(*), max(small + a) FROM t WHERE length(word) = 3 GROUP BY a",
    "SELECT day, count(n), hll_add_agg(hll_hash_any(n)) FROM t WHERE day >= '2024-03-01' GROUP BY day",
    "SELECT big, count(*), hll_add_agg(hll_hash_text(word)) FROM t GROUP BY big",
    "SELECT a, hll_add_agg(hll_hash_text(word, 5)), hll_add_agg(hll_hash_bigint(big), 10), hll_add_agg(hll_hash_smallint(small)) FROM t GROUP BY a",
    "SELECT a, jsonb_counter_agg(word, n), jsonb_counter_agg(word, f), jsonb_counter_agg(v, small, 3) FROM t WHERE small > 0 GROUP BY a",
    "SELECT a, array_length(string_to_array(string_agg(name::text, ','), ','), 1), max(c), count(c) FROM t GROUP BY a",
    "SELECT a, count(*), sum(big) FROM t WHERE big > (SELECT 5000::bigint) AND at < (SELECT timestamptz '2026-04-02') AND a <> (SELECT NULL::int) IS NOT TRUE GROUP BY a",
    "SELECT a, count(*) FROM t WHERE small = ANY ((SELECT '{1, 2, 77}'::smallint[])::smallint[]) OR big <> ALL ((SELECT '{7919, -32081}'::bigint[])::bigint[]) GROUP BY a",
    "SELECT a, count(*) FROM t WHERE a <> ALL ((SELECT '{}'::int[])::int[]) AND NOT (a = ANY ((SELECT '{}'::int[])::int[])) AND a <> ALL ('{}') GROUP BY a",
    "SELECT a, count(*) FROM t WHERE a = ANY ((SELECT NULL::int[])::int[]) IS UNKNOWN AND (small = ANY ((SELECT '{1, NULL}'::smallint[])::smallint[])) IS NOT TRUE GROUP BY a",
    "SELECT a, count(*) FROM t WHERE (big > 100) IS FALSE OR b IS UNKNOWN OR (a < 3) IS NOT FALSE AND (small > 5) IS NOT UNKNOWN GROUP BY a",
    "SELECT a, count(*), hll_add_agg(hll_hash_text(word)) FROM t WHERE (SELECT true) AND small > 0 GROUP BY a",
    "SELECT count(*), sum(a), max(at) FROM t WHERE (SELECT NULL::boolean) AND small > 0",
    "SELECT k, s.* FROM generate_series(0, 5) k, LATERAL (SELECT count(*), sum(big), max(word) FROM t WHERE a = k AND small <> ALL (ARRAY[k, k + 1]) AND (SELECT k <> 3)) s",
    "SELECT a, count(*) FROM t WHERE at >= timestamptz '2026-03-29' + interval '1 hour' AND at < timestamptz '2026-04-20' - least(interval '1 day', interval '2 days') GROUP BY a",
    "SELECT a, count(*), sum(big) FROM t WHERE at > now() - interval '100 years' AND big > length(current_setting('server_version')) AND small <> NULLIF(current_setting('server_version_num')::int, current_setting('server_version_num')::int) IS NOT TRUE GROUP BY a",
    "SELECT a, count(*) FROM t WHERE a = 12345 AND big > 1 / (SELECT 0) GROUP BY a",
    "SELECT a, count(*) FROM t WHERE date_trunc('hour', at) >= '2026-03-29 01:00+00' AND date_trunc('hour', at) <> '2026-03-29 02:00+00' AND at < 'infinity' GROUP BY a",
    "SELECT date_trunc('day', local), count(*) FROM t WHERE isfinite(local) AND date_trunc('day', local) <= local::date AND local > date_bin('3 hours', local, '2000-01-01') OR local IS NULL GROUP BY 1",
    "SELECT CASE WHEN date_trunc('minute', at) >= '2026-03-29' AND at < 'infinity' THEN date_trunc('minute', at) ELSE at END, count(*) FROM t GROUP BY 1",
    "SELECT CASE WHEN date_bin('1 hour', local, '2000-01-01') > timestamp '2000-01-02' + interval '7 hours' THEN local END, CASE WHEN a < 3 OR b THEN small ELSE NULL::smallint END, count(*) FROM t WHERE local > '2000-01-01' AND isfinite(local) GROUP BY 1, 2",
    "SELECT a, count(*) FROM t WHERE small = 0 OR 100 / small > 7 OR width_bucket(big, '{100, 5000, 70000}'::bigint[]) % 2 = 1 GROUP BY a",
    "SELECT a, count(*) FROM t WHERE NOT (small = 0 OR 100 / small > 7 AND length(word) > 2) AND (small <> 0 AND 100 / small < 50) IS NOT FALSE GROUP BY a",
    "SELECT a, count(*) FILTER (WHERE date_trunc('hour', at) > '2026-03-30' AND (small = 0 OR 10 % small = 1)), sum(big) FILTER (WHERE at > now() - interval '90 years') FROM t GROUP BY a",
    "SELECT word AS w, min(small), max(small), min(big), max(day), count(*) FROM t WHERE 5 > a AND 1 = 1 GROUP BY w ORDER BY w",
];

/// Rows as text, in an order of their own.
fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client.query(&format!("SELECT r::text FROM ({sql}) r"), &[]);
    let mut rows: Vec<String> =
        rows.unwrap_or_else(|e| panic!("{sql}: {e:?}")).iter().map(|row| row.get::<_, String>(0)).collect();
    rows.sort();
    rows
}

fn plan(client: &mut Client, sql: &str) -> String {
    let rows = client.query(&format!("EXPLAIN {sql}"), &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

const NODE: &str = "Custom Scan (Batch Aggregate)";

/// Both roads give the same; returns how many of the queries took the one that is looked at.
fn compare(client: &mut Client, from: &str, when: &str) -> usize {
    let mut taken = 0;
    for query in QUERIES {
        let sql = query.replace("FROM t", &format!("FROM {from}"));
        client.batch_execute("SET rollup.batch = always").unwrap();
        taken += usize::from(plan(client, &sql).contains(NODE));
        let pages = rows(client, &sql);
        client.batch_execute("SET rollup.batch = off").unwrap();
        assert!(!plan(client, &sql).contains(NODE));
        let executor = rows(client, &sql);
        // A sum of floats depends on the order of rows, which parallel workers leave to chance.
        assert_eq!(pages, executor, "{when}: {sql}");
    }
    taken
}

const SERIAL: &str = "SET max_parallel_workers_per_gather = 0";
/// Whatever workers cost, they are there.
const PARALLEL: &str =
    "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
    SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = on";

#[test]
fn both_roads_give_the_same_whatever_a_table_went_through() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("roads").unwrap();
    let mut other = cluster.connect("roads").unwrap();
    client.batch_execute("SET jit = off; SET timezone = 'UTC'; SET enable_sort = off").unwrap();
    client.batch_execute(SERIAL).unwrap();
    for (n, change) in CHANGES.iter().enumerate() {
        for statement in change.split(";\n") {
            client.simple_query(statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
        }
        let known = n >= 4;
        if known {
            let taken = compare(&mut client, "t", &format!("after change {n}"));
            assert!(taken >= 45, "{taken} queries were grouped by pages");
        }
    }
    // Changes of others that are not committed, and our own.
    let mut open = other.transaction().unwrap();
    open.batch_execute("UPDATE t SET big = big + 1 WHERE a = 1; INSERT INTO t (a) VALUES (77)").unwrap();
    compare(&mut client, "t", "beside a transaction that has not ended");
    client
        .batch_execute("BEGIN; DELETE FROM t WHERE a = 2; INSERT INTO t (a, at) VALUES (2, now())")
        .unwrap();
    compare(&mut client, "t", "in a transaction that has changed rows");
    client.batch_execute("ROLLBACK").unwrap();
    // A snapshot that others have left behind.
    let mut kept =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().unwrap();
    let before: i64 = kept.query_one("SELECT count(*) FROM t", &[]).unwrap().get(0);
    open.commit().unwrap();
    other.batch_execute("DELETE FROM t WHERE a = 7").unwrap();
    for batch in ["always", "off"] {
        kept.batch_execute(&format!("SET LOCAL rollup.batch = {batch}")).unwrap();
        let sum = "SELECT sum(n)::bigint FROM (SELECT a, count(*) AS n FROM t GROUP BY a) s";
        assert_eq!(before, kept.query_one(sum, &[]).unwrap().get::<_, i64>(0), "{batch}");
    }
    kept.commit().unwrap();
    // Zones whose clocks are changed, and one that is not of whole hours.
    for zone in ["Europe/Berlin", "Asia/Kathmandu", "Etc/GMT+5", "Australia/Lord_Howe"] {
        client.batch_execute(&format!("SET timezone = '{zone}'")).unwrap();
        compare(&mut client, "t", zone);
    }
    client.batch_execute("SET timezone = 'UTC'").unwrap();
    // By a bitmap, whose pages are exact, or as large as memory has it; through a view and with NULLs everywhere.
    client.batch_execute("CREATE INDEX ON t (big); SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off").unwrap();
    let sql = "SELECT a, count(*), sum(small), hll_add_agg(hll_hash_text(word)) FROM t WHERE big > 100000 AND big < 30000000 GROUP BY a";
    for memory in ["4MB", "64kB"] {
        client.batch_execute(&format!("SET work_mem = '{memory}'; SET rollup.batch = always")).unwrap();
        let plan = plan(&mut client, sql);
        assert!(plan.contains(NODE) && plan.contains("Bitmap Heap Scan"), "{plan}");
        let pages = rows(&mut client, sql);
        client.batch_execute("SET rollup.batch = off").unwrap();
        assert_eq!(pages, rows(&mut client, sql), "{memory}");
    }
}

#[test]
fn partitions_and_parallel_workers_give_the_same() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("parts").unwrap();
    client.batch_execute("SET jit = off; SET timezone = 'UTC'; SET enable_sort = off").unwrap();
    for statement in CHANGES.iter().flat_map(|change| change.split(";\n")) {
        client.simple_query(statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    // Columns in another order, and one more, in a partition.
    let like = "a int, small smallint, big bigint, at timestamptz, local timestamp, day date, word text, long text, f float8, r real, n numeric, id uuid, b bool, name name, v varchar(20), c char(6), late int, later text";
    client
        .batch_execute(&format!(
            "CREATE TABLE p ({like}) PARTITION BY LIST (a);
             CREATE TABLE p1 (later text, x int, {}); ALTER TABLE p1 DROP COLUMN x; ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1, 2, 3);
             CREATE TABLE p2 PARTITION OF p FOR VALUES IN (4, 5, 6, NULL); CREATE TABLE p3 PARTITION OF p DEFAULT;
             INSERT INTO p SELECT * FROM t; ANALYZE p",
            like.trim_end_matches(", later text")
        ))
        .unwrap();
    client.batch_execute(SERIAL).unwrap();
    let taken = compare(&mut client, "p", "partitions");
    assert!(taken >= 20, "{taken} queries over partitions were grouped by pages");
    client.batch_execute(PARALLEL).unwrap();
    for (query, from) in [(3, "t"), (3, "p"), (15, "t"), (16, "p"), (18, "t"), (27, "t"), (23, "p"), (1, "p")]
    {
        let sql = QUERIES[query].replace("FROM t", &format!("FROM {from}"));
        client.batch_execute("SET rollup.batch = always; SET enable_sort = off").unwrap();
        let with = plan(&mut client, &sql);
        let pages = rows(&mut client, &sql);
        // No room: states are handed up more than once.
        client.batch_execute("SET work_mem = '64kB'").unwrap();
        let little = rows(&mut client, &sql);
        client.batch_execute("RESET work_mem; SET rollup.batch = off").unwrap();
        let executor = rows(&mut client, &sql);
        assert_eq!(pages, executor, "{with}");
        assert_eq!(little, executor, "little memory: {with}");
    }
}

#[test]
fn a_query_that_needs_more_memory_than_it_may_have_is_the_executors() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("memory").unwrap();
    client.batch_execute(SERIAL).unwrap();
    client
        .batch_execute("CREATE TABLE t AS SELECT i, i % 5 AS k FROM generate_series(1, 100000) i; ANALYZE t; SET work_mem = '1MB'; SET rollup.batch = always")
        .unwrap();
    let sql = "SELECT i, count(*) AS n, hll_add_agg(hll_hash_integer(i)) AS h FROM t GROUP BY i";
    let told =
        client.query(&format!("EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) {sql}"), &[]).unwrap();
    let told: String = told.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    assert!(told.contains(NODE) && told.contains("Left to the Executor: memory"), "{told}");
    let sum = format!(
        "SELECT count(*), sum(n)::bigint, sum(hll_cardinality(h))::bigint, (SELECT count(*) FROM pg_backend_memory_contexts) FROM ({sql}) s"
    );
    let row = client.query_one(&sum, &[]).unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)),
        (100_000, 100_000, 100_000)
    );
    // A subquery that is run again for each row.
    let again = "SELECT sum(n)::bigint FROM generate_series(1, 5) g, LATERAL (SELECT count(*) AS n FROM t WHERE t.k < g GROUP BY k) s";
    let numbers: Vec<i64> = ["always", "off"]
        .map(|batch| {
            client.batch_execute(&format!("SET rollup.batch = {batch}")).unwrap();
            client.query_one(again, &[]).unwrap().get(0)
        })
        .into();
    assert_eq!(numbers, [300_000, 300_000]);
}

#[test]
fn what_the_executor_keeps_is_kept() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("kept").unwrap();
    client.batch_execute(SERIAL).unwrap();
    client
        .batch_execute(
            "CREATE TABLE t AS SELECT i % 10 AS k, i AS v, i % 2 AS mine FROM generate_series(1, 20000) i; ANALYZE t;
             CREATE ROLE reader; CREATE ROLE stranger; GRANT SELECT ON t TO reader;
             CREATE FUNCTION tells(int) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN IF $1 % 2 = 0 THEN RAISE 'row % was shown', $1; END IF; RETURN true; END $$;
             ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t FOR SELECT TO reader USING (mine = 1)",
        )
        .unwrap();
    let sql = "SELECT k, count(*), hll_add_agg(hll_hash_integer(v)) FROM t GROUP BY k";
    client.batch_execute("SET ROLE stranger").unwrap();
    let refused = client.query(sql, &[]).unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    client.batch_execute("SET ROLE reader").unwrap();
    assert!(plan(&mut client, sql).contains(NODE));
    let seen: i64 =
        client.query_one(&format!("SELECT sum(count)::bigint FROM ({sql}) s"), &[]).unwrap().get(0);
    assert_eq!(seen, 10_000, "a policy hides every other row");
    // What a policy hides reaches no function, however cheap it says that it is.
    let leaky = "SELECT k, count(*), hll_add_agg(hll_hash_integer(v)) FROM t WHERE tells(v) GROUP BY k";
    client.batch_execute("RESET ROLE; ALTER FUNCTION tells STABLE; SET ROLE reader").unwrap();
    assert!(plan(&mut client, leaky).contains(NODE));
    assert_eq!(client.query(leaky, &[]).unwrap().len(), 5);
    client.batch_execute("RESET ROLE").unwrap();
    assert!(client.query(leaky, &[]).is_err(), "who sees all rows shows them");

    // A statement is cancelled in the middle of it.
    client
        .batch_execute(
            "CREATE TABLE wide AS SELECT i AS v, repeat('x', 100) AS s FROM generate_series(1, 400000) i",
        )
        .unwrap();
    client.batch_execute("SET statement_timeout = '20ms'").unwrap();
    let late =
        client.query("SELECT hll_add_agg(hll_hash_integer(a.v)) FROM wide a, wide b", &[]).unwrap_err();
    assert_eq!(late.code().unwrap().code(), "57014");
    client.batch_execute("SET statement_timeout = '5ms'").unwrap();
    let late = client
        .query("SELECT v, hll_add_agg(hll_hash_text(s)) FROM wide WHERE length(s) > 3 GROUP BY v", &[])
        .unwrap_err();
    assert_eq!(late.code().unwrap().code(), "57014");
    client.batch_execute("RESET statement_timeout").unwrap();

    // Two transactions that each read what the other writes are not both let through.
    client.batch_execute("ALTER TABLE t DISABLE ROW LEVEL SECURITY").unwrap();
    let mut other = cluster.connect("kept").unwrap();
    let serializable = "BEGIN ISOLATION LEVEL SERIALIZABLE";
    client.batch_execute(serializable).unwrap();
    other.batch_execute(serializable).unwrap();
    other.batch_execute(SERIAL).unwrap();
    assert!(plan(&mut client, sql).contains(NODE));
    client.query(sql, &[]).unwrap();
    other.query(sql, &[]).unwrap();
    client.batch_execute("INSERT INTO t VALUES (1, 1, 1)").unwrap();
    other.batch_execute("INSERT INTO t VALUES (2, 2, 2)").unwrap();
    client.batch_execute("COMMIT").unwrap();
    let failed = other.batch_execute("COMMIT").unwrap_err();
    assert_eq!(failed.code().unwrap().code(), "40001");

    // A value that the statement is executed with, in a plan that is kept.
    client.batch_execute("ROLLBACK; SET plan_cache_mode = force_generic_plan").unwrap();
    let statement = client.prepare("SELECT sum(n)::bigint FROM (SELECT k, count(*) AS n, hll_add_agg(hll_hash_integer(v)) FROM t WHERE v <= $1 AND k >= $2 GROUP BY k) s").unwrap();
    for (v, k, sum) in [(100, 0, 101), (1000, 5, 500), (20_000, 0, 20_001)] {
        assert_eq!(client.query_one(&statement, &[&v, &k]).unwrap().get::<_, i64>(0), sum, "{v} {k}");
    }
}

#[test]
fn a_live_view_reads_its_raw_rows_by_pages() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("live").unwrap();
    for statement in [
        "SET jit = off; SET timezone = 'UTC'; SET enable_sort = off",
        SERIAL,
        "CREATE TABLE event (at timestamptz NOT NULL, site int, word text)",
        "SELECT rollup.create('events', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n, hll_add_agg(hll_hash_text(word)) AS words FROM event GROUP BY 1, 2', every => NULL)",
        "INSERT INTO event SELECT timestamptz '2026-01-01' + i * interval '1 minute', i % 7, 'w' || i % 100 FROM generate_series(1, 5000) i",
        "SELECT rollup.run('event')",
        "INSERT INTO event SELECT timestamptz '2026-01-02' + i * interval '1 minute', i % 7, 'v' || i % 100 FROM generate_series(1, 5000) i",
        "ANALYZE event",
    ] {
        client.batch_execute(statement).unwrap();
    }
    let queries = [
        "SELECT * FROM events_live",
        "SELECT site, hll_cardinality(hll_union_agg(words)) FROM events_live WHERE at >= '2026-01-03' GROUP BY site",
        "SELECT sum(n), hll_cardinality(hll_union_agg(words)) FROM events_live",
    ];
    for query in queries {
        client.batch_execute("SET rollup.batch = on").unwrap();
        let plan = plan(&mut client, query);
        assert!(plan.contains(NODE) && plan.contains("One-Time Filter"), "{plan}");
        let pages = rows(&mut client, query);
        client.batch_execute("SET rollup.batch = off").unwrap();
        assert_eq!(pages, rows(&mut client, query), "{query}");
    }
    // What is asked once: whether the view's owner is shown every row.
    client
        .batch_execute(
            "CREATE ROLE keeper; ALTER TABLE event OWNER TO keeper; ALTER TABLE events OWNER TO keeper; ALTER VIEW events_live OWNER TO keeper;
             ALTER TABLE event ENABLE ROW LEVEL SECURITY; ALTER TABLE event FORCE ROW LEVEL SECURITY; ANALYZE event",
        )
        .unwrap();
    for batch in ["on", "off"] {
        client.batch_execute(&format!("SET rollup.batch = {batch}")).unwrap();
        let error = client.query(queries[0], &[]).expect_err("rows are hidden");
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{error:?}");
    }
}
