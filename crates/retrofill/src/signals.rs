//! Ctrl-C and SIGTERM: the first finishes the slices in hand, the second rolls them back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use retrofill_core::error::{Error, Result};
use retrofill_core::runner::Stop;
use tokio::signal::unix::{SignalKind, signal};

/// Which signal asked this process to stop.
#[derive(Debug, Default)]
pub struct Signals(AtomicI32);

/// Lets a write beyond the limit on the size of files fail like any other, with an error that can
/// be told, instead of ending the process without a word. Called inside a runtime.
pub fn survive_file_limits() {
    let raw = rustix::process::Signal::XFSZ.as_raw();
    // Where it cannot be caught, the limit ends the process as it would anyway.
    drop(signal(SignalKind::from_raw(raw)));
}

impl Signals {
    /// Starts to listen; `say` is told what each signal does.
    pub fn listen(stop: Arc<Stop>, say: impl Fn(&str) + Send + 'static) -> Result<Arc<Self>> {
        let signals = Arc::new(Signals::default());
        let failed = |e| Error::unavailable("signals cannot be listened to").because(e);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let seen = signals.clone();
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                };
                let first = seen.0.swap(code, Ordering::SeqCst) == 0;
                if first {
                    stop.gracefully();
                    say("stopping after the slices in hand; once more rolls them back now");
                } else {
                    stop.now();
                    say("rolling back the slices in hand");
                }
            }
        });
        Ok(signals)
    }

    /// The exit code of the last signal: 130 or 143.
    pub fn exit(&self) -> Option<i32> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            code => Some(code),
        }
    }
}
