use proptest::prelude::*;

use super::*;
use crate::{
    InstanceId, InstanceObservation, MirrorSummary, Mode, Role, ServiceName, ServiceObservation,
    Tier,
};

fn shadow(id: u64, compared: u64, agreed: u64) -> InstanceObservation {
    InstanceObservation {
        mirror: Some(MirrorSummary { compared, agreed, ..MirrorSummary::default() }),
        ..InstanceObservation::idle(InstanceId(id), Role::Shadow, Tier::Warm)
    }
}

fn seen(
    arrivals: u64,
    traffic: TrafficCounts,
    instances: Vec<InstanceObservation>,
) -> ServiceObservation {
    ServiceObservation {
        arrivals,
        instances,
        traffic,
        ..ServiceObservation::quiet(ServiceName::from("shop"), Mode::Act)
    }
}

/// What is said after one tick with all of this in it.
fn after(
    arrivals: u64,
    traffic: TrafficCounts,
    (compared, agreed): (u64, u64),
    mirroring: Mirroring,
) -> Fitness {
    let mut workload = Workload::default();
    workload.observe(&seen(arrivals, traffic, vec![shadow(1, compared, agreed)]), 100);
    workload.assess(mirroring)
}

const TENTH: Mirroring = Mirroring::Share(0.1);

fn plain(looked_at: u64) -> TrafficCounts {
    TrafficCounts { looked_at, ..TrafficCounts::default() }
}

fn kinds(fitness: &Fitness) -> Vec<FitnessConcern> {
    fitness.reasons.iter().map(|reason| reason.what).collect()
}

#[test]
fn a_service_that_only_reads_is_good_once_copies_agreed() {
    let fitness = after(10_000, plain(1_250), (500, 500), TENTH);
    assert_eq!(fitness.verdict, FitnessVerdict::Good);
    assert!(fitness.score > 0.97 && fitness.at_most > 0.999, "{fitness:?}");
    assert_eq!((fitness.shares.copyable, fitness.shares.agreement), (1.0, Some(1.0)));
}

#[test]
fn without_evidence_nothing_is_claimed() {
    let nothing = Workload::default().assess(Mirroring::NoShadows);
    assert_eq!(
        (nothing.verdict, nothing.score, nothing.at_most),
        (FitnessVerdict::Unknown, 0.0, 1.0)
    );
    assert_eq!(nothing.reasons[0].text, "no request was seen lately");
    assert_eq!(kinds(&nothing), [FitnessConcern::FewRequests, FitnessConcern::FewCompared]);
    let unmirrored = after(10_000, plain(1_250), (0, 0), Mirroring::NoShadows);
    assert_eq!((unmirrored.verdict, unmirrored.score), (FitnessVerdict::Unknown, 0.0));
    assert_eq!(unmirrored.by_traffic, 1.0);
    assert_eq!(kinds(&unmirrored)[0], FitnessConcern::FewCompared);
    let advice = unmirrored.reasons[0].advice.as_deref();
    assert_eq!(advice, Some("give the service shadows: copies go to those that are warm"));
    let few = after(10_000, plain(1_250), (4, 4), TENTH);
    assert_eq!(few.verdict, FitnessVerdict::Unknown);
    let advice = few.reasons[0].advice.as_deref().unwrap();
    assert!(advice.contains("shadows.mirror.share, now 10 %"), "{advice}");
}

#[test]
fn writes_limit_what_is_verified_and_say_so() {
    let traffic = TrafficCounts { other: 3_800, ..plain(1_250) };
    let fitness = after(10_000, traffic, (500, 500), TENTH);
    assert_eq!(fitness.verdict, FitnessVerdict::Limited);
    assert_eq!(
        fitness.reasons[0].text,
        "38 % of requests have a method such as POST: none of them is mirrored, so a shadow is \
         verified on 62 % of the traffic"
    );
    let writes = TrafficCounts { other: 9_500, ..plain(1_250) };
    let unmirrored = after(10_000, writes, (0, 0), TENTH);
    assert_eq!(unmirrored.verdict, FitnessVerdict::Poor, "known whatever copies would say");
}

