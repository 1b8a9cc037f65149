//! Requests as they come in, and answers as they go out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Store;
use super::objects::selected;
use crate::support::fake_engine::Reply;

/// One request, taken apart.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) kind: String,
    pub(super) name: Option<String>,
    pub(super) sub: Option<String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Value,
}

impl Asked {
    /// In a word or two, for scripts.
    pub(super) fn words(&self) -> String {
        let one = self.kind.strip_suffix('s').unwrap_or(&self.kind);
        let is_watch = self.query.get("watch").is_some_and(|watch| watch == "true");
        let method = if is_watch { "WATCH" } else { &self.method };
        match (&self.name, &self.sub) {
            (Some(_), Some(sub)) => format!("{method} {one}/{sub}"),
            (Some(_), None) => format!("{method} {one}"),
            _ => format!("{method} {}", self.kind),
        }
    }
}

pub(super) async fn answer(mut stream: TcpStream, store: Arc<Store>) {
    let Some(asked) = read(&mut stream).await else { return };
    let is_watch = asked.words().starts_with("WATCH");
    let mut changed = store.changed.subscribe();
    let mut known: u64 = asked.query.get("resourceVersion").map_or(0, |v| v.parse().unwrap_or(0));
    let (bytes, holds) = match store.answer(&asked) {
        Reply::Json(200, _) if is_watch => {
            (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_vec(), false)
        }
        Reply::Json(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n");
            let length = body.len();
            let text = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            return stream.write_all(text.as_bytes()).await.unwrap_or_default();
        }
        Reply::Raw(bytes) => return stream.write_all(&bytes).await.unwrap_or_default(),
        Reply::Hang => (Vec::new(), true),
        Reply::Stream(begin) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
            (format!("{head}{begin}").into_bytes(), true)
        }
        Reply::Later(_) => unreachable!("only engines are told to speak up later"),
    };
    // One who has lost patience does not listen any more.
    if stream.write_all(&bytes).await.is_err() {
        return;
    }
    if holds {
        return std::future::pending().await;
    }
    loop {
        let news: Vec<Value> = {
            let objects = store.lock();
            let new = objects.events.iter().filter(|(version, _, kind, object)| {
                *version > known && *kind == asked.kind && selected(object, &asked.query)
            });
            let news = new.map(|(_, event, _, object)| json!({ "type": event, "object": object }));
            let news = news.collect();
            known = known.max(objects.version);
            news
        };
        for event in news {
            if stream.write_all(format!("{event}\n").as_bytes()).await.is_err() {
                return;
            }
        }
        // Whoever does not listen any more has closed its end.
        let mut rest = [0; 64];
        tokio::select! {
            done = changed.changed() => if done.is_err() { return },
            _ = stream.read(&mut rest) => return,
        }
    }
}

/// One request to its end.
async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut text = Vec::new();
    let head_end = loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&text[..head_end]).into_owned();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while text.len() < head_end + length {
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.lines().next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|one| one.split_once('='));
    let query = query.map(|(name, value)| (name.to_owned(), unescaped(value))).collect();
    let body = serde_json::from_slice(&text[head_end..]).unwrap_or(Value::Null);
    let (mut kind, mut name, mut sub) = ("discovery".to_owned(), None, None);
    if let Some((_, rest)) = path.split_once("/namespaces/") {
        let mut parts = rest.split('/').skip(1).map(str::to_owned);
        kind = parts.next()?;
        (name, sub) = (parts.next(), parts.next());
        if path.contains("metrics.k8s.io") {
            kind = "measured".to_owned();
        }
    }
    Some(Asked { method, kind, name, sub, query, body })
}

/// Percent-encoded text as it was.
fn unescaped(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        plain.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        plain.push_str(rest);
    }
    plain
}
