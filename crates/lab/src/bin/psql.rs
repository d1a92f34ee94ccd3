//! A private cluster with the extension in it, and a prompt.
fn main() -> hll_lab::Outcome<()> {
    let cluster = hll_lab::Cluster::new()?;
    drop(cluster.database("play")?);
    cluster.command("psql").args(["-X", "-d", "play"]).args(std::env::args().skip(1)).status()?;
    Ok(())
}
