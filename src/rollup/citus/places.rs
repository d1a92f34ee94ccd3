//! The nodes of the cluster, as Citus knows them: which there are, how they are reached, which are gone.
use crate::pg::libpq::conninfo_value;
use crate::pg::node;
use crate::rollup::ask::{self, Must};
use crate::rollup::error::Result;
use std::collections::BTreeMap;

/// One node to ask.
#[derive(Debug)]
pub struct Place {
    /// Its group.
    pub group: i32,
    /// How messages call it.
    pub name: String,
    /// What to connect with; None for the node that asks.
    pub conninfo: Option<String>,
}

/// The nodes to ask, and those of the cluster that are not to be asked, by name.
pub fn nodes() -> Result<(Vec<Place>, BTreeMap<i32, String>)> {
    let found = ask::write_often(
        "SELECT n.groupid, n.isactive, n.nodename, n.nodeport::pg_catalog.text, n.groupid = l.groupid, \
         pg_catalog.current_setting('citus.node_conninfo'), pg_catalog.current_database()::pg_catalog.text, o.rolname::pg_catalog.text, \
         (SELECT a.authinfo FROM pg_catalog.pg_dist_authinfo a WHERE a.rolename = o.rolname AND a.nodeid IN (n.nodeid, 0) ORDER BY a.nodeid DESC LIMIT 1) \
         FROM pg_catalog.pg_dist_node n, pg_catalog.pg_dist_local_group l, pg_catalog.pg_extension e JOIN pg_catalog.pg_roles o ON o.oid = e.extowner \
         WHERE e.extname = 'hll' AND n.noderole = 'primary' AND n.nodecluster = pg_catalog.current_setting('citus.cluster_name') ORDER BY n.groupid",
        &[],
        |row| {
            let text = |n| row.must::<String>(n);
            let (host, port, general) = (text(3)?, text(4)?, text(6)?);
            let (database, role) = (text(7)?, text(8)?);
            // Most have no entry there.
            let secret = row.get::<String>(9)?.unwrap_or_default();
            let conninfo = format!(
                "{general} host={} port={port} dbname={} user={} application_name=rollup {secret}",
                conninfo_value(&host),
                conninfo_value(&database),
                conninfo_value(&role)
            );
            let place = Place {
                group: row.must(1)?,
                name: format!("{host}:{port}"),
                conninfo: (row.get::<bool>(5)? != Some(true)).then_some(conninfo),
            };
            Ok((row.must::<bool>(2)?, place))
        },
    )?;
    let own = own_group()?;
    let (mut places, mut disabled) = (Vec::new(), BTreeMap::new());
    for (active, place) in found {
        if active || place.group == own {
            places.push(place);
        } else {
            disabled.insert(place.group, place.name);
        }
    }
    if !places.iter().any(|p| p.group == own) {
        places.push(Place { group: own, name: "this node".into(), conninfo: None });
    }
    Ok((places, disabled))
}

/// The group of this node.
pub fn own_group() -> Result<i32> {
    node::group(|| ask::one("SELECT groupid FROM pg_catalog.pg_dist_local_group", &[]))
}

/// The highest group of which it can be told, by the list of nodes as it is from now on, whether it is still there;
/// None where a node is just being added. Citus gives a number out once, under a lock that it keeps until the node is
/// in the list; after a crash it skips some.
pub fn groups_so_far() -> Result<Option<i32>> {
    let found = ask::write_often("SELECT last_value FROM pg_catalog.pg_dist_groupid_seq", &[], |row| {
        row.get::<i64>(1)
    })?;
    let adding = ask::write_often(
        "SELECT true FROM pg_catalog.pg_locks l WHERE l.relation = 'pg_catalog.pg_dist_node'::pg_catalog.regclass AND l.mode = 'ExclusiveLock' \
         AND l.granted AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) LIMIT 1",
        &[],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.into_iter().flatten().next().filter(|_| adding.is_empty()).and_then(|n| i32::try_from(n).ok()))
}
