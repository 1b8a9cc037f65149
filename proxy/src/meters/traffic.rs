//! What requests and answers say about copying them: methods of all, fields of one in eight.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foreshadow_control::TrafficCounts;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, EXPIRES, HeaderName, SET_COOKIE,
    TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{HeaderMap, Method, StatusCode};
use rand::RngExt;

use super::{ServiceMeters, WorkerId, taken};

/// Answered requests between two whose fields are looked at, at most; half as many on average.
const LONGEST_GAP: u32 = 14;

thread_local! {
    /// Answers until the next look; a worker is one thread.
    static UNTIL_LOOK: Cell<u32> = const { Cell::new(0) };
}

/// The counts of one worker.
#[derive(Debug, Default)]
pub(super) struct TrafficCell {
    idempotent: AtomicU64,
    other: AtomicU64,
    upgrades: AtomicU64,
    looked_at: AtomicU64,
    safe_uncopied: AtomicU64,
    cookies: AtomicU64,
    authorized: AtomicU64,
    set_cookies: AtomicU64,
    sessions: AtomicU64,
    storable: AtomicU64,
    vary_any: AtomicU64,
}

impl TrafficCell {
    pub(super) fn drain_into(&self, sum: &mut TrafficCounts) {
        sum.idempotent += taken(&self.idempotent);
        sum.other += taken(&self.other);
        sum.upgrades += taken(&self.upgrades);
        sum.looked_at += taken(&self.looked_at);
        sum.safe_uncopied += taken(&self.safe_uncopied);
        sum.cookies += taken(&self.cookies);
        sum.authorized += taken(&self.authorized);
        sum.set_cookies += taken(&self.set_cookies);
        sum.sessions += taken(&self.sessions);
        sum.storable += taken(&self.storable);
        sum.vary_any += taken(&self.vary_any);
    }
}

impl ServiceMeters {
    /// Counts the method of a request that [`arrived`](Self::arrived). Safe ones that ask for no
    /// other protocol, which most do, are what is left of the arrivals and cost nothing here.
    pub(crate) fn asked(&self, worker: WorkerId, method: &Method, upgrade: bool) {
        let cell = &self.cell(worker).traffic;
        let kind = match (method.is_safe(), method.is_idempotent()) {
            (true, _) if upgrade => &cell.upgrades,
            (true, _) => return,
            (false, true) => &cell.idempotent,
            (false, false) => &cell.other,
        };
        kind.fetch_add(1, Relaxed);
    }

    /// Counts what the fields of an answered request and of its answer say.
    pub(crate) fn looked(&self, worker: WorkerId, look: Look) {
        let cell = &self.cell(worker).traffic;
        cell.looked_at.fetch_add(1, Relaxed);
        for (found, counter) in [
            (look.safe_uncopied, &cell.safe_uncopied),
            (look.cookie, &cell.cookies),
            (look.authorized, &cell.authorized),
            (look.set_cookie, &cell.set_cookies),
            (look.session, &cell.sessions),
            (look.storable, &cell.storable),
            (look.vary_any, &cell.vary_any),
        ] {
            if found {
                counter.fetch_add(1, Relaxed);
            }
        }
    }
}

/// What one request and its answer say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an observation of its own")]
pub(crate) struct Look {
    safe_uncopied: bool,
    cookie: bool,
    authorized: bool,
    set_cookie: bool,
    session: bool,
    storable: bool,
    vary_any: bool,
}

impl Look {
    /// Whether the answer at hand should be looked at. The gaps are drawn at random: a client that
    /// sends its requests in a fixed order must not have the same one looked at each time.
    pub(crate) fn is_due() -> bool {
        UNTIL_LOOK.with(|left| match left.get() {
            0 => {
                left.set(rand::rng().random_range(0..=LONGEST_GAP));
                true
            }
            count => {
                left.set(count - 1);
                false
            }
        })
    }

