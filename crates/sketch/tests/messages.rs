//! The texts and classes of errors are part of the contract: clients of postgresql-hll match on them.
use hll_sketch::{Class, Error, Header, Heap, Params, Sketch, validate};

#[track_caller]
fn refused(result: Result<impl Sized, Error>, class: Class, text: &str) {
    let error = result.err().expect("should be refused");
    assert_eq!(error.to_string(), text);
    assert_eq!(error.class(), class);
}

#[test]
fn parameters() {
    let refused = |log2m, width, threshold, sparse, text| {
        refused(Params::new(log2m, width, threshold, sparse), Class::InvalidParameter, text);
    };
    refused(18, 5, -1, 1, "log2m modifier must be between 0 and 17");
    refused(-1, 9, -9, 9, "log2m modifier must be between 0 and 17");
    refused(11, 8, -1, 1, "regwidth modifier must be between 0 and 7");
    refused(11, 5, 16384, 1, "expthresh modifier must be between -1 and 16383");
    refused(11, 5, -2, 1, "expthresh modifier must be between -1 and 16383");
    refused(11, 5, 123, 1, "expthresh modifier must be power of 2");
    refused(11, 5, -1, 2, "sparseon modifier must be 0 or 1");
    let threshold = |log2m, width, given| Params::new(log2m, width, given, 1).unwrap().explicit_threshold();
    assert_eq!(
        [(11, 5), (12, 5), (10, 5), (5, 5), (4, 5), (2, 5)].map(|(m, w)| threshold(m, w, -1)),
        [160, 320, 80, 2, 1, 0]
    );
    assert_eq!([threshold(17, 7, -1), threshold(11, 5, 0), threshold(11, 5, 8192)], [14336, 0, 8192]);
}

#[test]
fn unequal_parameters() {
    let declared = Params::new(10, 4, 64, 0).unwrap();
    let check = |log2m, width, threshold, sparse, text| {
        let incoming = Params::new(log2m, width, threshold, sparse).unwrap();
        refused(declared.check_same(&incoming), Class::Data, text);
        let mut sketch = Sketch::empty(declared, Heap);
        refused(sketch.union(&Sketch::undefined(incoming, Heap)), Class::Data, text);
        refused(sketch.union_bytes(&Sketch::empty(incoming, Heap).encode(-1)), Class::Data, text);
    };
    check(11, 5, -1, 1, "register width does not match: source uses 5 and dest uses 4");
    check(11, 4, -1, 1, "register count does not match: source uses 2048 and dest uses 1024");
    check(10, 4, -1, 1, "explicit threshold does not match: source uses -1 and dest uses 64");
    check(10, 4, 64, 1, "sparse enable does not match: source uses 1 and dest uses 0");
}

#[test]
fn stored_values() {
    let data = |bytes: &[u8], text| refused(validate(bytes), Class::Data, text);
    data(b"", "undefined multiset type");
    data(b"\x21\x8b\x7f", "unknown schema version 2");
    data(b"\x15\x8b\x7f", "undefined multiset type");
    data(b"\x11\x8b\x7f\x00", "inconsistently sized empty multiset");
    data(b"\x10\x8b\x7f\x00", "undefined multiset value");
    data(b"\x12\x8b\x7f\x00", "inconsistently sized explicit multiset");
    data(b"\x13\x8b", "sparse multiset too small");
    data(b"\x13\x92\x7f", "sparse multiset too large");
    data(b"\x13\x8b\x7f\x00", "inconsistent padding in sparse hll argument");
    data(b"\x14\x8b\x7f\x00", "inconsistently sized compressed multiset");
    let with_body = |header: [u8; 3], len| [header.to_vec(), vec![0; len]].concat();
    data(&with_body([0x14, 0x92, 0x7f], 5 << 15), "compressed multiset too large");
    data(&with_body([0x12, 0x8b, 0x7f], 16384 * 8), "explicit multiset too large");
    data(
        &with_body([0x12, 0x8b, 0x7f], 16),
        "duplicate or descending explicit elements: EXPLICIT, 2 elements, nregs=2048, nbits=5, \
         expthresh=-1(160), sparseon=1:\n0:                    0 \n1:                    0 ",
    );
    let parameter = |bytes: &[u8], text| refused(validate(bytes), Class::InvalidParameter, text);
    parameter(b"\x11\x92\x00", "log2m modifier must be between 0 and 17");
    parameter(b"\x11\xeb\x7f", "regwidth modifier must be between 0 and 7");
    parameter(b"\x11\x8b\x4f", "expthresh modifier must be between -1 and 16383");
    assert!(Header::read(b"\x13\x8b\x4f").is_ok(), "registers may carry any threshold");
    let threshold = Header::read(b"\x13\x8b\x4f").unwrap().params;
    let text = "explicit threshold 16384 exceeds maximum buffer capacity 16383";
    refused(threshold.check_addable(), Class::Data, text);
    assert!(validate(b"\x13\x8b\x40").is_ok(), "no chunk at all");
    assert!(validate(b"\x12\x8b\x7f").is_ok(), "no hash at all");
}

#[test]
fn printing() {
    let mut sketch = Sketch::empty(Params::new(5, 5, -1, 1).unwrap(), Heap);
    assert_eq!(sketch.print(), "EMPTY, nregs=32, nbits=5, expthresh=-1(2), sparseon=1");
    sketch.add(-7);
    let text =
        "EXPLICIT, 1 elements, nregs=32, nbits=5, expthresh=-1(2), sparseon=1:\n0:                   -7 ";
    assert_eq!(sketch.print(), text);
    sketch.add(32);
    sketch.add(64);
    let row = format!("\n{:4}: {:2} {}{:2} {}", 0, 2, " 0 ".repeat(24), 1, " 0 ".repeat(6));
    let text = "COMPRESSED, 2 filled nregs=32, nbits=5, expthresh=-1(2), sparseon=1:";
    assert_eq!(sketch.print(), format!("{text}{row}"));
    let undefined = Sketch::undefined(Params::new(5, 5, 64, 0).unwrap(), Heap);
    assert_eq!(undefined.print(), "UNDEFINED nregs=32, nbits=5, expthresh=64, sparseon=0");
}
