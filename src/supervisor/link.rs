//! The supervisor's end of the keeper's wire: never waits, keeps what does not fit for later.

use crate::ipc::wire::{FromKeeper, RECORD_BYTES_MAX, ToKeeper, Welcome};
use crate::os::fds;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A datagram socket in the event loop with a queue in front of it. Used for the keeper and for
/// the scribe.
pub struct Link {
    socket: AsyncFd<OwnedFd>,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    buffer: Box<[u8]>,
}

impl Link {
    pub fn new(socket: OwnedFd, datagram_bytes_max: usize) -> io::Result<Link> {
        let buffer = vec![0; datagram_bytes_max].into_boxed_slice();
        Ok(Link {
            socket: fds::in_event_loop(socket)?,
            queue: VecDeque::new(),
            buffer,
        })
    }

    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Gives back what a queue took that was long once.
    pub fn give_back(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// What was sent has not been read.
    pub fn is_unread(&self) -> bool {
        fds::unread(self.socket.get_ref())
    }

    /// Sends now or, when the other side is slow, later but in order. Descriptors are duplicated
    /// only if they have to wait.
    pub fn send(&mut self, bytes: Vec<u8>, attached: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.queue.is_empty() {
            match fds::send(self.socket.as_fd(), &bytes, attached) {
                Ok(()) => return Ok(()),
                Err(error) if is_later(error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let kept: io::Result<Vec<OwnedFd>> =
            attached.iter().map(|fd| fd.try_clone_to_owned()).collect();
        self.queue.push_back((bytes, kept?));
        Ok(())
    }

    /// Ready when something can be received, or sent if something waits for that.
    pub async fn ready(&self) {
        let interest = if self.queue.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        if let Ok(mut guard) = self.socket.ready(interest).await {
            guard.retain_ready();
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, kept)) = self.queue.front() {
            let attached: Vec<BorrowedFd<'_>> = kept.iter().map(AsFd::as_fd).collect();
            let sent = self.socket.try_io(Interest::WRITABLE, |socket| {
                match fds::send(socket.as_fd(), bytes, &attached) {
                    Err(error) if is_later(error) => Err(io::ErrorKind::WouldBlock.into()),
                    other => other.map_err(io::Error::from),
                }
            });
            match sent {
                Ok(()) => drop(self.queue.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One datagram; None when there is none now, an error when the other side has gone.
    pub fn receive(&mut self) -> io::Result<Option<(&[u8], Vec<OwnedFd>)>> {
        let buffer = &mut self.buffer;
        let got = self.socket.try_io(Interest::READABLE, |socket| {
            loop {
                match fds::receive(socket.as_fd(), buffer) {
                    Err(Errno::EINTR) => {}
                    Ok(got) if got.short => return Err(Errno::EMFILE.into()),
                    other => return other.map_err(io::Error::from),
                }
            }
        });
        match got {
            Ok(got) if got.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => Ok(Some((
                self.buffer.get(..got.bytes).unwrap_or_default(),
                got.fds,
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_later(error: Errno) -> bool {
    matches!(
        error,
        Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR | Errno::ETOOMANYREFS
    )
}

/// The keeper's wire over such a link.
pub struct KeeperLink {
    /// None when the keeper was killed.
    link: Option<Link>,
}

impl KeeperLink {
    pub fn new(socket: OwnedFd) -> io::Result<KeeperLink> {
        let link = Link::new(socket, RECORD_BYTES_MAX)?;
        Ok(KeeperLink { link: Some(link) })
    }

    pub fn send(&mut self, record: &ToKeeper, attached: &[BorrowedFd<'_>]) -> io::Result<()> {
        match &mut self.link {
            Some(link) => link.send(record.encode(), attached),
            None => Ok(()),
        }
    }

    pub fn give_back(&mut self) {
        if let Some(link) = &mut self.link {
            link.give_back();
        }
    }

    /// There is no keeper any more: nothing is sent, and nothing comes.
    pub fn lose(&mut self) {
        self.link = None;
    }

    /// The keeper's first record: what it knows of our predecessors, and the socket they left.
    pub async fn welcome(&mut self) -> io::Result<(Welcome, Option<OwnedFd>)> {
        loop {
            self.flush()?;
            match self.receive()? {
                Some((FromKeeper::Welcome(welcome), mut fds)) => return Ok((welcome, fds.pop())),
                Some(_) => {}
                None => self.ready().await,
            }
        }
    }

    /// Records that the keeper has not taken yet.
    pub fn waiting(&self) -> usize {
        self.link.as_ref().map_or(0, Link::waiting)
    }

    pub async fn ready(&self) {
        match &self.link {
            Some(link) => link.ready().await,
            None => std::future::pending().await,
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.link.as_mut().map_or(Ok(()), Link::flush)
    }

    /// Waits until the keeper has taken everything: for the last words, since what still waits here
    /// when we end is lost. What it tells us meanwhile is passed over, because it stops reading when
    /// too much waits for us.
    pub async fn deliver(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            if self.waiting() == 0 {
                return Ok(());
            }
            while self.receive()?.is_some() {}
            self.ready().await;
        }
    }

    /// A record of a later version that we don't know is passed over.
    pub fn receive(&mut self) -> io::Result<Option<(FromKeeper, Vec<OwnedFd>)>> {
        let Some(link) = &mut self.link else {
            return Ok(None);
        };
        while let Some((bytes, fds)) = link.receive()? {
            if let Some(record) = FromKeeper::decode(bytes) {
                return Ok(Some((record, fds)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
    use std::os::fd::AsRawFd;

    #[tokio::test]
    async fn the_last_words_arrive_however_much_waits_before_them() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("sockets");
        nix::fcntl::fcntl(
            &ours,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .expect("non-blocking");
        let mut link = KeeperLink::new(ours).expect("a link");
        while link.waiting() < 100 {
            link.send(&ToKeeper::Forget { id: 1 }, &[]).expect("sent");
        }
        let done = ToKeeper::Done { code: 0 };
        link.send(&done, &[]).expect("sent");
        let keeper = std::thread::spawn(move || {
            let mut buffer = [0u8; RECORD_BYTES_MAX];
            let mut last = None;
            while let Ok(count @ 1..) = recv(theirs.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                last = ToKeeper::decode(&buffer[..count]);
            }
            last
        });
        link.deliver().await.expect("delivered");
        drop(link);
        assert_eq!(keeper.join().expect("read"), Some(done));
    }
}
