//! The tests play the kubelet: THERE IS NONE. It runs a process for each pod of its node, on an address
//! of the loopback network, and writes the status of pods as a kubelet does. API server, scheduler and
//! controllers may be real.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::fake_cluster::NODE;

/// The annotation that gives a pod an address which nothing answers on.
pub(crate) const ADDRESS: &str = "foreshadow.test/address";
const LOOK: Duration = Duration::from_millis(10);
/// A node that is silent for 40 s is taken to be lost.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Plays until dropped; its processes end with it.
pub(crate) struct Kubelet {
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        let joined = self.thread.take().unwrap().join();
        assert!(joined.is_ok() || std::thread::panicking(), "the kubelet of the test failed");
    }
}

/// A client for what a kubeconfig names.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A process for a pod.
struct Runs {
    child: Child,
    ip: String,
}

impl Runs {
    fn end(&mut self) {
        // One that ended by itself is reaped by the wait.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

impl Kubelet {
    /// For one namespace; `has_nodes` says whether the API server wants to know of a node.
    pub(crate) fn start(kubeconfig: &Path, namespace: &str, has_nodes: bool) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (told, kubeconfig) = (Arc::clone(&ends), kubeconfig.to_owned());
        let namespace = namespace.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let client = client(&kubeconfig).await;
                play(&client, &namespace, has_nodes, &told).await;
            });
        });
        Self { ends, thread: Some(thread) }
    }
}

async fn play(client: &Client, namespace: &str, has_nodes: bool, ends: &AtomicBool) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut runs: BTreeMap<String, Runs> = BTreeMap::new();
    let (mut made, mut beat) = (0_u8, None::<Instant>);
    while !ends.load(Ordering::Acquire) {
        if has_nodes && beat.is_none_or(|beat| beat.elapsed() > HEARTBEAT) {
            heartbeat(client).await;
            beat = Some(Instant::now());
        }
        // One that is being ended may be away; the test says what is wrong then.
        let list = pods.list(&ListParams::default()).await.map(|list| list.items);
        for pod in list.unwrap_or_default() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(NODE) {
                tend(&pods, &pod, &mut runs, &mut made).await;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    runs.values_mut().for_each(Runs::end);
}

/// Does for one pod what is to be done now.
async fn tend(pods: &Api<Pod>, pod: &Pod, runs: &mut BTreeMap<String, Runs>, made: &mut u8) {
    let name = pod.metadata.name.clone().unwrap();
    let uid = pod.metadata.uid.clone().unwrap();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() {
        if let Some(mut run) = runs.remove(&uid) {
            run.end();
        }
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(preconditions);
        // Somebody may have done so already.
        return pods.delete(&name, &params).await.map(drop).unwrap_or_default();
    }
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return;
    }
    let status = match runs.get_mut(&uid) {
        None => {
            *made = made.wrapping_add(1).max(1);
            let run = run(pod, *made);
            let status = shown(pod, &run.ip, &json!({ "running": {} }), "Running");
            runs.insert(uid, run);
            status
        }
        Some(run) => match run.child.try_wait().unwrap() {
            Some(_) => {
                let state = json!({ "terminated": { "exitCode": 137, "reason": "Error" } });
                shown(pod, &run.ip, &state, "Failed")
            }
            None => shown(pod, &run.ip, &json!({ "running": {} }), "Running"),
        },
    };
    if !differs(pod, &status) {
        return;
    }
    let patch =
        Patch::Strategic(json!({ "metadata": { "uid": pod.metadata.uid }, "status": status }));
    match pods.patch_status(&name, &PatchParams::default(), &patch).await {
        Ok(_) => {}
        // It was deleted meanwhile.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => println!("the kubelet of the test cannot write a status: {error}"),
    }
}

/// Runs the first container as a process of this machine.
fn run(pod: &Pod, number: u8) -> Runs {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let command = container.command.clone().unwrap();
    let pid = std::process::id();
    // Endpoints of a cluster are not on loopback, so one whose endpoints count is told its address.
    let told = pod.metadata.annotations.as_ref().and_then(|all| all.get(ADDRESS)).cloned();
    let loopback = format!("127.{}.{}.{number}", 1 + pid / 250 % 250, 1 + pid % 250);
    let ip = told.unwrap_or(loopback);
    let env = container.env.iter().flatten();
    let env = env.map(|one| (one.name.clone(), one.value.clone().unwrap_or_default()));
    let child = Command::new(&command[0])
        .args(&command[1..])
        .envs(env)
        .env("BIND", &ip)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Runs { child, ip }
}

/// The status of a pod, with its readiness as its gates have it.
fn shown(pod: &Pod, ip: &str, state: &Value, phase: &str) -> Value {
    let spec = pod.spec.as_ref().unwrap();
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let holds = |kind: &str| {
        conditions.into_iter().flatten().any(|one| one.type_ == kind && one.status == "True")
    };
    let gates = spec.readiness_gates.iter().flatten();
    let open = gates.clone().all(|gate| holds(&gate.condition_type));
    let runs = phase == "Running";
    let word = |is: bool| if is { "True" } else { "False" };
    let condition = |kind: &str, is: bool| json!({ "type": kind, "status": word(is) });
    let container = &spec.containers[0];
    json!({
        "phase": phase,
        "podIP": ip,
        "podIPs": [{ "ip": ip }],
        "conditions": [
            condition("Initialized", true),
            condition("ContainersReady", runs),
            condition("Ready", runs && open),
        ],
        "containerStatuses": [{
            "name": container.name, "image": container.image, "imageID": "", "ready": runs,
            "restartCount": 0, "state": state, "resources": container.resources,
        }],
    })
}

/// Whether what a kubelet has to say is new.
fn differs(pod: &Pod, status: &Value) -> bool {
    let Some(old) = &pod.status else { return true };
    let ready = |conditions: &Value| {
        let all = conditions.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["type"] == "Ready").map(|one| one["status"].clone())
    };
    let before = serde_json::to_value(old).unwrap();
    let (was, is) = (&before["containerStatuses"][0], &status["containerStatuses"][0]);
    let has = |one: &Value| ["running", "terminated"].map(|state| one["state"][state].is_object());
    // An API server that knows no resources of a container that runs does not keep them.
    let keeps = was["resources"].is_object();
    before["phase"] != status["phase"]
        || has(was) != has(is)
        || ready(&before["conditions"]) != ready(&status["conditions"])
        || (keeps && was["resources"] != is["resources"])
}

/// Makes the node, or says that it is still there.
async fn heartbeat(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } });
    let made = nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await;
    match made {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("no node: {error}"),
    }
    let amounts = json!({ "cpu": "64", "memory": "64Gi", "pods": "200" });
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Test",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    let status = json!({ "capacity": amounts, "allocatable": amounts, "conditions": [ready] });
    let patch = Patch::Strategic(json!({ "status": status }));
    nodes.patch_status(NODE, &PatchParams::default(), &patch).await.unwrap();
}
