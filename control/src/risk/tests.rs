//! Instances without a world around them: scores of a day at a time.

use super::*;
use crate::{LatencySummary, Meters, Mode, ResourceSample, RiskSignal, Role, ServiceName};

const DAY_S: u64 = 86_400;

/// Seeded chance: splitmix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal, by twelve uniforms.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

fn seen(instances: Vec<InstanceObservation>) -> ServiceObservation {
    ServiceObservation {
        instances,
        ..ServiceObservation::quiet(ServiceName::from("shop"), Mode::Act)
    }
}

fn instance(id: u64, meters: Meters, resources: Option<ResourceSample>) -> InstanceObservation {
    InstanceObservation {
        tier_age_ms: 1_000_000,
        meters,
        resources,
        ..InstanceObservation::idle(InstanceId(id), Role::Primary, Tier::Serving)
    }
}

/// A second of an instance that answers `rps` requests in `latency_ms` and fails a part of them.
fn second(chance: &mut Chance, rps: f64, latency_ms: f64, failing: f64) -> Meters {
    let requests = (rps + rps.sqrt() * chance.normal()).max(0.0).round();
    // A tenth of the seconds has a pause of its own in it, of two to four times the latency.
    let pause = if chance.unit() < 0.1 { 1.0 + chance.unit() } else { 1.0 };
    let mean_ms = latency_ms * pause * libm::exp(0.5 / requests.max(1.0).sqrt() * chance.normal());
    let wavers = (requests * failing * (1.0 - failing)).sqrt() * chance.normal();
    let failed = (requests * failing + wavers + chance.unit()).clamp(0.0, requests) as u64;
    let in_flight = (requests * mean_ms / 1_000.0 + chance.unit()).floor();
    let answered = requests as u64 - failed;
    let latency = LatencySummary {
        count: requests as u64,
        sum_ms: requests * mean_ms,
        ..LatencySummary::default()
    };
    Meters {
        requests: requests as u64,
        in_flight: in_flight as u64,
        ok: answered,
        server_errors: failed,
        latency,
        ..Meters::default()
    }
}

/// Memory between a third and two thirds of the limit, collected every ten minutes.
fn sawtooth(at_s: u64, id: u64) -> ResourceSample {
    let phase = (at_s + 97 * id) % 600;
    ResourceSample {
        memory_bytes: Some(330_000_000 + 500_000 * phase),
        memory_limit_bytes: Some(1_000_000_000),
        ..ResourceSample::default()
    }
}

/// Alarms begun in five instances whose load, latency and few failures only waver.
fn alarms_of_calm(seconds: u64, seed: u64) -> usize {
    let mut chance = Chance(seed);
    let mut risk = Risk::new("shop");
    let (mut alarms, mut before) = (0, Vec::<bool>::new());
    for at_s in 0..seconds {
        let day = libm::sin(at_s as f64 / DAY_S as f64 * std::f64::consts::TAU);
        // What the service shares: a daily wave, and five bad minutes of a database every hour.
        let shared = if at_s % 3_600 < 300 { 2.5 } else { 1.0 };
        let latency_ms = 20.0 * (1.0 + 0.3 * day) * shared;
        let instances = (1..=5).map(|id| {
            let own = 1.0 + 0.2 * id as f64;
            let meters = second(&mut chance, 40.0 * (1.0 + 0.5 * day), own * latency_ms, 0.002);
            instance(id, meters, Some(sawtooth(at_s, id)))
        });
        let now_ms = at_s * 1_000;
        risk.observe(&seen(instances.collect()), now_ms, 1_000, 0.001);
        let alarmed: Vec<bool> = risk.watches.values().map(|w| w.relief.is_alarmed()).collect();
        alarms += alarmed.iter().zip(&before).filter(|(now, before)| **now && !**before).count();
        before = alarmed;
    }
    alarms
}

#[test]
fn noise_raises_no_alarm_in_six_instance_hours() {
    assert_eq!(alarms_of_calm(DAY_S / 20, 1), 0);
}

#[test]
fn noise_raises_less_than_one_alarm_in_five_instance_days() {
    let alarms = alarms_of_calm(2 * DAY_S, 2);
    assert!(alarms <= 2, "{alarms} alarms in 10 instance-days");
}

