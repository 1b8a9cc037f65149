//! What of a configuration is shown to those who cannot read its file.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Config, MASK, Provider, Shadows};

/// Which values came out of `${VAR}`, by their path in the configuration.
///
/// All are equal: where a value came from is no part of what a configuration says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(BTreeMap<String, Origin>);

/// A value that variables were filled into.
#[derive(Clone)]
struct Origin {
    /// As it was written, without the defaults of its variables.
    written: String,
    /// With everything filled in.
    filled: String,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written)
    }
}

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origins {
    /// Notes that the value at `path`, written as `written`, stands for `filled`.
    pub(crate) fn note(&mut self, path: &str, written: String, filled: &str) {
        let origin = Origin { written, filled: filled.to_owned() };
        self.0.insert(path.to_owned(), origin);
    }

    /// Whether the value at `path` came out of a variable.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// What is shown in place of the single value at `path`, if it came out of a variable.
    ///
    /// A value may be printed in another form than it was written in: one text for a table, or a
    /// table for one text. A text that is the same as one that was filled in may be a default that
    /// was taken from there, such as the name of a listener.
    fn shown(&self, path: &str, value: &Value) -> Option<&str> {
        if let Some(origin) = self.0.get(path) {
            return Some(&origin.written);
        }
        let related = |other: &str| within(path, other) || within(other, path);
        let same = |origin: &Origin| value.as_str().is_some_and(|text| text == origin.filled);
        let found = self.0.iter().any(|(other, origin)| related(other) || same(origin));
        found.then_some(MASK)
    }

    /// Covers every single value below `path` that came out of a variable.
    fn cover(&self, path: &str, value: &mut Value) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.cover(&format!("{path}{dot}{key}"), value);
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    self.cover(&format!("{path}[{index}]"), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                if let Some(shown) = self.shown(path, value) {
                    *value = Value::String(shown.to_owned());
                }
            }
        }
    }
}

/// Whether `path` is below `outer`.
fn within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[']))
}

impl Config {
    /// The configuration with every default, for those who may not know its secrets: tokens, the
    /// environment of shadows and the options of their logs are `***`, so are values of flags in their
    /// commands whose names speak of a secret, and what came out of `${VAR}` is shown as `${VAR}`.
    #[must_use]
    pub fn masked(&self) -> Value {
        let mut shown = serde_json::to_value(self).expect("plain values have a form in JSON");
        self.origins.cover("", &mut shown);
        // After that: the rest of a secret may stand beside the variable in it.
        cover_secrets(&mut shown);
        shown
    }
}

/// Covers what is a secret by where it stands.
fn cover_secrets(shown: &mut Value) {
    if let Some(token @ Value::String(_)) = shown.pointer_mut("/admin/token") {
        *token = Value::String(MASK.to_owned());
    }
    let tokens = shown.pointer_mut("/admin/tokens").and_then(Value::as_array_mut);
    for named in tokens.into_iter().flatten() {
        if let Some(token @ Value::String(_)) = named.get_mut("token") {
            *token = Value::String(MASK.to_owned());
        }
    }
    if let Some(token @ Value::String(_)) = shown.pointer_mut("/alerts/webhook/token") {
        *token = Value::String(MASK.to_owned());
    }
    let headers = shown.pointer_mut("/alerts/webhook/headers").and_then(Value::as_object_mut);
    for value in headers.into_iter().flat_map(|headers| headers.values_mut()) {
        *value = Value::String(MASK.to_owned());
    }
    for service in shown["services"].as_object_mut().into_iter().flat_map(|s| s.values_mut()) {
        if let Some(only) = service.pointer_mut("/shadows/provider") {
            cover_provider(only);
        }
        let places = service.pointer_mut("/shadows/places").and_then(Value::as_object_mut);
        for place in places.into_iter().flat_map(|places| places.values_mut()) {
            place.get_mut("provider").into_iter().for_each(cover_provider);
        }
        if let Some(scaler) = service.pointer_mut("/scaling/by") {
            cover_provider(scaler);
        }
    }
}

