//! Whatever a calendar holds, it is read or refused, and looking ahead ends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok((events, _)) = foreshadow_config::calendar(&text, 1.0) else { return };
    for event in events.iter().take(20) {
        let ahead = event.occurrences(1_792_713_600_000, 1_792_713_600_000 + 8 * 86_400_000);
        assert!(ahead.len() <= 500 && ahead.is_sorted_by_key(|it| it.start_ms));
    }
});
