//! What the logs of one thread share: buffers, the time, the thread that waits for fsync.

use super::stamp::Stamper;
use crate::os::clock;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rotated files waiting for their fsync; beyond that the kernel writes them in its own time. Few,
/// since a program that ends waits for them.
const SYNC_QUEUE_MAX: usize = 2;

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

/// Sees each selected line as it is written. `begun` is when its first byte came, since 1970; `whole`
/// is false for the head of a line that is longer than the limit.
pub trait Witness {
    fn line(&mut self, begun: Duration, text: &[u8], whole: bool);
}

/// For when nobody looks.
pub struct Nobody;

impl Witness for Nobody {
    fn line(&mut self, _begun: Duration, _text: &[u8], _whole: bool) {}
}

/// What the logs of one thread share, so that an idle log has no buffers.
#[derive(Debug, Default)]
pub struct Desk {
    /// Stamped bytes for the current file of the log at work.
    pub(super) out: Vec<u8>,
    /// Bytes of the line in hand that belong behind a rotation.
    pub(super) then: Vec<u8>,
    /// Bytes of the input that have not been looked at.
    pub(super) left: usize,
    pub(super) stamper: Stamper,
    /// Lines for standard error.
    pub(super) errors: Vec<u8>,
    /// Made when the first line is sent.
    pub(super) socket: Option<UdpSocket>,
    syncer: Option<Syncer>,
}

/// The thread that waits for fsync.
#[derive(Debug)]
struct Syncer {
    files: SyncSender<File>,
    thread: JoinHandle<()>,
}

impl Desk {
    /// Lines that a log's `e` rules chose; there is nobody to tell when they can't be written.
    pub(super) fn tell_errors(&mut self) {
        if !self.errors.is_empty() {
            let _ = std::io::stderr().write_all(&self.errors);
            self.errors.clear();
        }
    }

    /// One line as a datagram; whether the kernel took it.
    pub(super) fn send(&mut self, line: &[u8], to: SocketAddrV4) -> bool {
        if self.socket.is_none() {
            self.socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok();
        }
        let Some(socket) = &self.socket else {
            return false;
        };
        // A datagram that nobody received comes back as the next one's error, once.
        (0..2).any(|_| socket.send_to(line, to).is_ok())
    }

    /// Has a rotated file brought to the disk: by a thread of its own, since an fsync on the way
    /// would cost two thirds of the speed.
    pub(super) fn sync(&mut self, file: File) {
        if self.syncer.is_none() {
            let (sender, files) = sync_channel::<File>(SYNC_QUEUE_MAX);
            let worker = std::thread::Builder::new()
                .name("outlast-sync".into())
                .spawn(move || files.iter().for_each(|file| drop(file.sync_all())));
            let files = sender;
            self.syncer = worker.ok().map(|thread| Syncer { files, thread });
        }
        if let Some(syncer) = &self.syncer {
            let _ = syncer.files.try_send(file);
        }
    }

    /// Waits until the rotated files that were handed over are on disk and closed.
    pub fn settle(&mut self) {
        if let Some(Syncer { files, thread }) = self.syncer.take() {
            drop(files);
            let _ = thread.join();
        }
    }
}
