//! Services as written.

use super::read::table;
use super::{
    Amount, BackendAddress, CapacityChoice, CheckKind, Count, Either, Factor, FilePath, HostHeader,
    List, Map, ModeName, OneOf, Rate, RawLearning, RawMetrics, RawMigration, RawScaling,
    RawShadows, RawSignal, RuleText, Share, Slew, Status, Switch, Text, Time, UrlTarget,
};
use crate::RetryOn;

table! {
    /// One application behind the proxy.
    RawService {
        /// The instances that always run: addresses, or tables with more about each. None need be
        /// given where scaling finds them.
        primaries: List<Either<BackendAddress, RawPrimary>> = required,
        /// A name shared with services whose demand rises and falls at the same times, such as those of one
        /// product: a young one borrows the shape of their day and week, see docs/forecasting.md. Default:
        /// the host that its routes name, where they all name the same one.
        group: Text,
        /// What clients were promised.
        objective: RawObjective,
        /// Capacity of an instance: auto learns it, a rate such as 400rps pins it. Default: auto.
        capacity: CapacityChoice,
        /// Share of its capacity that an instance is filled to. Default: 95% where the service's
        /// capacity is pinned, else 75%.
        target_utilisation: Share,
        /// How instances are checked. Default: whether a TCP connection opens.
        health: RawHealth,
        /// What Foreshadow may do: observe looks only, advise publishes the plan and does nothing,
        /// act carries it out. Default: advise.
        mode: ModeName,
        /// Where more instances come from. Default: nowhere.
        shadows: RawShadows,
        /// How the primaries themselves are scaled. Default: not by Foreshadow.
        scaling: RawScaling,
        /// How an instance is moved elsewhere. Needs shadows; without it, the defaults hold.
        migration: RawMigration,
        /// What shadows and the want of them cost: the quantiles that start steps follow from it, in place
        /// of forecast.violation_cost, and the choice between places.
        cost: RawCost,
        /// How demand is forecast and which quantile starts what.
        forecast: RawForecast,
        /// Whether the quantiles that start steps move with what became of earlier steps, see
        /// docs/feedback.md. Default: on.
        feedback: Switch,
        /// What is learned from outcomes by place: failures, lead times, warm-up, and how migrations shift.
        learning: RawLearning,
        /// Predictive rules by name, at most 64: when something measured or predicted passes a value,
        /// shadows are brought in, kept ready or held. Their language is in docs/rules.md.
        rules: Map<RuleText>,
        /// Where metrics that instances report of themselves come from.
        metrics: RawMetrics,
        /// Figures of the service as a whole that are looked up elsewhere, by the name that rules know
        /// them by; at most 32.
        signals: Map<RawSignal>,
        /// How fast weights may move.
        weights: RawWeights,
        /// Warm-up time assumed for an instance until one was seen, up to 1h. Default: 5s.
        warm_up: Time,
        /// How long instances may take.
        timeouts: RawTimeouts,
        /// When a request is tried again.
        retries: RawRetries,
        /// When an instance that answers badly sits out.
        ejection: RawEjection,
        /// Last resort: when no instance is usable, requests are tried on one with weight all the
        /// same. Default: off.
        panic: Switch,
    }
}

table! {
    /// An instance that always runs.
    RawPrimary {
        /// IP address and port; localhost is 127.0.0.1, other names are not resolved.
        address: BackendAddress = required,
        /// Where it runs. Default: no zone.
        zone: Text,
        /// Capacity pinned for this instance, such as 400rps. Default: that of the service.
        capacity: Rate,
    }
}

table! {
    /// What clients were promised: one latency, and an error rate. Default: latency_p99 500ms.
    RawObjective {
        /// Latency of half of the requests.
        latency_p50: Time,
        /// Latency of 90% of the requests.
        latency_p90: Time,
        /// Latency of 95% of the requests.
        latency_p95: Time,
        /// Latency of 99% of the requests.
        latency_p99: Time,
        /// Latency of 99.9% of the requests.
        latency_p999: Time,
        /// Highest share of failed requests. Default: 1%.
        error_rate: Share,
    }
}

table! {
    /// How instances are checked.
    RawHealth {
        /// http asks for a path, tcp opens a connection. Default: http where a path is given.
        r#type: OneOf<CheckKind>,
        /// Path and query to ask for. Default: /.
        path: UrlTarget,
        /// The Host header. Default: the instance's address.
        host: HostHeader,
        /// Statuses that pass. Default: 200-399.
        expect: List<Status>,
        /// From the start of a check to that of the next, 10ms to 1h. Default: 1s.
        interval: Time,
        /// Longest wait for an answer, at most the interval. Default: 1s, or the interval.
        timeout: Time,
        /// Passed checks in a row until an instance is up, 1 to 100. Default: 2.
        rise: Count,
        /// Failed checks in a row until an instance is down, 1 to 100. Default: 2.
        fall: Count,
    }
}

table! {
    /// What shadows and the want of them cost, both in the same unit.
    RawCost {
        /// What a full shadow costs per hour, above 0.
        per_hour: Amount = required,
        /// What a second without a shadow that is needed costs, above 0.
        violation_per_second: Amount = required,
    }
}

