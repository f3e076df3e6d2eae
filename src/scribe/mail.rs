//! Messages to a thread that waits on descriptors: a queue and a bell.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Where messages are put in.
#[derive(Debug)]
pub struct Post<T> {
    sender: Sender<T>,
    bell: Arc<EventFd>,
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Post<T> {
        Post {
            sender: self.sender.clone(),
            bell: self.bell.clone(),
        }
    }
}

impl<T> Post<T> {
    /// Never waits. A message to a thread that has ended is dropped.
    pub fn send(&self, message: T) {
        if self.sender.send(message).is_ok() {
            // Fails only when it has rung 2^64 times unheard.
            let _ = self.bell.write(1);
        }
    }
}

/// Where they come out.
#[derive(Debug)]
pub struct Inbox<T> {
    messages: Receiver<T>,
    bell: Arc<EventFd>,
}

impl<T> Inbox<T> {
    /// All that has come, in order, without waiting.
    pub fn take(&self) -> Vec<T> {
        let _ = self.bell.read();
        self.messages.try_iter().collect()
    }

    /// Readable when something has come.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

pub fn mailbox<T>() -> nix::Result<(Post<T>, Inbox<T>)> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (sender, messages) = channel();
    let post = Post {
        sender,
        bell: bell.clone(),
    };
    Ok((post, Inbox { messages, bell }))
}
