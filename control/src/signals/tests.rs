use super::record::Record;
use super::*;
use crate::{Planned, SignalState};
use foreshadow_predictor::SeriesSpec;
use proptest::prelude::*;

const HORIZONS_MS: [u64; 2] = [1_000, 10_000];

/// Signals and the forecaster they are told to.
struct Told {
    signals: Signals,
    forecaster: Forecaster,
}

impl Told {
    fn new(names: &[&str]) -> Self {
        let leads = names.iter().map(|name| Lead::new(name, HORIZONS_MS.len())).collect();
        let signals = Signals { step_ms: 1_000, leads, ..Signals::default() };
        let series = SeriesSpec {
            step_ms: 100,
            horizons_ms: HORIZONS_MS.to_vec(),
            levels: vec![0.1, 0.5, 0.9],
            seasons_ms: Vec::new(),
        };
        Self { signals, forecaster: Forecaster::with_regressors(series, names.len()) }
    }

    fn tick(&mut self, rps: f64, told: &[(&str, f64)]) {
        self.tick_of_plan(rps, told, &BTreeMap::new());
    }

    fn tick_of_plan(
        &mut self,
        rps: f64,
        told: &[(&str, f64)],
        planned: &BTreeMap<String, Vec<Planned>>,
    ) {
        let now = told.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let values = self.signals.hear(&Signalled { now: &now, planned }, 0, &HORIZONS_MS);
        self.forecaster.observe_with(rps, &values);
        self.signals.learn(rps, 100, &self.forecaster);
    }
}

/// Whether a surge of half a minute, one in every two, is on at `tick`.
fn surge(tick: i64) -> f64 {
    f64::from(u8::from(tick.rem_euclid(1_200) > 900))
}

