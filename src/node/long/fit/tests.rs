//! Curves of made-up weeks.

use foreshadow_predictor::long::{Category, Regressor, Shape};

use super::*;

const DAY_MS: u64 = 86_400_000;
/// A Monday.
const START_MS: u64 = 1_795_392_000_000;
const QUANTILES: QuantileSpec = QuantileSpec { prepare: 0.95, warm: 0.5, commit: 0.1 };

/// Spans of `days` with a quiet night and a busy day, and a little of everything else.
fn spans(reach: Reach, days: u64) -> Vec<Span> {
    let step_ms = reach.resolution().step_ms();
    (0..days * DAY_MS / step_ms).map(|nth| span(START_MS + nth * step_ms, step_ms)).collect()
}

fn rps(at_ms: u64) -> f64 {
    let noise = (at_ms / 60_000 * 7_919 % 13) as f64 - 6.0;
    if (8 * 3_600_000..20 * 3_600_000).contains(&(at_ms % DAY_MS)) {
        200.0 + noise
    } else {
        40.0 + noise
    }
}

fn span(at_ms: u64, covered_ms: u64) -> Span {
    Span {
        at_ms,
        covered_ms,
        rps: rps(at_ms),
        least_rps: 0.0,
        most_rps: 0.0,
        unserved: 0,
        errors: 0,
        answers: 0,
        latency_mean_ms: 0.0,
        latency_p50_ms: 0.0,
        latency_p99_ms: 0.0,
        latency_max_ms: 0.0,
        in_flight_mean: 0.0,
        in_flight_most: 0.0,
        weight_mean: 0.0,
        capacity_rps: 0.0,
    }
}

static NO_SIGNALS: Signals = Signals { regressors: Vec::new(), unheard: Vec::new() };

fn past(spans: &[Span]) -> Past<'_> {
    let signals = &NO_SIGNALS;
    Past { spans, started: &[], upcoming: &[], signals, categories: &[], network: None }
}

#[test]
fn after_two_days_the_third_morning_is_foreseen() {
    let morning_ms = START_MS + 2 * DAY_MS + 8 * 3_600_000;
    let mut known = spans(Reach::Hour, 3);
    let now_ms = morning_ms - 1_800_000;
    known.retain(|span| span.at_ms < now_ms);
    let curve = curve(&past(&known), Reach::Hour, &QUANTILES, now_ms).unwrap().0;
    let points = curve.told.points(now_ms);
    let at = |minutes: u64| points.iter().find(|p| p.horizon_ms == minutes * 60_000).unwrap();
    assert!((30.0..60.0).contains(&at(10).median_rps), "{points:?}");
    assert!((150.0..240.0).contains(&at(45).median_rps), "{points:?}");
    assert!(at(45).lower_rps <= at(45).median_rps && at(45).median_rps <= at(45).upper_rps);
    assert_eq!(points.last().map(|p| p.horizon_ms), Some(3_600_000));
}

#[test]
fn a_service_added_at_noon_is_told_the_next_morning_of_its_group() {
    let shape = Shape::of(&grid(&spans(Reach::Day, 14), 900_000)).unwrap();
    let group = [Category::of("group shop", &[&shape, &shape]).unwrap()];
    let (from_ms, now_ms) = (12 * 3_600_000, DAY_MS + 7 * 3_600_000 + 1_800_000);
    let mut known = spans(Reach::Hour, 2);
    known.retain(|span| (START_MS + from_ms..START_MS + now_ms).contains(&span.at_ms));
    let told = |categories: &[Category]| {
        let past = Past { categories, ..past(&known) };
        let curve = curve(&past, Reach::Hour, &QUANTILES, START_MS + now_ms).unwrap().0;
        (curve.told.at(START_MS + now_ms + 2_700_000).unwrap()[1], curve.categories)
    };
    let (alone, none) = told(&[]);
    let (together, part) = told(&group);
    assert!(alone < 80.0 && none.is_empty(), "{alone}");
    assert!((150.0..250.0).contains(&together), "{together}");
    assert_eq!((part[0].category.as_str(), part[0].members), ("group shop", 2));
    assert!(part[0].weight > 0.5, "{part:?}");
}

#[test]
fn each_reach_describes_all_of_it_from_now_on() {
    for reach in Reach::ALL {
        let known = spans(reach, 15);
        let now_ms = START_MS + 15 * DAY_MS + 60_000;
        let curve = curve(&past(&known), reach, &QUANTILES, now_ms).unwrap().0;
        let end_ms = curve.start_ms + curve.step_ms * curve.mean.len() as u64;
        assert!(curve.start_ms <= now_ms && end_ms >= now_ms + reach.ms(), "{reach:?}");
        assert_eq!(curve.quantiles.len(), curve.mean.len());
        assert!(curve.quantiles.iter().all(|row| row.len() == curve.levels.len()));
    }
}

