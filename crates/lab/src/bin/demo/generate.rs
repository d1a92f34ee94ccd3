//! Made-up traffic: few sites, countries and addresses get most of it; some rows are late, some never commit.
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hll_lab::Outcome;
use postgres::Client;

const COUNTRIES: [&str; 12] = [
    "USA", "China", "India", "Germany", "Brazil", "France", "Japan", "UK", "Turkey", "Mexico", "Italy",
    "Kenya",
];
const COPY: &str = "COPY http_request (site_id, ingest_time, url, request_country, ip_address, status_code,
    response_time_msec) FROM STDIN";

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    /// Small numbers far more often than large ones.
    fn skewed(&mut self, sides: u64) -> u64 {
        let share = self.roll(1 << 20) as f64 / (1u64 << 20) as f64;
        (share.powi(3) * sides as f64) as u64
    }
}

/// Writes batches until told to stop; `written` counts committed rows.
pub fn write(client: &mut Client, seed: u64, stop: &AtomicBool, written: &AtomicU64) -> Outcome<()> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    while !stop.load(Relaxed) {
        let rows = 50 + dice.roll(400);
        // One batch in ten is late, by up to three hours.
        let late = if dice.roll(10) == 0 { dice.roll(10_800) } else { 0 };
        let mut transaction = client.transaction()?;
        let time: String = transaction
            .query_one("SELECT (clock_timestamp() - $1 * interval '1 second')::text", &[&(late as f64)])?
            .get(0);
        let mut sink = transaction.copy_in(COPY)?;
        for _ in 0..rows {
            let address = dice.skewed(60_000);
            writeln!(
                sink,
                "{}\t{time}\thttp://example.com/path/{}\t{}\t10.{}.{}.{}\t{}\t{}",
                1 + dice.skewed(12),
                dice.skewed(500),
                COUNTRIES[dice.skewed(COUNTRIES.len() as u64) as usize],
                address >> 16,
                (address >> 8) & 255,
                address & 255,
                [200, 200, 200, 200, 200, 200, 204, 301, 404, 500][dice.roll(10) as usize],
                2 + dice.skewed(900),
            )?;
        }
        sink.finish()?;
        if dice.roll(12) == 0 {
            transaction.rollback()?;
        } else {
            transaction.commit()?;
            written.fetch_add(rows, Relaxed);
        }
        std::thread::sleep(Duration::from_millis(dice.roll(40)));
    }
    Ok(())
}
