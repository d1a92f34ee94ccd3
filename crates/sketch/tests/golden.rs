//! postgresql-hll's own vectors: the same inputs must give the same bytes, hashes and classic estimates.

use std::io::Read;
use std::path::PathBuf;

use hll_sketch::{Estimator, Heap, Sketch, cardinality_of, murmur3};

/// The rows of a file without its heading, or nothing (and a note) when the vectors are not at hand.
fn rows(name: &str) -> Vec<Vec<String>> {
    let folder = std::env::var_os("HLL_GOLDEN").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/postgresql-hll")
    });
    let path = folder.join(format!("{name}.csv.gz"));
    let Ok(file) = std::fs::File::open(&path) else {
        println!("skipped: {} is not there", path.display());
        return Vec::new();
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("the vectors are gzipped text");
    text.lines().skip(1).map(|line| line.split(',').map(|field| field.trim().to_owned()).collect()).collect()
}

fn hex(field: &str) -> Vec<u8> {
    let digits = field.trim_start_matches("\\x");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn check_cardinality(stored: &[u8], field: &str, line: usize) {
    let expected: f64 = field.parse().unwrap();
    let got = cardinality_of(stored, Estimator::Classic).unwrap().unwrap();
    // At saturation the classic estimate is no number, and stays so.
    if expected.is_nan() {
        assert!(got.is_nan(), "row {line}: {got} is not {expected}");
        return;
    }
    // The files were written by another implementation, whose logarithm may differ in the last place.
    assert!((got - expected).abs() <= expected * 1e-14, "row {line}: {got} is not {expected}");
}

fn cumulative_add(name: &str, max_sparse: i32) {
    let mut sketch: Option<Sketch> = None;
    for (line, row) in rows(name).iter().enumerate() {
        let expected = hex(&row[2]);
        check_cardinality(&expected, &row[0], line);
        match &mut sketch {
            None => sketch = Some(Sketch::decode(&expected, Heap).unwrap()),
            Some(sketch) => {
                sketch.add(row[1].parse().unwrap());
                assert_eq!(sketch.encode(max_sparse), expected, "row {line}");
            }
        }
    }
}

fn cumulative_union(name: &str, max_sparse: i32) {
    let mut unions: Option<[Sketch; 2]> = None;
    for (line, row) in rows(name).iter().enumerate() {
        let (part, expected) = (hex(&row[1]), hex(&row[3]));
        check_cardinality(&part, &row[0], line);
        check_cardinality(&expected, &row[2], line);
        match &mut unions {
            None => unions = Some([(); 2].map(|()| Sketch::decode(&expected, Heap).unwrap())),
            Some([by_bytes, by_sketch]) => {
                by_bytes.union_bytes(&part).unwrap();
                by_sketch.union(&Sketch::decode(&part, Heap).unwrap()).unwrap();
                assert_eq!(by_bytes.encode(max_sparse), expected, "row {line}");
                assert_eq!(by_sketch.encode(max_sparse), expected, "row {line}");
            }
        }
    }
}

macro_rules! vectors {
    ($($name:ident: $check:ident($max_sparse:expr);)*) => {
        $(#[test]
        fn $name() {
            $check(stringify!($name), $max_sparse);
        })*
    };
}

vectors! {
    cumulative_add_cardinality_correction: cumulative_add(0);
    cumulative_add_comprehensive_promotion: cumulative_add(512);
    cumulative_add_sparse_edge: cumulative_add(512);
    cumulative_add_sparse_random: cumulative_add(-1);
    cumulative_add_sparse_step: cumulative_add(-1);
    cumulative_union_comprehensive: cumulative_union(-1);
    cumulative_union_explicit_explicit: cumulative_union(-1);
    cumulative_union_explicit_promotion: cumulative_union(512);
    cumulative_union_probabilistic_probabilistic: cumulative_union(-1);
    cumulative_union_sparse_full_representation: cumulative_union(512);
    cumulative_union_sparse_promotion: cumulative_union(512);
    cumulative_union_sparse_sparse: cumulative_union(-1);
}

#[test]
fn murmur_bigint() {
    for row in rows("murmur_bigint") {
        let seed = row[0].parse::<i64>().unwrap() as i32;
        let (value, expected): (i64, i64) = (row[1].parse().unwrap(), row[2].parse().unwrap());
        assert_eq!(murmur3::hash_i64(value, seed), expected);
        assert_eq!(murmur3::hash(&value.to_le_bytes(), seed), expected);
    }
}

#[test]
fn murmur_bytea() {
    for row in rows("murmur_bytea") {
        let seed = row[0].parse::<i64>().unwrap() as i32;
        assert_eq!(murmur3::hash(&hex(&row[1]), seed), row[2].parse::<i64>().unwrap());
    }
}
