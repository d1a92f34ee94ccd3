//! Which rows a rollup has merged whose rows are written on several nodes: conditions on the stamp, with the state of
//! each group of nodes as constants. Each group has two ranges of stamps; groups that the state does not know have
//! none, and their rows are not merged.
use super::vector::{GROUP, Node, Nodes, SOURCE, Seen, Vector};
use crate::rollup::sql::STAMP;

fn ids(base: i64, ids: &[i64]) -> String {
    let stamps: Vec<String> = ids.iter().map(|x| (base + x).to_string()).collect();
    format!("'{{{}}}'::pg_catalog.int8[]", stamps.join(","))
}

fn compare(prefix: &str, operator: &str, value: i64) -> String {
    // Quoted: a bare minus sign would be an operator, which binds looser than the cast.
    format!("{prefix}{STAMP} OPERATOR(pg_catalog.{operator}) '{value}'::pg_catalog.int8")
}

/// The ranges of stamps of a group: where each begins, and how far it is merged.
fn ranges(group: i32, node: &Node) -> [(i64, &Seen); 2] {
    let base = i64::from(group) * GROUP;
    [(base, &node.seen), (base + SOURCE, &node.safe)]
}

fn any(parts: Vec<String>) -> String {
    if parts.is_empty() { "false".into() } else { format!("({})", parts.join(" OR ")) }
}

/// Rows that had not finished in `old` and have in `now`.
pub fn new(prefix: &str, old: &Nodes, now: &Nodes) -> String {
    let nothing = Node::default();
    let mut parts = Vec::new();
    for (group, node) in now {
        let before = old.get(group).unwrap_or(&nothing);
        for ((base, seen), (_, now)) in ranges(*group, before).into_iter().zip(ranges(*group, node)) {
            if seen.contains(now) {
                continue;
            }
            let least = seen.xip.first().copied().unwrap_or(seen.xmax).min(seen.xmax);
            // The first two conditions are a range that an index serves, whatever the rest is.
            let mut p = format!(
                "{} AND {}",
                compare(prefix, ">=", base + least),
                compare(prefix, "<", base + now.xmax)
            );
            if !seen.xip.is_empty() {
                p += &format!(
                    " AND ({} OR {prefix}{STAMP} OPERATOR(pg_catalog.=) ANY ({}))",
                    compare(prefix, ">=", base + seen.xmax),
                    ids(base, &seen.xip)
                );
            }
            if !now.xip.is_empty() {
                p += &format!(" AND {prefix}{STAMP} OPERATOR(pg_catalog.<>) ALL ({})", ids(base, &now.xip));
            }
            parts.push(format!("({p})"));
        }
    }
    any(parts)
}

/// Rows that are merged.
pub fn merged(prefix: &str, state: &Vector) -> String {
    new(prefix, &Nodes::new(), &state.nodes)
}

/// The stamps of rows that had not finished, as ranges: first and last.
pub fn rest(nodes: &Nodes) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    // Where the range before ended.
    let mut end = i64::MIN;
    for (group, node) in nodes {
        for (base, seen) in ranges(*group, node) {
            if end < base {
                found.push((end, base - 1));
            }
            found.extend(seen.xip.iter().map(|x| (base + x, base + x)));
            if seen.xmax < SOURCE {
                found.push((base + seen.xmax, base + SOURCE - 1));
            }
            end = base + SOURCE;
        }
    }
    found.push((end, i64::MAX));
    found
}

/// The stamps of `ranges` that lie in none of `others`; both are in order.
pub fn without(ranges: Vec<(i64, i64)>, others: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut left = Vec::new();
    for (first, last) in ranges {
        let mut first = Some(first);
        for (from, to) in others {
            match first {
                Some(f) if *to >= f && *from <= last => {
                    if *from > f {
                        left.push((f, from - 1));
                    }
                    first = to.checked_add(1).filter(|f| *f <= last);
                }
                _ => {}
            }
        }
        left.extend(first.map(|f| (f, last)));
    }
    left
}

