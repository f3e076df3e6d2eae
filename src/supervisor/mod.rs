//! The supervisor: carries out what the machine decides.
//!
//! One thread and one loop: news from the keeper, the disk thread, the scribe, control FIFOs and
//! clients become events; the fleet answers with actions; `perform` carries them out. It must never
//! wait for a disk, a process or a client. It holds nothing that its successor could not get from
//! the keeper's book and the service directories. Called by `main` as `outlast-super`, started by
//! the keeper.

mod abroad;
mod afterwards;
mod awaited;
mod background;
mod capacity;
mod cgroups;
mod closing;
mod diagnostics;
mod directories;
mod disk;
mod door;
mod ends;
mod farewell;
pub mod fitness;
mod hear;
mod keeperless;
mod leftovers;
mod link;
pub mod manner;
mod names;
mod output;
mod pen;
mod perform;
mod place;
mod quarantine;
mod requests;
mod resolve;
mod runit;
mod show;
mod standing;
mod story;
mod stuck;
mod sweep;
mod takeover;
mod threads;
mod untold;
mod upgrade;
mod watched;
mod words;

use crate::ipc::control::Trouble;
use crate::ipc::wire::ledger::Outcome;
use crate::ipc::wire::{self, Ending, Format, FromKeeper, ToKeeper};
use crate::machine::fleet::{Fleet, Out};
use crate::machine::vocab::{self, Event, ServiceId, Signal, Tick};
use crate::os::pidfd::PidFd;
use crate::os::{self, clock, fds};
use abroad::Abroad;
use afterwards::Afterwards;
use capacity::Capacity;
use cgroups::Cgroups;
use disk::{Disk, Job};
use door::{Ask, DoorError, Opened};
use ends::Ends;
use farewell::Stage;
use keeperless::Bereft;
use link::KeeperLink;
use manner::Manner;
use names::Names;
use pen::Pen;
use place::Place;
use quarantine::Caution;
use requests::Desk;
use runit::Runit;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use upgrade::Upgrade;
use watched::Watched;

/// Records, requests and pieces of news taken in one turn before the others get theirs.
const PER_TURN: usize = 256;
/// What clients get for reading the last answers.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// Directories on their way through the disk thread at once, and records waiting for the keeper
/// above which no further one is looked at. Each holds more descriptors on its way than it needs in
/// the end, so without a bound a few thousand new services could exhaust them.
const ADOPTIONS_MAX: usize = 64;
const WAITING_MAX: usize = 128;
/// After the last directory was opened: what that took is given back then, once.
const CALM: Duration = Duration::from_secs(1);
/// Pipes asked back from the keeper at once, on their way to the scribe.
const FETCHES_MAX: usize = 64;

/// Where everything is; made by `cli`, passed through the keeper word for word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub socket: PathBuf,
    pub log_root: PathBuf,
    /// Services' output does not go to stdout as well.
    pub quiet: bool,
    /// For a machine: on its console stands only what somebody has to know.
    pub machine: bool,
    /// ... and our own lines to stderr, in this form.
    pub format: Format,
    /// Bound of the whole stop.
    pub stop_timeout: Option<Duration>,
    pub dir: PathBuf,
    pub manner: Manner,
    /// The directory as the user named it, for runit's messages.
    pub title: String,
}

impl Settings {
    /// `supervise --socket PATH --log-root DIR [--quiet] [--log-format FORMAT]
    /// [--stop-timeout MILLISECONDS] DIR`, as `cli` writes it.
    pub fn read(args: &[OsString]) -> Option<Settings> {
        if let Some(settings) = manner::read(args) {
            return Some(settings);
        }
        let mut args = args.iter();
        let (mut socket, mut log_root, mut dir) = (None, None, None);
        let (mut quiet, mut machine) = (false, false);
        let (mut format, mut stop_timeout) = (Format::default(), None);
        (args.next()? == "supervise").then_some(())?;
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--socket") => socket = Some(args.next()?.into()),
                Some("--log-root") => log_root = Some(args.next()?.into()),
                Some("--quiet") => quiet = true,
                Some("--machine") => machine = true,
                Some("--log-format") => format = Format::named(args.next()?.to_str()?)?,
                Some("--stop-timeout") => {
                    let ms = args.next()?.to_str()?.parse().ok()?;
                    stop_timeout = Some(Duration::from_millis(ms));
                }
                Some(_) | None => dir = Some(arg.into()),
            }
        }
        Some(Settings {
            socket: socket?,
            log_root: log_root?,
            quiet,
            machine,
            format,
            stop_timeout,
            dir: dir?,
            manner: Manner::Own,
            title: String::new(),
        })
    }
}

