//! Rules in the world: what they look at, what they ask for, and what they may not do.

use foreshadow_control::{
    Action, AlertKind, Capacity, Controller, Entry, InstanceId, InstanceObservation, Law, Mode,
    Plan, ResourceSample, Role, RuleSpec, RuleState, ServiceName, ServicePlan, ServiceSpec, Tier,
    dry_run, replay,
};
use proptest::prelude::*;

use crate::random::Random;
use crate::sharing::{instance, observation};
use crate::sim::{Nature, World, spec};

pub(crate) fn rules(texts: &[&str]) -> Vec<RuleSpec> {
    let named = |(index, text): (usize, &&str)| RuleSpec {
        name: format!("r{index}"),
        rule: text.parse().unwrap_or_else(|error| panic!("{text}: {error}")),
    };
    texts.iter().enumerate().map(named).collect()
}

pub(crate) fn ruled(texts: &[&str]) -> ServiceSpec {
    ServiceSpec { capacity: Capacity::Pinned(100.0), rules: rules(texts), ..spec() }
}

/// Two primaries that report `cpu`.
pub(crate) fn primaries(cpu: [Option<f64>; 2]) -> Vec<InstanceObservation> {
    let one = |(id, cpu): (u64, Option<f64>)| {
        let mut seen = instance(id, Role::Primary, "a", 1_000_000);
        seen.reported.extend(cpu.map(|cpu| ("cpu".to_owned(), cpu)));
        seen
    };
    [1, 2].into_iter().zip(cpu).map(one).collect()
}

/// How the first rule stands, tick by tick, with `cpu` reported by both primaries.
fn stands(text: &str, ticks: u64, cpu: impl Fn(u64) -> [Option<f64>; 2]) -> Vec<RuleState> {
    let mut controller = Controller::new(vec![ruled(&[text])]);
    let state = |tick| {
        let plan = controller.tick(&observation(tick, 5, primaries(cpu(tick))));
        plan.services[0].rules[0].state
    };
    (1..=ticks).map(state).collect()
}

#[test]
fn a_rule_brings_shadows_in_long_before_any_law_would() {
    let rule = "demand > 10rps within 10s for 3 ticks -> activate 2";
    let mut world = World::new(Nature::default(), ruled(&[rule]));
    let mut fired = None;
    world.run(
        10_000,
        |_| 30.0,
        |world, _, plan| {
            let planned = &plan.services[0];
            assert!(world.serving_shadows() <= 2);
            for action in &planned.actions {
                let serves = matches!(action.action, Action::Move { tier: Tier::Serving, .. });
                assert!(!serves || action.reason.law == Law::Rule, "{action:?}");
            }
            let told = planned.reasons.iter().find(|reason| reason.law == Law::Rule);
            fired = fired.take().or(told.map(|reason| reason.text.clone()));
        },
    );
    assert_eq!(world.serving_shadows(), 2);
    let text = fired.expect("that it fires is told");
    assert!(text.starts_with("rule r0 fires: demand within 10s is "), "{text}");
    assert!(text.contains("(> 10rps), now "), "{text}");
}

#[test]
fn what_a_rule_asks_for_is_bounded_by_the_pool_and_taken_back_after_it() {
    let mut world =
        World::new(Nature::default(), ruled(&["demand > 100rps until < 60rps -> activate 9"]));
    let demand = |ms: u64| if ms < 20_000 { 130.0 } else { 30.0 };
    let mut most = 0;
    world.run(20_000, demand, |world, _, _| most = most.max(world.instances.len()));
    assert_eq!((most, world.serving_shadows()), (6, 4), "two primaries and the pool's four");
    world.run(90_000, |_| 30.0, |_, _, _| {});
    assert_eq!(world.serving_shadows(), 0);
}

#[test]
fn hold_keeps_what_a_spike_brought() {
    for (rules, kept) in [(&["rps >= 0rps -> hold"][..], true), (&[][..], false)] {
        let mut world = World::new(Nature::default(), ruled(rules));
        world.run(20_000, |_| 230.0, |_, _, _| {});
        assert!(world.serving_shadows() > 0);
        let before = world.serving_shadows();
        world.run(90_000, |_| 30.0, |_, _, _| {});
        assert_eq!(world.serving_shadows() == before, kept, "{before}");
        assert_eq!(world.serving_shadows() == 0, !kept);
    }
}

