//! Rules changed as a fuzzer changes them, the same ones at every run.

#[path = "../../fuzz/mutate.rs"]
mod mutate;

use foreshadow_control::Rule;
use mutate::{cases, changed, samples};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "cpu",
    " > ",
    "80%",
    "->",
    " and ",
    " or ",
    "(",
    ")",
    ",",
    "activate 2",
    "hold",
    "alert \"x\"",
    " of web",
    " weight 10",
    " priority 3",
    " within 30m",
    " for 3 ticks",
    " until ",
    " clear after ",
    "p99",
    "\"",
    "metric(\"a/b\")",
    "1e999",
    "0",
    "-1",
    "\0",
    "é",
    "\n",
    " any ",
    " all ",
];

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn whatever_a_rule_says_it_comes_back_or_is_refused_with_its_place(
        text in changed(samples("../fuzz/corpus/rule"), WORDS),
    ) {
        let text = String::from_utf8_lossy(&text);
        match text.parse::<Rule>() {
            Ok(rule) => prop_assert_eq!(rule.to_string().parse(), Ok(rule)),
            Err(error) => {
                prop_assert!(error.column >= 1 && text.get(error.at.clone()).is_some(), "{error:?}");
                prop_assert_eq!(error.excerpt().lines().count(), 2);
            }
        }
    }
}
