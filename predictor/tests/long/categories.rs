//! Categories: a young series borrows the day and week of those of its kind, and lets go of them.

use foreshadow_predictor::long::{Category, Guests, History, LongSpec, Model, Shape};
use proptest::prelude::*;

use crate::common::{Noise, mean_error};

const MINUTE_MS: u64 = 60_000;
const QUARTER_MS: u64 = 15 * MINUTE_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Demand by time.
type Demand = fn(u64) -> f64;
/// A Monday's midnight.
const MONDAY_MS: u64 = 20_661 * DAY_MS;
/// Tuesday of the fifth week, two in the afternoon.
const ADDED_MS: u64 = MONDAY_MS + 29 * DAY_MS + 14 * HOUR_MS;

/// Demand of a service of people who work: a morning within half an hour, an evening, weekends.
fn office(at_ms: u64) -> f64 {
    let hour = (at_ms % DAY_MS) as f64 / HOUR_MS as f64;
    let busy = ((hour - 7.75) / 0.5).clamp(0.0, 1.0) - ((hour - 18.0) / 3.0).clamp(0.0, 1.0);
    let weekend = (at_ms - MONDAY_MS) / DAY_MS % 7 >= 5;
    20.0 + 80.0 * busy * if weekend { 0.2 } else { 1.0 }
}

const OFFICE: Demand = office;

/// The opposite: of people who sleep by day.
fn nights(at_ms: u64) -> f64 {
    office(at_ms + 12 * HOUR_MS)
}

fn flat(_: u64) -> f64 {
    60.0
}

fn recorded(step_ms: u64, (from_ms, until_ms): (u64, u64), seed: u64, demand: Demand) -> History {
    let mut noise = Noise(seed);
    let at = (from_ms..until_ms).step_by(step_ms as usize);
    let values = at.map(|at_ms| Some(demand(at_ms) * (1.0 + 0.3 * noise.next()))).collect();
    History { start_ms: from_ms, step_ms, values }
}

/// Members of a category with four weeks behind them, each with a level of its own.
fn mates(demands: &[Demand]) -> Category {
    let shape = |(seed, demand): (u64, &Demand)| {
        let mut history = recorded(QUARTER_MS, (MONDAY_MS, ADDED_MS), seed, *demand);
        let level = [0.01, 0.1, 1.0, 10.0, 100.0][(seed % 5) as usize];
        history.values.iter_mut().flatten().for_each(|value| *value *= level);
        Shape::of(&history).expect("four weeks")
    };
    let shapes: Vec<Shape> = (1..).zip(demands).map(shape).collect();
    Category::of("mates", &shapes.iter().collect::<Vec<_>>()).expect("there are members")
}

fn hours_ahead(hours: u64) -> LongSpec {
    LongSpec { horizon_ms: hours * HOUR_MS, ..LongSpec::default() }
}

fn fit(history: &History, spec: &LongSpec, categories: &[Category]) -> Model {
    let guests = Guests { categories, ..Guests::default() };
    Model::fit_among(history, spec, &[], &[], guests).expect("there are values")
}

/// Error of the next eight hours of forecasts begun every hour over a day, after `days` of history and six
/// hours at least.
fn error(days: u64, demand: Demand, categories: &[Category], seed: u64) -> f64 {
    let all = recorded(QUARTER_MS, (ADDED_MS, ADDED_MS + (days + 2) * DAY_MS), seed, demand);
    let mut sum = 0.0;
    for hour in if days == 0 { 6..24 } else { 0..24 } {
        let known = (days * 96 + hour * 4) as usize;
        let history = History { values: all.values[..known].to_vec(), ..all.clone() };
        let ahead = fit(&history, &hours_ahead(24), categories).forecast(history.end_ms(), 32);
        sum += mean_error(&ahead.mean, |at| demand(history.end_ms() + at as u64 * QUARTER_MS));
    }
    sum
}

