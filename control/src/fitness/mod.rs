//! How safely a service can be mirrored: a score from its traffic, with its reasons; pure.
//!
//! A new instance is trusted after copies of real requests were answered as the originals were. How
//! much that proves depends on the service: copies are made of safe requests only, they may be
//! answered differently, and what an instance remembers of its clients is not in them. So
//!
//! ```text
//! score = copyable x agreement x (1 - 0.3 sessions) x (1 - 0.1 credentials) x (1 - 0.1 vary)
//! ```
//!
//! - `copyable`: share of requests that may be copied (safe by RFC 9110, section 9.2.1, no upgrade,
//!   no body, no stream of events).
//! - `agreement`: share of compared copies with the status class of the original.
//! - `sessions`: share of requests whose answer sets a cookie, or that carry one and whose answer is
//!   not openly for everybody (RFC 9111, sections 3 and 5.2.2).
//! - `credentials`: share with `Authorization`; `vary`: share of answers with `Vary: *`, which says
//!   that they depend on more than the request (RFC 9110, section 12.5.5).
//!
//! The first two make the share of the traffic on which a shadow was shown to answer as the
//! original does. The weights of the others are a judgement: a session that is lost costs a client
//! a sign-in, not every answer, and copies carry cookies and credentials, so that most of what goes
//! wrong with them shows as disagreement already.
//!
//! Every factor is taken at the bad end of its 95 % interval ([`wilson`]), so little evidence gives
//! a low score. At the good ends the same product is what the score may be at most. Counts weigh
//! half after 15 minutes.

mod counts;
mod reasons;
mod wilson;

use serde::{Deserialize, Serialize};

use counts::Sums;
pub use counts::{TrafficCounts, Workload};
use wilson::{Share, share};

/// Part of the score that sessions cost where every request has one.
const SESSIONS_COST: f64 = 0.3;
/// Part that credentials cost where every request has some.
const CREDENTIALS_COST: f64 = 0.1;
/// Part that `Vary: *` costs where every answer has it.
const VARY_COST: f64 = 0.1;
/// From this score on a service is good to mirror.
const GOOD: f64 = 0.75;
/// Below this one mirroring proves little.
const POOR: f64 = 0.25;
/// A score that may be this much higher than it is shown to be is not known.
const VAGUE: f64 = 0.25;

/// How safely a service can be mirrored, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fitness {
    /// The score in a word.
    pub verdict: FitnessVerdict,
    /// 0 to 1: what is shown, at the bad end of what is known.
    pub score: f64,
    /// 0 to 1: what the score may be at most, at the good end.
    pub at_most: f64,
    /// 0 to 1: what it would come to by the traffic as counted, were all copies to agree.
    pub by_traffic: f64,
    /// What it was taken from.
    pub shares: FitnessShares,
    /// How much was seen, the past counting less and less.
    pub evidence: FitnessEvidence,
    /// What it costs, dearest first.
    pub reasons: Vec<FitnessReason>,
    /// What bears on it and is not looked at.
    pub not_measured: Vec<String>,
}

/// A score in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FitnessVerdict {
    /// Too little was seen to tell.
    Unknown,
    /// Below 0.25: mirroring proves little of a shadow.
    Poor,
    /// Mirroring proves a part.
    Limited,
    /// From 0.75 on: a shadow that agrees may be trusted.
    Good,
}

impl FitnessVerdict {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Poor => "poor",
            Self::Limited => "limited",
            Self::Good => "good",
        }
    }

    fn of(score: f64, at_most: f64) -> Self {
        let class = |score: f64| match score {
            GOOD.. => Self::Good,
            POOR.. => Self::Limited,
            _ => Self::Poor,
        };
        if class(score) == class(at_most) || at_most - score <= VAGUE {
            class(score)
        } else {
            Self::Unknown
        }
    }
}

/// Shares of a service's traffic, 0 to 1, as counted. Of requests, unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitnessShares {
    /// May be copied.
    pub copyable: f64,
    /// PUT and DELETE.
    pub idempotent: f64,
    /// POST, PATCH and methods nobody knows.
    pub other: f64,
    /// Ask for another protocol.
    pub upgrades: f64,
    /// Have a safe method and are not copied: a body, or a stream of events.
    pub safe_uncopied: f64,
    /// Carry a cookie.
    pub cookies: f64,
    /// Are answered with a cookie.
    pub set_cookies: f64,
    /// May belong to a session.
    pub sessions: f64,
    /// Carry credentials.
    pub authorized: f64,
    /// Answers that a shared cache may store.
    pub storable: f64,
    /// Answers with `Vary: *`.
    pub vary_any: f64,
    /// Of the compared copies, those answered with the status class of the original; absent while
    /// none was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// How much a score rests on, half of what was seen 15 minutes ago and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitnessEvidence {
    /// Requests.
    pub requests: f64,
    /// Of those, answered ones whose fields were looked at.
    pub looked_at: f64,
    /// Copies compared with their originals.
    pub compared: f64,
    /// Time after which what was seen weighs half.
    pub half_life_s: u32,
}

