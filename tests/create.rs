//! rollup.create beside transactions that are open.
use hll_tests::{QUERY, another, number, prepared};
use std::thread;
use std::time::{Duration, Instant};

/// A long reader keeps rollup.create waiting; what comes after it must not wait with it.
#[test]
fn waiting_for_the_table_holds_no_writer_up() {
    let (cluster, mut client) = prepared("creation", "");
    let mut reader = another(&cluster, "creation");
    reader.batch_execute("BEGIN; SELECT count(*) FROM http_request").unwrap();
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let sql = format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => NULL)");
            another(&cluster, "creation").batch_execute(&sql)
        });
        let begun = Instant::now();
        let mut attempts = 0;
        // It has tried for the lock more than once, seen by writers that get through meanwhile.
        while begun.elapsed() < Duration::from_secs(2) {
            let one = Instant::now();
            client.batch_execute("INSERT INTO http_request DEFAULT VALUES").unwrap();
            slowest = slowest.max(one.elapsed());
            attempts += 1;
        }
        assert!(attempts > 5, "{attempts} inserts in two seconds");
        assert!(!creating.is_finished(), "the reader is still open");
        reader.batch_execute("COMMIT").unwrap();
        creating.join().unwrap().expect("the rollup is created once the reader has gone");
    });
    assert!(slowest < Duration::from_secs(1), "an insert waited {slowest:?}");
    let rows = number(&mut client, "SELECT count(*) FROM http_request");
    assert_eq!(rows, number(&mut client, "SELECT rollup_http_request()"));
}

/// Summaries of block ranges that grow lose values where two sessions insert into one range: `add_index` says how. No
/// test can bring that about without stopping a server in its midst, so this one looks at what the index is.
#[test]
fn the_index_has_no_summaries_that_grow() {
    let (_cluster, mut client) = prepared("summaries", "1 day");
    let classes = "SELECT string_agg(o.opcname, ' ' ORDER BY k.n) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am a ON a.oid = c.relam AND a.amname = 'brin', unnest(i.indclass) WITH ORDINALITY k(class, n) JOIN pg_opclass o ON o.oid = k.class
        WHERE i.indrelid = 'http_request'::regclass";
    let found: String = client.query_one(classes, &[]).unwrap().get(0);
    assert_eq!(found, "timestamptz_minmax_ops int8_minmax_ops int8_minmax_ops");
}
