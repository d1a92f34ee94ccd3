//! Hostile bytes, cancellation and failure on a live server: errors only, at once, and nothing left behind.
use hll_lab::{Cluster, wait_for};
use postgres::Client;
use postgres::error::SqlState;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Everything that takes a sketch. `$1` and `$2` are bytes that are cast to one without a check.
const USES: [&str; 30] = [
    "hll_cardinality(a)",
    "hll_union(a, b)",
    "hll_add(a, 1::hll_hashval)",
    "hll_add_rev('-7'::hll_hashval, a)",
    "hll_print(a)::text",
    "hll_schema_version(a)",
    "hll_type(a)",
    "hll_log2m(a)",
    "hll_regwidth(a)",
    "hll_sparseon(a)",
    "hll_expthresh(a)",
    "a::hll(11, 5, -1, 1)",
    "a::hll(4)",
    "a::text::hll",
    "a = b",
    "a <> b",
    "a < b",
    "hll_cmp(a, b)",
    "hll_sketch_hash(a)",
    "hll_union_cardinality(a, b)",
    "hll_intersection_cardinality(a, a)",
    "hll_jaccard(a, b)",
    "hll_fold(a, 3)",
    "hll_add_array(a, '{1,2,NULL,-9000000000000000000}')",
    "hll_info(a)",
    "(SELECT hll_union_agg(v) FROM (VALUES (a), (NULL), (b), (a)) t(v))",
    "(SELECT hll_union_agg(v) OVER (ORDER BY n ROWS 1 PRECEDING) FROM (VALUES (1, a), (2, a)) t(n, v) LIMIT 1)",
    "(SELECT floored(v) FROM (VALUES (a)) t(v))",
    "(SELECT ceiled(v) FROM (VALUES (a), (a)) t(v))",
    "a::bytea",
];

/// A statement's error becomes its SQLSTATE; whatever a statement does to the server, this does not hide.
fn functions() -> String {
    let tries = USES.map(|used| {
        format!("BEGIN PERFORM ({used})::text; EXCEPTION WHEN others THEN seen := seen || SQLSTATE; END;")
    });
    format!(
        "CREATE AGGREGATE floored(hll) (SFUNC = hll_union_trans, STYPE = internal, FINALFUNC = hll_floor_card_unpacked);
         CREATE AGGREGATE ceiled(hll) (SFUNC = hll_union_trans, STYPE = internal, FINALFUNC = hll_ceil_card_unpacked);
         CREATE FUNCTION attack(x bytea, y bytea) RETURNS text[] LANGUAGE plpgsql AS $$
         DECLARE a hll := x::hll; b hll := y::hll; seen text[] := '{{}}';
         BEGIN {} RETURN seen; END $$",
        tries.join("\n")
    )
}

/// Marsaglia's xorshift: the same attacks in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    fn byte(&mut self) -> u8 {
        self.next(256) as u8
    }

    /// Bytes that look like a sketch, or were one.
    fn attack(&mut self, sound: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = match self.next(4) {
            0 => (0..self.next(40)).map(|_| self.byte()).collect(),
            1 => {
                let kind = 0x10 | self.next(5) as u8;
                let body = self.next(300);
                let mut bytes = vec![kind, self.byte(), self.byte()];
                bytes.extend((0..body).map(|_| self.byte()));
                bytes
            }
            _ => sound[self.next(sound.len())].clone(),
        };
        for _ in 0..self.next(4) {
            if !bytes.is_empty() {
                let at = self.next(bytes.len());
                bytes[at] = self.byte();
            }
        }
        if self.next(3) == 0 {
            bytes.truncate(self.next(bytes.len() + 1));
        }
        bytes
    }
}

/// KiB that a backend holds of its own.
fn resident(pid: i32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn pid_of(client: &mut Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0)
}

#[test]
fn hostile_bytes_give_errors_only() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("hostile").unwrap();
    client.batch_execute(&functions()).unwrap();
    let sound: Vec<Vec<u8>> = client
        .query(
            "SELECT hll_send(hll_add_agg(hll_hash_bigint(i * 31 + m), m, w, t, s)) FROM (VALUES (0,1),(4,2),(5,7),(8,5),(11,5),(12,4),(11,6)) p(m, w),
                (VALUES (-1::bigint),(0),(64)) e(t), (VALUES (0),(1)) o(s), (VALUES (0),(1),(40),(200),(3000)) c(n), generate_series(0, n) i GROUP BY m, w, t, s, n",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let pid = pid_of(&mut client);
    let attack = client.prepare("SELECT attack($1, $2)").unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut refused, mut answered, mut halfway) = (0, 0, 0);
    for round in 0..3000 {
        let (a, b) = (random.attack(&sound), random.attack(&sound));
        let seen: Vec<String> = client.query_one(&attack, &[&a, &b]).unwrap().get(0);
        // Data, parameters, sizes of numbers; nothing that a defect of ours would raise.
        let odd: Vec<_> =
            seen.iter().filter(|s| !["22000", "22023", "22003"].contains(&s.as_str())).collect();
        assert!(odd.is_empty(), "{odd:?} of {a:02x?} and {b:02x?}");
        refused += seen.len();
        answered += USES.len() - seen.len();
        if round == 1500 {
            halfway = resident(pid);
        }
    }
    assert!(refused > 10_000 && answered > 10_000, "{refused} refused, {answered} answered");
    assert_eq!(pid_of(&mut client), pid);
    let grown = resident(pid) - halfway;
    assert!(grown < 4096, "the backend grew by {grown} KiB");
    println!("{refused} refused, {answered} answered");
}