#[test]
fn what_differs_costs_most_where_most_differs() {
    let traffic = TrafficCounts { set_cookies: 125, sessions: 250, cookies: 250, ..plain(1_250) };
    let fitness = after(10_000, traffic, (500, 440), TENTH);
    let texts: Vec<&str> = fitness.reasons.iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(texts[0], "12 % of 500 mirrored answers differed in status class or did not come");
    let sessions = "10 % of answers set cookies and 20 % of requests carry one: sessions may live \
                    in the instance";
    assert!(texts.contains(&sessions), "{texts:?}");
    let costs: Vec<f64> = fitness.reasons.iter().map(|reason| reason.cost).collect();
    assert!(costs.is_sorted_by(|a, b| a >= b), "{costs:?}");
    let total = fitness.score + costs.iter().sum::<f64>();
    assert!((0.9..1.1).contains(&total), "costs and score make about the whole: {total}");
}

#[test]
fn every_concern_is_named() {
    let traffic = TrafficCounts {
        idempotent: 1_000,
        other: 1_000,
        upgrades: 1_000,
        looked_at: 1_000,
        safe_uncopied: 100,
        cookies: 500,
        authorized: 500,
        set_cookies: 0,
        sessions: 500,
        storable: 0,
        vary_any: 500,
    };
    let mut told = kinds(&after(10_000, traffic, (20, 10), TENTH));
    told.sort_unstable();
    assert_eq!(told.len(), 10, "{told:?}");
    told.dedup();
    assert_eq!(told.len(), 10);
}

#[test]
fn the_past_weighs_half_after_a_half_life() {
    let mut workload = Workload::default();
    workload.observe(&seen(1_000, plain(100), vec![shadow(1, 40, 40)]), 100);
    for _ in 0..9_000 {
        workload.observe(&seen(0, TrafficCounts::default(), vec![shadow(1, 40, 40)]), 100);
    }
    let evidence = workload.assess(TENTH).evidence;
    assert!((evidence.requests - 500.0).abs() < 1.0, "{evidence:?}");
    assert!((evidence.compared - 20.0).abs() < 0.1, "{evidence:?}");
    workload.observe(&seen(0, TrafficCounts::default(), Vec::new()), u64::MAX);
    assert_eq!(workload.assess(TENTH).evidence.requests, 0.0);
}

#[test]
fn a_service_that_fell_silent_is_said_to_be_silent() {
    let mut workload = Workload::default();
    workload.observe(&seen(20, plain(3), vec![shadow(1, 5, 4)]), 100);
    for _ in 0..7 * 900 {
        workload.observe(&seen(0, TrafficCounts::default(), vec![shadow(1, 5, 4)]), 1_000);
    }
    let fitness = workload.assess(TENTH);
    assert_eq!(fitness.evidence.requests + fitness.evidence.compared, 0.0);
    assert_eq!((fitness.verdict, fitness.shares.agreement), (FitnessVerdict::Unknown, None));
    assert!(fitness.reasons.iter().any(|r| r.text == "no request was seen lately"), "{fitness:?}");
}

#[test]
fn copies_count_once_and_again_when_an_instance_begins_anew() {
    let mut workload = Workload::default();
    let mut tick = |shadows: Vec<InstanceObservation>| {
        workload.observe(&seen(0, TrafficCounts::default(), shadows), 1);
        let sums = workload.sums;
        (sums.compared, sums.agreed)
    };
    assert_eq!(tick(vec![shadow(1, 10, 9)]), (10.0, 9.0));
    assert_eq!(tick(vec![shadow(1, 10, 9)]), (10.0, 9.0));
    assert_eq!(tick(vec![shadow(1, 12, 10), shadow(2, 5, 5)]), (17.0, 15.0));
    assert_eq!(tick(vec![shadow(1, 3, 3)]), (20.0, 18.0), "began anew");
    // More agreed than compared is a broken count.
    assert_eq!(tick(vec![shadow(3, 2, 9)]), (22.0, 20.0));
}

