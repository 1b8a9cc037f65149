//! One small stable hash for names and for telling whether settings changed.

/// FNV-1a, 64 bit (<http://www.isthe.com/chongo/tech/comp/fnv/>), as hexadecimal text: the same in
/// every build, which the standard library's hashes do not promise. Not for anything an adversary
/// chooses.
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> String {
    let hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_published_vectors() {
        assert_eq!(fnv1a([]), "cbf29ce484222325");
        assert_eq!(fnv1a(*b"a"), "af63dc4c8601ec8c");
        assert_eq!(fnv1a(*b"foobar"), "85944171f73967e8");
    }
}
