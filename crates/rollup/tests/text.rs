//! Conditions say what the sets say, read by a small evaluator of the SQL that is written; and their text, which indexes and
//! Citus depend on.
use hll_rollup::sql::{STAMP, Time, current, merged_rows, piece, unmerged_rows};
use hll_rollup::{
    Backlog, Frontier, GROUP, Node, Nodes, SOURCE, Snapshot, State, merged, new, sql, unmerged,
};

const PREFIX: &str = "\"e\".";
const TIME: Time = Time { column: "at", zoned: false };

/// A row: its stamp, and its time in days, if it has one.
type Row = (i64, Option<i64>);

/// A word of SQL.
#[derive(Debug, Clone, PartialEq)]
enum Word {
    Stamp,
    At,
    Number(Option<i64>),
    List(Option<Vec<i64>>),
    Other(String),
}

/// A condition, of which it can be asked for which rows it holds.
struct Condition(Vec<Word>);

impl Condition {
    fn of(text: &str) -> Condition {
        let mut text = operators(text);
        for gone in ["::pg_catalog.int8[]", "::pg_catalog.int8", "::pg_catalog.timestamp"] {
            text = text.replace(gone, "");
        }
        let text = text.replace('(', " ( ").replace(')', " ) ");
        Condition(text.split_whitespace().map(word).collect())
    }

    /// None: it is NULL.
    fn holds(&self, row: Row) -> Option<bool> {
        let mut reader = Reader { words: &self.0, at: 0, row };
        let value = reader.or();
        assert_eq!(reader.at, self.0.len(), "{:?}", self.0);
        value
    }
}

/// The text with operators as they are written where names are not qualified.
fn operators(text: &str) -> String {
    let mut text = text.to_string();
    for operator in [">=", "<=", "<>", "<", ">", "="] {
        text = text.replace(&format!("OPERATOR(pg_catalog.{operator})"), operator);
    }
    text
}

fn word(text: &str) -> Word {
    let value = text.trim_matches('\'');
    match text.strip_prefix(PREFIX) {
        Some(STAMP) => Word::Stamp,
        Some(_) => Word::At,
        None if value == "NULL" => Word::Number(None),
        None if value == "NULL[]" => Word::List(None),
        None if value.starts_with('{') => {
            let list = value.trim_matches(['{', '}']).split(',').filter(|x| !x.is_empty());
            Word::List(Some(list.map(number).collect()))
        }
        None if value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            Word::Number(Some(number(value)))
        }
        None => Word::Other(text.to_string()),
    }
}

struct Reader<'a> {
    words: &'a [Word],
    at: usize,
    row: Row,
}

impl<'a> Reader<'a> {
    fn take(&mut self, word: &str) -> bool {
        let found = matches!(self.words.get(self.at), Some(Word::Other(other)) if other == word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str) {
        assert!(self.take(word), "{word} expected: {:?}", &self.words[self.at..]);
    }

    fn next(&mut self) -> &'a Word {
        self.at += 1;
        &self.words[self.at - 1]
    }

    fn or(&mut self) -> Option<bool> {
        let mut value = self.and();
        while self.take("OR") {
            let other = self.and();
            value = if value == Some(true) || other == Some(true) { Some(true) } else { value.and(other) };
        }
        value
    }