/// One thing that takes from a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitnessReason {
    /// The kind.
    pub what: FitnessConcern,
    /// How much higher the score would be without it, 0 to 1.
    pub cost: f64,
    /// Figures and what follows from them, as a sentence.
    pub text: String,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Kinds of things that take from a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FitnessConcern {
    /// Too few requests were seen.
    FewRequests,
    /// No copy was compared, or too few.
    FewCompared,
    /// Copies were answered differently.
    Disagreement,
    /// Methods that change something each time.
    OtherMethods,
    /// Methods that change something once.
    IdempotentMethods,
    /// Requests that ask for another protocol.
    Upgrades,
    /// Safe requests that are not copied.
    SafeUncopied,
    /// Cookies.
    Sessions,
    /// `Authorization`.
    Credentials,
    /// `Vary: *`.
    VaryAny,
}

/// How the configuration has a service mirrored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mirroring {
    /// The service has no shadows, so nothing is copied.
    NoShadows,
    /// This share of the safe requests is copied to warm shadows, 0 to 1.
    Share(f64),
}

/// The factors of a score with their intervals.
#[derive(Clone, Copy, Debug)]
struct Factors {
    copyable: Share,
    agreement: Share,
    sessions: Share,
    credentials: Share,
    vary: Share,
}

impl Factors {
    fn of(sums: &Sums) -> Self {
        let looked = |count| share(count, sums.looked_at);
        let by_method = sums.requests - sums.idempotent - sums.other - sums.upgrades;
        let (by_method, uncopied) = (share(by_method, sums.requests), looked(sums.safe_uncopied));
        Self {
            copyable: Share {
                point: (by_method.point - uncopied.point).max(0.0),
                lower: (by_method.lower - uncopied.upper).max(0.0),
                upper: (by_method.upper - uncopied.lower).max(0.0),
            },
            agreement: share(sums.agreed, sums.compared),
            sessions: kept(looked(sums.sessions), SESSIONS_COST),
            credentials: kept(looked(sums.authorized), CREDENTIALS_COST),
            vary: kept(looked(sums.vary_any), VARY_COST),
        }
    }

    fn all(&self) -> [Share; 5] {
        [self.copyable, self.agreement, self.sessions, self.credentials, self.vary]
    }
}

/// The factor that is left where a share of the traffic costs `cost` of itself.
fn kept(of: Share, cost: f64) -> Share {
    Share {
        point: 1.0 - cost * of.point,
        lower: 1.0 - cost * of.upper,
        upper: 1.0 - cost * of.lower,
    }
}

impl Workload {
    /// How safely the service can be mirrored by what was seen of it so far.
    #[must_use]
    pub fn assess(&self, mirroring: Mirroring) -> Fitness {
        let factors = Factors::of(&self.sums);
        let product = |end: fn(&Share) -> f64| factors.all().iter().map(end).product::<f64>();
        let (score, at_most) = (product(|f| f.lower), product(|f| f.upper));
        let agreement = factors.agreement;
        let disregarding =
            Factors { agreement: Share { point: 1.0, lower: 1.0, upper: 1.0 }, ..factors };
        Fitness {
            verdict: FitnessVerdict::of(score, at_most),
            score,
            at_most,
            by_traffic: disregarding.all().iter().map(|f| f.point).product(),
            shares: self.shares(&factors, (self.sums.compared > 0.0).then_some(agreement.point)),
            evidence: FitnessEvidence {
                requests: self.sums.requests,
                looked_at: self.sums.looked_at,
                compared: self.sums.compared,
                half_life_s: counts::HALF_LIFE_S,
            },
            reasons: reasons::reasons(&self.sums, &factors, mirroring),
            not_measured: vec![
                "affinity: whether a client's requests must reach the same instance".to_owned(),
            ],
        }
    }

    fn shares(&self, factors: &Factors, agreement: Option<f64>) -> FitnessShares {
        let sums = &self.sums;
        let of_all = |count| share(count, sums.requests).point;
        let of_looked = |count| share(count, sums.looked_at).point;
        FitnessShares {
            copyable: factors.copyable.point,
            idempotent: of_all(sums.idempotent),
            other: of_all(sums.other),
            upgrades: of_all(sums.upgrades),
            safe_uncopied: of_looked(sums.safe_uncopied),
            cookies: of_looked(sums.cookies),
            set_cookies: of_looked(sums.set_cookies),
            sessions: of_looked(sums.sessions),
            authorized: of_looked(sums.authorized),
            storable: of_looked(sums.storable),
            vary_any: of_looked(sums.vary_any),
            agreement,
        }
    }
}

#[cfg(test)]
mod tests;