#[test]
fn a_service_added_on_tuesday_knows_the_morning_of_wednesday() {
    let group = [mates(&[OFFICE; 4])];
    for (step_ms, hours) in [(MINUTE_MS, 1), (QUARTER_MS, 24), (HOUR_MS, 168)] {
        let until_ms = ADDED_MS + 17 * HOUR_MS;
        let history = recorded(step_ms, (ADDED_MS, until_ms), 9, office);
        let spec = hours_ahead(hours);
        let (with, without) = (fit(&history, &spec, &group), fit(&history, &spec, &[]));
        // At seven: of half past eight, ninety minutes on.
        let steps = (90 * MINUTE_MS / step_ms) as usize + 1;
        let at = |model: &Model| {
            let ahead = model.forecast(until_ms, steps);
            (ahead.mean[steps - 1], ahead.quantiles[steps - 1][2])
        };
        let ((mean, upper), (before, _)) = (at(&with), at(&without));
        assert!((75.0..115.0).contains(&mean) && upper > mean, "{step_ms}: {mean} {upper}");
        assert!(before < 50.0, "{step_ms}: it has seen no morning, and says {before}");
        let [mine] = &with.belongings().collect::<Vec<_>>()[..] else { panic!("one category") };
        assert!(mine.weight > 0.6 && mine.members == 4 && mine.alike > 0.8, "{mine:?}");
        assert_eq!(without.belongings().count(), 0);
    }
}

#[test]
fn the_younger_a_series_is_the_more_its_category_helps() {
    let group = [mates(&[OFFICE; 5])];
    let ratio = |days: u64| {
        let all = |categories: &[Category]| -> f64 {
            (50..53).map(|seed| error(days, office, categories, seed)).sum()
        };
        all(&group) / all(&[])
    };
    let ratios = [0, 1, 2, 4, 8].map(ratio);
    assert!(ratios[0] < 0.2 && ratios[1] < 0.4, "{ratios:?}");
    assert!(ratios.iter().all(|ratio| *ratio < 0.8), "{ratios:?}");
}

#[test]
fn one_that_is_unlike_its_category_lets_go_of_it() {
    let group = [mates(&[OFFICE; 5])];
    for (demand, most) in [(nights as Demand, 2.5), (flat, 2.5)] {
        let ratio = |days| error(days, demand, &group, 61) / error(days, demand, &[], 61);
        let ratios = [0, 1, 2, 4, 8].map(ratio);
        // It is believed for most of the first day, which says nothing else yet.
        assert!(ratios[0] < most && ratios[1..].iter().all(|r| *r < 1.02), "{ratios:?}");
    }
    let history = recorded(QUARTER_MS, (ADDED_MS, ADDED_MS + 3 * DAY_MS), 62, nights);
    let model = fit(&history, &hours_ahead(24), &group);
    let mine = model.belongings().next().expect("it takes part");
    assert!(mine.weight < 0.1, "{mine:?}");
}

#[test]
fn a_category_of_strangers_says_little_and_the_closer_one_more() {
    let strangers = mates(&[OFFICE, nights, flat]);
    let alike = mates(&[OFFICE; 3]);
    assert!(
        strangers.alike() < 0.4 && alike.alike() > 0.8,
        "{} {}",
        strangers.alike(),
        alike.alike()
    );
    let history = recorded(MINUTE_MS, (ADDED_MS, ADDED_MS + 16 * HOUR_MS), 71, office);
    let model = fit(&history, &hours_ahead(1), &[alike, strangers]);
    let weights: Vec<f64> = model.belongings().map(|mine| mine.weight).collect();
    assert!(weights[0] > 3.0 * weights[1], "{weights:?}");
}

#[test]
fn a_grown_up_series_takes_no_notice() {
    let group = [mates(&[OFFICE; 4])];
    let history = recorded(QUARTER_MS, (ADDED_MS, ADDED_MS + 14 * DAY_MS), 81, office);
    let spec = hours_ahead(24);
    assert_eq!(fit(&history, &spec, &group), fit(&history, &spec, &[]));
    // Nor does one whose steps divide no week.
    let odd = History { step_ms: 7 * 60_001, ..recorded(MINUTE_MS, (0, DAY_MS), 82, flat) };
    assert_eq!(fit(&odd, &spec, &group), fit(&odd, &spec, &[]));
}

