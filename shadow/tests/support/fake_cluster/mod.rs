//! A small fake of a Kubernetes API server: objects with versions, patches, watches and deletion in two
//! steps, over plain HTTP. It fails, hangs and shows pods in any state as it is told. What a real one does
//! is tested on a real one (`make test-k8s`).

mod objects;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foreshadow_shadow::{ClusterAccess, KubernetesProvider, KubernetesSpec, PodImage, PodSource};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::objects::{merge, selected};
use self::wire::{Asked, answer};
use super::fake_engine::Reply;

pub(crate) const NAMESPACE: &str = "default";
/// The node that every pod is given to.
pub(crate) const NODE: &str = "test-node";

/// What it does otherwise than by default, by what is asked (`POST pods`, `GET pod`, `PATCH pod/status`,
/// `WATCH pods`, `PUT lease`); the number says how often that was asked before.
type Script = dyn Fn(&str, usize) -> Option<Reply> + Send + Sync;

/// A fake that answers for as long as it lives.
pub(crate) struct FakeCluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) store: Arc<Store>,
    answers: tokio::task::JoinHandle<()>,
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// What it holds.
pub(crate) struct Store {
    inner: Mutex<Objects>,
    changed: watch::Sender<u64>,
    script: Box<Script>,
}

#[derive(Default)]
struct Objects {
    version: u64,
    /// By kind and name.
    all: BTreeMap<(String, String), Value>,
    events: Vec<(u64, &'static str, String, Value)>,
    asked: Vec<String>,
    /// What is answered instead, once, to what was carried out.
    lost: BTreeMap<String, Reply>,
    /// The status that a new pod has; with one, pods end as soon as they are asked to.
    status: Value,
    /// What admission adds to new pods.
    added: Value,
    /// The graces that deletions asked for, in seconds.
    graces: Vec<u64>,
    resizes: bool,
}

pub(crate) fn refused(code: u16, reason: &str, message: &str) -> Reply {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    Reply::Json(code, status.to_string())
}

/// Whether it is not said which of several containers is meant.
fn lacks_container(asked: &Asked, pod: Option<&Value>) -> bool {
    let containers = pod.and_then(|pod| pod["spec"]["containers"].as_array());
    containers.is_some_and(|all| all.len() > 1) && !asked.query.contains_key("container")
}

fn absent(asked: &Asked) -> Reply {
    let name = asked.name.as_deref().unwrap_or_default();
    refused(404, "NotFound", &format!("{} \"{name}\" not found", asked.kind))
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.inner.lock().unwrap()
    }

    /// Changes an object by hand, as somebody else would.
    pub(crate) fn change(&self, kind: &str, name: &str, patch: &Value) {
        let key = (kind.to_owned(), name.to_owned());
        let mut object = self.lock().all.get(&key).cloned().unwrap_or_else(
            || json!({ "metadata": { "name": name, "uid": format!("by-hand-{name}") } }),
        );
        merge(&mut object, patch);
        self.put(key, object, "MODIFIED");
    }

