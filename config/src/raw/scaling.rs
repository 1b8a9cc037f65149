//! How primaries are scaled, as written.

use super::read::{Keys, Read, field, object, property, table};
use super::{
    Count, Either, EndpointText, FilePath, List, Map, ObjectName, RawToken, Share, Time, TokenText,
    Word,
};
use crate::reader::{Field, Problem, Reader};
use crate::tree::Node;

table! {
    /// How the primaries themselves are scaled while shadows bridge, see docs/scaling.md.
    RawScaling {
        /// What scales them.
        by: RawScaler = required,
        /// Never fewer, up to 1000. Default: the number that was found before the first order.
        min: Count,
        /// Never more, 1 to 1000.
        max: Count = required,
        /// Share of its capacity that a primary is to be filled to, up to target_utilisation, so that
        /// shadows step back. Default: target_utilisation.
        target: Share,
        /// From an order to primaries that are ready, 1s to 1h, until that was seen. Default: 1m.
        lead_time: Time,
        /// Fewer must have been needed for this long before one goes, 1s to 1d. Default: 5m.
        stabilisation: Time,
        /// Least time between two steps down, up to 1d. Default: 1m.
        cooldown: Time,
        /// Most primaries that are added before those asked for are ready, 1 to 1000. Default: 4.
        max_step: Count,
        /// How long a number that somebody else has set is respected, up to 1d; twice as long each
        /// time that orders are undone, up to 1h. Default: 10m.
        respect: Time,
        /// Time between two looks at what primaries there are, 100ms to 10m. Default: 2s; 10s for
        /// kubernetes, where changes of pods are heard of.
        poll: Time,
    }
}

/// What scales primaries: exactly one of its tables.
#[derive(Debug, Default)]
pub(crate) enum RawScaler {
    #[default]
    None,
    Webhook(Box<Field<RawScalerWebhook>>),
    Exec(Box<Field<RawScalerExec>>),
    Kubernetes(Box<Field<RawScalerKubernetes>>),
}

const KINDS: [&str; 3] = ["webhook", "exec", "kubernetes"];
const ONE: &str = "one of webhook, exec, kubernetes";

impl Read for RawScaler {
    fn form() -> String {
        format!("a table with {ONE}")
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        let mut keys = Keys::new(&KINDS);
        let mut scaler = Self::None;
        let mut first: Option<&str> = None;
        for entry in r.entries(node, &Self::form())? {
            let found = match entry.key.as_str() {
                "webhook" => Self::Webhook(Box::new(field(entry, r))),
                "exec" => Self::Exec(Box::new(field(entry, r))),
                "kubernetes" => Self::Kubernetes(Box::new(field(entry, r))),
                _ => {
                    keys.unknown(entry, r);
                    continue;
                }
            };
            if let Some(first) = first {
                let problem = Problem::new(format!("{} beside {first}", entry.key), ONE);
                r.fault(&entry.key_span, problem);
            }
            first = first.or(Some(&entry.key));
            scaler = found;
        }
        if first.is_none() && !keys.saw_unknown() {
            let place = r.lead();
            r.report(&place, Problem::new("nothing that scales", ONE));
        }
        Some(scaler)
    }
}

impl schemars::JsonSchema for RawScaler {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scaler".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut properties = serde_json::Map::new();
        let webhook = generator.subschema_for::<RawScalerWebhook>();
        property(&mut properties, "webhook", webhook, &["An HTTP endpoint, docs/scaling.md."]);
        let exec = generator.subschema_for::<RawScalerExec>();
        property(&mut properties, "exec", exec, &["A command, docs/scaling.md."]);
        let kubernetes = generator.subschema_for::<RawScalerKubernetes>();
        let text = "A Deployment or StatefulSet, by its scale subresource.";
        property(&mut properties, "kubernetes", kubernetes, &[text]);
        let mut schema = object(properties, &[], &["What scales primaries: exactly one of these."]);
        schema.insert("maxProperties".to_owned(), 1.into());
        schema.insert("minProperties".to_owned(), 1.into());
        schema
    }
}

table! {
    /// An HTTP endpoint that scales primaries; docs/scaling.openapi.json is its contract.
    RawScalerWebhook {
        /// Where it is: http://HOST:PORT, perhaps with a path, or unix:/PATH.
        url: EndpointText = required,
        /// The bearer token that is sent: a table that says where to find it, or the token itself.
        /// Default: none.
        token: Either<TokenText, RawToken>,
        /// Longest time for one answer, 100ms to 10m. Default: 10s.
        timeout: Time,
    }
}

table! {
    /// A command that scales primaries: it is run with primaries or scale as its last argument and
    /// JSON on standard input and output.
    RawScalerExec {
        /// The program and its arguments.
        command: List<Word> = required,
        /// Working directory. Default: that of Foreshadow.
        dir: FilePath,
        /// Environment variables set beyond Foreshadow's own.
        env: Map<Word>,
        /// Longest time for one run, 100ms to 10m. Default: 10s.
        timeout: Time,
    }
}

table! {
    /// A workload of a Kubernetes cluster; its ready pods are primaries.
    RawScalerKubernetes {
        /// The kubeconfig file that says how the cluster is reached. Default: with the account that
        /// Foreshadow has as a pod of the cluster.
        kubeconfig: FilePath,
        /// One of its contexts. Default: the current one.
        context: Word,
        /// The namespace of the workload.
        namespace: ObjectName = required,
        /// The Deployment that is scaled; or statefulset.
        deployment: ObjectName,
        /// The StatefulSet that is scaled. Instead of deployment.
        statefulset: ObjectName,
        /// The port that its pods serve on.
        port: Count = required,
        /// Longest time for one answer of the API server, 100ms to 10m. Default: 10s.
        timeout: Time,
    }
}
