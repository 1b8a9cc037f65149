//! What containers can beyond the suite that every provider passes: networks, limits, ports, and an
//! engine that goes away. Each test has a Docker Engine of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "what was not tested is part of the result")]

#[allow(dead_code, reason = "of the suite only the subjects are needed here")]
mod conformance;
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use conformance::subjects::{FRONT, container_spec, plain_host};
use foreshadow_control::{InstanceId, Tier};
use foreshadow_shadow::{
    Cause, ContainerLimits, CpuShare, CreateRequest, DockerProvider, DockerSpec, Handle, LogSpec,
    NetworkSpec, Provider, ProviderError, Sweep, TlsFiles,
};
use serde_json::Value;
use support::engine::{Engine, ask, engine, get};
use support::{answers, request, shop, until};

#[test]
fn role_entry() {
    support::play_role();
}

fn network(engine: &Engine, name: &str) {
    let body = format!("{{\"Name\": \"{name}\"}}");
    assert_eq!(ask(&engine.socket, "POST", "/networks/create", body.as_bytes()).unwrap().0, 201);
}

/// The container of an instance as the engine shows it.
fn shown(engine: &Engine, handle: &Handle) -> Value {
    let state: Value = serde_json::from_str(&handle.state).unwrap();
    let id = state["container"].as_str().unwrap();
    let (status, shown) = get(&engine.socket, &format!("/containers/{id}/json")).unwrap();
    assert_eq!(status, 200, "{shown}");
    shown
}

fn networks(engine: &Engine, handle: &Handle) -> Vec<String> {
    let shown = shown(engine, handle);
    let all = shown["NetworkSettings"]["Networks"].as_object().unwrap();
    let mut names: Vec<String> = all.keys().cloned().collect();
    names.sort_unstable();
    names
}