/// Supervises until told to end; returns the exit code, which only the keeper sees.
pub fn main(args: &[OsString]) -> u8 {
    let _ = nix::sys::prctl::set_name(c"outlast-super");
    let (Some(settings), Some(keeper)) = (Settings::read(args), fds::inherited(3)) else {
        eprintln!("outlast-super: only the keeper starts me; run: outlast supervise DIR");
        return 2;
    };
    if let Err(error) = threads::can_be_made() {
        eprintln!("outlast-super: {error}");
        return 1;
    }
    let _diagnostics = (!settings.manner.is_runit()).then(|| {
        let Settings {
            format, machine, ..
        } = settings;
        let (diagnostics, trouble) = diagnostics::start(&settings.log_root, format, machine);
        if let Some(trouble) = trouble {
            tracing::warn!("{trouble}");
        }
        diagnostics
    });
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot make an event loop: {error}");
            return 1;
        }
    };
    let served = runtime.block_on(serve(settings, keeper));
    served.unwrap_or_else(|error: io::Error| {
        tracing::error!("cannot go on: {error}");
        1
    })
}

async fn serve(settings: Settings, keeper: OwnedFd) -> io::Result<u8> {
    let mut keeper = KeeperLink::new(keeper)?;
    let version = wire::VERSION;
    keeper.send(&ToKeeper::Hello { version }, &[])?;
    let (welcome, socket) = keeper.welcome().await?;
    if settings.manner.is_runit() {
        let (_tell, asks) = mpsc::unbounded_channel();
        let mut supervisor = Supervisor::new(settings, keeper, asks)?;
        supervisor.hear(FromKeeper::Welcome(welcome), Vec::new());
        return supervisor.run().await.map(|_| 0);
    }
    let left = socket.map(|socket| door::Left {
        socket,
        identity: (welcome.dev, welcome.ino),
    });
    let listener = match door::open(&settings.socket, left) {
        Ok(Opened::Inherited(listener)) => Some(listener),
        Ok(Opened::Fresh(listener)) => {
            let (dev, ino) = door::identity(&settings.socket).unwrap_or_default();
            keeper.send(&ToKeeper::Listen { dev, ino }, &[listener.as_fd()])?;
            Some(listener)
        }
        // A machine has to start its services also when /run is full or can't be written.
        Err(error) if settings.machine => {
            let words = door_words(&settings.socket.to_string_lossy(), &error);
            tracing::error!("{words}; going on without one until it can be opened");
            None
        }
        Err(error) => {
            let words = door_words(&settings.socket.to_string_lossy(), &error);
            tracing::error!("{words}");
            if welcome.entries > 0 {
                // The keeper tries again later; to be done now would leave services to themselves.
                return Ok(1);
            }
            keeper.send(&ToKeeper::Done { code: 1 }, &[])?;
            return Ok(1);
        }
    };
    let (tell, asks) = mpsc::unbounded_channel();
    let mut supervisor = Supervisor::new(settings, keeper, asks)?;
    let notices = supervisor.notices.subscribe();
    let mut door = match listener {
        Some(listener) => tokio::spawn(door::serve(listener, tell, notices)),
        None => tokio::spawn(door::open_late(
            supervisor.settings.socket.clone(),
            tell,
            notices,
        )),
    };
    supervisor.hear(FromKeeper::Welcome(welcome), Vec::new());
    tokio::select! {
        end = supervisor.run() => {
            // Answers still being written get a moment, not more.
            let _ = tokio::time::timeout(LAST_ANSWERS, door).await;
            if let End::Upgrade(mut keeper, binary) = end? {
                keeper.send(&ToKeeper::Upgrade, &[binary.as_fd()])?;
                keeper.deliver().await?;
            }
            Ok(0)
        }
        ended = &mut door => Err(match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => io::Error::other("nobody attends to the control socket"),
        }),
    }
}

fn door_words(socket: &str, error: &DoorError) -> String {
    match error {
        DoorError::Taken => format!(
            "a supervisor already answers at {socket}; \
             stop it with 'outlast shutdown' or choose another socket with --socket"
        ),
        DoorError::Io { what, error } => format!(
            "cannot open the control socket {socket}: {what}: {error}; \
             choose another place with --socket"
        ),
    }
}

/// What may be so with all services for one reason, and is said of the first one only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Once {
    /// Its log can't be written.
    Echoed,
    /// Its `supervise/` can't be made.
    Unseen,
}

