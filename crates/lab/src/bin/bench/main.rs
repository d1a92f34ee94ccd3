//! The measurements that README quotes: `make bench`, or `make bench BENCH="sketch counters"` for some of them.
//!
//! What is compared runs in one go, by turns, on the same data and the same PostgreSQL; medians are printed.
mod accuracy;
mod counters;
mod inserts;
mod measure;
mod rollup;
mod sketch;

use hll_lab::Outcome;

/// Prints one part.
type Part = fn() -> Outcome<()>;

fn main() -> Outcome<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, Part); 5] = [
        ("sketch", sketch::run),
        ("accuracy", accuracy::run),
        ("counters", counters::run),
        ("rollup", rollup::run),
        ("inserts", inserts::run),
    ];
    if let Some(odd) = asked.iter().find(|a| !parts.iter().any(|(name, _)| name == a)) {
        return Err(
            format!("no measurement is called {odd}: sketch, accuracy, counters, rollup, inserts").into()
        );
    }
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|a| a == name) {
            part()?;
        }
    }
    Ok(())
}
