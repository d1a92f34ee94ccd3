//! Any bytes, and any text, through everything that reads a sketch: what is read is written back as it was, all readers agree on
//! whether it is a sketch, and unions have no order.
#![no_main]
use hll_ddsketch::{DdSketch, Error, Exponential, Heap, Native, Spans};
use libfuzzer_sys::fuzz_target;

/// The two in either order; they agree.
fn united(a: &[u8], b: &[u8]) -> Result<Vec<u8>, Error> {
    let both = |a, b| {
        let mut sketch = DdSketch::decode(a, Heap)?;
        sketch.union_bytes(b)?;
        Ok::<_, Error>(sketch)
    };
    let (one, other) = (both(a, b), both(b, a));
    assert_eq!(one.is_ok(), other.is_ok());
    let (one, other) = (one?.encode(), other?.encode());
    assert_eq!(one, other);
    Ok(one)
}

fn ask(sketch: &DdSketch, share: f64, value: f64) {
    let _ = (sketch.quantile(share), sketch.rank(value), sketch.fraction_between(share, value));
    let _ = (sketch.trimmed_avg(share, 1.0 - share), sketch.sum(), sketch.avg());
    let buckets = sketch.buckets();
    assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), sketch.count());
    assert!(buckets.is_sorted_by(|a, b| a.upper <= b.upper));
    if let (Some(least), Some(greatest)) = (sketch.min(), sketch.max()) {
        assert!(sketch.quantile(0.5).unwrap().is_some_and(|value| least <= value && value <= greatest));
    }
}

/// What of a histogram from outside is taken is a sketch like any other.
fn outside(scale: i32, offset: i32, counts: &[i64], sum: Option<f64>, min: Option<f64>) {
    let half: Vec<i64> = counts.iter().rev().copied().collect();
    let histogram = Exponential {
        scale,
        zero_count: counts.len() as i64,
        positive_offset: offset,
        positive: counts,
        negative_offset: offset,
        negative: &half,
        sum,
        min,
        max: None,
    };
    let lengths = [counts.len() as i32 / 2, (counts.len() - counts.len() / 2) as i32];
    let spans = Spans { offsets: &[offset, 3], lengths: &lengths, deltas: counts };
    let native =
        Native { schema: scale, zero_count: 1, positive: spans, negative: Spans::default(), sum };
    for sketch in [DdSketch::from_otel(&histogram, Heap), DdSketch::from_prometheus(&native, Heap)] {
        let Ok(sketch) = sketch else { continue };
        let bytes = sketch.encode();
        assert_eq!(DdSketch::decode(&bytes, Heap).expect("what was written").encode(), bytes);
    }
}

type Input<'a> = (f64, i64, i32, Vec<i64>, Option<f64>, &'a str, &'a [u8], &'a [u8]);

fuzz_target!(|input: Input| {
    let (value, weight, scale, counts, known, text, a, b) = input;
    outside(scale, weight as i32, &counts, known, Some(value));
    if let Ok(sketch) = DdSketch::parse(text, Heap) {
        assert_eq!(DdSketch::decode(&sketch.encode(), Heap).expect("what was written").to_string(), sketch.to_string());
    }
    let mut sketch = match DdSketch::decode(a, Heap) {
        Ok(sketch) => sketch,
        Err(_) => {
            assert!(DdSketch::new(5, Heap).expect("a scale").union_bytes(a).is_err());
            return;
        }
    };
    assert_eq!(sketch.encode(), a);
    let turned = DdSketch::parse(&sketch.to_string(), Heap).expect("what was written");
    assert_eq!(turned.encode(), a);
    ask(&sketch, (weight as u8) as f64 / 255.0, value);
    let mut more = DdSketch::decode(a, Heap).expect("a sketch");
    if let (Ok(bytes), Ok(other)) = (united(a, b), DdSketch::decode(b, Heap)) {
        more.union(&other).expect("as of bytes");
        assert_eq!(more.encode(), bytes);
        // Folded before or after.
        let _ = sketch.coarsen(scale).is_ok_and(|()| {
            sketch.union(&other).expect("as before");
            more.coarsen(scale).expect("as before");
            assert_eq!(sketch.encode(), more.encode());
            true
        });
    }
    let before = sketch.count();
    if sketch.add_times(value, weight).is_ok() {
        assert_eq!(sketch.count(), before + weight as u64);
        let bytes = sketch.encode();
        assert_eq!(DdSketch::decode(&bytes, Heap).expect("what was written").encode(), bytes);
    }
});