    pub(crate) fn remove(&self, kind: &str, name: &str) {
        let key = (kind.to_owned(), name.to_owned());
        let object = self.lock().all.remove(&key).expect("it is there");
        self.tell(&key.0, object, "DELETED");
    }

    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        let objects = self.lock();
        objects.all.iter().filter(|((k, _), _)| k == kind).map(|(_, value)| value.clone()).collect()
    }

    /// Once it carries out what is asked, and this is all that is heard of it.
    pub(crate) fn lose(&self, what: &str, reply: Reply) {
        self.lock().lost.insert(what.to_owned(), reply);
    }

    /// What was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.lock().asked.iter().filter(|asked| *asked == what).count()
    }

    fn put(&self, key: (String, String), object: Value, event: &'static str) -> Value {
        let object = self.tell(&key.0, object, event);
        self.lock().all.insert(key, object.clone());
        object
    }

    /// Gives an object the next version and tells those who watch.
    fn tell(&self, kind: &str, mut object: Value, event: &'static str) -> Value {
        let version = {
            let mut objects = self.lock();
            objects.version += 1;
            let version = objects.version;
            object["metadata"]["resourceVersion"] = version.to_string().into();
            objects.events.push((version, event, kind.to_owned(), object.clone()));
            version
        };
        self.changed.send_replace(version);
        object
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let words = asked.words();
        let before = {
            let mut objects = self.lock();
            objects.asked.push(words.clone());
            objects.asked.iter().filter(|one| **one == words).count() - 1
        };
        if let Some(reply) = (self.script)(&words, before) {
            return reply;
        }
        let done = self.act(asked, &words);
        self.lock().lost.remove(&words).unwrap_or(done)
    }

    fn act(&self, asked: &Asked, words: &str) -> Reply {
        let json = |code, value: &Value| Reply::Json(code, value.to_string());
        let key = (asked.kind.clone(), asked.name.clone().unwrap_or_default());
        let found = self.lock().all.get(&key).cloned();
        match (words, asked.method.as_str(), asked.name.is_some()) {
            ("GET discovery", ..) => {
                let resizes = self.lock().resizes;
                let names = ["pods", "pods/status", "pods/resize"];
                let known = names.iter().take(if resizes { 3 } else { 2 }).map(|name| {
                    json!({ "name": name, "singularName": "", "namespaced": true, "kind": "Pod", "verbs": [] })
                });
                let known: Vec<Value> = known.collect();
                json(200, &json!({ "groupVersion": "v1", "resources": known }))
            }
            ("GET pod/log", ..) if lacks_container(asked, found.as_ref()) => {
                refused(400, "BadRequest", "a container name must be specified for pod")
            }
            ("GET pod/log", ..) => {
                Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nlast\nwords of ".to_vec())
            }
            (_, _, true) if found.is_some() && asked.sub.as_deref() == Some("scale") => {
                self.scale(asked, key, found.unwrap_or_default())
            }
            (_, "GET", false) => self.list(asked),
            (_, "POST", false) => self.create(asked),
            (_, _, true) if found.is_none() => absent(asked),
            (_, "GET", true) => json(200, &found.unwrap_or_default()),
            (_, "PUT", true) => self.replace(asked, key, &found.unwrap_or_default()),
            (_, "PATCH", true) => {
                let mut object = found.unwrap_or_default();
                let differs = |key: &str| {
                    let given = &asked.body["metadata"][key];
                    !given.is_null() && *given != object["metadata"][key]
                };
                if differs("uid") || differs("resourceVersion") {
                    return refused(409, "Conflict", "the object has been modified");
                }
                merge(&mut object, &asked.body);
                json(200, &self.put(key, object, "MODIFIED"))
            }
            (_, "DELETE", true) => self.delete(asked, key, found.unwrap_or_default()),
            _ => refused(405, "MethodNotAllowed", "not known here"),
        }
    }

    fn list(&self, asked: &Asked) -> Reply {
        let version = self.lock().version.to_string();
        let mut items = self.all(&asked.kind);
        items.retain(|item| selected(item, &asked.query));
        let list = json!({
            "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version },
            "items": items,
        });
        Reply::Json(200, list.to_string())
    }

    /// The scale of a workload, after what is asked of it.
    fn scale(&self, asked: &Asked, key: (String, String), mut object: Value) -> Reply {
        if asked.method == "PATCH" {
            merge(&mut object, &asked.body);
            object = self.put(key, object, "MODIFIED");
        }
        Reply::Json(200, objects::scale(&object).to_string())
    }

    fn create(&self, asked: &Asked) -> Reply {
        let mut object = asked.body.clone();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (asked.kind.clone(), name.clone());
        if self.lock().all.contains_key(&key) {
            let text = format!("{} \"{name}\" already exists", asked.kind);
            return refused(409, "AlreadyExists", &text);
        }
        let next = self.lock().version + 1;
        object["metadata"]["uid"] = format!("uid-{next}").into();
        if asked.kind == "pods" {
            let added = self.lock().added.clone();
            if added.is_object() {
                merge(&mut object, &added);
            }
            object["spec"]["nodeName"] = NODE.into();
            object["status"] = self.lock().status.clone();
        }
        Reply::Json(201, self.put(key, object, "ADDED").to_string())
    }

    fn replace(&self, asked: &Asked, key: (String, String), found: &Value) -> Reply {
        let given = &asked.body["metadata"]["resourceVersion"];
        if !given.is_null() && *given != found["metadata"]["resourceVersion"] {
            let text =
                "the object has been modified; please apply your changes to the latest version";
            return refused(409, "Conflict", text);
        }
        let mut object = asked.body.clone();
        object["metadata"]["uid"] = found["metadata"]["uid"].clone();
        Reply::Json(200, self.put(key, object, "MODIFIED").to_string())
    }

    /// In two steps for a pod that a node has, as a real one does.
    fn delete(&self, asked: &Asked, key: (String, String), mut object: Value) -> Reply {
        let wanted = &asked.body["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
            return refused(409, "Conflict", "the UID in the precondition does not match");
        }
        let is_over = matches!(object["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        let grace = asked.body["gracePeriodSeconds"].as_u64().unwrap_or(30);
        self.lock().graces.push(grace);
        let is_played = self.lock().status.is_null();
        if asked.kind == "pods" && grace > 0 && !is_over && is_played {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            return Reply::Json(200, self.put(key, object, "MODIFIED").to_string());
        }
        self.remove(&key.0, &key.1);
        Reply::Json(200, object.to_string())
    }
}

impl FakeCluster {
    /// One that does as it should.
    pub(crate) async fn good() -> Self {
        Self::start(Value::Null, |_, _| None).await
    }

    /// One whose new pods have this status, and which answers as the script says.
    pub(crate) async fn start(
        status: Value,
        script: impl Fn(&str, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_text(&format!("http://{address}"))).unwrap();
        let store = Arc::new(Store {
            inner: Mutex::new(Objects { status, ..Objects::default() }),
            changed: watch::channel(0).0,
            script: Box::new(script),
        });
        let held = Arc::clone(&store);
        let answers = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(answer(stream, Arc::clone(&held)));
            }
        });
        Self { dir, kubeconfig, store, answers }
    }

    /// From now on admission adds that to new pods.
    pub(crate) fn admit_with(&self, added: Value) {
        self.store.lock().added = added;
    }

    /// The graces that deletions asked for, in seconds.
    pub(crate) fn graces(&self) -> Vec<u64> {
        self.store.lock().graces.clone()
    }

    /// From now on nobody answers there.
    pub(crate) fn stop(&self) {
        self.answers.abort();
    }

    /// From now on it can resize pods in place.
    pub(crate) fn can_resize(&self) {
        self.store.lock().resizes = true;
    }

    /// Settings that lead there, with little patience.
    pub(crate) fn spec(&self) -> KubernetesSpec {
        let image = PodImage { image: "shop:1".to_owned(), ..PodImage::default() };
        KubernetesSpec {
            access: ClusterAccess::Kubeconfig { path: self.kubeconfig.clone(), context: None },
            namespace: NAMESPACE.to_owned(),
            pod: PodSource::Image(image),
            timeout: Duration::from_millis(500),
            schedule_timeout: Duration::from_millis(500),
            ..KubernetesSpec::default()
        }
    }

    pub(crate) fn provider(&self, spec: KubernetesSpec) -> KubernetesProvider {
        let host = super::host(self.dir.path(), foreshadow_shadow::Facility::None);
        KubernetesProvider::new(&host, spec)
    }

    /// The name of the only pod.
    pub(crate) fn pod(&self) -> String {
        let all = self.store.all("pods");
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]["metadata"]["name"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn kubeconfig_text(server: &str) -> String {
    let cluster = json!({ "name": "c", "cluster": { "server": server } });
    let context = json!({ "name": "c", "context": { "cluster": "c", "user": "u" } });
    json!({
        "apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context],
        "users": [{ "name": "u", "user": { "token": "a-token-of-the-test" } }],
        "current-context": "c",
    })
    .to_string()
}

/// The status of a pod whose container `shadow` runs.
pub(crate) fn running() -> Value {
    json!({
        "phase": "Running",
        "podIP": "10.9.8.7",
        "containerStatuses": [{
            "name": "shadow", "image": "shop:1", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} },
        }],
    })
}

/// The status of a pod whose container `shadow` waits.
pub(crate) fn waiting(reason: &str, message: &str) -> Value {
    json!({
        "phase": "Pending",
        "podIP": "10.9.8.7",
        "containerStatuses": [{
            "name": "shadow", "image": "shop:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": message } },
        }],
    })
}
