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

/// A directory that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Which one it is: another one may take its place, even under the same number.
    identity: (u64, u64),
    /// Whether all that happens in it counts, or only to those in it that are watched, too.
    whole: bool,
}

type Places = BTreeMap<PathBuf, Place>;

struct Watched {
    path: PathBuf,
    watcher: RecommendedWatcher,
    dirs: Places,
    /// What the watcher's thread needs to know of them.
    wanted: Arc<Mutex<Places>>,
    /// Those that cannot be watched, which was said.
    blind: BTreeSet<PathBuf>,
}

impl Watched {
    fn new(path: &Path, changed: mpsc::Sender<()>) -> notify::Result<Self> {
        let wanted = Arc::new(Mutex::new(Places::new()));
        let counting = Arc::clone(&wanted);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let wanted = counting.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|e| !e.kind.is_access() && counts(&e.paths, &wanted)) {
                // Full means that a look is due already.
                changed.try_send(()).ok();
            }
        })?;
        let path = path.to_owned();
        Ok(Self { path, watcher, dirs: Places::new(), wanted, blind: BTreeSet::new() })
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

    fn watch(&mut self, wanted: &Places) -> Vec<(PathBuf, notify::Error)> {
        wanted.clone_into(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        let watcher = &mut self.watcher;
        self.dirs.retain(|dir, place| {
            let stays = wanted.get(dir).is_some_and(|new| new.identity == place.identity);
            if !stays {
                // One that was removed is not watched any more already.
                watcher.unwatch(dir).ok();
            }
            stays
        });
        let mut failures = Vec::new();
        // Those that were watched before, too: one that was removed and made anew under its old
        // number looks the same, and is not watched. Where it still is, this changes nothing.
        for (dir, place) in wanted {
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.dirs.insert(dir.clone(), *place);
                }
                Err(error) => {
                    self.dirs.remove(dir);
                    if place.whole {
                        failures.push((dir.clone(), error));
                    } else {
                        // Directories that may be entered and not read are common higher up.
                        tracing::debug!(%error, dir = %dir.display(), "not watched");
                    }
                }
            }
        }
        failures
    }
}

/// Whether what happened at `paths` can matter; without a path it is not known what happened.
fn counts(paths: &[PathBuf], wanted: &Places) -> bool {
    let within = |path: &PathBuf| path.parent().and_then(|dir| wanted.get(dir));
    paths.is_empty()
        || paths
            .iter()
            .any(|path| wanted.contains_key(path) || within(path).is_some_and(|dir| dir.whole))
}

/// The directories in which a change can make `path` another file or its content another one: that
/// of the file, since editors replace it, and those of all links on the way, since a mounted config
/// map swaps one. Where the way ends early, the one in which it may go on one day. And those above
/// them, not as a whole: of a directory that is removed while somebody stands in it, and made anew,
/// nothing else tells.
fn directories(path: &Path) -> Places {
    let place = |dir: &Path, whole| {
        let dir = dir.metadata().ok()?;
        Some(Place { identity: (dir.dev(), dir.ino()), whole })
    };
    let mut found = Places::new();
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
            found.extend(place(&at, true).map(|place| (at.clone(), place)));
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
    let above: BTreeSet<_> = found.keys().filter_map(|dir| dir.parent()).collect();
    let above = above.into_iter().filter(|dir| !found.contains_key(*dir));
    let above: Vec<_> =
        above.filter_map(|dir| Some((dir.to_owned(), place(dir, false)?))).collect();
    found.extend(above);
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::error::Elapsed;

    use super::*;

    fn names(path: &Path) -> Vec<PathBuf> {
        let whole = directories(path).into_iter().filter(|(_, place)| place.whole);
        whole.map(|(dir, _)| dir).collect()
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

    /// Watches as a node does: follows, then counts a look.
    fn looks(path: &Path) -> Arc<AtomicU64> {
        let (changed, mut changes) = mpsc::channel(1);
        let mut watching = Watching::start(path, changed, Duration::from_secs(10)).unwrap();
        let looks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&looks);
        tokio::spawn(async move {
            while changes.recv().await.is_some() {
                watching.follow().await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        looks
    }

    /// Changes the file until far more looks were taken than all that happened before can cause.
    async fn every_change_is_noticed(path: &Path, looks: &AtomicU64) {
        for nth in 0..12 {
            let noticed = one_more(looks, || std::fs::write(path, format!("# {nth}")).unwrap());
            assert!(noticed.await.is_ok(), "change {nth} was not noticed");
        }
    }

    async fn one_more(looks: &AtomicU64, change: impl FnOnce()) -> Result<(), Elapsed> {
        let before = looks.load(Ordering::SeqCst);
        change();
        tokio::time::timeout(Duration::from_secs(10), async {
            while looks.load(Ordering::SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
    }

    /// A directory with a file in it, and what keeps both.
    fn directory() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("config");
        let path = dir.join("f.yaml");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(&path, "").unwrap();
        (root, dir, path)
    }

    #[tokio::test]
    async fn a_directory_that_is_made_anew_under_its_old_number_is_watched() {
        let (_root, dir, path) = directory();
        let looks = looks(&path);
        for _ in 0..3 {
            // File systems that give the number out again do so at once.
            std::fs::remove_dir_all(&dir).unwrap();
            std::fs::create_dir(&dir).unwrap();
            every_change_is_noticed(&path, &looks).await;
        }
    }

    #[tokio::test]
    async fn a_directory_that_somebody_holds_is_followed_when_it_is_made_anew() {
        let (_root, dir, path) = directory();
        let looks = looks(&path);
        // As a shell does whose working directory it is: nothing is told of its end until then.
        let held = std::fs::File::open(&dir).unwrap();
        every_change_is_noticed(&path, &looks).await;
        one_more(&looks, || std::fs::remove_file(&path).unwrap()).await.unwrap();
        std::fs::remove_dir(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
        every_change_is_noticed(&path, &looks).await;
        drop(held);
    }

    #[test]
    fn neighbours_of_a_directory_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let dir = root.join("config");
        std::fs::create_dir(&dir).unwrap();
        let wanted = directories(&dir.join("f.yaml"));
        for (path, expected) in [
            (root.join("other"), false),
            (root.join("other/f.yaml"), false),
            (root.clone(), true),
            (dir.clone(), true),
            (dir.join("any"), true),
        ] {
            assert_eq!(counts(std::slice::from_ref(&path), &wanted), expected, "{path:?}");
        }
        assert!(counts(&[], &wanted), "events were lost");
    }
}
