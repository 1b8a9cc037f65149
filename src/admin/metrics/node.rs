//! The node itself: its loop, its files, its listeners.

use std::fmt;

use foreshadow_mirror::MirrorStats;
use foreshadow_proxy::ConnectionCounts;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::out::{Count, counter, counters, encode, family, gauge, gauge_s, seconds, signed};
use crate::node::Shared;
use crate::node::alerting::Told;
use crate::node::drill::Verdict;
use crate::node::history::Status;

pub(super) fn node(shared: &Shared, out: &mut DescriptorEncoder) -> fmt::Result {
    let ticks = shared.ticks.read();
    let reload = shared.reload.load();
    counter(out, "ticks", "Ticks of the control loop.", ticks.ticks)?;
    counter(out, "ticks_skipped", "Ticks left out because one ran late.", ticks.skipped)?;
    gauge_s(out, "tick_last", "Time the last tick took.", seconds(ticks.last_us))?;
    gauge_s(out, "tick_max", "Time the longest tick took.", seconds(ticks.max_us))?;
    gauge_s(out, "uptime", "Time since start.", shared.clock.uptime().as_secs_f64())?;
    let kill = f64::from(u8::from(shared.orders.load().kill_switch));
    gauge(out, "kill_switch", "1 while all automation is stopped.", kill)?;
    let dropped = shared.decisions.dropped();
    counter(out, "decisions_dropped", "Decision records lost to a slow disk.", dropped)?;
    audit(out, shared)?;
    alerts(out, &shared.alerting.told())?;
    drills(out, shared)?;
    history(out, &shared.history.status())?;
    mirror(out, &shared.mirror.stats())?;
    let recording = f64::from(u8::from(shared.recording.status().good()));
    gauge(out, "recording", "1 while ticks are recorded and written.", recording)?;
    let mut reloads = family(out, "reloads", "Configuration reloads.", MetricType::Counter)?;
    for (result, count) in [("applied", reload.applied), ("refused", reload.refused)] {
        encode(&mut reloads, &[("result", result)], &ConstCounter::new(count))?;
    }
    let good = f64::from(u8::from(!reload.last_refused()));
    gauge(out, "config_good", "0 while the file on disk is not the one in force.", good)?;
    listeners(out, &shared.listeners())
}

fn listeners(out: &mut DescriptorEncoder, listeners: &[ConnectionCounts]) -> fmt::Result {
    let mut active =
        family(out, "listener_connections", "Open client connections.", MetricType::Gauge)?;
    for listener in listeners {
        let labels = [("listener", listener.listener.as_str())];
        encode(&mut active, &labels, &ConstGauge::new(signed(listener.active)))?;
    }
    let counts: [Count<ConnectionCounts>; 4] = [
        ("listener_accepted", "Client connections accepted.", |l| l.accepted),
        ("listener_refused", "Client connections turned away for want of room.", |l| l.refused),
        ("listener_malformed", "Requests refused before routing.", |l| l.malformed),
        ("listener_unrouted", "Requests that no route matched, answered with 404.", |l| l.unrouted),
    ];
    let named: Vec<_> = listeners.iter().map(|l| (l.listener.as_str(), l)).collect();
    counters(out, &counts, "listener", &named)
}

fn audit(out: &mut DescriptorEncoder, shared: &Shared) -> fmt::Result {
    let figures = shared.audit.figures();
    let lost = figures.lost;
    counter(out, "audit_lost", "Audit entries lost to a slow disk; the record says when.", lost)?;
    let help = "Times the audit record was found removed, replaced or spoiled.";
    counter(out, "audit_replaced", help, figures.replaced)?;
    let failing = f64::from(u8::from(figures.is_failing));
    gauge(out, "audit_failing", "1 while audit entries cannot be written.", failing)?;
    let help = "Audit entries that the disk has not taken yet.";
    gauge(out, "audit_waiting", help, figures.waiting as f64)?;
    gauge(out, "audit_head_seq", "Number of the newest audit entry.", figures.head_seq as f64)
}

fn drills(out: &mut DescriptorEncoder, shared: &Shared) -> fmt::Result {
    let (counts, refused) = shared.drills.counts();
    let under_way = f64::from(u8::from(shared.drills.is_under_way()));
    gauge(out, "drill_under_way", "1 while an instance is hurt on purpose.", under_way)?;
    let injected = u32::try_from(shared.injected()).unwrap_or(u32::MAX);
    let help = "Instances that the proxy makes seem to fail on purpose.";
    gauge(out, "injected_faults", help, f64::from(injected))?;
    counter(out, "drills_refused", "Failover drills that were refused.", refused)?;
    let mut ended = family(out, "drills", "Failover drills, by verdict.", MetricType::Counter)?;
    for verdict in Verdict::ALL {
        let count = counts.get(&verdict).copied().unwrap_or(0);
        encode(&mut ended, &[("verdict", verdict.as_str())], &ConstCounter::new(count))?;
    }
    Ok(())
}

fn alerts(out: &mut DescriptorEncoder, told: &Told) -> fmt::Result {
    let counts: [Count<Told>; 3] = [
        ("alert_webhook_sent", "Beginnings and ends of alerts told to an endpoint.", |t| t.sent),
        ("alert_webhook_failures", "Tries to tell it that failed.", |t| t.failed_tries),
        ("alert_webhook_dropped", "Beginnings and ends it was never told of.", |t| t.dropped),
    ];
    counts.into_iter().try_for_each(|(name, help, value)| counter(out, name, help, value(told)))
}

fn mirror(out: &mut DescriptorEncoder, stats: &MirrorStats) -> fmt::Result {
    let counts: [Count<MirrorStats>; 5] = [
        ("mirror_offered", "Answered requests that might have been copied to shadows.", |m| {
            m.offered
        }),
        ("mirror_refused", "Of them, those that must not be copied, or that failed.", |m| {
            m.refused
        }),
        ("mirror_dropped", "Copies not made since their shadow's queue was full.", |m| m.dropped),
        ("mirror_sent", "Copies sent.", |m| m.sent),
        ("mirror_failed", "Copies sent and not answered, or too late.", |m| m.failed),
    ];
    counts.into_iter().try_for_each(|(name, help, value)| counter(out, name, help, value(stats)))
}

fn history(out: &mut DescriptorEncoder, history: &Status) -> fmt::Result {
    let counts: [Count<Status>; 4] = [
        ("history_rows", "Rows of history written.", |h| h.rows_written),
        ("history_rows_lost", "Rows of history given up, the disk took none.", |h| h.rows_lost),
        ("history_ticks_dropped", "Ticks that history was too busy for.", |h| h.ticks_dropped),
        ("history_failures", "Failures to write history.", |h| h.failures),
    ];
    for (name, help, value) in counts {
        counter(out, name, help, value(history))?;
    }
    let good = f64::from(u8::from(history.enabled && history.trouble.is_none()));
    gauge(out, "history_good", "1 while history is kept and written.", good)
}
