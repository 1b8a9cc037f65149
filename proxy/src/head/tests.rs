//! Heads that pass, and heads that are refused.

use proptest::prelude::*;

use super::*;

fn scan(text: &str) -> Result<Option<Head>, Refusal> {
    HeadScanner::default().scan(text.as_bytes())
}

fn framing(fields: &str) -> Result<Framing, u16> {
    let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    match scan(&text) {
        Ok(Some(head)) => Ok(head.framing),
        Ok(None) => panic!("incomplete: {text:?}"),
        Err(refusal) => Err(refusal.status().0),
    }
}

#[test]
fn framing_follows_the_fields() {
    assert_eq!(framing(""), Ok(Framing::Empty));
    assert_eq!(framing("content-length: 12\r\n"), Ok(Framing::Length(12)));
    assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Empty));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: keep-alive, Upgrade\r\n\r\n";
    assert_eq!(scan(upgrade).unwrap().unwrap().framing, Framing::Tunnel);
    let h2c = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(scan(h2c).unwrap().unwrap().framing, Framing::Empty);
}

#[test]
fn a_tls_handshake_is_refused_by_its_first_byte() {
    let hello = [0x16, 3, 1, 2, 0, 1];
    for said in [&hello[..1], &hello] {
        let refusal = HeadScanner::default().scan(said).expect_err("no line end will ever come");
        assert_eq!(refusal.status().0, 400);
    }
    assert_eq!(scan("G"), Ok(None));
}

#[test]
fn ambiguous_framing_is_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 1000000000000000000000\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "X-A: b\r\n folded\r\n",
        "X\x00: b\r\n",
        "X: a\x00b\r\n",
        ": b\r\n",
        "no colon\r\n",
    ] {
        assert_eq!(framing(fields), Err(400), "{fields:?}");
    }
    assert_eq!(framing("Transfer-Encoding: xchunked\r\n"), Err(501));
    assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Err(501));
}

#[test]
fn targets_are_checked() {
    assert!(scan("GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().is_some());
    assert!(scan("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().is_some());
    for line in [
        "GET ftp://a/x HTTP/1.1",
        "GET x HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "G@T / HTTP/1.1",
        "GET /",
        " GET / HTTP/1.1",
    ] {
        let result = scan(&format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(result.map_err(|refusal| refusal.status().0), Err(400), "{line:?}");
    }
}

#[test]
fn the_authority_of_the_target_replaces_another_host() {
    for (target, host, settled) in
        [("b.example:81", "a", "b.example:81"), ("b", "a.example:8080", "b"), ("a", "a", "a")]
    {
        let text =
            |host: &str| format!("GET http://{target}/x HTTP/1.1\r\nX: y\r\nHost: {host}\r\n\r\n");
        let mut buf = BytesMut::from(format!("{}next", text(host)).as_bytes());
        let mut head = HeadScanner::default().scan(&buf).unwrap().unwrap();
        head.settle_host(&mut buf);
        assert_eq!(buf, format!("{}next", text(settled)));
        assert_eq!(&buf[head.len..], b"next");
    }
}

#[test]
fn limits_have_their_own_answers() {
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_REQUEST_LINE));
    assert_eq!(scan(&long), Err(Refusal::UriTooLong));
    assert_eq!(scan(&long[..MAX_REQUEST_LINE + 1]), Err(Refusal::UriTooLong));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "a: b\r\n".repeat(MAX_FIELDS));
    assert_eq!(scan(&many), Err(Refusal::FieldsTooLarge));
    let wide = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(MAX_HEAD));
    assert_eq!(scan(&wide), Err(Refusal::FieldsTooLarge));
}

proptest! {
    #[test]
    fn arrival_in_pieces_changes_nothing(
        text in "(GET|POST) /[a-z]{0,5} HTTP/1\\.[01]\r\n(Host: [a-z]{1,3}\r\n)?(A: b\r\n){0,3}\
                 (Content-Length: [0-9]{1,3}\r\n){0,2}\r?\n?",
        cuts in proptest::collection::vec(0_usize..80, 0..6),
    ) {
        let whole = scan(&text);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
        cuts.push(text.len());
        cuts.sort_unstable();
        let mut scanner = HeadScanner::default();
        let mut pieces = Ok(None);
        for cut in cuts {
            pieces = scanner.scan(&text.as_bytes()[..cut]);
            if !matches!(pieces, Ok(None)) {
                break;
            }
        }
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(head)) = HeadScanner::default().scan(&bytes) {
            prop_assert!(bytes[..head.len].ends_with(b"\r\n\r\n"));
        }
    }
}