#[test]
fn observations_without_traffic_are_still_read() {
    let old = serde_json::to_value(seen(7, TrafficCounts::default(), Vec::new())).unwrap();
    assert!(old.get("traffic").is_none(), "{old}");
    let read: ServiceObservation = serde_json::from_value(old).unwrap();
    assert_eq!(read.traffic, TrafficCounts::default());
    let traffic = TrafficCounts { other: 3, ..TrafficCounts::default() };
    let new = serde_json::to_string(&seen(7, traffic, Vec::new())).unwrap();
    assert!(new.contains("\"traffic\":{\"other\":3}"), "{new}");
    assert_eq!(serde_json::from_str::<ServiceObservation>(&new).unwrap().traffic, traffic);
}

fn any_counts() -> impl Strategy<Value = (u64, TrafficCounts, (u64, u64))> {
    let count = || prop_oneof![Just(0), 0..100_u64, 0..1_000_000_u64, Just(u64::MAX)];
    (count(), prop::array::uniform11(count()), (count(), count())).prop_map(
        |(arrivals, n, mirror)| {
            let traffic = TrafficCounts {
                idempotent: n[0],
                other: n[1],
                upgrades: n[2],
                looked_at: n[3],
                safe_uncopied: n[4],
                cookies: n[5],
                authorized: n[6],
                set_cookies: n[7],
                sessions: n[8],
                storable: n[9],
                vary_any: n[10],
            };
            (arrivals, traffic, mirror)
        },
    )
}

proptest! {
    #[test]
    fn whatever_is_counted_the_score_is_one((arrivals, traffic, mirror) in any_counts(), share in any::<f64>()) {
        let fitness = after(arrivals, traffic, mirror, Mirroring::Share(share));
        for value in [fitness.score, fitness.at_most, fitness.by_traffic] {
            prop_assert!((0.0..=1.0).contains(&value), "{fitness:?}");
        }
        prop_assert!(fitness.score <= fitness.at_most);
        for reason in &fitness.reasons {
            prop_assert!(reason.cost.is_finite() && reason.cost >= 0.0, "{fitness:?}");
        }
        let shares = fitness.shares;
        for value in [shares.copyable, shares.sessions, shares.storable, shares.cookies] {
            prop_assert!((0.0..=1.0).contains(&value), "{fitness:?}");
        }
    }

    #[test]
    fn more_agreement_never_lowers_it(
        compared in 0..10_000_u64,
        agreed in prop::array::uniform2(0..10_000_u64),
        other in 0..10_000_u64,
    ) {
        let (less, more) = (agreed[0].min(agreed[1]), agreed[0].max(agreed[1]));
        let of = |agreed: u64| {
            let traffic = TrafficCounts { other, ..plain(1_000) };
            after(10_000, traffic, (compared, agreed.min(compared)), TENTH)
        };
        let (less, more) = (of(less), of(more));
        prop_assert!(less.score <= more.score && less.at_most <= more.at_most);
    }

    #[test]
    fn fewer_safe_requests_never_raise_it(
        writes in prop::array::uniform2(0..10_000_u64),
        mirror in (0..1_000_u64, 0..1_000_u64),
    ) {
        let (fewer, more) = (writes[0].min(writes[1]), writes[0].max(writes[1]));
        let of = |other| after(10_000, TrafficCounts { other, ..plain(1_000) }, mirror, TENTH);
        let (few_writes, many_writes) = (of(fewer), of(more));
        prop_assert!(many_writes.score <= few_writes.score);
        prop_assert!(many_writes.at_most <= few_writes.at_most);
    }
}
