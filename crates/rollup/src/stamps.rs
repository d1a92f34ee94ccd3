//! Sets of stamps.

/// A set of stamps, as ranges: first and last.
///
/// Invariant: the ranges are in order, and between two of them lies at least one stamp that is not in the set. So equal sets
/// have equal ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamps {
    ranges: Vec<(i64, i64)>,
}

impl Stamps {
    /// No stamp.
    pub const NONE: Stamps = Stamps { ranges: Vec::new() };

    /// Every stamp.
    pub fn all() -> Stamps {
        Stamps::range(i64::MIN, i64::MAX)
    }

    /// The stamps from `first` to `last`, both included; none where `last` is less.
    pub fn range(first: i64, last: i64) -> Stamps {
        Stamps { ranges: if first <= last { vec![(first, last)] } else { Vec::new() } }
    }

    /// What lies in any of these ranges, which may come in any order and overlap.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (i64, i64)>) -> Stamps {
        let mut all: Vec<(i64, i64)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        all.sort_unstable();
        Stamps { ranges: joined(all.into_iter()) }
    }

    /// The same of ranges that come in order.
    pub(crate) fn in_order(ranges: impl Iterator<Item = (i64, i64)>) -> Stamps {
        Stamps { ranges: joined(ranges.filter(|(first, last)| first <= last)) }
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[(i64, i64)] {
        &self.ranges
    }

    /// Whether there is no stamp in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a stamp is in it.
    pub fn contains(&self, stamp: i64) -> bool {
        self.meets(stamp, stamp)
    }

    /// Whether a stamp from `first` to `last`, both included, is in it.
    pub fn meets(&self, first: i64, last: i64) -> bool {
        let at = self.ranges.partition_point(|(_, end)| *end < first);
        first <= last && self.ranges.get(at).is_some_and(|(begin, _)| *begin <= last)
    }

    /// What is in one of the two.
    pub fn union(&self, other: &Stamps) -> Stamps {
        let (mut a, mut b) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let in_order = std::iter::from_fn(|| match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x <= y => a.next().copied(),
            (_, Some(_)) => b.next().copied(),
            _ => a.next().copied(),
        });
        Stamps { ranges: joined(in_order) }
    }

    /// What is in both.
    pub fn intersect(&self, other: &Stamps) -> Stamps {
        let (mut a, mut b) = (self.ranges.as_slice(), other.ranges.as_slice());
        let mut both = Vec::new();
        while let ([(first_a, last_a), rest_a @ ..], [(first_b, last_b), rest_b @ ..]) = (a, b) {
            let (first, last) = ((*first_a).max(*first_b), (*last_a).min(*last_b));
            if first <= last {
                both.push((first, last));
            }
            if last_a <= last_b {
                a = rest_a;
            } else {
                b = rest_b;
            }
        }
        Stamps { ranges: both }
    }

    /// What is not in it.
    pub fn complement(&self) -> Stamps {
        let mut gaps = Vec::with_capacity(self.ranges.len() + 1);
        let mut from = Some(i64::MIN);
        for (first, last) in &self.ranges {
            if let Some(begin) = from.filter(|begin| begin < first) {
                gaps.push((begin, first - 1));
            }
            from = last.checked_add(1);
        }
        gaps.extend(from.map(|begin| (begin, i64::MAX)));
        Stamps { ranges: gaps }
    }

    /// What is in it and not in `other`.
    pub fn minus(&self, other: &Stamps) -> Stamps {
        let mut others = other.ranges.as_slice();
        let mut left = Vec::with_capacity(self.ranges.len());
        for (first, last) in &self.ranges {
            let mut from = Some(*first);
            while let (Some(begin), [(taken, end), rest @ ..]) = (from, others) {
                if taken > last {
                    break;
                }
                if begin < *taken {
                    left.push((begin, taken - 1));
                }
                if end > last {
                    from = None;
                    break;
                }
                from = end.checked_add(1).map(|next| next.max(begin));
                others = rest;
            }
            left.extend(from.filter(|begin| begin <= last).map(|begin| (begin, *last)));
        }
        Stamps { ranges: left }
    }
}

/// Ranges in order of their beginning, with those in one that overlap or follow each other.
fn joined(ranges: impl Iterator<Item = (i64, i64)>) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    for (first, last) in ranges {
        match all.last_mut() {
            Some((_, end)) if end.checked_add(1).is_none_or(|next| first <= next) => *end = (*end).max(last),
            _ => all.push((first, last)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under Miri some of the sets do.
    const STEP: usize = if cfg!(miri) { 11 } else { 1 };

    /// Every set of a few stamps, at both ends of what there is and in the middle, by the bits of a number.
    fn set(bits: u32, at: &[i64]) -> Stamps {
        let chosen = at.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0);
        Stamps::from_ranges(chosen.map(|(_, stamp)| (*stamp, *stamp)))
    }

    #[test]
    fn operations_are_those_of_sets() {
        for at in [
            [0, 1, 2, 3, 4, 5],
            [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX],
            [-7, -5, -4, 0, 9, 11],
        ] {
            for a in (0..64).step_by(STEP) {
                let x = set(a, &at);
                assert_eq!(x.complement().complement(), x);
                assert_eq!(x.union(&x.complement()), Stamps::all());
                assert!(x.intersect(&x.complement()).is_empty());
                for b in (0..64).step_by(STEP) {
                    let y = set(b, &at);
                    assert_eq!(x.union(&y), set(a | b, &at));
                    assert_eq!(x.intersect(&y), set(a & b, &at));
                    assert_eq!(x.minus(&y), set(a & !b, &at));
                    assert_eq!(x.is_empty(), a == 0);
                }
                for (n, stamp) in at.iter().enumerate() {
                    assert_eq!(x.contains(*stamp), a & (1 << n) != 0);
                    for (m, last) in at.iter().enumerate().skip(n) {
                        assert_eq!(x.meets(*stamp, *last), (n..=m).any(|i| a & (1 << i) != 0));
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let stamps =
            Stamps::from_ranges([(5, 9), (1, 2), (3, 3), (7, 12), (20, 19), (14, i64::MAX), (15, 16)]);
        assert_eq!(stamps.ranges(), [(1, 3), (5, 12), (14, i64::MAX)]);
        assert!(!stamps.meets(4, 4) && !stamps.meets(13, 13) && stamps.meets(4, 5) && !stamps.meets(5, 4));
        assert_eq!(stamps.complement().ranges(), [(i64::MIN, 0), (4, 4), (13, 13)]);
        assert_eq!(Stamps::NONE.complement(), Stamps::all());
    }
}
