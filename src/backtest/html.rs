//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use super::charts::{escaped, family, frontier, off_the_chart, timeline};
use super::report::{Report, Row, WorldReport, duration_text, short};
use super::table::{about, outcomes, scores, world_about};

/// Colours are those of Okabe and Ito, which people who see few colours can tell apart.
const STYLE: &str = "
:root { color-scheme: light dark;
  --page: #fcfcfb; --ink: #1c1c1a; --soft: #63635e; --rule: #e3e3de; --fill: #d9dde3;
  --brain: #0072b2; --reactive: #d55e00; --static: #7a7a75; --oracle: #00845f; --bad: #c4161c; }
@media (prefers-color-scheme: dark) { :root {
  --page: #161618; --ink: #ececea; --soft: #a3a39e; --rule: #333337; --fill: #3a4049;
  --brain: #56b4e9; --reactive: #f08c3a; --static: #9a9a95; --oracle: #2fc79b; --bad: #ff6b6b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin: 3rem 0 .25rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
p { margin: .25rem 0; } p.soft, figcaption { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .8125rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .4rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal; }
td.name, th.name { text-align: left; } td.name { font-weight: 500; }
figure { margin: .75rem 0; } svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); } svg .axis { fill: var(--soft); }
.grid { stroke: var(--rule); fill: none; } .learn { fill: var(--soft); opacity: .12; }
.demand { fill: var(--fill); stroke: none; } .capacity { fill: none; stroke-width: 1.5; }
.line { fill: none; stroke-width: 1.5; opacity: .5; } .violated { stroke: var(--bad); stroke-width: 1.5; }
.brain { stroke: var(--brain); } .reactive { stroke: var(--reactive); }
.static { stroke: var(--static); } .oracle { stroke: var(--oracle); }
.dot { stroke: var(--page); stroke-width: 2; } .dot.brain { fill: var(--brain); }
.dot.reactive { fill: var(--reactive); } .dot.static { fill: var(--static); } .dot.oracle { fill: var(--oracle); }
svg text.label { stroke: none; } text.label.brain { fill: var(--brain); } text.label.reactive { fill: var(--reactive); }
text.label.oracle { fill: var(--oracle); }
span.brain, td.brain { color: var(--brain); } span.reactive, td.reactive { color: var(--reactive); } td.oracle { color: var(--oracle); }
.key span { margin-right: 1.25rem; } .key i { display: inline-block; width: 1.1em; height: .7em; margin-right: .4em; }
.key i.fill { background: var(--fill); } .key i.bar { border-top: 2px solid currentColor; height: 0; vertical-align: middle; }
.key i.bad { background: var(--bad); width: 2px; }
";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Backtest of {0}</title><style>{STYLE}</style></head>\n<body><h1>Backtest</h1>\n",
        escaped(&report.history.source)
    );
    for line in about(report) {
        // Writing to a string cannot fail.
        write!(page, "<p class=\"soft\">{}</p>", escaped(&line)).ok();
    }
    for world in &report.worlds {
        section(&mut page, report, world);
    }
    page.push_str(LEGEND);
    page.push_str("</body></html>\n");
    page
}

const LEGEND: &str = "
<h2>How to read this</h2>
<p>Every policy met the same requests with the same instances. An instance serves a given number of
requests per second within its objective; what serving instances cannot do at once waits a little, and
what cannot be done in that time is late. A tick with more late requests than allowed counts as
violation. Instance-hours count every instance from the order that creates it to its end, paused ones
included; cost weighs them with a price by tier. <em>brain</em> is the controller of a live node,
<em>reactive</em> target tracking as an autoscaler does it, <em>oracle</em> knows all demand and is
the cheapest found that violates nothing. A star marks policies that none but the oracle beats on both counts.</p>
";