    /// Looks at a request as it was received and at the final answer to it.
    pub(crate) fn at(
        method: &Method,
        request: &HeaderMap,
        status: StatusCode,
        answer: &HeaderMap,
    ) -> Self {
        let cookie = request.contains_key(COOKIE);
        let authorized = request.contains_key(AUTHORIZATION);
        let set_cookie = answer.contains_key(SET_COOKIE);
        let cache = CacheControl::of(answer);
        Self {
            safe_uncopied: method.is_safe() && is_uncopied(request),
            cookie,
            authorized,
            set_cookie,
            session: set_cookie || (cookie && !cache.is_for_everybody()),
            storable: is_storable(method, authorized, status, answer, cache),
            vary_any: elements(answer, &VARY).any(|field| field == b"*"),
        }
    }
}

/// Whether a request with a safe method is not copied by the mirror: a body, a stream of events.
/// Those that ask for another protocol are counted elsewhere.
fn is_uncopied(request: &HeaderMap) -> bool {
    if request.contains_key(UPGRADE) {
        return false;
    }
    request.contains_key(TRANSFER_ENCODING)
        || request.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
        || elements(request, &ACCEPT).any(|media| {
            let range = media.split(|&byte| byte == b';').next().unwrap_or_default();
            range.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        })
}

/// The directives of `Cache-Control` that matter to a shared cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
struct CacheControl {
    no_store: bool,
    private: bool,
    public: bool,
    s_maxage: bool,
    max_age: bool,
    must_revalidate: bool,
}

impl CacheControl {
    fn of(answer: &HeaderMap) -> Self {
        let mut found = Self::default();
        for directive in elements(answer, &CACHE_CONTROL) {
            let name = directive.split(|&byte| byte == b'=').next().unwrap_or_default();
            let is = |wanted: &[u8]| name.trim_ascii().eq_ignore_ascii_case(wanted);
            found.no_store |= is(b"no-store");
            // With field names it is about those only; that the rest may be shared is not likely.
            found.private |= is(b"private");
            found.public |= is(b"public");
            found.s_maxage |= is(b"s-maxage");
            found.max_age |= is(b"max-age");
            found.must_revalidate |= is(b"must-revalidate");
        }
        found
    }

    /// Whether the answer says that it may be given to others.
    fn is_for_everybody(self) -> bool {
        (self.public || self.s_maxage) && !self.private && !self.no_store
    }
}

/// Whether a shared cache may store an answer: RFC 9111, section 3, with 3.5 for `Authorization`,
/// and the statuses that are cacheable by heuristics of RFC 9110, section 15.1. Methods are those
/// that a cache usually stores: GET and HEAD.
fn is_storable(
    method: &Method,
    authorized: bool,
    status: StatusCode,
    answer: &HeaderMap,
    cache: CacheControl,
) -> bool {
    let kept = matches!(*method, Method::GET | Method::HEAD) && !cache.no_store && !cache.private;
    let allowed = !authorized || cache.public || cache.s_maxage || cache.must_revalidate;
    let by_heuristics = matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    );
    let is_fresh = || answer.contains_key(EXPIRES);
    kept && allowed
        && (cache.public || cache.s_maxage || cache.max_age || by_heuristics || is_fresh())
}