/// Covers what is a secret in a provider of shadows, or in what scales primaries.
fn cover_provider(provider: &mut Value) {
    for kind in ["process", "exec", "docker", "kubernetes"] {
        for table in ["env", "log/options"] {
            let table = provider.pointer_mut(&format!("/{kind}/{table}"));
            let values = table.and_then(Value::as_object_mut);
            for value in values.into_iter().flat_map(|table| table.values_mut()) {
                *value = Value::String(MASK.to_owned());
            }
        }
        let command = provider.pointer_mut(&format!("/{kind}/command"));
        cover_flags(command.and_then(Value::as_array_mut).map_or(&mut [][..], |c| c));
    }
    let template = provider.pointer_mut("/kubernetes/template/spec");
    template.into_iter().for_each(cover_pod);
    let args = provider.pointer_mut("/vm/args");
    cover_flags(args.and_then(Value::as_array_mut).map_or(&mut [][..], |args| args));
    if let Some(Value::String(line)) = provider.pointer_mut("/vm/append") {
        let mut words: Vec<Value> = line.split(' ').map(Value::from).collect();
        cover_flags(&mut words);
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        *line = words.join(" ");
    }
    let token = provider.pointer_mut("/webhook/token");
    if let Some(token @ Value::String(_)) = token {
        *token = Value::String(MASK.to_owned());
    }
}

impl Config {
    /// Every text in it that [`Config::masked`] covers for what it is, tokens and keys from
    /// elsewhere included, and passwords in addresses; not what merely came out of a variable, such
    /// as a port. Values that are not named like secrets, and are short or most likely none, are left
    /// out: covering them would make other texts unreadable.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let mut found = Vec::new();
        let tokens = self.admin.every_token().map(|(_, _, secret)| secret);
        let shadows = self.services.values().filter_map(|service| service.shadows.as_ref());
        let webhooks = shadows.flat_map(Shadows::providers).filter_map(|provider| match provider {
            Provider::Webhook(webhook) => Some(webhook.token.as_ref()?.secret()),
            _ => None,
        });
        let scalers =
            self.services.values().filter_map(|service| service.scaling.as_ref()?.token());
        let webhooks = webhooks.chain(scalers.map(super::Token::secret));
        let key = self.audit.key.iter().map(|key| &key.secret);
        let alerts = self.alerts.webhook.as_ref();
        let told = alerts.and_then(|webhook| webhook.token.as_ref()).map(crate::Token::secret);
        // Whatever they are called: nothing but a secret or a name is put there.
        let headers = alerts.into_iter().flat_map(|webhook| webhook.headers.values());
        found.extend(headers.filter(|value| value.len() >= 8).cloned());
        found.extend(
            tokens.chain(webhooks).chain(key).chain(told).map(|secret| secret.expose().to_owned()),
        );
        let plain = serde_json::to_value(self).expect("plain values have a form in JSON");
        let mut covered = plain.clone();
        cover_secrets(&mut covered);
        differing("", &plain, &covered, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Collects what of `plain` is covered in `covered`, where it is likely to be a secret.
fn differing(name: &str, plain: &Value, covered: &Value, found: &mut Vec<String>) {
    match (plain, covered) {
        (Value::Object(plain), Value::Object(covered)) => {
            for (key, value) in plain {
                let other = covered.get(key).unwrap_or(&Value::Null);
                // A pod's variables are pairs of a name and a value.
                let name = match (key.as_str(), plain.get("name").and_then(Value::as_str)) {
                    ("value", Some(name)) => name,
                    (key, _) => key,
                };
                differing(name, value, other, found);
            }
        }
        (Value::Array(plain), Value::Array(covered)) => {
            // Of words of a command those are covered that follow a flag named like a secret.
            for (value, other) in plain.iter().zip(covered) {
                differing("secret", value, other, found);
            }
        }
        (Value::String(plain), Value::String(covered)) if covered == MASK => {
            note(is_secret(name), plain, found);
        }
        (Value::String(plain), Value::String(covered)) if plain != covered => {
            for (word, shown) in plain.split(' ').zip(covered.split(' ')) {
                let before = shown.strip_suffix(MASK).unwrap_or_default();
                if shown != word {
                    note(true, word.strip_prefix(before).unwrap_or(word), found);
                }
            }
        }
        (Value::String(plain), _) => note_password(plain, found),
        _ => {}
    }
}

/// Notes a value, with the password of an address in it, which may be told alone.
fn note(named: bool, value: &str, found: &mut Vec<String>) {
    note_password(value, found);
    if value.len() >= NAMED_SECRET && (named || !is_plain(value)) {
        found.push(value.to_owned());
    }
}

/// Notes the password in an address such as `http://name:password@host`.
fn note_password(value: &str, found: &mut Vec<String>) {
    for (_, rest) in value.match_indices("://").map(|(at, mark)| value.split_at(at + mark.len())) {
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
        if let Some((_, password)) = password.filter(|(_, text)| text.len() >= NAMED_SECRET) {
            found.push(password.to_owned());
        }
    }
}

/// Whether a value that is not named like a secret is most likely none, and may stand in any other
/// text by right: an address, a path, a name, what is filled in for each instance.
fn is_plain(value: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '_' | '.');
    value.len() < UNNAMED_SECRET
        || value.contains('{')
        || value.starts_with(['/', '.'])
        || value.parse::<std::net::IpAddr>().is_ok()
        || value.parse::<std::net::SocketAddr>().is_ok()
        || value.len() < 2 * UNNAMED_SECRET && value.chars().all(word)
}

/// Fewest bytes of a value that is covered in other texts, named like a secret and not.
const NAMED_SECRET: usize = 4;
const UNNAMED_SECRET: usize = 8;

/// Covers the environment of a pod's containers, and what flags of their commands have for secrets.
fn cover_pod(spec: &mut Value) {
    for kind in ["containers", "initContainers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            let env = container.get_mut("env").and_then(Value::as_array_mut);
            for one in env.into_iter().flatten() {
                if let Some(value) = one.get_mut("value") {
                    *value = Value::String(MASK.to_owned());
                }
            }
            for words in ["command", "args"] {
                let words = container.get_mut(words).and_then(Value::as_array_mut);
                cover_flags(words.map_or(&mut [][..], |words| words));
            }
        }
    }
}

