//! The admin API: who may reach it.

use std::net::{Ipv4Addr, SocketAddr};

use crate::file;
use crate::raw::{Either, List, RawAdmin, RawNamedToken, RawToken, TokenText, is_token};
use crate::reader::{At, Field, Problem, Reader, quote};
use crate::{Admin, AdminAddress, Listener, NamedToken, Secret, Token};

/// Longest token file that is read, in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

pub(super) fn admin(raw: Field<RawAdmin>, listeners: &[Listener], r: &mut Reader<'_>) -> Admin {
    let raw = raw.value().unwrap_or_default();
    let no_token = raw.token.is_absent() && raw.tokens.is_absent();
    let token = raw.token.given().and_then(|at| token(at, r));
    let tokens = tokens(raw.tokens, token.as_ref(), r);
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9900));
    let Some(At { value: address, place }) = raw.address.given() else {
        return Admin { address: AdminAddress::Tcp(default), token, tokens };
    };
    if let AdminAddress::Tcp(tcp) = address.0 {
        if !tcp.ip().to_canonical().is_loopback() && no_token {
            let problem = Problem::new(
                format!("{tcp}, which others can reach, without a token"),
                "a loopback address, a Unix socket, or a token",
            );
            let help = "add `token: { env: NAME }`, `token: { file: PATH }` or `tokens` to admin, \
                        or use 127.0.0.1";
            r.report(&place, problem.help(help));
        }
        if let Some(listener) = listeners.iter().find(|listener| listener.address == tcp) {
            let expected = format!("an address other than that of listener {:?}", listener.name);
            r.report(&place, Problem::new(tcp.to_string(), expected));
        }
    }
    Admin { address: address.0, token, tokens }
}

/// The named tokens. Two with one text could not be told apart, and neither could two of one name
/// in the records.
fn tokens(
    raw: Field<List<RawNamedToken>>,
    owner: Option<&Token>,
    r: &mut Reader<'_>,
) -> Vec<NamedToken> {
    let mut known: Vec<NamedToken> = Vec::new();
    let Some(At { value: List(items), place }) = raw.given() else { return known };
    if items.is_empty() {
        r.report(&place, Problem::new("an empty list", "at least one token"));
    }
    for At { value: item, .. } in items {
        let (name, role) = (item.name.given(), item.role.value());
        let named = item.token.given().and_then(|at| {
            let place = at.place.clone();
            Some((token(at, r)?, place))
        });
        let (Some(name), Some(role), Some((token, place))) = (name, role, named) else { continue };
        let taken = name.value.0 == Admin::OWNER || known.iter().any(|t| t.name == name.value.0);
        if taken || !super::is_name(&name.value.0) {
            let found = format!("the name {}", quote(&name.value.0));
            let expected = if taken {
                "a name that no other token has"
            } else {
                "1 to 63 letters, digits, -, _ or ., beginning with a letter or digit"
            };
            r.report(&name.place, Problem::new(found, expected));
        }
        let mut others = known.iter().map(|t| &t.token).chain(owner);
        if others.any(|other| other.secret() == token.secret()) {
            r.report(&place, Problem::new("the text of another token", "one of its own"));
        }
        known.push(NamedToken { name: name.value.0, role: role.0, token });
    }
    known
}

pub(super) fn token(at: At<Either<TokenText, RawToken>>, r: &mut Reader<'_>) -> Option<Token> {
    let table = match at.value {
        Either::Short(TokenText(text)) => return Some(Token::Value(Secret::new(text))),
        Either::Table(table) => *table,
    };
    match (table.env, table.file) {
        (Field::Given(env), Field::Absent) => {
            let variable = env.value.0;
            let Some(value) = r.env(&variable) else {
                let problem =
                    Problem::new(format!("{variable}, which is not set"), "a variable that is set");
                r.report(&env.place, problem);
                return None;
            };
            let secret = secret(&value).or_else(|| {
                r.report(&env.place, malformed(&value, &variable));
                None
            })?;
            Some(Token::Env { variable, secret })
        }
        (Field::Absent, Field::Given(file)) => {
            let path = file.value.0;
            let name = path.display().to_string();
            match file::read_secret(&path, MAX_TOKEN_BYTES) {
                Ok(text) => match secret(&text) {
                    Some(secret) => return Some(Token::File { path, secret }),
                    None => r.report(&file.place, malformed(&text, &name)),
                },
                Err(error) => {
                    let found = format!("{name}, which cannot be read ({error})");
                    r.report(&file.place, Problem::new(found, "a file with the token"));
                }
            }
            None
        }
        (Field::Invalid, _) | (_, Field::Invalid) => None,
        (Field::Given(_), Field::Given(_)) => {
            r.report(&at.place, Problem::new("env and file", "one of the two"));
            None
        }
        (Field::Absent, Field::Absent) => {
            r.report(&at.place, Problem::new("neither env nor file", "one of the two"));
            None
        }
    }
}

/// What is there is not shown: it may be a token with a slip in it.
fn malformed(text: &str, place: &str) -> Problem {
    let found = if text.trim().is_empty() { "nothing" } else { "another text" };
    Problem::new(
        format!("{found} in {place}"),
        "a token of at least 8 printable ASCII characters without spaces",
    )
}

fn secret(text: &str) -> Option<Secret> {
    let text = text.trim_end();
    is_token(text).then(|| Secret::new(text.to_owned()))
}
