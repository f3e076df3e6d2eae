//! What the logs of one thread share: buffers, the time, the thread that waits for fsync.

use super::stamp::Stamper;
use crate::os::clock;
use std::fs::File;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// Rotated files waiting for their fsync; beyond that the kernel writes them in its own time.
const SYNC_QUEUE_MAX: usize = 8;

/// The time, read once for each read of input.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since 1970.
    pub wall: Duration,
    pub mono_ns: u64,
}

impl Now {
    pub fn read() -> Now {
        Now {
            wall: clock::wall(),
            mono_ns: clock::monotonic_ns(),
        }
    }
}

/// Sees each selected line as it is written. `whole` is false for the head of a line that is longer
/// than the limit.
pub trait Witness {
    fn line(&mut self, text: &[u8], whole: bool);
}

/// For when nobody looks.
pub struct Nobody;

impl Witness for Nobody {
    fn line(&mut self, _text: &[u8], _whole: bool) {}
}

/// What the logs of one thread share, so that an idle log has no buffers.
#[derive(Debug, Default)]
pub struct Desk {
    /// Stamped bytes for the current file of the log at work.
    pub(super) out: Vec<u8>,
    /// Bytes of the line in hand that belong behind a rotation.
    pub(super) then: Vec<u8>,
    pub(super) stamper: Stamper,
    sync: Option<SyncSender<File>>,
}

impl Desk {
    /// Has a rotated file brought to the disk: by a thread of its own, since an fsync on the way
    /// would cost two thirds of the speed.
    pub(super) fn sync(&mut self, file: File, inline: bool) {
        if inline {
            // svlogd tells of a failure and goes on; the next write to this disk fails as well.
            let _ = file.sync_all();
            return;
        }
        if self.sync.is_none() {
            let (sender, files) = sync_channel::<File>(SYNC_QUEUE_MAX);
            let worker = std::thread::Builder::new()
                .name("outlast-sync".into())
                .spawn(move || files.iter().for_each(|file| drop(file.sync_all())));
            self.sync = worker.ok().map(|_| sender);
        }
        if let Some(sender) = &self.sync {
            let _ = sender.try_send(file);
        }
    }
}