#[test]
fn times_without_observation_are_gaps_and_not_silence() {
    let mut known = spans(Reach::Day, 14);
    known.retain(|span| !(START_MS + 5 * DAY_MS..START_MS + 6 * DAY_MS).contains(&span.at_ms));
    known[3].covered_ms = 1_000;
    let history = grid(&known, 900_000);
    assert_eq!(history.values.len(), 14 * 96);
    assert_eq!(history.values.iter().flatten().count(), 13 * 96 - 1);
    assert_eq!(history.values[3], None);
}

#[test]
fn curves_are_scored_when_the_truth_comes() {
    let known = spans(Reach::Hour, 4);
    let mut scores = Scores::new(Reach::Hour);
    for now in (2 * 1_440..4 * 1_440).step_by(5) {
        let seen = &known[..now];
        let now_ms = START_MS + now as u64 * 60_000;
        scores.settle(now_ms, 60_000, |start_ms| Some(rps(start_ms)));
        if now % 60 == 0 {
            let (curve, claims) = curve(&past(seen), Reach::Hour, &QUANTILES, now_ms).unwrap();
            scores.note(&curve, &claims, seen[now - 1].rps);
        }
    }
    // What is kept for the next start goes on where it ended, with what waits for its truth.
    let mut scores = Scores::restored(Reach::Hour, &scores.written().unwrap()).unwrap();
    scores.settle(START_MS + 5 * DAY_MS, 60_000, |start_ms| Some(rps(start_ms)));
    let read = scores.read();
    assert_eq!(read.iter().map(|s| s.lead_ms / 60_000).collect::<Vec<_>>(), [5, 15, 30, 60]);
    let hour = &read[3];
    assert_eq!(hour.scored, 48, "{hour:?}");
    assert!(hour.mae_rps < 0.8 * hour.naive_mae_rps, "{hour:?}");
}

#[test]
fn what_an_event_does_is_learned_over_its_repeats_and_told_to_people_only() {
    let sale = |day: u64| Event {
        kind: "sale".to_owned(),
        start_ms: START_MS + day * DAY_MS + 12 * 3_600_000,
        end_ms: START_MS + day * DAY_MS + 15 * 3_600_000,
        expected_lift: Some(5.0),
    };
    let started = [3, 5, 8, 10].map(sale);
    let upcoming = [sale(14)];
    let mut known = spans(Reach::Day, 14);
    for span in &mut known {
        if started.iter().any(|sale| (sale.start_ms..sale.end_ms).contains(&span.at_ms)) {
            span.rps *= 2.0;
        }
    }
    let past = Past { started: &started, upcoming: &upcoming, ..past(&known) };
    let now_ms = START_MS + 14 * DAY_MS;
    let curve = curve(&past, Reach::Day, &QUANTILES, now_ms).unwrap().0;
    let lift = &curve.lifts[0];
    assert_eq!((lift.name.as_str(), lift.repeats), ("sale", 4));
    assert!((1.6..2.6).contains(&lift.lift), "{lift:?}");
    assert!((1.6..3.3).contains(&lift.blended(5.0, START_MS)), "{lift:?}");
    let at = |at_ms: u64| usize::try_from((at_ms - curve.start_ms) / curve.step_ms).unwrap();
    let during = at(upcoming[0].start_ms + 3_600_000);
    assert!(curve.mean[during] > 1.4 * 200.0, "{}", curve.mean[during]);
    let told = curve.told.at(upcoming[0].start_ms + 3_600_000).unwrap();
    assert!(told[1] < 1.2 * 200.0, "{told:?}");

    // Once it runs, what is left of it is told to people only, just the same.
    known.extend((0..52).map(|nth| span(now_ms + nth * 900_000, 900_000)));
    for span in &mut known {
        if (upcoming[0].start_ms..upcoming[0].end_ms).contains(&span.at_ms) {
            span.rps *= 2.0;
        }
    }
    let started = [&started[..], &upcoming].concat();
    let past = Past { started: &started, ..super::tests::past(&known) };
    let now_ms = now_ms + 13 * 3_600_000;
    let curve = super::curve(&past, Reach::Day, &QUANTILES, now_ms).unwrap().0;
    let at = |at_ms: u64| usize::try_from((at_ms - curve.start_ms) / curve.step_ms).unwrap();
    let during = at(now_ms + 3_600_000);
    assert!(curve.mean[during] > 1.4 * 200.0, "{}", curve.mean[during]);
    let told = curve.told.at(now_ms + 3_600_000).unwrap();
    assert!(told[1] < 1.2 * 200.0, "{told:?}");
}

/// A campaign of three hours, which doubles demand, on every third day at a time of its own; what the
/// table says of `days` days.
fn campaign(at_ms: u64) -> f64 {
    let day = at_ms.saturating_sub(START_MS) / DAY_MS;
    let begins_ms = (9 + day * 5 % 8) * 3_600_000;
    let runs = (begins_ms..begins_ms + 3 * 3_600_000).contains(&(at_ms % DAY_MS));
    f64::from(u8::from(day % 3 == 1 && runs))
}

