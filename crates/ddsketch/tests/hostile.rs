//! Hostile bytes and text.
mod common;

use common::{Random, of};
use hll_ddsketch::{DdSketch, Error, Heap, MAX_BUCKETS, MIN_SCALE};

/// Reads hostile bytes by all that reads any; what is read is written back as it was.
fn read(bytes: &[u8]) -> bool {
    let mut into = of(7, &[1.0, 2.0, -3.0]);
    let united = into.union_bytes(bytes);
    match DdSketch::decode(bytes, Heap) {
        Ok(sketch) => {
            assert_eq!(sketch.encode(), bytes);
            assert_eq!(DdSketch::parse(&sketch.to_string(), Heap).unwrap().encode(), bytes);
            for p in [0.0, 0.3, 1.0] {
                assert_eq!(sketch.quantile(p).unwrap().is_some(), sketch.count() > 0);
            }
            assert!(sketch.buckets().len() <= 2 * MAX_BUCKETS + 1);
            let _ = (sketch.sum(), sketch.avg(), sketch.rank(1.5), sketch.trimmed_avg(0.1, 0.9));
            assert!(united.is_ok() || united == Err(Error::TooMany));
            true
        }
        Err(_) => {
            assert!(united.is_err(), "{bytes:x?}");
            false
        }
    }
}

#[test]
fn no_bytes_do_harm_and_one_string_is_one_sketch() {
    let mut random = Random(9);
    let (mut good, mut bad) = (0, 0);
    let mut count = |read: bool| if read { good += 1 } else { bad += 1 };
    for round in 0..60_000 {
        let mut bytes = if round % 4 == 0 {
            let mut bytes: Vec<u8> = (0..random.below(60)).map(|_| random.next() as u8).collect();
            // Past the head, now and then.
            if let Some(first) = bytes.first_mut().filter(|_| round % 8 == 0) {
                *first = 0x10 | *first & 7;
            }
            bytes
        } else {
            let (scale, most) = (MIN_SCALE + random.below(15) as i32, [3, 30, 300][random.below(3)]);
            of(scale, &random.values(most)).encode()
        };
        for _ in 0..random.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes.truncate(at),
                3 => bytes.insert(at, [0, 255, 128, 1][random.below(4)]),
                _ => drop(bytes.remove(at)),
            }
        }
        count(read(&bytes));
    }
    assert!(good > 10_000 && bad > 10_000, "{good} {bad}");
    // Numbers of blocks, gaps and widths beyond all there is.
    for bytes in
        ["104500ffffffffffffffffff01", "1045000001ff", "104500c1ffffffffffffffffff0101", "1045007f01020304"]
    {
        let bytes: Vec<u8> =
            (0..bytes.len()).step_by(2).map(|n| u8::from_str_radix(&bytes[n..n + 2], 16).unwrap()).collect();
        assert!(!read(&bytes), "{bytes:x?}");
    }
}

#[test]
fn no_text_does_harm() {
    let mut random = Random(10);
    for _ in 0..20_000 {
        let mut text: Vec<u8> = of(5, &random.values(10)).to_string().into_bytes();
        for _ in 0..1 + random.below(3) {
            let at = random.below(text.len());
            text[at] = b" =:,?-x.p0123456789e"[random.below(20)];
        }
        let text = String::from_utf8(text).unwrap();
        if let Ok(sketch) = DdSketch::parse(&text, Heap) {
            assert!(read(&sketch.encode()), "{text}");
        }
    }
    for (text, what) in [
        ("", "it begins"),
        ("scale=11", "-4 to 10"),
        ("scale=5 count=2 positive=1:1", "count"),
        ("scale=5 positive=2:1,1:1", "order"),
        ("scale=5 positive=1:1 positive=1:1", "twice"),
        ("scale=5 positive=99999999:1", "order"),
        ("scale=5 min=1", "no values"),
        ("scale=5 positive=-1:1 min=7 max=7", "min or max"),
        ("scale=5 positive=-1:1 sum=0x1.p1100", "larger"),
        ("scale=5 positive=-1:1 sum=0x1.p-1075", "sum is a number"),
        ("scale=5 positive=-1:1 sum=NaN", "NaN"),
    ] {
        let error = DdSketch::parse(text, Heap).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}
