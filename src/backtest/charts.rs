//! Charts as SVG; their colours come from the page, so that they are right in light and dark.

use std::fmt::Write as _;

use foreshadow_backtest::TimelinePoint;

use super::report::{Row, WorldReport, duration_text, short};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const PANEL: f64 = 150.0;
const PARETO_HEIGHT: f64 = 380.0;

/// Which family of policies a row belongs to, as a class of the page's style.
pub(super) fn family(policy: &str) -> &'static str {
    ["brain", "reactive", "static", "oracle"]
        .into_iter()
        .find(|family| policy.starts_with(family))
        .unwrap_or("static")
}

/// Demand against the capacity of one policy, over time.
pub(super) fn timeline(row: &Row, learn_ms: u64, peak_rps: f64) -> String {
    let points = &row.outcome.timeline;
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let span_ms = (last.at_ms - first.at_ms).max(1) as f64;
    let x = |at_ms: u64| LEFT + (WIDTH - LEFT - RIGHT) * (at_ms - first.at_ms) as f64 / span_ms;
    let top = nice(peak_rps * 1.05);
    let y = |rps: f64| 10.0 + (PANEL - 34.0) * (1.0 - (rps / top).clamp(0.0, 1.0));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {PANEL}\" role=\"img\" aria-label=\"Demand and capacity over time with {}\">",
        escaped(&row.outcome.policy)
    );
    grid(&mut svg, top, y);
    if learn_ms > 0 {
        let until = x((first.at_ms + learn_ms).min(last.at_ms));
        let (y0, y1) = (y(top), y(0.0));
        // Writing to a string cannot fail.
        write!(
            svg,
            "<rect class=\"learn\" x=\"{LEFT}\" y=\"{y0:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\">learning</text>",
            until - LEFT,
            y1 - y0,
            LEFT + 6.0,
            y0 + 12.0
        )
        .ok();
    }
    let area = points.iter().fold(format!("M{LEFT:.1} {:.1}", y(0.0)), |path, p| {
        path + &format!("L{:.1} {:.1}", x(p.at_ms), y(p.demand_rps))
    });
    write!(svg, "<path class=\"demand\" d=\"{area}L{:.1} {:.1}Z\"/>", x(last.at_ms), y(0.0)).ok();
    write!(
        svg,
        "<path class=\"capacity {}\" d=\"{}\"/>",
        family(&row.outcome.policy),
        steps(points, x, |p| y(p.capacity_rps))
    )
    .ok();
    for point in points.iter().filter(|p| p.violated > 0) {
        let at = x(point.at_ms);
        let (y0, y1) = (y(0.0) + 2.0, y(0.0) + 8.0);
        write!(svg, "<path class=\"violated\" d=\"M{at:.1} {y0:.1}V{y1:.1}\"/>").ok();
    }
    time_axis(&mut svg, (first.at_ms, last.at_ms), x);
    svg.push_str("</svg>");
    svg
}

/// A line that goes sideways, then up or down.
fn steps(
    points: &[TimelinePoint],
    x: impl Fn(u64) -> f64,
    y: impl Fn(&TimelinePoint) -> f64,
) -> String {
    let mut path = String::new();
    for (at, point) in points.iter().enumerate() {
        let (px, py) = (x(point.at_ms), y(point));
        let piece = if at == 0 { format!("M{px:.1} {py:.1}") } else { format!("H{px:.1}V{py:.1}") };
        path.push_str(&piece);
    }
    path
}

fn grid(svg: &mut String, top: f64, y: impl Fn(f64) -> f64) {
    for part in 0..=2 {
        let rps = top * f64::from(part) / 2.0;
        let at = y(rps);
        write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            short(rps)
        )
        .ok();
    }
}

