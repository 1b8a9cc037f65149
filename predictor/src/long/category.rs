//! What the series of one category have in common: the shape of their day and week.
//!
//! Partial pooling (Gelman and Hill 2007, "Data Analysis Using Regression and Multilevel/Hierarchical
//! Models", chapter 12): a series that has seen little borrows the shape of its category, the more the
//! more alike the category's members are, and the less the more of its own it has seen. That series
//! which resemble each other forecast each other is what global models rest on (Montero-Manso and
//! Hyndman 2021, "Principles and algorithms for forecasting groups of time series").

use serde::{Deserialize, Serialize};

use super::clean::HUGEST;
use super::input::History;

/// Length of a slot of a shape, and how many a week and a day have.
const SLOT_MS: u64 = 900_000;
const WEEK: usize = 672;
const DAY: usize = 96;
const WEEK_MS: u64 = SLOT_MS * WEEK as u64;
/// Known time, in days, that a shape takes.
const LEAST_DAYS: f64 = 3.0;
/// Newest weeks that count; one counts for so much of the one after it.
const WEEKS: usize = 8;
const FADING: f64 = 0.71;
/// Known slots that a week takes to count.
const LEAST_OF_WEEK: usize = DAY;
/// Values above this many times the median of their week are taken for that, and none of a shape lies
/// higher above its mean.
const SPIKE: f64 = 10.0;
const HIGHEST: f64 = 20.0;
/// What is usual at a moment of all days counts as much as this of a week in which the moment was seen.
const OF_ALL_DAYS: f64 = 0.5;
/// What one member cannot tell, how much members differ: as a share of the shape, and as likeness. It
/// counts as one member.
const UNKNOWN_DOUBT: f64 = 0.25;
const UNKNOWN_LIKENESS: f64 = 0.5;
/// A standard deviation in units of the median absolute deviation, for a normal distribution.
const SD_PER_MEDIAN: f64 = 1.4826;

/// The day and week of one series, whatever its level: by quarter of an hour of the week, about 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    slots: Vec<f32>,
    days: f32,
}

impl Shape {
    /// The shape of what was recorded, the newest eight weeks of it; `None` for less than three days of
    /// known values, or steps of more than an hour. Values that are NaN or infinite count as gaps,
    /// negative ones as zero.
    pub fn of(history: &History) -> Option<Self> {
        let cells = Cells::of(history)?;
        let known = cells.values.iter().flatten().count();
        let days = known as f64 / DAY as f64;
        if days < LEAST_DAYS {
            return None;
        }
        let (mut of_week, mut of_day) = (vec![(0.0, 0.0); WEEK], vec![(0.0, 0.0); DAY]);
        let mut weight = 1.0;
        for (nth, week) in cells.values.rchunks(WEEK).enumerate() {
            let first = cells.first + (cells.values.len() - nth * WEEK - week.len()) as u64;
            for (at, ratio) in ratios(week) {
                let slot = ((first + at as u64) % WEEK as u64) as usize;
                for mean in [&mut of_week[slot], &mut of_day[slot % DAY]] {
                    *mean = (mean.0 + weight * ratio, mean.1 + weight);
                }
            }
            weight *= FADING;
        }
        let slot = |slot: usize| {
            let (day, seen) = of_day[slot % DAY];
            let day = if seen > 0.0 { day / seen } else { 1.0 };
            let (sum, seen) = of_week[slot];
            let own = if seen > 0.0 { sum / seen } else { 0.0 };
            (seen * own + OF_ALL_DAYS * day) / (seen + OF_ALL_DAYS)
        };
        let mut slots: Vec<f64> = (0..WEEK).map(slot).collect();
        level(&mut slots);
        let slots = slots.into_iter().map(|slot| slot as f32).collect();
        Some(Self { slots, days: days as f32 })
    }

    /// Days of known values that it was made from.
    pub fn days(&self) -> f64 {
        f64::from(self.days)
    }
}

/// A history by slot.
struct Cells {
    /// Slots of unix time before the first.
    first: u64,
    values: Vec<Option<f64>>,
}

