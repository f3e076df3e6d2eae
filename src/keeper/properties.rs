//! What must hold for any requests at all: a real keeper without a supervisor process gets whatever
//! bytes there are over a real link. In tests and under a fuzzer only; reports what was wrong
//! instead of panicking, as nothing in this room may.

use super::alone::Alone;
use super::berths::Berths;
use super::deputy::Deputy;
use super::source::Source;
use super::spawn::Workshop;
use super::{Birth, Book, Keeper, Outcome};
use crate::ipc::wire::ledger::Ledger;
use crate::ipc::wire::{FromKeeper, RECORD_BYTES_MAX, ROLES, Spawn, ToKeeper, What};
use crate::os::vigil::Vigil;
use crate::os::{clock, fds};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Each may cost a fork.
const RECORDS_MAX: usize = 40;
/// Looks for the ends of processes that were killed, of so many milliseconds each.
const LOOKS: usize = 200;
const LOOK_MS: u16 = 50;

impl Keeper {
    fn bare(link: OwnedFd) -> io::Result<Keeper> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (read, write) = UnixStream::pair()?;
        let none: &[i32] = &[];
        let signals = SignalDelivery::with_pipe(read, write, SignalOnly, none)?;
        let mut deputy = Deputy::new(&[]);
        deputy.pretend(link, &epoll)?;
        Ok(Keeper {
            epoll,
            signals,
            untold_signals: 0,
            book: Book::default(),
            workshop: Workshop::bare()?,
            berths: Berths::default(),
            deputy,
            vigil: Vigil::default(),
            sweep_due: false,
            ending: None,
            alone: Alone::default(),
            birth: Birth::Named,
            front_gone: false,
            done: None,
            args: Vec::new(),
            outcome: Outcome::None,
            trial: None,
            next: None,
            stages: None,
            sweep_put_off: 0,
        })
    }
}

/// Records, each behind a byte with its length. The keeper obeys or drops them; what it says can be
/// read, its book can be handed on, and all that it has started can be ended and acknowledged.
pub fn any_records(bytes: &[u8]) -> Result<(), String> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
    let (ours, theirs) = pair.map_err(|error| error.to_string())?;
    let mut keeper = Keeper::bare(ours).map_err(|error| error.to_string())?;
    let root = File::open("/").map_err(|error| error.to_string())?;
    let mut rest = bytes;
    for _ in 0..RECORDS_MAX {
        let Some((length, after)) = rest.split_first() else {
            break;
        };
        let (record, after) = after
            .split_at_checked(usize::from(*length))
            .unwrap_or((after, &[]));
        rest = after;
        let wanted = match ToKeeper::decode(record) {
            // It would be ourselves: whoever tries this.
            Some(ToKeeper::Spawn(Spawn {
                what: What::Launch | What::Scribe { .. },
                ..
            })) => continue,
            Some(ToKeeper::Spawn(spawn)) => {
                usize::from(spawn.directory).saturating_add(usize::from(spawn.extra))
            }
            Some(ToKeeper::Store { .. }) => 1,
            Some(_) | None => 0,
        };
        let attached: Vec<BorrowedFd<'_>> = std::iter::repeat_n(root.as_fd(), wanted).collect();
        // Empty ones can't be sent; a full link has been read by the next turn.
        let _ = fds::send(theirs.as_fd(), record, &attached);
        keeper.listen();
        keeper.tell(clock::monotonic_ns());
        hear(theirs.as_fd())?;
    }
    let copy = keeper.ledger(Outcome::None);
    if Ledger::decode(&copy.encode()).as_ref() != Some(&copy) {
        return Err(format!("a book that can't be handed on: {copy:?}"));
    }
    end_all(&mut keeper, theirs.as_fd())
}

/// All that it has said can be read.
fn hear(link: BorrowedFd<'_>) -> Result<(), String> {
    let mut buffer = [0u8; RECORD_BYTES_MAX];
    while let Ok(got) = fds::receive(link, &mut buffer) {
        let said = buffer.get(..got.bytes).unwrap_or_default();
        if said.is_empty() {
            break;
        }
        if got.cut || FromKeeper::decode(said).is_none() {
            return Err(format!("it says {said:?}"));
        }
    }
    Ok(())
}

fn end_all(keeper: &mut Keeper, link: BorrowedFd<'_>) -> Result<(), String> {
    let ids: Vec<u32> = keeper.book.ids().collect();
    let roles = 0..u8::try_from(ROLES).unwrap_or(u8::MAX);
    let keys: Vec<crate::ipc::wire::Key> = ids
        .iter()
        .flat_map(|id| {
            roles
                .clone()
                .map(|role| crate::ipc::wire::Key { id: *id, role })
        })
        .collect();
    for key in &keys {
        keeper.book.signal(*key, 9);
    }
    let mut events = [EpollEvent::empty(); 64];
    for _ in 0..LOOKS {
        for key in &keys {
            if let Some(pid) = keeper
                .book
                .process(*key)
                .map(|process| process.pid.as_raw())
            {
                keeper.book.acknowledge(*key, pid);
            }
        }
        if keys.iter().all(|key| keeper.book.process(*key).is_none()) {
            return Ok(());
        }
        let count = keeper.epoll.wait(&mut events, EpollTimeout::from(LOOK_MS));
        for event in events.iter().take(count.unwrap_or(0)) {
            let source = Source::unpack(event.data());
            if let Some(source @ (Source::Process(_) | Source::Report(_))) = source {
                keeper.turn(source);
            }
        }
        keeper.tell(clock::monotonic_ns());
        hear(link)?;
    }
    Err("a process that was killed does not end".to_owned())
}

#[cfg(test)]
mod tests;
