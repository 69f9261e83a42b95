//! Takes over files that have changed, and keeps what is in use when the new ones are no good.
//!
//! Looks once per call, and gives up on files that do not come in time. A fault is told when it
//! appears or changes, and its end once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock;
use crate::gateway::connections::{Connections, Plan};
use crate::gateway::error::BuildError;
use crate::gateway::file::FileError;
use crate::gateway::locked;
use crate::gateway::look::Look;
use crate::gateway::tls::{self, Files, Mark, Unfit};

/// Longest wait for the files.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// News about the files of a cluster.
#[derive(Debug)]
pub enum Rotation {
    /// Their new contents are in use.
    Renewed,
    /// They are again what is in use.
    Mended,
    /// They cannot be used; what is in use stays.
    Refused(BuildError),
}

/// The connections in use, and the files behind them.
#[derive(Debug)]
pub(super) struct Rotating {
    plan: Arc<Plan>,
    in_use: Mutex<Arc<Connections>>,
    watch: tokio::sync::Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    look: Look<Result<Option<Connections>, Unusable>>,
    fault: Option<String>,
    /// Of the files that cannot be understood, so that they are not taken in again while they stay
    /// the same.
    refused: Option<Mark>,
}

/// Files that cannot be used.
#[derive(Debug)]
enum Unusable {
    /// The same as at the last look.
    Still,
    /// For this reason; with their mark if time will not mend it.
    Because(BuildError, Option<Mark>),
}

impl Rotating {
    /// Reads the files for the first time.
    pub(super) fn start(plan: Plan) -> Result<Self, BuildError> {
        let files = Files::read(&plan.security).map_err(BuildError::Files)?;
        Ok(Self {
            in_use: Mutex::new(Arc::new(plan.open(&files)?)),
            plan: Arc::new(plan),
            watch: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn in_use(&self) -> Arc<Connections> {
        Arc::clone(&locked(&self.in_use))
    }

    /// Whether the files were good when last looked at; `None` when there are none.
    pub(super) async fn is_good(&self) -> Option<bool> {
        let good = self.watch.lock().await.fault.is_none();
        tls::are_in_files(&self.plan.security).then_some(good)
    }

    /// Takes over the connections of `other`, which has just read the same files, if the files have
    /// changed, as a start would: whether the client certificate is in time makes no difference.
    /// Returns whether they have.
    pub(super) async fn adopt(&self, other: Self) -> bool {
        let mut watch = self.watch.lock().await;
        let other = other.in_use();
        let changed = other.mark != self.in_use().mark;
        if changed {
            *locked(&self.in_use) = other;
        }
        // Files with a fault could not have been opened.
        (watch.fault, watch.refused) = (None, None);
        changed
    }

    /// Looks at the files, and tells what is new.
    pub(super) async fn refresh(&self) -> Option<Rotation> {
        if !tls::are_in_files(&self.plan.security) {
            return None;
        }
        let mut watch = self.watch.lock().await;
        let (plan, in_use, refused) = (Arc::clone(&self.plan), self.in_use(), watch.refused);
        let looked = watch.look.within(PATIENCE, move || {
            look(&plan, &in_use, refused, clock::now())
        });
        let looked = looked
            .await
            .unwrap_or(Err(Unusable::Because(BuildError::Late(PATIENCE), None)));
        self.take(looked, &mut watch)
    }

    fn take(
        &self,
        looked: Result<Option<Connections>, Unusable>,
        watch: &mut Watch,
    ) -> Option<Rotation> {
        match looked {
            Ok(Some(renewed)) => {
                watch.fault = None;
                *locked(&self.in_use) = Arc::new(renewed);
                Some(Rotation::Renewed)
            }
            Ok(None) => watch.fault.take().map(|_| Rotation::Mended),
            Err(Unusable::Still) => None,
            Err(Unusable::Because(fault, mark)) => {
                watch.refused = mark;
                let text = fault.to_string();
                let known = watch.fault.as_ref() == Some(&text);
                watch.fault = Some(text);
                (!known).then_some(Rotation::Refused(fault))
            }
        }
    }
}

/// New connections if the files have changed, and not into what was `refused` already.
fn look(
    plan: &Plan,
    in_use: &Connections,
    refused: Option<Mark>,
    now: DateTime<Utc>,
) -> Result<Option<Connections>, Unusable> {
    let because = |faults| Unusable::Because(BuildError::Files(faults), None);
    let files = Files::read(&plan.security).map_err(because)?;
    let mark = files.mark();
    if mark == in_use.mark {
        return Ok(None);
    }
    if refused == Some(mark) {
        return Err(Unusable::Still);
    }
    let renewed = plan.open(&files);
    let renewed = renewed.map_err(|fault| {
        // Anything else may be over a moment later, though the files stay the same.
        let of_the_files = matches!(fault, BuildError::Files(_) | BuildError::Identity { .. });
        Unusable::Because(fault, of_the_files.then_some(mark))
    })?;
    match tls::client_file(&plan.security) {
        Some(file) if in_use.in_time(now) && !renewed.in_time(now) => {
            Err(because(vec![FileError::unfit(file, Unfit::OutOfTime)]))
        }
        _ => Ok(Some(renewed)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::gateway::security::{Security, Trust};

    #[test]
    fn a_bad_file_is_understood_again_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        fs::write(&ca_file, certificate.cert.pem()).unwrap();
        let plan = Plan {
            security: Security {
                trust: Trust::Authorities {
                    ca_file: Some(ca_file.clone()),
                    server_name: None,
                    thumbprints: Vec::new(),
                },
                ..Security::default()
            },
            endpoints: vec!["https://a".parse().unwrap()],
            connect_timeout: PATIENCE,
        };
        let in_use = plan.open(&Files::read(&plan.security).unwrap()).unwrap();
        let look = |refused| look(&plan, &in_use, refused, clock::now());
        let written = |contents: &str| fs::write(&ca_file, contents).unwrap();
        written("bad");
        let Err(Unusable::Because(_, Some(mark))) = look(None) else {
            panic!("a new fault");
        };
        assert!(matches!(look(Some(mark)), Err(Unusable::Still)));
        written("also bad");
        let other = look(Some(mark));
        assert!(matches!(other, Err(Unusable::Because(_, Some(other))) if other != mark));
        written("");
        let unreadable = look(Some(mark));
        assert!(matches!(unreadable, Err(Unusable::Because(_, None))));
        written(&certificate.cert.pem());
        assert!(matches!(look(Some(mark)), Ok(None)));
    }
}