impl Cells {
    /// The newest weeks.
    fn of(history: &History) -> Option<Self> {
        let step_ms = history.step_ms;
        if step_ms == 0 || step_ms > 4 * SLOT_MS || history.values.is_empty() {
            return None;
        }
        let end = history.end_ms().div_ceil(SLOT_MS);
        let first = (history.start_ms / SLOT_MS).max(end.saturating_sub((WEEKS * WEEK) as u64));
        let mut sums = vec![(0.0, 0.0); usize::try_from(end - first).ok()?];
        for (at, value) in history.values.iter().enumerate() {
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let from_ms = history.start_ms.saturating_add(step_ms.saturating_mul(at as u64));
            let until_ms = from_ms.saturating_add(step_ms);
            for slot in from_ms / SLOT_MS..until_ms.div_ceil(SLOT_MS) {
                let Some(nth) = slot.checked_sub(first) else { continue };
                if let Some(sum) = sums.get_mut(usize::try_from(nth).unwrap_or(usize::MAX)) {
                    *sum = (sum.0 + value.clamp(0.0, HUGEST), sum.1 + 1.0);
                }
            }
        }
        let mean = |(sum, count): (f64, f64)| (count > 0.0).then(|| (sum / count).min(HUGEST));
        Some(Self { first, values: sums.into_iter().map(mean).collect() })
    }
}

/// The known values of a week relative to their mean, with their places; none where too few are known
/// or there was nothing.
fn ratios(week: &[Option<f64>]) -> Vec<(usize, f64)> {
    let known: Vec<(usize, f64)> =
        week.iter().enumerate().filter_map(|(at, value)| value.map(|value| (at, value))).collect();
    if known.len() < LEAST_OF_WEEK {
        return Vec::new();
    }
    let positive = known.iter().map(|(_, value)| *value).filter(|value| *value > 0.0);
    let Some(usual) = median(positive.collect()) else { return Vec::new() };
    let capped = |value: f64| (value / usual).min(SPIKE);
    let mean = known.iter().map(|(_, value)| capped(*value)).sum::<f64>() / known.len() as f64;
    known.into_iter().map(|(at, value)| (at, capped(value) / mean)).collect()
}

/// Brings the mean to 1; all of it is 1 where there is none.
fn level(slots: &mut [f64]) {
    let mean = slots.iter().sum::<f64>() / slots.len() as f64;
    let sane = mean.is_finite() && mean > 1e-9;
    slots.iter_mut().for_each(|slot| *slot = if sane { *slot / mean } else { 1.0 }.min(HIGHEST));
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What members of a category have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    name: String,
    members: usize,
    alike: f64,
    /// By slot: the common shape, and the standard deviation of members about it.
    shape: Vec<f64>,
    doubt: Vec<f64>,
}

impl Category {
    /// Most members that are looked at: those with the longest history.
    pub const MOST_MEMBERS: usize = 64;

    /// What `members` have in common, the series it is for not among them; `None` without any.
    ///
    /// By slot it is the mean of the middle half of the members (of one or two, of all), so that one
    /// that lies moves it little.
    pub fn of(name: impl Into<String>, members: &[&Shape]) -> Option<Self> {
        let mut members: Vec<&Shape> =
            members.iter().copied().filter(|shape| shape.slots.len() == WEEK).collect();
        members.sort_by(|one, other| other.days.total_cmp(&one.days));
        members.truncate(Self::MOST_MEMBERS);
        if members.is_empty() {
            return None;
        }
        let count = members.len() as f64;
        let by_slot = |slot: usize| {
            let mut values: Vec<f64> =
                members.iter().map(|shape| f64::from(shape.slots[slot])).collect();
            values.sort_unstable_by(f64::total_cmp);
            let left_out = if values.len() > 2 { values.len().div_ceil(4) } else { 0 };
            let middle = &values[left_out..values.len() - left_out];
            let mean = middle.iter().sum::<f64>() / middle.len() as f64;
            let apart = median(values.iter().map(|value| (value - mean).abs()).collect());
            let apart = SD_PER_MEDIAN * apart.unwrap_or(0.0);
            (mean, (count * apart + UNKNOWN_DOUBT * mean) / (count + 1.0))
        };
        let (mut shape, doubt): (Vec<f64>, Vec<f64>) = (0..WEEK).map(by_slot).unzip();
        level(&mut shape);
        let likeness = members.iter().map(|member| likeness(member, &shape, count)).collect();
        let alike = if members.len() > 1 { median(likeness) } else { None };
        let alike = (count * alike.unwrap_or(UNKNOWN_LIKENESS) + UNKNOWN_LIKENESS) / (count + 1.0);
        Some(Self { name: name.into(), members: members.len(), alike, shape, doubt })
    }

