// Changes samples as a fuzzer does, and the same at every run; for `tests/fuzz.rs` of several crates.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

/// So many changed samples, the same ones every time.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_261_122),
        ..ProptestConfig::default()
    }
}

/// The files of a directory, relative to the crate, ordered by name.
pub(crate) fn samples(directory: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = std::fs::read_dir(&directory).expect("samples are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a sample").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths.iter().map(|path| std::fs::read(path).expect("a sample can be read")).collect()
}

/// A sample with some bytes, stretches and lines changed, left out, repeated or replaced by `words`.
pub(crate) fn changed(
    samples: Vec<Vec<u8>>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let change = (0..7_u8, any::<Index>(), any::<Index>(), any::<u8>());
    let changes = proptest::collection::vec(change, 0..8);
    (proptest::sample::select(samples), changes).prop_map(move |(mut text, changes)| {
        for (kind, from, length, byte) in changes {
            if text.is_empty() {
                break;
            }
            let from = from.index(text.len());
            let to = (from + 1 + length.index(40)).min(text.len());
            match kind {
                0 => text[from] = byte,
                1 => drop(text.drain(from..to)),
                2 => {
                    let again: Vec<u8> = text[from..to].to_vec();
                    let many = 1 + usize::from(byte % 20);
                    text.splice(from..from, again.repeat(many));
                }
                3 => text.truncate(from.max(1)),
                4 => drop(text.splice(from..to, *b"99999999999999999999")),
                5 => {
                    let word = words[length.index(words.len())];
                    text.splice(from..from, word.bytes());
                }
                _ => {
                    let word = words[length.index(words.len())];
                    text.splice(from..to, word.bytes());
                }
            }
        }
        text
    })
}
