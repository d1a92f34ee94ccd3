//! The vectors published with postgresql-hll: stored bytes, cardinalities and hashes.
//!
//! They lie beside the repository, or where HLL_GOLDEN says; without them these tests are skipped.
use flate2::read::GzDecoder;
use hll_sketch::{Estimator, Heap, Params, Sketch, cardinality_of, murmur3, validate};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// `HLL_GOLDEN`, or `../shared/data/postgresql-hll` from the root of the repository.
fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/postgresql-hll");
    std::env::var_os("HLL_GOLDEN").map_or_else(beside, PathBuf::from)
}

/// Says that this test is skipped, as `hll_lab::skip` does, which a crate without PostgreSQL does not depend on.
fn skip(why: &str) {
    let line = format!("{}: {why}\n", std::thread::current().name().unwrap_or("a test"));
    match std::env::var_os("HLL_SKIPS") {
        Some(file) => {
            let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }
        None => print!("skipped: {line}"),
    }
}

/// The rows of a file without its heading.
fn rows(name: &str) -> Option<Vec<Vec<String>>> {
    let path = folder().join(format!("{name}.csv.gz"));
    let Ok(file) = File::open(&path) else {
        skip(&format!("{} is absent", path.display()));
        return None;
    };
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let rows: Vec<_> =
        text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect();
    assert!(!rows.is_empty());
    Some(rows)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().strip_prefix("\\x").unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[track_caller]
fn check_cardinality(bytes: &[u8], expected: &str) {
    let expected: f64 = expected.parse().unwrap();
    let classic = cardinality_of(bytes, Estimator::Classic).unwrap().unwrap();
    // Saturated registers have no classic estimate; the vectors print 15 digits of the others.
    let same = (classic - expected).abs() <= 1e-14 * expected;
    assert!(same || classic.is_nan() && expected.is_nan(), "{classic} is not {expected}");
    let sketch = Sketch::decode(bytes, Heap).unwrap();
    for estimator in [Estimator::Classic, Estimator::Improved] {
        let [decoded, direct] = [sketch.cardinality(estimator), cardinality_of(bytes, estimator)]
            .map(|estimate| estimate.unwrap().unwrap().to_bits());
        assert_eq!(decoded, direct);
    }
}

/// Each row is the sketch after one more element; the first row says how it begins.
fn additions(name: &str, max_sparse: i32) {
    let Some(rows) = rows(name) else { return };
    let mut sketch = Sketch::decode(&unhex(&rows[0][2]), Heap).unwrap();
    for row in &rows[1..] {
        sketch.add(row[1].parse().unwrap());
        let bytes = sketch.encode(max_sparse);
        assert_eq!(bytes, unhex(&row[2]), "{name} after {}", row[1]);
        check_cardinality(&bytes, &row[0]);
    }
}

/// Each row's union is its own sketch added to the row before's union.
fn unions(name: &str, max_sparse: i32) {
    let Some(rows) = rows(name) else { return };
    let mut union = Sketch::decode(&unhex(&rows[0][3]), Heap).unwrap();
    let mut direct = Sketch::decode(&unhex(&rows[0][3]), Heap).unwrap();
    for row in &rows[1..] {
        let (one, expected) = (unhex(&row[1]), unhex(&row[3]));
        check_cardinality(&one, &row[0]);
        union.union(&Sketch::decode(&one, Heap).unwrap()).unwrap();
        direct.union_bytes(&one).unwrap();
        assert_eq!(union.encode(max_sparse), expected, "{name}");
        assert_eq!(direct.encode(max_sparse), expected, "{name}");
        check_cardinality(&expected, &row[2]);
    }
}

#[test]
fn add_cardinality_correction() {
    additions("cumulative_add_cardinality_correction", 0);
}

#[test]
fn add_comprehensive_promotion() {
    additions("cumulative_add_comprehensive_promotion", 512);
}

#[test]
fn add_sparse_edge() {
    additions("cumulative_add_sparse_edge", 512);
}

#[test]
fn add_sparse_random() {
    additions("cumulative_add_sparse_random", -1);
}

#[test]
fn add_sparse_step() {
    additions("cumulative_add_sparse_step", -1);
}

#[test]
fn union_comprehensive() {
    unions("cumulative_union_comprehensive", -1);
}

#[test]
fn union_explicit_explicit() {
    unions("cumulative_union_explicit_explicit", -1);
}

#[test]
fn union_explicit_promotion() {
    unions("cumulative_union_explicit_promotion", 512);
}

#[test]
fn union_probabilistic_probabilistic() {
    unions("cumulative_union_probabilistic_probabilistic", -1);
}

#[test]
fn union_sparse_full_representation() {
    unions("cumulative_union_sparse_full_representation", 512);
}

#[test]
fn union_sparse_promotion() {
    unions("cumulative_union_sparse_promotion", 512);
}

#[test]
fn union_sparse_sparse() {
    unions("cumulative_union_sparse_sparse", -1);
}

#[test]
fn murmur_of_integers() {
    let Some(rows) = rows("murmur_bigint") else { return };
    for row in rows {
        let (seed, value) = (row[0].parse().unwrap(), row[1].parse::<i64>().unwrap());
        let expected: i64 = row[2].parse().unwrap();
        assert_eq!(murmur3::hash_i64(value, seed), expected);
        assert_eq!(murmur3::hash(&value.to_le_bytes(), seed), expected);
    }
}

#[test]
fn murmur_of_bytes() {
    let Some(rows) = rows("murmur_bytea") else { return };
    for row in rows {
        assert_eq!(murmur3::hash(&unhex(&row[1]), row[0].parse().unwrap()), row[2].parse().unwrap());
    }
}

#[test]
fn hashes_of_small_values() {
    assert_eq!(murmur3::hash_u8(0, 0), 5048724184180415669);
    assert_eq!(murmur3::hash_u8(1, 0), 8849112093580131862);
    assert_eq!(murmur3::hash_i16(0, 0), 3478107235931676136);
    assert_eq!(murmur3::hash_i32(0, 0), -3485513579396041028);
    assert_eq!(murmur3::hash_i32(1, 0), 0x8895_a3f5_af28_cafe_u64 as i64);
    assert_eq!(murmur3::hash_i64(0, 0), 2945182322382062539);
    assert_eq!(murmur3::hash_i64(0, -1), -8352849679461500862);
    assert_eq!(murmur3::hash(b"A", 0), 243126998722523514);
    assert_eq!(murmur3::hash(b"", 0), 0);
}

#[test]
fn headers() {
    let empty = |a, b, c, d| Sketch::empty(Params::new(a, b, c, d).unwrap(), Heap).encode(-1);
    assert_eq!(empty(11, 5, -1, 1), unhex("\\x118b7f"));
    assert_eq!(empty(11, 5, 256, 1), unhex("\\x118b49"));
    assert_eq!(empty(11, 5, 0, 0), unhex("\\x118b00"));
    // A width of 0 has no encoding; postgresql-hll wrote one it then refused to read.
    assert!(validate(&empty(11, 0, -1, 1)).is_ok());
}

#[test]
fn chunks_shorter_than_a_byte() {
    // The padding of this value reads as one more chunk, register 0 with value 0.
    let mut sketch = Sketch::empty(Params::new(4, 2, 0, 1).unwrap(), Heap);
    for hash in [16, 17, 18] {
        sketch.add(hash);
    }
    let bytes = sketch.encode(-1);
    assert_eq!(bytes, unhex("\\x132440045240"));
    assert_eq!(Sketch::decode(&bytes, Heap).unwrap().print(), sketch.print());
    assert_eq!(cardinality_of(&bytes, Estimator::Classic), sketch.cardinality(Estimator::Classic));
}

#[test]
fn of_repeated_chunks_the_last_counts() {
    let bytes = unhex("\\x138b7f00020001");
    let decoded = Sketch::decode(&bytes, Heap).unwrap();
    let mut united = Sketch::empty(decoded.params(), Heap);
    united.union_bytes(&bytes).unwrap();
    for sketch in [decoded, united] {
        assert_eq!(sketch.encode(-1), unhex("\\x138b7f0001"));
    }
    assert_eq!(
        cardinality_of(&bytes, Estimator::Improved),
        cardinality_of(&unhex("\\x138b7f0001"), Estimator::Improved)
    );
}
