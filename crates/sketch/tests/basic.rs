//! Values known from postgresql-hll.

use hll_sketch::{Error, Estimator, Heap, Params, Sketch, murmur3};

#[test]
fn hashes() {
    assert_eq!(murmur3::hash_i32(0, 0), -3485513579396041028);
    assert_eq!(murmur3::hash_i64(0, 0), 2945182322382062539);
    assert_eq!(murmur3::hash_i64(0, -1), -8352849679461500862);
    assert_eq!(murmur3::hash(b"A", 0), 243126998722523514);
    assert_eq!(murmur3::hash(&[0], 0), 5048724184180415669);
    assert_eq!(murmur3::hash(b"", 0), 0);
    assert_eq!(murmur3::hash(&7i32.to_le_bytes(), 5), murmur3::hash_i32(7, 5));
    assert_eq!(murmur3::hash(&7i64.to_le_bytes(), 5), murmur3::hash_i64(7, 5));
}

#[test]
fn headers() {
    let empty = |params: Params| Sketch::empty(params, Heap).encode(-1);
    assert_eq!(empty(Params::DEFAULT), [0x11, 0x8b, 0x7f]);
    assert_eq!(empty(Params::new(11, 5, 256, 1).unwrap()), [0x11, 0x8b, 0x49]);
    assert_eq!(empty(Params::new(11, 5, 0, 0).unwrap()), [0x11, 0x8b, 0x00]);
    for params in [Params::DEFAULT, Params::new(10, 4, 64, 0).unwrap(), Params::new(17, 7, 0, 1).unwrap()] {
        assert_eq!(Params::from_typmod(params.to_typmod()), params);
    }
}

#[test]
fn sparse_until_full_is_smaller() {
    let params = Params::new(11, 5, 0, 1).unwrap();
    let mut sketch = Sketch::empty(params, Heap);
    (0..639).for_each(|index| sketch.add(index | 1 << 11));
    assert_eq!(sketch.encode(-1)[0], 0x13);
    sketch.add(639 | 1 << 11);
    assert_eq!(sketch.encode(-1)[0], 0x14);
}

#[test]
fn padding_is_no_entry() {
    let mut sketch = Sketch::empty(Params::new(4, 2, 0, 1).unwrap(), Heap);
    [16, 17, 18].into_iter().for_each(|hash| sketch.add(hash));
    let stored = sketch.encode(-1);
    assert_eq!(stored, [0x13, 0x24, 0x40, 0x04, 0x52, 0x40]);
    let back = Sketch::decode(&stored, Heap).unwrap();
    assert_eq!(back.to_state_bytes(), sketch.to_state_bytes());
}

#[test]
fn wide_registers_have_a_classic_estimate() {
    for regwidth in [6, 7] {
        let mut sketch = Sketch::empty(Params::new(11, regwidth, 0, 1).unwrap(), Heap);
        (0..1_000_000).for_each(|value| sketch.add(murmur3::hash_i64(value, 0)));
        for estimator in [Estimator::Classic, Estimator::Improved] {
            let estimate = sketch.cardinality(estimator).unwrap().unwrap();
            assert!((estimate / 1e6 - 1.0).abs() < 0.08, "{estimator:?} {estimate}");
        }
    }
}

#[test]
fn printing() {
    let mut sketch = Sketch::empty(Params::DEFAULT, Heap);
    assert_eq!(sketch.print(), "EMPTY, nregs=2048, nbits=5, expthresh=-1(160), sparseon=1");
    sketch.add(-7);
    let expected =
        "EXPLICIT, 1 elements, nregs=2048, nbits=5, expthresh=-1(160), sparseon=1:\n0:                   -7 ";
    assert_eq!(sketch.print(), expected);
}

#[test]
fn bad_bytes() {
    let read = |bytes: &[u8]| Sketch::decode(bytes, Heap).map(|sketch| sketch.print()).unwrap_err();
    assert_eq!(read(&[]), Error::Version(0));
    assert_eq!(read(&[0x11]), Error::EmptySize);
    assert_eq!(read(&[0x15, 0x8b, 0x7f]), Error::UnknownType);
    assert_eq!(read(&[0x14, 0x8b, 0x7f, 0]), Error::FullSize);
    assert_eq!(read(&[0x13, 0x8b, 0x7f, 0]), Error::SparsePadding);
    assert_eq!(read(&[0x11, 0xeb, 0x7f]), Error::Regwidth);
    assert_eq!(read(&[0x11, 0x92, 0x7f]), Error::Log2m);
    let mut twice = vec![0x12, 0x8b, 0x7f];
    twice.extend([0; 16]);
    assert!(read(&twice).to_string().starts_with("duplicate or descending explicit elements: EXPLICIT, 2"));
}
