//! Providers of shadows as configured, made into providers that run.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_config as config;
use foreshadow_shadow as shadow;

/// What of a provider's settings the manager keeps.
pub(super) struct Times {
    /// Share of one core at the warm tier, 0 to 1.
    pub(super) warm_cpu: f64,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
}

impl Times {
    fn of(contract: &config::Contract) -> Self {
        Self {
            warm_cpu: contract.cpu.warm,
            start_timeout: contract.start_timeout,
            stop_timeout: contract.stop_timeout,
        }
    }
}

pub(super) fn provider(
    provider: &config::Provider,
    host: &Arc<shadow::ProcessHost>,
) -> (Arc<dyn shadow::Provider>, Times) {
    match provider {
        config::Provider::Process(process) => {
            let times = Times {
                warm_cpu: process.cpu.warm,
                start_timeout: process.start_timeout,
                stop_timeout: process.stop_timeout,
            };
            let made = shadow::ProcessProvider::new(Arc::clone(host), process_spec(process));
            (Arc::new(made), times)
        }
        config::Provider::Docker(docker) => {
            let times = Times {
                warm_cpu: docker.cpu.warm,
                start_timeout: docker.start_timeout,
                stop_timeout: docker.stop_timeout,
            };
            (Arc::new(shadow::DockerProvider::new(host, docker_spec(docker))), times)
        }
        config::Provider::Kubernetes(pods) => {
            let times = Times {
                warm_cpu: pods.cpu.warm,
                start_timeout: pods.start_timeout,
                stop_timeout: pods.stop_timeout,
            };
            (Arc::new(shadow::KubernetesProvider::new(host, pod_spec(pods))), times)
        }
        config::Provider::Vm(vm) => {
            let times = Times {
                warm_cpu: vm.cpu.warm,
                start_timeout: vm.start_timeout,
                stop_timeout: vm.stop_timeout,
            };
            (Arc::new(shadow::VmProvider::new(Arc::clone(host), vm_spec(vm))), times)
        }
        config::Provider::Exec(exec) => {
            let spec = shadow::ExecSpec {
                command: exec.command.clone(),
                env: pairs(&exec.env),
                dir: exec.dir.clone(),
                traits: traits(&exec.contract, None),
            };
            (shadow::ExecProvider::new(host, spec), Times::of(&exec.contract))
        }
        config::Provider::Webhook(webhook) => {
            let secret = |token: &config::Token| token.secret().expose().to_owned();
            let spec = shadow::WebhookSpec {
                endpoint: endpoint(&webhook.url),
                token: webhook.token.as_ref().map(secret).map(shadow::BearerToken),
                traits: traits(&webhook.contract, webhook.concurrency),
            };
            (shadow::WebhookProvider::new(host, spec), Times::of(&webhook.contract))
        }
    }
}

pub(super) fn endpoint(url: &config::Endpoint) -> shadow::Endpoint {
    match url.clone() {
        config::Endpoint::Tcp { authority, prefix } => shadow::Endpoint::Tcp { authority, prefix },
        config::Endpoint::Unix(path) => shadow::Endpoint::Unix(path),
    }
}

fn process_spec(process: &config::ProcessProvider) -> shadow::ProcessSpec {
    shadow::ProcessSpec {
        command: process.command.clone(),
        verbatim: false,
        owns_output: false,
        env: pairs(&process.env),
        dir: process.dir.clone(),
        ports: process.ports.first..=process.ports.last,
        confinement: shadow::Confinement {
            user: process.user.clone(),
            group: process.group.clone(),
            clean_env: process.environment == config::Environment::Clean,
            umask: process.umask,
            no_new_privileges: process.no_new_privileges,
            private_network: process.network == config::Network::Private,
            ..limited(process.limits)
        },
        output: output(process.output),
    }
}

fn limited(limits: config::ProcessLimits) -> shadow::Confinement {
    shadow::Confinement {
        open_files: limits.open_files,
        core_bytes: limits.core,
        address_space_bytes: limits.address_space,
        user_processes: limits.processes,
        memory_bytes: limits.memory,
        tasks: limits.tasks,
        ..shadow::Confinement::default()
    }
}

fn output(output: config::Output) -> shadow::OutputBounds {
    shadow::OutputBounds { max_bytes: output.max_size, keep: output.keep }
}

fn vm_spec(vm: &config::VmProvider) -> shadow::VmSpec {
    shadow::VmSpec {
        binary: vm.binary.clone(),
        machine: vm.machine.clone(),
        accel: match vm.accel {
            config::Accel::Auto => shadow::Accel::Auto,
            config::Accel::Kvm => shadow::Accel::Kvm,
            config::Accel::Tcg => shadow::Accel::Tcg,
        },
        cpus: vm.cpus,
        memory_mib: vm.memory >> 20,
        image: vm.image.clone(),
        kernel: vm.kernel.clone(),
        initrd: vm.initrd.clone(),
        append: vm.append.clone(),
        port: vm.port,
        outbound: vm.outbound,
        args: vm.args.clone(),
        ports: vm.ports.first..=vm.ports.last,
        output: output(vm.output),
        timeout: vm.timeout,
        confinement: shadow::Confinement {
            user: vm.user.clone(),
            group: vm.group.clone(),
            ..limited(vm.limits)
        },
        sandbox: vm.sandbox,
        ..shadow::VmSpec::default()
    }
}

