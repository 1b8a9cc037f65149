//! A predictive rule as written.

use std::borrow::Cow;

use foreshadow_control::{MAX_RULE_BYTES, Rule};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Read;
use crate::reader::{Problem, Reader, Scalar};
use crate::tree::Node;

/// A rule in its own language.
#[derive(Debug)]
pub(crate) struct RuleText(pub(crate) Rule);

const FORM: &str = "a rule such as \"demand > 500rps within 5m for 3 ticks -> activate 2\"";

impl Read for RuleText {
    fn form() -> String {
        FORM.to_owned()
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        let scalar = r.scalar(node, FORM)?;
        let Scalar::Text(text, filled) = &scalar else {
            r.wrong(node, FORM);
            return None;
        };
        let error = match text.parse::<Rule>() {
            Ok(rule) => return Some(Self(rule)),
            Err(error) => error,
        };
        let mut problem = Problem::new(error.found.clone(), error.expected.clone());
        problem.nearest.clone_from(&error.nearest);
        problem.help.clone_from(&error.help);
        match r.span_within(&node.span, text, &error.at).filter(|_| !filled) {
            Some(span) => r.fault(&span, problem),
            None => {
                problem.found = format!("{} in column {} of the rule", error.found, error.column);
                r.fault(&node.span, problem);
            }
        }
        None
    }
}

impl JsonSchema for RuleText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RuleText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "->|\\$\\{", "maxLength": MAX_RULE_BYTES })
    }
}
