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
