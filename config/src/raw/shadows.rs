//! Shadows and their providers as written.

use super::read::table;
use super::{Amount, Count, KeptCount, Map, OneOf, RawProvider, Share, Text, Time};
use crate::OnExit;

table! {
    /// The shadow instances of a service.
    RawShadows {
        /// What makes them; unless there are places, this is the only one, and its name is default.
        provider: RawProvider,
        /// Where they can be made, by name, at most 16; in place of provider and zone. A new shadow is made
        /// where there is room and nothing failed lately, in the zone of the primaries that need it, then
        /// where it costs least, then where it is nearest. See docs/pools.md.
        places: Map<RawPlace>,
        /// How long is waited after failures to make one; beside places each has its own.
        retry: RawRetry,
        /// How many are kept ready.
        pool: RawPool,
        /// Where they run. Default: no zone.
        zone: Text,
        /// Copies of requests that warm shadows get.
        mirror: RawMirror,
        /// What becomes of them when Foreshadow ends: destroy, or keep for the next start.
        /// Default: destroy.
        on_exit: OneOf<OnExit>,
    }
}

table! {
    /// A place in which shadows can be made.
    RawPlace {
        /// What makes them there.
        provider: RawProvider = required,
        /// The zone they run in. Default: no zone.
        zone: Text,
        /// Shadows of the service there at most, up to 1000. Default: the pool's max.
        max: Count,
        /// Shadows that it is known to have room for, up to 1000; more are made there only where no other
        /// place has room. Default: as many as its max.
        spare: Count,
        /// How long is waited after failures to make one there.
        retry: RawRetry,
        /// What a full shadow costs there per hour, in any unit that all figures of costs share. Default:
        /// cost.per_hour of the service, or nothing.
        cost_per_hour: Amount,
        /// Time that a request takes to there and back, up to 10m. Default: 0s.
        latency: Time,
    }
}

table! {
    /// How long is waited after a step in a place has failed, before it is asked again. Of each pause the upper
    /// half is by chance, so that services that failed together do not come back together.
    RawRetry {
        /// After the first failure in a row, 50ms to 1h; each next is twice as long. Default: 200ms.
        first: Time,
        /// The longest, up to 1h and at least first. Default: 30s, or first where that is longer.
        most: Time,
    }
}

table! {
    /// CPU by tier, as a share of one core, where a CPU controller is available; a full instance
    /// has no limit.
    RawCpu {
        /// At tier warm, 1% to 100%; applies where a CPU controller is available. Default: 20%.
        warm: Share,
    }
}

table! {
    /// How many shadows are kept ready, by tier: numbers, or shares of the primaries such as 50%, which
    /// are rounded up and follow the primaries there are.
    RawPool {
        /// Created and frozen. Default: 1.
        shadow: KeptCount,
        /// Running scaled down. Default: 1.
        warm: KeptCount,
        /// Full size. Default: 0.
        full: KeptCount,
        /// Shadows of any tier, serving ones included, never fewer. Where it is given, the figures above
        /// hold while demand may need shadows; while a forecast of 4h says that it does not, only so many
        /// are kept, all of them frozen. Default: what the figures above add up to.
        min: KeptCount,
        /// Bound on all shadows, serving ones included, up to 1000. Default: 4, or what the others
        /// add up to.
        max: Count,
    }
}

table! {
    /// Copies of safe requests, sent to warm shadows and never waited for.
    RawMirror {
        /// Share of requests that are copied. Default: 5%.
        share: Share,
        /// Copies under way at once, up to 65536; beyond it none are made. Default: 16.
        max_in_flight: Count,
    }
}
