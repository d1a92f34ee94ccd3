//! The whole story on a private cluster: events come in, a worker rolls them up, a dashboard reads the
//! small table, old rows expire. Every figure at the end is measured; `exact: no` exits with 1.
/// What is printed is remembered, for the picture.
macro_rules! println {
    () => { $crate::say("") };
    ($($text:tt)*) => { $crate::say(&format!($($text)*)) };
}

static SAID: Mutex<String> = Mutex::new(String::new());

/// Prints a line and remembers it.
fn say(line: &str) {
    std::println!("{line}");
    *SAID.lock().unwrap_or_else(PoisonError::into_inner) += &format!("{line}\n");
}

/// What was said since this was asked last.
fn said() -> String {
    std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner))
}

mod dashboard;
mod generate;
mod input;
mod verdict;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hll_lab::{Cluster, Outcome};

const TABLE: &str = "CREATE TABLE http_request (
  site_id int,
  ingest_time timestamptz DEFAULT now(),
  url text,
  request_country text,
  ip_address text,
  status_code int,
  response_time_msec int
)";

const ROLLUP: &str = "SELECT rollup.create('http_request_1min', $query$
  SELECT site_id,
         date_trunc('minute', ingest_time)                                 AS ingest_time,
         count(*)                                                          AS request_count,
         count(*) FILTER (WHERE status_code BETWEEN 200 AND 299)           AS success_count,
         count(*) FILTER (WHERE status_code NOT BETWEEN 200 AND 299)       AS error_count,
         sum(response_time_msec)                                           AS total_response_time_msec,
         ddsketch_agg(response_time_msec)                                  AS response_time,
         hll_add_agg(hll_hash_text(ip_address))                            AS distinct_ip_addresses,
         jsonb_counter_agg(request_country)                                AS country_counters,
         jsonb_counter_agg(url, 1, 100)                                    AS url_counters
  FROM http_request
  GROUP BY 1, 2 $query$, every => '1 second',
  coarser => '{\"http_request_1hour\": \"1 hour\", \"http_request_1day\": \"1 day\"}')";

fn main() -> ExitCode {
    match story() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            // The server's own message, hint included, says more than the client's "db error".
            match fault.downcast_ref::<postgres::Error>().and_then(|e| e.as_db_error()) {
                Some(db) => {
                    eprintln!("demo: {}: {} {}", db.code().code(), db.message(), db.hint().unwrap_or(""))
                }
                None => eprintln!("demo: {fault}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn story() -> Outcome<bool> {
    let file = std::env::var("DEMO_INPUT").ok().filter(|f| !f.is_empty());
    let seconds: u64 = match std::env::var("DEMO_SECONDS") {
        Ok(text) => text.parse().map_err(|_| format!("DEMO_SECONDS={text} is not a number of seconds"))?,
        Err(_) => 20,
    };
    // Before anything is started: a wrong file name should cost nothing.
    let events = file.as_deref().map(input::read).transpose()?;

    let cluster = Cluster::new()?;
    let mut client = cluster.database("demo")?;
    let version: String = client.query_one("SHOW server_version", &[])?.get(0);
    println!("private cluster: PostgreSQL {version}, socket {}", cluster.socket().display());
    client.batch_execute(TABLE)?;
    client.batch_execute(ROLLUP)?;
    // Wide enough to keep every raw row until the comparison; narrowed at the end.
    client.batch_execute("SELECT rollup.retain('http_request', '100 years')")?;

    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut screen = dashboard::Screen::new();
    let start = Instant::now();
    thread::scope(|scope| -> Outcome<()> {
        let mut writers = Vec::new();
        for number in 0..4 {
            let mut writer = cluster.connect("demo")?;
            let (stop, written, events) = (&stop, &written, &events);
            writers.push(scope.spawn(move || match events {
                Some(events) => input::write(&mut writer, events.iter().skip(number).step_by(4), written),
                None => generate::write(&mut writer, number as u64 + 1, stop, written),
            }));
        }
        let mut shown = Ok(());
        while shown.is_ok() && !writers.iter().all(|w| w.is_finished()) {
            // Writers that were told to end are waited for without a picture: the last one comes when all is rolled up.
            if start.elapsed() < Duration::from_secs(seconds) {
                shown = screen.refresh(&mut client, written.load(Relaxed), start.elapsed());
            } else {
                stop.store(true, Relaxed);
            }
            // The pause between two refreshes, cut short when the last writer is done or is to be told.
            let next = Instant::now() + screen.pause();
            while Instant::now() < next
                && (start.elapsed() < Duration::from_secs(seconds) || stop.load(Relaxed))
                && !writers.iter().all(|w| w.is_finished())
            {
                thread::sleep(Duration::from_millis(20));
            }
        }
        stop.store(true, Relaxed);
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        shown
    })?;
    said();
    let exact = verdict::give(&mut client, &mut screen, written.load(Relaxed), start)?;
    // DEMO_PICTURE=file.svg draws the last screen and the figures; `make picture` does, for the README.
    if let Some(file) = std::env::var_os("DEMO_PICTURE").filter(|f| !f.is_empty()) {
        let text = screen.page() + &said();
        std::fs::write(&file, hll_lab::drawing::terminal("make demo", &text.lines().collect::<Vec<_>>()))?;
    }
    Ok(exact)
}
