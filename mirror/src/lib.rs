//! Keeps shadows current: request mirroring policy and comparison of answers.