table! {
    /// How demand is forecast and which quantile starts what.
    RawForecast {
        /// The farthest horizon that decisions look at, 100ms to 10m. Default: 30s.
        horizon: Time,
        /// Known periods of demand, 1m to 366d. Default: [24h].
        seasons: List<Time>,
        /// Names of signals that demand is forecast with, at most 8: what is told of the service by
        /// those names, looked up or pushed. Default: the first 8 under `signals` of the service.
        signals: List<Text>,
        /// What a second without a shadow that is needed costs, in seconds of one that is not, 0.1 to
        /// 1000; the quantiles follow from it. Default: 50 where capacity is pinned.
        violation_cost: Factor,
        /// Which quantile of demand starts which step. Default: by violation_cost; where that is not given
        /// and capacity is learned, 95%, 50% and 10%.
        quantiles: RawQuantiles,
        /// Demand must stay below the committed level this long before a rollback starts, 1s to 1h.
        /// Default: 10s.
        evaluation_window: Time,
        /// Files of calendars (.ics) whose events change demand; read at start and at each reload; a
        /// changed one within a minute, unless `reload.watch` is false.
        calendars: List<Either<FilePath, RawCalendar>>,
        /// Events that repeat by a rule.
        events: List<RawEvent>,
        /// A network (.onnx) as one more expert of the forecasts of an hour, a day and a week; needs a
        /// build with the feature `onnx`.
        onnx: FilePath,
    }
}

table! {
    /// A calendar file, and what its events do. An event's own X-FORESHADOW-LIFT comes first, and
    /// what its repeats were seen to do outweighs both. Cancelled events do not happen, moved repeats
    /// where they were moved; of revisions the newest counts (SEQUENCE), in whichever calendar of the
    /// file it stands; of a calendar that cancels (METHOD) all events are off. Zones are known by their
    /// names in the IANA database and on Windows, else by the VTIMEZONE of the calendar; what names
    /// none is of its X-WR-TIMEZONE, or else of this machine. A time that a clock skips is read with
    /// the offset before, of one that it shows twice the first counts; repeats within a day skip what
    /// the clock does. UNTIL as a date includes its day. An event without an end takes an hour. An
    /// event that cannot be followed, or that holds a line without form, is left out, which `foreshadow
    /// check`, the log and GET /api/v1/events say with its line; a file that is no calendar is refused.
    RawCalendar {
        /// The file.
        file: FilePath = required,
        /// Demand during an event relative to none of it, above 0, up to 100. Default: 1, which is no
        /// effect until it was learned.
        lift: Factor,
    }
}

table! {
    /// An event that repeats by a rule.
    RawEvent {
        /// What happens; events of one name share what is learned of their effect.
        name: Text = required,
        /// When it first starts, such as 2026-11-23T09:00:00.
        start: Text = required,
        /// Where that is the time, such as Europe/Berlin; it follows daylight saving. Default: UTC.
        timezone: Text,
        /// How it repeats (RFC 5545), such as FREQ=WEEKLY;BYDAY=MO. Default: not at all.
        rule: Text,
        /// How long it lasts, 1s to 31d. Default: 1h.
        duration: Time,
        /// Demand during it relative to none of it, above 0, up to 100. Default: 1, which is no effect
        /// until it was learned.
        lift: Factor,
    }
}

table! {
    /// Which quantile of demand starts which step; commit <= warm <= prepare.
    RawQuantiles {
        /// Prepares: makes shadows. Default: 95% where capacity is learned, else by violation_cost (99%).
        prepare: Share,
        /// Warms shadows up. Default: 50% where capacity is learned, else by violation_cost (98.5%).
        warm: Share,
        /// Commits: full size and traffic. Default: 10% where capacity is learned, else by violation_cost (98%).
        commit: Share,
    }
}

table! {
    /// How fast weights may move; failures are exempt.
    RawWeights {
        /// Largest change of an instance's share of the traffic, 1%/s to 10000%/s. Default: 50%/s.
        slew: Slew,
        /// Smaller changes of share are not made, up to 50%. Default: 2%.
        hysteresis: Share,
    }
}

table! {
    /// How long instances may take.
    RawTimeouts {
        /// To open a connection, 1ms to 5m. Default: 1s.
        connect: Time,
        /// From the end of the request to the first byte of the answer, 1ms to 1h. Default: 15s.
        first_byte: Time,
        /// Longest pause of an instance within its answer, or in taking a request's body, 1ms to 1d.
        /// Default: 60s.
        stall: Time,
        /// From the request's first byte to the answer's last, retries included, 1ms to 1d.
        /// Default: 1h, so that large files and slow clients have their time.
        total: Time,
        /// An unused connection is closed after this, up to 1d. Default: 60s.
        idle: Time,
    }
}

table! {
    /// When a request is tried again; once it was sent, only if it is idempotent.
    RawRetries {
        /// Tries in all, the first included, 1 to 10; 1 turns retries off. Default: 2.
        attempts: Count,
        /// Retries may be this share of all requests. Default: 20%.
        budget: Share,
        /// Retries per second allowed beyond the budget, up to 1000000. Default: 10.
        min_per_second: Count,
        /// What is tried again; gateway_error is an answer of 502, 503 or 504, timeout one that did
        /// not begin within timeouts.first_byte.
        /// Default: [connect_failure, reset].
        on: List<OneOf<RetryOn>>,
    }
}

table! {
    /// When an instance that answers badly sits out.
    RawEjection {
        /// Errors in a row that eject an instance, up to 1000; 0 turns ejection for errors off, and
        /// a refused connection still ejects. Default: 5.
        consecutive_errors: Count,
        /// How long it sits out first; each next time twice as long, 10ms to 1d. Default: 5s.
        base: Time,
        /// Longest time out, at least the base, up to 7d. Default: 2m, or the base.
        max: Time,
        /// Largest share of instances that sit out for errors at once, rounded down to whole
        /// instances; refused connections eject beyond it. Default: 50%.
        max_ejected: Share,
        /// Trial requests that must succeed in a row before it is taken back, 1 to 100. Default: 3.
        probation_requests: Count,
    }
}
