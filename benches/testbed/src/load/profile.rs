//! What load to offer over time: steps of constant or linearly changing request rate.

use std::time::Duration;

use crate::units;

/// Longest profile: a day. It bounds the per-second series that a run keeps.
pub const MAX_PROFILE: Duration = Duration::from_secs(86_400);

/// The rate over one stretch of time; it changes linearly from `from_rps` to `to_rps`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Rate at the start of the step, in requests per second.
    pub from_rps: f64,
    /// Rate at the end of the step, in requests per second.
    pub to_rps: f64,
    /// Length of the step, in seconds.
    pub duration_s: f64,
}

impl Step {
    /// Expected number of requests in this step: the area under its rate.
    #[must_use]
    pub fn requests(&self) -> f64 {
        (self.from_rps + self.to_rps) / 2.0 * self.duration_s
    }
}

/// A sequence of steps: never empty, every rate finite and not negative, at most a day long.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    steps: Vec<Step>,
}

/// Why a profile or a trace could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A part of a profile text is wrong.
    #[error("profile, column {column}: {problem}")]
    Text {
        /// Where the wrong part starts, counted in characters from 1.
        column: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A line of a trace is wrong.
    #[error("trace, line {line}: {problem}")]
    Trace {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The whole is empty or too long.
    #[error("{0}")]
    Whole(String),
}

const FORMS: &str = "hold:300rps:10s, ramp:300rps..1200rps:20s, spike:1500rps:2s or pause:5s";

impl Profile {
    /// A profile of the given steps.
    ///
    /// # Errors
    /// [`ProfileError::Whole`] when there is no step, a rate or length is not a finite number from
    /// 0, a rate is above [`units::MAX_RPS`], or the sum is longer than [`MAX_PROFILE`].
    pub fn new(steps: Vec<Step>) -> Result<Self, ProfileError> {
        let sound = |value: f64, max: f64| (0.0..=max).contains(&value);
        let whole_s = steps.iter().map(|step| step.duration_s).sum::<f64>();
        if let Some(step) = steps.iter().find(|step| {
            !sound(step.from_rps, units::MAX_RPS)
                || !sound(step.to_rps, units::MAX_RPS)
                || !sound(step.duration_s, f64::MAX)
        }) {
            return Err(ProfileError::Whole(format!(
                "{step:?} cannot be offered: rates go from 0 to {} rps and lengths from 0",
                units::MAX_RPS
            )));
        }
        if !(whole_s > 0.0 && whole_s <= MAX_PROFILE.as_secs_f64()) {
            return Err(ProfileError::Whole(format!(
                "the load lasts {whole_s} s: give it at least one step and at most 24h in all"
            )));
        }
        Ok(Self { steps })
    }

    /// Reads a text such as `hold:300rps:10s,ramp:300rps..1200rps:20s,spike:1500rps:2s,pause:5s`.
    ///
    /// # Errors
    /// [`ProfileError`] with the column of the first wrong part and a form that would work.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let mut steps = Vec::new();
        let mut start = 0;
        for part in text.split(',') {
            steps.push(parse_step(Part { text, start, part })?);
            start += part.len() + 1;
        }
        Self::new(steps)
    }

    /// Reads a trace: one rate in requests per second per line, each lasting `step` and multiplied
    /// by `scale`. Empty lines and lines starting with `#` are skipped.
    ///
    /// # Errors
    /// [`ProfileError`] with the number of the first wrong line, or when nothing is left.
    pub fn from_trace(text: &str, step: Duration, scale: f64) -> Result<Self, ProfileError> {
        let mut steps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            let rps = line_text.parse::<f64>().ok().map(|value| value * scale);
            let Some(rps) = rps.filter(|rps| (0.0..=units::MAX_RPS).contains(rps)) else {
                return Err(ProfileError::Trace {
                    line: index + 1,
                    problem: format!(
                        "{line_text:?} times {scale} is not a rate: write one number of requests \
                         per second from 0 to {}, and nothing else, on each line",
                        units::MAX_RPS
                    ),
                });
            };
            steps.push(Step { from_rps: rps, to_rps: rps, duration_s: step.as_secs_f64() });
        }
        Self::new(steps)
    }

    /// The steps in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Length of the whole profile.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.steps.iter().map(|step| step.duration_s).sum())
    }

    /// Rate in requests per second at `offset` from the start; 0 beyond the end.
    #[must_use]
    pub fn rate_at(&self, offset: Duration) -> f64 {
        let mut left_s = offset.as_secs_f64();
        for step in &self.steps {
            if left_s < step.duration_s {
                return step.from_rps + (step.to_rps - step.from_rps) * left_s / step.duration_s;
            }
            left_s -= step.duration_s;
        }
        0.0
    }

    /// Expected number of requests: the area under the rate.
    #[must_use]
    pub fn expected_requests(&self) -> f64 {
        self.steps.iter().map(Step::requests).sum()
    }
}

impl std::str::FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        Self::parse(text)
    }
}

/// A piece of the profile text that knows where it stands, for the errors.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    start: usize,
    part: &'a str,
}

impl<'a> Part<'a> {
    fn error(self, problem: impl Into<String>) -> ProfileError {
        let blank = self.part.len() - self.part.trim_start().len();
        let column = self.text[..self.start + blank].chars().count() + 1;
        ProfileError::Text { column, problem: problem.into() }
    }

