//! When migrations may begin, what can never be, and what is made of what the law says.

use foreshadow_config::Config;
use foreshadow_control::{
    Controller, InstanceId, InstanceObservation, MigrationPhase, MigrationSchedule, MigrationView,
    Mode, Observation, Plan, Role, ServiceObservation, Tier,
};

use super::ask::{Ask, Refused, Scene, Sound, rfc3339};
use super::due::Due;
use super::follow::{Follower, News};
use super::record::{Record, Standing, State};
use super::{KEPT, MOST_STANDING, without_ended};
use crate::node::decisions::DecisionLog;
use crate::node::operator::{Order, Orders};

const HOUR_MS: u64 = 3_600_000;
/// 2026-10-24T00:00:00Z, a Saturday.
const SATURDAY_MS: u64 = 1_792_800_000_000;

fn config(more: &str) -> Config {
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:1, routes: [{{ service: shop }}] }}]\n\
         services: {{ shop: {{ primaries: [127.0.0.1:2], {more} }} }}"
    );
    let format = foreshadow_config::Format::Yaml;
    foreshadow_config::parse(&text, format, "test", &|_| None).unwrap()
}

const PLACES: &str = "shadows: { places: { a: { provider: { process: { command: [./s, '{port}'] } } }, \
                      b: { provider: { process: { command: [./s, '{port}'] } } } } }";

fn standing(id: u64) -> Standing {
    Standing {
        id,
        service: "shop".into(),
        instance: None,
        to: None,
        at_ms: None,
        passes_windows: false,
        by: "anna".to_owned(),
        asked_ms: SATURDAY_MS,
        began_ms: None,
        called_off_by: None,
    }
}

fn ordered(all: impl IntoIterator<Item = Standing>) -> Orders {
    let mut orders = Orders::default();
    for standing in all {
        assert!(orders.apply(&Order::Migrate(Box::new(standing))));
    }
    orders
}

fn seen() -> ServiceObservation {
    let mut shadow = InstanceObservation::idle(InstanceId(3), Role::Shadow, Tier::Serving);
    shadow.place = "a".into();
    let instances = vec![
        InstanceObservation::idle(InstanceId(1), Role::Primary, Tier::Serving),
        shadow,
        InstanceObservation::idle(InstanceId(4), Role::Shadow, Tier::Warm),
    ];
    ServiceObservation { instances, ..ServiceObservation::quiet("shop".into(), Mode::Act) }
}

fn checked(ask: &Ask, more: &str, orders: &Orders) -> Result<Sound, Refused> {
    let (config, seen) = (config(more), seen());
    let configured = &config.services["shop"];
    ask.check(Scene { configured, seen: &seen, orders, now_ms: SATURDAY_MS })
}

fn of(instance: &str, to: Option<&str>) -> Ask {
    let to = to.map(str::to_owned);
    Ask { instance: Some(instance.to_owned()), to, ..Ask::default() }
}

#[test]
fn times_are_read_with_their_zone() {
    assert_eq!(rfc3339("2026-10-24T00:00:00Z"), Some(SATURDAY_MS));
    assert_eq!(rfc3339("2026-10-24T02:00:00+02:00"), Some(SATURDAY_MS));
    assert_eq!(rfc3339("2026-10-23t19:30:00-04:30"), Some(SATURDAY_MS));
    assert_eq!(rfc3339("2026-10-24T00:00:00.250Z"), Some(SATURDAY_MS + 250));
    for text in
        ["", "tonight", "2026-10-24", "2026-10-24T00:00:00", "2026-10-24T00:00:00+2500", "é+1"]
    {
        assert_eq!(rfc3339(text), None, "{text}");
    }
}

