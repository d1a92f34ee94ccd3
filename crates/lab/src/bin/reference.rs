//! Writes docs/reference.md.
use hll_lab::{Cluster, Outcome, reference, root};

fn main() -> Outcome<()> {
    let cluster = Cluster::new()?;
    let page = reference(&mut cluster.database("reference")?)?;
    Ok(std::fs::write(root().join("docs/reference.md"), page)?)
}
