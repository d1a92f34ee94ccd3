//! Tables that a rollup reads and that belong to somebody else: what their owner makes of them runs as nobody else.
use hll_lab::{Cluster, wait_for};
use hll_tests::{number, text};
use postgres::Client;

/// Role `lender` has a table of events and one of places, on which role `keeper` has a rollup; whoever runs code of the
/// lender's leaves a name.
fn prepared() -> (Cluster, Client) {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("lent").unwrap();
    client
        .batch_execute(
            "CREATE ROLE lender; CREATE ROLE keeper; CREATE TABLE ran (by name); GRANT INSERT ON ran TO PUBLIC;
             CREATE SCHEMA lent AUTHORIZATION lender; CREATE SCHEMA kept AUTHORIZATION keeper; GRANT USAGE ON SCHEMA lent, kept TO PUBLIC; GRANT USAGE, CREATE ON SCHEMA lent TO keeper",
        )
        .unwrap();
    client
        .batch_execute(
            "SET ROLE lender;
             CREATE TABLE lent.place (id int, name text); INSERT INTO lent.place VALUES (1, 'here'); GRANT SELECT ON lent.place TO keeper;
             CREATE TYPE lent.odd AS (x bigint);
             CREATE FUNCTION lent.plain(lent.odd) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN ($1).x; END';
             CREATE CAST (lent.odd AS bigint) WITH FUNCTION lent.plain(lent.odd) AS IMPLICIT;
             CREATE FUNCTION lent.name() RETURNS text LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN ''there''; END'; RESET ROLE",
        )
        .unwrap();
    client
        .batch_execute("SET ROLE keeper; CREATE TABLE lent.event (at timestamptz NOT NULL, place int, v bigint); RESET ROLE")
        .unwrap();
    client
        .batch_execute("SET ROLE keeper; SELECT rollup.create('kept.by_place', 'SELECT date_trunc(''day'', at) AS day, l.name, count(*) AS n, sum(v) AS s FROM lent.event LEFT JOIN lent.place l ON l.id = place GROUP BY 1, 2', every => NULL, joins => 'snapshot'); RESET ROLE")
        .unwrap();
    client.batch_execute("INSERT INTO lent.event VALUES ('2026-01-01', 1, 1)").unwrap();
    client.batch_execute("SELECT rollup.run('lent.event')").unwrap();
    client
        .batch_execute("ALTER TABLE lent.event OWNER TO lender; GRANT SELECT ON lent.event TO keeper")
        .unwrap();
    (cluster, client)
}

fn ran(client: &mut Client) -> String {
    text(client, "SELECT coalesce(string_agg(DISTINCT by::text, ' '), '') FROM ran WHERE by <> 'lender'")
}

/// Everything that reads the source or joins, as the rollup's owner and as a superuser; what each says.
fn all(client: &mut Client) -> Vec<String> {
    let mut said = Vec::new();
    for role in ["keeper", "NONE"] {
        for call in [
            "SELECT rollup.run('lent.event')",
            "SELECT * FROM rollup.check('kept.by_place')",
            "SELECT rollup.rebuild('kept.by_place')",
            "SELECT rollup.run('lent.event')",
            "SELECT rollup.add_column('kept.by_place', 'most', 'max(v)')",
            "SELECT rollup.explain('kept.by_place')",
            "SELECT lag_rows FROM rollup.status",
            "SELECT count(*) FROM rollup.series(NULL::kept.by_place_live, '2026-01-01', '2026-01-09')",
        ] {
            let done = client.batch_execute(&format!("SET ROLE {role}; {call}"));
            said.extend(
                done.err()
                    .and_then(|e| e.as_db_error().map(|e| format!("{} {}", e.code().code(), e.message()))),
            );
        }
    }
    client.batch_execute("RESET ROLE").unwrap();
    said
}

