//! Two values of any bytes through everything that reads stored bytes: all agree on whether they are sketches, and
//! what is written of one reads back as it.
#![no_main]
use hll_sketch::{Estimator, Heap, Sketch, add_to_stored, cardinality_of, overlap, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i64, i32, &[u8], &[u8])| {
    let (hash, max_sparse, a, b) = input;
    let _ = Sketch::from_state_bytes(a, Heap);
    let mut more = Vec::new();
    let added = add_to_stored(a, hash, max_sparse.max(-1), &mut more);
    let mut sketch = match (validate(a), Sketch::decode(a, Heap)) {
        (Ok(_), Ok(sketch)) => sketch,
        (Err(_), Err(_)) => {
            assert!(added.is_err() && more.is_empty());
            assert!(cardinality_of(a, Estimator::Improved).is_err());
            return;
        }
        (validated, _) => panic!("validated {validated:?}, decoded the opposite"),
    };
    for estimator in [Estimator::Improved, Estimator::Classic] {
        let (direct, unpacked) = (cardinality_of(a, estimator), sketch.cardinality(estimator));
        assert_eq!(format!("{direct:?}"), format!("{unpacked:?}"));
    }
    let text = sketch.print();
    let written = sketch.encode(max_sparse.max(-1));
    assert_eq!(Sketch::decode(&written, Heap).expect("what was written").print(), text);
    let moved = Sketch::from_state_bytes(&sketch.to_state_bytes(), Heap).expect("a state");
    assert_eq!(moved.print(), text);
    let _ = sketch.folded(sketch.params().log2m / 2, Heap).expect("fewer registers").print();
    if let Ok(other) = Sketch::decode(b, Heap)
        && let Ok(Some(found)) = overlap(&sketch, &other)
    {
        assert!(found.left >= 0.0 && found.right >= 0.0 && found.both >= 0.0, "{found:?}");
    }
    if sketch.params().check_addable().is_ok() {
        sketch.add(hash);
        assert_eq!(more, sketch.encode(max_sparse.max(-1)));
    }
    let before = sketch.print();
    if sketch.union_bytes(b).is_err() {
        assert_eq!(sketch.print(), before);
    }
});
