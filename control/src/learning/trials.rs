//! What learning the plan of migrations is worth, in made-up places: run with `--no-capture` to see the figures.

use proptest::prelude::*;

use super::shifts::{Shifts, most_failures};
use super::{LearningSpec, Pace, ShiftOutcome};
use crate::MigrationSpec;

const RPS: f64 = 200.0;
/// A step that cannot be carried is seen and taken back after so long.
const SEEN_AFTER_S: f64 = 2.0;
/// What a cold target carries of its share at once.
const COLD: f64 = 0.15;
const SPEC: LearningSpec = LearningSpec {
    outcomes: true,
    steps: true,
    fastest: Pace::Brisk,
    successes: LearningSpec::SUCCESSES,
};
const CAPPED: LearningSpec = LearningSpec { fastest: Pace::Normal, ..SPEC };

/// Seeded randomness: splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A place in which a target warms up within `warm_s`, or within 0.6 to 1.6 times that, and where this part of
/// migrations fails at its first step whatever is done.
#[derive(Clone, Copy, Debug)]
struct Nature {
    warm_s: f64,
    fails: f64,
}

/// What one migration did.
#[derive(Clone, Copy, Debug, Default)]
struct Did {
    lost: f64,
    value: f64,
    failed: bool,
    took_s: f64,
}

fn migrate(pace: Pace, place: Nature, random: &mut Random) -> (Did, ShiftOutcome) {
    let spec = MigrationSpec::default();
    let takes_s = |pace: Pace| {
        pace.plan(&spec).map_or(0.0, |(steps, ms)| steps.len() as f64 * ms as f64 / 1_000.0)
    };
    let (steps, verify_ms) = pace.plan(&spec).expect("all are plans of the default");
    let warm_s = place.warm_s * (0.6 + random.unit());
    let unlucky = random.unit() < place.fails;
    let (mut lost, mut moved) = (0.0, 0.0);
    for (nth, share) in steps.iter().enumerate() {
        let begins_s = nth as f64 * verify_ms as f64 / 1_000.0;
        let warm = |at_s: f64| (COLD + at_s / warm_s).min(1.0);
        // The mean of what is beyond it until it would be seen.
        let beyond: f64 = (0..20)
            .map(|tick| (share - warm(begins_s + f64::from(tick) * SEEN_AFTER_S / 20.0)).max(0.0))
            .sum::<f64>()
            / 20.0;
        let fell = if unlucky { *share } else { beyond };
        lost += fell * RPS * SEEN_AFTER_S;
        if fell / share > 0.02 {
            let took_s = begins_s + SEEN_AFTER_S;
            let outcome = ShiftOutcome { pace, completed: false, harmed: fell / share };
            return (Did { lost, value: 0.0, failed: true, took_s }, outcome);
        }
        moved += share * RPS * verify_ms as f64 / 1_000.0;
    }
    let harmed = lost / moved.max(1.0);
    let time = takes_s(pace) / takes_s(Pace::Careful);
    let value = (1.0 - (harmed / 0.02).min(1.0)) * (1.0 - 0.1 * time);
    let did = Did { lost, value, failed: false, took_s: takes_s(pace) };
    (did, ShiftOutcome { pace, completed: true, harmed })
}

enum Policy {
    Fixed(Pace),
    Learned(LearningSpec),
}

/// All migrations of a set: `places` says how each is like, by its number; those of one number meet the same
/// chance under every policy.
fn run(
    policy: &Policy,
    count: u64,
    seed: u64,
    places: impl Fn(u64) -> (usize, Nature),
) -> (Did, u32) {
    let mut learned = [Shifts::default(), Shifts::default()];
    let (mut all, mut failures) = (Did::default(), 0);
    for nth in 0..count {
        let (at, nature) = places(nth);
        let pace = match policy {
            Policy::Fixed(pace) => *pace,
            Policy::Learned(spec) => learned[at].choose(*spec, &MigrationSpec::default()).pace,
        };
        let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(nth));
        let (did, outcome) = migrate(pace, nature, &mut random);
        if let Policy::Learned(spec) = policy {
            learned[at].learn(outcome, *spec);
        }
        all.lost += did.lost;
        all.value += did.value;
        all.took_s += did.took_s;
        failures += u32::from(did.failed);
    }
    (all, failures)
}