fn docker_spec(docker: &config::DockerProvider) -> shadow::DockerSpec {
    let limits = &docker.limits;
    let mount = |mount: &config::ContainerMount| shadow::MountSpec {
        source: mount.source.clone(),
        target: mount.target.clone(),
        write: mount.write,
    };
    let ulimits = limits.ulimits.iter();
    shadow::DockerSpec {
        endpoint: match docker.endpoint.clone() {
            config::EngineEndpoint::Unix(path) => shadow::EngineEndpoint::Unix(path),
            config::EngineEndpoint::Tcp { host, port } => {
                shadow::EngineEndpoint::Tcp { host, port }
            }
        },
        tls: docker.tls.as_ref().map(|tls| shadow::TlsFiles {
            ca: tls.ca.clone(),
            cert: tls.cert.clone(),
            key: tls.key.clone(),
        }),
        image: docker.image.clone(),
        pull: match docker.pull {
            config::Pull::Never => shadow::Pull::Never,
            config::Pull::Missing => shadow::Pull::Missing,
            config::Pull::Always => shadow::Pull::Always,
        },
        command: docker.command.clone(),
        env: pairs(&docker.env),
        port: docker.port,
        publish: docker.publish,
        network: shadow::NetworkSpec {
            names: docker.networks.clone(),
            aliases: docker.aliases.clone(),
            mirror: docker.mirror.clone(),
            isolate: docker.isolate,
        },
        mounts: docker.mounts.iter().map(mount).collect(),
        user: docker.user.clone(),
        init: docker.init,
        limits: shadow::ContainerLimits {
            cpu_percent: limits.cpus.map(super::translate::percent),
            memory_bytes: limits.memory,
            warm_memory_bytes: limits.warm_memory,
            tasks: limits.tasks,
            ulimits: ulimits.map(|(name, u)| (name.clone(), (u.soft, u.hard))).collect(),
        },
        log: docker.log.as_ref().map(|log| shadow::LogSpec {
            driver: log.driver.clone(),
            options: log.options.clone(),
        }),
        timeout: docker.timeout,
    }
}

pub(super) fn access(
    kubeconfig: Option<&std::path::PathBuf>,
    context: Option<&String>,
) -> shadow::ClusterAccess {
    match kubeconfig {
        None => shadow::ClusterAccess::InCluster,
        Some(path) => {
            shadow::ClusterAccess::Kubeconfig { path: path.clone(), context: context.cloned() }
        }
    }
}

fn pod_spec(pods: &config::KubernetesProvider) -> shadow::KubernetesSpec {
    let access = access(pods.kubeconfig.as_ref(), pods.context.as_ref());
    let pod = match (&pods.template, &pods.mirror, &pods.claim) {
        (Some(template), ..) => shadow::PodSource::Template(template.clone()),
        (_, Some(name), _) => shadow::PodSource::Deployment(name.clone()),
        (.., Some(name)) => shadow::PodSource::Claim(name.clone()),
        (None, None, None) => shadow::PodSource::Image(shadow::PodImage {
            image: pods.image.clone().unwrap_or_default(),
            command: pods.command.clone(),
            env: pairs(&pods.env),
            // A percent of a core is ten thousandths of it.
            cpu_millis: pods.limits.cpus.map(|cpus| super::translate::percent(cpus) * 10),
            memory_bytes: pods.limits.memory,
        }),
    };
    shadow::KubernetesSpec {
        access,
        namespace: pods.namespace.clone(),
        pod,
        container: pods.container.clone(),
        port: pods.port,
        labels: pods.labels.clone(),
        lease: pods.lease,
        timeout: pods.timeout,
        schedule_timeout: pods.schedule_timeout,
    }
}

fn traits(contract: &config::Contract, functions: Option<config::Concurrency>) -> shadow::Traits {
    let can = |step| contract.can.contains(&step);
    shadow::Traits {
        can: shadow::Capabilities {
            freeze: can(config::Step::Freeze),
            resize: can(config::Step::Resize),
            snapshot: can(config::Step::Snapshot),
        },
        timeout: contract.timeout,
        poll: contract.poll,
        concurrency: functions.map(|figures| shadow::Concurrency {
            shadow: figures.shadow,
            warm: figures.warm,
            full: figures.full,
        }),
    }
}

pub(super) fn pairs(
    variables: &std::collections::BTreeMap<String, String>,
) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