#[test]
fn a_column_of_another_type() {
    for change in [
        "ALTER TABLE lent.event DROP COLUMN rollup_stamp CASCADE; ALTER TABLE lent.event ADD COLUMN rollup_stamp lent.odd DEFAULT ROW(10000000)::lent.odd; INSERT INTO lent.event VALUES ('2026-01-02', 1, 1, ROW(10000000))",
        "ALTER TABLE lent.event ADD COLUMN w lent.odd DEFAULT ROW(1)::lent.odd; ALTER TABLE lent.event RENAME v TO u; ALTER TABLE lent.event RENAME w TO v; INSERT INTO lent.event (at, place) VALUES ('2026-01-02', 1)",
    ] {
        let (_cluster, mut client) = prepared();
        for one in change.split("; ") {
            client
                .batch_execute(&format!("SET ROLE lender; {one}"))
                .unwrap_or_else(|e| panic!("{one}: {e:?}"));
        }
        client.batch_execute("RESET ROLE").unwrap();
        let said = all(&mut client);
        assert_eq!(ran(&mut client), "", "{change}: {said:?}");
    }
}

#[test]
fn a_table_that_became_a_view() {
    // From 16 on no table does.
    let (_cluster, mut client) = prepared();
    if number(&mut client, "SELECT current_setting('server_version_num')::bigint") >= 160_000 {
        return;
    }
    for one in [
        "DELETE FROM lent.place",
        "CREATE RULE \"_RETURN\" AS ON SELECT TO lent.place DO INSTEAD SELECT 1 AS id, lent.name() AS name",
    ] {
        client.batch_execute(&format!("SET ROLE lender; {one}")).unwrap_or_else(|e| panic!("{one}: {e:?}"));
    }
    client.batch_execute("RESET ROLE; INSERT INTO lent.event VALUES ('2026-01-02', 1, 1)").unwrap();
    let said = all(&mut client);
    assert_eq!(ran(&mut client), "", "{said:?}");
    assert!(
        said.iter()
            .any(|s| s.contains("42501 ") && s.contains("view lent.place, which belongs to role lender")),
        "{said:?}"
    );
}

