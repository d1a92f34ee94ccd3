//! Timing by turns, and rows that compare.
use std::time::Instant;

use hll_lab::Outcome;
use hll_lab::figures::{Cell, exact, figure};
use postgres::Client;

/// Rounds of each measurement.
const ROUNDS: usize = 9;

/// Milliseconds of a turn: a shorter statement is repeated.
const TURN: f64 = 30.0;

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

/// Milliseconds that `sql` takes in a turn of its own. The first run of a short statement is not counted: it finds the
/// processor's caches full of what ran before it.
fn turn(client: &mut Client, sql: &str) -> Outcome<f64> {
    let first = once(client, sql)?;
    if first >= TURN {
        return Ok(first);
    }
    let runs = (TURN / first).ceil().min(20.0) as usize;
    let times: Outcome<Vec<f64>> = (0..runs).map(|_| once(client, sql)).collect();
    Ok(median(times?))
}

/// Medians of statements run by turns, forwards and backwards; each names the session that runs it.
pub fn by_turns<const N: usize>(
    sessions: &mut [&mut Client],
    statements: [(usize, &str); N],
) -> Outcome<[f64; N]> {
    let mut times = [const { Vec::new() }; N];
    for (session, sql) in statements {
        once(sessions[session], sql)?;
    }
    for round in 0..ROUNDS {
        for n in 0..N {
            let n = if round % 2 == 0 { n } else { N - 1 - n };
            let (session, sql) = statements[n];
            times[n].push(turn(sessions[session], sql)?);
        }
    }
    Ok(times.map(median))
}

/// Medians of two statements in one session.
pub fn in_turn(client: &mut Client, a: &str, b: &str) -> Outcome<(f64, f64)> {
    let [a, b] = by_turns(&mut [client], [(0, a), (0, b)])?;
    Ok((a, b))
}

/// What ours takes and what another way takes: two cells.
pub fn beside(ours: f64, against: f64, decimals: usize, with: &str) -> [Cell; 2] {
    [figure(ours, decimals).into(), figure(against, decimals).of(with).into()]
}

/// How many times as much ours takes.
pub fn ratio(ours: f64, against: f64) -> Cell {
    figure(ours / against, 2).of("x").into()
}

/// How many times faster ours is.
pub fn faster(ours: f64, against: f64, decimals: usize) -> Cell {
    figure(against / ours, decimals).of("x faster").into()
}

/// What is to be reached: at most so much.
pub fn at_most(most: f64, unit: &str) -> Cell {
    exact(most).of(unit).after("at most").into()
}

/// What is to be reached: so many times faster.
pub fn at_least(times: f64) -> Cell {
    exact(times).of("x").into()
}