    /// Name for display.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Members that it was made from.
    pub fn members(&self) -> usize {
        self.members
    }

    /// How alike its members are, 0 to 1: the share of a member's ups and downs that the others
    /// explain, in the median.
    pub fn alike(&self) -> f64 {
        self.alike
    }

    /// Shape and doubt by step of a week from `start_ms` on; `None` where a week is no whole number of
    /// steps, or too many.
    pub(super) fn by_step(
        &self,
        start_ms: u64,
        step_ms: u64,
        most: usize,
    ) -> Option<(Vec<f64>, Vec<f64>)> {
        let steps = usize::try_from(WEEK_MS.checked_div(step_ms)?).ok()?;
        if !WEEK_MS.is_multiple_of(step_ms) || steps == 0 || steps > most {
            return None;
        }
        let at_ms = |step: usize| start_ms % WEEK_MS + step as u64 * step_ms;
        let over = |slots: &[f64]| (0..steps).map(|at| read(slots, at_ms(at), step_ms)).collect();
        Some((over(&self.shape), over(&self.doubt)))
    }
}

/// What slots say of a step: their mean over it, or where it is shorter than they are, on a straight line
/// between the middles of slots.
fn read(slots: &[f64], at_ms: u64, step_ms: u64) -> f64 {
    let slot = |nth: u64| slots[(nth % slots.len() as u64) as usize];
    if step_ms >= SLOT_MS {
        let first = at_ms / SLOT_MS;
        let count = step_ms / SLOT_MS;
        return (first..first + count).map(slot).sum::<f64>() / count as f64;
    }
    let since_ms = at_ms + step_ms / 2 + WEEK_MS - SLOT_MS / 2;
    let (nth, share) = (since_ms / SLOT_MS, (since_ms % SLOT_MS) as f64 / SLOT_MS as f64);
    slot(nth) + share * (slot(nth + 1) - slot(nth))
}

