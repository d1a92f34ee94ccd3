//! Pieces of time in which changes wait for a run.

/// A first and a last moment, in microseconds since 2000.
pub type Piece = (i64, i64);

/// What lies below is taken for the infinity, and what ends there ends here: moments beside it can be computed.
const LOW: i64 = -2_000 * 31_556_952_000_000;
const HIGH: i64 = 287_000 * 31_556_952_000_000;
const MINUTE: i64 = 60_000_000;

fn early(at: i64, before: i64) -> i64 {
    let at = at.saturating_sub(before);
    if at < LOW { i64::MIN } else { at.min(HIGH) }
}

fn late(at: i64, after: i64) -> i64 {
    let at = at.saturating_add(after);
    if at > HIGH { i64::MAX } else { at.max(LOW) }
}

/// As few pieces as `most`, which have all that `pieces` have and what lies between those that lie nearest to each other.
pub fn merged(mut pieces: Vec<Piece>, most: usize) -> Vec<Piece> {
    pieces.sort_unstable();
    let mut out: Vec<Piece> = Vec::new();
    for (from, to) in pieces {
        match out.last_mut() {
            Some((_, end)) if from <= end.saturating_add(MINUTE) => *end = to.max(*end),
            _ => out.push((from, to)),
        }
    }
    if out.len() <= most {
        return out;
    }
    let gap = |pair: &[Piece]| pair[1].0.saturating_sub(pair[0].1);
    let mut gaps: Vec<i64> = out.windows(2).map(gap).collect();
    gaps.sort_unstable_by_key(|gap| std::cmp::Reverse(*gap));
    // Gaps that are as long as the last that stays may be closed, too.
    let least = gaps[most - 1];
    let mut few: Vec<Piece> = Vec::new();
    for (from, to) in out {
        match few.last_mut() {
            Some((_, end)) if from.saturating_sub(*end) <= least => *end = to,
            _ => few.push((from, to)),
        }
    }
    few
}

/// Between which bounds, the first of each pair within and the second without, buckets lie in which times of the pieces do:
/// they are `width` long at most, and begin up to `slack` after their first row.
pub fn buckets(pieces: &[Piece], width: i64, slack: i64) -> Vec<i64> {
    let wide = pieces
        .iter()
        .map(|(from, to)| (early(*from, width.saturating_add(slack)), late(*to, slack.saturating_add(1))))
        .collect();
    merged(wide, usize::MAX).into_iter().flat_map(|(from, to)| [from, to]).collect()
}

/// Where rows of these buckets lie.
pub fn rows(pieces: &[Piece], width: i64, slack: i64, most: usize) -> Vec<Piece> {
    let margin = width.saturating_add(slack.saturating_mul(2));
    let wide = pieces.iter().map(|(from, to)| (early(*from, margin), late(*to, margin))).collect();
    merged(wide, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pieces_have_all() {
        let many: Vec<Piece> = vec![
            (0, 10),
            (5, 7),
            (MINUTE * 9, MINUTE * 10),
            (MINUTE * 30, MINUTE * 31),
            (i64::MAX, i64::MAX),
        ];
        assert_eq!(merged(many.clone(), 9).len(), 4);
        assert_eq!(
            merged(many.clone(), 3),
            [(0, MINUTE * 10), (MINUTE * 30, MINUTE * 31), (i64::MAX, i64::MAX)]
        );
        assert_eq!(merged(many.clone(), 1), [(0, i64::MAX)]);
        assert_eq!(buckets(&[(100, 200), (i64::MIN, 50)], 10, 0), [i64::MIN, 201]);
        assert_eq!(buckets(&[(MINUTE * 100, MINUTE * 101)], MINUTE, 5), [MINUTE * 99 - 5, MINUTE * 101 + 6]);
        assert_eq!(rows(&[(MINUTE * 100, i64::MAX)], MINUTE, 0, 3), [(MINUTE * 99, i64::MAX)]);
        let ends = [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)];
        assert_eq!(buckets(&ends, MINUTE, 0), [i64::MIN, LOW, HIGH, i64::MAX]);
        assert_eq!(rows(&ends, MINUTE, 0, 3), [(i64::MIN, LOW), (HIGH, i64::MAX)]);
        assert_eq!(
            merged(vec![(0, 0), (MINUTE * 9, MINUTE * 9), (MINUTE * 18, MINUTE * 18)], 2),
            [(0, MINUTE * 18)]
        );
    }
}
