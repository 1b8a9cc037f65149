//! The live view on a terminal.

use std::time::Duration;

use foreshadow_control::{Health, Role};
use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::api::{Decision, Instance};
use super::script::{OBJECTIVE_MS, primaries_capacity_rps};
use super::view::Live;
use super::watch::name_of;

/// How far back the chart of demand looks.
const PAST_S: f64 = 40.0;
/// How far ahead.
const AHEAD_S: f64 = 10.0;

/// The terminal while the demo has it; given back when dropped.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal; a panic gives it back.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub(super) fn open() -> anyhow::Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }

    /// Draws the run as it stands, `left` before the end of the demo.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub(super) fn show(&mut self, live: &Live<'_>, left: Duration) -> anyhow::Result<()> {
        self.terminal.draw(|frame| draw(frame, live, left))?;
        Ok(())
    }

    /// Whether q, Escape or Ctrl-C was pressed since.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub(super) fn wants_to_quit(&self) -> anyhow::Result<bool> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(true),
                    KeyCode::Char('c') if control => return Ok(true),
                    _ => {}
                }
            }
        }
        Ok(false)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn draw(frame: &mut Frame<'_>, live: &Live<'_>, left: Duration) {
    let instances = live.samples.last().map_or(0, |s| s.instances.len());
    let rows = u16::try_from(instances.max(5)).unwrap_or(12).min(9) + 2;
    let [head, middle, table, said] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(9),
        Constraint::Length(rows),
        Constraint::Length(7),
    ])
    .areas(frame.area());
    let [demand, latency] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(middle);
    frame.render_widget(title(live, left), head);
    draw_demand(frame, demand, live);
    draw_latency(frame, latency, live);
    draw_instances(frame, table, live);
    draw_decisions(frame, said, live);
}

fn title(live: &Live<'_>, left: Duration) -> Paragraph<'static> {
    let act = live.script.act_at(live.elapsed);
    let failed = live.totals.failed.total();
    let failed_style = if failed == 0 { Style::new().green() } else { Style::new().red().bold() };
    let first = Line::from(vec![
        Span::from(" foreshadow demo ").black().on_cyan(),
        Span::from(format!(" mode {} ", live.mode)).bold(),
        Span::from(format!(" act {} ", act.name)).yellow().bold(),
        Span::from(format!(" {:>3} s in, {:>3} s left ", live.elapsed.as_secs(), left.as_secs())),
        Span::styled(format!(" failed {failed} of {} ", live.totals.offered), failed_style),
        Span::from(" q ends").dim(),
    ]);
    Paragraph::new(vec![first, Line::from(format!(" {}", act.look_for)).italic()])
}

fn draw_demand(frame: &mut Frame<'_>, area: Rect, live: &Live<'_>) {
    let Some(newest) = live.samples.last() else { return };
    let x = |at_ms: u64| (at_ms as f64 - newest.at_ms as f64) / 1e3;
    let past: Vec<(f64, f64)> = live
        .samples
        .iter()
        .map(|s| (x(s.at_ms), s.demand_rps))
        .filter(|(at_s, _)| *at_s >= -PAST_S)
        .collect();
    let band = |value: fn(&foreshadow_control::HorizonView) -> f64| {
        let ahead = newest.horizons.iter().map(|h| (h.horizon_ms as f64 / 1e3, value(h)));
        std::iter::once((0.0, newest.demand_rps))
            .chain(ahead.filter(|(at_s, _)| *at_s <= AHEAD_S))
            .collect::<Vec<_>>()
    };
    let (upper, median, lower) =
        (band(|h| h.upper_rps), band(|h| h.median_rps), band(|h| h.lower_rps));
    let full = [(-PAST_S, primaries_capacity_rps()), (AHEAD_S, primaries_capacity_rps())];
    let line = |name: &'static str, color, data| {
        Dataset::default()
            .name(name)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
            .data(data)
    };
    let chart = Chart::new(vec![
        line("", Color::DarkGray, &full),
        line("upper", Color::Yellow, &upper),
        line("median", Color::White, &median),
        line("lower", Color::Green, &lower),
        line("demand", Color::Cyan, &past),
    ])
    .block(Block::bordered().title(format!(
        " demand {:.0} rps, forecast {AHEAD_S:.0} s ahead; grey: the 2 primaries are full ",
        newest.demand_rps
    )))
    .x_axis(Axis::default().bounds([-PAST_S, AHEAD_S]).labels([
        format!("-{PAST_S:.0} s"),
        String::new(),
        format!("+{AHEAD_S:.0} s"),
    ]))
    .y_axis(Axis::default().bounds([0.0, 1_500.0]).labels(["0", "750", "1500"]));
    frame.render_widget(chart, area);
}

