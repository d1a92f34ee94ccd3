//! Values in their binary form: what a send function returns is freed and read by its callers, whatever the value looks
//! like where it lies; no form, length or storage of one may end a server process or change a bit.
use hll_lab::{Cluster, OURS, Tree, wait_for};
use hll_tests::number;
use postgres::Client;
use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use std::error::Error;
use std::io::{Read, Write};

/// A value as it is on the wire.
#[derive(Debug, PartialEq)]
struct Wire(Vec<u8>);

impl<'a> FromSql<'a> for Wire {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Wire, Box<dyn Error + Sync + Send>> {
        Ok(Wire(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Wire {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The types, each under the name of its column.
const COLUMNS: [(&str, &str); 4] =
    [("h", "hll"), ("v", "hll_hashval"), ("s", "jsonb_counter_state"), ("d", "ddsketch")];

/// Sketches of every form, hashes and counter states, many of each. The lengths of what has one lie close together
/// about the longest value under a header of one byte, about the length from which on values go out of line, and beyond.
const VALUES: &str = r"
CREATE AGGREGATE kept_state(text) (SFUNC = jsonb_counter_agg_trans, STYPE = jsonb_counter_state,
    COMBINEFUNC = jsonb_counter_combine, PARALLEL = SAFE);
CREATE TABLE value (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, h hll, v hll_hashval, s jsonb_counter_state, d ddsketch);
INSERT INTO value (h) SELECT ('\x10' || b)::hll FROM unnest('{8b7f,8dff,840d}'::text[]) b;
INSERT INTO value (h) SELECT hll_empty(m, w, t, s) FROM (VALUES (11,5),(0,1),(17,7)) p(m, w), (VALUES (-1::bigint),(0)) e(t), (VALUES (0),(1)) o(s);
-- explicit
INSERT INTO value (h) SELECT hll_add_agg(hll_hash_bigint(i), 12, 6, 1024) FROM unnest('{1,2,14,15,16,17,120,160,248,249,250,251,252,253,254,255,256,512,1024}'::int[]) n, generate_series(1, n) i GROUP BY n;
-- sparse
INSERT INTO value (h) SELECT hll_add_agg(hll_hash_bigint(i), m, w, 0, 1) FROM (VALUES (10,4),(10,5),(11,5),(12,5),(13,7),(16,4)) p(m, w), (SELECT generate_series(1, 72) UNION ALL SELECT generate_series(900, 1500, 40)) c(n), generate_series(1, n) i GROUP BY m, w, n;
-- registers: full of them, and nearly none filled, which can be compressed
INSERT INTO value (h) SELECT hll_add_agg(hll_hash_bigint(i), m, w, 0, 0) FROM (VALUES (0,1),(4,5),(7,7),(8,4),(11,5),(11,7),(12,4),(12,5),(14,5),(17,7)) p(m, w), (VALUES (3),(50000)) c(n), generate_series(1, n) i GROUP BY m, w, n;
INSERT INTO value (v) SELECT hll_hash_bigint(i) FROM generate_series(1, 20) i UNION ALL SELECT x::hll_hashval FROM unnest('{0,1,-1,9223372036854775807,-9223372036854775808}'::bigint[]) x;
INSERT INTO value (s) SELECT kept_state(repeat('k', l)) FROM (SELECT generate_series(1, 140) UNION ALL SELECT generate_series(1900, 2100, 5)) c(l) GROUP BY l;
INSERT INTO value (s) SELECT kept_state('key ' || i) FROM unnest('{2,9,150,160,170,180,190,200,5000}'::int[]) n, generate_series(1, n) i GROUP BY n;
INSERT INTO value (s) SELECT kept_state(md5(i::text)) FROM generate_series(1, 3000) i;
-- percentiles: from no values to more than fit in line
INSERT INTO value (d) VALUES ('scale=5'), ('scale=10 count=3 sum=? min=? max=? zero=1 negative=5:1 positive=9:1'), ('scale=5 positive=32768:1');
INSERT INTO value (d) SELECT ddsketch_agg(exp(i * 0.1)) FROM (SELECT generate_series(1, 150) UNION ALL SELECT generate_series(500, 600, 3)) c(n), generate_series(1, n) i GROUP BY n;
INSERT INTO value (d) SELECT ddsketch_agg(exp(i * 0.1), CASE WHEN i = 1 THEN w ELSE 1 END) FROM unnest('{1,3,300,5000,100000,3000000}'::int[]) w, generate_series(60, 110) n, generate_series(1, n) i GROUP BY n, w;
INSERT INTO value (d) SELECT ddsketch_agg(exp(i * 0.01), 1, 10) FROM generate_series(640, 690) n, generate_series(1, n) i GROUP BY n;
INSERT INTO value (d) SELECT ddsketch_agg(exp(i * 0.003) * (i % 2 - 0.5), 1, 10) FROM unnest('{1000,9000,40000}'::int[]) n, generate_series(1, n) i GROUP BY n";

/// How a column may be kept, and the longest value that fits then.
const STORAGES: [(&str, &str, i64); 5] = [
    ("plain", "SET STORAGE plain", 7000),
    ("main", "SET STORAGE main", i64::MAX),
    ("external", "SET STORAGE external", i64::MAX),
    ("extended", "SET STORAGE extended, ALTER COLUMN {} SET COMPRESSION pglz", i64::MAX),
    ("lz4", "SET STORAGE extended, ALTER COLUMN {} SET COMPRESSION lz4", i64::MAX),
];

/// The tables of the storages that this server has, empty. Rows carry arrays too.
fn tables(client: &mut Client) -> Vec<(String, i64)> {
    let mut made = Vec::new();
    for (name, how, longest) in STORAGES {
        client
            .batch_execute(&format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, h hll, v hll_hashval, s jsonb_counter_state, d ddsketch,
                    hs hll[], vs hll_hashval[], ss jsonb_counter_state[], ds ddsketch[])"
            ))
            .unwrap();
        let alter = ["h", "s", "d"]
            .map(|column| format!("ALTER TABLE {name} ALTER COLUMN {column} {}", how.replace("{}", column)));
        match client.batch_execute(&alter.join(";")) {
            Ok(()) => made.push((name.to_string(), longest)),
            // Built without it: 0A000.
            Err(e) if name == "lz4" && e.code().is_some_and(|c| c.code() == "0A000") => {
                client.batch_execute("DROP TABLE lz4").unwrap();
            }
            Err(e) => panic!("{name}: {e:?}"),
        }
    }
    made
}

const LENGTH: &str = "greatest(pg_column_size(h::text::hll), pg_column_size(s::text::jsonb_counter_state), length(ddsketch_send(d)), 0)";

fn fill(client: &mut Client, table: &str, longest: i64) {
    client
        .batch_execute(&format!(
            "INSERT INTO {table} SELECT id, h, v, s, d, ARRAY[h, NULL, h], ARRAY[v, NULL], ARRAY[s, s], ARRAY[d, NULL, d] FROM value WHERE {LENGTH} * 4 < {longest}"
        ))
        .unwrap();
}

/// Everything in a table, by the output functions.
fn content(client: &mut Client, table: &str) -> String {
    let sql = format!(
        "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY id, t::text)), '') FROM {table} t"
    );
    client.query_one(&sql, &[]).unwrap().get(0)
}

fn no_process_died(cluster: &Cluster) {
    let log = cluster.log();
    let died: Vec<&str> =
        log.lines().filter(|l| l.contains("terminated by signal") || l.contains("PANIC")).collect();
    assert!(died.is_empty(), "{died:?}");
}

fn prepared(client: &mut Client) -> Vec<(String, i64)> {
    client.batch_execute(VALUES).unwrap();
    // What the values are for: every form, every length about the limits of headers and of values in line.
    let forms = "SELECT count(DISTINCT hll_type(h)) FROM value";
    assert_eq!(number(client, forms), 5, "undefined, empty, explicit, sparse, full");
    for (column, payload) in [
        ("h", "(length(h::text) - 2) / 2"),
        ("s", "(length(s::text) - 2) / 2"),
        ("d", "length(ddsketch_send(d))"),
    ] {
        let lengths = format!(
            "SELECT count(*) FROM unnest('{{124,125,126,127,128}}'::int[]) n WHERE n IN (SELECT {payload} FROM value)"
        );
        assert_eq!(number(client, &lengths), 5, "payloads of 124 to 128 bytes of {column}");
        let close =
            format!("SELECT count(DISTINCT {payload}) FROM value WHERE {payload} BETWEEN 1980 AND 2080");
        assert!(number(client, &close) >= 5, "lengths of {column} about 2 kB");
    }
    tables(client)
}

#[test]
fn binary_results_and_copies() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("wire").unwrap();
    let tables = prepared(&mut client);
    for (table, longest) in &tables {
        fill(&mut client, table, *longest);
        let whole = content(&mut client, table);
        for (column, kind) in COLUMNS {
            let texts = match column {
                "v" => format!("'\\x' || encode(int8send({column}::text::bigint), 'hex')"),
                "d" => format!("ddsketch_send({column})::text"),
                _ => format!("{column}::text"),
            };
            let sql =
                format!("SELECT {column}, {texts}, {column}::text FROM {table} WHERE {column} IS NOT NULL");
            let back = client.prepare(&format!("SELECT ($1::{kind})::text")).unwrap();
            let rows = client.query(&sql, &[]).unwrap();
            assert!(rows.len() >= 20, "{table}: {} rows of {kind}", rows.len());
            for row in rows {
                let (wire, hex, text): (Wire, String, String) = (row.get(0), row.get(1), row.get(2));
                let shown: String = wire.0.iter().map(|b| format!("{b:02x}")).collect();
                assert!(hex == format!("\\x{shown}"), "{table}: {kind} {text} was sent as {shown}");
                // By the receive function, and out again.
                assert_eq!(client.query_one(&back, &[&wire]).unwrap().get::<_, String>(0), text);
            }
            // Callers of a send function that free its result: of an array, of arrays in rows.
            let sent = format!(
                "SELECT length(array_send(array_agg({column}))) + sum(length(array_send({column}s))) FROM {table} WHERE {column} IS NOT NULL"
            );
            assert!(number(&mut client, &sent) > 100);
        }
        client.query(&format!("SELECT array_agg(t) FROM {table} t"), &[]).unwrap();
        let mut stream = Vec::new();
        client
            .copy_out(&format!("COPY {table} TO STDOUT (FORMAT binary)"))
            .unwrap()
            .read_to_end(&mut stream)
            .unwrap();
        client.batch_execute(&format!("CREATE TABLE {table}_back (LIKE {table} INCLUDING ALL)")).unwrap();
        let mut writer = client.copy_in(&format!("COPY {table}_back FROM STDIN (FORMAT binary)")).unwrap();
        writer.write_all(&stream).unwrap();
        writer.finish().unwrap();
        assert_eq!(content(&mut client, &format!("{table}_back")), whole, "{table} by binary COPY");
    }
    let compressed = "SELECT count(*) FROM extended WHERE pg_column_compression(h) IS NOT NULL";
    assert!(number(&mut client, compressed) > 0, "no sketch is compressed");
    let outside = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = $1";
    for table in ["external", "extended"] {
        assert!(
            client.query_one(outside, &[&table]).unwrap().get::<_, i64>(0) > 0,
            "{table}: nothing out of line"
        );
    }
    no_process_died(&cluster);
}

#[test]
fn a_subscription_in_binary() {
    let publisher = Cluster::with(Tree::prepare().unwrap(), &format!("{OURS}wal_level = logical\n")).unwrap();
    let subscriber = Cluster::new().unwrap();
    let (mut from, mut to) = (publisher.database("wire").unwrap(), subscriber.database("wire").unwrap());
    let kept = prepared(&mut from);
    tables(&mut to);
    let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    // The first copy of a table is one way, what is decoded from the log another.
    let (early, late) = names.split_at(2);
    kept.iter().filter(|(name, _)| early.contains(&name.as_str())).for_each(|(t, n)| fill(&mut from, t, *n));
    // Old rows are sent whole; the subscriber finds them by their key.
    names.iter().for_each(|t| from.batch_execute(&format!("ALTER TABLE {t} REPLICA IDENTITY FULL")).unwrap());
    from.batch_execute(&format!("CREATE PUBLICATION wire FOR TABLE {}", names.join(", "))).unwrap();
    to.batch_execute(&format!(
        "CREATE SUBSCRIPTION wire CONNECTION 'host={} dbname=wire user=postgres' PUBLICATION wire WITH (binary = true)",
        publisher.socket().display()
    ))
    .unwrap();
    let ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'";
    wait_for("the first copies are made", 60, || number(&mut to, ready) == names.len() as i64);
    kept.iter().filter(|(name, _)| late.contains(&name.as_str())).for_each(|(t, n)| fill(&mut from, t, *n));
    for table in &names {
        let same = |from: &mut Client, to: &mut Client, what: &str| {
            let wanted = content(from, table);
            wait_for(&format!("{table}: {what}"), 60, || {
                no_process_died(&publisher);
                content(to, table) == wanted
            });
        };
        same(&mut from, &mut to, "rows arrive");
        // Values out of line that do not change are not sent again.
        from.batch_execute(&format!("UPDATE {table} SET id = -id WHERE id % 2 = 0")).unwrap();
        from.batch_execute(&format!(
            "UPDATE {table} SET h = hll_add(h, 1::hll_hashval) WHERE id > 0 AND hll_type(h) > 0"
        ))
        .unwrap();
        from.batch_execute(&format!("DELETE FROM {table} WHERE id % 5 = 0")).unwrap();
        same(&mut from, &mut to, "changes arrive");
        assert!(number(&mut to, &format!("SELECT count(*) FROM {table}")) > 100);
    }
    for cluster in [&publisher, &subscriber] {
        no_process_died(cluster);
    }
    to.batch_execute("ALTER SUBSCRIPTION wire DISABLE; ALTER SUBSCRIPTION wire SET (slot_name = NONE); DROP SUBSCRIPTION wire").unwrap();
}

/// An aggregate's result is its reader's; the state goes on without it, row after row of a window.
#[test]
fn results_outlive_what_made_them() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("wire").unwrap();
    client.batch_execute(VALUES).unwrap();
    client
        .batch_execute(
            "CREATE TABLE line (t int, k text); INSERT INTO line SELECT i, repeat(chr(97 + i % 26), 100 + i * 7 % 300) FROM generate_series(1, 600) i",
        )
        .unwrap();
    let at = "timestamptz '2026-01-01' + t * interval '1 s'";
    for (aggregate, row) in [("last", "k"), ("first", "first_value(k) OVER (ORDER BY t)")] {
        let sql = format!(
            "SELECT count(*) FROM (SELECT rollup.{aggregate}(k, {at}) OVER (ORDER BY t) AS r, {row} AS wanted FROM line OFFSET 0) q WHERE r IS DISTINCT FROM wanted"
        );
        assert_eq!(number(&mut client, &sql), 0, "{aggregate} in a window");
    }
    // Without a final function the state itself is the result, expanded, of several groups and frames at a time.
    let groups = "SELECT count(*) FROM (SELECT t % 7 AS g, kept_state(k) AS s, jsonb_counter_agg(k) AS c FROM line GROUP BY 1) q
        WHERE jsonb_counter_final(s) <> c OR jsonb_counter_final(s::text::jsonb_counter_state) <> c";
    assert_eq!(number(&mut client, groups), 0);
    let frames =
        "SELECT count(*) FROM (SELECT kept_state(k) OVER w AS s, jsonb_counter_agg(k) OVER w AS c FROM line
            WINDOW w AS (ORDER BY t ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)) q
        WHERE jsonb_counter_final(s) <> c OR jsonb_counter_final(s::text::jsonb_counter_state) <> c";
    assert_eq!(number(&mut client, frames), 0);
    no_process_died(&cluster);
}
