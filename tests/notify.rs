//! Told when something changed: a notification for each transaction that changes a rollup, and none for others; and a
//! subscriber to the table of a rollup, which gets every change of it.
use hll_lab::{Cluster, OURS, Tree, wait_for};
use hll_tests::{another, number, text};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use serde_json::Value;
use std::time::Duration;

/// What was sent since the last call, without what comes later than a moment from now.
fn heard(client: &mut Client) -> Vec<(String, Value)> {
    // Whatever was committed before this statement has come by its end.
    client.batch_execute("SELECT 1").unwrap();
    let mut all = Vec::new();
    let mut notifications = client.notifications();
    let mut waiting = notifications.timeout_iter(Duration::from_millis(300));
    while let Some(n) = waiting.next().unwrap() {
        assert!(n.payload().len() < 8000, "{}", n.payload());
        all.push((n.channel().to_string(), serde_json::from_str(n.payload()).unwrap()));
    }
    all
}

const EVENT: &str = "CREATE TABLE event (at timestamptz, k text, n int)";

const QUERY: &str = "SELECT date_trunc(''hour'', at) AS at, k, count(*) AS n FROM event GROUP BY 1, 2";

fn create(client: &mut Client, name: &str, options: &str) {
    let name = name.replace('\'', "''");
    client
        .batch_execute(&format!(
            "SELECT rollup.create('{name}', '{QUERY}', every => NULL, notify => true{options})"
        ))
        .unwrap();
}

