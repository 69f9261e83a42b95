//! The state file in the process: read once, written whenever there is news.
//!
//! Decides when; the state file decides what is written and how it stays whole. All file access
//! runs on a blocking thread and is waited for with a deadline. A failure is logged when it starts
//! and when it ends, and never ends the process: the exporter then only forgets at its next
//! restart.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use crate::clock;
use crate::logging::chain;
use crate::snapshot::Snapshot;
use crate::state_file::{
    self, LoadError, LoadedState, LocationError, LockError, Quarantine, ReadError, StateFile,
    StateFileLock,
};
use crate::telemetry::{StateFileWrites, Telemetry};

/// The longest that a start or a reload waits for the state file: a large one on a slow disk takes
/// a few seconds.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// How long a write may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// The remembered clusters, by name.
pub(super) type Remembered = BTreeMap<Arc<str>, Snapshot>;

/// The state file, if there is one, and what was last written to it.
#[derive(Debug)]
pub(super) struct Memory {
    /// As configured.
    path: Option<PathBuf>,
    /// `None` during a write, or if the file is unusable.
    file: Option<StateFile>,
    saved: Vec<Weak<Snapshot>>,
    writing: Option<Writing>,
    /// Whether the log says that the file cannot be written.
    is_failing: bool,
    writes: StateFileWrites,
    telemetry: Arc<Telemetry>,
}

/// A write under way.
#[derive(Debug)]
struct Writing {
    /// When it counts as failed, although it may still end well.
    deadline: Instant,
    task: JoinHandle<Written>,
}

/// The result of a write: the file, what was to be written, and how it went.
type Written = (StateFile, Vec<Arc<Snapshot>>, io::Result<()>);

/// A state file that was opened.
struct Opened {
    lock: Result<StateFileLock, LockError>,
    loaded: Result<LoadedState, LoadError>,
    writable: Result<(), LocationError>,
}

/// Reads and checks the state file; may block for as long as the disk hangs.
fn open(path: &Path) -> Result<Opened, LockError> {
    let lock = StateFileLock::acquire(path);
    if let Err(in_use @ LockError::InUse { .. }) = lock {
        return Err(in_use);
    }
    let loaded = state_file::load(path, clock::now());
    let writable = state_file::check(path);
    Ok(Opened {
        lock,
        loaded,
        writable,
    })
}

impl Memory {
    /// Opens the configured state file, if there is one, and reads what it remembers. A file that
    /// cannot be read or written is logged; the exporter then works without.
    ///
    /// # Errors
    ///
    /// When another exporter uses the file.
    pub(super) async fn open(
        state_file: Option<PathBuf>,
        telemetry: &Arc<Telemetry>,
    ) -> Result<(Self, Remembered), LockError> {
        let mut memory = Self {
            path: state_file.clone(),
            file: None,
            saved: Vec::new(),
            writing: None,
            is_failing: false,
            writes: StateFileWrites::default(),
            telemetry: Arc::clone(telemetry),
        };
        let Some(path) = state_file else {
            return Ok((memory, Remembered::new()));
        };
        let at = path.clone();
        let opening = tokio::task::spawn_blocking(move || open(&at));
        let remembered = match timeout(READ_DEADLINE, opening).await {
            Ok(Ok(opened)) => memory.take(path, opened?),
            Ok(Err(_)) => memory.give_up(&path, "reading it panicked"),
            Err(_) => {
                let cause = format!("it was not read within {READ_DEADLINE:?}");
                memory.give_up(&path, &cause)
            }
        };
        Ok((memory, remembered))
    }

    fn take(&mut self, path: PathBuf, opened: Opened) -> Remembered {
        let loaded = match opened.loaded {
            Ok(loaded) => loaded,
            Err(cause) => return self.give_up(&path, &chain(&cause)),
        };
        if let Some((damage, set_aside)) = &loaded.damage {
            log_damage(&path, damage, set_aside);
        }
        let mut file = StateFile::new(path);
        match (opened.lock, &opened.writable) {
            (Ok(lock), _) => file = file.locked(lock),
            (Err(cause), Ok(())) => {
                let cause = chain(&cause);
                warn!(
                    cause,
                    "The state file is not protected against a second exporter: {cause}."
                );
            }
            // The next error says it.
            (Err(_), Err(_)) => {}
        }
        if let Err(cause) = opened.writable {
            self.fail(file.path(), &chain(&cause));
        }
        let path = file.path().display();
        let partitions = loaded.clusters.values().map(|it| it.partitions.len());
        let partitions: usize = partitions.sum();
        info!(%path, partitions, "The state file {path} remembers {partitions} partitions.");
        self.file = Some(file);
        loaded.clusters
    }

    /// Works without a file that can be neither used nor set aside.
    fn give_up(&mut self, path: &Path, cause: &str) -> Remembered {
        let path = path.display();
        error!(
            %path, cause,
            "The state file {path} is not used, so that it is not overwritten: {cause}. Successes \
             are forgotten at the next restart."
        );
        self.writes.successful = Some(false);
        Remembered::new()
    }

