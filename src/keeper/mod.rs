//! The keeper: parent of every process, the supervisor and the scribe included. It holds.
//!
//! It spawns on request, refuses a second live process under one key, signals what it has not
//! reaped yet (so that no signal hits a stranger), reaps everything, and keeps the book: per
//! service its processes, stored descriptors and a blob of supervisor state. A supervisor that
//! dies is started again and gets the whole book, ends that nobody has heard of included.
//!
//! It must never block, never panic, never parse text and never decide about a service. One
//! thread, no async runtime, because it forks. Called by `main` as `outlast-keeper`; talks to the
//! supervisor only, by `ipc::wire`.

mod alone;
mod berths;
mod book;
mod deputy;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod source;
mod spawn;
pub mod stages;
mod upgrade;
mod voice;

use crate::ipc::wire::ledger::Outcome;
use crate::ipc::wire::{Ending, FromKeeper, Key, RECORD_BYTES_MAX, SCRIBE, ToKeeper, VERSION};
use crate::os::vigil::{Verdict, Vigil};
use crate::os::{clock, fds, kill_point};
use alone::Alone;
use berths::{Berths, NUMBERS_BELOW, PLACED_BELOW};
use book::Book;
use deputy::{Deputy, Owed};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use source::Source;
use spawn::Workshop;
use stages::{SIGPWR, Stages};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use upgrade::{Left, Next, Trial};
use voice::{say, write_line};

/// Descriptors that we want to be allowed: 3 a service for 10,000 services, and some to spare.
const NOFILE_WANTED: u64 = 40_000;
/// Below this limit of open files none are spent on quicker starts.
const NOFILE_FOR_BERTHS: u64 = 1_024;
/// Events taken from the kernel in one turn.
const EVENTS_PER_TURN: usize = 64;
/// Records taken from the supervisor in one turn, so that ends of processes get their turn too.
const RECORDS_PER_TURN: usize = 64;
/// Records waiting for the supervisor above which no further request of it is read.
const WAITING_MAX: usize = 4_096;
/// Orphans reaped in one sweep.
const ORPHANS_PER_SWEEP: usize = 1_024;
/// When nothing has come for so long, orphans are looked for: not while a successor is being started.
const CALM_NS: u64 = 5_000_000;
/// Turns for which a sweep may be put off.
const PUT_OFF_MAX: u8 = 64;
/// RTMIN+3 as container engines count it.
const HALT: i32 = 37;

/// How a keeper came to be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Birth {
    /// Started as one, under its own name.
    Named,
    /// It has a front.
    Fronted,
    /// The process that the user called, unchanged: its name, and what signals do to it.
    Called,
    /// Process 1 of a machine.
    First,
}

impl Birth {
    fn signals(self) -> &'static [i32] {
        match self {
            Birth::Named | Birth::Fronted => &[
                SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGQUIT, SIGUSR1, SIGUSR2, SIGPWR, HALT,
            ],
            Birth::Called => &[SIGCHLD, SIGTERM],
            // The kernel keeps from process 1 what it has no handler for (signal(7)).
            Birth::First => &[SIGCHLD, SIGINT, SIGCONT, SIGPWR, SIGHUP],
        }
    }
}

/// Holds until the supervisor says that it is done; returns the exit code. `args` go to the
/// supervisor as they are, but for what a predecessor that execs us puts in front.
pub fn main(args: &[OsString]) -> u8 {
    keep(args)
}

/// The same in the process that was called, which keeps its name and its arguments. Nothing but
/// system calls of its own may have been done in it so far: it will fork.
pub fn hold_here(args: &[OsString]) -> u8 {
    match Keeper::new(args, Birth::Called).and_then(|mut keeper| keeper.hold()) {
        Ok(code) => code,
        Err(error) => cannot_hold(&error, &[]),
    }
}

fn keep(args: &[OsString]) -> u8 {
    let left = upgrade::left(args);
    let birth = left
        .as_ref()
        .map_or(Birth::Named, |(_, args)| Birth::of(args));
    let held = left.and_then(|(left, args)| Keeper::start(args, birth, left)?.hold());
    match held {
        Ok(code) => code,
        Err(error) => cannot_hold(&error, args),
    }
}