/// Scores after ten calm minutes and two in which each instance behaves as told.
fn scores(instances: u64, then: impl Fn(&mut Chance, u64) -> Meters) -> Vec<f64> {
    let mut chance = Chance(7);
    let mut risk = Risk::new("shop");
    for at_s in 0..720 {
        let meters = (1..=instances).map(|id| {
            let meters = match at_s {
                0..600 => second(&mut chance, 50.0, 20.0, 0.0),
                _ => then(&mut chance, id),
            };
            instance(id, meters, None)
        });
        risk.observe(&seen(meters.collect()), at_s * 1_000, 1_000, 0.001);
    }
    risk.assessments(|_| 0.0).iter().map(|assessment| assessment.score).collect()
}

fn only_first(scores: &[f64]) -> bool {
    scores[0] >= evidence::RAISE && scores[1..].iter().all(|score| *score < evidence::CLEAR)
}

#[test]
fn each_kind_of_trouble_is_seen_in_the_one_that_has_it() {
    let slow = scores(5, |chance, id| second(chance, 50.0, if id == 1 { 60.0 } else { 20.0 }, 0.0));
    assert!(only_first(&slow), "{slow:?}");
    let failing =
        scores(5, |chance, id| second(chance, 50.0, 20.0, if id == 1 { 0.3 } else { 0.0 }));
    assert!(only_first(&failing), "{failing:?}");
    let hanging = scores(5, |chance, id| {
        let mut meters = second(chance, 50.0, 20.0, 0.0);
        if id == 1 {
            (meters.ok, meters.latency, meters.in_flight) = (0, LatencySummary::default(), 400);
        }
        meters
    });
    assert!(only_first(&hanging), "{hanging:?}");
    let refusing = scores(5, |chance, id| {
        let mut meters = second(chance, 50.0, 20.0, 0.0);
        if id == 1 {
            meters.connect_errors = meters.requests / 2;
        }
        meters
    });
    assert!(only_first(&refusing), "{refusing:?}");
}

#[test]
fn what_all_do_alike_is_nobodys_fault() {
    for told in [(80.0, 0.0), (20.0, 0.3), (80.0, 0.3)] {
        let scores = scores(5, |chance, _| second(chance, 50.0, told.0, told.1));
        assert!(scores.iter().all(|score| *score < evidence::CLEAR), "{told:?}: {scores:?}");
    }
}

#[test]
fn who_has_no_peers_is_not_blamed_for_latency_alone() {
    let scores = scores(1, |chance, _| second(chance, 50.0, 100.0, 0.0));
    assert!(scores[0] > 0.02 && scores[0] < evidence::RAISE, "{scores:?}");
}

/// Score and exhaustion of an instance whose memory does as told, after so many seconds.
fn remembered(seconds: u64, used_share: impl Fn(u64) -> f64) -> RiskAssessment {
    let mut risk = Risk::new("shop");
    for at_s in 0..seconds {
        let resources = ResourceSample {
            memory_bytes: Some((1e9 * used_share(at_s)) as u64),
            memory_limit_bytes: Some(1_000_000_000),
            ..ResourceSample::default()
        };
        let instances = vec![instance(1, Meters::default(), Some(resources))];
        risk.observe(&seen(instances), at_s * 1_000, 1_000, 0.001);
    }
    risk.assessments(|_| 0.0).remove(0)
}

#[test]
fn a_leak_is_told_with_its_time_and_before_it_is_measured() {
    // 0.1 % a second from 40 %: exhausted after 600 s, 250 s from now.
    let leak = remembered(350, |at_s| 0.4 + 0.001 * at_s as f64);
    assert!(leak.score >= evidence::RAISE, "{leak:?}");
    let exhaustion = leak.exhaustion.expect("there is a trend");
    assert!((240_000..260_000).contains(&exhaustion.in_ms), "{exhaustion:?}");
    assert!(exhaustion.soonest_ms <= exhaustion.in_ms, "{exhaustion:?}");
    assert_eq!(leak.contributors[0].what, crate::RiskSignal::MemoryTrend);
    assert!(leak.soon_score < 0.1, "not within half a minute: {leak:?}");
}

