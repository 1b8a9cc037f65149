//! Asks instances for their metrics, each by a task of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_config::{Scrape, ScrapedSeries};
use foreshadow_control::{InstanceId, InstanceObservation, Role, Tier};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::trouble::Trouble;
use super::{Report, Subject, exposition, fetch};
use crate::node::Shared;

/// Instances asked at once: each answer may be 4 MiB long.
pub(in crate::node) const AT_ONCE: usize = 16;
/// How often it is looked whom to ask.
const LOOK: Duration = Duration::from_millis(250);
const ACCEPT: &str = "text/plain;version=0.0.4,*/*;q=0.1";

/// Asks for as long as the node runs.
pub(in crate::node) fn start(shared: &Arc<Shared>) {
    tokio::spawn(follow(Arc::clone(shared)));
}

/// A task and what it was started for.
struct Asking {
    address: SocketAddr,
    scrape: Scrape,
    task: JoinHandle<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sees to it that there is one task per instance that is to be asked.
async fn follow(shared: Arc<Shared>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = BTreeMap::new();
    let mut known = 0;
    loop {
        // Those of load reports are left out where answers are read, which has no log.
        let not_believed = foreshadow_proxy::not_believed();
        if not_believed > known {
            let what = "load reports in answers have shares that nothing can be used to";
            shared.metrics.not_believed.add(not_believed - known, what);
            known = not_believed;
        }
        keep_up(&shared, &turns, &mut asking);
        sleep(LOOK).await;
    }
}

/// Begins and ends tasks as the configuration and the last tick have it.
fn keep_up(
    shared: &Arc<Shared>,
    turns: &Arc<Semaphore>,
    asking: &mut BTreeMap<InstanceId, Asking>,
) {
    let Some(view) = shared.view() else { return };
    let config = shared.config.load();
    let asked = view.observation.services.iter().filter_map(|seen| {
        let scrape = config.services.get(&seen.service)?.metrics.scrape.as_ref()?;
        Some((seen, scrape))
    });
    let wanted: BTreeMap<InstanceId, (SocketAddr, &Scrape)> = asked
        .flat_map(|(seen, scrape)| {
            let running = seen.instances.iter().filter(|i| is_running(i));
            running.map(move |instance| (instance.instance, scrape))
        })
        .filter_map(|(id, scrape)| Some((id, (*view.addresses.get(&id)?, scrape))))
        .collect();
    asking.retain(|id, task| wanted.get(id) == Some(&(task.address, &task.scrape)));
    for (id, (address, scrape)) in wanted {
        asking.entry(id).or_insert_with(|| {
            let scrape = scrape.clone();
            let source = Source {
                shared: Arc::clone(shared),
                turns: Arc::clone(turns),
                id,
                address: metrics_address(address, &scrape),
                scrape: scrape.clone(),
            };
            Asking { address, scrape, task: tokio::spawn(source.run()) }
        });
    }
}

/// Whether it can answer: primaries, and shadows that are not frozen.
fn is_running(instance: &InstanceObservation) -> bool {
    let freezes = matches!(instance.moving_to, Some(Tier::Shadow | Tier::Cold));
    instance.role == Role::Primary || instance.tier >= Tier::Warm && !freezes
}

fn metrics_address(mut address: SocketAddr, scrape: &Scrape) -> SocketAddr {
    if let Some(port) = scrape.port {
        address.set_port(port);
    }
    address
}

/// One instance that is asked.
struct Source {
    shared: Arc<Shared>,
    turns: Arc<Semaphore>,
    id: InstanceId,
    address: SocketAddr,
    scrape: Scrape,
}

impl Source {
    async fn run(self) {
        // Those of one service must not all be asked at the same time.
        let interval = self.scrape.interval;
        sleep(interval.mul_f64(f64::from(own_share(self.id.0)))).await;
        let name = format!("{} at {}", self.id, self.address);
        let mut rates = Rates::default();
        let mut trouble = Trouble::default();
        loop {
            let begun = Instant::now();
            let good = match self.ask().await {
                Ok(sums) => {
                    let values = rates.values(&self.scrape.series, &sums, Instant::now());
                    let report = Report { of: Subject::Instance(self.id), age_ms: 0, values };
                    if let Err(refused) = self.shared.metrics.report(report) {
                        tracing::debug!(?refused, "a scrape is left out");
                    }
                    trouble.over(&name);
                    true
                }
                Err(error) => {
                    rates = Rates::default();
                    trouble.tell(&name, &error);
                    false
                }
            };
            self.shared.metrics.scrapes.count(good);
            // One that takes longer than the interval is followed at once, never overtaken.
            sleep_until(begun + interval).await;
        }
    }

