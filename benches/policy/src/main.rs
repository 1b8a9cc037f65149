//! exploration
mod traces;
use foreshadow_backtest::*;
use std::path::PathBuf;
use std::time::Instant;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let folder =
        PathBuf::from(std::env::var("FORESHADOW_TRACES").unwrap_or("../shared/traces".into()));
    let names: Vec<&str> = args[1].split(',').collect();
    let starts: Vec<u64> = args[2].split(',').map(|s| s.parse().unwrap()).collect();
    let policies: Vec<Policy> = args[3..].iter().map(|p| p.parse().unwrap()).collect();
    for source in traces::SOURCES.iter().filter(|s| names.contains(&s.name) || names == ["all"]) {
        let series = source.read(&folder)?.unwrap();
        for &start in &starts {
            let tick_ms = (start * 1000 / 6).clamp(2_000, 10_000);
            let most = std::env::var("TICKS").map_or(400_000, |t| t.parse().unwrap()) * tick_ms;
            let series = series.section(series.span_ms().saturating_sub(most), most);
            let trace = Trace::new(&series, tick_ms, Between::Linear, Some(1))?;
            let mean = trace.mean_rps(0, trace.ticks()).unwrap();
            let setup = Setup {
                capacity_rps: mean / 6.0,
                primaries: 1,
                max_instances: 400,
                start_up: StartUp { create_ms: start * 1000, wake_ms: 200, serve_ms: 150 },
                warm_up_ms: 0,
                wait_ms: source.wait_ms,
                allowed_share: 0.01,
                carry: false,
                prices: Prices { full: 1.0, warm: 0.25, paused: 0.1 },
                false_window_ms: 600_000,
                seasons_ms: vec![86_400_000],
                learn_ms: series.span_ms() / 4,
                timeline_points: 100,
            };
            println!(
                "== {} S={start}s tick {} ms ticks {} mean {:.1}",
                source.name,
                tick_ms,
                trace.ticks(),
                mean
            );
            for p in &policies {
                let t = Instant::now();
                let o = run(p, &trace, &setup, &mut |_| {});
                println!(
                    "{:60} viol {:8.0} s {:7.3}% reqs {:7.4}% hours {:8.1} cost {:8.1} max {:4} act {:5} false {:5} late {:5} lead {:?} {:.1}s",
                    o.policy,
                    o.violation_s,
                    100.0 * o.violation_s / o.scored_s,
                    100.0 * o.violated_share,
                    o.instance_hours,
                    o.cost,
                    o.most_instances,
                    o.activations.total,
                    o.activations.false_ones,
                    o.activations.late,
                    o.activations.lead_s.map(|l| (l.p10, l.p50, l.p90)),
                    t.elapsed().as_secs_f64()
                );
                if std::env::var("SCORES").is_ok() {
                    for h in &o.forecast {
                        println!(
                            "      h {:6} mae/naive {:.3} cov {:.3} below lower {:.3} upper {:.3} width {:.1} mae {:.1}",
                            h.horizon_ms,
                            h.mae_rps / h.naive_mae_rps,
                            h.covered,
                            h.below_lower,
                            h.below_upper,
                            h.width_rps,
                            h.mae_rps
                        );
                    }
                }
            }
        }
    }
    Ok(())
}