fn cannot_hold(error: &io::Error, args: &[OsString]) -> u8 {
    say(&format!("cannot hold: {error}"));
    if stages::is_machine(args) {
        stages::hold_in_emergency();
    }
    111
}

struct Keeper {
    epoll: Epoll,
    signals: SignalDelivery<UnixStream, SignalOnly>,
    /// Caught and not told yet, one bit a signal.
    untold_signals: u64,
    book: Book,
    workshop: Workshop,
    berths: Berths,
    deputy: Deputy,
    vigil: Vigil,
    /// Children may have ended that are not in the book.
    sweep_due: bool,
    /// All services are being stopped for good.
    ending: Option<Ending>,
    alone: Alone,
    /// How we came to be, and whether the front, if there was one, has ended.
    birth: Birth,
    front_gone: bool,
    done: Option<u8>,
    args: Vec<OsString>,
    /// How the last upgrade went.
    outcome: Outcome,
    trial: Option<Trial>,
    next: Option<Next>,
    /// Of a machine whose process 1 we are.
    stages: Option<Stages>,
    /// Turns in which something else came first.
    sweep_put_off: u8,
}

impl Keeper {
    fn start(args: &[OsString], birth: Birth, left: Option<Left>) -> io::Result<Keeper> {
        match (Keeper::new(args, birth), left) {
            (Ok(mut keeper), Some(left)) => {
                keeper.take_over(left, clock::monotonic_ns());
                Ok(keeper)
            }
            (Err(_), Some(left)) => Err(left.give_back(args)),
            (Ok(mut keeper), None) if birth == Birth::First => {
                keeper.stages = Some(Stages::boot());
                keeper.deputy.rest();
                Ok(keeper)
            }
            (made, None) => made,
        }
    }

