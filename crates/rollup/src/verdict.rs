//! Whether rows that came to a source in another way were counted, told from numbers of rows alone.

/// As many transactions of one group as every choice of them is tried.
const MOST: usize = 16;

/// What became of the rows that one transaction has brought to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They were not counted.
    New,
    /// They were counted.
    Counted,
    /// It cannot be told.
    Unknown,
}

/// What stands for rows that were changed since the last run, in the place of who brought them: newcomers may be among
/// them, and cannot be told from others.
pub const CHANGED: i64 = i64::MAX;

/// Of a group that has `stored` rows in the rollup and `raw` in the source, of which each of `came` has brought so many:
/// what became of those that `one` has brought.
///
/// Where one choice of `came`, and no other, gives the number of rows that the rollup does not have, these are new. Of those
/// that were CHANGED it can be told that they were counted, where the others alone give the number.
pub fn verdict(stored: i64, raw: i64, came: &[(i64, i64)], one: i64) -> Verdict {
    let all = came.iter().fold(0i64, |all, (_, rows)| all.saturating_add(*rows));
    let missing = raw.saturating_sub(stored);
    if missing == 0 {
        return Verdict::Counted;
    }
    if missing == all {
        return if one == CHANGED { Verdict::Counted } else { Verdict::New };
    }
    if missing < 0 || missing > all || came.len() > MOST {
        return Verdict::Unknown;
    }
    let mut chosen = None;
    for choice in 0u32..1 << came.len() {
        let chosen_rows =
            came.iter().enumerate().filter(|(n, _)| choice & 1 << n != 0).map(|(_, (_, rows))| rows);
        let rows = chosen_rows.fold(0i64, |all, rows| all.saturating_add(*rows));
        if rows == missing {
            if chosen.is_some() {
                return Verdict::Unknown;
            }
            chosen = Some(choice);
        }
    }
    match (chosen, came.iter().position(|(who, _)| *who == one)) {
        (Some(choice), Some(n)) if choice & 1 << n != 0 => Verdict::New,
        (Some(_), Some(_)) => Verdict::Counted,
        (Some(_), None) if one == CHANGED => Verdict::Counted,
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Counted, New, Unknown};
    use super::{CHANGED, verdict};

    #[test]
    fn a_group_is_judged_by_its_number_of_rows() {
        let one = [(7, 100)];
        assert_eq!(verdict(50, 150, &one, 7), New, "never counted");
        assert_eq!(verdict(150, 150, &one, 7), Counted, "moved");
        assert_eq!(verdict(0, 100, &one, 7), New, "a group that was not there");
        assert_eq!(verdict(140, 150, &one, 7), Unknown, "rows were deleted, or changed");
        assert_eq!(verdict(160, 150, &one, 7), Unknown, "more were counted than there are");
        assert_eq!(verdict(-(1 << 62), 150, &one, 7), Unknown, "nobody knows how many were counted");
    }

    #[test]
    fn several_are_told_apart_where_one_choice_alone_gives_the_number() {
        let two = [(7, 100), (9, 30)];
        assert_eq!((verdict(150, 180, &two, 7), verdict(150, 180, &two, 9)), (Counted, New));
        assert_eq!((verdict(80, 180, &two, 7), verdict(80, 180, &two, 9)), (New, Counted));
        assert_eq!((verdict(50, 180, &two, 7), verdict(50, 180, &two, 9)), (New, New));
        let same = [(7, 100), (9, 100)];
        assert_eq!((verdict(150, 250, &same, 7), verdict(150, 250, &same, 9)), (Unknown, Unknown));
        let many: Vec<(i64, i64)> = (0..40).map(|n| (n, 1)).collect();
        assert_eq!(verdict(0, 39, &many, 3), Unknown);
        assert_eq!(verdict(0, 40, &many, 3), New);
    }

    #[test]
    fn changed_rows_are_left_out_where_the_others_do_not_give_the_number() {
        let one = [(7, 100)];
        assert_eq!(verdict(150, 150, &one, CHANGED), Counted);
        assert_eq!(verdict(50, 150, &one, CHANGED), Counted);
        assert_eq!(verdict(50, 160, &one, CHANGED), Unknown);
        assert_eq!((verdict(50, 50, &[], CHANGED), verdict(50, 60, &[], CHANGED)), (Counted, Unknown));
        let two = [(7, 100), (9, 30)];
        assert_eq!((verdict(150, 180, &two, CHANGED), verdict(140, 180, &two, CHANGED)), (Counted, Unknown));
    }
}
