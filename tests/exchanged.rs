//! A table that takes the place of a source by its name, as a copy does that was rewritten while the table was in use.
use hll_tests::{number, prepared, text};
use postgres::{Client, Config, NoTls};
use std::sync::{Arc, Mutex};

const MAKE: &str = "CREATE TABLE event (at timestamptz NOT NULL, site int, v int);
    INSERT INTO event SELECT timestamptz '2026-01-01Z' + g * interval '1 hour', g % 3, g FROM generate_series(0, 239) g;
    SELECT rollup.create('event_d', 'SELECT date_trunc(''day'', at) AS day, site, count(*) AS n, sum(v) AS total FROM event WHERE v <> 7 GROUP BY 1, 2',
      every => NULL, coarser => '{\"event_w\": \"5 days\"}', timezone => 'Asia/Tokyo');
    SELECT rollup.create('event_h', 'SELECT date_trunc(''hour'', at) AS hour, avg(v) AS mean FROM event GROUP BY 1',
      every => '1 hour', on_change => 'recompute');
    GRANT SELECT ON event_d TO PUBLIC; SELECT rollup.retain('event', '1000 years')";

/// A session, and what it is told: messages, and hints.
type Told = Arc<Mutex<Vec<(String, String)>>>;

fn listening(cluster: &hll_lab::Cluster, db: &str) -> (Client, Told) {
    let told = Told::default();
    let (mut config, notices) = (Config::new(), told.clone());
    config.host_path(cluster.socket()).user("postgres").dbname(db);
    config.notice_callback(move |notice| {
        let hint = notice.hint().unwrap_or_default().to_string();
        notices.lock().unwrap().push((notice.message().to_string(), hint));
    });
    (config.connect(NoTls).unwrap(), told)
}

fn differ(client: &mut Client) -> i64 {
    number(
        client,
        "SELECT (SELECT count(*) FROM rollup.check('event_d')) + (SELECT count(*) FROM rollup.check('event_h'))",
    )
}