#[test]
fn the_time_by_which_a_signal_leads_is_found() {
    for lead_s in [0, 5, 22] {
        let mut told = Told::new(&["campaign", "noise"]);
        for tick in 0..9_000_i64 {
            let noise = ((tick / 10) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let campaign = 1e6 * (1.0 + surge(tick + 10 * lead_s));
            told.tick(
                100.0 + 300.0 * surge(tick),
                &[("campaign", campaign), ("noise", noise as f64)],
            );
        }
        let [campaign, noise] = told.signals.views(&HORIZONS_MS).try_into().expect("there are two");
        assert_eq!(
            (campaign.state, campaign.lead_ms / 1_000),
            (SignalState::Arriving, lead_s as u64)
        );
        assert!(campaign.correlation > 0.9, "{campaign:?}");
        assert!(noise.correlation < 0.3, "{noise:?}");
    }
}

#[test]
fn what_is_known_beforehand_is_told_beyond_the_lead() {
    // A surge with its campaign, of which a table has what is to come: nothing leads, all is known.
    let mut told = Told::new(&["campaign"]);
    let (mut known, mut unknown, mut before) = (0, 0, 0);
    for tick in 0..12_000_i64 {
        let on = surge(tick);
        let changes = (1..1_200).filter(|ahead| surge(tick + ahead) != surge(tick + ahead - 1));
        let change =
            |ahead: i64| Planned { in_ms: 100 * ahead as u64, value: Some(surge(tick + ahead)) };
        let planned = BTreeMap::from([("campaign".to_owned(), changes.map(change).collect())]);
        told.tick_of_plan(100.0 + 300.0 * on, &[("campaign", on)], &planned);
        if tick > 6_000 && on == 0.0 && surge(tick + 100) == 1.0 {
            before += 1;
            let mut lead = told.signals.leads[0].clone();
            known += i32::from(lead.says(10, 100.0, 175.0).is_some_and(|rps| rps > 250.0));
            lead.hear(Some(on), &[], 1_000);
            unknown += i32::from(lead.says(10, 100.0, 175.0).is_some_and(|rps| rps > 250.0));
        }
    }
    assert!(before > 300 && known > before * 8 / 10, "{known} of {before}");
    assert_eq!(unknown, 0, "without the table nothing is known of it");
}

#[test]
fn one_that_stops_arriving_or_stands_still_is_said_to() {
    let mut told = Told::new(&["a", "b"]);
    for tick in 0..6_000_i64 {
        told.tick(100.0, &[("a", surge(tick)), ("b", surge(tick))]);
    }
    let states = |told: &Told| told.signals.views(&[]).iter().map(|v| v.state).collect::<Vec<_>>();
    assert_eq!(states(&told), [SignalState::Arriving; 2]);
    for _ in 0..5_000 {
        told.tick(100.0, &[("b", 1.0), ("a", f64::NAN)]);
    }
    assert_eq!(states(&told), [SignalState::Missing, SignalState::Still]);
    assert!(told.signals.leads.iter().all(|lead| lead.says(10, 100.0, 100.0).is_none()));
}

#[test]
fn what_a_signal_says_is_neither_early_nor_late() {
    const LEAD: usize = 12;
    let value = |step: usize| {
        let mixed = (step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 54) as f64
    };
    let came = |step: usize| 200.0 + step.checked_sub(LEAD).map_or(0.0, value);
    let (mut lead, mut demand) = (Lead::new("campaign", 0), Departure::default());
    for step in 0..8_000 {
        lead.hear(Some(value(step)), &[], 1_000);
        let departure = demand.take(came(step));
        lead.learn(departure, demand.spread());
        if step > 7_900 {
            for ahead in 1..=LEAD {
                let said = lead.says(ahead, came(step), f64::INFINITY).expect("it leads");
                let (then, off) = (came(step + ahead), (said - came(step + ahead)).abs());
                assert!(off < 60.0, "{said} said {ahead} steps before {then}");
            }
        }
        lead.end_step();
    }
}

#[test]
fn a_truth_that_was_not_seen_is_none() {
    let mut record = Record::default();
    for (gap_ms, after) in [(1_900, Voice::None), (3_600_000, Voice::Unproven)] {
        record.rest();
        for second in 0..8 {
            record.tell(second * 1_000, 10_000, Some(300.0), 100.0);
        }
        for second in 0..8 {
            record.settle(10_000 + second * 1_000 + gap_ms, 1_000, 100.0);
        }
        assert_eq!(record.voice(), after, "seen {gap_ms} ms too late");
    }
}

/// One occasion on which `rps` was said of the next ten seconds, and `truth` came.
fn occasion(record: &mut Record, now_ms: &mut u64, rps: f64, truth: f64) {
    for second in 0..30 {
        *now_ms += 1_000;
        record.settle(*now_ms, 1_000, truth);
        record.tell(*now_ms, 10_000, (second < 10).then_some(rps), 100.0);
    }
}

#[test]
fn a_record_is_earned_on_occasions_and_lost_on_them() {
    let (mut record, mut now_ms) = (Record::default(), 0);
    assert_eq!(record.voice(), Voice::Unproven);
    for _ in 0..6 {
        occasion(&mut record, &mut now_ms, 300.0, 320.0);
    }
    assert_eq!(record.voice(), Voice::Full);
    assert!((record.error_rps() - 20.0).abs() < 1e-9);
    let mut heard = 0;
    for _ in 0..6 {
        heard += u32::from(record.voice() == Voice::Full);
        occasion(&mut record, &mut now_ms, 300.0, 100.0);
    }
    assert!(heard <= 3, "{heard} false alarms were heard");
    assert_eq!(record.voice(), Voice::None);
    for _ in 0..9 {
        occasion(&mut record, &mut now_ms, 300.0, 320.0);
    }
    assert_eq!(record.voice(), Voice::Full, "and is won back");
}

proptest! {
    #[test]
    fn hostile_signals_leave_numbers_that_can_be_kept(
        values in proptest::collection::vec((prop_oneof![
            any::<f64>(), Just(f64::NAN), Just(1e308), Just(-1.0), Just(0.0), 0.0..1e15,
        ], 0_u64..100_000_000), 1..300),
    ) {
        let mut told = Told::new(&["a", "a", "b"]);
        for (nth, (value, missing_ms)) in values.into_iter().enumerate() {
            let all = BTreeMap::from([("a".to_owned(), value), ("b".to_owned(), 1.0)]);
            let missing_ms = if nth % 40 == 39 { missing_ms } else { 0 };
            let planned = Planned { in_ms: missing_ms, value: Some(value) };
            let planned = BTreeMap::from([("a".to_owned(), vec![planned; 70])]);
            let signalled = Signalled { now: &all, planned: &planned };
            let heard = told.signals.hear(&signalled, missing_ms, &HORIZONS_MS);
            prop_assert_eq!(heard.len(), 3 * (1 + HORIZONS_MS.len()));
            told.forecaster.observe_with(100.0, &heard);
            told.signals.learn(100.0, 500 + missing_ms, &told.forecaster);
            let mut horizons = [HorizonView {
                horizon_ms: 10_000, lower_rps: 1.0, median_rps: 2.0, upper_rps: 3.0,
            }];
            told.signals.raise(&mut horizons, 1e6);
            let [h] = &horizons;
            prop_assert!(h.lower_rps <= h.median_rps && h.median_rps <= h.upper_rps, "{:?}", h);
            prop_assert!(h.lower_rps >= 1.0 && h.upper_rps <= 1e6, "{:?}", h);
        }
        let text = serde_json::to_string(&told.signals).expect("plain data");
        // A number that is none would be written as null, and not be read.
        let read: Signals = serde_json::from_str(&text).expect("what was written");
        prop_assert_eq!(serde_json::to_string(&read).expect("plain data"), text);
    }
}
