//! What the operating system asks of the process.
//!
//! SIGTERM and Ctrl-C stop, SIGHUP reloads. Elsewhere than on Unix there is only Ctrl-C.

use std::io;

use anyhow::Context;

#[cfg(unix)]
use tokio::signal::unix::{self, SignalKind};
#[cfg(windows)]
use tokio::signal::windows;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Reload,
    Stop,
}

/// The signals of this process, from the moment of listening on.
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
    /// Takes the signals over from their default handling, which ends the process and leaves
    /// behind what it has made.
    ///
    /// # Errors
    ///
    /// When the operating system does not let it.
    pub fn listen() -> anyhow::Result<Self> {
        Self::take_over().context("cannot listen for signals")
    }

    fn take_over() -> io::Result<Self> {
        // Its default handling ends the process when a file reaches the limit of `ulimit -f`. With a
        // handler, which stays for the life of the process, the write fails instead.
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

    /// Waits for the next request to stop.
    pub async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
