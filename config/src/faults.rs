//! What was found wrong, no more of it than anybody reads.
//!
//! A generated file tends to have one mistake in hundreds of places. A few of each kind are shown
//! and the rest is counted, so that a second kind is not lost behind the first.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use crate::reader::{Place, Problem};
use crate::{Diagnostic, Errors};

/// Errors shown of one kind, and in all.
const PER_KIND: usize = 20;
const IN_ALL: usize = 100;

/// Collects what is wrong with one text.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What is shown, with its kind.
    shown: Vec<(Diagnostic, usize)>,
    /// Kinds by key and expectation, numbered in the order of their first error.
    kinds: HashMap<(String, String), usize>,
    /// How often each kind was found, and how often it is shown.
    counts: Vec<(usize, usize)>,
    /// Hashes of everything that was found: what an alias repeats is wrong in one place only.
    seen: HashSet<u64>,
}

impl Faults {
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Adds a problem at `place`, of which `diagnostic` is made if it is to be shown.
    pub(crate) fn add(
        &mut self,
        place: &Place,
        problem: Problem,
        diagnostic: impl FnOnce(Problem) -> Diagnostic,
    ) {
        let mut hasher = DefaultHasher::new();
        (&place.span, &problem.found, &problem.expected).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return;
        }
        let key = place.path.rsplit('.').next().unwrap_or_default();
        let key = key.split('[').next().unwrap_or_default();
        // Where else something stands makes no kind of its own.
        let expected = problem.expected.replace(|c: char| c.is_ascii_digit(), "");
        let next = self.counts.len();
        let kind = *self.kinds.entry((key.to_owned(), expected)).or_insert(next);
        if kind == next {
            self.counts.push((0, 0));
        }
        let (found, shown) = &mut self.counts[kind];
        *found += 1;
        if *shown < PER_KIND && self.shown.len() < IN_ALL {
            *shown += 1;
            self.shown.push((diagnostic(problem), kind));
        }
    }

    /// Adds the error of a text as a whole, of which there is only one.
    pub(crate) fn add_whole(&mut self, diagnostic: Diagnostic) {
        self.counts.push((1, 1));
        self.shown.push((diagnostic, self.counts.len() - 1));
    }

    /// The errors, with the number of those that are not shown.
    pub(crate) fn into_errors(mut self) -> Errors {
        self.shown.sort_by_key(|(diagnostic, _)| (diagnostic.line, diagnostic.column));
        let mut omitted = 0;
        for (kind, (found, shown)) in self.counts.into_iter().enumerate() {
            let last = self.shown.iter_mut().rev().find(|(_, of)| *of == kind);
            match last {
                Some((diagnostic, _)) => diagnostic.more = found - shown,
                None => omitted += found,
            }
        }
        Errors::new(self.shown.into_iter().map(|(diagnostic, _)| diagnostic).collect(), omitted)
    }
}
