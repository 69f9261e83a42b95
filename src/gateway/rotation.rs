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
use crate::gateway::tls::{self, Files, Unfit};

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
    look: Look<Result<Option<Connections>, BuildError>>,
    fault: Option<String>,
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

    /// Looks at the files, and tells what is new.
    pub(super) async fn refresh(&self) -> Option<Rotation> {
        if !tls::are_in_files(&self.plan.security) {
            return None;
        }
        let mut watch = self.watch.lock().await;
        let (plan, in_use) = (Arc::clone(&self.plan), self.in_use());
        let looked = watch
            .look
            .within(PATIENCE, move || look(&plan, &in_use, clock::now()));
        let looked = looked.await.unwrap_or(Err(BuildError::Late(PATIENCE)));
        self.take(looked, &mut watch)
    }

    fn take(
        &self,
        looked: Result<Option<Connections>, BuildError>,
        watch: &mut Watch,
    ) -> Option<Rotation> {
        match looked {
            Ok(Some(renewed)) => {
                watch.fault = None;
                *locked(&self.in_use) = Arc::new(renewed);
                Some(Rotation::Renewed)
            }
            Ok(None) => watch.fault.take().map(|_| Rotation::Mended),
            Err(fault) => {
                let text = fault.to_string();
                let known = watch.fault.as_ref() == Some(&text);
                watch.fault = Some(text);
                (!known).then_some(Rotation::Refused(fault))
            }
        }
    }
}

/// New connections if the files have changed.
fn look(
    plan: &Plan,
    in_use: &Connections,
    now: DateTime<Utc>,
) -> Result<Option<Connections>, BuildError> {
    let files = Files::read(&plan.security).map_err(BuildError::Files)?;
    if files.mark() == in_use.mark {
        return Ok(None);
    }
    let renewed = plan.open(&files)?;
    match tls::client_file(&plan.security) {
        Some(file) if in_use.in_time(now) && !renewed.in_time(now) => {
            let fault = FileError::unfit(file, Unfit::OutOfTime);
            Err(BuildError::Files(vec![fault]))
        }
        _ => Ok(Some(renewed)),
    }
}
