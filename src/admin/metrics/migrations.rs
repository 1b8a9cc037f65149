//! Migrations: how they ended, and how the one under way stands.

use std::fmt;

use foreshadow_control::{MigrationPhase, MigrationView};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::out::{encode, family};
use crate::node::Shared;
use crate::node::migrations::State;
use crate::node::view::View;

pub(super) fn migrations(out: &mut DescriptorEncoder, shared: &Shared, view: &View) -> fmt::Result {
    let counts = shared.migrations.counts();
    let help = "Migrations that are over since the start, by what became of them.";
    let mut ended = family(out, "migrations", help, MetricType::Counter)?;
    for plan in &view.plan.services {
        for state in State::ENDS {
            let count = counts.get(&(plan.service.clone(), state)).copied().unwrap_or(0);
            let labels = [("service", plan.service.as_str()), ("outcome", state.as_str())];
            encode(&mut ended, &labels, &ConstCounter::new(count))?;
        }
    }
    // One at a time is under way; the others of the service wait.
    let is_on = |m: &&MigrationView| !m.phase.is_over() && m.phase != MigrationPhase::Scheduled;
    let under_way = || {
        let services = view.plan.services.iter();
        services.filter_map(|p| Some((p.service.as_str(), p.migrations.iter().find(is_on)?)))
    };
    let help = "1 for how the migration under way stands.";
    let mut phase = family(out, "migration_phase", help, MetricType::Gauge)?;
    for (service, view) in under_way() {
        let candidates = MigrationPhase::ALL.into_iter().filter(|phase| !phase.is_over());
        for candidate in candidates {
            let labels = [("service", service), ("phase", candidate.as_str())];
            let value = i64::from(view.phase == candidate);
            encode(&mut phase, &labels, &ConstGauge::new(value))?;
        }
    }
    let help = "Part of the instance's requests that has moved, 0 to 1.";
    let mut moved = family(out, "migration_moved", help, MetricType::Gauge)?;
    for (service, view) in under_way() {
        encode(&mut moved, &[("service", service)], &ConstGauge::new(view.moved))?;
    }
    let help = "Migrations that wait or are under way.";
    let mut waiting = family(out, "migrations_standing", help, MetricType::Gauge)?;
    let orders = shared.orders.load();
    for plan in &view.plan.services {
        let own = orders.migrations.values().filter(|order| order.service == plan.service);
        let own = i64::try_from(own.count()).unwrap_or(i64::MAX);
        encode(&mut waiting, &[("service", plan.service.as_str())], &ConstGauge::new(own))?;
    }
    Ok(())
}