/// How it came to its end.
enum End {
    Done,
    /// The binary that the keeper is to execute.
    Upgrade(KeeperLink, OwnedFd),
}

struct Supervisor {
    settings: Settings,
    keeper: KeeperLink,
    keeper_pid: i32,
    keeper_pidfd: Option<PidFd>,
    /// What we do without a keeper, when it was killed.
    bereft: Option<Bereft>,
    /// What every client is told.
    notices: watch::Sender<Option<Trouble>>,
    fleet: Fleet,
    /// Boxed, because the nodes of a map that grows at its end are half empty.
    places: BTreeMap<ServiceId, Box<Place>>,
    disk: Disk,
    watched: Watched,
    pen: Pen,
    asks: mpsc::UnboundedReceiver<Ask>,
    desk: Desk,
    names: Names,
    capacity: Capacity,
    cgroups: Option<Cgroups>,
    /// The machine's count of out-of-memory kills when last looked at.
    oom_anywhere: Option<u64>,
    /// The book has been read to its end.
    booked: bool,
    /// Events that follow from what was just done, before anything else is heard.
    queue: VecDeque<(ServiceId, Event)>,
    sweeps: Vec<(ServiceId, Signal)>,
    afterwards: Afterwards,
    ends: Ends,
    abroad: Abroad,
    /// What could not be ended at the end.
    left_behind: Vec<vocab::Leftover>,
    dirty: Vec<ServiceId>,
    /// Services whose directory is to be opened, and those for which that is under way.
    to_adopt: VecDeque<ServiceId>,
    adopting: BTreeSet<ServiceId>,
    /// When the last was opened, until memory is given back.
    opened_at: Option<Tick>,
    /// Services whose pipe the scribe is to get.
    to_attach: VecDeque<ServiceId>,
    fetching: BTreeSet<ServiceId>,
    stage: Stage,
    ending: Ending,
    /// When those who are still waited for were named last.
    named_at: Option<Tick>,
    upgrade: Option<Upgrade>,
    last_upgrade: Outcome,
    caution: Caution,
    once: BTreeSet<Once>,
    /// The binary that is to take over from us.
    successor: Option<OwnedFd>,
    /// The socket as we made it.
    socket_identity: Option<(u64, u64)>,
    /// What only runsv and runsvdir have.
    runit: Runit,
}

impl Supervisor {
    fn new(
        settings: Settings,
        keeper: KeeperLink,
        asks: mpsc::UnboundedReceiver<Ask>,
    ) -> io::Result<Supervisor> {
        let socket_identity = door::identity(&settings.socket);
        let keeper_pid = nix::unistd::getppid().as_raw();
        Ok(Supervisor {
            disk: Disk::start(&settings)?,
            settings,
            keeper,
            keeper_pid,
            keeper_pidfd: PidFd::open(keeper_pid).ok(),
            bereft: None,
            notices: watch::Sender::new(None),
            fleet: Fleet::new(clock::monotonic_ns()),
            places: BTreeMap::new(),
            watched: Watched::new()?,
            pen: Pen::default(),
            asks,
            desk: Desk::default(),
            names: Names::default(),
            capacity: Capacity::new(),
            cgroups: None,
            oom_anywhere: cgroups::oom_kills_anywhere(),
            booked: false,
            queue: VecDeque::new(),
            sweeps: Vec::new(),
            afterwards: Afterwards::default(),
            ends: Ends::default(),
            abroad: Abroad::default(),
            left_behind: Vec::new(),
            dirty: Vec::new(),
            to_adopt: VecDeque::new(),
            adopting: BTreeSet::new(),
            opened_at: None,
            to_attach: VecDeque::new(),
            fetching: BTreeSet::new(),
            stage: Stage::Serving,
            ending: Ending::default(),
            named_at: None,
            upgrade: None,
            last_upgrade: Outcome::None,
            caution: Caution::default(),
            once: BTreeSet::new(),
            successor: None,
            socket_identity,
            runit: Runit::default(),
        })
    }

