//! What must hold for every sketch and for any bytes.

use std::collections::BTreeSet;

use hll_sketch::{Estimator, Heap, Params, Sketch, cardinality_of, validate};
use proptest::collection::vec;
use proptest::prelude::*;

fn params() -> impl Strategy<Value = Params> {
    let threshold = prop_oneof![Just(-1), Just(0), (0..9u32).prop_map(|bits| 1i64 << bits)];
    (0..=12i64, 1..=7i64, threshold, 0..=1i64).prop_map(|(log2m, regwidth, threshold, sparse)| {
        Params::new(log2m, regwidth, threshold, sparse).unwrap()
    })
}

/// Hashes with many duplicates, zeros in all places, and both signs.
fn hashes() -> impl Strategy<Value = Vec<i64>> {
    vec(
        prop_oneof![any::<i64>(), -20..20i64, (0..63u32, any::<i64>()).prop_map(|(by, hash)| hash << by)],
        0..400,
    )
}

fn build(params: Params, hashes: &[i64]) -> Sketch {
    let mut sketch = Sketch::empty(params, Heap);
    hashes.iter().for_each(|&hash| sketch.add(hash));
    sketch
}

/// The stored form spelled out bit by bit.
fn oracle(params: Params, hashes: &[i64]) -> Vec<u8> {
    let distinct: BTreeSet<i64> = hashes.iter().copied().collect();
    let (p, w) = (usize::from(params.log2m), usize::from(params.regwidth));
    let mut registers = vec![0u8; 1 << p];
    for &hash in &distinct {
        let bits: Vec<bool> = (0..64).map(|bit| hash >> bit & 1 == 1).collect();
        let index: usize = (0..p).map(|bit| usize::from(bits[bit]) << bit).sum();
        if let Some(first) = bits[p..].iter().position(|&bit| bit) {
            registers[index] = registers[index].max((first + 1).min((1 << w) - 1) as u8);
        }
    }
    let flags = |kind: u8| {
        let threshold = match params.expthresh {
            -1 => 63,
            0 => 0,
            given => given.ilog2() as u8 + 1,
        };
        vec![
            0x10 + kind,
            (params.regwidth - 1) * 32 + params.log2m,
            u8::from(params.sparseon) * 64 + threshold,
        ]
    };
    if distinct.is_empty() {
        return flags(1);
    }
    if distinct.len() <= params.explicit_threshold() {
        return flags(2).into_iter().chain(distinct.iter().flat_map(|hash| hash.to_be_bytes())).collect();
    }
    let filled: Vec<(usize, u8)> =
        registers.iter().copied().enumerate().filter(|&(_, register)| register > 0).collect();
    let sparse = params.sparseon && filled.len() * (p + w) < registers.len() * w;
    let bits: String = if sparse {
        filled
            .iter()
            .map(|&(index, value)| format!("{:0n$b}", index << w | usize::from(value), n = p + w))
            .collect()
    } else {
        registers.iter().map(|value| format!("{value:0w$b}")).collect()
    };
    let bytes = bits
        .as_bytes()
        .chunks(8)
        .map(|byte| byte.iter().enumerate().map(|(at, &bit)| (bit - b'0') << (7 - at)).sum::<u8>());
    flags(if sparse { 3 } else { 4 }).into_iter().chain(bytes).collect()
}

/// Everything that reads foreign bytes; returns whether they were accepted.
fn read_everything(bytes: &[u8]) -> bool {
    let accepted = validate(bytes).is_ok();
    for estimator in [Estimator::Improved, Estimator::Classic] {
        let _ = cardinality_of(bytes, estimator);
    }
    match Sketch::decode(bytes, Heap) {
        Ok(sketch) => {
            assert!(accepted);
            let mut empty = Sketch::empty(*sketch.params(), Heap);
            empty.union_bytes(bytes).unwrap();
            assert_eq!(empty.to_state_bytes(), sketch.to_state_bytes());
            empty.union_bytes(bytes).unwrap();
            empty.add(3);
            let stored = empty.encode(-1);
            assert!(validate(&stored).is_ok());
            let _ = sketch.print();
        }
        Err(error) => {
            assert!(!accepted);
            assert!(Sketch::empty(Params::DEFAULT, Heap).union_bytes(bytes).is_err(), "{error}");
        }
    }
    accepted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn adding_matches_the_oracle(params in params(), hashes in hashes()) {
        prop_assert_eq!(build(params, &hashes).encode(-1), oracle(params, &hashes));
    }

    #[test]
    fn forms_round_trip(params in params(), hashes in hashes(), max_sparse in -1..600i32) {
        let sketch = build(params, &hashes);
        let state = sketch.to_state_bytes();
        let stored = Sketch::decode(&sketch.encode(max_sparse), Heap).unwrap();
        prop_assert_eq!(&stored.to_state_bytes(), &state);
        prop_assert_eq!(&Sketch::from_state_bytes(&state, Heap).unwrap().to_state_bytes(), &state);
        prop_assert_eq!(Params::from_typmod(params.to_typmod()), params);
    }

    #[test]
    fn union_is_adding_everything(params in params(), a in hashes(), b in hashes()) {
        let (left, right) = (build(params, &a), build(params, &b));
        let both = build(params, &[a, b].concat()).encode(-1);
        let mut ab = Sketch::decode(&left.encode(-1), Heap).unwrap();
        ab.union(&right).unwrap();
        let mut ba = Sketch::decode(&right.encode(-1), Heap).unwrap();
        ba.union_bytes(&left.encode(-1)).unwrap();
        prop_assert_eq!(ab.encode(-1), both.clone());
        prop_assert_eq!(ba.encode(-1), both.clone());
        ab.union(&ba).unwrap();
        prop_assert_eq!(ab.encode(-1), both);
    }

    #[test]
    fn any_bytes_are_safe(
        bytes in vec(any::<u8>(), 0..80), kind in 0..6u8, log2m in 0..20u8, width in 0..8u8,
    ) {
        read_everything(&bytes);
        let mut shaped = vec![0x10 | kind, width << 5 | log2m];
        shaped.extend(&bytes);
        read_everything(&shaped);
        let _ = Sketch::from_state_bytes(&bytes, Heap);
    }

    #[test]
    fn mutated_bytes_are_safe(
        params in params(), hashes in hashes(), at in any::<prop::sample::Index>(), with in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut stored = build(params, &hashes).encode(-1);
        prop_assert!(read_everything(&stored));
        let at = at.index(stored.len());
        stored[at] ^= with;
        read_everything(&stored);
        stored.truncate(cut.index(stored.len()));
        read_everything(&stored);
        let mut state = build(params, &hashes).to_state_bytes();
        let at = at % state.len();
        state[at] ^= with;
        if let Ok(sketch) = Sketch::from_state_bytes(&state, Heap) {
            let _ = (sketch.encode(-1), sketch.cardinality(Estimator::Improved));
        }
    }
}