fn time_axis(svg: &mut String, (first_ms, last_ms): (u64, u64), x: impl Fn(u64) -> f64) {
    const STEPS_S: [u64; 14] = [
        60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000, 1_728_000,
        4_320_000, 8_640_000,
    ];
    let span_s = (last_ms - first_ms) / 1_000;
    let step_s = STEPS_S.into_iter().find(|s| span_s / s <= 9).unwrap_or(31_536_000);
    let mut at_ms = first_ms.div_ceil(step_s * 1_000) * step_s * 1_000;
    while at_ms <= last_ms {
        let text = crate::explain::utc(at_ms);
        let label = if step_s < 86_400 { text.get(11..16) } else { text.get(5..10) };
        write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at_ms),
            PANEL - 4.0,
            label.unwrap_or_default()
        )
        .ok();
        at_ms += step_s * 1_000;
    }
}

/// Policies that would squeeze all others together: violations far above those of every policy
/// that scales.
pub(super) fn off_the_chart(world: &WorldReport) -> Vec<String> {
    let top = top_percent(world);
    let beyond = world.rows.iter().filter(|row| percent_violated(row) > top);
    beyond
        .map(|row| format!("{} with {:.0}% of the time", row.outcome.policy, percent_violated(row)))
        .collect()
}

fn percent_violated(row: &Row) -> f64 {
    row.outcome.violation_s / row.outcome.scored_s.max(1.0) * 100.0
}

/// Where the vertical axis ends.
fn top_percent(world: &WorldReport) -> f64 {
    let scales = |row: &&Row| family(&row.outcome.policy) != "static";
    let highest = |rows: &[&Row]| rows.iter().map(|r| percent_violated(r)).fold(1e-3, f64::max);
    let scaling: Vec<&Row> = world.rows.iter().filter(scales).collect();
    let all: Vec<&Row> = world.rows.iter().collect();
    1.1 * highest(if scaling.len() > 1 { &scaling } else { &all })
}

/// Violations against instance-hours, one dot per policy. Violations go by their square root, so
/// that few can be told from none.
pub(super) fn frontier(world: &WorldReport) -> String {
    let top = top_percent(world);
    let rows: Vec<&Row> = world.rows.iter().filter(|row| percent_violated(row) <= top).collect();
    let hours = |row: &&Row| row.outcome.instance_hours;
    let (least, most) = rows
        .iter()
        .map(hours)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), h| (low.min(h), high.max(h)));
    let margin = ((most - least) * 0.06).max(most * 0.01).max(1e-9);
    let (left, right) = ((least - margin).max(0.0), most + margin);
    let bottom = PARETO_HEIGHT - 46.0;
    let x = |hours: f64| LEFT + (WIDTH - LEFT - RIGHT - 60.0) * (hours - left) / (right - left);
    let y = |percent: f64| bottom - (bottom - 16.0) * (percent / top).sqrt();
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {PARETO_HEIGHT}\" role=\"img\" aria-label=\"Time in violation against instance-hours\">"
    );
    pareto_axes(&mut svg, (left, right), top, (&x, &y));
    for name in ["brain", "reactive"] {
        let mut line: Vec<&&Row> =
            rows.iter().filter(|r| family(&r.outcome.policy) == name).collect();
        line.sort_by(|a, b| a.outcome.instance_hours.total_cmp(&b.outcome.instance_hours));
        let path: String = line
            .iter()
            .enumerate()
            .map(|(at, r)| {
                let command = if at == 0 { 'M' } else { 'L' };
                format!("{command}{:.1} {:.1}", x(r.outcome.instance_hours), y(percent_violated(r)))
            })
            .collect();
        write!(svg, "<path class=\"line {name}\" d=\"{path}\"/>").ok();
    }
    let dots: Vec<(f64, f64)> =
        rows.iter().map(|r| (x(hours(r)), y(percent_violated(r)))).collect();
    for (row, (px, py)) in rows.iter().zip(&dots) {
        dot(&mut svg, row, (*px, *py));
    }
    for ((px, py), row) in placed(&dots).iter().zip(&rows) {
        write!(
            svg,
            "<text class=\"label {}\" x=\"{px:.1}\" y=\"{py:.1}\">{}</text>",
            family(&row.outcome.policy),
            escaped(label(&row.outcome.policy))
        )
        .ok();
    }
    svg.push_str("</svg>");
    svg
}