    fn and(&mut self) -> Option<bool> {
        let mut value = self.one();
        while self.take("AND") {
            let other = self.one();
            value = if value == Some(false) || other == Some(false) { Some(false) } else { value.and(other) };
        }
        value
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("NOT") {
            return self.one().map(|value| !value);
        }
        if self.take("false") {
            return Some(false);
        }
        if self.take("(") {
            let value = self.or();
            self.expect(")");
            if self.take("IS") {
                self.expect("NOT");
                self.expect("TRUE");
                return Some(value != Some(true));
            }
            return value;
        }
        let left = self.number();
        if self.take("IS") {
            assert_eq!(self.next(), &Word::Number(None));
            return Some(left.is_none());
        }
        let Word::Other(operator) = self.next() else { panic!("no operator: {:?}", self.words) };
        if self.take("ANY") || self.take("ALL") {
            self.expect("(");
            let Word::List(list) = self.next() else { panic!("no list: {:?}", self.words) };
            self.expect(")");
            let found = list.as_ref()?.contains(&left?);
            return Some(if operator == "=" { found } else { !found });
        }
        let right = self.number();
        let order = left?.cmp(&right?);
        Some(match operator.as_str() {
            ">=" => order.is_ge(),
            "<=" => order.is_le(),
            "<" => order.is_lt(),
            _ => panic!("operator {operator}"),
        })
    }

    fn number(&mut self) -> Option<i64> {
        match self.next() {
            Word::Stamp => Some(self.row.0),
            Word::At => self.row.1,
            Word::Number(n) => *n,
            other => panic!("{other:?} is no number: {:?}", self.words),
        }
    }
}

/// A number, or the day of a date.
fn number(text: &str) -> i64 {
    text.strip_prefix("2026-01-").unwrap_or(text).parse().unwrap_or_else(|_| panic!("{text}"))
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 29)) % limit) as i64
    }

    /// A snapshot that contains another.
    fn after(&mut self, s: &Snapshot) -> Snapshot {
        let xmax = s.xmax + self.below(5);
        Snapshot { xmax, xip: (0..xmax).filter(|x| !s.finished(*x) && self.below(3) == 0).collect() }
    }

    /// Two frontiers, one after the other.
    fn run(&mut self, nodes: bool) -> [Frontier; 2] {
        if !nodes {
            let from = self.after(&Snapshot::default());
            let to = self.after(&from);
            return [from, to].map(Frontier::Server);
        }
        let (mut old, mut now) = (Nodes::new(), Nodes::new());
        for group in [-1, 0, 1, 3] {
            let mut node = Node::default();
            for found in [&mut old, &mut now] {
                node = match self.below(9) {
                    0 => Node { seen: Snapshot::everything(), safe: Snapshot::everything(), ..node },
                    _ if node.seen == Snapshot::everything() => node,
                    _ => Node { seen: self.after(&node.seen), safe: self.after(&node.safe), ..node },
                };
                if self.below(4) > 0 || !found.is_empty() {
                    found.insert(group, node.clone());
                }
            }
        }
        [old, now].map(Frontier::Cluster)
    }

    fn state(&mut self, nodes: bool) -> State {
        let [from, to] = self.run(nodes);
        let day = |day: i64| format!("2026-01-{}", day + 10);
        let cursor = (self.below(2) == 0).then(|| day(5));
        let cuts = (0..self.below(3)).map(|n| day(4 - n)).collect();
        let backlog = (self.below(3) > 0).then_some(Backlog { from, to: to.clone(), cursor, cuts });
        State { frontier: to, candidate: None, backlog }
    }
}

fn stamps() -> Vec<i64> {
    let ids = || (0..14).chain([SOURCE - 1]);
    let lines = (-1..4).flat_map(|group| [group * GROUP, group * GROUP + SOURCE]);
    lines.flat_map(|base| ids().map(move |id| base + id)).chain([i64::MIN, i64::MAX]).collect()
}

#[test]
fn text_and_sets_agree() {
    let mut random = Random(1);
    for n in 0..300 {
        let [from, to] = random.run(n % 3 > 0);
        let texts = [sql::merged(PREFIX, &to), sql::unmerged(PREFIX, &to), sql::new(PREFIX, &from, &to)];
        let sets = [merged(&to), unmerged(&to), new(&from, &to)];
        for (text, set) in texts.iter().zip(&sets) {
            let condition = Condition::of(text);
            for stamp in stamps() {
                assert_eq!(condition.holds((stamp, None)), Some(set.contains(stamp)), "{stamp} {text}");
            }
        }
    }
}