const SLOW: Nature = Nature { warm_s: 50.0, fails: 0.01 };
const FAST: Nature = Nature { warm_s: 2.0, fails: 0.01 };

/// 400 migrations, to A and B in turn; figures of all policies over 20 seeds, by policy: value, failures, lost
/// requests, minutes.
fn figures(name: &str, places: impl Fn(u64) -> (usize, Nature) + Copy) -> Vec<[f64; 4]> {
    let policies = [
        ("always careful", Policy::Fixed(Pace::Careful)),
        ("as configured", Policy::Fixed(Pace::Normal)),
        ("always brisk", Policy::Fixed(Pace::Brisk)),
        ("learned, fastest: normal", Policy::Learned(CAPPED)),
        ("learned, fastest: brisk", Policy::Learned(SPEC)),
    ];
    let mut table = Vec::new();
    let mut shown = format!("{name}: 400 migrations, mean of 20 seeds\n");
    for (who, policy) in &policies {
        let mut sums = [0.0; 4];
        for seed in 1..=20 {
            let (did, failures) = run(policy, 400, seed, places);
            let figures = [did.value, f64::from(failures), did.lost, did.took_s / 60.0];
            sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure / 20.0);
        }
        let [value, failed, lost, minutes] = sums;
        shown += &format!(
            "{who:>26}: value {value:6.1}, failed {failed:5.1}, requests lost {lost:8.0}, \
             shifting {minutes:4.0} min\n"
        );
        table.push(sums);
    }
    let best = table[..3].iter().map(|row| row[0]).fold(f64::NEG_INFINITY, f64::max);
    for (who, row) in [(3, "fastest: normal"), (4, "fastest: brisk")] {
        let (to_best, to_configured) = (best - table[who][0], table[1][0] - table[who][0]);
        shown += &format!(
            "regret of learning ({row}): {to_best:.1} against the best fixed plan, \
             {to_configured:.1} against the configured one\n"
        );
    }
    print_figures(&shown);
    table
}

fn print_figures(shown: &str) {
    println!("{shown}");
}

#[test]
fn learning_finds_the_careful_plan_where_it_is_needed_and_the_brisk_one_where_it_is_fine() {
    let one =
        figures(
            "A warms up in 50 s, B in 2 s",
            |nth| {
                if nth % 2 == 0 { (0, SLOW) } else { (1, FAST) }
            },
        );
    let best = one[..3].iter().map(|row| row[0]).fold(f64::NEG_INFINITY, f64::max);
    assert!(one[4][0] > best, "better than any one plan for both: {one:?}");
    assert!(one[3][0] > one[1][0] + 20.0 && one[4][0] > one[1][0] + 20.0, "{one:?}");
    assert!(one[4][1] < one[1][1] / 3.0, "failures: {one:?}");
    assert!(one[4][3] < one[0][3], "and shorter than always careful: {one:?}");
    let brisk = figures("both warm up in 2 s", |nth| ((nth % 2) as usize, FAST));
    let best = brisk[..3].iter().map(|row| row[0]).fold(f64::NEG_INFINITY, f64::max);
    assert!(best - brisk[4][0] < 0.05 * best, "{brisk:?}");
    let careful = figures("both warm up in 50 s", |nth| ((nth % 2) as usize, SLOW));
    assert!(careful[0][0] - careful[4][0] < 0.1 * careful[0][0], "{careful:?}");
}

#[test]
fn a_world_that_changes_in_the_middle_is_followed() {
    let table = figures("A and B change places after 200", |nth| {
        let at = (nth % 2) as usize;
        (at, if (at == 0) == (nth < 200) { SLOW } else { FAST })
    });
    let best = table[..3].iter().map(|row| row[0]).fold(f64::NEG_INFINITY, f64::max);
    assert!(best - table[4][0] < 0.05 * best, "{table:?}");
    assert!(table[4][0] > table[1][0] && table[4][1] < table[1][1] / 2.0, "{table:?}");
}