#[test]
fn a_copy_takes_the_place_of_a_source() {
    let (cluster, mut client) = prepared("exchanged", "");
    // By rename in one transaction and in several, into another schema, and with a table that is made in its place.
    for (copy, exchange, left) in [
        (
            "CREATE TABLE event_new (LIKE event INCLUDING ALL); INSERT INTO event_new SELECT * FROM event",
            vec![
                "BEGIN; ALTER TABLE event RENAME TO event_old; ALTER TABLE event_new RENAME TO event; COMMIT",
            ],
            "event_old",
        ),
        (
            "CREATE TABLE event_new (v int, site int, at timestamptz NOT NULL); INSERT INTO event_new SELECT v, site, at FROM event",
            vec![
                "ALTER TABLE event RENAME TO x",
                "ALTER TABLE x RENAME TO event_old",
                "ALTER TABLE event_new RENAME TO event",
            ],
            "event_old",
        ),
        (
            "CREATE SCHEMA IF NOT EXISTS away; CREATE SCHEMA IF NOT EXISTS \"Next\"; CREATE TABLE \"Next\".event (LIKE event INCLUDING DEFAULTS); INSERT INTO \"Next\".event SELECT * FROM event",
            vec!["ALTER TABLE event SET SCHEMA away", "ALTER TABLE \"Next\".event SET SCHEMA public"],
            "away.event",
        ),
        (
            "SELECT 1",
            vec![
                "ALTER TABLE event RENAME TO event_old",
                "CREATE TABLE event (at timestamptz NOT NULL, site int, v int) PARTITION BY RANGE (at)",
                "CREATE TABLE event_1 PARTITION OF event DEFAULT; INSERT INTO event SELECT at, site, v FROM event_old",
            ],
            "event_old",
        ),
    ] {
        client.batch_execute(MAKE).unwrap();
        number(&mut client, "SELECT rollup.run('event')");
        let (mut owner, told) = listening(&cluster, "exchanged");
        owner.batch_execute(copy).unwrap();
        std::mem::take(&mut *told.lock().unwrap());
        for statement in exchange {
            owner.batch_execute(statement).unwrap();
        }
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert!(told[0].0.starts_with("each of rollups event_d, event_h follows its table"), "{told:?}");
        let hints: Vec<&String> = told.iter().map(|t| &t.1).filter(|h| h.contains("rollup.move")).collect();
        assert_eq!(hints.len(), 1, "one warning: {told:?}");
        // The hint is what its calls say.
        let calls: Vec<&str> = hints[0].split_inclusive(';').filter(|c| c.contains("SELECT")).collect();
        assert_eq!(calls.len(), 2, "{hints:?}");
        owner.batch_execute("INSERT INTO event (at, site, v) VALUES ('2026-01-02Z', 1, 1000)").unwrap();
        for call in calls {
            owner.batch_execute(call).unwrap();
        }
        let sources = "SELECT count(*) FROM rollup.status WHERE source = 'public.event'::regclass";
        assert_eq!(number(&mut owner, sources), 2);
        assert_eq!(differ(&mut owner), 0, "{copy}");
        assert_eq!(
            number(&mut owner, "SELECT sum(n)::bigint FROM event_d"),
            240,
            "all but the one that it leaves out"
        );
        assert_eq!(number(&mut owner, "SELECT sum(n)::bigint FROM event_w"), 240);
        let kept = "SELECT count(*) FROM rollup.definition WHERE name = 'event_d' AND every IS NULL AND timezone = 'Asia/Tokyo'
            OR name = 'event_h' AND every = '1 hour' AND on_change = 'recompute'";
        assert_eq!(number(&mut owner, kept), 2, "its options are what they were");
        assert_eq!(text(&mut owner, "SELECT relation::text FROM rollup.retention"), "event");
        owner.batch_execute("SET ROLE pg_monitor; SELECT FROM event_d; RESET ROLE").unwrap();
        // What is written to it is counted, and what is written to the old one is not.
        owner
            .batch_execute(&format!(
                "INSERT INTO event (at, site, v) VALUES ('2026-01-03Z', 1, 2000); UPDATE event SET v = 3000 WHERE v = 20;
                 INSERT INTO {left} (at, site, v) VALUES ('2026-01-03Z', 1, 5)"
            ))
            .unwrap();
        number(&mut owner, "SELECT rollup_event()");
        assert_eq!(number(&mut owner, "SELECT sum(n)::bigint FROM event_d"), 241);
        assert_eq!(number(&mut owner, "SELECT count(*) FROM rollup.check('event_h')"), 0);
        owner
            .batch_execute(&format!(
                "SELECT rollup.drop('event_d'), rollup.drop('event_h'); DROP TABLE event, {left}"
            ))
            .unwrap();
    }
}

#[test]
fn what_was_counted_is_not_given_up_for_a_copy() {
    let (cluster, mut client) = prepared("kept_for_it", "");
    client.batch_execute(MAKE).unwrap();
    number(&mut client, "SELECT rollup.run('event')");
    let (mut owner, told) = listening(&cluster, "kept_for_it");
    let refused = |owner: &mut Client, call: &str| {
        let error = owner.batch_execute(call).expect_err(call);
        let said = error.as_db_error().unwrap();
        (said.code().code().to_string(), said.message().to_string())
    };
    // A copy that is short, and one of nothing, as a table is put away by the year.
    owner
        .batch_execute(
            "ALTER TABLE event RENAME TO event_2025; CREATE TABLE event (LIKE event_2025 INCLUDING ALL);
             INSERT INTO event SELECT * FROM event_2025 WHERE v > 3",
        )
        .unwrap();
    let (code, message) = refused(&mut owner, "SELECT rollup.move('event_d', 'event')");
    assert_eq!(code, "55000");
    assert_eq!(message, "rollup event_d has counted 239 rows, of which 235 are in event");
    assert_eq!(number(&mut owner, "SELECT sum(n)::bigint FROM event_d"), 239);
    assert_eq!(refused(&mut owner, "SELECT rollup.move('event_d', 'event_2025')").0, "55000");
    // Of another's table, and of one without the columns.
    owner
        .batch_execute("CREATE ROLE eve; GRANT ALL ON SCHEMA public TO eve; SET ROLE eve; CREATE TABLE hers (at timestamptz, site int, v int)")
        .unwrap();
    assert_eq!(refused(&mut owner, "SELECT rollup.move('event_d', 'hers')").0, "42501");
    owner.batch_execute("RESET ROLE; CREATE TABLE bare (at timestamptz)").unwrap();
    assert_eq!(refused(&mut owner, "SELECT rollup.move('event_h', 'bare')").0, "42703");
    // Where the source takes its name back nothing is said.
    owner.batch_execute("DROP TABLE event; ALTER TABLE event_2025 RENAME TO event").unwrap();
    std::mem::take(&mut *told.lock().unwrap());
    owner.batch_execute("CREATE TABLE event_2025 (LIKE event); DROP TABLE event_2025").unwrap();
    let said = std::mem::take(&mut *told.lock().unwrap());
    assert!(said.len() == 1 && said[0].0.contains("public.event_2025 has the name"), "{said:?}");
}

