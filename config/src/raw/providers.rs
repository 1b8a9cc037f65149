//! Providers of shadow instances as written.

use super::read::{Keys, Read, field, object, property, table};
use super::{
    Bytes, Count, Either, EndpointText, FilePath, List, Map, Mask, OneOf, Ports, RawCpu, RawDocker,
    RawKubernetes, RawToken, RawVm, Switch, Time, TokenText, Word,
};
use crate::reader::{Field, Problem, Reader};
use crate::tree::Node;
use crate::{Environment, Network, Step};

/// What makes shadow instances: exactly one of its tables.
#[derive(Debug, Default)]
pub(crate) enum RawProvider {
    #[default]
    None,
    Process(Box<Field<RawProcess>>),
    Docker(Box<Field<RawDocker>>),
    Kubernetes(Box<Field<RawKubernetes>>),
    Vm(Box<Field<RawVm>>),
    Exec(Box<Field<RawExec>>),
    Webhook(Box<Field<RawWebhook>>),
}

const KINDS: [&str; 6] = ["process", "docker", "kubernetes", "vm", "exec", "webhook"];
const ONE: &str = "one of process, docker, kubernetes, vm, exec, webhook";

impl Read for RawProvider {
    fn form() -> String {
        format!("a table with {ONE}")
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        let mut keys = Keys::new(&KINDS);
        let mut provider = Self::None;
        let mut first: Option<&str> = None;
        for entry in r.entries(node, &Self::form())? {
            let found = match entry.key.as_str() {
                "process" => Self::Process(Box::new(field(entry, r))),
                "docker" => Self::Docker(Box::new(field(entry, r))),
                "kubernetes" => Self::Kubernetes(Box::new(field(entry, r))),
                "vm" => Self::Vm(Box::new(field(entry, r))),
                "exec" => Self::Exec(Box::new(field(entry, r))),
                "webhook" => Self::Webhook(Box::new(field(entry, r))),
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
            provider = found;
        }
        if first.is_none() && !keys.saw_unknown() {
            let place = r.lead();
            r.report(&place, Problem::new("no provider", ONE));
        }
        Some(provider)
    }
}

impl schemars::JsonSchema for RawProvider {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Provider".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut properties = serde_json::Map::new();
        let process = generator.subschema_for::<RawProcess>();
        property(&mut properties, "process", process, &["Processes on this machine."]);
        let docker = generator.subschema_for::<RawDocker>();
        property(&mut properties, "docker", docker, &["Containers of a Docker Engine."]);
        let kubernetes = generator.subschema_for::<RawKubernetes>();
        property(&mut properties, "kubernetes", kubernetes, &["Pods of a Kubernetes cluster."]);
        let vm = generator.subschema_for::<RawVm>();
        property(&mut properties, "vm", vm, &["Virtual machines on this machine, in QEMU."]);
        let exec = generator.subschema_for::<RawExec>();
        property(&mut properties, "exec", exec, &["A command that makes them, docs/providers.md."]);
        let webhook = generator.subschema_for::<RawWebhook>();
        let text = "An HTTP endpoint that makes them, docs/providers.md.";
        property(&mut properties, "webhook", webhook, &[text]);
        let text = ["What makes shadow instances: exactly one of these."];
        let mut schema = object(properties, &[], &text);
        schema.insert("maxProperties".to_owned(), 1.into());
        schema.insert("minProperties".to_owned(), 1.into());
        schema
    }
}

