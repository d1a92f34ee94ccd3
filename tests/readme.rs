//! The README's SQL runs as it stands.
use hll_lab::{Cluster, root};

#[test]
fn the_tour_runs() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(!blocks.is_empty(), "the README has no SQL");
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    for block in blocks {
        client.batch_execute(block).unwrap_or_else(|e| panic!("{e:?}\nin\n{block}"));
    }
}
