//! Old rows go, but never a row that some rollup does not have yet.
use hll_tests::{number, prepared};

#[test]
fn a_paused_rollup_holds_expiry() {
    let (_cluster, mut client) = prepared("expiry", "1 hour");
    client
        .batch_execute(
            "SELECT rollup.pause('http_request_1min');
             SELECT rollup.retain('http_request', '1 day');
             INSERT INTO http_request SELECT 1, now() - interval '3 days', '10.0.0.1', 'USA', 200, g
             FROM generate_series(1, 100) g;
             INSERT INTO http_request SELECT 1, now(), '10.0.0.2', 'USA', 200, g FROM generate_series(1, 10) g",
        )
        .unwrap();
    // Paused: nothing is rolled up, so nothing may go.
    client.batch_execute("SELECT expire_http_request()").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 110);
    let held: Option<String> = client
        .query_one("SELECT expiry_held_by::text FROM rollup.status WHERE name = 'http_request_1min'", &[])
        .unwrap()
        .get(0);
    assert!(held.unwrap_or_default().contains("http_request_1min"), "the status names what holds expiry");

    client.batch_execute("SELECT rollup.resume('http_request_1min')").unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    client.batch_execute("SELECT expire_http_request()").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 10);
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 110);
    // The live view still knows what expired.
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min_live"), 110);
}

#[test]
fn an_unrolled_late_row_stays() {
    let (_cluster, mut client) = prepared("late", "1 hour");
    client
        .batch_execute(
            "SELECT rollup.retain('http_request', '1 day');
             INSERT INTO http_request SELECT 1, now() - interval '3 days', 'a', 'USA', 200, 1",
        )
        .unwrap();
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    client
        .batch_execute("INSERT INTO http_request SELECT 1, now() - interval '2 days', 'b', 'USA', 200, 1")
        .unwrap();
    client.batch_execute("SELECT expire_http_request()").unwrap();
    let left: Vec<String> =
        client.query("SELECT ip_address FROM http_request", &[]).unwrap().iter().map(|r| r.get(0)).collect();
    assert!(!left.contains(&"a".into()) || left.len() == 2, "{left:?}");
    // Whatever expiry did first, the late row was rolled up before it went.
    client.batch_execute("SELECT rollup_http_request()").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), 2);
}
