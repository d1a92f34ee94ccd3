//! Buckets of levels, over random times: a group of a level is made of whole groups of a finer one.
use hll_rollup::{Bucket, Level, Verdict, verdict};

const CASES: usize = match (cfg!(miri), cfg!(debug_assertions)) {
    (true, _) => 200,
    (_, true) => 20_000,
    _ => 200_000,
};
const DAY: i64 = 86_400_000_000;
/// Microseconds from 1970 to a Monday's midnight.
const MONDAY: i64 = 4 * DAY;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z ^ (z >> 29)
    }

    fn below(&mut self, limit: i64) -> i64 {
        (self.next() % limit as u64) as i64
    }
}

/// Year and month of a day since 1970, in the calendar that PostgreSQL goes by, and the first day of a month.
fn month_of(day: i64) -> i64 {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (year + era * 400) * 12 + month + 2
}

fn first_day(month: i64) -> i64 {
    let (year, month) = ((month - 2).div_euclid(12), (month - 2).rem_euclid(12));
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 - 719_468
}

/// Where the bucket of a moment begins, in UTC.
fn begin(bucket: Bucket, at: i64) -> i64 {
    match bucket {
        Bucket::Unknown => at,
        Bucket::Fixed { length, offset, .. } => at - (at - MONDAY - offset).rem_euclid(length),
        Bucket::Months(months) => {
            let month = month_of(at.div_euclid(DAY));
            first_day(month - month.rem_euclid(i64::from(months))) * DAY
        }
    }
}

fn any_bucket(random: &mut Random) -> Bucket {
    let minutes = [1, 2, 5, 7, 10, 15, 30, 45, 60, 90, 120, 360, 720];
    let days = [1, 2, 3, 7, 14, 30];
    match random.below(3) {
        0 => {
            let length = minutes[random.below(13) as usize] * 60_000_000;
            let offset =
                if random.below(2) == 0 { 0 } else { random.below(length / 60_000_000) * 60_000_000 };
            Bucket::Fixed { length, offset, absolute: random.below(2) == 0 }
        }
        1 => Bucket::Fixed { length: days[random.below(6) as usize] * DAY, offset: 0, absolute: true },
        _ => Bucket::Months([1, 2, 3, 4, 6, 12, 24, 120][random.below(8) as usize]),
    }
}

/// The buckets of a level, which is told its length.
fn any_level(random: &mut Random) -> Bucket {
    loop {
        let length = match random.below(3) {
            0 => Bucket::of_level(0, 0, (1 + random.below(800)) * 60_000_000),
            1 => Bucket::of_level(0, 1 + random.below(40) as i32, 0),
            _ => Bucket::of_level(1 + random.below(130) as i32, 0, 0),
        };
        if let Ok(bucket) = length {
            return bucket;
        }
    }
}

#[test]
fn the_calendar() {
    for (day, month) in [
        (0, 1970 * 12),
        (31, 1970 * 12 + 1),
        (-1, 1969 * 12 + 11),
        (11_016, 2000 * 12 + 1),
        (11_017, 2000 * 12 + 2),
    ] {
        assert_eq!(month_of(day), month, "{day}");
    }
    for month in [0, 1970 * 12, 2000 * 12 + 1, 2024 * 12 + 2] {
        assert_eq!(month_of(first_day(month)), month);
        assert_eq!(month_of(first_day(month) - 1), month - 1);
    }
}

/// Merging groups of a finer level gives the groups of the rows themselves.
#[test]
fn buckets_that_nest_do_so_at_every_moment() {
    let mut random = Random(1);
    let mut nested = 0;
    for _ in 0..CASES {
        let (fine, coarse) = (any_bucket(&mut random), any_level(&mut random));
        if !fine.nests_in(coarse, true) {
            continue;
        }
        nested += 1;
        for _ in 0..8 {
            // From the year 1 to the year 4000, and moments next to where a bucket begins.
            let at = random.below(1_460_000 * DAY) - 719_162 * DAY;
            for at in [at, begin(coarse, at), begin(coarse, at) - 1] {
                assert_eq!(begin(coarse, begin(fine, at)), begin(coarse, at), "{fine:?} {coarse:?} {at}");
            }
        }
    }
    assert!(nested > CASES / 20, "{nested}");
}

/// Keys of some of the letters; None: all.
fn any_keys(random: &mut Random) -> Option<Vec<String>> {
    match random.below(9) {
        8 => None,
        // All three are no keys that are dropped.
        set => Some((0..3).filter(|n| ((set % 7) >> n) & 1 == 1).map(|n| KEYS[n].to_string()).collect()),
    }
}

const KEYS: [&str; 3] = ["a", "b", "c"];

/// Levels as a rollup has them: finest first, and of the same buckets those with the most keys.
fn any_levels(random: &mut Random) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for _ in 0..random.below(7) {
        let again = levels.last().filter(|_| random.below(3) == 0).map(|l| l.bucket);
        let bucket = again.unwrap_or_else(|| any_level(random));
        levels.push(Level {
            name: String::new(),
            target: String::new(),
            bucket,
            expression: "$1".into(),
            utc: true,
            keys: any_keys(random),
        });
    }
    levels.sort_by_key(|l| (l.bucket.shortest(), -(l.keys.as_ref().map_or(4, Vec::len) as i64)));
    levels
}

