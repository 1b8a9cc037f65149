//! The queueing approximations that tie latency to utilisation; pure formulas.
//!
//! An instance is seen as `c` parallel slots, each busy for the service time `S` per request. Its
//! capacity is `C = c / S`, its utilisation at throughput `X` is `rho = X / C`, and by Little's law
//! `a = X * S` slots are busy on average, so `c = a / rho`. A slot count below one cannot be: the
//! latency of a request is at least the time it keeps its slot.

/// Utilisation above which the approximations mean nothing.
const MAX_UTILISATION: f64 = 0.995;
/// Solutions are exact to this part of the range they are looked for in.
const TOLERANCE: f64 = 1e-9;
/// Steps of a search at most; it takes about eight.
const MOST_STEPS: u32 = 64;

/// Mean wait over mean service time, `Wq / S`, in a queue with `slots` servers.
///
/// Sakasegawa (1977), "An approximation formula Lq = alpha beta^rho / (1 - rho)", times the
/// Allen-Cunneen factor `variability = (ca^2 + cs^2) / 2`, 1 for Poisson arrivals and exponential
/// service.
pub(crate) fn wait_ratio(utilisation: f64, slots: f64, variability: f64) -> f64 {
    let rho = utilisation.clamp(0.0, MAX_UTILISATION);
    let slots = slots.max(1.0);
    variability * wait_probability(rho, slots) / (slots * (1.0 - rho))
}

/// Probability that a request waits at all, as Sakasegawa's formula implies it.
fn wait_probability(rho: f64, slots: f64) -> f64 {
    libm::pow(rho, wait_exponent(slots))
}

fn wait_exponent(slots: f64) -> f64 {
    (2.0 * (slots + 1.0)).sqrt() - 1.0
}

/// The utilisation at which the mean wait is `ratio` service times, when `busy_slots` are busy on
/// average. Rises with `ratio`; ends at one slot, that is at `busy_slots` where that is below 1.
pub(crate) fn utilisation_from_wait(busy_slots: f64, ratio: f64, variability: f64) -> f64 {
    // The logarithm of the wait, next to that of the ratio: nearly straight, and without a power.
    largest_below(0.001, busy_slots.clamp(0.002, MAX_UTILISATION), |rho| {
        let slots = (busy_slots / rho).max(1.0);
        let rest = variability / (slots * (1.0 - rho) * ratio.max(f64::MIN_POSITIVE));
        wait_exponent(slots) * libm::log(rho) + libm::log(rest)
    })
}

/// The service time that explains `latency_ms` at `throughput_rps` on `slots` slots.
pub(crate) fn service_time_ms(
    latency_ms: f64,
    throughput_rps: f64,
    slots: f64,
    variability: f64,
) -> f64 {
    largest_below(latency_ms * 0.01, latency_ms, |service_ms| {
        let rho = throughput_rps * service_ms / 1_000.0 / slots.max(1.0);
        service_ms - latency_ms / (1.0 + wait_ratio(rho, slots, variability))
    })
}

/// Highest utilisation at which at most `1 - quantile` of the requests wait longer than
/// `budget_ms`.
///
/// The wait of those that wait is taken as exponential with the mean that `wait_ratio` gives
/// (exact for M/M/c, the usual approximation beyond): `P(W > t) = Pw exp(-t c (1 - rho) / (S v))`.
pub(crate) fn utilisation_within(
    budget_ms: f64,
    quantile: f64,
    service_ms: f64,
    slots: f64,
    variability: f64,
) -> f64 {
    let slots = slots.max(1.0);
    let mean_wait_ms = (service_ms * variability / slots).max(1e-9);
    let exponent = wait_exponent(slots);
    let late = libm::log((1.0 - quantile).max(f64::MIN_POSITIVE));
    largest_below(0.05, MAX_UTILISATION, |rho| {
        exponent * libm::log(rho) - budget_ms * (1.0 - rho) / mean_wait_ms - late
    })
}

