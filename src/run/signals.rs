//! Signals: SIGTERM and Ctrl-C stop the process, SIGHUP reloads. On Windows there is only Ctrl-C.

use std::io;

use anyhow::Context;

#[cfg(unix)]
use tokio::signal::unix::{self, SignalKind};
#[cfg(windows)]
use tokio::signal::windows;

/// The requested action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Reload,
    Stop,
}

/// Receives the signals of this process.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    interrupt: unix::Signal,
    #[cfg(unix)]
    terminate: unix::Signal,
    #[cfg(unix)]
    hang_up: unix::Signal,
    #[cfg(windows)]
    ctrl_c: windows::CtrlC,
}

impl Signals {
    /// Replaces the default handlers, which end the process without cleaning up.
    ///
    /// # Errors
    ///
    /// If a handler cannot be installed.
    pub fn listen() -> anyhow::Result<Self> {
        Self::install().context("cannot listen for signals")
    }

    fn install() -> io::Result<Self> {
        // By default, SIGXFSZ ends the process when a file reaches the limit of `ulimit -f`. With a
        // handler, which stays installed, the write fails instead.
        #[cfg(unix)]
        drop(unix::signal(SignalKind::from_raw(libc::SIGXFSZ))?);
        Ok(Self {
            #[cfg(unix)]
            interrupt: unix::signal(SignalKind::interrupt())?,
            #[cfg(unix)]
            terminate: unix::signal(SignalKind::terminate())?,
            #[cfg(unix)]
            hang_up: unix::signal(SignalKind::hangup())?,
            #[cfg(windows)]
            ctrl_c: windows::ctrl_c()?,
        })
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    /// Waits for the next signal.
    #[cfg(windows)]
    pub(super) async fn next(&mut self) -> Signal {
        self.ctrl_c.recv().await;
        Signal::Stop
    }

    /// Waits for a signal to stop.
    pub async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