/// The elements of a comma separated field. A quoted string with commas in it gives pieces that
/// are no names of anything.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(field).collect()
    }

    fn get(
        request: &[(&'static str, &'static str)],
        answer: &[(&'static str, &'static str)],
    ) -> Look {
        Look::at(&Method::GET, &fields(request), StatusCode::OK, &fields(answer))
    }

    #[test]
    fn an_answer_is_storable_as_the_standard_has_it() {
        for (answer, storable) in [
            (&[][..], true),
            (&[("cache-control", "max-age=60")], true),
            (&[("cache-control", "max-age=60, private")], false),
            (&[("cache-control", "No-Store")], false),
            (&[("cache-control", "private=\"set-cookie\", max-age=5")], false),
            (&[("cache-control", "x=\"a, no-store\"")], true),
        ] {
            assert_eq!(get(&[], answer).storable, storable, "{answer:?}");
        }
        let credentials = [("authorization", "Bearer t")];
        for (cache, storable) in [
            ("max-age=9", false),
            ("public", true),
            ("s-maxage=9", true),
            ("must-revalidate", true),
        ] {
            assert_eq!(
                get(&credentials, &[("cache-control", cache)]).storable,
                storable,
                "{cache}"
            );
        }
        let posted = Look::at(&Method::POST, &fields(&[]), StatusCode::OK, &fields(&[]));
        assert!(!posted.storable);
        for (status, answer, storable) in [
            (302, &[][..], false),
            (302, &[("expires", "Thu, 01 Dec 2094 16:00:00 GMT")], true),
            (302, &[("cache-control", "max-age=1")], true),
            (404, &[], true),
            (500, &[], false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let look = Look::at(&Method::GET, &fields(&[]), status, &fields(answer));
            assert_eq!(look.storable, storable, "{status} {answer:?}");
        }
    }

    #[test]
    fn sessions_are_cookies_that_are_not_for_everybody() {
        let cookie = [("cookie", "id=1")];
        assert!(!get(&[], &[]).session);
        assert!(get(&cookie, &[]).session);
        assert!(get(&cookie, &[("cache-control", "max-age=60")]).session);
        assert!(!get(&cookie, &[("cache-control", "public, max-age=60")]).session);
        assert!(get(&cookie, &[("cache-control", "public, private")]).session);
        assert!(get(&[], &[("set-cookie", "id=1"), ("cache-control", "public")]).session);
    }

    #[test]
    fn bodies_and_streams_of_events_are_not_copied() {
        for (request, uncopied) in [
            (&[("content-length", "0")][..], false),
            (&[("content-length", "12")], true),
            (&[("transfer-encoding", "chunked")], true),
            (&[("accept", "text/html, Text/Event-Stream;q=0.9")], true),
            (&[("accept", "text/html")], false),
            (&[("accept", "text/event-stream"), ("upgrade", "websocket")], false),
        ] {
            assert_eq!(get(request, &[]).safe_uncopied, uncopied, "{request:?}");
        }
    }

    #[test]
    fn answers_that_vary_by_anything_are_told() {
        assert!(get(&[], &[("vary", "accept-encoding, *")]).vary_any);
        assert!(!get(&[], &[("vary", "accept-encoding")]).vary_any);
    }

    #[test]
    fn counts_are_drained_by_class() {
        let meters = ServiceMeters::new(2);
        for (worker, method, upgrade) in [
            (0, Method::GET, false),
            (1, Method::GET, true),
            (0, Method::PUT, false),
            (1, Method::DELETE, true),
            (1, Method::POST, false),
            (0, Method::from_bytes(b"PURGE").unwrap(), false),
        ] {
            meters.arrived(WorkerId(worker));
            meters.asked(WorkerId(worker), &method, upgrade);
        }
        meters.looked(WorkerId(1), get(&[("cookie", "id=1")], &[]));
        let expected = TrafficCounts {
            idempotent: 2,
            other: 2,
            upgrades: 1,
            looked_at: 1,
            cookies: 1,
            sessions: 1,
            storable: 1,
            ..TrafficCounts::default()
        };
        let drained = meters.drain();
        assert_eq!((drained.arrivals, drained.traffic), (6, expected));
        assert!(meters.drain().traffic.is_empty());
    }

    #[test]
    fn one_in_eight_is_looked_at() {
        let looks = (0..80_000).filter(|_| Look::is_due()).count();
        // Gaps are uniform on 1 to 15: the mean of 10,000 of them strays by 0.5 % at most.
        assert!((9_600..10_400).contains(&looks), "{looks}");
    }
}