/// Covers the values of flags that are named like secrets: `--token=x`, `--token x`, `TOKEN=x`.
fn cover_flags(words: &mut [Value]) {
    let mut covered = false;
    for word in words {
        let Value::String(text) = word else { continue };
        let flag = text.starts_with('-');
        // A secret may begin with a dash, as a base64 one for the web may.
        if std::mem::take(&mut covered) && !text.starts_with("--") {
            MASK.clone_into(text);
            continue;
        }
        match text.split_once('=') {
            Some((name, _)) if is_secret(name) => *text = format!("{name}={MASK}"),
            Some(_) => {}
            None => covered = flag && is_secret(text),
        }
    }
}

/// Whether a flag or variable of this name is likely to have a secret for its value.
fn is_secret(name: &str) -> bool {
    !name.contains(char::is_whitespace) && speaks_of_secrets(name)
}

/// Whether a line of a configuration may hold a secret, so that errors do not quote it.
pub(crate) fn may_hold_secret(line: &str) -> bool {
    let has_env = line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "env");
    has_env || line.contains("://") && line.contains('@') || speaks_of_secrets(line)
}

fn speaks_of_secrets(text: &str) -> bool {
    const WORDS: [&str; 7] =
        ["token", "password", "passwd", "passphrase", "secret", "apikey", "credential"];
    let plain = |c: &char| !matches!(c, '-' | '_');
    let text: String = text.chars().filter(plain).collect::<String>().to_ascii_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_named_like_secrets_are_covered_and_all_else_is_shown() {
        let flags = [
            ("./shop", "./shop"),
            ("--port={port}", "--port={port}"),
            ("--token=abc", "--token=***"),
            ("--db-password", "--db-password"),
            ("hunter2", "***"),
            ("--verbose", "--verbose"),
            ("API_KEY=k", "API_KEY=***"),
            ("--secret", "--secret"),
            ("--port", "--port"),
            ("80", "80"),
            ("-c", "-c"),
            ("echo token=x y", "echo token=x y"),
            ("tokens.txt", "tokens.txt"),
            ("--password", "--password"),
            ("-s3cret", "***"),
        ];
        let mut command: Vec<_> = flags.iter().map(|(given, _)| Value::from(*given)).collect();
        cover_flags(&mut command);
        let shown: Vec<_> = flags.iter().map(|(_, shown)| Value::from(*shown)).collect();
        assert_eq!(command, shown);
    }
}
