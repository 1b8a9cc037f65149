//! Whatever a rule says, it is refused with a place in it, or comes back as it was written.
#![no_main]

use foreshadow_control::Rule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Rule>() {
        Ok(rule) => assert_eq!(rule.to_string().parse(), Ok(rule)),
        Err(error) => assert!(!error.excerpt().is_empty()),
    }
});