#[test]
fn each_transaction_that_changes_a_rollup_tells_once() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("told").unwrap();
    let mut listener = another(&cluster, "told");
    client.batch_execute(EVENT).unwrap();
    create(&mut client, "by_hour", ", on_change => 'recompute', coarser => '{\"by_day\": \"1 day\"}'");
    create(&mut client, "silent", ", timezone => 'Asia/Tokyo'");
    client.batch_execute("SELECT rollup.create('silent', $q$SELECT date_trunc('hour', at) AS at, k, count(*) AS n FROM event GROUP BY 1, 2$q$, every => NULL, timezone => 'Asia/Tokyo', replace => true)").unwrap();
    listener.batch_execute("LISTEN rollup_by_hour; LISTEN rollup_silent").unwrap();
    let run = "SELECT rollup.run('event')";
    assert_eq!(
        text(
            &mut client,
            "SELECT string_agg(name || ' ' || coalesce(channel, 'none'), ', ' ORDER BY name) FROM rollup.status"
        ),
        "by_hour rollup_by_hour, silent none"
    );
    client.batch_execute(run).unwrap();
    assert_eq!(heard(&mut listener), [], "nothing has changed");
    assert_eq!(text(&mut client, "SELECT updated_at::text FROM rollup.status WHERE name = 'by_hour'"), "");

    client.batch_execute("INSERT INTO event SELECT timestamptz '2026-01-01 10:10+00' + g * interval '1 hour', 'k', g FROM generate_series(0, 4) g").unwrap();
    client.batch_execute(run).unwrap();
    let all = heard(&mut listener);
    assert_eq!(all.len(), 1, "{all:?}");
    let (channel, message) = &all[0];
    assert_eq!(channel, "rollup_by_hour");
    let expect = |message: &Value, because: &str, from: Value, to: Value| {
        assert_eq!(
            message,
            &serde_json::json!({"rollup": "by_hour", "because": because, "from": from, "to": to})
        );
    };
    expect(message, "run", "2026-01-01T10:00:00+00:00".into(), "2026-01-01T14:00:00+00:00".into());
    let first = text(&mut client, "SELECT updated_at::text FROM rollup.status WHERE name = 'by_hour'");
    client.batch_execute(run).unwrap();
    assert_eq!(heard(&mut listener), [], "nothing has changed since");
    assert_eq!(text(&mut client, "SELECT updated_at::text FROM rollup.status WHERE name = 'by_hour'"), first);

    // A row moves from one bucket to another, beside one that is new: one message has both.
    client.batch_execute("UPDATE event SET at = '2026-01-03 01:02+00' WHERE n = 0; INSERT INTO event VALUES ('2026-01-02 00:00+00', 'k', 7)").unwrap();
    client.batch_execute(run).unwrap();
    let all = heard(&mut listener);
    assert_eq!(all.len(), 1, "{all:?}");
    expect(&all[0].1, "run", "2026-01-01T10:00:00+00:00".into(), "2026-01-03T01:00:00+00:00".into());
    let newer =
        format!("SELECT count(*) FROM rollup.status WHERE name = 'by_hour' AND updated_at > '{first}'");
    assert_eq!(number(&mut client, &newer), 1);
    // Rolled back: nobody is told. In one transaction with others: with them.
    client.batch_execute("INSERT INTO event VALUES ('2026-01-01 00:00+00', 'k', 8)").unwrap();
    client.batch_execute("BEGIN; SELECT rollup.run('event'); ROLLBACK").unwrap();
    assert_eq!(heard(&mut listener), []);
    client.batch_execute("BEGIN; SELECT rollup.run('event')").unwrap();
    assert_eq!(heard(&mut listener), []);
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(heard(&mut listener).len(), 1);
    // Rows that come by another road, and a rebuild.
    client.batch_execute("CREATE TABLE staged (LIKE event INCLUDING DEFAULTS); INSERT INTO staged VALUES ('2026-02-01 00:30+00', 'k', 9); INSERT INTO event SELECT * FROM staged").unwrap();
    client.batch_execute(run).unwrap();
    let all = heard(&mut listener);
    assert_eq!(all.len(), 1, "{all:?}");
    expect(&all[0].1, "run", "2026-02-01T00:00:00+00:00".into(), "2026-02-01T00:00:00+00:00".into());
    client.batch_execute("SELECT rollup.rebuild('by_hour', '2026-01-01', '2026-01-02')").unwrap();
    let all = heard(&mut listener);
    assert_eq!(all.len(), 1, "{all:?}");
    expect(&all[0].1, "rebuild", "2026-01-01T00:00:00+00:00".into(), "2026-01-01T14:00:00+00:00".into());
    // Rows without a time.
    client.batch_execute("INSERT INTO event VALUES (NULL, 'k', 1)").unwrap();
    client.batch_execute(run).unwrap();
    let all = heard(&mut listener);
    assert_eq!(all.len(), 1, "{all:?}");
    expect(&all[0].1, "run", Value::Null, Value::Null);
    // Expiry of the rollup, and of a level; that of raw rows changes no rollup.
    client.batch_execute("SELECT rollup.retain('event', '1 hour'); SELECT rollup.expire('event')").unwrap();
    assert_eq!(heard(&mut listener), []);
    let before = text(&mut client, "SELECT updated_at::text FROM rollup.status WHERE name = 'by_hour'");
    for (table, level) in [("by_hour", Value::Null), ("by_day", "by_day".into())] {
        client
            .batch_execute(&format!(
                "SELECT rollup.retain('{table}', '1 hour'); SELECT rollup.expire('{table}')"
            ))
            .unwrap();
        let all = heard(&mut listener);
        assert_eq!(all.len(), 1, "{all:?}");
        let message = &all[0].1;
        assert_eq!(
            (&message["because"], &message["level"], &message["from"]),
            (&"expire".into(), &level, &Value::Null)
        );
        assert!(message["to"].as_str().is_some_and(|to| to > "2026-01-01"), "{message}");
    }
    let newer =
        format!("SELECT count(*) FROM rollup.status WHERE name = 'by_hour' AND updated_at > '{before}'");
    assert_eq!(number(&mut client, &newer), 1);
}

