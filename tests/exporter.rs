//! The query file for Prometheus, with Debian's exporter itself. Skipped where its package is not available.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use hll_lab::{Tree, root, skip, wait_for};
use hll_tests::{caught_up, number, prepared};

/// The exporter, ended with this value.
struct Exporter(Child, u16);

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Exporter {
    /// What a scraper gets; empty where nobody answers yet.
    fn scrape(&self) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.1))
            && stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").is_ok()
        {
            // Half an answer lacks what is looked for: it is asked again.
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }
}

/// The value of a series, by its name and labels as the exporter writes them.
fn value(scraped: &str, name: &str, label: &str) -> Option<f64> {
    let line = scraped.lines().find(|l| l.starts_with(&format!("{name}{{")) && l.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn prometheus_reads_the_metrics() {
    let Some(tool) = Tree::tool("prometheus-postgres-exporter").unwrap() else {
        return skip("the package of prometheus-postgres-exporter is not there: make setup-test");
    };
    let (cluster, mut client) = prepared("scraped", "200 milliseconds");
    client
        .batch_execute(
            "CREATE ROLE monitor LOGIN IN ROLE pg_monitor; GRANT SELECT ON http_request TO monitor;
             INSERT INTO http_request SELECT g % 3, now(), '10.0.0.' || g % 250, 'USA', 200, g FROM generate_series(1, 1000) g;
             INSERT INTO http_request SELECT 1, now() - interval '9 days', 'old', 'USA', 200, g FROM generate_series(1, 10) g;
             CREATE TABLE \"odd \"\"one\" (at timestamptz, x int) PARTITION BY RANGE (at);
             SELECT rollup.partition('\"odd \"\"one\"', '1 day', '3 days');
             SELECT rollup.create('\"odd\\sum\"', 'SELECT date_trunc(''hour'', at) AS at, sum(x) AS x FROM \"odd \"\"one\" GROUP BY 1', every => NULL);
             SELECT rollup.pause('odd\\sum'); INSERT INTO \"odd \"\"one\" VALUES (now(), 1)",
        )
        .unwrap();
    caught_up(&mut client);
    client
        .batch_execute("SELECT rollup.retain('http_request', '7 days'); SELECT rollup.expire('http_request')")
        .unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Command::new(tool.join("usr/bin/prometheus-postgres-exporter"))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--extend.query-path={}", root().join("examples/postgres_exporter.yaml").display()))
        .args(["--disable-default-metrics", "--disable-settings-metrics"])
        .env(
            "DATA_SOURCE_NAME",
            format!("user=monitor host={} dbname=scraped sslmode=disable", cluster.socket().display()),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let exporter = Exporter(started, port);
    let mut scraped = String::new();
    wait_for("the exporter tells of rollups", 60, || {
        scraped = exporter.scrape();
        scraped.contains("rollup_rows_total{")
    });
    assert!(
        scraped.contains("# TYPE rollup_rows_total counter")
            && scraped.contains("# TYPE rollup_lag_rows gauge")
    );
    let (minute, odd) = ("name=\"http_request_1min\"", "name=\"odd\\\\sum\"");
    for (name, label, wanted) in [
        ("rollup_rows_total", minute, 1010.0),
        ("rollup_failures_total", minute, 0.0),
        ("rollup_late_ignored_total", minute, 0.0),
        ("rollup_rewritten_queries_total", minute, 0.0),
        ("rollup_lag_rows", minute, 0.0),
        ("rollup_lag_seconds", minute, 0.0),
        ("rollup_backlog_rows", minute, 0.0),
        ("rollup_paused", minute, 0.0),
        ("rollup_failing", minute, 0.0),
        ("rollup_rows_total", odd, 0.0),
        ("rollup_paused", odd, 1.0),
        ("rollup_table_expired_rows_total", "relation=\"http_request\"", 10.0),
        ("rollup_table_dropped_partitions_total", "relation=\"http_request\"", 0.0),
        ("rollup_partition_moved_rows_total", "relation=\"\\\"odd \\\"\\\"one\\\"\"", 0.0),
    ] {
        assert_eq!(value(&scraped, name, label), Some(wanted), "{name} of {label} in\n{scraped}");
    }
    let unreadable = value(&scraped, "rollup_lag_rows", odd);
    assert!(unreadable.is_some_and(f64::is_nan), "its rows are nobody's business: {unreadable:?}");
    let ahead = value(&scraped, "rollup_partition_ahead_seconds", "odd").unwrap_or_default();
    assert!((259_200.0..345_601.0).contains(&ahead), "{ahead}");
    assert!(value(&scraped, "rollup_runs_total", minute) >= Some(1.0));
    assert!(value(&scraped, "rollup_rows_per_second", minute) > Some(0.0));
    // Everything that the extension counts is in the file, and the file asks for nothing else.
    let file = std::fs::read_to_string(root().join("examples/postgres_exporter.yaml")).unwrap();
    for row in client.query("SELECT DISTINCT name FROM rollup.metrics", &[]).unwrap() {
        assert!(file.contains(&format!("'{}'", row.get::<_, String>(0))), "{row:?}");
    }
    assert_eq!(number(&mut client, "SELECT count(DISTINCT name) FROM rollup.metrics"), 15);
}
