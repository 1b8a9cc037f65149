//! The queueing approximations that tie latency to utilisation; pure formulas.
//!
//! An instance is seen as `c` parallel slots, each busy for the service time `S` per request. Its
//! capacity is `C = c / S`, its utilisation at throughput `X` is `rho = X / C`, and by Little's law
//! `a = X * S` slots are busy on average, so `c = a / rho`. A slot count below one cannot be: the
//! latency of a request is at least the time it keeps its slot.

/// Utilisation above which the approximations mean nothing.
const MAX_UTILISATION: f64 = 0.995;
/// Halvings of a bisection; the result is exact to about 1e-9.
const HALVINGS: u32 = 30;

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
    libm::pow(rho, (2.0 * (slots + 1.0)).sqrt() - 1.0)
}

/// The utilisation at which the mean wait is `ratio` service times, when `busy_slots` are busy on
/// average. Rises with `ratio`; ends at one slot, that is at `busy_slots` where that is below 1.
pub(crate) fn utilisation_from_wait(busy_slots: f64, ratio: f64, variability: f64) -> f64 {
    bisect(0.001, busy_slots.clamp(0.002, MAX_UTILISATION), |rho| {
        wait_ratio(rho, busy_slots / rho, variability) < ratio
    })
}

/// The service time that explains `latency_ms` at `throughput_rps` on `slots` slots.
pub(crate) fn service_time_ms(
    latency_ms: f64,
    throughput_rps: f64,
    slots: f64,
    variability: f64,
) -> f64 {
    bisect(latency_ms * 0.01, latency_ms, |service_ms| {
        let rho = throughput_rps * service_ms / 1_000.0 / slots.max(1.0);
        service_ms * (1.0 + wait_ratio(rho, slots, variability)) < latency_ms
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
    bisect(0.05, MAX_UTILISATION, |rho| {
        let late =
            wait_probability(rho, slots) * libm::exp(-budget_ms * (1.0 - rho) / mean_wait_ms);
        late <= 1.0 - quantile
    })
}

/// Quantile of the standard normal distribution above the median, within 0.005.
///
/// Abramowitz and Stegun, Handbook of Mathematical Functions (1964), formula 26.2.22.
pub(crate) fn normal_quantile(quantile: f64) -> f64 {
    let t = (-2.0 * libm::log(1.0 - quantile)).sqrt();
    t - (2.30753 + 0.27061 * t) / (1.0 + 0.99229 * t + 0.04481 * t * t)
}

/// Largest value in the range for which `below` holds, `below` being true first and false later.
fn bisect(low: f64, high: f64, below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low, high.max(low));
    if below(high) {
        return high;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
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