/// Rows that are not merged.
pub fn unmerged(prefix: &str, state: &Vector) -> String {
    let (single, wide): (Vec<_>, Vec<_>) =
        rest(&state.nodes).into_iter().partition(|(first, last)| first == last);
    // The planner takes a range to hold few rows, and half a range to hold a third of the table.
    let range = |(first, last): (i64, i64)| {
        format!("({} AND {})", compare(prefix, ">=", first), compare(prefix, "<=", last))
    };
    let mut parts: Vec<String> = wide.into_iter().map(range).collect();
    if !single.is_empty() {
        let single: Vec<i64> = single.into_iter().map(|(x, _)| x).collect();
        parts.push(format!("{prefix}{STAMP} OPERATOR(pg_catalog.=) ANY ({})", ids(0, &single)));
    }
    any(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(list: &[(i32, i64, &[i64], i64)]) -> Vector {
        let node = |seen: i64, xip: &[i64], safe: i64| Node {
            seen: Seen { xmax: seen, xip: xip.to_vec() },
            safe: Seen { xmax: safe, xip: Vec::new() },
            ..Node::default()
        };
        Vector { nodes: list.iter().map(|(g, s, x, f)| (*g, node(*s, x, *f))).collect(), ..Vector::default() }
    }

    /// What the conditions say, read by a small evaluator of the SQL that is written here.
    fn holds(condition: &str, stamp: i64) -> bool {
        let text = condition
            .replace("::pg_catalog.int8[]", "")
            .replace("::pg_catalog.int8", "")
            .replace("OPERATOR(pg_catalog.>=)", ">=")
            .replace("OPERATOR(pg_catalog.<=)", "<=")
            .replace("OPERATOR(pg_catalog.<>)", "<>")
            .replace("OPERATOR(pg_catalog.<)", "<")
            .replace("OPERATOR(pg_catalog.=)", "=");
        let mut words = text.replace('(', " ( ").replace(')', " ) ");
        words.push(' ');
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut at = 0;
        let value = or(&words, &mut at, stamp);
        assert_eq!(at, words.len(), "{text}");
        value
    }

    fn or(w: &[&str], at: &mut usize, stamp: i64) -> bool {
        let mut value = and(w, at, stamp);
        while w.get(*at) == Some(&"OR") {
            *at += 1;
            value |= and(w, at, stamp);
        }
        value
    }

    fn and(w: &[&str], at: &mut usize, stamp: i64) -> bool {
        let mut value = one(w, at, stamp);
        while w.get(*at) == Some(&"AND") {
            *at += 1;
            value &= one(w, at, stamp);
        }
        value
    }

    fn one(w: &[&str], at: &mut usize, stamp: i64) -> bool {
        let word = w[*at];
        *at += 1;
        match word {
            "false" => false,
            "(" => {
                let value = or(w, at, stamp);
                assert_eq!(w[*at], ")");
                *at += 1;
                value
            }
            _ => {
                assert_eq!(word, STAMP);
                let operator = w[*at];
                *at += 1;
                if ["ANY", "ALL"].contains(&w[*at]) {
                    let list = w[*at + 2].trim_matches(|c| "'{}".contains(c)).split(',');
                    let has = list.map(|x| x.parse::<i64>().unwrap()).any(|x| x == stamp);
                    *at += 4;
                    return if operator == "=" { has } else { !has };
                }
                let value: i64 = w[*at].trim_matches('\'').parse().unwrap();
                *at += 1;
                match operator {
                    ">=" => stamp >= value,
                    "<=" => stamp <= value,
                    "<" => stamp < value,
                    _ => panic!("operator {operator}"),
                }
            }
        }
    }

    fn stamps() -> Vec<i64> {
        let mut all = Vec::new();
        for group in 0..4 {
            for base in [0, SOURCE] {
                all.extend((0..14).map(|x| group * GROUP + base + x));
                all.push(group * GROUP + base + SOURCE - 1);
            }
        }
        all
    }

    #[test]
    fn every_row_is_merged_by_one_of_two_runs_or_by_none() {
        let old = vector(&[(0, 8, &[3, 6], 4), (2, 5, &[], 5)]);
        let now = vector(&[(0, 12, &[6, 10], 9), (1, 3, &[2], 0), (2, 7, &[], 5)]);
        for stamp in stamps() {
            let first = holds(&merged("", &old), stamp);
            let second = holds(&new("", &old.nodes, &now.nodes), stamp);
            let both = holds(&merged("", &now), stamp);
            assert!(!(first && second), "{stamp} is merged twice");
            assert_eq!(first || second, both, "{stamp}");
            assert_eq!(holds(&unmerged("", &now), stamp), !both, "{stamp}");
            assert_eq!(holds(&unmerged("", &old), stamp), !first, "{stamp}");
        }
    }

    #[test]
    fn what_lies_between_two_moments_is_ranges_too() {
        let old = vector(&[(0, 8, &[3, 6], 4), (2, 5, &[], 5)]);
        let now = vector(&[(0, 12, &[6, 10], 9), (1, 3, &[2], 0), (2, 7, &[], 5)]);
        let between = without(rest(&old.nodes), &rest(&now.nodes));
        for stamp in stamps() {
            let inside = between.iter().any(|(first, last)| (*first..=*last).contains(&stamp));
            assert_eq!(inside, holds(&new("", &old.nodes, &now.nodes), stamp), "{stamp}");
        }
        assert!(without(rest(&now.nodes), &rest(&now.nodes)).is_empty());
        assert_eq!(without(vec![(1, 9)], &[(i64::MIN, 0), (3, 4), (9, i64::MAX)]), [(1, 2), (5, 8)]);
    }

    #[test]
    fn nothing_is_merged_at_first_and_everything_of_a_node_that_is_gone() {
        for stamp in stamps() {
            assert!(holds(&unmerged("", &Vector::default()), stamp));
            assert!(!holds(&merged("", &Vector::default()), stamp));
        }
        let mut gone = vector(&[(1, 0, &[], 0)]);
        let node = gone.nodes.get_mut(&1).unwrap();
        (node.seen, node.safe) = (Seen::all(), Seen::all());
        for stamp in stamps() {
            let of_it = stamp / GROUP == 1;
            assert_eq!(holds(&merged("", &gone), stamp), of_it, "{stamp}");
            assert_eq!(holds(&unmerged("", &gone), stamp), !of_it, "{stamp}");
        }
    }
}