/// Share of a member's ups and downs that the others explain. In the mean it is itself one of `count`,
/// which makes it look nearer than it is to the mean of the others.
fn likeness(member: &Shape, shape: &[f64], count: f64) -> f64 {
    let (mut apart, mut moves) = (0.0, 0.0);
    for (own, common) in member.slots.iter().zip(shape) {
        let own = f64::from(*own);
        apart += (own - common) * (own - common);
        moves += (own - 1.0) * (own - 1.0);
    }
    let without = count / (count - 1.0).max(1.0);
    let share = 1.0 - without * without * apart / moves.max(1e-6 * shape.len() as f64);
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn quarters(days: usize, value: impl Fn(usize) -> f64) -> History {
        let values = (0..days * DAY).map(|at| Some(value(at))).collect();
        History { start_ms: 20_000 * DAY_MS, step_ms: SLOT_MS, values }
    }

    fn office(at: usize) -> f64 {
        if (32..72).contains(&(at % DAY)) { 90.0 } else { 10.0 }
    }

    #[test]
    fn a_shape_has_no_level_and_knows_the_weekday() {
        let weekend = |at: usize| if at / DAY % 7 < 2 { 0.2 } else { 1.0 };
        let small = Shape::of(&quarters(28, |at| weekend(at) * office(at))).unwrap();
        let large = Shape::of(&quarters(28, |at| 1e6 * weekend(at) * office(at))).unwrap();
        assert_eq!((small.days(), small.slots.len()), (28.0, WEEK));
        for (small, large) in small.slots.iter().zip(&large.slots) {
            assert!((small - large).abs() < 1e-4, "{small} {large}");
        }
        let first = (20_000 * DAY_MS / SLOT_MS % WEEK as u64) as usize;
        let noon = |day: usize| small.slots[(first + day * DAY + 48) % WEEK];
        assert!(noon(2) > 3.0 * noon(0), "{} {}", noon(2), noon(0));
        // Hours and minutes make the same of it.
        let coarse = |step_ms: u64, each: usize| {
            let whole = quarters(28, office);
            let values = match each {
                0 => whole.values.iter().step_by(4).copied().collect(),
                each => whole.values.iter().flat_map(|v| std::iter::repeat_n(*v, each)).collect(),
            };
            Shape::of(&History { step_ms, values, ..whole }).unwrap().slots
        };
        let own = Shape::of(&quarters(28, office)).unwrap().slots;
        for other in [coarse(3_600_000, 0), coarse(60_000, 15)] {
            assert!(own.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }

    #[test]
    fn too_little_is_no_shape_and_nonsense_stays_bounded() {
        assert_eq!(Shape::of(&quarters(2, office)), None);
        assert_eq!(Shape::of(&History::default()), None);
        assert_eq!(Shape::of(&quarters(9, |_| f64::NAN)), None);
        assert_eq!(Shape::of(&History { step_ms: 4_000_000, ..quarters(9, office) }), None);
        let silent = Shape::of(&quarters(9, |_| 0.0)).unwrap();
        assert!(silent.slots.iter().all(|slot| *slot == 1.0));
        let huge = [f64::MAX, 1e308, -1e308, 5e-324];
        let wild = Shape::of(&quarters(9, |at| huge[at % 4])).unwrap();
        assert!(wild.slots.iter().all(|slot| (0.0..=20.0).contains(slot)));
        let spiky = Shape::of(&quarters(14, |at| if at == 700 { 1e308 } else { office(at) }));
        let plain = Shape::of(&quarters(14, office)).unwrap();
        for (spiky, plain) in spiky.unwrap().slots.iter().zip(&plain.slots) {
            assert!((spiky - plain).abs() < 3.0, "{spiky} {plain}");
        }
    }

    #[test]
    fn the_middle_half_counts_and_likeness_is_what_others_explain() {
        let tell = |factor: f64| Shape::of(&quarters(21, |at| factor * office(at))).unwrap();
        let liar =
            Shape::of(&quarters(21, |at| if at % 61 == 0 { 1e308 } else { 1e-308 })).unwrap();
        let night = Shape::of(&quarters(21, |at| 100.0 - office(at))).unwrap();
        let mates = [tell(1.0), tell(3.0), tell(9.0), tell(0.1)];
        let honest = Category::of("g", &mates.iter().collect::<Vec<_>>()).unwrap();
        assert!(honest.alike() > 0.85 && honest.members() == 4, "{}", honest.alike());
        let with = Category::of("g", &[&mates[0], &mates[1], &mates[2], &mates[3], &liar]).unwrap();
        assert!(with.shape.iter().zip(&honest.shape).all(|(a, b)| (a - b).abs() < 0.05));
        assert!(with.alike() > 0.8, "{}", with.alike());
        let unlike = Category::of("g", &[&mates[0], &night]).unwrap();
        assert!(unlike.alike() < 0.2, "{}", unlike.alike());
        let alone = Category::of("g", &[&mates[0]]).unwrap();
        assert_eq!(alone.alike(), 0.5);
        assert_eq!(Category::of("g", &[]), None);
    }

    #[test]
    fn it_is_read_by_any_step_that_divides_a_week() {
        let one = Shape::of(&quarters(21, office)).unwrap();
        let category = Category::of("g", &[&one]).unwrap();
        let start_ms = 20_000 * DAY_MS;
        let by = |step_ms| category.by_step(start_ms, step_ms, 10_080);
        let (hours, doubts) = by(3_600_000).unwrap();
        assert_eq!((hours.len(), doubts.len()), (168, 168));
        assert!(hours[12] > 8.0 * hours[3], "{} {}", hours[12], hours[3]);
        let minutes = by(60_000).unwrap().0;
        assert!((minutes[12 * 60] - hours[12]).abs() < 1e-9);
        assert!(minutes[8 * 60] > minutes[7 * 60 + 55] && minutes[8 * 60] < hours[12]);
        assert!(by(0).is_none() && by(7).is_none() && by(1_000).is_none());
    }
}