/// Quantile of the standard normal distribution above the median, within 0.005.
///
/// Abramowitz and Stegun, Handbook of Mathematical Functions (1964), formula 26.2.22.
pub(crate) fn normal_quantile(quantile: f64) -> f64 {
    let t = (-2.0 * libm::log(1.0 - quantile)).sqrt();
    t - (2.30753 + 0.27061 * t) / (1.0 + 0.99229 * t + 0.04481 * t * t)
}

/// Largest value in the range for which `excess`, rising, is not positive; the lower end where it is
/// positive throughout.
///
/// Chandrupatla (1997), "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear
/// function without using derivatives", Advances in Engineering Software 28(3): inverse quadratic
/// interpolation where three points let one trust it, a halving elsewhere.
fn largest_below(low: f64, high: f64, excess: impl Fn(f64) -> f64) -> f64 {
    let (mut a, mut b) = (high.max(low), low);
    let (mut at_a, mut at_b) = (excess(a), excess(b));
    if at_a <= 0.0 {
        return a;
    }
    if at_b.is_nan() || at_b > 0.0 {
        return low;
    }
    let tolerance = TOLERANCE * (a - b);
    let mut share = 0.5;
    for _ in 0..MOST_STEPS {
        let x = a + share * (b - a);
        let at_x = excess(x);
        // The newest point is `a`, the other end `b`, and what was left behind `c`.
        let (c, at_c) = if (at_x > 0.0) == (at_a > 0.0) { (a, at_a) } else { (b, at_b) };
        if (at_x > 0.0) != (at_a > 0.0) {
            (b, at_b) = (a, at_a);
        }
        (a, at_a) = (x, at_x);
        let width = (b - a).abs();
        if width <= tolerance || at_a == 0.0 {
            break;
        }
        let least = 0.5 * tolerance / width;
        share = interpolated((a, at_a), (b, at_b), (c, at_c)).clamp(least, 1.0 - least);
    }
    if at_a <= 0.0 { a } else { b }
}

