//! Pictures as SVG: bars, pairs of bars, curves, a terminal. Numbers come in, text goes out.
use std::fmt::Write as _;

const OURS: &str = "#2f6fb0";
const OTHER: &str = "#b9b9b9";
const INK: &str = "#222222";
const WIDTH: f64 = 760.0;
/// Where bars begin; their labels are before.
const LEFT: f64 = 330.0;
/// Where the longest bar ends; its number is behind.
const RIGHT: f64 = 690.0;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A picture of that size with a heading.
fn framed(width: f64, height: f64, title: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"bold\">{}</text>\n{body}</svg>\n",
        escaped(title)
    )
}

fn bar(out: &mut String, y: f64, height: f64, length: f64, colour: &str, figure: &str) {
    let (length, middle) = (length.max(1.0), y + height / 2.0 + 4.0);
    let _ = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{height}\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{middle}\">{}</text>",
        LEFT + length + 5.0,
        escaped(figure)
    );
}

fn label(out: &mut String, y: f64, text: &str) {
    let _ =
        writeln!(out, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, escaped(text));
}

/// How many times faster something is; a line marks 1.
pub fn times(title: &str, bars: &[(String, f64)]) -> String {
    let most = bars.iter().map(|(_, v)| *v).fold(1.0, f64::max);
    let scale = (RIGHT - LEFT) / most;
    let mut body = String::new();
    let end = 44.0 + bars.len() as f64 * 24.0;
    for (at, (name, value)) in bars.iter().enumerate() {
        let y = 44.0 + at as f64 * 24.0;
        label(&mut body, y + 13.0, name);
        let figure = if *value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        bar(&mut body, y, 17.0, value * scale, OURS, &figure);
    }
    let one = LEFT + scale;
    let _ = writeln!(
        body,
        "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"38\" y2=\"{end}\" stroke=\"{INK}\" stroke-dasharray=\"3 3\"/>"
    );
    framed(WIDTH, end + 12.0, title, &body)
}

/// Milliseconds of ours and of what it is compared with.
pub fn pairs(title: &str, pairs: &[(String, f64, String, f64)]) -> String {
    let most = pairs.iter().map(|(_, a, _, b)| a.max(*b)).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (RIGHT - LEFT) / most;
    let mut body = String::new();
    for (at, (name, ours, against, other)) in pairs.iter().enumerate() {
        let y = 44.0 + at as f64 * 52.0;
        label(&mut body, y + 13.0, name);
        label(&mut body, y + 33.0, against);
        bar(&mut body, y, 17.0, ours * scale, OURS, &format!("{ours:.0} ms"));
        bar(&mut body, y + 20.0, 17.0, other * scale, OTHER, &format!("{other:.0} ms"));
    }
    framed(WIDTH, 44.0 + pairs.len() as f64 * 52.0, title, &body)
}

/// One line of a diagram: its name and its points.
pub type Curve = (String, Vec<(f64, f64)>);

/// Curves over a logarithmic axis; a line marks 0.
pub fn curves(title: &str, axis: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let (least, most) =
        points().fold((f64::MAX, f64::MIN), |(lo, hi), (x, _)| (lo.min(x.ln()), hi.max(x.ln())));
    let (low, high) = points().fold((0.0f64, 0.0f64), |(lo, hi), (_, y)| (lo.min(*y), hi.max(*y)));
    let (span, rise) = ((most - least).max(f64::MIN_POSITIVE), (high - low).max(f64::MIN_POSITIVE));
    let x = |v: f64| 70.0 + (v.ln() - least) / span * 560.0;
    let y = |v: f64| 280.0 - (v - low) / rise * 220.0;
    let mut body = String::new();
    // A value next to 0 would be written over it.
    for value in [low, 0.0, high].into_iter().filter(|v| *v == 0.0 || v.abs() > rise * 0.08) {
        let at = y(value);
        let _ = writeln!(
            body,
            "<line x1=\"70\" x2=\"630\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"62\" y=\"{:.1}\" text-anchor=\"end\">{value:+.1} %</text>",
            at + 4.0
        );
    }
    let mut ticks: Vec<f64> = points().map(|(x, _)| *x).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut last = f64::MIN;
    for tick in ticks {
        if x(tick) - last > 55.0 {
            last = x(tick);
            let _ = writeln!(body, "<text x=\"{last:.1}\" y=\"300\" text-anchor=\"middle\">{tick:.0}</text>");
        }
    }
    let _ = writeln!(body, "<text x=\"350\" y=\"320\" text-anchor=\"middle\">{}</text>", escaped(axis));
    for ((name, points), colour) in curves.iter().zip([OURS, "#c0504d", OTHER]) {
        let path: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let end = points.last().copied().unwrap_or((1.0, 0.0));
        let place = if colour == OURS { 16.0 } else { -6.0 };
        let _ = writeln!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            path.join(" "),
            x(end.0) + 6.0,
            y(end.1) + place,
            escaped(name)
        );
    }
    framed(WIDTH, 334.0, title, &body)
}

/// A terminal that shows these lines.
pub fn terminal(command: &str, lines: &[&str]) -> String {
    let longest = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0).max(60);
    let (width, height) = (longest as f64 * 7.9 + 32.0, lines.len() as f64 * 18.0 + 80.0);
    let mut body = format!(
        "<rect width=\"{width:.0}\" height=\"{height:.0}\" rx=\"8\" fill=\"#1b1f24\"/>\n\
         <g font-family=\"monospace\" font-size=\"13\" fill=\"#d7dce2\" xml:space=\"preserve\">\n\
         <text x=\"16\" y=\"30\" fill=\"#7fc97f\">$ {}</text>\n",
        escaped(command)
    );
    for (at, line) in lines.iter().enumerate() {
        let y = 58.0 + at as f64 * 18.0;
        let _ = writeln!(body, "<text x=\"16\" y=\"{y:.0}\">{}</text>", escaped(line));
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\">\n{body}</g>\n</svg>\n"
    )
}
