//! Settings into the bodies of the engine's API.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointSettings, HostConfig, HostConfigLogConfig,
    Mount, MountType, NetworkingConfig, PortBinding, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use foreshadow_control::{InstanceId, ServiceName};

use super::spec::{DockerSpec, MountSpec};
use crate::provider::{CpuShare, CreateRequest};

/// Whose a container is: the same text for the life of a state directory.
pub(super) const OWNER: &str = "foreshadow.owner";
pub(super) const SERVICE: &str = "foreshadow.service";
pub(super) const INSTANCE: &str = "foreshadow.instance";
/// What it is: `shadow`, `network` or `snapshot`.
pub(super) const KIND: &str = "foreshadow.kind";

/// Over which processor time is measured out, in microseconds (the engine's own default).
const PERIOD_US: i64 = 100_000;

/// The name of an instance's container: the engine gives it to one container only.
pub(super) fn container_name(owner: &str, id: InstanceId) -> String {
    format!("foreshadow-{owner}-{id}")
}

/// The name of the network that a service's shadows are in until they are activated.
pub(super) fn isolation_name(owner: &str, service: &ServiceName) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let service: String = service.as_str().chars().map(plain).collect();
    format!("foreshadow-{owner}-{service}")
}

/// The labels of something of ours.
pub(super) fn labels(owner: &str, kind: &str, service: &str) -> HashMap<String, String> {
    [(OWNER, owner), (KIND, kind), (SERVICE, service)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// A filter on what is ours.
pub(super) fn filter(owner: &str, kind: &str) -> HashMap<String, Vec<String>> {
    [("label".to_owned(), vec![format!("{OWNER}={owner}"), format!("{KIND}={kind}")])].into()
}

/// The container of an instance, in the first of its networks; absent: the engine's default one.
pub(super) fn create(
    spec: &DockerSpec,
    owner: &str,
    request: &CreateRequest,
    network: Option<&str>,
) -> ContainerCreateBody {
    let fill = |text: &str| {
        text.replace("{port}", &spec.port.to_string())
            .replace("{id}", &request.id.to_string())
            .replace("{service}", request.service.as_str())
    };
    let mut env: BTreeMap<String, String> = [("PORT".to_owned(), spec.port.to_string())].into();
    env.extend(spec.env.iter().map(|(name, value)| (name.clone(), fill(value))));
    let mut labels = labels(owner, "shadow", request.service.as_str());
    labels.insert(INSTANCE.to_owned(), request.id.to_string());
    let image = request.from.as_ref().map_or(&spec.image, |snapshot| &snapshot.0);
    let command: Vec<String> = spec.command.iter().map(|word| fill(word)).collect();
    let endpoints = network.map(|name| [(name.to_owned(), EndpointSettings::default())].into());
    ContainerCreateBody {
        image: Some(image.clone()),
        cmd: (!command.is_empty()).then_some(command),
        env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        user: spec.user.clone(),
        labels: Some(labels),
        exposed_ports: Some(vec![format!("{}/tcp", spec.port)]),
        host_config: Some(host(spec, network)),
        networking_config: Some(NetworkingConfig { endpoints_config: endpoints }),
        ..ContainerCreateBody::default()
    }
}

fn host(spec: &DockerSpec, network: Option<&str>) -> HostConfig {
    let limits = &spec.limits;
    let published = spec.publish.map(|address| {
        // Port 0 leaves the choice to the engine, which knows what is free.
        let binding =
            PortBinding { host_ip: Some(address.to_string()), host_port: Some("0".to_owned()) };
        [(format!("{}/tcp", spec.port), Some(vec![binding]))].into()
    });
    let log = spec.log.as_ref().map(|log| HostConfigLogConfig {
        typ: Some(log.driver.clone()),
        config: Some(log.options.clone().into_iter().collect()),
    });
    let ulimit = |(name, (soft, hard)): (&String, &(u64, u64))| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(signed(*soft)),
        hard: Some(signed(*hard)),
    };
    let ulimits: Vec<ResourcesUlimits> = limits.ulimits.iter().map(ulimit).collect();
    HostConfig {
        network_mode: network.map(str::to_owned),
        port_bindings: published,
        mounts: (!spec.mounts.is_empty()).then(|| spec.mounts.iter().map(mount).collect()),
        // Whoever started it again would not know of its tier.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        init: spec.init.then_some(true),
        log_config: log,
        ulimits: (!ulimits.is_empty()).then_some(ulimits),
        pids_limit: limits.tasks.map(signed),
        memory: limits.memory_bytes.map(signed),
        memory_swap: limits.memory_bytes.map(signed),
        cpu_period: limits.cpu_percent.map(|_| PERIOD_US),
        cpu_quota: limits.cpu_percent.map(quota_us),
        ..HostConfig::default()
    }
}

fn mount(spec: &MountSpec) -> Mount {
    let is_path = spec.source.starts_with('/');
    Mount {
        source: Some(spec.source.clone()),
        target: Some(spec.target.clone()),
        typ: Some(if is_path { MountType::BIND } else { MountType::VOLUME }),
        read_only: Some(!spec.write),
        ..Mount::default()
    }
}

/// The processor time of a share; unlimited is what the settings give at full size.
pub(super) fn cpu(spec: &DockerSpec, share: CpuShare) -> ContainerUpdateBody {
    let full = spec.limits.cpu_percent;
    let quota = match share {
        CpuShare::Percent(percent) => quota_us(full.map_or(percent, |full| full.min(percent))),
        CpuShare::Unlimited => full.map_or(-1, quota_us),
    };
    ContainerUpdateBody {
        cpu_period: Some(PERIOD_US),
        cpu_quota: Some(quota),
        ..ContainerUpdateBody::default()
    }
}

/// A limit of memory, without swap beyond it.
pub(super) fn memory(bytes: u64) -> ContainerUpdateBody {
    ContainerUpdateBody {
        memory: Some(signed(bytes)),
        memory_swap: Some(signed(bytes)),
        ..ContainerUpdateBody::default()
    }
}

/// The kernel takes no less than 1 ms (Documentation/scheduler/sched-bwc).
fn quota_us(percent: u32) -> i64 {
    (i64::from(percent) * PERIOD_US / 100).max(1_000)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An image's name with the tag that goes without saying: without one an engine would fetch all.
pub(super) fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use foreshadow_control::Tier;

    use super::*;
    use crate::docker::spec::{ContainerLimits, LogSpec};
    use crate::provider::Snapshot;

    fn request(from: Option<&str>) -> CreateRequest {
        CreateRequest {
            id: InstanceId(7),
            service: ServiceName::from("shop"),
            tier: Tier::Warm,
            from: from.map(|name| Snapshot(name.to_owned())),
        }
    }

    fn json(spec: &DockerSpec, network: Option<&str>) -> serde_json::Value {
        serde_json::to_value(create(spec, "0a1b", &request(None), network)).unwrap()
    }

    #[test]
    fn a_container_is_labelled_told_its_port_and_never_started_by_others() {
        let spec = DockerSpec {
            image: "shop:1".to_owned(),
            command: vec!["./shop".to_owned(), "--port={port}".to_owned(), "{id}".to_owned()],
            env: vec![("NAME".to_owned(), "{service}-{id}".to_owned())],
            ..DockerSpec::default()
        };
        let body = json(&spec, Some("back"));
        assert_eq!(body["Image"], "shop:1");
        assert_eq!(body["Cmd"], serde_json::json!(["./shop", "--port=8080", "i7"]));
        assert_eq!(body["Env"], serde_json::json!(["NAME=shop-i7", "PORT=8080"]));
        let labels = serde_json::json!({
            OWNER: "0a1b", SERVICE: "shop", INSTANCE: "i7", KIND: "shadow",
        });
        assert_eq!(body["Labels"], labels);
        assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], "no");
        assert_eq!(body["HostConfig"]["NetworkMode"], "back");
        assert_eq!(body["HostConfig"].get("Init"), None, "the engine's own setting stays");
        assert_eq!(container_name("0a1b", InstanceId(7)), "foreshadow-0a1b-i7");
    }

    #[test]
    fn limits_mounts_ports_and_logs_are_as_configured() {
        let spec = DockerSpec {
            publish: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            mounts: vec![
                MountSpec { source: "/srv".into(), target: "/data".into(), write: false },
                MountSpec { source: "cache".into(), target: "/cache".into(), write: true },
            ],
            user: Some("1000:1000".to_owned()),
            init: true,
            limits: ContainerLimits {
                cpu_percent: Some(150),
                memory_bytes: Some(64 << 20),
                warm_memory_bytes: None,
                tasks: Some(50),
                ulimits: [("nofile".to_owned(), (1_024, 4_096))].into(),
            },
            log: Some(LogSpec {
                driver: "local".to_owned(),
                options: [("max-size".to_owned(), "1m".to_owned())].into(),
            }),
            ..DockerSpec::default()
        };
        let body = json(&spec, None);
        let host = &body["HostConfig"];
        assert_eq!(body["User"], "1000:1000");
        assert_eq!(host["PortBindings"]["8080/tcp"][0]["HostIp"], "127.0.0.1");
        assert_eq!(host["PortBindings"]["8080/tcp"][0]["HostPort"], "0");
        assert_eq!(
            (&host["Mounts"][0]["Type"], &host["Mounts"][0]["ReadOnly"]),
            (&"bind".into(), &true.into())
        );
        assert_eq!(
            (&host["Mounts"][1]["Type"], &host["Mounts"][1]["ReadOnly"]),
            (&"volume".into(), &false.into())
        );
        assert_eq!((&host["CpuQuota"], &host["CpuPeriod"]), (&150_000.into(), &100_000.into()));
        assert_eq!(
            (&host["Memory"], &host["MemorySwap"]),
            (&(64 << 20).into(), &(64 << 20).into())
        );
        assert_eq!((&host["PidsLimit"], &host["Init"]), (&50.into(), &true.into()));
        assert_eq!(
            host["Ulimits"][0],
            serde_json::json!({"Name": "nofile", "Soft": 1024, "Hard": 4096})
        );
        assert_eq!(
            host["LogConfig"],
            serde_json::json!({"Type": "local", "Config": {"max-size": "1m"}})
        );
    }

    #[test]
    fn a_share_is_a_quota_and_unlimited_gives_what_full_size_is() {
        let free = DockerSpec::default();
        assert_eq!(cpu(&free, CpuShare::Percent(10)).cpu_quota, Some(10_000));
        assert_eq!(cpu(&free, CpuShare::Unlimited).cpu_quota, Some(-1));
        let limits = ContainerLimits { cpu_percent: Some(50), ..ContainerLimits::default() };
        let held = DockerSpec { limits, ..DockerSpec::default() };
        assert_eq!(cpu(&held, CpuShare::Percent(80)).cpu_quota, Some(50_000));
        assert_eq!(cpu(&held, CpuShare::Unlimited).cpu_quota, Some(50_000));
        assert_eq!(quota_us(0), 1_000);
    }

    #[test]
    fn a_snapshot_takes_the_place_of_the_image_and_tags_go_without_saying() {
        let spec = DockerSpec { image: "shop:1".to_owned(), ..DockerSpec::default() };
        let body = create(&spec, "o", &request(Some("foreshadow/o:i1-2")), None);
        assert_eq!(body.image.as_deref(), Some("foreshadow/o:i1-2"));
        assert_eq!(tagged("shop"), "shop:latest");
        for whole in ["shop:1", "shop@sha256:0", "reg:5000/a/shop:1"] {
            assert_eq!(tagged(whole), whole);
        }
        assert_eq!(tagged("reg:5000/shop"), "reg:5000/shop:latest");
        assert_eq!(isolation_name("o", &ServiceName::from("a b/c")), "foreshadow-o-a_b_c");
    }
}
