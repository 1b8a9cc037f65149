//! What is refused of learning, and what is read.

use crate::{only_error, read, with};
use foreshadow_config::Format;
use foreshadow_control::{LearningSpec, Pace};

#[test]
fn what_would_do_nothing_is_refused_where_it_is_written() {
    for (learning, message) in [
        ("{ enabled: off, steps: on }", "found steps: on beside enabled: off"),
        ("{ fastest: brisk }", "found fastest without steps: on"),
        ("{ successes: 3 }", "found successes without steps: on"),
        ("{ steps: on, fastest: fast }", "found \"fast\", expected one of careful, normal, brisk"),
        ("{ steps: on, successes: 0 }", "at least 1"),
        ("{ steps: on, successes: 1001 }", "at most 1000"),
        ("{ step: on }", "found unknown key \"step\""),
    ] {
        let said = only_error("", &format!("learning: {learning}"));
        assert!(said.contains(message), "{learning}: {said}");
    }
}

#[test]
fn outcomes_count_unless_it_is_switched_off_and_steps_only_where_it_is_switched_on() {
    let spec = |learning: &str| {
        let config = read(&with("", learning), Format::Yaml).expect("it is well");
        config.service_specs()[0].learning
    };
    let plain = LearningSpec { outcomes: true, ..LearningSpec::default() };
    assert_eq!(spec("mode: act"), plain);
    assert_eq!(spec("learning: { enabled: off }"), LearningSpec::default());
    let steps = LearningSpec { steps: true, fastest: Pace::Brisk, successes: 9, ..plain };
    assert_eq!(spec("learning: { steps: on, fastest: brisk, successes: 9 }"), steps);
}