    async fn ask(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let _turn = self.turns.acquire().await?;
        let Scrape { path, timeout, series, .. } = &self.scrape;
        let host = self.address.to_string();
        let text = fetch::get(&host, &host, path, ACCEPT, *timeout).await?;
        let sums = exposition::sums(&text, series);
        anyhow::ensure!(!sums.is_empty(), "{path} has none of the series that are asked for");
        Ok(sums.into_iter().map(|(name, sum)| (name.to_owned(), sum)).collect())
    }
}

/// What counters stood at.
#[derive(Debug, Default)]
struct Rates(BTreeMap<String, (f64, Instant)>);

impl Rates {
    /// Metrics from sums: those of counters by their growth, once they have been seen twice.
    fn values(
        &mut self,
        series: &BTreeMap<String, ScrapedSeries>,
        sums: &BTreeMap<String, f64>,
        now: Instant,
    ) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for (name, scraped) in series {
            let Some(sum) = sums.get(name).copied() else {
                self.0.remove(name);
                continue;
            };
            let value = if scraped.rate {
                let before = self.0.insert(name.clone(), (sum, now));
                let grown = before.map(|(before, at)| (sum - before, now - at));
                // One that has begun anew says nothing until the next time.
                let grown = grown.filter(|(more, passed)| *more >= 0.0 && !passed.is_zero());
                grown.map(|(more, passed)| more / passed.as_secs_f64())
            } else {
                Some(sum)
            };
            if let Some(value) = value {
                values.insert(name.clone(), value * scraped.scale);
            }
        }
        values
    }
}

/// A share of 1 that differs from instance to instance (Fibonacci hashing, Knuth, section 6.4).
fn own_share(id: u64) -> f32 {
    (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1_u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_rates_and_survive_a_new_beginning() {
        let scraped = |rate| ScrapedSeries { series: "x".parse().unwrap(), rate, scale: 0.5 };
        let series = BTreeMap::from([
            ("cpu".to_owned(), scraped(true)),
            ("queue".to_owned(), scraped(false)),
        ]);
        let mut rates = Rates::default();
        let begun = Instant::now();
        let mut at = |s: u64, cpu: f64| {
            let sums = BTreeMap::from([("cpu".to_owned(), cpu), ("queue".to_owned(), 8.0)]);
            let values = rates.values(&series, &sums, begun + Duration::from_secs(s));
            assert_eq!(values["queue"], 4.0);
            values.get("cpu").copied()
        };
        assert_eq!(at(0, 100.0), None, "once is no rate");
        assert_eq!(at(5, 110.0), Some(1.0));
        assert_eq!(at(10, 2.0), None, "it has begun anew");
        assert_eq!(at(15, 2.0), Some(0.0));
        assert_eq!(at(15, 2.0), None, "no time has passed");
    }

    #[test]
    fn first_times_are_spread() {
        let shares: Vec<f32> = (1..=8).map(own_share).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)), "{shares:?}");
        let mut sorted = shares.clone();
        sorted.sort_by(f32::total_cmp);
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] > 0.02), "{shares:?}");
    }
}