/// Rows of four days are gone, of which the rollups have all: by time, or with a partition that was detached.
const GONE: [&str; 2] = [
    "CREATE TABLE event (at timestamptz NOT NULL, site int, v int);",
    "CREATE TABLE event (at timestamptz NOT NULL, site int, v int) PARTITION BY RANGE (at);
     CREATE TABLE event_0 PARTITION OF event FOR VALUES FROM (MINVALUE) TO ('2026-01-05 06:00Z');
     CREATE TABLE event_1 PARTITION OF event DEFAULT;",
];
const GO: [&str; 2] = [
    "SELECT rollup.retain('event', now() - '2026-01-05 06:00Z'); SELECT rollup.expire('event')",
    "ALTER TABLE event DETACH PARTITION event_0",
];
const EXCHANGE: &str = "ALTER TABLE event RENAME TO event_old; ALTER TABLE event_new RENAME TO event";
const HISTORY: &str = "SELECT md5(string_agg(t::text, ' ' ORDER BY t)) FROM (SELECT 'd', d::text FROM event_d d WHERE day < '2026-01-05Z'
    UNION ALL SELECT 'h', h::text FROM event_h h WHERE hour < '2026-01-05Z' UNION ALL SELECT 'w', w::text FROM event_w w WHERE day < '2026-01-04Z') t";

fn with_history(client: &mut Client, gone: usize) {
    let (_, rest) = MAKE.split_once(';').unwrap();
    client
        .batch_execute(&format!(
            "{}{}",
            GONE[gone],
            rest.replace("SELECT rollup.retain('event', '1000 years')", "")
        ))
        .unwrap();
    number(client, "SELECT rollup.run('event')");
    client.batch_execute(GO[gone]).unwrap();
}

#[test]
fn what_raw_rows_do_not_tell_any_more_stays() {
    let (_cluster, mut client) = prepared("with_history", "");
    let moves = ["SELECT rollup.move('event_d', 'event')", "SELECT rollup.move('event_h', 'event')"];
    for gone in [0, 1] {
        // A copy of what is there, and one that was made before rows went; with the stamps, without, and of the same transaction.
        for copy in [
            "CREATE TABLE event_new (LIKE event INCLUDING ALL); INSERT INTO event_new SELECT * FROM event",
            "CREATE TABLE event_new (v int, site int, at timestamptz NOT NULL); INSERT INTO event_new SELECT v, site, at FROM event",
            "CREATE TABLE event_new (v int, site int, at timestamptz NOT NULL);
             INSERT INTO event_new SELECT g, g % 3, timestamptz '2026-01-01Z' + g * interval '1 hour' FROM generate_series(0, 239) g",
            "CREATE TABLE event_new (LIKE event INCLUDING DEFAULTS) PARTITION BY RANGE (at); CREATE TABLE event_new_1 PARTITION OF event_new DEFAULT;
             INSERT INTO event_new SELECT * FROM event WHERE at >= '2026-01-05 06:00Z'",
        ] {
            with_history(&mut client, gone);
            let before = text(&mut client, HISTORY);
            client.batch_execute(&format!("BEGIN; {copy}; {EXCHANGE}; {}; {}; COMMIT", moves[0], moves[1])).unwrap();
            let counted = "SELECT concat((SELECT sum(n) FROM event_d), ' ', (SELECT sum(n) FROM event_w), ' ', (SELECT sum(n) FROM event_d_live))";
            assert_eq!(text(&mut client, counted), "239 239 239", "{copy}");
            assert_eq!(text(&mut client, HISTORY), before, "{copy}");
            assert_eq!(differ(&mut client), 0, "{copy}");
            // What comes is counted, late rows too, and what is written to the table that was the source is not.
            client
                .batch_execute(
                    "INSERT INTO event (at, site, v) VALUES ('2026-01-02Z', 1, 1), ('2026-01-05 09:00Z', 1, 2), ('2026-01-09Z', 1, 3);
                     UPDATE event SET v = v + 1 WHERE at > '2026-01-08Z'; INSERT INTO event_old (at, site, v) VALUES ('2026-01-09Z', 1, 4)",
                )
                .unwrap();
            number(&mut client, "SELECT rollup_event()");
            assert_eq!(text(&mut client, counted), "242 242 242", "{copy}");
            assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('event_h')"), 0, "{copy}");
            assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.status WHERE source = 'event'::regclass"), 2);
            client
                .batch_execute("SELECT rollup.drop('event_d'), rollup.drop('event_h'); DROP TABLE event, event_old; DROP TABLE IF EXISTS event_0")
                .unwrap();
        }
    }
}

