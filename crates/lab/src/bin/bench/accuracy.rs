//! Bias and root mean square error of both estimators at log2m 11, regwidth 5: 1,000 sketches a point.
use hll_lab::Outcome;
use hll_sketch::{Estimator, Heap, Params, Sketch, murmur3};

use hll_lab::figures::{Cell, figure, row, table};

const TRIALS: i64 = 1000;
const POINTS: [i64; 14] =
    [200, 500, 1000, 2000, 3000, 4000, 4750, 5000, 5250, 5500, 6000, 8000, 20_000, 100_000];

/// Prints the table.
pub fn run() -> Outcome<()> {
    let mut errors = [[(0.0, 0.0); 2]; POINTS.len()];
    for trial in 0..TRIALS {
        let mut sketch = Sketch::empty(Params::DEFAULT, Heap);
        let mut added = 0;
        for (point, sums) in POINTS.iter().zip(&mut errors) {
            while added < *point {
                added += 1;
                sketch.add(murmur3::hash_i64(trial << 32 | added, 0));
            }
            for (sum, estimator) in sums.iter_mut().zip([Estimator::Improved, Estimator::Classic]) {
                let estimate = sketch.cardinality(estimator)?.ok_or("an estimate")?;
                let error = estimate / *point as f64 - 1.0;
                sum.0 += error;
                sum.1 += error * error;
            }
        }
    }
    table(
        "Error of the estimate in percent, 1,000 sketches of each size (log2m 11, regwidth 5)",
        &["distinct", "improved: bias", "RMSE", "classic: bias", "RMSE"],
    );
    for (point, sums) in POINTS.iter().zip(errors) {
        let [improved, classic] = sums.map(|(bias, square)| {
            let (bias, square) = (bias / TRIALS as f64 * 100.0, (square / TRIALS as f64).sqrt() * 100.0);
            [figure(bias, 2).signed(), figure(square, 2)]
        });
        row([[figure(*point as f64, 0)].as_slice(), &improved, &classic]
            .concat()
            .into_iter()
            .map(Cell::from));
    }
    Ok(())
}
