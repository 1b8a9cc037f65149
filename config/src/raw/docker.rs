//! Containers of a Docker Engine as written.

use std::net::IpAddr;

use super::leaf::leaf;
use super::read::table;
use super::{
    Bytes, Count, Either, Factor, FilePath, List, Map, OneOf, RawCpu, Switch, Text, Time, Word,
};
use crate::{EngineEndpoint, Pull};

leaf! {
    /// Where an engine is.
    EngineText(EngineEndpoint), "unix:///PATH or tcp://HOST:PORT, as in DOCKER_HOST",
    { "type": "string", "pattern": "^(tcp://.|unix:///.)|\\$\\{" },
    |scalar| scalar.text().and_then(EngineEndpoint::read),
    |wrong| wrong.text().and_then(|text| match text {
        _ if text.starts_with("ssh://") => Some(
            "ssh is not spoken here; forward the socket (ssh -L) and name that"
        ),
        _ if text.starts_with('/') => Some("write unix:// before a path"),
        _ if text.starts_with("https://") => Some("write tcp:// and add tls"),
        _ => None,
    })
}

leaf! {
    /// The name of something of an engine's: a network, an alias, a container.
    EngineName(String), "a name of letters, digits and _.- that begins with a letter or digit",
    { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$|\\$\\{" },
    |scalar| scalar.text().filter(|text| is_engine_name(text)).map(str::to_owned)
}

pub(crate) fn is_engine_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

leaf! {
    /// An address of a machine.
    Address(IpAddr), "an IP address, such as 127.0.0.1",
    { "type": "string", "pattern": "^[0-9a-fA-F.:]+$|\\$\\{" },
    |scalar| scalar.text().and_then(|text| text.parse().ok())
}

table! {
    /// Containers of a Docker Engine. In command and env, {port}, {id} and {service} stand for those
    /// of the instance.
    RawDocker {
        /// The image, as the engine knows it.
        image: Text = required,
        /// When the image is fetched from its registry: never, where it is missing, or always,
        /// before an instance is made. Default: never.
        pull: OneOf<Pull>,
        /// Where the engine is: unix:///PATH or tcp://HOST:PORT (2375 where no port is given, 2376
        /// with tls). Default: unix:///var/run/docker.sock.
        endpoint: EngineText,
        /// For an engine behind TLS, which knows us by a certificate. Default: none.
        tls: RawEngineTls,
        /// Replaces the image's own command. Default: that of the image.
        command: List<Word>,
        /// Added to the image's environment; PORT is always set.
        env: Map<Word>,
        /// The port it serves on within the container.
        port: Count = required,
        /// Publishes that port on this address of the engine's machine, at a port that the engine
        /// chooses. Default: not published; it is reached by the container's own address.
        publish: Address,
        /// The networks it is in. Default: the engine's default one, or those of mirror.
        networks: List<EngineName>,
        /// What it is called in its networks once it is activated.
        aliases: List<EngineName>,
        /// The container of a primary, by name: its networks and aliases are added to those above.
        mirror: EngineName,
        /// Keeps it in an internal network, which has no way out, until it is activated. Default: on
        /// with mirror or aliases, else off.
        isolate: Switch,
        /// What of the engine's machine it sees.
        mounts: List<RawMount>,
        /// The user it runs as, by name or number, perhaps with :GROUP. Default: that of the image.
        user: Word,
        /// Whether a small init passes signals on and reaps. Default: off.
        init: Switch,
        /// What it is limited to at full size.
        limits: RawContainerLimits,
        /// Where its output goes. Default: as the engine is set.
        log: RawContainerLog,
        /// Longest time for one answer of the engine, 100ms to 1h; ending has stop_timeout on top,
        /// pulling ten times as long. Default: 30s.
        timeout: Time,
        /// Longest time from its making until its health check passes, up to 1h. Default: 30s.
        start_timeout: Time,
        /// Time between SIGTERM and SIGKILL, up to 1h. Default: 10s.
        stop_timeout: Time,
        /// CPU by tier.
        cpu: RawCpu,
    }
}

table! {
    /// Files in PEM form, as docker has them in DOCKER_CERT_PATH.
    RawEngineTls {
        /// Who may have signed the engine's certificate, beside what the system trusts.
        ca: FilePath = required,
        /// Our own certificate.
        cert: FilePath = required,
        /// The key of our certificate.
        key: FilePath = required,
    }
}

table! {
    /// A directory, file or volume of the engine's machine.
    RawMount {
        /// An absolute path, or the name of a volume.
        source: Text = required,
        /// Where it is in the container: an absolute path.
        target: Text = required,
        /// Whether it can be written. Default: off.
        write: Switch,
    }
}

table! {
    /// What a container is limited to. Default: nothing.
    RawContainerLimits {
        /// Cores at full size, 0.01 to 1024.
        cpus: Factor,
        /// Memory at full size, 6MiB or more; there is no swap beyond it.
        memory: Bytes,
        /// Memory at tier warm, less than memory; it is set where what is in use leaves a quarter of
        /// it free.
        warm_memory: Bytes,
        /// Its threads and processes together, 1 or more.
        tasks: Count,
        /// Resource limits by their names in lower case, such as nofile: one figure, or soft and hard.
        ulimits: Map<Either<Count, RawUlimit>>,
    }
}

table! {
    /// A resource limit.
    RawUlimit {
        /// What it begins with.
        soft: Count = required,
        /// What it can be raised to.
        hard: Count = required,
    }
}

table! {
    /// Where the output of a container goes.
    RawContainerLog {
        /// A driver of the engine, such as local or json-file.
        driver: EngineName = required,
        /// Options of the driver, such as max-size: 10m.
        options: Map<Word>,
    }
}