#[test]
fn a_thousand_members_are_bounded_and_a_few_liars_change_little() {
    let honest: Vec<Shape> = (0..40)
        .map(|seed| Shape::of(&recorded(QUARTER_MS, (MONDAY_MS, ADDED_MS), seed, office)).unwrap())
        .collect();
    let lie = |at: usize| Some([1e308, f64::NAN, -1e308, 0.0, 1e-308][at * at % 5]);
    let lie = History {
        start_ms: MONDAY_MS,
        step_ms: QUARTER_MS,
        values: (0..28 * 96).map(lie).collect(),
    };
    let liar = Shape::of(&lie).expect("enough of it is a number");
    let thousand: Vec<&Shape> = honest.iter().cycle().take(1_000).collect();
    let category = Category::of("all", &thousand).unwrap();
    assert_eq!(category.members(), Category::MOST_MEMBERS);
    let mixed: Vec<&Shape> = honest[..9].iter().chain([&liar, &liar]).collect();
    let mixed = Category::of("all", &mixed).unwrap();
    let history = recorded(MINUTE_MS, (ADDED_MS, ADDED_MS + 17 * HOUR_MS), 91, office);
    let ahead = |category: Category| {
        fit(&history, &hours_ahead(1), &[category]).forecast(history.end_ms(), 90).mean
    };
    for (one, other) in ahead(category).iter().zip(ahead(mixed)) {
        assert!((one - other).abs() < 0.1 * one, "{one} {other}");
    }
}

#[test]
fn a_model_with_a_category_survives_being_stored() {
    let history = recorded(QUARTER_MS, (ADDED_MS, ADDED_MS + 2 * DAY_MS), 95, office);
    let model = fit(&history, &hours_ahead(24), &[mates(&[OFFICE; 3])]);
    let stored: Model = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
    assert_eq!(stored.belongings().count(), 1);
    let ahead = |model: &Model| model.forecast(history.end_ms(), 96);
    for (one, other) in ahead(&model).mean.iter().zip(ahead(&stored).mean) {
        assert!((one - other).abs() <= 1e-9 * one.abs(), "{one} {other}");
    }
}

fn wild() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        4 => (0.0..1_000.0).prop_map(Some),
        1 => prop::sample::select(vec![
            0.0, -5.0, 1e-300, 5e-324, 1e308, f64::MAX, f64::NAN, f64::INFINITY,
        ]).prop_map(Some),
        1 => Just(None),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn any_member_and_any_series_are_harmless(
        members in prop::collection::vec(prop::collection::vec(wild(), 7..60), 0..5),
        own in prop::collection::vec(wild(), 1..400),
        start_ms in prop::sample::select(vec![0, MONDAY_MS + 7, u64::MAX / 2, u64::MAX - DAY_MS]),
        step_ms in prop::sample::select(vec![1_000, MINUTE_MS, QUARTER_MS, HOUR_MS, DAY_MS]),
        non_negative in any::<bool>(),
    ) {
        let shapes: Vec<Shape> = members
            .iter()
            .filter_map(|values| {
                let values = values.iter().copied().cycle().take(1_000).collect();
                Shape::of(&History { start_ms, step_ms: QUARTER_MS, values })
            })
            .collect();
        let categories: Vec<Category> =
            Category::of("wild", &shapes.iter().collect::<Vec<_>>()).into_iter().collect();
        let history = History { start_ms, step_ms, values: own };
        let guests = Guests { categories: &categories, ..Guests::default() };
        let spec = LongSpec { non_negative, ..LongSpec::default() };
        let Ok(model) = Model::fit_among(&history, &spec, &[], &[], guests) else {
            return Ok(());
        };
        prop_assert!(Model::fit_among(&history, &spec, &[], &[], guests) == Ok(model.clone()));
        let largest = history.values.iter().flatten().filter(|value| value.is_finite())
            .map(|value| if non_negative { value.max(0.0) } else { value.abs() })
            .fold(0.0, f64::max);
        let ahead = model.forecast(history.end_ms(), 300);
        for (row, mean) in ahead.quantiles.iter().zip(&ahead.mean) {
            prop_assert!(row.is_sorted(), "{:?}", row);
            for value in row.iter().chain([mean]) {
                prop_assert!(value.is_finite() && (!non_negative || *value >= 0.0));
                prop_assert!(value.abs() <= 100.001 * largest.min(1e300), "{} {}", value, largest);
            }
        }
        let weights: f64 = model.belongings().map(|mine| mine.weight).sum();
        prop_assert!((0.0..=1.0 + 1e-9).contains(&weights));
    }
}
