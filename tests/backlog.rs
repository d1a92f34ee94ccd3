//! Rows that were there before the rollup come in pieces by the worker, whoever is killed meanwhile.
use hll_lab::wait_for;
use hll_tests::{QUERY, another, caught_up, differences, number, prepared};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_backlog_survives_kills() {
    let (cluster, mut client) = prepared("backlog", "");
    for sql in [
        "ALTER SYSTEM SET rollup.batch_rows = 1000",
        "SELECT pg_reload_conf()",
        "INSERT INTO http_request SELECT g % 5, now() - g * interval '2 seconds', '10.0.0.' || g % 250, 'USA', 200, g % 900
         FROM generate_series(1, 100000) g",
    ] {
        client.batch_execute(sql).unwrap();
    }
    let create = format!(
        "SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '100 milliseconds', coarser => '{{\"http_request_1day\": \"1 day\"}}')"
    );
    client.batch_execute(&create).unwrap();
    wait_for("a first piece", 30, || number(&mut client, "SELECT count(*) FROM http_request_1min") > 0);
    let (mut killed, mut compared) = (0, 0);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killer = another(&cluster, "backlog");
            let mut kills = 0;
            for _ in 0..3 {
                kills += number(
                    &mut killer,
                    "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE backend_type = 'rollup scheduler' AND datname = 'backlog'",
                );
                killer
                    .batch_execute(
                        "INSERT INTO http_request VALUES (1, now() - interval '1 day', 'late', 'DE', 200, 1)",
                    )
                    .unwrap();
                let before = number(&mut killer, "SELECT count(*) FROM rollup.run");
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
                while number(&mut killer, "SELECT count(*) FROM rollup.run") == before
                    && std::time::Instant::now() < deadline
                {}
            }
            kills
        });
        while !killer.is_finished() {
            assert_eq!(differences(&mut client, "http_request_1min_live"), 0);
            compared += 1;
        }
        killed = killer.join().unwrap();
    });
    caught_up(&mut client);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0);
    assert_eq!(
        number(&mut client, "SELECT count(*) FROM rollup.definition WHERE backlog_to_xmax IS NOT NULL"),
        0
    );
    assert!(killed > 0 && compared > 0, "{killed} killed, {compared} comparisons");
    println!("{killed} schedulers killed, {compared} comparisons of the live view");
}

#[test]
fn pieces_do_not_wait_for_the_next_look() {
    let (_cluster, mut client) = prepared("pieces", "");
    for sql in [
        "ALTER SYSTEM SET rollup.batch_rows = 5000",
        "ALTER SYSTEM SET rollup.naptime = '3s'",
        "SELECT pg_reload_conf()",
        "INSERT INTO http_request SELECT g % 5, now() - g * interval '2 seconds', '10.0.0.' || g % 250, 'USA', 200, g % 900
         FROM generate_series(1, 100000) g",
        "CREATE TABLE event (at timestamptz DEFAULT now(), x int)",
        "SELECT rollup.create('event_1h', 'SELECT date_trunc(''hour'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => '1 second')",
        "INSERT INTO event (x) VALUES (1)",
    ] {
        client.batch_execute(sql).unwrap();
    }
    let create = format!("SELECT rollup.create('http_request_1min', $q${QUERY}$q$, every => '1 hour')");
    client.batch_execute(&create).unwrap();
    wait_for("the backlog is begun", 60, || {
        number(&mut client, "SELECT count(*) FROM http_request_1min") > 0
    });
    let start = std::time::Instant::now();
    caught_up(&mut client);
    // Twenty pieces, of which each could wait three seconds.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    // The other rollup had its turn.
    wait_for("the other is run", 20, || number(&mut client, "SELECT count(*) FROM event_1h") == 1);
}

/// What the status says is under way.
fn progress(client: &mut postgres::Client) -> String {
    let row = client.query_one("SELECT progress FROM rollup.status", &[]).unwrap();
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

#[test]
fn long_work_shows_itself() {
    let (cluster, mut client) = prepared("shown", "1 hour");
    client
        .batch_execute(
            "INSERT INTO http_request SELECT g % 5, now() - interval '9 days' - g * interval '2 seconds', '10.0.0.1', 'USA', 200, g % 900
             FROM generate_series(1, 40000) g",
        )
        .unwrap();
    caught_up(&mut client);
    client.batch_execute("SELECT rollup.retain('http_request_1min', '30 days')").unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut blocker = another(&cluster, "shown");
    let lock_page = "SELECT FROM http_request WHERE ctid = (SELECT min(ctid) FROM http_request WHERE ctid >= '(10,0)') FOR UPDATE";
    for (hold, call, says) in [
        (
            "LOCK TABLE http_request_1min IN SHARE MODE",
            "SELECT rollup.rebuild('http_request_1min')",
            "rollup.rebuild of http_request_1min: groups of public.http_request_1min",
        ),
        (
            lock_page,
            "SELECT rollup.expire('http_request')",
            "rollup.expire of public.http_request: public.http_request, page 0 of ",
        ),
    ] {
        if call.contains("expire") {
            // Set and used at once: the worker looks at retentions that are committed.
            assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 40_000);
        }
        blocker.batch_execute(&format!("BEGIN; {hold}")).unwrap();
        let notices = told.clone();
        let mut config = postgres::Config::new();
        config.host_path(cluster.socket()).user("postgres").dbname("shown");
        config.notice_callback(move |notice| notices.lock().unwrap().push(notice.message().to_string()));
        let mut worker = config.connect(postgres::NoTls).unwrap();
        let begun = Instant::now();
        let working = thread::spawn(move || {
            if call.contains("expire") {
                worker.batch_execute("BEGIN; SELECT rollup.retain('http_request', '7 days')")?;
                worker.batch_execute(call)?;
                return worker.batch_execute("COMMIT");
            }
            worker.batch_execute(call)
        });
        wait_for("the status tells of it", 30, || progress(&mut client).starts_with(says));
        let held = Instant::now();
        wait_for("more than a second", 5, || held.elapsed() > Duration::from_millis(1200));
        assert!(progress(&mut client).starts_with(says), "{}", progress(&mut client));
        blocker.batch_execute("COMMIT").unwrap();
        working.join().unwrap().unwrap();
        let told = std::mem::take(&mut *told.lock().unwrap());
        let expected = call.split('\'').nth(1).unwrap();
        assert!(told.len() as u64 <= begun.elapsed().as_secs(), "{told:?}");
        if call.contains("expire") {
            assert!(told.iter().any(|t| t.contains(expected) && t.contains(", page ")), "{told:?}");
        }
    }
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), 0);
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min_live"), 40_000);
    wait_for("nothing is under way", 30, || progress(&mut client).is_empty());
}
