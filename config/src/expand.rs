//! `${VAR}` and `${VAR:-default}` in values; `$$` is a dollar sign, and any other `$` is itself.

use crate::Env;

/// A text after variables were filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expanded {
    /// There was nothing to do.
    Unchanged,
    /// The new text, and where a variable was in it, what was written without the defaults.
    Text { text: String, written: Option<String> },
    /// This variable is not set and has no default.
    Unset(String),
    /// This part is no reference to a variable.
    Malformed(String),
}

/// Fills in variables, once: a value that itself holds `${` is left alone.
pub(crate) fn expand(text: &str, env: Env) -> Expanded {
    if !text.contains('$') {
        return Expanded::Unchanged;
    }
    let mut out = String::with_capacity(text.len());
    let mut written = String::with_capacity(text.len());
    let mut filled = false;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        written.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            written.push_str("$$");
            rest = after;
        } else if let Some(reference) = after.strip_prefix('{') {
            let Some((reference, after)) = reference.split_once('}') else {
                // What follows is not shown: it may be the rest of a password.
                return Expanded::Malformed("${ without }".to_owned());
            };
            let (name, default) = match reference.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (reference, None),
            };
            if !is_name(name) {
                return Expanded::Malformed(format!("${{{reference}}}"));
            }
            // As in a shell, `:-` also stands in for a variable that is set to nothing.
            match (env(name).filter(|value| default.is_none() || !value.is_empty()), default) {
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => return Expanded::Unset(name.to_owned()),
            }
            filled = true;
            written.push_str(&format!("${{{name}}}"));
            rest = after;
        } else {
            out.push('$');
            written.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    written.push_str(rest);
    Expanded::Text { text: out, written: filled.then_some(written) }
}

/// Writes a text so that [`expand`] gives it back.
pub(crate) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

/// Whether `name` can be the name of an environment variable.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "ODD" => Some("${PORT}".to_owned()),
            _ => None,
        }
    }

    fn filled(text: &str, written: &str) -> Expanded {
        Expanded::Text { text: text.to_owned(), written: Some(written.to_owned()) }
    }

    #[test]
    fn variables_are_filled_in() {
        assert_eq!(expand("plain", &env), Expanded::Unchanged);
        assert_eq!(expand("a:${PORT}/b", &env), filled("a:8080/b", "a:${PORT}/b"));
        assert_eq!(expand("${PORT:-1}${NONE:-2}", &env), filled("80802", "${PORT}${NONE}"));
        assert_eq!(
            expand("${EMPTY}|${EMPTY:-x}|${NONE:-}", &env),
            filled("|x|", "${EMPTY}|${EMPTY}|${NONE}")
        );
        assert_eq!(expand("${ODD}", &env), filled("${PORT}", "${ODD}"));
    }

    #[test]
    fn dollar_signs_can_be_written() {
        let text = |text: &str| Expanded::Text { text: text.to_owned(), written: None };
        assert_eq!(expand("$${PORT}", &env), text("${PORT}"));
        assert_eq!(expand("$5 $", &env), text("$5 $"));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(expand("${NONE}", &env), Expanded::Unset("NONE".to_owned()));
        assert_eq!(expand("${A B}", &env), Expanded::Malformed("${A B}".to_owned()));
        assert_eq!(expand("x${PORT", &env), Expanded::Malformed("${ without }".to_owned()));
        assert_eq!(expand("${}", &env), Expanded::Malformed("${}".to_owned()));
    }

    proptest! {
        #[test]
        fn an_escaped_text_comes_back(text in ".{0,30}") {
            let back = match expand(&escape(&text), &env) {
                Expanded::Unchanged => text.clone(),
                Expanded::Text { text, .. } => text,
                other => format!("{other:?}"),
            };
            prop_assert_eq!(back, text);
        }
    }
}
