//! Columns of a rollup's own tables that change their names: what runs write to is known by what it is.
use hll_lab::Cluster;
use hll_tests::{number, prepared, text};
use postgres::Client;

const MAKE: &str = "CREATE TABLE event (at timestamptz NOT NULL, site int, v int);
    INSERT INTO event SELECT timestamptz '2026-01-01Z' + g * interval '1 hour', g % 3, g FROM generate_series(1, 100) g;
    SELECT rollup.create('event_d', 'SELECT date_trunc(''day'', at) AS day, site, count(*) AS n, sum(v) AS total, max(v)::bigint AS most FROM event GROUP BY 1, 2',
      every => NULL, on_change => 'recompute', coarser => '{\"event_w\": \"7 days\"}')";
const MORE: &str = "INSERT INTO event SELECT timestamptz '2026-01-01Z' + g * interval '1 hour', g % 3, g FROM generate_series(1, 100) g";
/// Two columns of one type exchange their names.
const EXCHANGE: [&str; 3] = [
    "ALTER TABLE event_d RENAME COLUMN n TO x",
    "ALTER TABLE event_d RENAME COLUMN total TO n",
    "ALTER TABLE event_d RENAME COLUMN x TO total",
];
const RAW: &str = "SELECT concat(count(*), ' ', sum(v)) FROM event";

/// The code of an error, what it says, and its hint.
fn refused(client: &mut Client, call: &str) -> (String, String, String) {
    let error = client.batch_execute(call).expect_err(call);
    let said = error.as_db_error().unwrap();
    (said.code().code().into(), said.message().into(), said.hint().unwrap_or_default().into())
}

fn exact(client: &mut Client) {
    number(client, "SELECT rollup.run('event')");
    assert_eq!(number(client, "SELECT count(*) FROM rollup.check('event_d')"), 0);
    for table in ["event_d", "event_w", "event_d_live", "event_w_live"] {
        let held = text(client, &format!("SELECT concat(sum(n), ' ', sum(total)) FROM {table}"));
        assert_eq!(held, text(client, RAW), "{table}");
    }
}

