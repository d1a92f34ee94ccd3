//! A database that is dumped while it is written to, and restored beside: what its rollup holds there.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hll_lab::{Cluster, wait_for};

use crate::number;

/// A dump of a database, made by two processes. Each of them must have a table at once, which a command that waits for it
/// prevents, and tables must not go meanwhile: that is another attempt, as for whoever dumps by hand.
pub fn dump(cluster: &Cluster, database: &str) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut to = PathBuf::new();
    wait_for("a dump", 60, || {
        to = cluster.socket().join(format!("dump-{}", NUMBER.fetch_add(1, Relaxed)));
        let done = cluster.command("pg_dump").args(["-Fd", "-j2", "-d", database, "-f"]).arg(&to).output();
        let done = done.expect("pg_dump");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.success()
                || ["could not obtain lock", "does not exist"].iter().any(|s| said.contains(s)),
            "{said}"
        );
        done.status.success()
    });
    to
}

/// In how many groups a rollup of `visit` differs from its query, once a restored dump has been run.
pub fn differ(cluster: &Cluster, dump: &Path, query: &str) -> i64 {
    let mut client = cluster.connect("postgres").expect("a connection");
    client.batch_execute("DROP DATABASE IF EXISTS restored").expect("nobody uses it");
    client.batch_execute("CREATE DATABASE restored TEMPLATE template0").expect("a database");
    let restored = cluster.command("pg_restore").args(["-j4", "-d", "restored"]).arg(dump).output();
    let restored = restored.expect("pg_restore");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    std::fs::remove_dir_all(dump).expect("the dump");
    let mut restored = cluster.connect("restored").expect("a connection");
    // What was counted of a partition that is away stays counted: it comes back.
    let back = "DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT oid FROM pg_class WHERE relname ~ '^part_[0-9]+$' AND relkind = 'r' AND NOT relispartition LOOP
          EXECUTE format('ALTER TABLE visit ATTACH PARTITION %s FOR VALUES IN (%s)', t, substring(t::text FROM '[0-9]+$'));
        END LOOP; END $$";
    [back, "SELECT rollup.run('visit')"].iter().for_each(|sql| restored.batch_execute(sql).expect(sql));
    // What is called how depends on when the dump was made.
    let name =
        |sql: &str, client: &mut postgres::Client| client.query_one(sql, &[]).expect(sql).get::<_, String>(0);
    let column = name(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'visit'::regclass AND attnum = 6",
        &mut restored,
    );
    let function =
        name("SELECT proname::text FROM pg_proc WHERE proname IN ('weight', 'weight_b')", &mut restored);
    let table = name("SELECT relation::text FROM rollup.definition", &mut restored);
    let query =
        query.replace("weight(", &format!("{function}(")).replace("sum(extra)", &format!("sum({column})"));
    let differing = format!(
        "SELECT count(*) FROM ((SELECT to_jsonb(q) FROM ({query}) q EXCEPT ALL SELECT to_jsonb(t) FROM {table} t)
           UNION ALL (SELECT to_jsonb(t) FROM {table} t EXCEPT ALL SELECT to_jsonb(q) FROM ({query}) q)) d"
    );
    number(&mut restored, &differing)
}