#[test]
fn what_can_never_be_is_refused_with_what_would_help() {
    let none = Orders::default();
    let never = |ask: &Ask, more: &str, orders: &Orders| match checked(ask, more, orders) {
        Err(Refused::Never(why)) => why,
        other => panic!("{ask:?}: {other:?}"),
    };
    let any = Ask::default();
    assert!(never(&any, "mode: act", &none).contains("give it `shadows.provider`"));
    let one = "shadows: { provider: { process: { command: [./s, '{port}'] } } }";
    assert!(never(&of("i1", Some("a")), one, &none).contains("leave `to` out"));
    assert!(never(&of("i3", None), one, &none).contains("give it another place"));
    assert!(never(&of("i3", Some("a")), PLACES, &none).contains("stands in that place already"));
    assert!(never(&of("4", None), PLACES, &none).contains("carries no requests"));
    let twice = ordered([Standing { instance: Some(InstanceId(3)), ..standing(7) }]);
    assert!(never(&of("i3", Some("b")), PLACES, &twice).contains("migration 7 moves i3 already"));
    let over = format!("{PLACES}, migration: {{ windows: [{{ start: 2026-01-01T00:00:00 }}] }}");
    assert!(never(&any, &over, &none).contains("no window of shop comes any more"));
    assert!(checked(&Ask { now: true, ..Ask::default() }, &over, &none).is_ok());

    let unknown = |ask: &Ask| match checked(ask, PLACES, &none) {
        Err(Refused::Unknown(what, _, known)) => (what, known),
        other => panic!("{ask:?}: {other:?}"),
    };
    let places = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(unknown(&of("i1", Some("c"))), ("place", places));
    assert_eq!(unknown(&of("i9", None)).0, "instance");
    assert_eq!(unknown(&of("nine", None)).1, ["i1", "i3", "i4"]);

    let at = |text: &str| Ask { at: Some(text.to_owned()), ..Ask::default() };
    for (ask, part) in [
        (at("tonight"), "write a time such as 2026-11-23T02:00:00Z"),
        (at("2026-10-23T23:00:00Z"), "which has passed"),
        (at("2028-10-24T00:00:00Z"), "within 366 days"),
        (Ask { now: true, ..at("2026-10-25T00:00:00Z") }, "at beside now"),
    ] {
        let Err(Refused::Malformed(why)) = checked(&ask, PLACES, &none) else { panic!("{ask:?}") };
        assert!(why.contains(part), "{why}");
    }
    let most = ordered((0..).take(MOST_STANDING).map(standing));
    assert_eq!(checked(&any, PLACES, &most), Err(Refused::TooMany));
    let mut full = most;
    assert!(!full.apply(&Order::Migrate(Box::new(standing(99)))), "nor between the two looks");
}

#[test]
fn one_that_could_be_knows_when_it_begins() {
    let none = Orders::default();
    let sound = checked(&of("3", Some("b")), PLACES, &none).unwrap();
    assert_eq!((sound.instance, sound.begins_ms), (Some(InstanceId(3)), SATURDAY_MS));
    let windows = format!(
        "{PLACES}, migration: {{ windows: [{{ start: 2026-01-01T02:00:00, rule: FREQ=DAILY }}] }}"
    );
    let sound = checked(&Ask::default(), &windows, &none).unwrap();
    assert_eq!(sound.begins_ms, SATURDAY_MS + 2 * HOUR_MS);
    let at = Ask { at: Some("2026-10-24T02:30:00Z".to_owned()), ..Ask::default() };
    let sound = checked(&at, &windows, &none).unwrap();
    assert_eq!(sound.begins_ms, SATURDAY_MS + 2 * HOUR_MS + HOUR_MS / 2);
}

#[test]
fn an_order_waits_for_its_time_and_its_window_and_what_began_for_none() {
    let text =
        "migration: { risk: 60%, windows: [{ start: 2026-01-01T02:00:00, rule: FREQ=DAILY }] }";
    let config = config(&format!("{PLACES}, {text}"));
    let migration = config.services["shop"].migration.as_ref();
    let shop = "shop".into();
    let orders = ordered([
        standing(1),
        Standing { passes_windows: true, ..standing(2) },
        Standing { at_ms: Some(SATURDAY_MS + 5 * HOUR_MS), ..standing(3) },
        Standing { began_ms: Some(SATURDAY_MS - 1), ..standing(4) },
        Standing { service: "other".into(), ..standing(5) },
    ]);
    let mut due = Due::default();
    let mut begins = |migration, now_ms: u64, is_drilled| {
        let told = due.seen((&shop, migration), &orders, is_drilled, now_ms);
        let begins: Vec<_> = told.orders.iter().map(|o| (o.id, o.begins_in_ms)).collect();
        (begins, told.window_in_ms)
    };
    let day_ms = 24 * HOUR_MS;
    let at_midnight = begins(migration, SATURDAY_MS, false);
    let third = (3, day_ms + 2 * HOUR_MS);
    assert_eq!(at_midnight, (vec![(1, 2 * HOUR_MS), (2, 0), third, (4, 0)], Some(2 * HOUR_MS)));
    let in_window = begins(migration, SATURDAY_MS + 2 * HOUR_MS + 60_000, false);
    assert_eq!((in_window.0[0], in_window.1), ((1, 0), Some(0)));
    let after = begins(migration, SATURDAY_MS + 3 * HOUR_MS, false);
    assert_eq!((after.0[0], after.1), ((1, 23 * HOUR_MS), Some(23 * HOUR_MS)));
    let drilled = begins(migration, SATURDAY_MS + 26 * HOUR_MS, true);
    assert_eq!(drilled.0, [(1, 1_000), (2, 1_000), (3, 1_000), (4, 0)], "what began goes on");
    assert_eq!(drilled.1, Some(1_000));
    assert_eq!(begins(None, SATURDAY_MS, false).1, None, "none begins by itself");
}

