//! What the operating system asks of the process.
//!
//! SIGTERM and Ctrl-C stop, SIGHUP reloads. Elsewhere than on Unix there is only Ctrl-C.

use std::io;

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
pub(super) struct Signals {
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
    /// Takes the signals over from their default handling.
    pub(super) fn listen() -> io::Result<Self> {
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
    pub(super) async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
