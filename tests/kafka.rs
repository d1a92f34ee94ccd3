//! docs/kafka.md as it stands: its readers, kcat and psql in a loop of the shell, take messages from a broker, and whatever of
//! them is killed, each message is in the table once and in the rollup once.
//!
//! The broker is that of librdkafka, which kcat starts in its own process: it speaks Kafka's protocol on a port of the
//! loopback, and keeps messages in memory.
use hll_lab::{Cluster, OURS, Tree, root, skip, wait_until};
use hll_tests::{number, text};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TOPIC: &str = "http_request";

/// A broker, for as long as the process lives: its standard input ends with this value.
struct Broker {
    process: Child,
    _input: ChildStdin,
    at: String,
    log: Option<JoinHandle<()>>,
}

impl Broker {
    fn start() -> Broker {
        let mut process = Command::new("kcat")
            .args(["-P", "-t", TOPIC, "-p", "0", "-b", "none", "-X", "test.mock.num.brokers=1", "-d", "mock"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let at = loop {
            let line = lines.next().expect("kcat says where its broker listens").unwrap();
            if let Some((_, at)) = line.split_once("bootstrap.servers=") {
                break at.trim().to_string();
            }
        };
        // It tells of every request, and would wait for somebody to read that.
        let log = Some(std::thread::spawn(move || lines.for_each(drop)));
        Broker { process, _input: input, at, log }
    }

    /// Sends messages, a line each, to a partition.
    fn send(&self, partition: usize, messages: &str) {
        let mut kcat = Command::new("kcat")
            .args(["-P", "-q", "-b", &self.at, "-t", TOPIC, "-p", &partition.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        kcat.stdin.take().unwrap().write_all(messages.as_bytes()).unwrap();
        assert!(kcat.wait().unwrap().success(), "messages were not sent");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.log.take().map(JoinHandle::join);
    }
}

/// The loop of the page, for a partition of this broker; shorter pauses and transactions make more of both in the same time.
fn reader(broker: &str, partition: usize, folder: &str) -> String {
    let page = fs::read_to_string(root().join("docs/kafka.md")).unwrap();
    let lines: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let from = lines.iter().position(|line| line.starts_with("while sleep")).expect("the page has a loop");
    let to = lines.iter().position(|line| *line == "done").expect("which ends");
    let mut text = lines[from..=to].join("\n");
    for (was, is) in [
        ("sleep 1;", "sleep 0.1;"),
        ("partition = 0", &format!("partition = {partition}")),
        ("-p 0 ", &format!("-p {partition} ")),
        ("-c 100000 ", "-c 40 "),
        ("BROKER", broker),
        ("DATABASE", "kafka"),
        ("kafka_ingest.sql", &format!("{folder}/kafka_ingest.sql")),
    ] {
        assert!(text.contains(was), "the loop has no {was}: {text}");
        text = text.replace(was, is);
    }
    text
}

/// Sends a signal to a process, or with a minus to all of its group.
fn kill(whom: &str) {
    // It may have ended just now.
    let _ = Command::new("sh").args(["-c", "kill -KILL \"$0\" 2>/dev/null", whom]).status();
}

/// The processes below one.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let own: Vec<u32> = listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    own.iter().flat_map(|pid| std::iter::once(*pid).chain(children(*pid))).collect()
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed >> 11
}

#[test]
fn messages_are_taken_once_whoever_is_killed() {
    const PARTITIONS: usize = 3;
    const ROUNDS: usize = 12;
    const MESSAGES: usize = 150;
    if Command::new("kcat").arg("-V").output().is_err() {
        return skip("kcat is not there: make setup-test");
    }
    let mut cluster = Cluster::with(Tree::prepare().unwrap(), OURS).unwrap();
    let mut client = cluster.database("kafka").unwrap();
    let page = fs::read_to_string(root().join("docs/kafka.md")).unwrap();
    let tables = page.split("```sql\n").nth(1).and_then(|rest| rest.split_once("```")).unwrap().0;
    client
        .batch_execute(
            &tables.replace("CREATE EXTENSION hll;", "").replace("'10 seconds'", "'200 milliseconds'"),
        )
        .unwrap();
    let folder = cluster.socket().to_str().unwrap().to_string();
    fs::copy(root().join("examples/kafka_ingest.sql"), format!("{folder}/kafka_ingest.sql")).unwrap();

    let broker = Broker::start();
    let path = format!("{}:{}", cluster.tree.bin.display(), std::env::var("PATH").unwrap_or_default());
    let start = |cluster: &Cluster, partition: usize| {
        cluster
            .command("/bin/sh")
            .args(["-c", &reader(&broker.at, partition, &folder)])
            .env("PATH", &path)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut readers: Vec<Child> = (0..PARTITIONS).map(|partition| start(&cluster, partition)).collect();
    let mut seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut killed = [0; 3];
    for round in 0..ROUNDS {
        for partition in 0..PARTITIONS {
            let message = |n: usize| {
                format!(
                    "{{\"site_id\": {partition}, \"url\": \"/{partition}/{round}/{n}\", \"request_country\": \"NL\", \"ip_address\": \"10.0.{n}.{round}\", \"status_code\": 200, \"response_time_msec\": {n}}}\n"
                )
            };
            broker.send(partition, &(0..MESSAGES).map(message).collect::<String>());
        }
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20 + random(&mut seed) % 120));
            let partition = random(&mut seed) as usize % PARTITIONS;
            let group = readers[partition].id();
            if random(&mut seed).is_multiple_of(4) {
                // The loop with all that it runs, and another one in its place.
                kill(&format!("-{group}"));
                readers[partition].wait().unwrap();
                readers[partition] = start(&cluster, partition);
                killed[0] += 1;
            } else {
                // One of its programs: kcat, psql, or the shell between.
                let below = children(group);
                if let Some(pid) = below.get(random(&mut seed) as usize % below.len().max(1)) {
                    kill(&pid.to_string());
                    killed[1] += 1;
                }
            }
        }
        if round % 5 == 3 {
            drop(client);
            cluster.crash().unwrap();
            cluster.start().unwrap();
            client = cluster.connect("kafka").unwrap();
            killed[2] += 1;
        }
    }
    let all = (PARTITIONS * ROUNDS * MESSAGES) as i64;
    println!(
        "killed: {} readers, {} programs of them, {} servers; {} messages",
        killed[0], killed[1], killed[2], all
    );
    assert!(killed.iter().all(|n| *n > 0), "{killed:?}");
    // What a shell was killed in is begun again by the next one; loops whose shell has gone are started anew.
    wait_until("every message is there", 120, || {
        for (partition, reader) in readers.iter_mut().enumerate() {
            if reader.try_wait()?.is_some() {
                *reader = start(&cluster, partition);
            }
        }
        Ok(number(&mut client, "SELECT coalesce(sum(next), 0)::bigint FROM kafka_offset") == all)
    });
    readers.iter_mut().for_each(|reader| {
        kill(&format!("-{}", reader.id()));
        let _ = reader.wait();
    });
    assert_eq!(number(&mut client, "SELECT count(*) FROM http_request"), all);
    assert_eq!(number(&mut client, "SELECT count(DISTINCT url) FROM http_request"), all);
    assert_eq!(
        text(&mut client, "SELECT string_agg(next::text, ' ' ORDER BY partition) FROM kafka_offset"),
        vec![(ROUNDS * MESSAGES).to_string(); PARTITIONS].join(" ")
    );
    // After a crash of the server a rollup whose run was cut off rests: it is called for.
    client.batch_execute("SELECT rollup.run('http_request')").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(request_count)::bigint FROM http_request_1min"), all);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rollup.check('http_request_1min')"), 0);
}