#[test]
fn a_window_is_found_again_when_the_file_changes() {
    let shop = "shop".into();
    let of = |hour: u32| {
        let text = format!(
            "migration: {{ windows: [{{ start: '2026-01-01T{hour:02}:00:00', rule: FREQ=DAILY }}] }}"
        );
        config(&format!("{PLACES}, {text}")).services["shop"].migration.clone()
    };
    let orders = ordered([standing(1)]);
    let mut due = Due::default();
    let (before, after) = (of(2), of(4));
    let begins = |due: &mut Due, migration: &Option<_>| {
        due.seen((&shop, migration.as_ref()), &orders, false, SATURDAY_MS).orders[0].begins_in_ms
    };
    assert_eq!(begins(&mut due, &before), 2 * HOUR_MS);
    due.forget();
    assert_eq!(begins(&mut due, &after), 4 * HOUR_MS);
}

/// Ticks of a play with the law's part written by hand.
struct Play {
    follower: Follower,
    orders: Orders,
    seen: ServiceObservation,
    tick: u64,
}

impl Play {
    fn new(orders: Orders) -> Self {
        Self { follower: Follower::default(), orders, seen: seen(), tick: 0 }
    }

    fn tick(&mut self, views: &[MigrationView]) -> News {
        self.tick += 1;
        let at_ms = self.tick * 100;
        let seen = Observation {
            tick: self.tick,
            at_ms,
            interval_ms: 100,
            kill_switch: false,
            services: vec![self.seen.clone()],
        };
        let mut controller = Controller::new(config(PLACES).service_specs());
        let mut plan: Plan = controller.tick(&seen);
        plan.services[0].migrations = views.to_vec();
        self.follower.follow((&seen, &plan), &mut self.orders, SATURDAY_MS + at_ms)
    }
}

fn view(id: Option<u64>, phase: MigrationPhase, instance: u64) -> MigrationView {
    MigrationView {
        id,
        schedule: Some(MigrationSchedule {
            instance: InstanceId(instance),
            target: "b".into(),
            start_ms: 200,
            estimated_duration_ms: 90_000,
        }),
        phase,
        target: Some(InstanceId(9)),
        step: u32::from(phase == MigrationPhase::Shifting),
        moved: 0.5,
        phase_ms: 100,
        checks: Vec::new(),
        text: format!("in {}", phase.as_str()),
    }
}

fn actions(news: &News) -> Vec<&'static str> {
    news.entries.iter().map(|entry| entry.action).collect()
}

#[test]
fn each_turn_is_on_record_once_and_a_primary_stays_drained() {
    use MigrationPhase::{Done, Draining, Preparing, Scheduled, Shifting};
    let mut play = Play::new(ordered([standing(7)]));
    let scheduled = MigrationView { schedule: None, ..view(Some(7), Scheduled, 1) };
    assert_eq!(actions(&play.tick(&[scheduled])), [""; 0]);
    let news = play.tick(&[view(Some(7), Preparing, 1)]);
    assert_eq!((actions(&news), news.has_changed_orders), (vec!["migration.begin"], true));
    let order = &play.orders.migrations[&7];
    assert_eq!(order.began_ms, Some(SATURDAY_MS + 200));
    assert_eq!(order.instance, Some(InstanceId(1)), "the same one after a restart");
    assert_eq!(order.to, Some("b".into()));
    assert_eq!(actions(&play.tick(&[view(Some(7), Shifting, 1)])), ["migration.step"]);
    assert_eq!(actions(&play.tick(&[view(Some(7), Shifting, 1)])), [""; 0]);
    let second = MigrationView { step: 2, ..view(Some(7), Shifting, 1) };
    assert_eq!(actions(&play.tick(&[second])), ["migration.step"]);
    let draining = MigrationView { step: 2, ..view(Some(7), Draining, 1) };
    assert_eq!(actions(&play.tick(&[draining])), [""; 0]);
    let done = MigrationView { step: 2, ..view(Some(7), Done, 1) };
    let news = play.tick(std::slice::from_ref(&done));
    assert_eq!(actions(&news), ["order.drain", "migration.end"]);
    let [record] = &news.ended[..] else { panic!("{:?}", news.ended) };
    assert_eq!((record.state, record.id), (State::Done, Some(7)));
    assert!(record.then.as_ref().unwrap().contains("i1 is drained for good"), "{record:?}");
    assert_eq!(record.law.as_ref().unwrap().schedule.as_ref().unwrap().start_ms, SATURDAY_MS + 200);
    assert!(play.orders.drained.contains(&InstanceId(1)) && play.orders.migrations.is_empty());
    let told = Due::default().seen((&"shop".into(), None), &play.orders, false, SATURDAY_MS);
    assert_eq!(told.moved, [InstanceId(1)]);
    let again = play.tick(&[done]);
    assert!(again.entries.is_empty() && again.ended.is_empty(), "told once more: {again:?}");
    play.orders.apply(&Order::Drain(InstanceId(1), false));
    assert!(play.orders.moved.is_empty(), "taken back, it is no longer moved");
}