/// The same of an instance that says by itself how much it uses.
fn reported(seconds: u64, all: impl Fn(u64) -> Vec<(&'static str, f64)>) -> RiskAssessment {
    let mut risk = Risk::new("shop");
    for at_s in 0..seconds {
        let mut one = instance(1, Meters::default(), None);
        one.reported = all(at_s).into_iter().map(|(name, v)| (name.to_owned(), v)).collect();
        risk.observe(&seen(vec![one]), at_s * 1_000, 1_000, 0.001);
    }
    risk.assessments(|_| 0.0).remove(0)
}

#[test]
fn a_leak_that_only_the_instance_reports_is_told_alike() {
    let share = |at_s: u64| 0.4 + 0.001 * at_s as f64;
    let by_provider = remembered(350, share);
    let told: [(&str, RiskAssessment); 3] = [
        ("memory", reported(350, |at_s| vec![("memory", share(at_s))])),
        ("bytes", {
            reported(350, |at_s| {
                vec![("memory_bytes", 1e9 * share(at_s)), ("memory_limit_bytes", 1e9)]
            })
        }),
        ("disk", reported(350, |at_s| vec![("disk", share(at_s))])),
    ];
    for (what, told) in told {
        assert!((told.score - by_provider.score).abs() < 1e-6, "{what}: {told:?}");
        let [exhaustion, expected] = [&told, &by_provider].map(|a| a.exhaustion.expect(what));
        assert!(exhaustion.in_ms.abs_diff(expected.in_ms) < 100, "{what}: {exhaustion:?}");
        let of_disk = exhaustion.what == RiskSignal::DiskTrend;
        assert_eq!(of_disk, what == "disk");
    }
}

#[test]
fn what_a_provider_sees_counts_before_what_is_reported_and_no_trend_mixes_both() {
    let mut risk = Risk::new("shop");
    for at_s in 0..600 {
        // Steady by the provider, then known only by a report, in another unit, and steady too.
        let resources = ResourceSample {
            memory_bytes: Some(600_000_000),
            memory_limit_bytes: Some(1_000_000_000),
            ..ResourceSample::default()
        };
        let mut one = instance(1, Meters::default(), (at_s < 300).then_some(resources));
        let leak = 0.4 + 0.001 * at_s as f64;
        one.reported = [("memory".to_owned(), if at_s < 300 { leak } else { 0.7 })].into();
        risk.observe(&seen(vec![one]), at_s * 1_000, 1_000, 0.001);
        let told = risk.assessments(|_| 0.0).pop();
        assert!(told.is_none_or(|told| told.score < evidence::CLEAR), "{at_s} s");
    }
}

#[test]
fn reports_that_cannot_be_are_no_evidence() {
    for value in [f64::NAN, f64::INFINITY, -1.0, 85.0, 1e300] {
        let names = ["memory", "disk", "memory_bytes", "memory_limit_bytes", "io_pressure"];
        let told = reported(120, |_| names.map(|name| (name, value)).to_vec());
        assert!(told.score < evidence::CLEAR, "{value}: {told:?}");
    }
}

#[test]
fn memory_that_is_merely_full_or_still_filling_is_no_alarm() {
    let full = remembered(600, |_| 0.96);
    assert!(full.score < evidence::CLEAR, "{full:?}");
    let filling = remembered(120, |at_s| 0.05 + 0.002 * at_s as f64);
    assert!(filling.score < evidence::CLEAR, "{filling:?}");
}

#[test]
fn a_failure_after_an_alarm_speaks_for_the_next_one() {
    let mut risk = Risk::new("shop");
    let before = risk.far.probability(0.0);
    for at_s in 0..300 {
        let resources = ResourceSample {
            memory_bytes: Some(960_000_000 + at_s * 50_000),
            memory_limit_bytes: Some(1_000_000_000),
            ..ResourceSample::default()
        };
        let instances = vec![instance(1, Meters::default(), Some(resources))];
        risk.observe(&seen(instances), at_s * 1_000, 1_000, 0.001);
    }
    let mut gone = instance(1, Meters::default(), None);
    gone.health = Health::Down("out of memory".to_owned());
    risk.observe(&seen(vec![gone]), 300_000, 1_000, 0.001);
    assert!(risk.far.probability(0.0) > before);
    assert!(risk.assessments(|_| 0.0).is_empty(), "one that is down is no longer at risk");
}

/// Scores after so many seconds of calm and others in which the first one's latency does as told.
fn slowing(calm_s: u64, seconds: u64, times: impl Fn(u64) -> f64) -> Vec<RiskAssessment> {
    let mut chance = Chance(11);
    let mut risk = Risk::new("shop");
    for at_s in 0..calm_s + seconds {
        let instances = (1..=4).map(|id| {
            let own = if id == 1 { times(at_s.saturating_sub(calm_s)) } else { 1.0 };
            instance(id, second(&mut chance, 50.0, 20.0 * own, 0.0), None)
        });
        risk.observe(&seen(instances.collect()), at_s * 1_000, 1_000, 0.001);
    }
    risk.assessments(|_| 0.0)
}

#[test]
fn what_slows_down_over_minutes_is_seen_though_every_one_looks_like_the_last() {
    let told = slowing(3_900, 1_500, |passed_s| 1.0 + 2.0 * passed_s as f64 / 1_500.0);
    assert!(told[0].score >= evidence::RAISE, "{:?}", told[0]);
    assert_eq!(told[0].contributors[0].what, RiskSignal::Latency);
    assert!(told[0].contributors[0].evidence.contains("of an hour"), "{:?}", told[0]);
    assert!(told[1..].iter().all(|told| told.score < evidence::CLEAR), "{told:?}");
}

#[test]
fn signs_of_one_trouble_are_not_counted_twice() {
    let mut evidence = Evidence::default();
    for what in [RiskSignal::Throughput, RiskSignal::Latency, RiskSignal::InFlight] {
        evidence.add(what, 4.0, String::new);
    }
    evidence.add(RiskSignal::Stalls, 3.0, String::new);
    evidence.discount();
    let (far, soon) = evidence.log_odds();
    assert!((far - evidence::BASE_LOG_ODDS - 10.0).abs() < 1e-9, "{far}");
    assert!((soon - evidence::SOON_LOG_ODDS - 10.0).abs() < 1e-9, "{soon}");
}

/// The first of three instances' assessment, whose reported queue is told beside their noise.
fn queued(seconds: u64, queue: impl Fn(u64, u64) -> f64) -> Vec<RiskAssessment> {
    let mut risk = Risk::new("shop");
    let mut chance = Chance(5);
    for at_s in 0..seconds {
        let instances = (1..=3).map(|id| {
            let mut one = instance(id, Meters::default(), None);
            let noise = 20.0 + 2.0 * chance.normal();
            one.reported.insert("queue_depth".to_owned(), (noise + queue(id, at_s)).max(0.0));
            one
        });
        risk.observe(&seen(instances.collect()), at_s * 1_000, 1_000, 0.001);
    }
    risk.assessments(|_| 0.0)
}

#[test]
fn a_reported_metric_that_departs_is_evidence_and_no_alarm_alone() {
    let told = queued(312, |id, at_s| if id == 1 && at_s >= 300 { 80.0 } else { 0.0 });
    let first = &told[0].contributors[0];
    assert_eq!(first.what, RiskSignal::Reported);
    assert!(first.evidence.starts_with("queue_depth"), "{first:?}");
    assert!(told[0].score > 5.0 * told[1].score && told[0].score < evidence::CLEAR, "{told:?}");
    let shared = queued(312, |_, at_s| if at_s >= 300 { 80.0 } else { 0.0 });
    assert!(shared.iter().all(|told| told.score < 0.02), "{shared:?}");
}

#[test]
fn what_was_learned_before_longer_scales_were_known_is_taken_over() {
    let mut risk = Risk::new("shop");
    let mut chance = Chance(3);
    for at_s in 0..200 {
        let instances = vec![instance(1, second(&mut chance, 50.0, 20.0, 0.0), None)];
        risk.observe(&seen(instances), at_s * 1_000, 1_000, 0.001);
    }
    let mut stored = serde_json::to_value(&risk).unwrap();
    let watch = stored["watches"][0][1].as_object_mut().unwrap();
    watch.remove("slow_drifts");
    watch.remove("reported");
    let restored: Risk = serde_json::from_value(stored).unwrap();
    assert_eq!(restored.assessments(|_| 1.0), risk.assessments(|_| 1.0));
    assert_eq!(restored.watches[&InstanceId(1)].slow_drifts[0].usual(), None);
}