#[test]
fn binary_copies_are_checked() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("copied").unwrap();
    client
        .batch_execute(
            "CREATE TABLE sent AS SELECT n, hll_add_agg(hll_hash_integer(i)) AS v, hll_hash_integer(n) AS h
               FROM (VALUES (1), (100), (400), (9000)) c(n), generate_series(1, n) i GROUP BY n;
             INSERT INTO sent VALUES (0, hll_empty(), NULL); CREATE TABLE got (LIKE sent)",
        )
        .unwrap();
    let mut stream = Vec::new();
    client.copy_out("COPY sent TO STDOUT (FORMAT binary)").unwrap().read_to_end(&mut stream).unwrap();
    let mut writer = client.copy_in("COPY got FROM STDIN (FORMAT binary)").unwrap();
    writer.write_all(&stream).unwrap();
    assert_eq!(writer.finish().unwrap(), 5);
    let differ = "SELECT count(*) FROM (TABLE sent EXCEPT TABLE got) d";
    assert_eq!(client.query_one(differ, &[]).unwrap().get::<_, i64>(0), 0);
    // The three bytes of the empty sketch, damaged.
    let at = stream.windows(3).position(|bytes| bytes == [0x11, 0x8b, 0x7f]).unwrap();
    stream[at] = 0xff;
    let mut writer = client.copy_in("COPY got FROM STDIN (FORMAT binary)").unwrap();
    writer.write_all(&stream).unwrap();
    let refused = writer.finish().expect_err("no sketch");
    assert_eq!(refused.code(), Some(&SqlState::DATA_EXCEPTION), "{refused:?}");
    assert_eq!(client.query_one("SELECT count(*) FROM got", &[]).unwrap().get::<_, i64>(0), 5);
}

/// Runs `sql`, cancels it as soon as it runs, and says how long the answer took.
fn cancelled(client: &mut Client, observer: &mut Client, sql: &str) -> Duration {
    let pid = pid_of(client);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| client.batch_execute(sql));
        wait_for("the statement runs", 30, || {
            let asked = "SELECT state = 'active' AND clock_timestamp() - query_start > interval '50 ms' FROM pg_stat_activity WHERE pid = $1";
            observer.query_one(asked, &[&pid]).unwrap().get(0)
        });
        let start = Instant::now();
        assert!(observer.query_one("SELECT pg_cancel_backend($1)", &[&pid]).unwrap().get::<_, bool>(0));
        let answer = running.join().unwrap().expect_err("it was cancelled");
        assert_eq!(answer.code(), Some(&SqlState::QUERY_CANCELED), "{answer:?}");
        start.elapsed()
    })
}

#[test]
fn cancellation_answers_at_once_and_failure_leaves_nothing() {
    let cluster = Cluster::new().unwrap();
    let mut client = cluster.database("cancelled").unwrap();
    let mut observer = cluster.connect("cancelled").unwrap();
    client
        .batch_execute(
            "SET work_mem = '256MB'; CREATE TABLE many AS SELECT array_agg(hll_hash_integer(i)) AS hashes FROM generate_series(1, 1000000) i;
             CREATE TABLE numbers AS SELECT i FROM generate_series(1, 400000) i; ALTER TABLE numbers SET (parallel_workers = 2); ANALYZE numbers",
        )
        .unwrap();
    let long = [
        "SELECT hll_add_agg(hll_hash_bigint(a.i)) FROM numbers a, numbers b",
        "SELECT a.i % 20000, hll_add_agg(hll_hash_bigint(b.i)) FROM numbers a, numbers b GROUP BY 1",
        "SELECT hll_union_agg(hll_empty(14) || hll_hash_bigint(a.i)) FROM numbers a, numbers b",
        "SELECT approx_count_distinct(b.i) FROM numbers a, numbers b",
        "SELECT hll_add_array(hll_empty(), hashes) FROM many, generate_series(1, 1000000)",
        "SELECT hll_add_agg(hll_hash_bigint(a.i)) FROM numbers a, generate_series(1, 100000)",
    ];
    let failing = "SELECT count(h), sum(d) FROM (SELECT hll_add_agg(hll_hash_bigint(i * j)) AS h, sum(1 / (300000 - i)) AS d FROM numbers, generate_series(1, 2) j GROUP BY i % 5000) s";
    let pid = pid_of(&mut client);
    let mut residents = Vec::new();
    for _ in 0..8 {
        for sql in long {
            let took = cancelled(&mut client, &mut observer, sql);
            assert!(took < Duration::from_secs(1), "{took:?}: {sql}");
        }
        let failed = client.batch_execute(failing).expect_err("a division by zero");
        assert_eq!(failed.code(), Some(&SqlState::DIVISION_BY_ZERO));
        residents.push(resident(pid));
    }
    // What stays resident of freed memory goes up and down by 25 MiB, as the last block that is in use lies: the
    // least of the last rounds is compared with the most of the first ones. What leaks only goes up.
    let (first, last) = residents.split_at(4);
    let grown = last.iter().min().unwrap() - first.iter().max().unwrap();
    assert!(grown < 4096, "the backend grew by {grown} KiB in four rounds: {residents:?}");
}