/// Everything that would read or write the columns by their names is refused, and the hint puts them right.
fn is_refused(client: &mut Client, message: &str) {
    client.batch_execute(MORE).unwrap();
    let live = "SELECT concat(sum(n), ' ', sum(total)) FROM event_d_live";
    let mut hints = Vec::new();
    for call in [
        "SELECT rollup.run('event')",
        "SELECT rollup.check('event_d')",
        "SELECT rollup.rebuild('event_d')",
        "SELECT rollup.add_level('event_d', 'event_m', '1 month')",
        "SELECT rollup.add_column('event_d', 'least', 'min(v)')",
        "SELECT rollup.drop_column('event_d', 'most')",
    ] {
        let (code, said, hint) = refused(client, call);
        assert_eq!((code.as_str(), said.as_str()), ("42703", message), "{call}");
        hints.push(hint);
    }
    assert_eq!(text(client, live), text(client, RAW), "a view reads what it was made of");
    // A query over the raw table is not answered from it.
    let asked = "SELECT concat(count(*), ' ', sum(v)) FROM event";
    client.batch_execute("SET rollup.rewrite = exact").unwrap();
    assert_eq!(text(client, asked), text(client, RAW));
    client.batch_execute("RESET rollup.rewrite").unwrap();
    for statement in hints[0].split_inclusive(';') {
        client.batch_execute(statement).unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
    exact(client);
}

#[test]
fn names_that_columns_exchange() {
    let (_cluster, mut client) = prepared("exchanged_names", "");
    client.batch_execute(MAKE).unwrap();
    exact(&mut client);
    let message = "column n of table public.event_d is not the one that runs of rollup event_d write to, which is called total";
    // Whether somebody is told of the commands or not.
    for told in ["ENABLE ALWAYS", "DISABLE"] {
        client.batch_execute(&format!("ALTER EVENT TRIGGER rollup_watch_children {told}")).unwrap();
        EXCHANGE.iter().for_each(|sql| client.batch_execute(sql).unwrap());
        is_refused(&mut client, message);
        // Within one transaction, of which a run sees the end alone; of a level, and of keys.
        client.batch_execute(&EXCHANGE.join("; ").replace("event_d", "event_w")).unwrap();
        is_refused(&mut client, &message.replace("public.event_d", "public.event_w"));
        client.batch_execute(&EXCHANGE.join("; ").replace(" n", " site").replace("total", "most")).unwrap();
        let (code, said, hint) = refused(&mut client, "SELECT rollup.rebuild('event_d')");
        assert!(code == "42703" && said.starts_with("column site of table public.event_d"), "{said}");
        hint.split_inclusive(';').for_each(|sql| client.batch_execute(sql).unwrap());
        // Three in a circle, and one whose name a column of somebody else has taken.
        client
            .batch_execute("ALTER TABLE event_d RENAME n TO x; ALTER TABLE event_d RENAME most TO n; ALTER TABLE event_d RENAME total TO most; ALTER TABLE event_d RENAME x TO total")
            .unwrap();
        is_refused(&mut client, message);
        client
            .batch_execute("ALTER TABLE event_d RENAME n TO mine; ALTER TABLE event_d ADD COLUMN n bigint")
            .unwrap();
        is_refused(&mut client, &message.replace("called total", "called mine"));
        client.batch_execute("ALTER TABLE event_d DROP COLUMN column_1").unwrap();
    }
    // What is exchanged back is no matter.
    EXCHANGE.iter().chain(&EXCHANGE).for_each(|sql| client.batch_execute(sql).unwrap());
    client.batch_execute(MORE).unwrap();
    exact(&mut client);
    // Columns that come and go by the extension, and a table that is written anew.
    for sql in [
        "SELECT rollup.add_column('event_d', 'least', 'min(v)')",
        "SELECT rollup.drop_column('event_d', 'most')",
        "VACUUM FULL event_d",
        MORE,
    ] {
        client.batch_execute(sql).unwrap();
    }
    exact(&mut client);
    // Another column of that name is not the one that was counted in.
    client
        .batch_execute(
            "ALTER TABLE event_d DROP COLUMN total CASCADE; ALTER TABLE event_d ADD COLUMN total bigint",
        )
        .unwrap();
    client.batch_execute(MORE).unwrap();
    let (code, said, hint) = refused(&mut client, "SELECT rollup.run('event')");
    assert_eq!(code, "42703");
    assert_eq!(
        said,
        "column total of table public.event_d is not the one that runs of rollup event_d wrote to, which is gone"
    );
    client.batch_execute(hint.split_inclusive(';').next().unwrap()).unwrap();
}

fn restored(cluster: &Cluster, name: &str) -> Client {
    let dump = cluster.dump("dumped_names").unwrap();
    cluster.restore(name, &dump).unwrap()
}

#[test]
fn names_that_a_dump_has() {
    let (cluster, mut client) = prepared("dumped_names", "");
    client.batch_execute(MAKE).unwrap();
    // Numbers of columns are others in the dump.
    client
        .batch_execute("SELECT rollup.drop_column('event_d', 'most'); SELECT rollup.add_column('event_d', 'most', 'max(v)::bigint')")
        .unwrap();
    exact(&mut client);
    let mut there = restored(&cluster, "as_they_were");
    there.batch_execute(MORE).unwrap();
    exact(&mut there);
    EXCHANGE.iter().for_each(|sql| there.batch_execute(sql).unwrap());
    let message = "column n of table public.event_d is not the one that runs of rollup event_d write to, which is called total";
    is_refused(&mut there, message);
    EXCHANGE.iter().for_each(|sql| client.batch_execute(sql).unwrap());
    let mut there = restored(&cluster, "as_they_are");
    is_refused(&mut there, message);
}
