//! Reading ahead what a step is going to need.

use std::hint::black_box;

/// Bytes that memory hands over at once.
const LINE_BYTES: usize = 64;

/// Reads of `items` one `word` of each line of memory.
///
/// Of thousands of series a tick finds each no longer in the processor's caches. Read where they are
/// needed, its parts are waited for one after the other; read at once beforehand, they come together.
/// Nothing depends on what is read.
pub(crate) fn touch<T, Word>(items: &[T], word: impl Fn(&T) -> Word) {
    let per_line = (LINE_BYTES / size_of::<T>().max(1)).max(1);
    items.iter().step_by(per_line).for_each(|item| {
        black_box(word(item));
    });
}
