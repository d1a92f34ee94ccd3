//! What the stamp and its index cost an insert.
use std::fs;
use std::io::Write;

use hll_lab::figures::{Cell, exact, figure, row, table};
use hll_lab::{Cluster, Outcome};
use postgres::Client;

use crate::measure::median;
use crate::rollup::{COLUMNS, SELECT};

const NAMES: &str = "site_id, ingest_time, url, request_country, ip_address, status_code, response_time_msec";

/// Milliseconds of processor time that the session's server process has used.
fn server_time(client: &mut Client) -> Outcome<f64> {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let used = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanoseconds: f64 = used.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e6)
}

/// A transaction a row.
fn singles(client: &mut Client, table: &str) -> Outcome<()> {
    let sql =
        format!("INSERT INTO {table} ({NAMES}) VALUES ($1, '2026-01-01', '/', 'c1', '10.0.0.1', 200, $2)");
    let insert = client.prepare(&sql)?;
    for i in 0..5000 {
        client.execute(&insert, &[&(i % 20), &(i % 900)])?;
    }
    Ok(())
}

fn hundreds(client: &mut Client, table: &str) -> Outcome<()> {
    let rows = vec!["(1, '2026-01-01', '/', 'c1', '10.0.0.1', 200, 5)"; 100].join(", ");
    let insert = client.prepare(&format!("INSERT INTO {table} ({NAMES}) VALUES {rows}"))?;
    for _ in 0..300 {
        client.execute(&insert, &[])?;
    }
    Ok(())
}

fn copy(client: &mut Client, table: &str) -> Outcome<()> {
    let mut sink = client.copy_in(&format!("COPY {table} ({NAMES}) FROM STDIN"))?;
    for i in 0..100_000 {
        let (site, second, page) = (i % 20, i / 1000 % 60, i % 50);
        writeln!(sink, "{site}\t2026-01-01 00:00:{second:02}\t/page/{page}\tc1\t10.0.0.{page}\t200\t{page}")?;
    }
    sink.finish()?;
    Ok(())
}

/// Puts rows into a table.
type Insert = fn(&mut Client, &str) -> Outcome<()>;

/// The rolled-up table; the same without stamp, with the index on its time that a table of events is given to have its
/// old rows found; that without any index; and that with a constant where the first has the stamp.
const TABLES: [&str; 4] = ["http_request", "timed", "bare", "constant"];

/// Prints the table.
pub fn run() -> Outcome<()> {
    let cluster = Cluster::new()?;
    table(
        "Inserts into a rolled-up table beside the same table without stamp, whose index is a BRIN on the time alone; and beside that without any index, and with one more column of a constant: processor time of the server",
        &[
            "rows",
            "ms",
            "ms without stamp",
            "ratio",
            "at most",
            "ms without any index",
            "ratio",
            "ms with a constant, without any index",
            "ratio",
        ],
    );
    let mut client = cluster.database("inserts")?;
    client.batch_execute(&format!(
        "CREATE TABLE http_request ({COLUMNS}); CREATE TABLE timed ({COLUMNS}); CREATE TABLE bare ({COLUMNS});
         CREATE TABLE constant ({COLUMNS}, stamp bigint NOT NULL DEFAULT 0);
         CREATE INDEX ON timed USING brin (ingest_time) WITH (autosummarize = on, pages_per_range = 32);
         SELECT rollup.create('http_request_1min', $$ {SELECT} GROUP BY 1, 2 $$, every => NULL)"
    ))?;
    // As the tables are after their first minutes: what PostgreSQL does while a BRIN index has its first range only,
    // which it sums up at once and adds every row to, comes but once.
    for table in TABLES {
        copy(&mut client, table)?;
        client.batch_execute(&format!("VACUUM {table}"))?;
    }
    let kinds: [(&str, Insert, f64); 3] = [
        ("5,000, one a transaction", singles, 1.05),
        ("300 times 100", hundreds, 1.1),
        ("100,000 by COPY", copy, 1.1),
    ];
    for (what, insert, bound) in kinds {
        let mut times = TABLES.map(|_| Vec::new());
        for round in 0..15 {
            client.batch_execute("CHECKPOINT")?;
            for n in 0..TABLES.len() {
                let n = if round % 2 == 0 { n } else { TABLES.len() - 1 - n };
                let before = server_time(&mut client)?;
                insert(&mut client, TABLES[n])?;
                times[n].push(server_time(&mut client)? - before);
            }
        }
        let [stamped, timed, bare, constant] = times.map(median);
        let mut cells = vec![what.into(), figure(stamped, 0).into()];
        for (other, goal) in [(timed, Some(exact(bound))), (bare, None), (constant, None)] {
            cells.extend([figure(other, 0).into(), figure(stamped / other, 2).into()]);
            cells.extend(goal.map(Cell::from));
        }
        row(cells);
    }
    Ok(())
}
