//! Watching the configuration file, by whatever links it is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::file::Aside;

/// Links that are followed on one path, as many as the kernel follows.
const MOST_LINKS: u32 = 40;
/// Times that directories are looked up anew because a link changed while they were.
const MOST_LOOKS: u32 = 4;

/// Keeps an eye on the file at a path. All of it may hang with the file system and is done aside.
pub(super) struct Watching {
    watched: Arc<Mutex<Watched>>,
    following: Aside<()>,
}

impl Watching {
    /// Tells `changed` whenever the file at `path` may be another one or hold something else.
    ///
    /// # Errors
    /// When there is no such file any more, or nothing of it can be watched.
    pub(super) fn start(
        path: &Path,
        changed: mpsc::Sender<()>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let hint = "cannot watch the configuration; set `reload: { watch: false }` to go without";
        // Once it runs, a node waits for a file to come back; it does not start on one that is gone.
        path.metadata().with_context(|| format!("{} is gone", path.display())).context(hint)?;
        let mut watched = Watched::new(path, changed).context(hint)?;
        if let Some((dir, error)) = watched.follow().pop()
            && watched.dirs.is_empty()
        {
            return Err(error).context(format!("cannot watch {}", dir.display())).context(hint);
        }
        Ok(Self { watched: Arc::new(Mutex::new(watched)), following: Aside::new(patience) })
    }

    /// Goes where the links lead now.
    pub(super) async fn follow(&mut self) {
        let watched = Arc::clone(&self.watched);
        let follow = move || {
            watched.lock().unwrap_or_else(PoisonError::into_inner).follow();
        };
        if let Err(error) = self.following.run(follow).await {
            tracing::warn!("the configuration may not be watched any more: {error:#}");
        }
    }
}

/// Which directory it is that has a path: another one may take its place.
type Identity = (u64, u64);

struct Watched {
    path: PathBuf,
    watcher: RecommendedWatcher,
    dirs: BTreeMap<PathBuf, Identity>,
    /// Those that cannot be watched, which was said.
    blind: BTreeSet<PathBuf>,
}

impl Watched {
    fn new(path: &Path, changed: mpsc::Sender<()>) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|e| !e.kind.is_access()) {
                // Full means that a look is due already.
                changed.try_send(()).ok();
            }
        })?;
        let path = path.to_owned();
        Ok(Self { path, watcher, dirs: BTreeMap::new(), blind: BTreeSet::new() })
    }

    /// Watches the directories that count now and no others; those that cannot be come back. A link
    /// that is changed meanwhile is either seen here or told by a watch.
    fn follow(&mut self) -> Vec<(PathBuf, notify::Error)> {
        let mut failures = Vec::new();
        for _ in 0..MOST_LOOKS {
            let wanted = directories(&self.path);
            failures = self.watch(&wanted);
            if directories(&self.path) == wanted {
                break;
            }
        }
        for (dir, error) in &failures {
            if self.blind.insert(dir.clone()) {
                tracing::warn!(
                    %error, dir = %dir.display(),
                    "cannot be watched: what changes in it takes SIGHUP to be read"
                );
            }
        }
        self.blind.retain(|dir| failures.iter().any(|(failed, _)| failed == dir));
        failures
    }

    fn watch(&mut self, wanted: &BTreeMap<PathBuf, Identity>) -> Vec<(PathBuf, notify::Error)> {
        let watcher = &mut self.watcher;
        self.dirs.retain(|dir, identity| {
            let stays = wanted.get(dir) == Some(identity);
            if !stays {
                // One that was removed is not watched any more already.
                watcher.unwatch(dir).ok();
            }
            stays
        });
        let mut failures = Vec::new();
        for (dir, identity) in wanted {
            if self.dirs.contains_key(dir) {
                continue;
            }
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.dirs.insert(dir.clone(), *identity);
                }
                Err(error) => failures.push((dir.clone(), error)),
            }
        }
        failures
    }
}

/// The directories in which a change can make `path` another file or its content another one: that
/// of the file, since editors replace it, and those of all links on the way, since a mounted config
/// map swaps one. Where the way ends early, the one in which it may go on one day.
fn directories(path: &Path) -> BTreeMap<PathBuf, Identity> {
    let mut found = BTreeMap::new();
    let mut at = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let mut rest = steps(path);
    let mut links = 0;
    while let Some(step) = rest.pop() {
        let entry = match step {
            Step::Root => {
                at = PathBuf::from("/");
                continue;
            }
            Step::Up => {
                at.pop();
                continue;
            }
            Step::Into(name) => at.join(name),
        };
        let is_link = entry.symlink_metadata().map(|entry| entry.is_symlink());
        if rest.is_empty() || !matches!(is_link, Ok(false)) {
            // Whoever takes it away meanwhile is noticed by the next look.
            found.extend(at.metadata().map(|dir| (at.clone(), (dir.dev(), dir.ino()))));
        }
        match is_link {
            Ok(false) => at = entry,
            Ok(true) if links < MOST_LINKS => {
                links += 1;
                let Ok(target) = std::fs::read_link(&entry) else { break };
                rest.extend(steps(&target));
            }
            Ok(true) | Err(_) => break,
        }
    }
    found
}

enum Step {
    Root,
    Up,
    Into(OsString),
}

/// The way that `path` says, last step first.
fn steps(path: &Path) -> Vec<Step> {
    let step = |component: Component<'_>| match component {
        Component::RootDir | Component::Prefix(_) => Some(Step::Root),
        Component::CurDir => None,
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
    };
    path.components().rev().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(path: &Path) -> Vec<PathBuf> {
        directories(path).into_keys().collect()
    }

    #[test]
    fn directories_of_links_and_of_the_file_count_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let [map, data, plain] = ["map", "map/..v1", "plain"].map(|name| root.join(name));
        for dir in [&map, &data, &plain] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(data.join("f.yaml"), "").unwrap();
        symlink("..v1", map.join("..data")).unwrap();
        symlink("..data/f.yaml", map.join("f.yaml")).unwrap();
        symlink("../map/./f.yaml", plain.join("link.yaml")).unwrap();
        assert_eq!(names(&data.join("f.yaml")), std::slice::from_ref(&data));
        assert_eq!(names(&map.join("f.yaml")), [map.clone(), data.clone()]);
        assert_eq!(names(&plain.join("link.yaml")), [map.clone(), data, plain.clone()]);
        symlink("round.yaml", plain.join("round.yaml")).unwrap();
        assert_eq!(names(&plain.join("round.yaml")), [plain]);
        assert_eq!(names(&root.join("map/later/f.yaml")), [map], "where it may go on one day");
    }
}
