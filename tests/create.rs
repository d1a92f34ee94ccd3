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
