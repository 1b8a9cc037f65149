//! Secrets of the configuration, and texts without them: what providers, engines and commands say
//! may repeat what they were given.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use foreshadow_config::Config;

/// What stands in for a secret.
const MASK: &str = "***";
/// Secrets that are known at once; the oldest go. A reload adds what it brings, and those before
/// stay: instances live on that were given them.
const MOST: usize = 4_096;

/// Log lines are written from everywhere, so this is of the process, as the log is.
static KNOWN: LazyLock<ArcSwap<Known>> = LazyLock::new(ArcSwap::default);

/// Every form of every secret, the longest first, so that none is covered in part by another.
#[derive(Default)]
struct Known {
    /// In the order they came to be known.
    secrets: Vec<String>,
    forms: Vec<String>,
}

/// Has the secrets of `config` covered from now on.
pub(crate) fn learn(config: &Config) {
    let found = config.secrets();
    KNOWN.rcu(|known| {
        let mut secrets: Vec<String> =
            known.secrets.iter().filter(|s| !found.contains(s)).cloned().collect();
        secrets.extend(found.iter().cloned());
        let surplus = secrets.len().saturating_sub(MOST);
        secrets.drain(..surplus);
        Arc::new(Known { forms: forms(&secrets), secrets })
    });
}

/// `text` with every known secret covered.
pub(crate) fn cover(text: &str) -> Cow<'_, str> {
    KNOWN.load().cover(text)
}

/// How often a text may be quoted within a quoted text: a command's words in an error, the error in
/// a field of a log line, the line in JSON.
const QUOTES: usize = 3;

/// As they are, and as they stand within quotes of Rust and JSON.
fn forms(secrets: &[String]) -> Vec<String> {
    let inner = |text: String| text[1..text.len() - 1].to_owned();
    let quote = |text: &String| {
        let json = serde_json::Value::from(text.as_str()).to_string();
        [inner(format!("{text:?}")), inner(json)]
    };
    let mut forms = secrets.to_vec();
    let mut newest = forms.clone();
    for _ in 0..QUOTES {
        newest = newest.iter().flat_map(quote).filter(|form| !forms.contains(form)).collect();
        forms.extend(newest.iter().cloned());
    }
    forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

impl Known {
    fn cover<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut covered = Cow::Borrowed(text);
        for form in &self.forms {
            if covered.contains(form.as_str()) {
                covered = Cow::Owned(covered.replace(form.as_str(), MASK));
            }
        }
        covered
    }
}

/// Standard error without secrets: each write is one line of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CoveredStderr;

impl std::io::Write for CoveredStderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut stderr = std::io::stderr().lock();
        match std::str::from_utf8(line) {
            Ok(text) => stderr.write_all(cover(text).as_bytes())?,
            Err(_) => stderr.write_all(cover(&String::from_utf8_lossy(line)).as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_covered_and_a_longer_one_whole() {
        let secrets = ["hunter22", "hunter22-and-more", "a\"b\\c\nd-e-f"].map(str::to_owned);
        let known = Known { forms: forms(&secrets), secrets: secrets.to_vec() };
        let said = format!("it printed {:?} with hunter22-and-more; hunter22", secrets[2]);
        assert_eq!(known.cover(&said), "it printed \"***\" with ***; ***");
        let json = serde_json::json!({ "said": secrets[2] }).to_string();
        assert_eq!(known.cover(&json), r#"{"said":"***"}"#);
        let nested = serde_json::json!({ "error": format!("{said:?}") });
        assert!(!known.cover(&nested.to_string()).contains("d-e-f"), "{nested}");
        assert!(matches!(known.cover("nothing of it"), Cow::Borrowed("nothing of it")));
    }
}
