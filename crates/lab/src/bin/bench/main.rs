//! The measurements that README quotes: `make bench`, or `make bench BENCH="sketch counters"` for some of them.
//!
//! The page and the charts of docs/bench, and the README's block, are written as each part ends.
//!
//! What is compared runs in one go, by turns, on the same data and the same PostgreSQL; medians are printed.
/// What is printed is remembered, for the page.
macro_rules! println {
    ($($text:tt)*) => { hll_lab::figures::say(&format!($($text)*)) };
}

mod accuracy;
mod counters;
mod inserts;
mod measure;
mod percentiles;
mod rollup;
mod sketch;

use std::process::Command;

use hll_lab::{Outcome, figures};

/// Prints one part.
type Part = fn() -> Outcome<()>;

fn main() -> Outcome<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, Part); 6] = [
        ("sketch", sketch::run),
        ("accuracy", accuracy::run),
        ("counters", counters::run),
        ("percentiles", percentiles::run),
        ("rollup", rollup::run),
        ("inserts", inserts::run),
    ];
    if let Some(odd) = asked.iter().find(|a| !parts.iter().any(|(name, _)| name == a)) {
        return Err(format!(
            "no measurement is called {odd}: sketch, accuracy, counters, percentiles, rollup, inserts"
        )
        .into());
    }
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|a| a == name) {
            figures::said();
            part()?;
            figures::publish(name, &measured()?, &figures::said())?;
        }
    }
    Ok(())
}

/// When, on what and with which PostgreSQL.
fn measured() -> Outcome<String> {
    let major = std::env::var("PG").unwrap_or_else(|_| "15".into());
    let config =
        std::env::var("PG_CONFIG").unwrap_or_else(|_| format!("/usr/lib/postgresql/{major}/bin/pg_config"));
    let first = |program: &str, argument: &str| -> Outcome<String> {
        let out = Command::new(program).arg(argument).output().map_err(|e| format!("{program}: {e}"))?;
        Ok(String::from_utf8(out.stdout)?.trim().to_string())
    };
    let version = first(&config, "--version")?;
    // Without the distribution's own number.
    let version = version.split(" (").next().unwrap_or_default();
    Ok(format!("Measured on {} with {version}, {}.", first("date", "+%F")?, figures::machine()))
}