/// What a table knew that reaches a day ahead of the end of `known`, and of it what is said of later.
fn planned(known: &[Span], says: impl Fn(u64) -> f64) -> Signals {
    let end_ms = known.last().unwrap().at_ms + 900_000;
    let past = known.iter().map(|span| Some(campaign(span.at_ms)));
    let ahead = (0..2 * 96).map(|nth| Some(says(end_ms + nth * 900_000)));
    let values = past.chain(ahead).collect();
    let start_ms = known[0].at_ms;
    let regressor = Regressor { name: "campaign".to_owned(), start_ms, values };
    Signals { regressors: vec![regressor], unheard: Vec::new() }
}

fn with_campaigns(days: u64) -> Vec<Span> {
    let mut known = spans(Reach::Day, days);
    known.iter_mut().for_each(|span| span.rps *= 1.0 + campaign(span.at_ms));
    known
}

#[test]
fn a_campaign_that_a_table_has_of_tomorrow_is_foreseen_today() {
    let known = with_campaigns(28);
    let now_ms = START_MS + 28 * DAY_MS;
    // The 28th day has one.
    let at_ms = (now_ms..now_ms + DAY_MS).step_by(900_000).find(|at| campaign(*at) == 1.0).unwrap();
    let signals = planned(&known, campaign);
    let with = |signals: &Signals| {
        let past = Past { signals, ..past(&known) };
        curve(&past, Reach::Day, &QUANTILES, now_ms).unwrap()
    };
    let (told, claims) = with(&signals);
    let nth = usize::try_from((at_ms + 3_600_000 - told.start_ms) / told.step_ms).unwrap();
    assert!((340.0..480.0).contains(&told.mean[nth]), "{}", told.mean[nth]);
    assert!((300.0..520.0).contains(&told.told.at(at_ms + 3_600_000).unwrap()[1]));
    let [part] = &told.signals[..] else { panic!("{:?}", told.signals) };
    assert!(part.heard && part.lead_ms == 0 && part.effect > 1.05, "{part:?}");
    assert_eq!(claims[0].with_rps[nth], told.mean[nth]);
    assert!(claims[0].without_rps[nth] < 260.0, "{}", claims[0].without_rps[nth]);
    // One whose record speaks against it has no effect, and goes on being judged.
    let unheard = Signals { unheard: vec!["campaign".to_owned()], ..planned(&known, campaign) };
    let (deaf, judged) = with(&unheard);
    assert!(deaf.mean[nth] < 260.0 && !deaf.signals[0].heard, "{}", deaf.mean[nth]);
    assert_eq!(judged, claims);
}

#[test]
fn a_table_that_lies_of_tomorrow_is_not_heard_any_more() {
    let all = with_campaigns(31);
    let mut scores = Scores::new(Reach::Day);
    let mut heard = Vec::new();
    for now in (28 * 96..31 * 96).step_by(4) {
        let known = &all[..now];
        let now_ms = START_MS + now as u64 * 900_000;
        scores.settle(now_ms, 900_000, |at_ms| {
            all.iter().find(|span| span.at_ms == at_ms).map(|span| span.rps)
        });
        // A campaign is always about to begin, and never does.
        let mut signals = planned(known, |at_ms| {
            f64::from(u8::from(at_ms >= now_ms + 3_600_000)).max(campaign(at_ms))
        });
        if scores.heard.is_against("campaign") {
            signals.unheard.push("campaign".to_owned());
        }
        heard.push(signals.unheard.is_empty());
        let past = Past { signals: &signals, ..past(known) };
        let (curve, claims) = curve(&past, Reach::Day, &QUANTILES, now_ms).unwrap();
        scores.note(&curve, &claims, known[now - 1].rps);
    }
    assert!(heard[..6].iter().all(|heard| *heard), "it had a good past: {heard:?}");
    assert!(heard[24..].iter().all(|heard| !heard), "{heard:?}");
    let record = scores.heard.of("campaign");
    assert!(record.mae_rps > 2.0 * record.mae_without_rps, "{record:?}");
}

#[test]
fn a_record_of_other_curves_or_a_damaged_one_is_refused() {
    let week = Scores::new(Reach::Week).written().unwrap();
    assert!(Scores::restored(Reach::Week, &week).is_ok());
    let said = |lead: u64| {
        let said = serde_json::json!({
            "lead": lead, "mean_rps": 1.0, "low_rps": 1.0, "high_rps": 1.0, "naive_rps": 1.0,
        });
        let mut value: serde_json::Value = serde_json::from_str(&week).unwrap();
        value["open"] = serde_json::json!({ "1795392000000": [said] });
        Scores::restored(Reach::Week, &value.to_string())
    };
    assert!(said(3).is_ok());
    let refused = [Scores::restored(Reach::Day, &week), said(4), Scores::restored(Reach::Day, "")];
    for (refused, why) in refused.into_iter().zip(["other distances", "no distance", "EOF"]) {
        let error = refused.expect_err("it is refused").to_string();
        assert!(error.contains(why), "{error}");
    }
}
