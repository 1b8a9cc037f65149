//! The pieces of a head by their grammar.

use std::ops::Range;

use super::Refusal;

/// Checks a request target and returns where the authority of an absolute-form one lies.
pub(super) fn check_target(method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, Refusal> {
    let invalid = Refusal::BadRequest("invalid request target");
    // Stricter grammar (RFC 3986) would refuse more, such as `{` or a raw `ä`, that is common in the
    // wild and read alike everywhere. These are what the engine would refuse in its own name.
    let refused = |byte: u8| byte <= 0x20 || byte == 0x7f || b"#<>\"`".contains(&byte);
    if target.iter().copied().any(refused) || std::str::from_utf8(target).is_err() {
        return Err(invalid);
    }
    if target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let start = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| {
            target.get(..scheme.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(scheme))
        })
        .map(|scheme| scheme.len())
        .ok_or(invalid)?;
    let len = target[start..]
        .iter()
        .position(|&b| matches!(b, b'/' | b'?'))
        .unwrap_or(target.len() - start);
    let authority = start..start + len;
    if !is_host(&target[authority.clone()]) {
        return Err(invalid);
    }
    Ok(Some(authority))
}

/// `HTTP-version` of RFC 9112, section 2.3, whatever its numbers.
pub(super) fn is_version(text: &[u8]) -> bool {
    matches!(text, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// `tchar` of RFC 9110, section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2), which must not be empty for http.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host_ok, port) = if value.first() == Some(&b'[') {
        let Some(close) = value.iter().position(|&b| b == b']') else { return false };
        let literal = &value[1..close];
        let address = literal.split(|&b| b == b'%').next().unwrap_or_default();
        let valid = std::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
            && literal.len() == address.len();
        (valid, &value[close + 1..])
    } else {
        let len = value.iter().position(|&b| b == b':').unwrap_or(value.len());
        let name = &value[..len];
        (is_name(name), &value[len..])
    };
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0_u32, |sum, &b| sum * 10 + u32::from(b - b'0')) <= 65_535
        }
        _ => false,
    };
    host_ok && port_ok
}

/// `reg-name` of RFC 3986, section 3.2.2, but not empty and without the comma: what has one is read
/// as a list by some, and as one name by others.
fn is_name(name: &[u8]) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&b);
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return !name.is_empty(),
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            [b, rest @ ..] if plain(*b) => rest,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_checked() {
        for host in
            ["a", "a.example:80", "127.0.0.1:1", "[::1]:8080", "[::1]", "a_b", "a:", "a%2Fb"]
        {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a b", "a/b", "u@a", "a:x", "a:70000", "[::1", "[::g]", "[::1]x", "a,b",
            "a%", "a%2", "a%zz", "a:1:2", "a:-1", "\u{e4}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