    /// The text before and after the first `separator`; `None` when it does not occur.
    fn split(self, separator: &str) -> Option<(Self, Self)> {
        let at = self.part.find(separator)?;
        let rest = at + separator.len();
        Some((
            Self { part: &self.part[..at], ..self },
            Self { start: self.start + rest, part: &self.part[rest..], ..self },
        ))
    }

    fn rate(self) -> Result<f64, ProfileError> {
        units::rate(self.part.trim()).map_err(|error| self.error(error.to_string()))
    }

    fn seconds(self) -> Result<f64, ProfileError> {
        match units::duration(self.part.trim()) {
            Ok(time) if time.is_zero() => Err(self.error("a step of no length: write it like 10s")),
            Ok(time) => Ok(time.as_secs_f64()),
            Err(error) => Err(self.error(error.to_string())),
        }
    }
}

fn parse_step(part: Part<'_>) -> Result<Step, ProfileError> {
    if part.part.trim().is_empty() {
        return Err(part.error(format!("a step is missing: write {FORMS}")));
    }
    let (kind, rest) = part.split(":").ok_or_else(|| {
        part.error(format!("{:?} is not a step: write {FORMS}", part.part.trim()))
    })?;
    let rate_and_time = |example: &str| {
        rest.split(":")
            .ok_or_else(|| rest.error(format!("a rate and a length belong here: write {example}")))
    };
    match kind.part.trim() {
        "pause" => Ok(Step { from_rps: 0.0, to_rps: 0.0, duration_s: rest.seconds()? }),
        "hold" | "spike" => {
            let (rate, time) = rate_and_time("hold:300rps:10s")?;
            let rps = rate.rate()?;
            Ok(Step { from_rps: rps, to_rps: rps, duration_s: time.seconds()? })
        }
        "ramp" => {
            const EXAMPLE: &str = "ramp:300rps..1200rps:20s";
            let (range, time) = rate_and_time(EXAMPLE)?;
            let (from, to) = range
                .split("..")
                .ok_or_else(|| range.error(format!("a ramp has two rates: write {EXAMPLE}")))?;
            Ok(Step { from_rps: from.rate()?, to_rps: to.rate()?, duration_s: time.seconds()? })
        }
        other => Err(kind.error(format!("{other:?} is not a kind of step: write {FORMS}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_of_step() {
        let profile = Profile::parse(
            "hold:300rps:10s, ramp:300rps..1.2krps:20s,spike:1500rps:2s,pause:500ms",
        )
        .unwrap();
        assert_eq!(profile.steps().len(), 4);
        assert_eq!(profile.duration(), Duration::from_millis(32_500));
        assert_eq!(profile.expected_requests(), 3_000.0 + 15_000.0 + 3_000.0);
        assert_eq!(profile.rate_at(Duration::ZERO), 300.0);
        assert_eq!(profile.rate_at(Duration::from_secs(20)), 750.0);
        assert_eq!(profile.rate_at(Duration::from_secs(31)), 1_500.0);
        assert_eq!(profile.rate_at(Duration::from_millis(32_100)), 0.0);
        assert_eq!(profile.rate_at(Duration::from_secs(99)), 0.0);
    }

    #[test]
    fn an_error_names_the_column_and_the_remedy() {
        for (text, column, remedy) in [
            ("", 1, "hold:300rps:10s"),
            ("hold", 1, "hold:300rps:10s"),
            ("hold:300rps", 6, "write hold:300rps:10s"),
            ("hold:300:10s", 6, "rps"),
            ("hold:300rps:10s,spke:5rps:1s", 17, "spike:1500rps:2s"),
            ("hold:300rps:10s, ramp:300rps:20s", 23, "two rates"),
            ("ramp:1rps..x:2s", 12, "300rps"),
            ("ramp:1rps..2rps:2", 17, "20ms"),
            ("hold:1rps:0s", 11, "10s"),
            ("hold:1rps:1s,", 14, "missing"),
            ("pause:-1s", 7, "20ms"),
            ("hold:1rps:1s:1s", 11, "unknown unit"),
        ] {
            match Profile::parse(text) {
                Err(ProfileError::Text { column: at, problem }) => {
                    assert_eq!(at, column, "{text}: {problem}");
                    assert!(problem.contains(remedy), "{text}: {problem}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_profile_is_never_empty_endless_or_absurd() {
        assert!(Profile::new(Vec::new()).is_err());
        assert!(Profile::parse("hold:1rps:20h,hold:1rps:5h").is_err());
        let step = Step { from_rps: 1.0, to_rps: 1.0, duration_s: 1.0 };
        assert!(Profile::new(vec![Step { to_rps: f64::NAN, ..step }]).is_err());
        assert!(Profile::new(vec![Step { from_rps: -1.0, ..step }]).is_err());
        assert!(Profile::new(vec![Step { duration_s: f64::INFINITY, ..step }]).is_err());
    }

    #[test]
    fn reads_a_trace_and_names_a_bad_line() {
        let profile =
            Profile::from_trace("# rps\n10\n\n 20.5\n", Duration::from_secs(2), 2.0).unwrap();
        assert_eq!(profile.duration(), Duration::from_secs(4));
        assert_eq!(profile.rate_at(Duration::from_secs(3)), 41.0);
        for bad in ["1\nx\n", "1\n-3", "1\nNaN", "1\ninf", "1\n2,3"] {
            let error = Profile::from_trace(bad, Duration::from_secs(1), 1.0).unwrap_err();
            assert!(error.to_string().starts_with("trace, line 2: "), "{error}");
        }
        assert!(Profile::from_trace("# nothing\n", Duration::from_secs(1), 1.0).is_err());
    }
}