async fn ready(handle: &Handle) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while !answers(handle.address).await {
        assert!(tokio::time::Instant::now() < end, "{} never answers", handle.id);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Site {
    engine: Engine,
    dir: tempfile::TempDir,
}

impl Site {
    fn new(test: &str) -> Option<Self> {
        let engine = engine(test)?;
        network(&engine, FRONT);
        Some(Self { engine, dir: tempfile::tempdir().unwrap() })
    }

    fn provider(&self, change: impl FnOnce(&mut DockerSpec)) -> Arc<dyn Provider> {
        let mut spec = container_spec(&self.engine.socket);
        change(&mut spec);
        Arc::new(DockerProvider::new(&plain_host(self.dir.path()), spec))
    }

    /// A primary: a container that is not ours, with an alias in the network of the tests.
    fn primary(&self, name: &str) {
        let spec = container_spec(&self.engine.socket);
        let env: Vec<String> = spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mount = &spec.mounts[0];
        let body = serde_json::json!({
            "Image": spec.image, "Cmd": spec.command,
            "Env": env.into_iter().chain(["PORT=8080".to_owned()]).collect::<Vec<_>>(),
            "HostConfig": {
                "NetworkMode": FRONT,
                "Mounts": [{ "Type": "bind", "Source": mount.source, "Target": mount.target }],
            },
            "NetworkingConfig": { "EndpointsConfig": { FRONT: { "Aliases": ["shop"] } } },
        });
        let post = |path: &str, body: &str| {
            ask(&self.engine.socket, "POST", path, body.as_bytes()).unwrap()
        };
        let made = post(&format!("/containers/create?name={name}"), &body.to_string());
        assert_eq!(made.0, 201, "{made:?}");
        assert_eq!(post(&format!("/containers/{name}/start"), "").0, 204);
    }

    fn remove(&self, name: &str) {
        let path = format!("/containers/{name}?force=1&v=1");
        assert_eq!(ask(&self.engine.socket, "DELETE", &path, b"").unwrap().0, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_networks_are_joined_with_the_primarys_aliases_when_activated() {
    let Some(site) = Site::new("networks of a primary") else { return };
    site.primary("shop-1");
    let provider = site.provider(|spec| {
        spec.network = NetworkSpec {
            mirror: Some("shop-1".to_owned()),
            isolate: true,
            ..NetworkSpec::default()
        };
    });
    let made = provider.create(&request(1)).await.unwrap();
    ready(&made).await;
    let alone = networks(&site.engine, &made);
    assert_eq!(alone.len(), 1, "{alone:?}");
    let (_, isolation) = get(&site.engine.socket, &format!("/networks/{}", alone[0])).unwrap();
    assert_eq!(isolation["Internal"], true);

    provider.freeze(&made).await.unwrap();
    for _ in 0..2 {
        provider.set_activated(&made, true).await.expect("parked or not, twice is no error");
    }
    provider.thaw(&made).await.unwrap();
    assert!(networks(&site.engine, &made).contains(&FRONT.to_owned()));
    let aliases =
        shown(&site.engine, &made)["NetworkSettings"]["Networks"][FRONT]["Aliases"].clone();
    assert!(aliases.as_array().unwrap().contains(&"shop".into()), "{aliases}");
    ready(&made).await;
    for _ in 0..2 {
        provider.set_activated(&made, false).await.unwrap();
    }
    assert_eq!(networks(&site.engine, &made), alone);

    // The primary is lost: that is what shadows are for.
    site.remove("shop-1");
    provider.set_activated(&made, true).await.unwrap();
    assert!(networks(&site.engine, &made).contains(&FRONT.to_owned()));
    let later = site.provider(|spec| spec.network.isolate = true);
    assert_eq!(later.adopt(&made).await.unwrap(), foreshadow_shadow::Adoption::Running);
    drop(provider);
    later.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!(site.engine.left(), Vec::<String>::new(), "the internal network went with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_limits_ports_and_logs_are_those_of_the_settings() {
    let Some(site) = Site::new("limits and ports") else { return };
    let provider = site.provider(|spec| {
        spec.publish = Some("127.0.0.1".parse().unwrap());
        spec.user = Some("65534:65534".to_owned());
        spec.limits = ContainerLimits {
            cpu_percent: Some(150),
            memory_bytes: Some(256 << 20),
            warm_memory_bytes: Some(128 << 20),
            tasks: Some(64),
            ulimits: [("nofile".to_owned(), (256, 512))].into(),
        };
        let options = [("max-size".to_owned(), "1m".to_owned())].into();
        spec.log = Some(LogSpec { driver: "local".to_owned(), options });
    });
    let made = provider.create(&request(1)).await.unwrap();
    ready(&made).await;
    assert!(made.address.ip().is_loopback() && made.address.port() != 8080, "{}", made.address);
    let pid = made.pid.expect("the engine is on this machine");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let figures: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(figures, ["256", "512"]);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.lines().any(|line| line.starts_with("Uid:\t65534\t")), "{status}");

    let held = |what: &str| shown(&site.engine, &made)["HostConfig"][what].clone();
    assert_eq!((held("CpuQuota"), held("Memory")), (150_000.into(), (256_u64 << 20).into()));
    assert_eq!((held("PidsLimit"), held("LogConfig")["Type"].clone()), (64.into(), "local".into()));
    provider.set_share(&made, CpuShare::Percent(20)).await.unwrap();
    assert_eq!((held("CpuQuota"), held("Memory")), (20_000.into(), (128_u64 << 20).into()));
    provider.set_share(&made, CpuShare::Unlimited).await.unwrap();
    assert_eq!((held("CpuQuota"), held("Memory")), (150_000.into(), (256_u64 << 20).into()));
    let usage = provider.usage(&made).await;
    assert!(usage.cpu_us.is_some_and(|us| us > 0), "{usage:?}");
    assert_eq!(usage.sample.memory_limit_bytes, Some(256 << 20));
    let words = provider.diagnose(&made).await.last_lines;
    assert!(words.iter().any(|line| line.contains("running 1 test")), "{words:?}");
    provider.destroy(&made, Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_refusals_are_told_by_a_real_engine_and_leave_nothing() {
    let Some(site) = Site::new("refusals of an engine") else { return };
    type Change = fn(&mut DockerSpec);
    let cases: [(Change, Cause, &str); 5] = [
        (|spec| spec.image = "nothing-here:9".to_owned(), Cause::NoImage, "No such image"),
        (|spec| spec.network.names = vec!["no-such-net".to_owned()], Cause::Absent, "not found"),
        (|spec| spec.command = vec!["/nothing".to_owned()], Cause::Absent, "no such file"),
        (
            |spec| spec.mounts[0].source = "/no/such/path".to_owned(),
            Cause::Absent,
            "does not exist",
        ),
        (|spec| spec.user = Some("nobody-at-all".to_owned()), Cause::Absent, "unable to find user"),
    ];
    for (number, (change, wanted, says)) in (1..).zip(cases) {
        let provider = site.provider(|spec| {
            // What is started is the program itself, so that its absence is the engine's to tell.
            spec.init = false;
            change(spec);
        });
        let error = provider.create(&request(number)).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ProviderError::Refused { cause, .. } if cause == wanted), "{text}");
        assert!(text.contains(says) && text.contains("asked the engine at unix://"), "{text}");
        assert_eq!(site.engine.left(), Vec::<String>::new(), "{text}");
    }
    let foreign = site.provider(|_| {}).create(&request(90)).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other =
        DockerProvider::new(&plain_host(elsewhere.path()), container_spec(&site.engine.socket));
    other.sweep(&Sweep::default()).await.unwrap();
    assert!(answers(foreign.address).await, "what another owner made is left alone");
    site.provider(|_| {}).destroy(&foreign, Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_ends_that_happen_while_an_engine_is_away_are_seen_when_it_is_back() {
    let Some(mut site) = Site::new("an engine that restarts") else { return };
    let provider = site.provider(|_| {});
    let ask_for =
        |id| CreateRequest { id: InstanceId(id), service: shop(), tier: Tier::Warm, from: None };
    let made = provider.create(&ask_for(1)).await.unwrap();
    ready(&made).await;
    let waiting = {
        let (provider, made) = (Arc::clone(&provider), made.clone());
        tokio::spawn(async move { provider.exited(&made).await })
    };
    // One that crashes leaves its containers running, and nobody is told of their end.
    site.engine.crash();
    assert!(answers(made.address).await);
    support::kill(made.pid.unwrap());
    let error = provider.create(&ask_for(2)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused { cause: Cause::Unreachable, .. }), "{error}");
    assert!(!waiting.is_finished(), "nobody knows of its end");
    let unseen = provider.destroy(&made, Duration::ZERO).await.unwrap_err().to_string();
    assert!(unseen.contains("no whole answer") || unseen.contains("no connection"), "{unseen}");
    site.engine.run().unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    let seen = seen.expect("its end is seen").unwrap().0;
    assert!(seen.starts_with("ended: Exited"), "{seen}");
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    let again = provider.create(&ask_for(3)).await.expect("it works as before");
    ready(&again).await;
    provider.destroy(&again, Duration::ZERO).await.unwrap();
    until("nothing is left", || site.engine.left().is_empty().then_some(())).await;
}

/// Certificates of an authority of the test's own, made by openssl.
fn certificates(dir: &Path) -> Result<(), String> {
    let run = |args: &[&str]| {
        let mut command = Command::new("openssl");
        let done = command.args(args).current_dir(dir).output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok(()) } else { Err(said) }
    };
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    for authority in ["ca", "other"] {
        let (key, cert) = (format!("{authority}-key.pem"), format!("{authority}.pem"));
        let mut args = new.to_vec();
        args.extend(["-x509", "-subj", "/CN=authority", "-keyout", &key, "-out", &cert]);
        run(&args)?;
    }
    std::fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    std::fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    for who in ["server", "client"] {
        let (key, csr) = (format!("{who}-key.pem"), format!("{who}.csr"));
        let mut args = new.to_vec();
        args.extend(["-subj", "/CN=foreshadow-test", "-keyout", &key, "-out", &csr]);
        run(&args)?;
        let (cert, ext) = (format!("{who}.pem"), format!("{who}.ext"));
        run(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
            "-extfile",
            &ext,
            "-out",
            &cert,
        ])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_engines_behind_tls_are_spoken_to_with_a_certificate() {
    let Some(mut site) = Site::new("TLS") else { return };
    let certs = tempfile::tempdir().unwrap();
    if let Err(why) = certificates(certs.path()) {
        println!("SKIPPED: NOT TESTED on a Docker Engine: TLS: no certificates: {why}");
        return;
    }
    let at = |name: &str| certs.path().join(name);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    site.engine.stop();
    let option = |name: &str, file: &str| format!("--{name}={}", at(file).display());
    site.engine.more = vec![
        format!("-H=tcp://127.0.0.1:{port}"),
        "--tlsverify".to_owned(),
        option("tlscacert", "ca.pem"),
        option("tlscert", "server.pem"),
        option("tlskey", "server-key.pem"),
    ];
    site.engine.run().unwrap();
    let with = |ca: &str, tls: bool| {
        site.provider(|spec| {
            spec.endpoint =
                foreshadow_shadow::EngineEndpoint::Tcp { host: "127.0.0.1".to_owned(), port };
            let files = TlsFiles { ca: at(ca), cert: at("client.pem"), key: at("client-key.pem") };
            spec.tls = tls.then_some(files);
        })
    };
    let text = with("ca.pem", false).create(&request(1)).await.unwrap_err().to_string();
    assert!(text.contains("tcp://127.0.0.1"), "without TLS: {text}");
    let text = with("other.pem", true).create(&request(2)).await.unwrap_err().to_string();
    assert!(text.contains("invalid peer certificate"), "another authority: {text}");
    let provider = with("ca.pem", true);
    let made = provider.create(&request(3)).await.unwrap();
    ready(&made).await;
    provider.freeze(&made).await.unwrap();
    provider.thaw(&made).await.unwrap();
    provider.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!(site.engine.left(), Vec::<String>::new());
}