#[test]
fn warm_and_prepare_are_levels() {
    let mut world = World::new(Nature::default(), ruled(&["rps >= 0rps -> warm 3, prepare 4"]));
    world.run(10_000, |_| 20.0, |_, _, _| {});
    assert_eq!((world.shadows_at(Tier::Warm), world.shadows_at(Tier::Shadow)), (3, 1));
    assert_eq!(world.serving_shadows(), 0);
    let mut plain = World::new(Nature::default(), ruled(&[]));
    plain.run(10_000, |_| 20.0, |_, _, _| {});
    assert_eq!((plain.shadows_at(Tier::Warm), plain.shadows_at(Tier::Shadow)), (1, 1));
}

#[test]
fn what_instances_report_is_foreseen() {
    // From 20 % on it rises by a hundredth a second: 80 % is reached in tick 600.
    let ramp = |tick: u64| [Some(0.2 + tick as f64 * 1e-3); 2];
    let first = |text: &str| {
        let states = stands(text, 700, ramp);
        states.iter().position(|state| *state == RuleState::Firing).expect("it fires") as u64
    };
    let measured = first("cpu > 80% -> hold");
    assert!((600..615).contains(&measured), "{measured}");
    let foreseen = first("cpu > 80% within 20s -> hold");
    assert!((350..500).contains(&foreseen), "20 s ahead is tick 400: {foreseen}");
    let sure = first("p10 of cpu > 80% within 20s -> hold");
    assert!(sure >= foreseen && sure < measured, "{foreseen} {sure} {measured}");
}

#[test]
fn any_and_all_instances_are_told_apart() {
    let fires = |text: &str, cpu: [Option<f64>; 2]| {
        *stands(text, 30, |_| cpu).last().expect("ticks") == RuleState::Firing
    };
    let mixed = [Some(0.9), Some(0.1)];
    assert!(fires("any instance cpu > 80% -> hold", mixed));
    assert!(!fires("all instances cpu > 80% -> hold", mixed));
    assert!(fires("all instances cpu > 80% -> hold", [Some(0.9); 2]));
    assert!(fires("any instance cpu < 20% -> hold", mixed));
    assert!(!fires("all instances cpu < 20% -> hold", mixed));
    assert!(!fires("cpu > 80% -> hold", mixed), "the service's is the mean");
    assert!(fires("cpu > 49% and cpu < 51% -> hold", mixed));
    assert!(fires("any instance cpu > 80% -> hold", [Some(0.9), None]), "the silent are left out");
    for lie in [f64::NAN, f64::INFINITY, -1.0] {
        assert!(fires("cpu > 80% -> hold", [Some(0.9), Some(lie)]), "{lie} is no figure");
    }
}

#[test]
fn what_an_instance_uses_of_its_machine_counts_as_reported() {
    let fires = |text: &str| {
        let mut seen = primaries([None; 2]);
        seen[1].resources = Some(ResourceSample {
            memory_bytes: Some(3 << 30),
            memory_limit_bytes: Some(4 << 30),
            cpu_cores: Some(1.8),
            cpu_limit_cores: Some(2.0),
            memory_some_share: Some(0.3),
            ..ResourceSample::default()
        });
        let mut controller = Controller::new(vec![ruled(&[text])]);
        let state =
            |tick| controller.tick(&observation(tick, 5, seen.clone())).services[0].rules[0].state;
        (1..=30).map(state).last() == Some(RuleState::Firing)
    };
    assert!(fires("cpu > 89% and cpu < 91% -> hold"));
    assert!(fires("memory > 74% and memory < 76% -> hold"));
    assert!(fires("any instance memory > 2.9GiB -> hold"));
    assert!(fires("memory_pressure > 20% within 1m -> hold"));
    assert!(!fires("disk > 0% -> hold"));
}

#[test]
fn a_metric_nobody_reports_is_told_and_fires_nothing() {
    let mut controller =
        Controller::new(vec![ruled(&["gpu_load > 1 or demand > 1000rps -> activate 1"])]);
    let mut told = Vec::new();
    for tick in 1..=100 {
        let plan = controller.tick(&observation(tick, 5, primaries([None; 2])));
        let planned = &plan.services[0];
        assert_eq!(planned.rules[0].state, RuleState::NoData);
        told.extend(planned.alerts.iter().map(|alert| (tick, alert.clone())));
    }
    let (tick, alert) = told.first().expect("it is told");
    assert_eq!((alert.kind, alert.rule.as_deref()), (AlertKind::RuleNoData, Some("r0")));
    assert_eq!(*tick, 51, "five seconds after it began");
    assert!(alert.text.contains("nothing reports \"gpu_load\""), "{}", alert.text);
    let plan = controller.tick(&observation(101, 200, primaries([None; 2])));
    let known = plan.services[0].rules[0].readings[1].current.expect("demand is known");
    assert!(known > 100.0, "{known}");
}

