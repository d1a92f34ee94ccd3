//! The dashboard: what a site's owner looks at, read from the rollup alone.
use std::io::{IsTerminal, Write};
use std::time::Duration;

use hll_lab::Outcome;
use postgres::Client;

/// The dashboard's query over `relation`; the rollup and the same groups over raw rows both answer it.
pub fn query(relation: &str) -> String {
    format!(
        "SELECT site_id, sum(request_count)::bigint, sum(success_count)::bigint, sum(error_count)::bigint,
                (sum(total_response_time_msec) / nullif(sum(request_count), 0))::float8,
                hll_cardinality(hll_union_agg(distinct_ip_addresses))::float8,
                sum((country_counters->>'USA')::bigint)::bigint
         FROM {relation} GROUP BY site_id ORDER BY 2 DESC, 1 LIMIT 8"
    )
}

/// Where the dashboard is drawn: a terminal is redrawn in place, anything else gets plain lines.
pub struct Screen {
    terminal: bool,
    page: String,
}

impl Screen {
    /// Looks at what standard output is.
    pub fn new() -> Screen {
        Screen { terminal: std::io::stdout().is_terminal(), page: String::new() }
    }

    /// How long a picture stays.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(if self.terminal { 500 } else { 5000 })
    }

    /// What was drawn last.
    pub fn page(&self) -> String {
        self.page.clone()
    }

    /// Draws the present state.
    pub fn refresh(&mut self, client: &mut Client, written: u64, elapsed: Duration) -> Outcome<()> {
        let status = client.query_one(
            "SELECT coalesce(rows_total, 0)::bigint, coalesce(lag_rows, 0)::bigint
             FROM rollup.status WHERE name = 'http_request_1min'",
            &[],
        )?;
        let (rows, lag): (i64, i64) = (status.get(0), status.get(1));
        let mut page = Vec::new();
        writeln!(
            page,
            "{:5.1} s  {written} rows written, {rows} rolled up, lag {lag} rows",
            elapsed.as_secs_f64()
        )?;
        writeln!(
            page,
            "{:>6} {:>10} {:>10} {:>8} {:>8} {:>13} {:>10}",
            "site", "requests", "success", "errors", "avg ms", "distinct IPs", "from USA"
        )?;
        for row in client.query(&query("http_request_1min"), &[])? {
            let average: Option<f64> = row.get(4);
            writeln!(
                page,
                "{:>6} {:>10} {:>10} {:>8} {:>8} {:>13.0} {:>10}",
                row.get::<_, i32>(0),
                row.get::<_, i64>(1),
                row.get::<_, i64>(2),
                row.get::<_, i64>(3),
                average.map_or("-".into(), |a| format!("{a:.1}")),
                row.get::<_, Option<f64>>(5).unwrap_or(0.0),
                row.get::<_, Option<i64>>(6).unwrap_or(0),
            )?;
        }
        self.page = String::from_utf8(page)?;
        let clear = if self.terminal { "\x1b[H\x1b[J" } else { "" };
        write!(std::io::stdout(), "{clear}{}", self.page)?;
        Ok(std::io::stdout().flush()?)
    }
}