/// What one migration by a plan other than the most careful one loses at most, where it fails and where it goes
/// well: so much is beyond what a target carries.
const WORST_LOSS: f64 = RPS * SEEN_AFTER_S;
const WORST_OF_A_SUCCESS: f64 = 0.02 * RPS * SEEN_AFTER_S * 4.0;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever places are like and however they change: no more is lost than by the most careful plan always,
    /// plus what the failures cost that the ladder allows, at each place and on each of two rungs.
    #[test]
    fn learning_never_loses_more_than_the_most_careful_plan_and_the_stated_margin(
        warm_s in prop::array::uniform4(0.1_f64..200.0),
        fails in prop::array::uniform4(0.0_f64..0.5),
        every in 1_u64..200,
        count in 1_u64..400,
        seed in any::<u64>(),
        successes in 1_u32..20,
        fastest in prop::sample::select(Pace::ALL.to_vec()),
    ) {
        let spec = LearningSpec { successes, fastest, ..SPEC };
        let places = |nth: u64| {
            let at = (nth % 2) as usize;
            let kind = at + 2 * usize::from((nth / every) % 2 == 1);
            (at, Nature { warm_s: warm_s[kind], fails: fails[kind] })
        };
        let (careful, careful_failures) = run(&Policy::Fixed(Pace::Careful), count, seed, places);
        let (learned, failures) = run(&Policy::Learned(spec), count, seed, places);
        let each = most_failures(u32::try_from(count.div_ceil(2)).expect("few"), successes);
        let most = 4.0 * each;
        let margin = most * WORST_LOSS + count as f64 * WORST_OF_A_SUCCESS;
        prop_assert!(learned.lost <= careful.lost + margin, "{learned:?} {careful:?} {margin}");
        prop_assert!(f64::from(failures) <= f64::from(careful_failures) + most);
        if fastest == Pace::Careful {
            prop_assert!(learned.lost <= careful.lost + 1e-6);
        }
    }
}

#[test]
fn after_a_failure_the_next_is_more_careful_at_once_and_brisk_comes_after_five_successes() {
    let migration = MigrationSpec::default();
    let mut shifts = Shifts::default();
    let done = |pace, completed| ShiftOutcome { pace, completed, harmed: 0.0 };
    let mut paces = Vec::new();
    for _ in 0..6 {
        let pace = shifts.choose(SPEC, &migration).pace;
        paces.push(pace);
        shifts.learn(done(pace, true), SPEC);
    }
    assert_eq!(paces[..5], [Pace::Normal; 5], "as configured at first");
    assert_eq!(paces[5], Pace::Brisk);
    shifts.learn(done(Pace::Brisk, false), SPEC);
    assert!(shifts.choose(SPEC, &migration).pace < Pace::Brisk);
    let again = (0..40).find(|_| {
        let pace = shifts.choose(SPEC, &migration).pace;
        shifts.learn(done(pace, true), SPEC);
        pace == Pace::Brisk
    });
    assert!(again.is_none_or(|after| after >= 10), "twice as many: {again:?}");
    shifts.learn(done(Pace::Normal, false), SPEC);
    assert_eq!(shifts.choose(SPEC, &migration).pace, Pace::Careful);
    let text = shifts.choose(SPEC, &migration).text;
    assert!(text.contains("none faster than careful until"), "{text}");
    assert!(shifts.choose(CAPPED, &migration).pace <= Pace::Normal);
}

#[test]
fn what_is_learned_of_shifts_is_read_back_as_it_was_written() {
    let mut shifts = Shifts::default();
    for nth in 0..50 {
        let pace = shifts.choose(SPEC, &MigrationSpec::default()).pace;
        shifts.learn(ShiftOutcome { pace, completed: nth % 7 != 0, harmed: 0.001 }, SPEC);
    }
    let json = serde_json::to_string(&shifts).expect("it has a form in JSON");
    let read: Shifts = serde_json::from_str(&json).expect("it was written so");
    assert_eq!(read, shifts);
    assert_eq!(serde_json::from_str::<Shifts>("{}").expect("an older one"), Shifts::default());
}