    /// The memory in the configured state file, when that is another one than now. A file that
    /// could not be used is tried again.
    ///
    /// # Errors
    ///
    /// When another exporter uses the file.
    pub(super) async fn moved(
        &self,
        state_file: Option<PathBuf>,
    ) -> Result<Option<(Self, Remembered)>, LockError> {
        let is_used = self.file.is_some() || self.writing.is_some();
        if self.path == state_file && (is_used || self.path.is_none()) {
            return Ok(None);
        }
        match Self::open(state_file.clone(), &self.telemetry).await {
            // Another path of the file that is in use: its lock is the own one.
            Err(LockError::InUse { .. }) if is_used && self.has_lock_of(state_file).await => {
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }

    async fn has_lock_of(&self, state_file: Option<PathBuf>) -> bool {
        let Some((own, other)) = self.path.clone().zip(state_file) else {
            return false;
        };
        let same = tokio::task::spawn_blocking(move || state_file::is_same_lock(&own, &other));
        same.await.unwrap_or(false)
    }

    /// Begins to write what is known, if there is news since the last time and nothing is being
    /// written. Never waits: a disk that hangs must not hold signals up.
    pub(super) async fn save(&mut self, snapshots: Vec<Arc<Snapshot>>) {
        self.begin(snapshots).await;
        self.telemetry.set_state_file(self.writes);
    }

    async fn begin(&mut self, snapshots: Vec<Arc<Snapshot>>) {
        if let Some(writing) = &self.writing
            && !writing.task.is_finished()
        {
            if writing.deadline <= Instant::now()
                && let Some(path) = self.path.clone()
            {
                let cause = format!("the write has not ended within {WRITE_DEADLINE:?}");
                self.fail(&path, &cause);
            }
            return;
        }
        self.written().await;
        let unchanged = snapshots.len() == self.saved.len()
            && std::iter::zip(&snapshots, &self.saved)
                .all(|(a, b)| std::ptr::eq(Arc::as_ptr(a), b.as_ptr()));
        if unchanged {
            return;
        }
        if let Some(mut file) = self.file.take() {
            self.writing = Some(Writing {
                deadline: Instant::now() + WRITE_DEADLINE,
                task: tokio::task::spawn_blocking(move || {
                    let result = file.save(&snapshots);
                    (file, snapshots, result)
                }),
            });
        }
    }

    /// Writes what is known and waits until it is written, also if it could not be before; but not
    /// for a disk that hangs.
    pub(super) async fn save_at_last(&mut self, snapshots: Vec<Arc<Snapshot>>, deadline: Duration) {
        let saving = async {
            self.written().await;
            self.saved.clear();
            self.save(snapshots).await;
            self.written().await;
        };
        if timeout(deadline, saving).await.is_err() {
            error!(
                "The state file could not be written within {deadline:?}; the last changes are lost."
            );
        }
    }

    /// Waits for a write under way. One that fails is tried again with the next news.
    async fn written(&mut self) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        let ended = (&mut writing.task).await;
        self.writing = None;
        let Ok((file, snapshots, result)) = ended else {
            error!("Writing the state file panicked; it is not written any more.");
            self.writes.successful = Some(false);
            return;
        };
        self.saved = snapshots.iter().map(Arc::downgrade).collect();
        match result {
            Ok(()) => self.succeed(file.path()),
            Err(error) => self.fail(file.path(), &error.to_string()),
        }
        self.file = Some(file);
    }

    fn succeed(&mut self, path: &Path) {
        if std::mem::take(&mut self.is_failing) {
            let path = path.display();
            info!(%path, "The state file {path} is written again.");
        }
        self.writes = StateFileWrites {
            successful: Some(true),
            succeeded_at: Some(clock::now()),
        };
    }

    fn fail(&mut self, path: &Path, cause: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let path = path.display();
            error!(%path, cause, "Cannot write the state file {path}: {cause}.");
        }
        self.writes.successful = Some(false);
    }
}

fn log_damage(path: &Path, damage: &ReadError, set_aside: &Quarantine) {
    let (path, cause) = (path.display(), chain(damage));
    match set_aside {
        Quarantine::Kept(to) => {
            let to = to.display();
            error!(
                %path, %to, cause,
                "Cannot use the state file {path} as it is: {cause}. It is kept as {to}; successes \
                 that only the unused part remembers are unknown until the cluster reports them again."
            );
        }
        Quarantine::NotCopied(error) => error!(
            %path, cause, %error,
            "Cannot use the state file {path} as it is: {cause}. It cannot be copied ({error}) and \
             will be overwritten; successes that only the unused part remembers are unknown until \
             the cluster reports them again."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_path_of_the_state_file_in_use_is_not_a_second_exporter() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let path = folder.path().join("state.json");
        let telemetry = Arc::default();
        let (memory, _) = Memory::open(Some(path), &telemetry).await.unwrap();
        let again = folder.path().join("sub/../state.json");
        assert!(memory.moved(Some(again)).await.unwrap().is_none());
        let other = folder.path().join("other.json");
        assert!(memory.moved(Some(other.clone())).await.unwrap().is_some());
        let _locked = StateFileLock::acquire(&other).unwrap();
        assert!(memory.moved(Some(other)).await.is_err());
    }

    #[tokio::test]
    async fn a_disk_that_hangs_does_not_hold_the_end_up() {
        let telemetry = Arc::default();
        let (mut memory, _) = Memory::open(None, &telemetry).await.unwrap();
        memory.path = Some("hangs".into());
        memory.writing = Some(Writing {
            deadline: Instant::now(),
            task: tokio::spawn(std::future::pending()),
        });
        memory.save(Vec::new()).await;
        assert_eq!(telemetry.state_file().successful, Some(false));
        memory
            .save_at_last(Vec::new(), Duration::from_millis(1))
            .await;
    }
}
