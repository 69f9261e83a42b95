//! The state file in the life of the process: read once, written whenever there is news.
//!
//! Decides when; what is written and how it stays whole is the state file's business. A failure
//! is logged and never ends the process: the exporter then only forgets at its next restart.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use tokio::task::JoinHandle;
use tracing::error;

use crate::clock;
use crate::config::Config;
use crate::snapshot::Snapshot;
use crate::state_file::{self, StateFile};

/// The state file, if there is one, and what was last written to it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    file: Option<StateFile>,
    saved: Vec<Weak<Snapshot>>,
    writing: Option<JoinHandle<Written>>,
}

/// What comes back from writing: the file, what was to be written, and how it went.
type Written = (StateFile, Vec<Arc<Snapshot>>, io::Result<()>);

impl Memory {
    /// Opens the state file of `config` and reads what it remembers.
    pub(super) fn open(config: &Config) -> (Self, BTreeMap<Arc<str>, Snapshot>) {
        let mut memory = Self::default();
        let Some(path) = &config.state_file else {
            return (memory, BTreeMap::new());
        };
        let clusters = match state_file::load(path, clock::now()) {
            Ok(loaded) => {
                if let Some((to, damage)) = loaded.set_aside {
                    let (path, to) = (path.display(), to.display());
                    let cause = format!("{:#}", anyhow::Error::new(damage));
                    error!(
                        %path, %to, cause,
                        "Cannot use the state file {path} ({cause}). It is kept as {to}; successes \
                         before this start are not known until the cluster tells them again."
                    );
                }
                memory.file = Some(StateFile::new(path.clone()));
                loaded.clusters
            }
            Err(cause) => {
                let path = path.display();
                let cause = format!("{:#}", anyhow::Error::new(cause));
                error!(
                    %path, cause,
                    "The state file {path} is not used, so that it is not written over: {cause}."
                );
                BTreeMap::new()
            }
        };
        (memory, clusters)
    }

    /// The memory for `config` and what it holds, when that is another file than now. A file that
    /// could not be used is tried again.
    pub(super) async fn moved(
        &mut self,
        config: &Config,
    ) -> Option<(Self, BTreeMap<Arc<str>, Snapshot>)> {
        self.written().await;
        let current = self.file.as_ref().map(StateFile::path);
        (current != config.state_file.as_deref()).then(|| Self::open(config))
    }

    /// Begins to write what is known, if there is news since the last time and nothing is being
    /// written. Never waits: a disk that hangs must not hold signals up.
    pub(super) async fn save(&mut self, snapshots: Vec<Arc<Snapshot>>) {
        if self
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_finished())
        {
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
            self.writing = Some(tokio::task::spawn_blocking(move || {
                let result = file.save(&snapshots);
                (file, snapshots, result)
            }));
        }
    }

    /// Writes what is known and waits until it is written, also if it could not be before.
    pub(super) async fn save_at_last(&mut self, snapshots: Vec<Arc<Snapshot>>) {
        self.written().await;
        self.saved.clear();
        self.save(snapshots).await;
        self.written().await;
    }

    /// Waits for what is being written. A failure is told and tried again with the next news.
    async fn written(&mut self) {
        let Some(writing) = self.writing.take() else {
            return;
        };
        let Ok((file, snapshots, result)) = writing.await else {
            error!("Writing the state file has broken; it is not written any more.");
            return;
        };
        self.saved = snapshots.iter().map(Arc::downgrade).collect();
        if let Err(error) = result {
            let path = file.path().display();
            error!(%path, %error, "Cannot write the state file {path}: {error}.");
        }
        self.file = Some(file);
    }
}
