//! Laws every sketch obeys, over random parameters and contents, and hostile bytes.
use hll_sketch::{
    Error, Estimator, Growing, Heap, Kind, Params, Sketch, add_to_stored, cardinality_of, murmur3, overlap,
    validate,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Small sketches, so that few elements reach every form.
fn params() -> impl Strategy<Value = Params> {
    let threshold = prop_oneof![Just(-1), Just(0), (0u32..8).prop_map(|power| 1 << power)];
    (0i64..=9, 0i64..=7, threshold, 0i64..=1)
        .prop_map(|(log2m, width, threshold, sparse)| Params::new(log2m, width, threshold, sparse).unwrap())
}

/// Hashes of a few values and, rarely, hashes no element is likely to have.
fn hashes() -> impl Strategy<Value = Vec<i64>> {
    let hash = prop_oneof![
        20 => (0i64..3000).prop_map(|value| murmur3::hash_i64(value, 0)),
        1 => (0u32..64).prop_map(|power| 1 << power),
        1 => Just(0),
    ];
    prop_oneof![vec(hash.clone(), 0..20), vec(hash, 0..600)]
}

fn sketch(params: Params, hashes: &[i64]) -> Sketch {
    let mut sketch = Sketch::empty(params, Heap);
    hashes.iter().for_each(|hash| sketch.add(*hash));
    sketch
}

/// What a sketch must hold, by the definition and with no regard to speed: the text of `hll_print`.
fn naive(params: Params, hashes: &[i64]) -> Vec<u8> {
    let distinct: BTreeSet<i64> = hashes.iter().copied().collect();
    let width = u32::from(params.regwidth.max(1));
    let code = match params.expthresh {
        -1 => 63,
        0 => 0,
        power => power.ilog2() as u8 + 1,
    };
    let header = |kind: u8| {
        let shape = (width as u8 - 1) << 5 | params.log2m;
        vec![0x10 | kind, shape, u8::from(params.sparseon) << 6 | code]
    };
    if distinct.is_empty() {
        return header(1);
    }
    if distinct.len() <= params.explicit_threshold() {
        let mut bytes = header(2);
        bytes.extend(distinct.iter().flat_map(|hash| hash.to_be_bytes()));
        return bytes;
    }
    let mut registers = vec![0u64; params.registers()];
    for hash in distinct {
        let rest = hash as u64 >> params.log2m;
        let rank = if rest == 0 { 0 } else { u64::from(rest.trailing_zeros()) + 1 };
        let register = &mut registers[hash as usize % params.registers()];
        *register = (*register).max(rank.min((1 << width) - 1));
    }
    let filled = registers.iter().filter(|value| **value != 0).count();
    let sparse = filled as u32 * (u32::from(params.log2m) + width) < params.registers() as u32 * width;
    let mut bits = String::new();
    for (index, value) in registers.iter().enumerate() {
        if !(params.sparseon && sparse) {
            bits += &format!("{value:0width$b}", width = width as usize);
        } else if *value != 0 {
            let chunk = (index as u64) << width | value;
            bits += &format!("{chunk:0width$b}", width = usize::from(params.log2m) + width as usize);
        }
    }
    let mut bytes = header(if params.sparseon && sparse { 3 } else { 4 });
    for byte in bits.as_bytes().chunks(8) {
        let text = format!("{:0<8}", std::str::from_utf8(byte).unwrap());
        bytes.push(u8::from_str_radix(&text, 2).unwrap());
    }
    bytes
}

/// Reads bytes in every way there is; all agree on whether they are a sketch, and none panics.
fn read_every_way(bytes: &[u8]) {
    let decoded = Sketch::decode(bytes, Heap);
    assert_eq!(decoded.as_ref().err(), validate(bytes).as_ref().err());
    for estimator in [Estimator::Improved, Estimator::Classic] {
        let direct = cardinality_of(bytes, estimator);
        match &decoded {
            Ok(sketch) => {
                let estimate = sketch.cardinality(estimator);
                assert_eq!(format!("{direct:?}"), format!("{estimate:?}"));
            }
            Err(_) => assert_eq!(direct.as_ref().err(), decoded.as_ref().err()),
        }
    }
    let mut standard = sketch(Params::DEFAULT, &[1, 2, 3]);
    let before = standard.print();
    if standard.union_bytes(bytes).is_err() {
        assert_eq!(standard.print(), before);
    }
    let _ = Sketch::from_state_bytes(bytes, Heap);
    for (hash, max_sparse) in [(0, -1), (1 << 20, -1), (77, 3), (-5 << 11, 700), (3 << 40 | 5, -1)] {
        let mut direct = vec![7];
        let added = add_to_stored(bytes, hash, max_sparse, &mut direct);
        match Sketch::decode(bytes, Heap) {
            Ok(mut sketch) if sketch.params().check_addable().is_ok() => {
                sketch.add(hash);
                assert_eq!(direct[1..], sketch.encode(max_sparse));
            }
            _ => assert!(added.is_err() && direct == [7]),
        }
    }
    if let Ok(read) = decoded {
        let written = read.encode(-1);
        assert_eq!(Sketch::decode(&written, Heap).unwrap().print(), read.print());
        let mut united = Sketch::empty(read.params(), Heap);
        united.union_bytes(bytes).unwrap();
        assert_eq!(united.print(), read.print());
        united.add(99);
        united.union_bytes(bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_grows_is_the_same_sketch(params in params(), parts in vec(hashes(), 1..4), read in 0usize..50) {
        let mut whole = Growing::new(Sketch::empty(params, Heap));
        let mut all = Vec::new();
        for part in parts {
            let mut grown = Growing::new(Sketch::empty(params, Heap));
            for (n, hash) in part.iter().enumerate() {
                grown.add(*hash);
                if n % 50 == read {
                    prop_assert_eq!(grown.sketch().encode(-1), sketch(params, &part[..=n]).encode(-1));
                }
            }
            whole.union(&grown).unwrap();
            all.extend(part);
            prop_assert_eq!(whole.sketch().encode(-1), naive(params, &all));
        }
    }

    #[test]
    fn adding_follows_the_definition(params in params(), hashes in hashes()) {
        prop_assert_eq!(sketch(params, &hashes).encode(-1), naive(params, &hashes));
    }

    #[test]
    fn what_is_written_reads_back(params in params(), hashes in hashes(), max_sparse in -1i32..40) {
        let sketch = sketch(params, &hashes);
        let bytes = sketch.encode(max_sparse);
        let header = validate(&bytes).unwrap();
        prop_assert!(bytes.len() <= sketch.max_encoded_len());
        if header.kind == Kind::Sparse && max_sparse >= 0 {
            prop_assert!(params.sparseon);
        }
        let again = Sketch::decode(&bytes, Heap).unwrap();
        prop_assert_eq!(again.print(), sketch.print());
        prop_assert_eq!(again.encode(max_sparse), bytes.clone());
        read_every_way(&bytes);
        let state = sketch.to_state_bytes();
        let moved = Sketch::from_state_bytes(&state, Heap).unwrap();
        prop_assert_eq!(moved.params(), params);
        prop_assert_eq!(moved.print(), sketch.print());
        for cut in [1, 8, 12] {
            prop_assert!(Sketch::from_state_bytes(&state[..state.len().saturating_sub(cut)], Heap).is_err()
                || moved.kind() == Kind::Explicit);
        }
    }

    #[test]
    fn union_is_of_sets(params in params(), a in hashes(), b in hashes(), c in hashes()) {
        let [sa, sb, sc] = [&a, &b, &c].map(|hashes| sketch(params, hashes));
        let join = |x: &Sketch, y: &Sketch| {
            let mut joined = Sketch::decode(&x.encode(-1), Heap).unwrap();
            joined.union(y).unwrap();
            let mut direct = Sketch::decode(&x.encode(-1), Heap).unwrap();
            direct.union_bytes(&y.encode(0)).unwrap();
            assert_eq!(joined.print(), direct.print());
            joined
        };
        let both = join(&sa, &sb);
        prop_assert_eq!(both.print(), join(&sb, &sa).print());
        prop_assert_eq!(join(&both, &both).print(), both.print());
        prop_assert_eq!(join(&both, &sc).print(), join(&sa, &join(&sb, &sc)).print());
        prop_assert_eq!(join(&both, &Sketch::empty(params, Heap)).print(), both.print());
        // A sketch of both lists is the union of their sketches.
        prop_assert_eq!(both.print(), sketch(params, &[a, b].concat()).print());
        prop_assert_eq!(join(&both, &Sketch::undefined(params, Heap)).kind(), Kind::Undefined);
    }

    #[test]
    fn order_and_repetition_do_not_matter(params in params(), hashes in hashes()) {
        let mut reordered = hashes.clone();
        reordered.reverse();
        reordered.extend(&hashes);
        prop_assert_eq!(sketch(params, &reordered).encode(-1), sketch(params, &hashes).encode(-1));
    }

    #[test]
    fn one_more_in_stored_form_is_one_more(
        values in vec(0i64..100_000, 0..2500),
        more in vec(0i64..100_000, 1..30),
        width in 4i64..=6,
        threshold in prop_oneof![Just(-1), Just(0), Just(512)],
        max_sparse in prop_oneof![Just(-1), Just(0), 1i32..900],
    ) {
        let params = Params::new(16 - width.max(5), width, threshold, 1).unwrap();
        let hash = |value: &i64| murmur3::hash_i64(*value, 0);
        let mut whole = sketch(params, &values.iter().map(hash).collect::<Vec<_>>());
        let mut stored = whole.encode(max_sparse);
        for value in more.iter().chain(&values[..values.len().min(10)]) {
            whole.add(hash(value));
            let mut next = Vec::new();
            add_to_stored(&stored, hash(value), max_sparse, &mut next).unwrap();
            stored = next;
            prop_assert_eq!(&stored, &whole.encode(max_sparse));
        }
    }

    #[test]
    fn folding_is_building_with_fewer_registers(params in params(), hashes in hashes(), fewer in 0u8..=9) {
        // A hash that ends in its index leaves no trace in a register, so none can be folded.
        let hashes: Vec<i64> = hashes.into_iter().filter(|hash| *hash as u64 >> params.log2m != 0).collect();
        let wide = sketch(params, &hashes);
        let folded = wide.folded(fewer, Heap);
        if fewer > params.log2m {
            prop_assert_eq!(folded.err(), Some(Error::FoldUp { from: params.log2m, to: fewer }));
        } else {
            let mut direct = sketch(Params { log2m: fewer, ..params }, &hashes);
            let folded = folded.unwrap();
            if wide.kind() == Kind::Registers {
                // What has become registers stays registers, whatever the smaller threshold.
                direct = sketch(Params { log2m: fewer, expthresh: 0, ..params }, &hashes);
                prop_assert_eq!(&folded.encode(-1)[3..], &direct.encode(-1)[3..]);
            } else {
                prop_assert_eq!(folded.encode(-1), direct.encode(-1));
            }
            prop_assert_eq!(folded.filled(), direct.filled());
        }
    }

    #[test]
    fn overlaps_are_never_negative(params in params(), a in hashes(), b in hashes()) {
        let (a, b) = (sketch(params, &a), sketch(params, &b));
        let there = overlap(&a, &b).unwrap().unwrap();
        let back = overlap(&b, &a).unwrap().unwrap();
        for part in [there.left, there.right, there.both] {
            prop_assert!(part >= 0.0, "{there:?}");
        }
        prop_assert!((0.0..=1.0).contains(&there.jaccard()));
        let near = |x: f64, y: f64| x == y || (x - y).abs() <= 0.02 * x.max(y) + 0.05;
        prop_assert!(near(there.union(), back.union()) && near(there.both, back.both), "{there:?} {back:?}");
    }

    #[test]
    fn random_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..80)) {
        read_every_way(&bytes);
    }

    #[test]
    fn random_bodies_are_read_or_refused(kind in 0u8..5, shape: u8, rest: u8, body in vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![0x10 | kind, shape, rest];
        bytes.extend(body);
        read_every_way(&bytes);
    }

    #[test]
    fn damaged_values_are_read_or_refused(
        params in params(),
        hashes in hashes(),
        max_sparse in -1i32..400,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let sketch = sketch(params, &hashes);
        for mut bytes in [sketch.encode(max_sparse), sketch.to_state_bytes()] {
            read_every_way(&bytes[..cut.index(bytes.len())]);
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            read_every_way(&bytes);
        }
    }

    #[test]
    fn type_modifiers_read_back(params in params()) {
        prop_assert_eq!(Params::from_typmod(params.to_typmod()), params);
        prop_assert!(params.check_same(&params).is_ok());
    }
}

#[test]
fn every_shape_of_full_value_is_exact() {
    // Each width and size, with every register random: pack and unpack against the definition.
    for log2m in 0..=12 {
        for width in 1..=7 {
            let params = Params::new(log2m, width, 0, 0).unwrap();
            let hashes: Vec<i64> = (0..4i64 << log2m)
                .map(|value| murmur3::hash_i64(value, log2m as i32) << (value % 3))
                .collect();
            let bytes = naive(params, &hashes);
            assert_eq!(sketch(params, &hashes).encode(-1), bytes);
            let mut united = sketch(params, &hashes[..hashes.len() / 2]);
            united.union_bytes(&bytes).unwrap();
            assert_eq!(united.encode(-1), bytes, "{params:?}");
            assert_eq!(Sketch::decode(&bytes, Heap).unwrap().encode(-1), bytes, "{params:?}");
        }
    }
}
