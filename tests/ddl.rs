//! Commands of one owner are none of another's business: neither fail nor wait because of tables with rollups that are
//! not theirs. (That they cost the same however many there are: ddl_cost.rs.)
use hll_tests::{another, number, prepared};
use postgres::Client;

/// Two owners, with a schema each.
fn owners(client: &mut Client) {
    for name in ["ann", "ben"] {
        client.batch_execute(&format!("CREATE ROLE {name}; CREATE SCHEMA AUTHORIZATION {name}")).unwrap();
    }
}

fn rollup(client: &mut Client, owner: &str, table: &str, on_change: &str) {
    client
        .batch_execute(&format!(
            "SET ROLE {owner};
             SELECT rollup.create('{owner}.{table}_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM {owner}.{table} GROUP BY 1',
               every => NULL, on_change => '{on_change}');
             RESET ROLE"
        ))
        .unwrap();
}

fn unwatched(client: &mut Client, rollup: &str) -> Option<String> {
    client.query_one("SELECT unwatched FROM rollup.status WHERE name = $1", &[&rollup]).unwrap().get(0)
}

#[test]
fn a_table_of_another_owner_stands_in_nobodys_way() {
    let (cluster, mut client) = prepared("others_ddl", "");
    owners(&mut client);
    client.batch_execute("SET ROLE ann; CREATE TABLE ann.event (at timestamptz, v int); RESET ROLE").unwrap();
    rollup(&mut client, "ann", "event", "recompute");
    client.batch_execute("SET ROLE ann; DROP TRIGGER zz_rollup_change ON ann.event").unwrap();
    // She holds a lock on it, too, as long as she likes.
    let mut ann = another(&cluster, "others_ddl");
    ann.batch_execute("SET ROLE ann; BEGIN; LOCK TABLE ann.event IN ACCESS EXCLUSIVE MODE").unwrap();
    client
        .batch_execute(
            "SET ROLE ben; SET lock_timeout = '5s';
             CREATE TABLE ben.event (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
             CREATE TABLE ben.event_1 PARTITION OF ben.event FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
             CREATE TABLE ben.plain (at timestamptz);
             CREATE TABLE ben.child () INHERITS (ben.plain);
             SELECT rollup.partition('ben.event', '1 day', '1 day');
             RESET ROLE;
             CREATE TABLE ben.event_2 PARTITION OF ben.event FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')",
        )
        .unwrap();
    ann.batch_execute("COMMIT").unwrap();
    // What she took away is missing, is shown, and comes back with her next run.
    let told = unwatched(&mut client, "event_d").unwrap();
    assert_eq!(told, "zz_rollup_change on ann.event is missing");
    ann.batch_execute("INSERT INTO ann.event VALUES (now(), 1)").unwrap();
    assert_eq!(number(&mut ann, "SELECT rollup.run('ann.event')"), 1);
    assert_eq!(unwatched(&mut client, "event_d"), None);
    // One that she has switched off is shown, and a run of her rollup switches it on.
    ann.batch_execute("ALTER TABLE ann.event DISABLE TRIGGER zz_rollup_truncate").unwrap();
    let told = unwatched(&mut client, "event_d").unwrap();
    assert_eq!(told, "zz_rollup_truncate on ann.event is switched off");
    number(&mut ann, "SELECT rollup.run('ann.event')");
    assert_eq!(unwatched(&mut client, "event_d"), None);
}

#[test]
fn every_new_leaf_is_watched() {
    let (_cluster, mut client) = prepared("leaves", "");
    owners(&mut client);
    client
        .batch_execute(
            "SET ROLE ann; CREATE TABLE ann.event (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at)",
        )
        .unwrap();
    rollup(&mut client, "ann", "event", "error");
    client
        .batch_execute(
            "SET ROLE ann;
             SELECT rollup.partition('ann.event', '1 day', '1 day');
             CREATE TABLE ann.a PARTITION OF ann.event FOR VALUES FROM ('2000-01-01') TO ('2001-01-01') PARTITION BY LIST (v);
             CREATE TABLE ann.a1 PARTITION OF ann.a DEFAULT;
             CREATE TABLE ann.b (LIKE ann.event INCLUDING ALL) PARTITION BY LIST (v);
             CREATE TABLE ann.b1 PARTITION OF ann.b DEFAULT PARTITION BY LIST (v);
             CREATE TABLE ann.b2 PARTITION OF ann.b1 DEFAULT;
             ALTER TABLE ann.event ATTACH PARTITION ann.b FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
             DO $$ BEGIN CREATE TABLE ann.c PARTITION OF ann.event FOR VALUES FROM ('2002-01-01') TO ('2003-01-01'); END $$;
             RESET ROLE;
             SET session_replication_role = replica;
             CREATE TABLE ann.d PARTITION OF ann.event FOR VALUES FROM ('2003-01-01') TO ('2004-01-01');
             RESET session_replication_role;
             CREATE SCHEMA other CREATE TABLE e PARTITION OF ann.event FOR VALUES FROM ('2004-01-01') TO ('2005-01-01');
             CREATE TABLE other.copy AS TABLE ann.event",
        )
        .unwrap();
    assert_eq!(unwatched(&mut client, "event_d"), None);
    let leaves = "SELECT count(*) FROM pg_partition_tree('ann.event') WHERE isleaf";
    let leaves = number(&mut client, leaves);
    assert!(leaves >= 7, "{leaves}");
    let rows = client
        .query("SELECT p.relid::regclass::text FROM pg_partition_tree('ann.event') p WHERE p.isleaf", &[])
        .unwrap();
    for row in rows {
        let leaf: String = row.get(0);
        let refused = client.batch_execute(&format!("TRUNCATE {leaf}")).expect_err(&leaf);
        assert_eq!(refused.as_db_error().unwrap().code().code(), "23001", "{leaf}");
    }
}

#[test]
fn a_time_column_of_another_type_is_no_time() {
    let (_cluster, mut client) = prepared("retyped", "");
    client
        .batch_execute(
            "CREATE TABLE event (at timestamptz, v int);
             SELECT rollup.create('event_d', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM event GROUP BY 1', every => NULL, on_change => 'recompute');
             INSERT INTO event VALUES (now(), 1); SELECT rollup.run('event'); DROP VIEW event_d_live;
             DO $$ DECLARE i regclass; BEGIN FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid = 'event'::regclass LOOP EXECUTE 'DROP INDEX ' || i; END LOOP; END $$",
        )
        .unwrap();
    for change in [
        "ALTER at TYPE text USING repeat('x', 10)",
        "ALTER at TYPE bigint USING 9223372036854775806",
        "ALTER at TYPE bigint USING -9223372036854775807",
        "ALTER at TYPE interval USING '1 day'",
        "RENAME at TO moment",
        "DROP moment, ADD at uuid",
    ] {
        client
            .batch_execute(&format!(
                "TRUNCATE rollup.change; ALTER TABLE event {change}; UPDATE event SET v = v + 1"
            ))
            .unwrap();
        let all = "SELECT count(*) FROM rollup.change WHERE since = '-infinity' AND until = 'infinity' OR since IS NULL AND until IS NULL";
        assert_eq!(number(&mut client, all), 2, "{change}");
        assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.change"), 2, "{change}");
    }
}
