//! Databases that began with an older version: their objects and data answer before and after the update, and
//! what they end with is what a fresh database has.
use hll_lab::Cluster;
use postgres::Client;

use crate::legacy::{ANSWERS, CATALOG, OBJECTS, lines};

/// Every version there has been, in order.
const VERSIONS: [&str; 12] =
    ["2.10", "2.11", "2.12", "2.13", "2.14", "2.15", "2.16", "2.17", "2.18", "2.19", "2.20", "2.21"];

fn fresh(cluster: &Cluster, name: &str) -> Client {
    cluster.connect("postgres").unwrap().batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    cluster.connect(name).unwrap()
}

#[test]
fn every_version_ends_as_a_fresh_one() {
    let cluster = Cluster::new().unwrap();
    let mut new = fresh(&cluster, "new");
    new.batch_execute("CREATE EXTENSION hll").unwrap();
    let expected = lines(&mut new, CATALOG);
    assert!(expected.len() > 100, "{} objects", expected.len());
    for version in VERSIONS {
        let mut old = fresh(&cluster, &format!("v{}", version.replace('.', "_")));
        old.batch_execute(&format!("CREATE EXTENSION hll VERSION '{version}'; {OBJECTS}")).unwrap();
        let before = lines(&mut old, ANSWERS);
        old.batch_execute("ALTER EXTENSION hll UPDATE").unwrap();
        assert_eq!(lines(&mut old, ANSWERS), before, "answers after the update from {version}");
        let got = lines(&mut old, CATALOG);
        let differ: Vec<_> = got
            .iter()
            .filter(|l| !expected.contains(l))
            .chain(expected.iter().filter(|l| !got.contains(l)))
            .collect();
        assert!(differ.is_empty(), "from {version}: {differ:#?}");
        if ["2.10", "2.21"].contains(&version) {
            let name = format!("v{}", version.replace('.', "_"));
            let mut copy = cluster.restore(&format!("{name}_copy"), &cluster.dump(&name).unwrap()).unwrap();
            assert_eq!(lines(&mut copy, ANSWERS), before, "after dump and restore, from {version}");
        }
    }
}

#[test]
fn every_step_goes_alone_and_keeps_the_answers() {
    let cluster = Cluster::new().unwrap();
    let mut client = fresh(&cluster, "steps");
    client.batch_execute(&format!("CREATE EXTENSION hll VERSION '2.10'; {OBJECTS}")).unwrap();
    let before = lines(&mut client, ANSWERS);
    for version in VERSIONS[1..].iter().chain(&[env!("CARGO_PKG_VERSION")]) {
        client.batch_execute(&format!("ALTER EXTENSION hll UPDATE TO '{version}'")).unwrap();
        let now = lines(&mut client, "SELECT extversion FROM pg_extension WHERE extname = 'hll'");
        assert_eq!(now, [version.to_string()]);
        assert_eq!(lines(&mut client, ANSWERS), before, "at {version}");
    }
}
