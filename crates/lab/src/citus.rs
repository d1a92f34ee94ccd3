//! A Citus cluster: a coordinator and workers on loopback ports, where the PostgreSQL at hand has Citus.
use std::net::TcpListener;

use postgres::Client;

use crate::{Cluster, Outcome, Tree, skip};

/// The name of the database that the tests of Citus use.
const DATABASE: &str = "cluster";

/// The first node is the coordinator.
#[derive(Debug)]
pub struct Citus {
    /// The nodes, in the order of their groups.
    pub nodes: Vec<Cluster>,
    tree: Tree,
}

/// A port of the loopback interface that nobody has just now.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Citus {
    /// A coordinator and two workers with the extension. None without Citus: the test that asked is skipped.
    pub fn new() -> Outcome<Option<Citus>> {
        let Some(tree) = Tree::citus()? else {
            skip("the PostgreSQL of PG_CONFIG has no Citus");
            return Ok(None);
        };
        let mut citus = Citus { nodes: Vec::new(), tree };
        for _ in 0..3 {
            citus.start_node()?;
        }
        let port = citus.nodes[0].port();
        let mut coordinator = citus.connect(0)?;
        coordinator.batch_execute(&format!("SELECT citus_set_coordinator_host('127.0.0.1', {port})"))?;
        for node in 1..3 {
            citus.add(node)?;
        }
        coordinator.batch_execute("CREATE EXTENSION hll")?;
        Ok(Some(citus))
    }

    /// Starts one more server with Citus, which is not part of the cluster yet; returns its number.
    pub fn start_node(&mut self) -> Outcome<usize> {
        let settings = "
shared_preload_libraries = 'citus, pg_stat_statements, hll'
listen_addresses = '127.0.0.1'
max_prepared_transactions = 100
max_connections = 200
# After a crash a server waits this long for connections that it has accepted and that say nothing.
authentication_timeout = 5s
wal_level = logical
citus.node_conninfo = 'sslmode=prefer'
citus.enable_statistics_collection = off
citus.recover_2pc_interval = '1s'
rollup.naptime = 200ms
";
        let node = Cluster::on(self.tree.clone(), settings, free_port()?)?;
        node.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        let mut client = node.connect(DATABASE)?;
        client.batch_execute("CREATE EXTENSION citus")?;
        // Servers that ask which libraries may decode the log are told of that which splits shards.
        let asked = "SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries'";
        if let Some(row) = client.query_opt(asked, &[])? {
            let libraries: String = row.get(0);
            let libraries = format!("{libraries}, citus").trim_start_matches(", ").to_string();
            client.batch_execute(&format!("ALTER SYSTEM SET output_plugin_libraries = {libraries}"))?;
            client.batch_execute("SELECT pg_reload_conf()")?;
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// Makes a started server part of the cluster.
    pub fn add(&self, node: usize) -> Outcome<()> {
        let port = self.nodes[node].port();
        self.connect(0)?.batch_execute(&format!("SELECT citus_add_node('127.0.0.1', {port})"))?;
        Ok(())
    }

    /// A server that follows a node, to take its place.
    pub fn standby(&self, node: usize) -> Outcome<Cluster> {
        self.nodes[node].standby_on(free_port()?)
    }

    /// Puts a server in the place of a node, which it was the standby of; returns where it is to be reached.
    pub fn replace(&mut self, node: usize, by: Cluster) -> postgres::Config {
        self.nodes[node] = by;
        self.address(node)
    }

    /// What pg_dump writes of a node.
    pub fn dump(&self, node: usize) -> Outcome<String> {
        self.nodes[node].dump(DATABASE)
    }

    /// Restores a dump into a node.
    pub fn restore(&self, node: usize, dump: &str) -> Outcome<Client> {
        self.nodes[node].restore_into(DATABASE, dump)
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Where a node is to be reached, for others than its owner: connections by this need no access to the cluster.
    pub fn address(&self, node: usize) -> postgres::Config {
        let mut to = postgres::Config::new();
        let node = &self.nodes[node];
        to.host_path(node.socket()).port(node.port()).user("postgres").dbname(DATABASE);
        to
    }

    /// A connection to a node.
    pub fn connect(&self, node: usize) -> Outcome<Client> {
        self.nodes[node].connect(DATABASE)
    }
}