/// Rows of a backlog are merged by their time: of those before the cursor none, and of the others all.
fn is_merged(state: &State, (stamp, at): Row) -> bool {
    let left = |b: &Backlog| {
        let early = b.cursor.as_deref().is_none_or(|c| at.is_none_or(|at| at < number(c)));
        b.stamps().contains(stamp) && early
    };
    merged(&state.frontier).contains(stamp) && !state.backlog.as_ref().is_some_and(left)
}

fn rows() -> impl Iterator<Item = Row> {
    let days = [None, Some(9), Some(12), Some(13), Some(14), Some(15), Some(16)];
    stamps().into_iter().flat_map(move |stamp| days.map(|day| (stamp, day)))
}

#[test]
fn rows_of_a_backlog_are_merged_piece_by_piece() {
    let mut random = Random(2);
    for n in 0..60 {
        let mut state = random.state(n % 3 > 0);
        loop {
            let (yes, no) = (merged_rows(PREFIX, TIME, &state), unmerged_rows(PREFIX, TIME, &state));
            let (yes, no) = (Condition::of(&yes), Condition::of(&no));
            let (for_certain, maybe_not) = (state.merged(), state.unmerged());
            for row in rows() {
                let merged = is_merged(&state, row);
                assert_eq!(yes.holds(row), Some(merged), "{row:?} {:?}", yes.0);
                assert_eq!(no.holds(row).unwrap_or_default(), !merged, "{row:?} {:?}", no.0);
                assert!(merged || maybe_not.contains(row.0), "{row:?} {state:?}");
                assert!(merged || !for_certain.contains(row.0), "{row:?} {state:?}");
            }
            let Some(b) = state.backlog.take() else { break };
            let next = Condition::of(&piece(PREFIX, TIME, &b));
            let before = State { backlog: Some(b.clone()), ..state.clone() };
            state.backlog = b.advance();
            for row in rows() {
                let comes = is_merged(&state, row) && !is_merged(&before, row);
                assert_eq!(next.holds(row).unwrap_or_default(), comes, "{row:?} {:?}", next.0);
            }
        }
    }
}

/// What a statement that reads the state itself finds in the columns of the state, in its place.
fn with_state(text: &str, state: &State) -> String {
    let list = |s: Option<&Snapshot>| {
        s.map_or("'NULL[]'".into(), |s| {
            let ids: Vec<String> = s.xip.iter().map(i64::to_string).collect();
            format!("'{{{}}}'", ids.join(","))
        })
    };
    let number = |n: Option<i64>| n.map_or("NULL".into(), |n| n.to_string());
    let first = |s: Option<&Snapshot>| s.and_then(|s| s.xip.first().copied());
    let seen = state.server();
    let [from, to] = match &state.backlog {
        Some(b) => [b.from.server(), b.to.server()],
        None => [None, None],
    };
    let xmax = |s: Option<&Snapshot>| s.map(|s| s.xmax);
    let cursor = state.backlog.as_ref().and_then(|b| b.cursor.clone());
    let mut text = text.to_string();
    for (column, value) in [
        ("coalesce(backlog_from_xip[1], backlog_from_xmax)", number(first(from).or(xmax(from)))),
        ("backlog_cursor", cursor.unwrap_or("NULL".into())),
        ("seen_xmax", number(xmax(seen))),
        ("seen_xip[1]", number(first(seen))),
        ("seen_xip", list(seen)),
        ("backlog_from_xmax", number(xmax(from))),
        ("backlog_from_xip", list(from)),
        ("backlog_to_xmax", number(xmax(to))),
        ("backlog_to_xip", list(to)),
    ] {
        let read = format!("(SELECT {column} FROM rollup.definition d WHERE d.id OPERATOR(pg_catalog.=) 7)");
        text = text.replace(&format!("({read} AT TIME ZONE 'UTC')"), &value).replace(&read, &value);
    }
    text
}