#[test]
fn an_alert_of_a_rule_says_its_text_and_figures() {
    let mut controller = Controller::new(vec![ruled(&["cpu > 80% -> alert \"look at it\""])]);
    let plans: Vec<Plan> = (1..=20)
        .map(|tick| controller.tick(&observation(tick, 5, primaries([Some(0.9); 2]))))
        .collect();
    let alerts = &plans.last().expect("ticks").services[0].alerts;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].kind, AlertKind::Rule);
    assert_eq!(alerts[0].text, "rule r0: look at it: cpu is 90.0% (> 80%)");
}

#[test]
fn a_rule_may_ask_for_another_service() {
    let api = ServiceSpec { name: ServiceName::from("api"), ..ruled(&[]) };
    let shop = ruled(&["rps > 10rps -> activate 2 of api"]);
    let mut controller = Controller::new(vec![api, shop]);
    let mut planned = |tick| -> Vec<ServicePlan> {
        let mut seen = observation(tick, 5, primaries([None; 2]));
        let mut api = seen.services[0].clone();
        api.service = ServiceName::from("api");
        api.instances.push(InstanceObservation {
            tier: Tier::Warm,
            ..instance(9, Role::Shadow, "a", 60_000)
        });
        seen.services.insert(0, api);
        controller.tick(&seen).services
    };
    let first = planned(1);
    let ordered = |plan: &ServicePlan| {
        plan.actions.iter().find(|a| a.reason.law == Law::Rule).map(|a| a.reason.text.clone())
    };
    assert_eq!(ordered(&first[0]), None, "it hears of it in the next tick");
    let second = planned(2);
    let text = ordered(&second[0]).expect("it is ordered");
    assert!(text.contains("rule r0 of shop: rps is 50.0 rps (> 10rps)"), "{text}");
    assert_eq!(ordered(&second[1]), None);
}

#[test]
fn rules_that_stay_keep_how_they_stand_over_a_reload() {
    let mut controller = Controller::new(vec![ruled(&["rps > 10rps for 9 ticks -> hold"])]);
    let state = |controller: &mut Controller, tick| {
        let plan = controller.tick(&observation(tick, 5, primaries([None; 2])));
        plan.services[0].rules.iter().map(|rule| rule.state).collect::<Vec<_>>()
    };
    for tick in 1..=9 {
        state(&mut controller, tick);
    }
    let both = ["rps > 10rps for 9 ticks -> hold", "rps > 20rps for 9 ticks -> hold"];
    controller.configure(vec![ruled(&both)]);
    assert_eq!(state(&mut controller, 10), [RuleState::Firing, RuleState::Pending]);
}

#[test]
fn a_dry_run_says_when_a_rule_would_have_fired() {
    let mut world = World::new(Nature::default(), ruled(&[]));
    let mut entries = vec![Entry::Configure { specs: vec![ruled(&[])] }];
    let ramp = |ms: u64| 30.0 + ms as f64 / 100.0;
    world.run(25_000, ramp, |_, observation, plan| {
        let (observation, plan) = (observation.clone().into(), plan.clone().into());
        entries.push(Entry::Tick { observation, plan });
    });
    let shop = ServiceName::from("shop");
    let tried = rules(&["demand > 100rps within 5s for 3 ticks clear after 5s -> activate 2"]);
    let run = dry_run(entries.into_iter(), &shop, &tried);
    assert_eq!((run.ticks, run.left_out, run.from_ms, run.to_ms), (250, 0, 100, 25_000));
    let [rule] = &run.rules[..] else { panic!("{:?}", run.rules) };
    assert_eq!(rule.fired, 1, "{rule:?}");
    let firing = &rule.firings[0];
    assert!((1_000..6_500).contains(&firing.from_ms), "100 rps are reached at 7 s: {firing:?}");
    assert!(firing.figures[0].contains("(> 100rps), now "), "{firing:?}");
    let (recorded_ms, law) = firing.first_recorded.expect("the laws called for shadows later");
    assert!(recorded_ms > firing.from_ms && law != Law::Rule, "{firing:?}");
}