/// How far from `a` to `b` the zero lies by inverse quadratic interpolation, a half where the points are
/// too crooked for it.
fn interpolated((a, at_a): (f64, f64), (b, at_b): (f64, f64), (c, at_c): (f64, f64)) -> f64 {
    let xi = (a - b) / (c - b);
    let phi = (at_a - at_b) / (at_c - at_b);
    let trusted = phi * phi < xi && (1.0 - phi) * (1.0 - phi) < 1.0 - xi;
    if !trusted {
        return 0.5;
    }
    let share = at_a / (at_b - at_a) * at_c / (at_b - at_c)
        + (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b);
    if share.is_finite() { share } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slot_is_the_textbook_queue() {
        // M/M/1: Wq / S = rho / (1 - rho), exactly.
        for rho in [0.1, 0.5, 0.9] {
            assert!((wait_ratio(rho, 1.0, 1.0) - rho / (1.0 - rho)).abs() < 1e-9);
        }
    }

    #[test]
    fn several_slots_come_near_erlang_c() {
        // Erlang C, M/M/4 at rho 0.8: Pw = 0.5964, Wq / S = Pw / (c (1 - rho)) = 0.7455.
        assert!((wait_ratio(0.8, 4.0, 1.0) - 0.7455).abs() < 0.04);
    }

    #[test]
    fn utilisation_is_found_again_from_the_wait_it_causes() {
        for slots in [1.0, 2.0, 4.0, 16.0, 64.0] {
            for rho in [0.3, 0.6, 0.9] {
                let ratio = wait_ratio(rho, slots, 0.7);
                let found = utilisation_from_wait(slots * rho, ratio, 0.7);
                assert!((found - rho).abs() < 1e-3, "{slots} slots, {rho}: {found}");
            }
        }
    }

    /// By halving, in 60 steps.
    fn halved(low: f64, high: f64, below: impl Fn(f64) -> bool) -> f64 {
        let (mut low, mut high) = (low, high);
        if below(high) {
            return high;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if below(middle) { low = middle } else { high = middle }
        }
        low
    }

    #[test]
    fn all_searches_end_where_halving_does() {
        for slots in [1.0, 1.7, 4.0, 33.0, 500.0] {
            for variability in [0.5, 1.0, 4.0] {
                for part in [1e-6, 0.01, 0.05, 0.3, 0.8, 3.0, 100.0] {
                    let found = utilisation_from_wait(slots, part, variability);
                    let most = slots.clamp(0.002, MAX_UTILISATION);
                    let by_half =
                        halved(0.001, most, |rho| wait_ratio(rho, slots / rho, variability) < part);
                    assert!((found - by_half).abs() < 1e-8, "{slots} {variability} {part}");

                    let throughput_rps = 900.0 * part.min(1.0) * slots / 10.0;
                    let found = service_time_ms(10.0, throughput_rps, slots, variability);
                    let by_half = halved(0.1, 10.0, |service_ms| {
                        let rho = throughput_rps * service_ms / 1_000.0 / slots;
                        service_ms * (1.0 + wait_ratio(rho, slots, variability)) < 10.0
                    });
                    assert!((found - by_half).abs() < 1e-7, "{slots} {variability} {part}");

                    let budget_ms = 20.0 * part;
                    let found = utilisation_within(budget_ms, 0.99, 10.0, slots, variability);
                    let mean_wait_ms = 10.0 * variability / slots;
                    let by_half = halved(0.05, MAX_UTILISATION, |rho| {
                        let stays = libm::exp(-budget_ms * (1.0 - rho) / mean_wait_ms);
                        wait_probability(rho, slots) * stays <= 0.01
                    });
                    assert!((found - by_half).abs() < 1e-8, "{slots} {variability} {part}");
                }
            }
        }
    }

    #[test]
    fn a_search_takes_a_third_of_the_steps_that_halving_took() {
        let (calls, searches) = (std::cell::Cell::new(0), 200);
        for search in 0..searches {
            let zero = 0.002 + 0.99 * f64::from(search) / f64::from(searches);
            let found = largest_below(0.001, 0.995, |rho| {
                calls.set(calls.get() + 1);
                3.0 * (libm::log(rho) - libm::log(zero)) + libm::log((1.0 - zero) / (1.0 - rho))
            });
            assert!((found - zero).abs() < 1e-8, "{found} {zero}");
        }
        assert!(calls.get() < 11 * searches, "{}", calls.get());
    }

    #[test]
    fn a_search_among_hostile_numbers_ends_within_its_range() {
        for odd in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300, 1e-300] {
            for (busy, ratio) in [(odd, 0.1), (2.0, odd)] {
                let found = utilisation_from_wait(busy, ratio, 1.0);
                assert!((0.0..1.0).contains(&found), "{busy} {ratio} {found}");
            }
        }
    }

    #[test]
    fn a_slower_server_is_told_from_its_latency() {
        let (slots, throughput) = (4.0, 200.0);
        let latency = 12.0 * (1.0 + wait_ratio(throughput * 0.012 / slots, slots, 1.0));
        assert!((service_time_ms(latency, throughput, slots, 1.0) - 12.0).abs() < 0.01);
    }

    #[test]
    fn a_tighter_objective_allows_less() {
        let loose = utilisation_within(100.0, 0.99, 10.0, 4.0, 1.0);
        let tight = utilisation_within(20.0, 0.99, 10.0, 4.0, 1.0);
        assert!(loose > 0.85 && tight < loose && tight > 0.3, "{tight} {loose}");
        let more_slots = utilisation_within(20.0, 0.99, 10.0, 32.0, 1.0);
        assert!(more_slots > tight, "{more_slots} {tight}");
    }
}