#[test]
fn rows_of_which_it_cannot_be_told_whether_they_were_counted() {
    let (_cluster, mut client) = prepared("not_known", "");
    for gone in [0, 1] {
        with_history(&mut client, gone);
        let before = text(&mut client, HISTORY);
        // One of a bucket whose raw rows are gone in part, and some of those that are gone.
        client
            .batch_execute(&format!(
                "CREATE TABLE event_new (LIKE event INCLUDING ALL); INSERT INTO event_new SELECT * FROM event;
                 INSERT INTO event_new VALUES ('2026-01-05 09:00Z', 0, 5), ('2026-01-02Z', 0, 6); {EXCHANGE}"
            ))
            .unwrap();
        let error = client.batch_execute("SELECT rollup.move('event_d', 'event')").unwrap_err();
        let said = error.as_db_error().unwrap();
        assert_eq!(said.code().code(), "55000");
        assert!(
            said.message().starts_with(
                "it cannot be told which rows of public.event rollup event_d has counted: of 2 groups"
            ),
            "{said}"
        );
        assert_eq!(text(&mut client, HISTORY), before);
        assert_eq!(
            number(&mut client, "SELECT count(*) FROM rollup.status WHERE source = 'event_old'::regclass"),
            2
        );
        // The hint runs as it stands.
        let (_, delete) = said.hint().unwrap().split_once("without them: ").unwrap();
        client.batch_execute(delete).unwrap();
        client.batch_execute("SELECT rollup.move('event_d', 'event')").unwrap();
        assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('event_d')"), 0);
        assert_eq!(number(&mut client, "SELECT sum(n)::bigint FROM event_d"), 239);
        // Fewer rows than were counted where all are there, and columns of another type.
        for (copy, code, why) in [
            (
                "(LIKE event_old INCLUDING ALL); INSERT INTO event_new SELECT * FROM event_old WHERE at < '2026-01-09Z'",
                "55000",
                "has counted",
            ),
            (
                "(at timestamptz NOT NULL, site int, v numeric)",
                "42804",
                "column v_sum of rollup event_h is sum(v) of type bigint, and from",
            ),
        ] {
            client.batch_execute(&format!("CREATE TABLE event_new {copy}")).unwrap();
            let error = client.batch_execute("SELECT rollup.move('event_h', 'event_new')").unwrap_err();
            let said = error.as_db_error().unwrap();
            assert!(said.code().code() == code && said.message().contains(why), "{said:?}");
            client.batch_execute("DROP TABLE event_new").unwrap();
        }
        assert_eq!(text(&mut client, HISTORY), before);
        client
            .batch_execute("SELECT rollup.drop('event_d'), rollup.drop('event_h'); DROP TABLE event, event_old; DROP TABLE IF EXISTS event_0")
            .unwrap();
    }
}