#[test]
fn a_shadow_that_was_moved_is_drained_by_nobody_and_the_laws_own_end_once() {
    use MigrationPhase::{Done, RolledBack, RollingBack, Shifting};
    let mut play = Play::new(Orders::default());
    assert_eq!(
        actions(&play.tick(&[view(None, Shifting, 3)])),
        ["migration.begin", "migration.step"]
    );
    let news = play.tick(&[view(None, Done, 3)]);
    assert_eq!(actions(&news), ["migration.end"]);
    assert!(play.orders.drained.is_empty() && news.ended[0].id.is_none());
    assert!(play.tick(&[view(None, Done, 3)]).ended.is_empty());
    assert!(play.tick(&[]).ended.is_empty());
    play.tick(&[view(None, Shifting, 3)]);
    assert_eq!(actions(&play.tick(&[view(None, RollingBack, 3)])), ["migration.rollback"]);
    let news = play.tick(&[view(None, RolledBack, 3)]);
    assert_eq!(news.ended[0].state, State::RolledBack);
}

#[test]
fn called_off_before_it_began_it_is_over_at_once_and_after_that_by_the_law() {
    use MigrationPhase::{RolledBack, RollingBack, Scheduled, Shifting};
    let mut play = Play::new(ordered([standing(7), standing(8)]));
    play.tick(&[view(Some(7), Shifting, 3), view(Some(8), Scheduled, 1)]);
    for id in [7, 8] {
        assert!(play.orders.apply(&Order::CallOff(id, "anna".to_owned())));
    }
    assert!(!play.orders.apply(&Order::CallOff(8, "bert".to_owned())), "once");
    let news = play.tick(&[view(Some(7), RollingBack, 3), view(Some(8), Scheduled, 1)]);
    assert_eq!(actions(&news), ["migration.rollback", "migration.end"]);
    let [record] = &news.ended[..] else { panic!("{:?}", news.ended) };
    assert_eq!((record.id, record.state), (Some(8), State::CalledOff));
    assert_eq!(record.text, "called off by anna before it began");
    let news = play.tick(&[view(Some(7), RolledBack, 3)]);
    assert_eq!((news.ended[0].id, news.ended[0].state), (Some(7), State::CalledOff));
    assert!(play.orders.migrations.is_empty());
}

#[test]
fn what_nobody_can_finish_any_more_is_over() {
    let began =
        Standing { began_ms: Some(SATURDAY_MS), instance: Some(InstanceId(77)), ..standing(7) };
    let gone = Standing { service: "gone".into(), ..standing(8) };
    let mut play = Play::new(ordered([began, gone, standing(9)]));
    let news = play.tick(&[view(Some(7), MigrationPhase::Refused, 77)]);
    let states: Vec<_> = news.ended.iter().map(|r| (r.id, r.state)).collect();
    assert_eq!(states, [(Some(7), State::Done), (Some(8), State::Refused)]);
    assert!(news.ended[0].text.starts_with("finished over a restart"), "{:?}", news.ended[0]);
    assert!(news.ended[1].text.contains("configured no more"), "{:?}", news.ended[1]);
    assert_eq!(play.orders.migrations.len(), 1);
}

#[test]
fn numbers_are_never_given_twice_and_the_newest_that_ended_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let log = DecisionLog::open(&path).unwrap();
    assert_eq!((log.new_migration_id().unwrap(), log.new_migration_id().unwrap()), (1, 2));
    let ended = |id: Option<u64>, ended_ms| Record {
        id,
        ended_ms: Some(ended_ms),
        state: State::Done,
        ..Record::of(&standing(0))
    };
    assert_eq!(log.keep_migration(&ended(Some(1), 9)).unwrap(), 1);
    assert_eq!(log.keep_migration(&ended(Some(1), 9)).unwrap(), 1, "kept again after a failure");
    let own = log.keep_migration(&ended(None, 8)).unwrap();
    assert_eq!(own, 3, "one of the law gets a number of its own");
    for nth in 0..KEPT as u64 {
        let id = log.new_migration_id().unwrap();
        log.keep_migration(&ended(Some(id), 10 + nth)).unwrap();
    }
    log.close();
    let log = DecisionLog::open(&path).unwrap();
    let left = log.migrations().unwrap();
    assert_eq!((left.len(), left[0].ended_ms), (KEPT, Some(10)));
    assert_eq!(log.new_migration_id().unwrap(), 4 + KEPT as u64);
    let last = left.last().unwrap().id.unwrap();
    let orders = without_ended(ordered([standing(last), standing(999)]), &left);
    assert_eq!(orders.migrations.keys().collect::<Vec<_>>(), [&999], "what is over stays over");
}
