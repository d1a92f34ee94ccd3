//! Timing by turns, and tables.
use std::time::Instant;

use hll_lab::Outcome;
use postgres::Client;

/// Rounds of each measurement.
const ROUNDS: usize = 7;

/// Milliseconds that `sql` takes.
pub fn once(client: &mut Client, sql: &str) -> Outcome<f64> {
    let start = Instant::now();
    client.simple_query(sql).map_err(|e| format!("{sql}: {e:?}"))?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The middle one.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Medians of two statements run by turns, the first of a round changing each time.
pub fn by_turns(a: (&mut Client, &str), b: (&mut Client, &str)) -> Outcome<(f64, f64)> {
    let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
    once(a.0, a.1)?;
    once(b.0, b.1)?;
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            times_a.push(once(a.0, a.1)?);
        }
        times_b.push(once(b.0, b.1)?);
        if round % 2 == 1 {
            times_a.push(once(a.0, a.1)?);
        }
    }
    Ok((median(times_a), median(times_b)))
}

/// Medians of two statements in one session.
pub fn in_turn(client: &mut Client, a: &str, b: &str) -> Outcome<(f64, f64)> {
    let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
    once(client, a)?;
    once(client, b)?;
    for round in 0..ROUNDS {
        let (first, second) = if round % 2 == 0 { (a, b) } else { (b, a) };
        let (x, y) = (once(client, first)?, once(client, second)?);
        let (x, y) = if round % 2 == 0 { (x, y) } else { (y, x) };
        times_a.push(x);
        times_b.push(y);
    }
    Ok((median(times_a), median(times_b)))
}

/// A heading and the first two lines of a table.
pub fn table(title: &str, columns: &[&str]) {
    println!("\n{title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len()));
}