    fn new(args: &[OsString], birth: Birth) -> io::Result<Keeper> {
        if !matches!(birth, Birth::Called) {
            let _ = nix::sys::prctl::set_name(c"outlast-keeper");
        }
        if stages::is_first() {
            crate::sys::default_faults();
        }
        crate::sys::keep_heap_small();
        let nofile = fds::raise_nofile(NOFILE_WANTED);
        let few =
            matches!(birth, Birth::Called | Birth::Fronted) || fds::most() < NOFILE_FOR_BERTHS;
        let mut placeholders = berths::occupy(if few { PLACED_BELOW } else { NUMBERS_BELOW })?;
        // PIDs of orphans come to us, not to init: what a service leaves behind stays within reach.
        nix::sys::prctl::set_child_subreaper(true)?;
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let signals = SignalDelivery::with_pipe(read, write, SignalOnly, birth.signals())?;
        // Whoever started us may have blocked them, and that is inherited through an exec.
        SigSet::empty().thread_set_mask()?;
        if birth == Birth::Fronted {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGUSR1)?;
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, Source::Signals.pack());
        epoll.add(signals.get_read(), interest)?;
        let berthed = placeholders
            .extract_if(.., |fd| fd.as_raw_fd() >= PLACED_BELOW)
            .collect();
        let berths = Berths::new(berthed, &epoll);
        let keeps_ignored = matches!(birth, Birth::Called | Birth::Fronted);
        let workshop = Workshop::new(nofile, placeholders, keeps_ignored)?;
        let deputy = match args {
            [_, supervisors @ ..] if birth == Birth::First => Deputy::new(supervisors),
            all => Deputy::new(all),
        };
        Ok(Keeper {
            epoll,
            signals,
            untold_signals: 0,
            book: Book::default(),
            workshop,
            berths,
            deputy,
            vigil: Vigil::default(),
            sweep_due: false,
            ending: None,
            alone: Alone::default(),
            birth,
            front_gone: false,
            done: None,
            args: args.to_vec(),
            outcome: Outcome::None,
            trial: None,
            next: None,
            stages: (birth == Birth::First).then(Stages::serving),
            sweep_put_off: 0,
        })
    }

    fn hold(&mut self) -> io::Result<u8> {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        loop {
            if let Some(code) = self.done
                && !self.deputy.lives()
                && self.stages.is_none()
            {
                return Ok(code);
            }
            if !self.deputy.lives()
                && let Some(next) = self.next.take()
            {
                let error = self.become_next(next);
                say(&format!(
                    "cannot execute the other binary: {error}; going on with this one"
                ));
                self.outcome = Outcome::Refused(error as i32);
                self.deputy.hurry();
            }
            let now_ns = clock::monotonic_ns();
            if let Some(code) = self.proceed(now_ns) {
                return Ok(code);
            }
            if self
                .deputy
                .start_when_due(now_ns, &self.workshop, &self.epoll)
            {
                self.vigil.started(now_ns);
            }
            self.judge(now_ns);
            self.end_alone(now_ns);
            self.tell(now_ns);
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            // Orphans wait until there has been nothing else to do: looking for them walks all
            // children, a fifth of a millisecond for a thousand. But not for ever.
            if self.sweep_due && (count == 0 || self.sweep_put_off >= PUT_OFF_MAX) {
                self.sweep_put_off = 0;
                self.sweep();
            } else if self.sweep_due {
                self.sweep_put_off = self.sweep_put_off.saturating_add(1);
            }
            for event in events.iter().take(count) {
                if let Some(source) = Source::unpack(event.data()) {
                    self.turn(source);
                }
            }
        }
    }

    fn patience(&self) -> EpollTimeout {
        let (deputy, vigil) = (self.deputy.due_ns(), self.vigil.due_ns());
        let calm = self
            .sweep_due
            .then(|| clock::monotonic_ns().saturating_add(CALM_NS));
        let trial = self.trial.as_ref().map(|trial| trial.until_ns);
        let stages = self.stages.as_ref().and_then(Stages::due_ns);
        let alone = self.alone.due_ns(self.deputy.is_listening());
        let all = [deputy, vigil, trial, stages, calm, alone];
        match all.into_iter().flatten().min() {
            Some(due_ns) => {
                let left_ns = due_ns.saturating_sub(clock::monotonic_ns());
                EpollTimeout::try_from(left_ns.div_ceil(1_000_000)).unwrap_or(EpollTimeout::MAX)
            }
            None => EpollTimeout::NONE,
        }
    }

    /// Asks a supervisor that something waits for, and ends one that does not answer.
    fn judge(&mut self, now_ns: u64) {
        if self
            .trial
            .as_ref()
            .is_some_and(|trial| trial.until_ns <= now_ns)
        {
            self.fail_trial(Outcome::Silent);
        }
        let deputy = &self.deputy;
        match self.vigil.judge(now_ns, || deputy.is_waited_for()) {
            Verdict::Fine => {}
            Verdict::Ask => self.deputy.ask(),
            Verdict::Replace => self.deputy.replace(),
        }
    }

    fn turn(&mut self, source: Source) {
        match source {
            Source::Signals => self.catch(),
            Source::Link => {
                self.listen();
            }
            Source::Deputy => self.deputy_ended(),
            Source::Door => self.vigil.called(clock::monotonic_ns()),
            Source::Berths => self.berths.settle(),
            Source::Process(key) => {
                self.berths.leave(key);
                let news = self.book.reap(key, &self.epoll);
                if news.worked {
                    self.deputy.owe(Owed::Start(key));
                }
                if news.ended {
                    kill_point("end-untold");
                    self.deputy.owe(Owed::End(key));
                }
            }
            Source::Report(key) => {
                if self.book.read_report(key, &self.epoll) {
                    kill_point("start-untold");
                    self.deputy.owe(Owed::Start(key));
                }
            }
        }
    }

    fn catch(&mut self) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            if signal == SIGUSR1 && self.birth == Birth::Fronted {
                self.front_gone = true;
            }
            if signal == SIGCHLD {
                self.sweep_due = true;
            } else if self.stages.is_some() {
                self.told(signal);
            } else if let Some(bit) = u32::try_from(signal)
                .ok()
                .and_then(|at| 1u64.checked_shl(at))
            {
                self.untold_signals |= bit;
                self.caught_alone(signal, clock::monotonic_ns());
            }
        }
    }

    /// Reaps what ended without being in the book; what is in it takes its own way.
    fn sweep(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        for _ in 0..ORPHANS_PER_SWEEP {
            let pid = match waitid(Id::All, flags) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                Err(Errno::EINTR) => continue,
                Ok(_) | Err(_) => {
                    self.sweep_due = false;
                    // A stop comes by the same signal.
                    if self.deputy.is_stopped() {
                        self.vigil.stopped(clock::monotonic_ns());
                    }
                    let key = Key {
                        id: SCRIBE,
                        role: 0,
                    };
                    if self.book.is_stopped(key) {
                        let record = FromKeeper::Stopped { key };
                        self.deputy.owe(Owed::Record(record));
                    }
                    return;
                }
            };
            self.ended(pid);
        }
    }

    fn ended(&mut self, pid: Pid) {
        if self.deputy.is(pid) {
            self.deputy_ended();
        } else if self.stages.as_ref().is_some_and(|stages| stages.has(pid)) {
            self.stage_ended(pid);
        } else if let Some(key) = self.book.key_of(pid) {
            self.turn(Source::Process(key));
        } else {
            let _ = crate::sys::reap(pid);
        }
    }

    fn deputy_ended(&mut self) {
        // What it said last still counts, above all that it was done.
        while self.done.is_none() && self.listen() {}
        let asked = self.done.is_some() || self.next.is_some();
        self.deputy.reap(clock::monotonic_ns(), asked, &self.epoll);
        if !self.deputy.lives() {
            self.vigil.ended();
            if !asked {
                self.fail_trial(Outcome::Ended);
                self.supervisor_lost();
                self.left_alone(clock::monotonic_ns());
            }
        }
    }

    /// Sends what the supervisor is owed, as far as it reads.
    fn tell(&mut self, now_ns: u64) {
        if !self.deputy.is_listening() {
            return;
        }
        for signal in 1..64u8 {
            if let Some(bit) = 1u64.checked_shl(u32::from(signal))
                && self.untold_signals & bit != 0
            {
                self.untold_signals &= !bit;
                self.deputy.owe(Owed::Record(FromKeeper::Caught { signal }));
            }
        }
        if self.deputy.pay(&self.book, &self.epoll) {
            self.vigil.stir(now_ns);
        }
    }

    /// Takes requests from the supervisor. True when there may be more of them.
    fn listen(&mut self) -> bool {
        let mut buffer = [0u8; RECORD_BYTES_MAX];
        for _ in 0..RECORDS_PER_TURN {
            if self.deputy.owes() > WAITING_MAX {
                return false;
            }
            let Some(link) = self.deputy.link() else {
                return false;
            };
            match fds::receive(link, &mut buffer) {
                Ok(got) if got.bytes == 0 => {
                    self.hung_up();
                    return false;
                }
                Ok(got) => {
                    self.deputy.heard(clock::monotonic_ns());
                    let record = buffer.get(..got.bytes).and_then(ToKeeper::decode);
                    match record {
                        Some(record) if got.short => self.without_descriptors(&record),
                        Some(record) if !got.cut => self.request(record, got.fds),
                        Some(_) | None => self.deputy.babbled(),
                    }
                }
                Err(Errno::EAGAIN) => return false,
                // It closed without reading all we had sent; told once, before its own last words.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(_) => {
                    self.hung_up();
                    return false;
                }
            }
        }
        true
    }

    /// The supervisor has closed its end: it is done, or of no use any more.
    fn hung_up(&mut self) {
        self.vigil.leaving(clock::monotonic_ns());
        if self.done.is_some() || self.next.is_some() {
            self.deputy.let_go(&self.epoll);
        } else {
            self.deputy.hang_up();
        }
    }

    fn request(&mut self, record: ToKeeper, mut fds: Vec<OwnedFd>) {
        match record {
            ToKeeper::Hello { version } => self.welcome(version),
            ToKeeper::Spawn(spawn) => {
                let (book, berths) = (&mut self.book, &mut self.berths);
                let made = self.workshop.make(&spawn, fds, book, berths, &self.epoll);
                if let Err(refused) = made {
                    self.deputy.owe(Owed::Record(refused));
                }
            }
            ToKeeper::Signal { key, signal } => self.book.signal(key, signal),
            ToKeeper::Store { id, slot } => {
                if let Some(fd) = fds.pop() {
                    self.book.store(id, slot, fd);
                }
            }
            ToKeeper::Fetch { id, slot } => self.deputy.owe(Owed::Fetched { id, slot }),
            ToKeeper::Drop { id, slot } => self.book.discard(id, slot),
            ToKeeper::Blob { id, bytes } => self.book.note(id, bytes),
            ToKeeper::Acknowledge { key, pid } => self.book.acknowledge(key, pid),
            ToKeeper::Forget { id } => {
                if !self.book.forget(id) {
                    say("a service with a live process is not forgotten");
                }
            }
            ToKeeper::Adopt { key, pid } => {
                if let Some(pidfd) = fds.pop() {
                    self.workshop
                        .adopt(key, pid, pidfd, &mut self.book, &self.epoll);
                }
            }
            ToKeeper::Ending(ending) => {
                self.ending = Some(ending);
                self.alone.taken();
            }
            // A machine is not ended by a supervisor that was not asked to end.
            ToKeeper::Done { .. } if self.stages.is_some() && self.ending.is_none() => {}
            ToKeeper::Done { code } => self.done = Some(code),
            ToKeeper::Listen { dev, ino } => {
                if let Some(socket) = fds.pop() {
                    self.deputy.listen(socket, dev, ino, &self.epoll);
                }
            }
            ToKeeper::Copy => {
                let copy = upgrade::write(&self.ledger(self.outcome));
                self.deputy.owe(Owed::Copy(copy.ok()));
            }
            ToKeeper::Upgrade => {
                if let Some(binary) = fds.pop() {
                    let outcome = Outcome::Done;
                    self.next = Some(Next { binary, outcome });
                }
            }
            ToKeeper::Here => {
                if self.trial.take().is_some() {
                    say("the new binary's supervisor serves; upgraded");
                }
                let waits = self.deputy.is_waited_for();
                self.vigil.answered(clock::monotonic_ns(), waits);
            }
        }
    }

    /// A request whose descriptors found no room. A start is refused, and will be tried again. Of
    /// what was to be kept the supervisor must not believe that it is: its successor sees what is.
    fn without_descriptors(&mut self, record: &ToKeeper) {
        if let ToKeeper::Spawn(spawn) = record {
            let refused = spawn::refusal(spawn.key, Errno::EMFILE, String::new());
            self.deputy.owe(Owed::Record(refused));
        } else {
            say("no room for a descriptor that is to be kept; the supervisor is replaced");
            self.deputy.hang_up();
        }
    }

    fn welcome(&mut self, version: u16) {
        if version != VERSION {
            say(&format!(
                "the supervisor speaks version {version}, not {VERSION}"
            ));
        }
        let now_ns = clock::monotonic_ns();
        self.vigil.answered(now_ns, false);
        // Whoever has connected meanwhile is waiting.
        self.vigil.called(now_ns);
        self.deputy.greet(now_ns, self.outcome, &self.book);
        kill_point("supervisor-greeted");
        if self.trial.is_some() {
            self.deputy.owe(Owed::Record(FromKeeper::StillThere));
        }
        // What a predecessor was told and its successor has to know as well.
        if let (true, Ok(signal)) = (self.front_gone, u8::try_from(SIGUSR1)) {
            self.deputy.owe(Owed::Record(FromKeeper::Caught { signal }));
        }
        if let Some(ending) = self.ending {
            self.deputy.owe(Owed::Record(FromKeeper::Ending(ending)));
        }
        // What came before, the boot of a machine above all, comes once.
        crate::sys::let_go_of_program();
    }
}