/// The level that another is merged from lies inside it, in time and by keys, and none between the two does.
#[test]
fn each_level_is_merged_from_the_longest_inside() {
    let mut random = Random(2);
    let (mut own, mut finer, mut of_its_length) = (0, 0, 0);
    for _ in 0..CASES {
        let levels = any_levels(&mut random);
        for at in 0..levels.len() {
            let all = |n: usize| levels[n].keys.clone().unwrap_or_else(|| KEYS.map(String::from).to_vec());
            let inside = |n: &usize| {
                let (fine, coarse) = (levels[*n].bucket, levels[at].bucket);
                (fine == coarse || fine.nests_in(coarse, true)) && all(at).iter().all(|k| all(*n).contains(k))
            };
            let from = Level::finer(&levels, at);
            assert_eq!(from, (0..at).filter(inside).max(), "{levels:?} {at}");
            of_its_length += usize::from(from.is_some_and(|n| levels[n].bucket == levels[at].bucket));
            *(if from.is_some() { &mut finer } else { &mut own }) += 1;
        }
    }
    let least = CASES / 10;
    assert!(own > least && finer > least && of_its_length > least, "{own} {finer} {of_its_length}");
}

/// Groups of rows by time and keys, each with how many rows it has.
type Groups = std::collections::BTreeMap<(i64, Vec<Option<i64>>), i64>;

/// Groups as a level has them: its buckets, its keys alone.
fn of_level(level: &Level, groups: &Groups) -> Groups {
    let mut made = Groups::new();
    for ((at, keys), rows) in groups {
        let kept = KEYS.iter().zip(keys).map(|(name, key)| key.filter(|_| level.has_key(name)));
        *made.entry((begin(level.bucket, *at), kept.collect())).or_default() += rows;
    }
    made
}

/// Levels that are made one of another, each run's groups of the next finer one's, hold what the rows give that came so far.
#[test]
fn levels_that_drop_keys_hold_what_the_rows_give() {
    let mut random = Random(4);
    let (mut compared, mut narrowed) = (0, 0);
    let minute = Bucket::of_unit("minute");
    for _ in 0..CASES / 100 {
        let mut levels = any_levels(&mut random);
        levels.retain(|l| minute.nests_in(l.bucket, true) || minute == l.bucket);
        let mut stored: Vec<Groups> = levels.iter().map(|_| Groups::new()).collect();
        let mut rows = Groups::new();
        for _ in 0..3 {
            let mut delta = Groups::new();
            for _ in 0..random.below(30) {
                // NULL is a key as any other.
                let key = |random: &mut Random| Some(random.below(3)).filter(|k| *k > 0);
                let keys: Vec<Option<i64>> = (0..3).map(|_| key(&mut random)).collect();
                let at = random.below(400 * DAY);
                *rows.entry((at, keys.clone())).or_default() += 1;
                *delta.entry((begin(minute, at), keys)).or_default() += 1;
            }
            let mut deltas: Vec<Groups> = Vec::new();
            for (at, level) in levels.iter().enumerate() {
                let from = Level::finer(&levels, at).map_or(&delta, |finer| &deltas[finer]);
                deltas.push(of_level(level, from));
            }
            for (stored, delta) in stored.iter_mut().zip(deltas) {
                delta.into_iter().for_each(|(group, rows)| *stored.entry(group).or_default() += rows);
            }
            for (level, stored) in levels.iter().zip(&stored) {
                assert_eq!(*stored, of_level(level, &rows), "{level:?}");
                compared += 1;
                narrowed += usize::from(level.keys.is_some());
            }
        }
    }
    assert!(compared > CASES / 100 && narrowed > CASES / 200, "{compared} {narrowed}");
}

/// Of transactions some were counted and some were not, and nobody has changed other rows: what is said of each is so.
#[test]
fn a_verdict_is_never_wrong() {
    let mut random = Random(3);
    let mut told = 0;
    for _ in 0..CASES {
        let came: Vec<(i64, i64)> = (0..1 + random.below(6)).map(|who| (who, 1 + random.below(40))).collect();
        let new: Vec<bool> = came.iter().map(|_| random.below(2) == 0).collect();
        let raw = came.iter().map(|(_, rows)| rows).sum::<i64>() + random.below(100);
        let missing: i64 = came.iter().zip(&new).filter(|(_, new)| **new).map(|((_, rows), _)| rows).sum();
        for ((who, _), new) in came.iter().zip(&new) {
            let said = verdict(raw - missing, raw, &came, *who);
            let right = if *new { Verdict::New } else { Verdict::Counted };
            assert!(said == right || said == Verdict::Unknown, "{came:?} {who} {said:?}");
            told += usize::from(said == right);
        }
    }
    assert!(told > CASES, "{told}");
}