#[test]
fn statements_that_read_the_state_find_the_same() {
    let mut random = Random(3);
    for _ in 0..100 {
        let state = random.state(false);
        let text = Condition::of(&with_state(&current::unmerged_rows(PREFIX, TIME, 7), &state));
        let seen = Condition::of(&with_state(&current::unmerged(PREFIX, 7), &state));
        // The last stamp there is stands for no end, and is no transaction's.
        for row in rows().filter(|(stamp, _)| *stamp < i64::MAX) {
            let found = text.holds(row).unwrap_or_default();
            assert_eq!(found, !is_merged(&state, row), "{row:?} {:?}", text.0);
            assert_eq!(seen.holds(row).unwrap_or_default(), unmerged(&state.frontier).contains(row.0));
        }
    }
}

#[test]
fn the_text() {
    let at = |xmax, xip: &[i64]| Snapshot { xmax, xip: xip.to_vec() };
    let [seen, now] = [at(105, &[103]), at(107, &[105])].map(Frontier::Server);
    let short = |text: String| {
        let text = operators(&text).replace("::pg_catalog.int8", "").replace(STAMP, "s");
        text.replace("::pg_catalog.timestamp", "::timestamp")
    };
    assert_eq!(
        sql::unmerged("n.", &seen),
        "(n.rollup_stamp OPERATOR(pg_catalog.>=) 105::pg_catalog.int8 OR n.rollup_stamp OPERATOR(pg_catalog.=) ANY ('{103}'::pg_catalog.int8[]))"
    );
    assert_eq!(
        short(sql::new("", &seen, &now)),
        "(s >= 105 OR s = ANY ('{103}'[])) AND (s < 107 AND s <> ALL ('{105}'[]))"
    );
    assert_eq!(short(sql::merged("", &Frontier::begin())), "(s < 0)");

    let node = |seen, safe| Node { seen, safe, ..Node::default() };
    let nodes = |n: Node| Frontier::Cluster(Nodes::from([(1, n)]));
    let (old, new) = (nodes(node(at(105, &[103]), at(90, &[]))), nodes(node(at(107, &[105]), at(90, &[]))));
    assert_eq!(
        short(sql::new("", &old, &new)),
        "((s >= '281474976710759' AND s < '281474976710763' AND (s >= '281474976710761' OR s = ANY ('{281474976710759}'[])) AND s <> ALL ('{281474976710761}'[])))"
    );
    assert_eq!(
        short(sql::unmerged("", &new)),
        "((s >= '-9223372036854775808' AND s <= '281474976710655') OR (s >= '281474976710763' AND s <= '422212465065983') OR (s >= '422212465066074' AND s <= '562949953421311') OR (s >= '562949953421312' AND s <= '9223372036854775807') OR s = ANY ('{281474976710761}'[]))"
    );
    let nothing = Frontier::Cluster(Nodes::new());
    assert_eq!(sql::merged("e.", &nothing), "e.rollup_stamp IS NULL");
    assert_eq!(sql::new("", &nothing, &nothing), "false");

    let zoned = Time { column: "a\"t", zoned: true };
    let b = Backlog { from: Frontier::begin(), to: seen.clone(), cursor: Some("x'y".into()), cuts: vec![] };
    let state = State { frontier: seen, candidate: None, backlog: Some(b) };
    assert_eq!(
        short(merged_rows("", zoned, &state)),
        "((s < 105 AND s <> ALL ('{103}'[])) AND NOT ((s >= 0) AND (s < 105 AND s <> ALL ('{103}'[])) AND (\"a\"\"t\" < ('x''y'::timestamp AT TIME ZONE 'UTC') OR \"a\"\"t\" IS NULL)))"
    );
    assert_eq!(sql::literal("a\\b"), " E'a\\\\b'");
}