fn draw_latency(frame: &mut Frame<'_>, area: Rect, live: &Live<'_>) {
    let objective_ms = OBJECTIVE_MS as f64;
    let top_ms = 3.0 * objective_ms;
    let now_s = live.elapsed.as_secs_f64();
    let series = |value: fn(&foreshadow_testbed::load::SecondStats) -> f64| {
        let points = live.seconds.iter().map(|s| (f64::from(s.second) - now_s, value(s)));
        let shown = points.filter(|(at_s, ms)| *at_s >= -PAST_S && *ms > 0.0);
        shown.map(|(at_s, ms)| (at_s, ms.min(top_ms))).collect::<Vec<_>>()
    };
    let (p99, p50) = (series(|s| s.latency.p99_ms), series(|s| s.latency.p50_ms));
    let promise = [(-PAST_S, objective_ms), (0.0, objective_ms)];
    let line = |color, data| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
            .data(data)
    };
    let now = live.last_second().map_or_else(String::new, |s| {
        format!(
            " p50 {:.0} ms  p99 {:.0} ms  objective {OBJECTIVE_MS} ms ",
            s.latency.p50_ms, s.latency.p99_ms
        )
    });
    let chart = Chart::new(vec![
        line(Color::Red, &promise),
        line(Color::Green, &p50),
        line(Color::Magenta, &p99),
    ])
    .block(Block::bordered().title(now))
    .x_axis(
        Axis::default()
            .bounds([-PAST_S, 0.0])
            .labels([format!("-{PAST_S:.0} s"), "now".to_owned()]),
    )
    .y_axis(Axis::default().bounds([0.0, top_ms]).labels([
        "0".to_owned(),
        format!("{objective_ms:.0}"),
        format!("{:.0}", 2.0 * objective_ms),
        format!("{top_ms:.0}+"),
    ]));
    frame.render_widget(chart, area);
}

fn draw_instances(frame: &mut Frame<'_>, area: Rect, live: &Live<'_>) {
    let Some(newest) = live.samples.last() else { return };
    let total: u32 = newest.instances.iter().map(|i| i.weight).sum();
    let bar_width = usize::from(area.width.saturating_sub(62)).clamp(8, 60);
    let rows: Vec<Line<'_>> = newest
        .instances
        .iter()
        .map(|i| instance_row(i, &name_of(i, live.primaries), total, bar_width))
        .collect();
    let block = Block::bordered().title(" weight, tier, health, capacity as learned ");
    frame.render_widget(Paragraph::new(rows).block(block), area);
}

fn instance_row(instance: &Instance, name: &str, total: u32, width: usize) -> Line<'static> {
    let share = f64::from(instance.weight) / f64::from(total.max(1));
    let filled = ((share * width as f64).round() as usize).min(width);
    let color = match instance.role {
        Role::Primary => Color::Blue,
        Role::Shadow => Color::Cyan,
    };
    let (health, health_color) = match &instance.health {
        Health::Up => ("up".to_owned(), Color::Green),
        Health::Unknown => ("resting".to_owned(), Color::DarkGray),
        Health::Ejected => ("ejected".to_owned(), Color::Yellow),
        Health::Down(why) => (format!("down: {why}"), Color::Red),
    };
    let tier = match instance.moving_to.filter(|to| *to != instance.tier) {
        Some(to) => format!("{}>{to}", instance.tier),
        None => instance.tier.to_string(),
    };
    let capacity = instance.capacity.map_or_else(String::new, |c| format!("{:>4.0} rps", c.rps));
    Line::from(vec![
        Span::from(format!(" {name:<10} ")).bold(),
        Span::styled("█".repeat(filled), Style::new().fg(color)),
        Span::styled("░".repeat(width - filled), Style::new().fg(Color::DarkGray)),
        Span::from(format!(" {:>3.0}%  {tier:<16} {capacity:>9}  ", share * 100.0)),
        Span::styled(health, Style::new().fg(health_color)),
    ])
}

fn draw_decisions(frame: &mut Frame<'_>, area: Rect, live: &Live<'_>) {
    let started_ms = live.seconds.first().map_or(0, |s| s.unix_ms);
    let fits = usize::from(area.height.saturating_sub(2));
    let said = live.decisions.iter().rev().flat_map(lines).take(fits);
    let mut shown: Vec<Line<'_>> = said
        .map(|(at_ms, text)| {
            let at_s = (at_ms as f64 - started_ms as f64) / 1e3;
            Line::from(vec![
                Span::from(format!("{at_s:>6.1} s ")).dim(),
                Span::from(text.to_owned()),
            ])
        })
        .collect();
    shown.reverse();
    let block = Block::bordered().title(" last decisions and why ");
    frame.render_widget(Paragraph::new(shown).block(block), area);
}

fn lines(decision: &Decision) -> impl Iterator<Item = (u64, &str)> {
    let mut news: Vec<_> = decision.news().map(|line| (decision.at_ms, line)).collect();
    news.reverse();
    news.into_iter()
}
