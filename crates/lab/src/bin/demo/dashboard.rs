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
                ddsketch_percentile(ddsketch_union_agg(response_time), ARRAY[0.5, 0.95, 0.99]),
                ddsketch_rank(ddsketch_union_agg(response_time), 300),
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
            "{:>4} {:>8} {:>8} {:>7} {:>6} {:>5} {:>5} {:>5} {:>8} {:>8} {:>8}",
            "site",
            "requests",
            "success",
            "errors",
            "avg ms",
            "p50",
            "p95",
            "p99",
            "< 300 ms",
            "distinct",
            "from USA"
        )?;
        for row in client.query(&query("http_request_1min"), &[])? {
            let shown = |n: Option<f64>, unit: &str| n.map_or("-".into(), |n| format!("{n:.1}{unit}"));
            let percentiles: Vec<Option<f64>> = row.get::<_, Option<_>>(5).unwrap_or_else(|| vec![None; 3]);
            let whole = |at: usize| percentiles[at].map_or("-".into(), |n| format!("{n:.0}"));
            writeln!(
                page,
                "{:>4} {:>8} {:>8} {:>7} {:>6} {:>5} {:>5} {:>5} {:>8} {:>8.0} {:>8}",
                row.get::<_, i32>(0),
                row.get::<_, i64>(1),
                row.get::<_, i64>(2),
                row.get::<_, i64>(3),
                shown(row.get(4), ""),
                whole(0),
                whole(1),
                whole(2),
                shown(row.get::<_, Option<f64>>(6).map(|share| 100.0 * share), " %"),
                row.get::<_, Option<f64>>(7).unwrap_or(0.0),
                row.get::<_, Option<i64>>(8).unwrap_or(0),
            )?;
        }
        self.page = String::from_utf8(page)?;
        let clear = if self.terminal { "\x1b[H\x1b[J" } else { "" };
        write!(std::io::stdout(), "{clear}{}", self.page)?;
        Ok(std::io::stdout().flush()?)
    }
}