/// PostgreSQL computes what is constant in the expressions that a table has on it whenever it plans to read the table: the
/// lender's functions say that they are immutable, and are not.
#[test]
fn what_is_computed_by_planning() {
    let functions = "CREATE FUNCTION lent.leave() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN 1; END';
         CREATE FUNCTION lent.one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM lent.leave(); RETURN $1; END';
         CREATE FUNCTION lent.more(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT lent.one(1) + $1';
         CREATE FUNCTION lent.given(int, int DEFAULT lent.one(1)) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + $2; END';
         CREATE FUNCTION lent.honest(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'";
    for change in [
        "CREATE INDEX ON lent.place ((lent.one(1) + id))",
        "CREATE INDEX ON lent.place (id) WHERE lent.one(1) > 0",
        "CREATE INDEX ON lent.place (lent.more(id))",
        "CREATE INDEX ON lent.place (lent.given(id))",
        "CREATE STATISTICS lent.noted ON (lent.one(1) + id), name FROM lent.place",
        "CREATE TABLE lent.more (CHECK (lent.one(1) > 0)) INHERITS (lent.event)",
    ] {
        let (_cluster, mut client) = prepared();
        client.batch_execute(&format!("SET ROLE lender; {functions}")).unwrap();
        // A function of a column is not called by planning.
        client.batch_execute("CREATE INDEX ON lent.place (lent.honest(id))").unwrap();
        client.batch_execute("RESET ROLE; INSERT INTO lent.event VALUES ('2026-01-02', 1, 1)").unwrap();
        client.batch_execute("SELECT rollup.run('lent.event')").unwrap();
        client.batch_execute(&format!("SET ROLE lender; {change}; RESET ROLE")).unwrap();
        client.batch_execute("INSERT INTO lent.event VALUES ('2026-01-02', 1, 1)").unwrap();
        let said = all(&mut client);
        assert_eq!(ran(&mut client), "", "{change}: {said:?}");
        assert!(
            said.iter().any(|s| s.starts_with("42501 ") && s.contains("by planning to read table lent.")),
            "{change}: {said:?}"
        );
    }
}

/// A series is read as the owner of the rollup: not from a view that another role may put anything into.
#[test]
fn a_live_view_that_was_given_away() {
    let (_cluster, mut client) = prepared();
    client
        .batch_execute(
            "GRANT CREATE ON SCHEMA kept TO lender; ALTER VIEW kept.by_place_live OWNER TO lender; SET ROLE lender;
             CREATE OR REPLACE VIEW kept.by_place_live AS SELECT NULL::timestamptz AS day, lent.name() AS name, 1::bigint AS n, 1::numeric AS s;
             GRANT SELECT ON kept.by_place_live TO keeper; RESET ROLE",
        )
        .unwrap();
    let said = all(&mut client);
    assert_eq!(ran(&mut client), "", "{said:?}");
    assert!(
        said.iter().any(|s| s.starts_with("42501 ")
            && s.contains("view kept.by_place_live, which belongs to role lender")),
        "{said:?}"
    );
}

/// Values of these types are made by code of their owner's, where a constant of theirs is read: the owner reads them, whoever
/// calls.
#[test]
fn constants_of_the_owners_types() {
    let (_cluster, mut client) = prepared();
    client
        .batch_execute(
            "SET ROLE lender;
             CREATE FUNCTION lent.leave() RETURNS bool LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN true; END';
             CREATE FUNCTION lent.fine(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN lent.leave(); END';
             CREATE DOMAIN lent.small AS int CHECK (lent.fine(VALUE)); CREATE TYPE lent.pair AS (x lent.small);
             CREATE TABLE lent.log (at timestamptz NOT NULL, v int, small lent.small); RESET ROLE",
        )
        .unwrap();
    let query = |more: &str| {
        format!(
            "$$SELECT date_trunc('day', at) AS day, small, CASE WHEN v = ANY ('{{1,2}}'::lent.small[]) THEN 1 ELSE 2 END AS few, count(*) AS n, \
             count(*) FILTER (WHERE (ROW(v)::lent.pair).x = ('(1)'::lent.pair).x) AS one{more} FROM lent.log WHERE v <> ALL ('{{7}}'::lent.small[]) GROUP BY 1, 2, 3$$"
        )
    };
    let write = "INSERT INTO lent.log VALUES ('2026-01-02', 1, 1); UPDATE lent.log SET v = 2; INSERT INTO lent.log VALUES ('2026-01-03', 1, 1)";
    let options = "every => NULL, on_change => 'recompute', notify => true";
    let level = r#"coarser => '{"lent.months": "1 month"}'"#;
    let create = format!("SELECT rollup.create('lent.logs', {}, {options}, {level})", query(""));
    let again = format!("SELECT rollup.create('lent.logs', {}, {options}, if_not_exists => true)", query(""));
    let replace = format!("SELECT rollup.replace('lent.logs', {})", query(", max(v) AS most"));
    for role in ["lender", "NONE"] {
        for call in [
            create.as_str(),
            "SELECT rollup.run('lent.log')",
            "SELECT rollup.add_column('lent.logs', 'least', 'min(v)')",
            "SELECT rollup.add_level('lent.logs', 'lent.weeks', '7 days', keys => '{few}')",
            "SELECT rollup.run('lent.log')",
            "SELECT * FROM rollup.check('lent.logs')",
            "SELECT rollup.rebuild('lent.logs')",
            "SELECT rollup.explain('lent.logs')",
            "SELECT count(*) FROM rollup.series(NULL::lent.logs_live, '2026-01-01', '2026-01-09')",
            "SELECT rollup.drop_column('lent.logs', 'least')",
            replace.as_str(),
            again.as_str(),
            "ALTER FUNCTION lent.fine(int) RENAME TO fined; SELECT rollup.run('lent.log'); ALTER FUNCTION lent.fined(int) RENAME TO fine",
            "SELECT lag_rows FROM rollup.status",
        ] {
            client.batch_execute(&format!("SET ROLE lender; {write}; RESET ROLE")).unwrap();
            client.batch_execute("TRUNCATE ran").unwrap();
            for one in call.split("; ") {
                client
                    .batch_execute(&format!("SET ROLE {role}; {one}; RESET ROLE"))
                    .unwrap_or_else(|e| panic!("{one}: {e:?}"));
            }
            // What a superuser types to make a rollup is read as any statement that is typed.
            let typed = role == "NONE" && [&create, &again].contains(&&call.to_string());
            let ran = ran(&mut client);
            assert!(typed || ran.is_empty(), "{role} {call}: {ran}");
        }
        for one in [
            "CREATE TABLE lent.log_new (LIKE lent.log INCLUDING DEFAULTS)",
            "INSERT INTO lent.log_new TABLE lent.log",
            "ALTER TABLE lent.log RENAME TO log_old",
            "ALTER TABLE lent.log_new RENAME TO log",
        ] {
            client.batch_execute(&format!("SET ROLE lender; {one}; RESET ROLE")).unwrap();
        }
        client.batch_execute("TRUNCATE ran").unwrap();
        client
            .batch_execute(&format!(
                "SET ROLE {role}; SELECT rollup.move('lent.logs', 'lent.log'); RESET ROLE"
            ))
            .unwrap();
        assert_eq!(ran(&mut client), "", "{role} moves");
        client.batch_execute("SELECT rollup.drop('lent.logs'); DROP TABLE lent.log_old").unwrap();
    }
}

/// What the owner has made of a live view its readers see, and no more: by its series neither.
#[test]
fn a_live_view_that_shows_a_part() {
    let (_cluster, mut client) = prepared();
    client
        .batch_execute(
            r#"CREATE ROLE reader; SET ROLE keeper; CREATE TABLE kept.log (at timestamptz NOT NULL, site int);
             SELECT rollup.create('kept.logs', 'SELECT date_trunc(''hour'', at) AS at, site, count(*) AS n FROM kept.log GROUP BY 1, 2', every => NULL, coarser => '{"kept.days": "1 day"}');
             INSERT INTO kept.log SELECT timestamptz '2026-01-01' + i * interval '10 minutes', i % 3 FROM generate_series(0, 999) i; RESET ROLE"#,
        )
        .unwrap();
    client
        .batch_execute(
            "SELECT rollup.run('kept.log'); GRANT SELECT ON kept.logs_live, kept.days_live TO reader",
        )
        .unwrap();
    let series = |view: &str, points: u32| {
        format!(
            "rollup.series(NULL::kept.{view}, '2026-01-01', '2026-01-08', points => {points}, fill => 'none')"
        )
    };
    let sites = |client: &mut Client, view: &str, points: u32| {
        let all = "SELECT coalesce(string_agg(DISTINCT site::text, ' ' ORDER BY site::text), '') FROM";
        text(client, &format!("{all} {}", series(view, points)))
    };
    client.batch_execute("SET ROLE reader").unwrap();
    for (view, points) in [("logs_live", 3), ("logs_live", 100), ("days_live", 3)] {
        assert_eq!(sites(&mut client, view, points), "0 1 2", "{view} {points}");
    }
    // A column of another name is no other view.
    client
        .batch_execute(
            "RESET ROLE; SET ROLE keeper; ALTER TABLE kept.log RENAME site TO place; SET ROLE reader",
        )
        .unwrap();
    let days = format!("SELECT count(DISTINCT at) FROM {}", series("logs_live", 3));
    assert_eq!(number(&mut client, &days), 7);
    client
        .batch_execute(
            "RESET ROLE; SET ROLE keeper;
             CREATE OR REPLACE VIEW kept.logs_live AS SELECT at, site, sum(n)::bigint AS n FROM kept.logs WHERE site = 1 AND current_user = 'reader' GROUP BY 1, 2;
             SET ROLE reader",
        )
        .unwrap();
    for points in [3, 100] {
        assert_eq!(sites(&mut client, "logs_live", points), "1", "{points}");
    }
    client.batch_execute("RESET ROLE; SET ROLE keeper").unwrap();
    assert_eq!(sites(&mut client, "logs_live", 3), "");
}

/// The event trigger that prepares for the extension's end fires before PostgreSQL asks for rights: it locks nothing then.
#[test]
fn who_may_not_drop_the_extension_locks_nothing() {
    let (cluster, mut client) = prepared();
    client.batch_execute("SET ROLE lender; CREATE TABLE lent.bait (at timestamptz, rollup_stamp bigint NOT NULL DEFAULT rollup.stamp()); RESET ROLE").unwrap();
    let mut holder = cluster.connect("lent").unwrap();
    holder.batch_execute("SET ROLE lender; BEGIN; LOCK TABLE lent.bait").unwrap();
    for command in [
        "DROP EXTENSION hll CASCADE",
        "DROP SCHEMA rollup CASCADE",
        "DROP OWNED BY keeper CASCADE",
        "DROP EXTENSION hll, plpgsql CASCADE",
    ] {
        let error = client
            .batch_execute(&format!("SET ROLE lender; SET statement_timeout = '20s'; {command}"))
            .expect_err(command);
        assert_eq!(error.code().map(|c| c.code()), Some("42501"), "{command}: {error:?}");
    }
    holder.batch_execute("COMMIT").unwrap();
    client.batch_execute("RESET ROLE; DROP EXTENSION hll CASCADE").unwrap();
    client.batch_execute("INSERT INTO lent.event (at, place) VALUES ('2026-01-02', 1)").unwrap();
}

/// A partition that was given away has triggers of its new owner's: nothing of ours writes to it as the owner of the table.
#[test]
fn a_partition_that_was_given_away() {
    let (_cluster, mut client) = prepared();
    client
        .batch_execute(
            "SET ROLE keeper; CREATE TABLE kept.log (at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
             CREATE TABLE kept.log_old PARTITION OF kept.log FOR VALUES FROM ('2020-01-01') TO ('2021-01-01'); CREATE TABLE kept.log_rest PARTITION OF kept.log DEFAULT;
             SELECT rollup.create('kept.days', 'SELECT date_trunc(''day'', at) AS day, count(*) AS n FROM kept.log GROUP BY 1', every => NULL);
             INSERT INTO kept.log VALUES ('2020-05-05', 1), (now(), 1), (now() - interval '200 days', 3); RESET ROLE",
        )
        .unwrap();
    client.batch_execute("SET ROLE keeper; SELECT rollup.run('kept.log'); RESET ROLE").unwrap();
    client
        .batch_execute(
            "ALTER TABLE kept.log_rest OWNER TO lender; SET ROLE lender; GRANT ALL ON kept.log_rest TO keeper;
             CREATE FUNCTION lent.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN coalesce(NEW, OLD); END';
             CREATE TRIGGER spy BEFORE DELETE OR UPDATE OR INSERT ON kept.log_rest FOR EACH ROW EXECUTE FUNCTION lent.spy(); RESET ROLE",
        )
        .unwrap();
    client.batch_execute("SET ROLE keeper; SELECT rollup.retain('kept.log', '30 days')").unwrap();
    let error = client.batch_execute("SELECT rollup.expire('kept.log')").expect_err("a partition of another");
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "42501", "{error:?}");
    assert!(error.message().contains("table kept.log_rest belongs to role lender"), "{error:?}");
    let remedy = error.hint().unwrap().split("Nothing was written. ").nth(1).unwrap().to_string();
    client.batch_execute("RESET ROLE").unwrap();
    assert_eq!(ran(&mut client), "");
    client.batch_execute(&remedy).unwrap();
    // By itself: the worker, which expires rows too, may wait for this lock, and the call for the worker.
    client.batch_execute("DROP TRIGGER spy ON kept.log_rest").unwrap();
    client.batch_execute("SET ROLE keeper; SELECT rollup.expire('kept.log'); RESET ROLE").unwrap();
    wait_for("old rows are gone", 30, || number(&mut client, "SELECT count(*) FROM kept.log") == 1);
    assert_eq!(ran(&mut client), "");
}
