//! How a request to a backend ended, and what that says of the backend.

use std::time::Duration;

use crate::ejection::Verdict;

/// How a request to a backend ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What came back.
    pub answer: Answer,
    /// Time from sending the request to the last byte of the answer, or to the failure.
    pub latency: Duration,
    /// Bytes received from the backend.
    pub bytes_in: u64,
    /// Bytes sent to the backend.
    pub bytes_out: u64,
    /// Whether this was a second or later attempt.
    pub retry: bool,
}

/// What a backend answered, or how it failed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A complete answer with this status.
    Status(u16),
    /// Nobody listens at the address.
    ConnectRefused,
    /// The connection could not be made for another reason: reset in the handshake, unreachable.
    ConnectFailed,
    /// The connection was not there within the connect timeout.
    ConnectTimeout,
    /// The connection broke before the answer was complete.
    Reset,
    /// What came back was not a well-formed answer.
    Malformed,
    /// The first byte, or the whole answer, did not come in time.
    Timeout,
}

impl Answer {
    /// Whether the time it took says how fast the backend answers. An upgraded connection (101)
    /// lasts as long as its two ends like.
    pub(crate) fn is_timed(self) -> bool {
        matches!(self, Self::Status(status) if status != 101)
    }

    /// Whether a quick answer like it recommends the backend. One that fails every request at once
    /// would look like the fastest of all, and would be sent all of them.
    pub(crate) fn may_recommend(self) -> bool {
        !matches!(self, Self::Status(500..))
    }

    /// What it says of the backend. Without `all_server_errors` an error of the application is
    /// proof of life; 502, 503 and 504 are what a gateway says when it has nothing behind it.
    pub(crate) fn verdict(self, all_server_errors: bool) -> Verdict {
        match self {
            Self::ConnectRefused => Verdict::Refused,
            Self::Status(502..=504) => Verdict::Failure,
            Self::Status(500..) if all_server_errors => Verdict::Failure,
            Self::Status(_) => Verdict::Success,
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Reset
            | Self::Malformed
            | Self::Timeout => Verdict::Failure,
        }
    }
}
