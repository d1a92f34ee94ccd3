//! Prepares the tree for the in-server tests and prints its `pg_config`.
fn main() -> hll_lab::Outcome<()> {
    println!("{}", hll_lab::Tree::for_pgrx()?.display());
    Ok(())
}
