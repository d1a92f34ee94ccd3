//! The measurements that README quotes: `make bench`, or `make bench BENCH="sketch counters"` for some of them.
//!
//! docs/bench/figures.json is written as each part ends, and what is drawn of it.
//!
//! What is compared runs in one go, by turns, on the same data and the same PostgreSQL; medians are printed.
mod accuracy;
mod counters;
mod inserts;
mod many;
mod measure;
mod percentiles;
mod rewriting;
mod rollup;
mod series;
mod sketch;

use std::process::Command;

use hll_lab::Outcome;
use hll_lab::figures::{self, Measured};

/// Prints one part.
type Part = fn() -> Outcome<()>;

fn main() -> Outcome<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, Part); 9] = [
        ("sketch", sketch::run),
        ("accuracy", accuracy::run),
        ("counters", counters::run),
        ("percentiles", percentiles::run),
        ("rollup", rollup::run),
        ("series", series::run),
        ("rewriting", rewriting::run),
        ("many", many::run),
        ("inserts", inserts::run),
    ];
    if let Some(odd) = asked.iter().find(|a| !parts.iter().any(|(name, _)| name == a)) {
        return Err(format!(
            "no measurement is called {odd}: sketch, accuracy, counters, percentiles, rollup, series, rewriting, many, inserts"
        )
        .into());
    }
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|a| a == name) {
            part()?;
            figures::publish(name, measured()?)?;
        }
    }
    Ok(())
}

/// When, on what and with which PostgreSQL.
fn measured() -> Outcome<Measured> {
    let major = std::env::var("PG").unwrap_or_else(|_| "15".into());
    let config =
        std::env::var("PG_CONFIG").unwrap_or_else(|_| format!("/usr/lib/postgresql/{major}/bin/pg_config"));
    let first = |program: &str, argument: &str| -> Outcome<String> {
        let out = Command::new(program).arg(argument).output().map_err(|e| format!("{program}: {e}"))?;
        Ok(String::from_utf8(out.stdout)?.trim().to_string())
    };
    let version = first(&config, "--version")?;
    // Without the distribution's own number.
    let postgresql = version.split(" (").next().unwrap_or_default().to_string();
    Ok(Measured { date: first("date", "+%F")?, postgresql, machine: figures::machine() })
}
