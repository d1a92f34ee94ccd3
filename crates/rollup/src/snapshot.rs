//! Snapshots.
use serde::{Deserialize, Serialize};

/// Which transactions had not finished at a moment, by their 64-bit ids.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Ids at or above had not finished.
    pub xmax: i64,
    /// Ids below `xmax` that had not finished, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xip: Vec<i64>,
}

impl Snapshot {
    /// Whether transaction `x` had finished.
    pub fn finished(&self, x: i64) -> bool {
        x < self.xmax && self.xip.binary_search(&x).is_err()
    }

    /// Whether every transaction that had finished in `older` has finished here.
    pub fn contains(&self, older: &Snapshot) -> bool {
        older.xmax <= self.xmax && self.xip.iter().all(|&x| !older.finished(x))
    }

    /// The snapshot with `offset` added to every id.
    pub fn shift(mut self, offset: i64) -> Snapshot {
        self.xmax += offset;
        self.xip.iter_mut().for_each(|x| *x += offset);
        self
    }

    /// The snapshot with transaction `own` counted as running: a transaction is not in its own snapshot, and its rows so far
    /// and its rows to come must be merged together, later.
    pub fn hide(mut self, own: Option<i64>) -> Snapshot {
        if let Some(x) = own.filter(|&x| x < self.xmax)
            && let Err(at) = self.xip.binary_search(&x)
        {
            self.xip.insert(at, x);
        }
        self
    }

    /// Both: what had finished in one of them.
    pub fn join(&self, other: &Snapshot) -> Snapshot {
        let (low, high) = if self.xmax <= other.xmax { (self, other) } else { (other, self) };
        let xip = high.xip.iter().copied().filter(|&x| !low.finished(x)).collect();
        Snapshot { xmax: high.xmax, xip }
    }
}

#[cfg(test)]
mod tests {
    use super::Snapshot;

    #[test]
    fn own_transaction_is_hidden() {
        let s = Snapshot { xmax: 10, xip: vec![4] }.hide(Some(7));
        assert_eq!(s.xip, vec![4, 7]);
        assert!(!s.finished(7) && s.finished(8) && !s.finished(10));
        assert_eq!(s.clone().hide(Some(10)).hide(None), s);
    }

    #[test]
    fn containment_is_growth() {
        let old = Snapshot { xmax: 10, xip: vec![4, 7] };
        assert!(Snapshot { xmax: 12, xip: vec![7, 11] }.contains(&old));
        assert!(!Snapshot { xmax: 12, xip: vec![5] }.contains(&old));
        assert!(!Snapshot { xmax: 9, xip: vec![] }.contains(&old));
    }

    #[test]
    fn joined_is_what_had_finished_in_either() {
        let (a, b) = (Snapshot { xmax: 10, xip: vec![4, 7] }, Snapshot { xmax: 8, xip: vec![2, 4] });
        let both = a.join(&b);
        assert_eq!(both, b.join(&a));
        for x in 0..12 {
            assert_eq!(both.finished(x), a.finished(x) || b.finished(x), "{x}");
        }
    }
}
