//! Draws the page, the charts and the README's block of the figures that were measured last: docs/bench/figures.json.
use hll_lab::{Outcome, charts, figures};

fn main() -> Outcome<()> {
    charts::draw(&figures::kept()?)
}