#[test]
fn odd_names_and_times() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("odd").unwrap();
    client
        .batch_execute(
            "CREATE TABLE event (at timestamp, k text, day date); CREATE SCHEMA \"Other, schema's\"",
        )
        .unwrap();
    let mut listener = another(&cluster, "odd");
    let longest = "é".repeat(29);
    for name in ["\"A \"\"quoted\"\" 'name'\"", "\"Other, schema's\".x", &format!("\"{longest}\"")] {
        let create = format!(
            "SELECT rollup.create('{}', 'SELECT date_trunc(''day'', at) AS at, count(*) AS n FROM event GROUP BY 1', every => NULL, notify => true, timezone => 'Asia/Tokyo')",
            name.replace('\'', "''")
        );
        client.batch_execute(&create).unwrap();
    }
    client.batch_execute("SELECT rollup.create('by_day', 'SELECT day, count(*) AS n FROM event GROUP BY 1', every => NULL, notify => true)").unwrap();
    let channels: Vec<String> = client
        .query("SELECT channel FROM rollup.status", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(channels.iter().all(|c| c.len() <= 63), "{channels:?}");
    assert!(channels.contains(&"rollup_A \"quoted\" 'name'".to_string()), "{channels:?}");
    for channel in &channels {
        listener.batch_execute(&format!("LISTEN \"{}\"", channel.replace('"', "\"\""))).unwrap();
    }
    client.batch_execute("INSERT INTO event VALUES ('2026-01-01 10:00', 'k', '2026-01-05'), ('infinity', 'k', '-infinity'), ('4713-01-01 BC', 'k', 'infinity')").unwrap();
    client
        .batch_execute(
            "SET TimeZone = 'America/New_York'; SET DateStyle = 'SQL, DMY'; SELECT rollup.run('event')",
        )
        .unwrap();
    let mut all = heard(&mut listener);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all.len(), 4, "{all:?}");
    for (channel, message) in &all {
        assert_eq!(
            text(
                &mut client,
                &format!(
                    "SELECT channel FROM rollup.status WHERE name = '{}'",
                    message["rollup"].as_str().unwrap().replace('\'', "''")
                )
            ),
            *channel
        );
        let from = if message["rollup"] == "by_day" { "-infinity" } else { "4713-01-01T00:00:00 BC" };
        assert_eq!((&message["from"], &message["to"]), (&from.into(), &"infinity".into()), "{message}");
    }
    // Who may not read the table hears that it has changed, and when; nothing else is in a message.
    for (_, message) in &all {
        assert_eq!(
            message.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(),
            ["because", "from", "rollup", "to"]
        );
    }
}

/// Whether notifications are kept in a dump, and options changed by REPLACE.
#[test]
fn a_restored_rollup_tells_still() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("before").unwrap();
    client.batch_execute(EVENT).unwrap();
    create(&mut client, "by_hour", "");
    client.batch_execute("INSERT INTO event VALUES ('2026-01-01 10:10+00', 'k', 1)").unwrap();
    client.batch_execute("SELECT rollup.run('event')").unwrap();
    let dump = cluster.dump("before").unwrap();
    let mut client = cluster.restore("after", &dump).unwrap();
    let mut listener = another(&cluster, "after");
    listener.batch_execute("LISTEN rollup_by_hour").unwrap();
    assert_eq!(
        number(
            &mut client,
            "SELECT count(*) FROM rollup.status WHERE updated_at IS NOT NULL AND channel = 'rollup_by_hour'"
        ),
        1
    );
    client.batch_execute("INSERT INTO event VALUES ('2026-01-01 11:10+00', 'k', 1)").unwrap();
    client.batch_execute("SELECT rollup.run('event')").unwrap();
    assert!(!heard(&mut listener).is_empty());
}