/// Marks and names of both axes; `x` and `y` place hours and per cent.
fn pareto_axes(
    svg: &mut String,
    (left, right): (f64, f64),
    top: f64,
    (x, y): (&dyn Fn(f64) -> f64, &dyn Fn(f64) -> f64),
) {
    let bottom = y(0.0);
    for percent in ladder(top) {
        write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {0:.1}H{1:.1}\"/><text class=\"tick\" x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4}%</text>",
            y(percent),
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(percent) + 4.0,
            trimmed(percent)
        )
        .ok();
    }
    let step = nice((right - left) / 6.0);
    let mut hours = (left / step).ceil() * step;
    while hours <= right {
        write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(hours),
            bottom + 18.0,
            short(hours)
        )
        .ok();
        hours += step;
    }
    write!(
        svg,
        "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">instance-hours</text>",
        x(left.midpoint(right)),
        PARETO_HEIGHT - 8.0
    )
    .ok();
}

/// A name as short as it can be beside a dot whose colour says the family.
fn label(policy: &str) -> &str {
    let short = policy.strip_prefix("brain:target=").or_else(|| policy.strip_prefix("reactive:"));
    short.or_else(|| policy.strip_prefix("brain:")).unwrap_or(policy)
}

fn dot(svg: &mut String, row: &Row, (x, y): (f64, f64)) {
    let percent = percent_violated(row);
    let o = &row.outcome;
    write!(
        svg,
        "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{}\"><title>{}: {} in violation ({percent:.3}%), {} instance-hours</title></circle>",
        family(&o.policy),
        if row.on_frontier { 6 } else { 4 },
        escaped(&o.policy),
        duration_text(o.violation_s),
        short(o.instance_hours)
    )
    .ok();
}

/// Places for labels above and right of their dots, moved up or down where they would cover each other.
fn placed(dots: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const HEIGHT: f64 = 14.0;
    const REACH: f64 = 70.0;
    let mut order: Vec<usize> = (0..dots.len()).collect();
    order.sort_by(|a, b| dots[*b].1.total_cmp(&dots[*a].1).then(dots[*a].0.total_cmp(&dots[*b].0)));
    let mut places: Vec<Option<(f64, f64)>> = vec![None; dots.len()];
    for at in order {
        let (x, mut y) = (dots[at].0 + 8.0, dots[at].1 - 6.0);
        let hits = |y: f64, places: &[Option<(f64, f64)>]| {
            places
                .iter()
                .flatten()
                .any(|(px, py)| (px - x).abs() < REACH && (py - y).abs() < HEIGHT)
        };
        while hits(y, &places) && y > HEIGHT {
            y -= 2.0;
        }
        places[at] = Some((x, y));
    }
    places.into_iter().map(Option::unwrap_or_default).collect()
}

/// Marks of a square-root axis up to `top`, in per cent.
fn ladder(top: f64) -> Vec<f64> {
    let unit = 10_f64.powf(top.log10().floor());
    let lead = (top / unit).floor();
    let high = lead * unit;
    vec![0.0, high / 16.0, high / 4.0, high]
}

fn trimmed(percent: f64) -> String {
    let text = format!("{percent:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The next number of one digit and zeros (or a five after it) that is not below.
fn nice(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return 1.0;
    }
    let unit = 10_f64.powf(x.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    unit * steps.into_iter().find(|s| s * unit >= x).unwrap_or(10.0)
}

/// Text as it may stand in a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_readable_numbers() {
        assert_eq!([0.0, 7.3, 104.0, 0.012].map(nice), [1.0, 8.0, 150.0, 0.015]);
        assert_eq!(ladder(4.4), [0.0, 0.25, 1.0, 4.0]);
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        let places = placed(&[(100.0, 200.0), (104.0, 201.0), (108.0, 199.0), (900.0, 200.0)]);
        for (at, a) in places.iter().enumerate() {
            for b in &places[at + 1..] {
                assert!((a.0 - b.0).abs() >= 70.0 || (a.1 - b.1).abs() >= 14.0, "{places:?}");
            }
        }
    }
}
