//! What instances and services report of themselves, under the names they use: as values of a label,
//! since they are no names of metrics and there is no end to them.

use std::fmt;

use foreshadow_control::ServiceObservation;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::out::{counter, encode, family, labels, small};
use crate::node::view::View;

/// Most series of one service's instances; the first ones are shown.
const MOST_SERIES: usize = 512;

pub(super) fn not_believed(out: &mut DescriptorEncoder, count: u64) -> fmt::Result {
    let help = "Reported values that were left out, since they cannot be what they are said to be.";
    counter(out, "reported_not_believed", help, count)
}

pub(super) fn reported(out: &mut DescriptorEncoder, view: &View) -> fmt::Result {
    let services = &view.observation.services;
    let help = "What is told of a service as a whole, by name.";
    let mut signal = family(out, "signal", help, MetricType::Gauge)?;
    for service in services {
        for (name, value) in service.signals.iter().filter(|(_, value)| value.is_finite()) {
            let labels = [("service", service.service.as_str()), ("signal", name.as_str())];
            encode(&mut signal, &labels, &ConstGauge::new(*value))?;
        }
    }
    let help = "What an instance reports of itself, by name.";
    let mut reported = family(out, "instance_reported", help, MetricType::Gauge)?;
    for service in services {
        for (instance, name, value) in of_instances(service).take(MOST_SERIES) {
            let mut labels = labels(service.service.as_str(), &instance);
            labels.push(("metric", name.to_owned()));
            encode(&mut reported, &labels, &ConstGauge::new(value))?;
        }
    }
    let help = "Reported values that are not shown, since there are too many.";
    let mut hidden = family(out, "instance_reported_hidden", help, MetricType::Gauge)?;
    for service in services {
        let count = of_instances(service).count().saturating_sub(MOST_SERIES);
        let labels = [("service", service.service.as_str())];
        encode(&mut hidden, &labels, &ConstGauge::new(small(count)))?;
    }
    Ok(())
}

fn of_instances(
    service: &ServiceObservation,
) -> impl Iterator<Item = (foreshadow_control::InstanceId, &str, f64)> {
    service.instances.iter().flat_map(|instance| {
        let values = instance.reported.iter().filter(|(_, value)| value.is_finite());
        values.map(|(name, value)| (instance.instance, name.as_str(), *value))
    })
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::node::history::tests::view;

    #[derive(Debug)]
    struct Only(View);

    impl Collector for Only {
        fn encode(&self, mut out: DescriptorEncoder) -> fmt::Result {
            reported(&mut out, &self.0)
        }
    }

    fn written(view: View) -> String {
        let mut registry = Registry::with_prefix("foreshadow");
        registry.register_collector(Box::new(Only(view)));
        let mut body = String::new();
        text::encode(&mut body, &registry).unwrap();
        body
    }

    #[test]
    fn what_is_reported_is_shown_under_its_name_whatever_that_is() {
        let mut view = view(1_000, 100, 1);
        let service = &mut view.observation.services[0];
        service.signals = [("reach".to_owned(), 2.5), ("nan".to_owned(), f64::NAN)].into();
        // No source lets such a name through; a label has room for it all the same.
        let odd = "a\"b\\c\nd".to_owned();
        service.instances[0].reported = [("queue/depth".to_owned(), 12.0), (odd, 1.0)].into();
        let text = written(view);
        for line in [
            "# TYPE foreshadow_signal gauge",
            "foreshadow_signal{service=\"shop\",signal=\"reach\"} 2.5",
            "# TYPE foreshadow_instance_reported gauge",
            "foreshadow_instance_reported{service=\"shop\",instance=\"i1\",metric=\"queue/depth\"} 12.0",
            "foreshadow_instance_reported{service=\"shop\",instance=\"i1\",metric=\"a\\\"b\\\\c\\nd\"} 1.0",
            "foreshadow_instance_reported_hidden{service=\"shop\"} 0.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nin\n{text}");
        }
        assert!(!text.contains("NaN") && !text.contains("signal=\"nan\""), "{text}");
    }

    #[test]
    fn series_are_bounded_and_those_not_shown_are_counted() {
        let mut view = view(1_000, 100, 40);
        for instance in &mut view.observation.services[0].instances {
            instance.reported = (0..32).map(|n| (format!("n{n}"), 1.0)).collect();
        }
        let text = written(view);
        let shown = text.lines().filter(|line| line.starts_with("foreshadow_instance_reported{"));
        assert_eq!(shown.count(), MOST_SERIES);
        let hidden = format!(
            "foreshadow_instance_reported_hidden{{service=\"shop\"}} {}.0",
            40 * 32 - MOST_SERIES
        );
        assert!(text.contains(&hidden), "{text}");
    }
}