fn section(page: &mut String, report: &Report, world: &WorldReport) {
    write!(page, "<h2>Start-up of {}</h2>", duration_text(world.start_up_s)).ok();
    if let Some(sentence) = finding(world) {
        write!(page, "<p>{}</p>", escaped(&sentence)).ok();
    }
    page.push_str("<h3>Time in violation and instance-hours</h3><figure>");
    page.push_str(&frontier(world));
    page.push_str(
        "<figcaption>One dot per policy: <span class=\"brain\">brain</span> by its target utilisation, \
         <span class=\"reactive\">reactive</span> by its own; lower and further left is better, large dots are beaten by \
         none. The vertical axis is stretched near zero (square root).</figcaption></figure>",
    );
    let beyond = off_the_chart(world);
    if !beyond.is_empty() {
        write!(page, "<p class=\"soft\">Beyond the chart: {}.</p>", escaped(&beyond.join(", ")))
            .ok();
    }
    table(page, &outcomes(world), &world.rows);
    page.push_str("<h3>Demand and capacity over time</h3>");
    page.push_str(
        "<p class=\"soft key\"><span><i class=\"fill\"></i>highest demand</span><span><i \
         class=\"bar\"></i>lowest capacity, rps</span><span><i class=\"bad\"></i>violation</span></p>",
    );
    for row in shown(world) {
        write!(
            page,
            "<figure><figcaption>{}: {} in violation, {} instance-hours</figcaption>{}</figure>",
            escaped(&row.outcome.policy),
            duration_text(row.outcome.violation_s),
            short(row.outcome.instance_hours),
            timeline(row, world.setup.learn_ms, tallest(world))
        )
        .ok();
    }
    if let Some(row) = world.rows.iter().find(|row| !row.outcome.forecast.is_empty()) {
        page.push_str("<h3>Forecasts</h3>");
        table(page, &scores(row), &[]);
        page.push_str(
            "<p class=\"soft\">Error is the mean absolute error of the median; &quot;same as now&quot; \
             takes demand to stay as it is.</p>",
        );
    }
    for line in world_about(world) {
        write!(page, "<p class=\"soft\">{}</p>", escaped(&line)).ok();
    }
    let chance = report.seed.map_or_else(
        || "Requests arrive evenly.".to_owned(),
        |seed| format!("Requests arrive by chance (Poisson, seed {seed})."),
    );
    write!(page, "<p class=\"soft\">{chance}</p>").ok();
}

/// What the reader came for, in one sentence: the brain beside the reactive policy that costs the
/// same.
fn finding(world: &WorldReport) -> Option<String> {
    let brain = first(world, "brain")?;
    let rival = nearest(world, brain)?;
    let (b, r) = (&brain.outcome, &rival.outcome);
    Some(format!(
        "{} was {} in violation for {} instance-hours; {}, the reactive policy nearest in cost, {} for {}.",
        b.policy,
        duration_text(b.violation_s),
        short(b.instance_hours),
        r.policy,
        duration_text(r.violation_s),
        short(r.instance_hours)
    ))
}

fn first<'a>(world: &'a WorldReport, name: &str) -> Option<&'a Row> {
    let of_family = |row: &&Row| family(&row.outcome.policy) == name;
    let plain = world.rows.iter().find(|row| row.outcome.policy == name);
    plain.or_else(|| world.rows.iter().find(of_family))
}

fn nearest<'a>(world: &'a WorldReport, brain: &Row) -> Option<&'a Row> {
    let distance = |row: &Row| (row.outcome.instance_hours - brain.outcome.instance_hours).abs();
    world
        .rows
        .iter()
        .filter(|row| family(&row.outcome.policy) == "reactive")
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// The policies whose capacity is drawn: a brain, its rival, and the oracle; all, if these are not
/// there.
fn shown(world: &WorldReport) -> Vec<&Row> {
    let Some(brain) = first(world, "brain") else { return world.rows.iter().take(4).collect() };
    [Some(brain), nearest(world, brain), world.oracle()].into_iter().flatten().collect()
}

fn tallest(world: &WorldReport) -> f64 {
    let points = shown(world).into_iter().flat_map(|row| &row.outcome.timeline);
    points.map(|p| p.demand_rps.max(p.capacity_rps)).fold(0.0, f64::max)
}

fn table(page: &mut String, rows: &[Vec<String>], policies: &[Row]) {
    page.push_str("<div class=\"scroll\"><table>");
    let is_policies = !policies.is_empty();
    for (at, row) in rows.iter().enumerate() {
        page.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let tag = if at == 0 { "th" } else { "td" };
            let is_name = (is_policies && column == 1) || (!is_policies && column == 0);
            let class = match is_name {
                true if is_policies && at > 0 => format!(" class=\"name {}\"", family(cell)),
                true => " class=\"name\"".to_owned(),
                false => String::new(),
            };
            write!(page, "<{tag}{class}>{}</{tag}>", escaped(cell)).ok();
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></div>");
}