/// What docs/notifications.md says of a subscriber.
#[test]
fn a_subscriber_gets_every_change_of_a_rollup() {
    let settings = format!("{OURS}wal_level = logical\n");
    let publisher = Cluster::with(Tree::prepare().unwrap(), &settings).unwrap();
    let subscriber = Cluster::new().unwrap();
    let mut from = publisher.database("shop").unwrap();
    from.batch_execute(EVENT).unwrap();
    from.batch_execute("SELECT rollup.create('by_hour', $q$SELECT date_trunc('hour', at) AS at, k, count(*) AS n, avg(n) AS mean, hll_add_agg(hll_hash_integer(n)) AS distinct_n FROM event GROUP BY 1, 2$q$, every => '100 milliseconds', on_change => 'recompute', coarser => '{\"by_day\": \"1 day\"}')").unwrap();
    from.batch_execute("INSERT INTO event SELECT timestamptz '2026-01-01+00' + g * interval '17 min', 'k' || g % 3, g FROM generate_series(1, 500) g").unwrap();
    from.batch_execute("CREATE PUBLICATION hours FOR TABLE by_hour, by_day").unwrap();
    // From 18 on a publication leaves out columns that are computed in the table, unless told. Whole rows tell rows of
    // these tables apart: PostgreSQL changes none whose parts are not all sent.
    let told = number(&mut from, "SELECT current_setting('server_version_num')::bigint") >= 180_000;
    if told {
        from.batch_execute("INSERT INTO event VALUES ('2026-01-01 00:20+00', 'k1', 1)").unwrap();
        let refused = "SELECT count(*) FROM rollup.status WHERE last_error LIKE '%by_hour%publish_generated_columns = stored%'";
        wait_for("a run is refused, and says what to do", 60, || number(&mut from, refused) == 1);
        let commands = "SELECT pg_catalog.format('ALTER PUBLICATION %I SET (publish_generated_columns = stored)', pubname) FROM pg_catalog.pg_publication WHERE pubgencols = 'n'";
        let command = text(&mut from, commands);
        from.batch_execute(&command).unwrap();
    }
    // The subscriber needs the tables, and the type of their sketches.
    subscriber
        .connect("postgres")
        .unwrap()
        .batch_execute("CREATE DATABASE board TEMPLATE template0")
        .unwrap();
    let mut to = subscriber.connect("board").unwrap();
    to.batch_execute("CREATE EXTENSION hll").unwrap();
    let schema = publisher
        .command("pg_dump")
        .args(["--schema-only", "--no-comments", "-t", "by_hour", "-t", "by_day", "shop"])
        .output()
        .unwrap();
    assert!(schema.status.success(), "{}", String::from_utf8_lossy(&schema.stderr));
    let mut to = {
        drop(to);
        subscriber.restore_into("board", &String::from_utf8(schema.stdout).unwrap()).unwrap()
    };
    if told {
        to.batch_execute("ALTER TABLE by_hour ALTER COLUMN mean DROP EXPRESSION; ALTER TABLE by_day ALTER COLUMN mean DROP EXPRESSION").unwrap();
    }
    to.batch_execute(&format!(
        "CREATE SUBSCRIPTION hours CONNECTION 'host={} dbname=shop user=postgres' PUBLICATION hours",
        publisher.socket().display()
    ))
    .unwrap();
    let state = "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")), '') FROM (SELECT h::text AS t FROM by_hour h UNION ALL SELECT d::text FROM by_day d) r";
    let follows = |from: &mut Client, to: &mut Client, what: &str| {
        wait_for("the rollup is up to date", 60, || {
            number(
                from,
                "SELECT count(*) FROM by_hour_live l FULL JOIN by_hour h USING (at, k) WHERE l.n IS DISTINCT FROM h.n",
            ) == 0
        });
        wait_for(what, 60, || text(from, state) == text(to, state));
    };
    follows(&mut from, &mut to, "the first copy");
    let rows = |client: &mut Client| number(client, "SELECT count(*) FROM by_hour");
    assert!(rows(&mut to) > 100);
    // New buckets, buckets that grow, that are computed again, that go.
    from.batch_execute("INSERT INTO event SELECT timestamptz '2026-01-05+00' + g * interval '17 min', 'k' || g % 3, g FROM generate_series(1, 200) g").unwrap();
    from.batch_execute("INSERT INTO event SELECT timestamptz '2026-01-01+00' + g * interval '17 min', 'k' || g % 3, g FROM generate_series(1, 100) g").unwrap();
    follows(&mut from, &mut to, "rows that came");
    from.batch_execute(
        "UPDATE event SET k = 'other' WHERE n % 50 = 0; DELETE FROM event WHERE at < '2026-01-01 03:00+00'",
    )
    .unwrap();
    follows(&mut from, &mut to, "rows that changed");
    assert_eq!(number(&mut to, "SELECT count(*) FROM by_hour WHERE at < '2026-01-01 03:00+00'"), 0);
    from.batch_execute("SELECT rollup.rebuild('by_hour')").unwrap();
    follows(&mut from, &mut to, "a rebuild");
    from.batch_execute("SELECT rollup.retain('event', '1 day'), rollup.retain('by_hour', '1 day'); SELECT rollup.expire('event'); SELECT rollup.expire('by_hour')").unwrap();
    wait_for("expiry", 60, || rows(&mut to) == 0 && text(&mut from, state) == text(&mut to, state));
    assert!(number(&mut to, "SELECT sum(n)::bigint FROM by_day") > 0);
    to.batch_execute("ALTER SUBSCRIPTION hours DISABLE").unwrap();
    to.batch_execute("ALTER SUBSCRIPTION hours SET (slot_name = NONE)").unwrap();
    to.batch_execute("DROP SUBSCRIPTION hours").unwrap();
}