    async fn run(mut self) -> io::Result<End> {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                () = self.keeper.ready() => {}
                () = self.watched.ready() => {}
                () = self.pen.ready() => {}
                // Directories and clients wait until it is known what there is: a service found
                // now could be one that the book is about to tell of.
                Some(news) = self.disk.news.recv(), if self.booked => self.news(news),
                Some(ask) = self.asks.recv(), if self.booked => self.ask(ask),
                () = sleep_until(deadline) => {}
            }
            if let Err(error) = self.turn() {
                self.bereft(error)?;
            }
            match self.stage {
                Stage::Over { code } => {
                    self.leave(code).await?;
                    return Ok(End::Done);
                }
                Stage::Yielded => return Ok(End::Done),
                Stage::Serving
                | Stage::Stopping { .. }
                | Stage::Sweeping { .. }
                | Stage::Writing { .. } => {}
            }
            if let Some(binary) = self.successor.take() {
                self.catch_up_now();
                self.tell_unshown();
                return Ok(End::Upgrade(self.keeper, binary));
            }
        }
    }

    /// Everything that is there to be done now, then everything that follows from it.
    fn turn(&mut self) -> io::Result<()> {
        self.keeper.flush()?;
        for _ in 0..PER_TURN {
            match self.keeper.receive()? {
                Some((record, fds)) => self.hear(record, fds),
                None => break,
            }
        }
        for woken in self.watched.take() {
            self.woken(woken);
        }
        for message in self.pen.receive() {
            self.scribe_says(message);
        }
        self.start_overdue();
        let most = if self.booked { PER_TURN } else { 0 };
        for _ in 0..most {
            match self.disk.news.try_recv() {
                Ok(news) => self.news(news),
                Err(_) => break,
            }
        }
        let now = self.now();
        let outs = self.fleet.due(now);
        self.perform_all(outs);
        self.settle();
        self.pen.send_held_back();
        self.look_for_rested();
        self.take_up_again();
        self.try_unread();
        self.adopt_some();
        self.attach_some();
        self.judge_scribe();
        self.give_back();
        self.advance();
        self.name_awaited();
        self.settle();
        self.pen.send_held_back();
        self.serve_overdue();
        self.desk.overdue(self.now());
        self.shutdowns_overdue();
        self.keeper.flush()?;
        self.catch_up();
        self.tell_untold();
        Ok(())
    }

    /// Memory, when the last of new services has been with us for a while.
    fn give_back(&mut self) {
        let now = self.now();
        if self.calm_due().is_some_and(|at| at <= now) {
            self.opened_at = None;
            self.keeper.give_back();
            os::give_back_memory();
            os::let_go_of_program();
        }
    }

    fn calm_due(&self) -> Option<Tick> {
        self.opened_at.map(|at| at.after(CALM))
    }

    /// Carries out what follows, until nothing does.
    fn settle(&mut self) {
        loop {
            while let Some((id, event)) = self.queue.pop_front() {
                self.event(id, event);
            }
            if self.sweeps.is_empty() {
                return;
            }
            self.sweep();
        }
    }

    fn now(&self) -> Tick {
        Tick(clock::monotonic_ns())
    }

    fn event(&mut self, id: ServiceId, event: Event) {
        let outs = self.fleet.handle(self.now(), id, event);
        self.perform_all(outs);
    }

    fn perform_all(&mut self, outs: Vec<Out>) {
        for out in outs {
            self.perform(out.service, out.action);
        }
    }

    /// None: nothing has to happen unless somebody wants it.
    fn deadline(&self) -> Option<Tick> {
        let all = [
            self.fleet.next_deadline(),
            self.farewell_deadline(),
            self.desk.deadline(),
            self.pen.deadline(),
            self.naming_due(),
            self.runit.deadline(),
            self.trial_due(),
            self.calm_due(),
            self.names_due(),
            self.afterwards.deadline(),
            self.ends.deadline(),
        ];
        all.into_iter().flatten().min()
    }

    fn tell_keeper(&mut self, record: &ToKeeper) {
        if let Some(bereft) = &self.bereft {
            return bereft.told(record);
        }
        // A keeper that is gone is noticed where we listen to it.
        let _ = self.keeper.send(record, &[]);
    }

    fn read_all(&self) {
        self.disk.give(Job::ReadAll);
    }
}

async fn sleep_until(deadline: Option<Tick>) {
    match deadline {
        Some(at) => {
            let now = Tick(clock::monotonic_ns());
            tokio::time::sleep(at.since(now)).await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_through_as_the_command_line_writes_them() {
        let args = [
            "supervise",
            "--socket",
            "/s",
            "--log-root",
            "/l",
            "--quiet",
            "--log-format",
            "json",
            "--stop-timeout",
            "1500",
            "/d",
        ];
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let settings = Settings::read(&args).expect("settings");
        assert_eq!(settings.socket, PathBuf::from("/s"));
        assert_eq!(settings.log_root, PathBuf::from("/l"));
        assert_eq!(settings.dir, PathBuf::from("/d"));
        assert!(settings.quiet && settings.format == Format::Json);
        assert_eq!(settings.stop_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(Settings::read(&args[..3]), None);
    }
}