#[test]
fn figures_of_any_kind_add_nothing_beyond_the_pool() {
    let texts = [
        "any instance cpu > 80% within 30m -> activate 7 priority 3",
        "p99 of memory < 1GiB at 10s or utilisation < 500% within 1m -> warm 1000, prepare 1000",
        "latency_p99 > 1ms or error_rate > 0.1% or saturation > 5% within 5s -> activate 3 weight 9",
        "queue_depth > 3 within 1s for 2 ticks until < 1 clear after 1s -> hold, alert \"x\"",
        "capacity < 1000rps and in_flight >= 0 -> prepare 3 of shop, activate 2 of nowhere",
    ];
    let nonsense = [f64::NAN, f64::INFINITY, -1.0, 1e308, 0.0, 5e-324, 0.9, 1e15];
    let mut random = Random::seeded(5);
    let mut world = World::new(Nature::default(), ruled(&texts));
    for tick in 0..900_u64 {
        let mut seen = world.observe(if tick % 300 < 150 { 400.0 } else { 0.0 });
        for instance in &mut seen.services[0].instances {
            if random.below(20) == 0 {
                let m = &mut instance.meters;
                (m.ok, m.server_errors, m.timeouts, m.in_flight) =
                    (u64::MAX, u64::MAX, 1, u64::MAX);
                m.latency.p99_ms = f64::NAN;
            }
            for name in ["cpu", "memory_bytes", "queue_depth"] {
                let value = nonsense[random.below(nonsense.len() as u64) as usize];
                instance.reported.insert(name.to_owned(), value);
            }
        }
        if random.below(50) == 0 {
            let ids: Vec<InstanceId> = world.instances.keys().copied().skip(2).collect();
            ids.first().into_iter().for_each(|id| world.kill(*id));
        }
        let plan = world.controller.tick(&seen);
        world.carry_out(&plan);
        let shadows = world.instances.values().filter(|i| i.role == Role::Shadow).count();
        assert!(shadows <= 4, "{shadows}");
        for view in &plan.services[0].rules {
            for reading in &view.readings {
                let figures = [reading.current, reading.predicted];
                assert!(figures.iter().flatten().all(|f| f.is_finite() && *f >= 0.0), "{view:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 3 with rules: what they remember is all in the checkpoint.
    #[test]
    fn a_recording_with_rules_replays_byte_for_byte(seed in any::<u64>(), cut in 1u64..150) {
        let texts = [
            "p90 of demand > 80rps within 2m for 3 ticks -> activate 2",
            "any instance rps > 60rps at 3s until < 40rps clear after 2s -> warm 2, hold",
            "latency_p90 > 40ms within 5s -> alert \"slow\"",
        ];
        let mut world = World::new(Nature { seed, ..Nature::default() }, ruled(&texts));
        let mut lines = Vec::new();
        let write = |entry: &Entry| serde_json::to_string(entry).expect("plain data");
        for tick in 0..200_u64 {
            if tick == cut {
                let controller = Box::new(world.controller.clone());
                lines.push(write(&Entry::Checkpoint { controller }));
            }
            world.mode = if tick % 70 < 60 { Mode::Act } else { Mode::Advise };
            let (observation, plan) = world.step(if tick % 60 < 30 { 150.0 } else { 50.0 });
            if tick >= cut {
                let (observation, plan) = (observation.into(), plan.into());
                lines.push(write(&Entry::Tick { observation, plan }));
            }
        }
        let read = |line: &String| serde_json::from_str::<Entry>(line).expect("what was written");
        let report = replay(lines.iter().map(read));
        prop_assert_eq!(report.divergence, None);
        prop_assert_eq!(report.ticks, 200 - cut);
    }
}

#[test]
fn what_a_rule_asks_to_last_does_not_last_through_a_restart() {
    let spec = ruled(&["cpu > 80% for 30m -> hold", "demand > 1000rps -> hold"]);
    let name = spec.name.clone();
    let mut controller = Controller::new(vec![spec.clone()]);
    let hot = |tick| observation(tick, 5, primaries([Some(0.9); 2]));
    for tick in 1..=10 {
        controller.tick(&hot(tick));
    }
    let memory = controller.memory(&name).expect("it is configured");
    let text = serde_json::to_string(&memory).expect("plain data");
    let mut restarted = Controller::new(vec![spec]);
    let hour_ms = 3_600_000;
    let recalled = restarted.recall(serde_json::from_str(&text).expect("as written"), hour_ms);
    assert_eq!(recalled, Ok(foreshadow_control::Recalled::Whole));
    let after = 10 + hour_ms / 100;
    for tick in after..after + 10 {
        let plan = restarted.tick(&hot(tick));
        assert_eq!(plan.services[0].rules[0].state, RuleState::Pending, "tick {tick}");
    }
}