table! {
    /// Processes on this machine. In command and env, {port}, {id}, {service} and {address} stand
    /// for those of the instance; {port} or {address} must be there.
    RawProcess {
        /// The program and its arguments.
        command: List<Word> = required,
        /// Working directory. Default: that of Foreshadow.
        dir: FilePath,
        /// Environment variables set beyond what environment says.
        env: Map<Word>,
        /// inherit passes Foreshadow's own environment on; clean passes PATH, LANG, LC_ALL and TZ
        /// only. Default: inherit.
        environment: OneOf<Environment>,
        /// The user it runs as, by name or number, without further groups; Foreshadow must be root
        /// or have CAP_SETUID, CAP_SETGID and CAP_KILL. Default: that of Foreshadow.
        user: Word,
        /// The group it runs as, by name or number. Default: that of the user.
        group: Word,
        /// File mode creation mask in octal and quotes, such as '027'. Default: that of Foreshadow.
        umask: Mask,
        /// Whether it can gain no rights by running others' programs (PR_SET_NO_NEW_PRIVS).
        /// Default: off.
        no_new_privileges: Switch,
        /// shared is Foreshadow's own network. private has nothing but loopback, and the instance is
        /// handed its listening socket as descriptor 3 (LISTEN_FDS); Foreshadow must have
        /// CAP_SYS_ADMIN. Default: shared.
        network: OneOf<Network>,
        /// What it is limited to, beside the CPU.
        limits: RawProcessLimits,
        /// How much of what it writes is kept, in `logs` of the state directory.
        output: RawOutput,
        /// Longest time from its start until its health check passes, up to 1h. Default: 30s.
        start_timeout: Time,
        /// Time between SIGTERM and SIGKILL, up to 1h. Default: 10s.
        stop_timeout: Time,
        /// Ports given to instances. Default: 20000-29999.
        ports: Ports,
        /// CPU by tier.
        cpu: RawCpu,
    }
}

table! {
    /// What an instance is limited to. A limit that this machine has no means for is an error when an
    /// instance is made. Default: nothing.
    RawProcessLimits {
        /// Open files at once, 16 or more.
        open_files: Count,
        /// Size of a core dump; 0B for none.
        core: Bytes,
        /// Address space, 1MiB or more.
        address_space: Bytes,
        /// Processes of its user on the whole machine, 1 or more.
        processes: Count,
        /// Memory of all its processes together, 1MiB or more; takes a memory control group.
        memory: Bytes,
        /// Its threads and processes together, 1 or more; takes a pids control group.
        tasks: Count,
    }
}

table! {
    /// How much of what an instance writes is kept.
    RawOutput {
        /// A file that has grown beyond this is moved aside, 4KiB or more. Default: 8MiB.
        max_size: Bytes,
        /// How many files moved aside are kept, up to 100. Default: 1.
        keep: Count,
    }
}

table! {
    /// A command that is run once per step, with the step as its last argument and JSON on standard
    /// input and output; docs/providers.md is its contract.
    RawExec {
        /// The program and its arguments.
        command: List<Word> = required,
        /// Working directory. Default: that of Foreshadow.
        dir: FilePath,
        /// Environment variables set beyond Foreshadow's own.
        env: Map<Word>,
        /// The steps it can do beyond making, listing and ending. Default: none of them.
        can: List<OneOf<Step>>,
        /// Longest time for a step, 100ms to 1h; ending has stop_timeout on top. Default: 30s.
        timeout: Time,
        /// Time between two looks at what runs, 100ms to 10m. Default: 1s.
        poll: Time,
        /// Longest time from its making until its health check passes, up to 1h. Default: 30s.
        start_timeout: Time,
        /// Time an instance has to end by itself, up to 1h. Default: 10s.
        stop_timeout: Time,
        /// CPU by tier, where it can resize.
        cpu: RawCpu,
    }
}

table! {
    /// An HTTP endpoint; docs/provider.openapi.json is its contract.
    RawWebhook {
        /// Where it is: http://HOST:PORT, perhaps with a path, or unix:/PATH.
        url: EndpointText = required,
        /// The bearer token that is sent: a table that says where to find it, or the token itself.
        /// Services that share an endpoint share its token. Default: none.
        token: Either<TokenText, RawToken>,
        /// The steps it can do beyond making, listing and ending. Default: none of them.
        can: List<OneOf<Step>>,
        /// For functions: the concurrency kept warm at each tier. Default: it makes instances.
        concurrency: RawConcurrency,
        /// Longest time for one answer, 100ms to 1h; ending has stop_timeout on top. Default: 30s.
        timeout: Time,
        /// Time between two looks at what runs, 100ms to 10m, where lists do not wait for news.
        /// Default: 1s.
        poll: Time,
        /// Longest time from its making until its health check passes, up to 1h. Default: 30s.
        start_timeout: Time,
        /// Time an instance has to end by itself, up to 1h. Default: 10s.
        stop_timeout: Time,
        /// CPU by tier, where it can resize.
        cpu: RawCpu,
    }
}

table! {
    /// Requests at once that a function is kept warm for, by tier.
    RawConcurrency {
        /// While parked. Default: 0.
        shadow: Count,
        /// At tier warm, 1 or more. Default: 1.
        warm: Count,
        /// At tier full and while serving, at least that of warm.
        full: Count = required,
    }
}
