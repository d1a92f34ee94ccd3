//! Each row is merged by exactly one run: over random histories of one server and of clusters.
//!
//! `cargo test --release -p hll-rollup` tries a million histories, without optimisation some thousands.
use hll_rollup::{
    Absent, Answer, Answers, Candidate, Frontier, Node, Nodes, Snapshot, Stamps, advance, merged, new,
    unmerged,
};

const CASES: u64 = match (cfg!(miri), cfg!(debug_assertions)) {
    (true, _) => 100,
    (_, true) => 20_000,
    _ => 1_000_000,
};

/// A source of numbers that look random, the same ones every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: i64) -> i64 {
        (self.next() % limit as u64) as i64
    }

    fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }
}

/// The transactions of one server, as far as a snapshot tells.
#[derive(Default)]
struct Server {
    next: i64,
    open: Vec<i64>,
}

impl Server {
    /// Transactions begin and end.
    fn go_on(&mut self, random: &mut Random) {
        // Now and then many ids pass, of transactions that have ended before anybody looks.
        self.next += if random.one_in(8) { random.below(1 << 40) } else { 0 };
        for _ in 0..random.below(4) {
            self.open.push(self.next);
            self.next += 1;
        }
        self.open.retain(|_| !random.one_in(2));
    }

    fn look(&self) -> Snapshot {
        Snapshot { xmax: self.next, xip: self.open.clone() }
    }
}

/// Frontiers one after the other, each a run later.
fn on_one_server(random: &mut Random) -> Vec<Frontier> {
    let mut server = Server { next: random.below(3), open: Vec::new() };
    let one = |_| {
        server.go_on(random);
        Frontier::Server(server.look())
    };
    (0..3).map(one).collect()
}

/// The same for a cluster, whose nodes come, go, crash, and are in doubt.
fn in_a_cluster(random: &mut Random) -> Vec<Frontier> {
    let groups = [-1, 0, 1, 7, i32::from(i16::MAX)];
    let mut servers: Vec<(i32, Server)> =
        groups.into_iter().filter(|_| random.one_in(2)).map(|group| (group, Server::default())).collect();
    let (mut nodes, mut candidate): (Nodes, Option<Candidate>) = (Nodes::new(), None);
    let mut gone: Vec<i32> = Vec::new();
    let mut found = vec![Frontier::Cluster(nodes.clone())];
    for run in 1..=3 {
        let mut answers = Answers::default();
        for (group, server) in &mut servers {
            server.go_on(random);
            if random.one_in(16) {
                answers.absent.insert(*group, Absent::Disabled);
                continue;
            }
            let now = server.look();
            // Some of those that have ended were aborted; of many it is not asked.
            let before = nodes.get(group).map_or(0, |n| n.seen.xmax);
            let ended: Vec<i64> = (before..now.xmax).take(4).filter(|x| now.finished(*x)).collect();
            let aborted = !random.one_in(8);
            let aborted = aborted.then(|| ended.into_iter().filter(|_| random.one_in(2)).collect());
            let oldest = random.one_in(2).then(|| 100 * run - random.below(200));
            answers.nodes.insert(*group, Answer { now, aborted, at: 100 * run, oldest, ..Answer::default() });
            if random.one_in(8) {
                answers.held.push(*group);
            }
        }
        answers.absent.extend(gone.iter().map(|group| (*group, Absent::Gone)));
        (nodes, candidate) = advance(&nodes, candidate.as_ref(), &answers).unwrap();
        found.push(Frontier::Cluster(nodes.clone()));
        if random.one_in(4) && !servers.is_empty() {
            gone.push(servers.swap_remove(random.below(servers.len() as i64) as usize).0);
        }
    }
    found
}

/// Frontiers that grow in any way that frontiers can: whatever `advance` does.
fn anyhow(random: &mut Random) -> Vec<Frontier> {
    let mut node = Node::default();
    let mut found = Vec::new();
    for _ in 0..4 {
        for s in [&mut node.seen, &mut node.safe] {
            let to = s.xmax + random.below(6);
            let open = (0..to).filter(|x| !s.finished(*x) && random.one_in(3)).collect();
            *s = Snapshot { xmax: to, xip: open };
        }
        let group = i32::try_from(random.below(2)).unwrap();
        let mut nodes = found.last().and_then(Frontier::nodes).cloned().unwrap_or_default();
        nodes.insert(group, node.clone());
        found.push(Frontier::Cluster(nodes));
    }
    found
}

fn each_row_is_merged_once(frontiers: &[Frontier]) {
    let (first, last) = (&frontiers[0], &frontiers[frontiers.len() - 1]);
    let mut so_far = merged(first);
    for run in frontiers.windows(2) {
        let [from, to] = run else { unreachable!() };
        let rows = new(from, to);
        assert!(rows.intersect(&so_far).is_empty(), "merged twice: {frontiers:?}");
        so_far = so_far.union(&rows);
        // What a run leaves is what later ones and the live view find.
        assert_eq!(unmerged(from).minus(&rows), unmerged(to), "{from:?} {to:?}");
    }
    assert_eq!(so_far, merged(last), "left out: {frontiers:?}");
    assert_eq!(unmerged(last), so_far.complement());
    assert_eq!(unmerged(last).union(&so_far), Stamps::all());
}

#[test]
fn one_server() {
    let mut random = Random(1);
    (0..CASES / 10 * 7).for_each(|_| each_row_is_merged_once(&on_one_server(&mut random)));
}

#[test]
fn a_cluster() {
    let mut random = Random(2);
    (0..CASES / 20 * 3).for_each(|_| each_row_is_merged_once(&in_a_cluster(&mut random)));
}

#[test]
fn frontiers_that_grow() {
    let mut random = Random(3);
    (0..CASES / 20 * 3).for_each(|_| each_row_is_merged_once(&anyhow(&mut random)));
}

/// Snapshots that do not grow are told from those that do: a run refuses them.
#[test]
fn frontiers_that_shrink_are_noticed() {
    let at = |xmax, xip: &[i64]| Frontier::Server(Snapshot { xmax, xip: xip.to_vec() });
    assert!(at(9, &[4]).contains(&at(9, &[4])) && at(9, &[]).contains(&at(9, &[4])));
    assert!(!at(9, &[4]).contains(&at(9, &[])) && !at(8, &[]).contains(&at(9, &[])));
    let mut random = Random(4);
    for _ in 0..CASES / 100 {
        let [a, b] = [0, 1].map(|_| {
            let xmax = random.below(6);
            Snapshot { xmax, xip: (0..xmax).filter(|_| random.one_in(2)).collect() }
        });
        // An open transaction below that was none before is the same as a bound that is less.
        let [x, y] = [&a, &b].map(|s| Frontier::Server(s.clone()));
        assert!(!a.contains(&b) || x.contains(&y), "{a:?} {b:?}");
        assert_eq!(x.contains(&y), (-1..7).all(|id| a.finished(id) || !b.finished(id)), "{a:?} {b:?}");
    }
}
