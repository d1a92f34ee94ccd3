use hll_ddsketch::*;
use std::hint::black_box;
fn cpu() -> f64 { std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse::<f64>().unwrap() }
fn ns(steps: usize, mut f: impl FnMut()) -> f64 { let mut v: Vec<f64> = (0..21).map(|_| { let s = cpu(); f(); (cpu() - s) / steps as f64 }).collect(); v.sort_by(f64::total_cmp); println!("   min {:.1}", v[0]); v[10] }
fn main() {
    let mut seed = 88172645463325252u64;
    let mut u = move || { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; (seed >> 11) as f64 / (1u64 << 53) as f64 };
    let values: Vec<f64> = (0..1_000_000).map(|_| { let n = (0..12).map(|_| u()).sum::<f64>() - 6.0; ((n * 1.5).exp() * 245.0).clamp(1.0, 60000.0) }).collect();
    let mut s = DdSketch::new(5, Heap).unwrap();
    println!("add {:.2}", ns(1_000_000, || for v in &values { let _ = black_box(s.add(*v)); }));
    println!("index {:.2}", ns(1_000_000, || for v in &values { black_box(index_of(*v, 5)); }));
    let of = |n: i32| { let mut s = DdSketch::new(5, Heap).unwrap(); for i in 0..n { s.add_times(20.0 * (f64::from(i) * 0.02166).exp(), i64::from(1 + i % 150)).unwrap(); } s };
    let one = of(300); let bytes = one.encode(); let mut w = of(300);
    println!("bytes {}", bytes.len());
    println!("union_bytes {:.0}", ns(10000, || for _ in 0..10000 { w.union_bytes(black_box(&bytes)).unwrap(); }));
    println!("decode {:.0}", ns(10000, || for _ in 0..10000 { black_box(DdSketch::decode(black_box(&bytes), Heap).unwrap()); }));
    println!("union {:.0}", ns(10000, || for _ in 0..10000 { w.union(black_box(&one)).unwrap(); }));
    println!("encode {:.0}", ns(10000, || for _ in 0..10000 { black_box(one.encode()); }));
    println!("quantile {:.0}", ns(10000, || for _ in 0..10000 { black_box(one.quantile(0.9)).unwrap(); }));
    println!("sum {:.0}", ns(10000, || for _ in 0..10000 { black_box(one.sum()); }));
}
