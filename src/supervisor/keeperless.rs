//! Going on without a keeper that was killed.
//!
//! Nobody is left who could start anything, so nothing is: not a second copy, not a restart, not the
//! scribe. What lives is held by pidfds of our own, which were opened for the very processes that the
//! keeper had (number and start time), so it can still be signalled, stopped and shown. The locks of
//! `supervise/` ended with the keeper and are taken again. It goes on like this until somebody says
//! shutdown, or starts another `outlast supervise`, to which everything is left (`step-down`).

use super::disk::Job;
use super::door::{Ask, refusal};
use super::hear::key;
use super::vocab::{Event, Failure, FailureClass, Role, ServiceId};
use super::watched::Woken;
use super::{Stage, Supervisor};
use crate::ipc::control::{Trouble, Verb};
use crate::ipc::wire::{Key, SCRIBE, ToKeeper};
use crate::launch::report::Words;
use crate::os::identity::Identity;
use crate::os::pidfd::PidFd;
use crate::os::step::Step;
use crate::svdir::holders::Holders;
use crate::svdir::left;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// A keeper whose link has ended is on its way out; if it does not end it hung up on us.
const KEEPER_ENDS: Duration = Duration::from_secs(2);
/// What the disk thread gets to write what a successor needs.
const LAST_WORDS: Duration = Duration::from_secs(2);
const ROLES: [Role; 4] = [Role::Run, Role::Finish, Role::Check, Role::Control];
const SCRIBE_KEY: Key = Key {
    id: SCRIBE,
    role: 0,
};

/// What is held in the keeper's place.
#[derive(Default)]
pub struct Bereft {
    held: BTreeMap<Key, (i32, PidFd)>,
    notice: String,
}

impl Bereft {
    /// What we would have told the keeper. Only a signal means anything now.
    pub fn told(&self, record: &ToKeeper) {
        if let ToKeeper::Signal { key, signal } = record
            && let Some((_, process)) = self.held.get(key)
        {
            // An error means that it has ended, which is about to be heard of.
            let _ = process.signal(i32::from(*signal));
        }
    }
}

impl Supervisor {
    /// The link to the keeper has ended. Ok: we go on without it.
    pub(super) fn bereft(&mut self, error: io::Error) -> io::Result<()> {
        if self.settings.manner.is_runit() {
            // Its number may stand for another runsv at once; a successor finds what we know on disk.
            self.publish_now();
            self.disk.give(Job::Bereft);
            self.disk.end(LAST_WORDS);
            return Err(error);
        }
        if !self.booked {
            // What runs is known to the records on disk better than to us.
            return Err(error);
        }
        let gone = self
            .keeper_pidfd
            .as_ref()
            .is_none_or(|keeper| keeper.ends_within(KEEPER_ENDS));
        if !gone {
            return Err(error);
        }
        let dir = self.settings.dir.display();
        let notice = format!(
            "the keeper (pid {}) was killed: what runs goes on, but nothing can be started any more; \
             to have it all back, run: outlast supervise {dir}",
            self.keeper_pid
        );
        tracing::error!("{notice}");
        let trouble = Trouble {
            code: "no-keeper".into(),
            message: notice.clone(),
        };
        self.notices.send_replace(Some(trouble));
        self.keeper.lose();
        // Its number may come to mean another process.
        self.keeper_pid = 0;
        self.pen.barred = true;
        self.disk.give(Job::Bereft);
        let held = BTreeMap::new();
        self.bereft = Some(Bereft { held, notice });
        if let Some(scribe) = self.pen.identity {
            self.hold(SCRIBE_KEY, Some(scribe), scribe.pid);
        }
        let ids: Vec<ServiceId> = self.places.keys().copied().collect();
        for id in &ids {
            self.hold_all(*id);
        }
        self.look_for_asked(&ids);
        for id in ids {
            self.mark(id);
        }
        self.settle();
        self.afterwards.expect_nothing();
        self.catch_up_now();
        self.tell_untold();
        Ok(())
    }

    fn hold_all(&mut self, id: ServiceId) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        // What it leaves hangs below somebody else from now on.
        place.foreign = true;
        let alive = ROLES.map(|role| {
            let at = usize::from(super::place::role_number(role));
            (
                role,
                place.alive.get(at).copied().flatten(),
                place.living(role),
            )
        });
        // A log service must not see the end of its input as long as somebody writes, nor the
        // writer lose its reader.
        if let (Some(inode), Some(run), false) =
            (place.pipe, place.living(Role::Run), place.scribed)
        {
            let ends = [1, 2].into_iter();
            place.kept_pipe = ends.filter_map(|at| left::end_of(run, at, inode)).next();
        }
        for (role, pid, identity) in alive {
            if let Some(pid) = pid {
                self.hold(key(id, role), identity, pid);
            }
        }
    }

    /// By a pidfd. What can't be held has ended: the keeper took its exit along.
    fn hold(&mut self, key: Key, identity: Option<Identity>, pid: i32) {
        let process = match identity.map(|identity| identity.hold()) {
            Some(Ok(Some(process))) => process,
            Some(Ok(None)) | None => return self.lost(key, pid),
            Some(Err(error)) => {
                tracing::error!(
                    "process {pid} may live and can't be held: {error}; it is not signalled"
                );
                return;
            }
        };
        if let Err(error) = self.watched.add(&process, Woken::Held(key)) {
            // To take it for ended would be to tell a successor so.
            tracing::error!("process {pid} lives, and its end will not be seen: {error}");
        }
        if let Some(bereft) = &mut self.bereft {
            bereft.held.insert(key, (pid, process));
        }
    }

    /// A process that we held has ended.
    pub fn held_ended(&mut self, key: Key) {
        let held = self.bereft.as_mut().and_then(|it| it.held.remove(&key));
        if let Some((pid, _)) = held {
            self.lost(key, pid);
        }
    }

    fn lost(&mut self, key: Key, pid: i32) {
        if key.id != SCRIBE {
            return self.vanished(key, pid);
        }
        self.scribe_gone();
        if matches!(self.stage, Stage::Serving | Stage::Stopping { .. }) {
            tracing::error!("the scribe has ended as well; output waits in the pipes");
        }
    }

    /// Processes that the keeper was asked for and never told of: they may be there.
    fn look_for_asked(&mut self, ids: &[ServiceId]) {
        let mut holders = None;
        for id in ids {
            for role in ROLES {
                let Some(place) = self.places.get_mut(id) else {
                    continue;
                };
                if !place.is_asked_for(role) {
                    continue;
                }
                let holders = holders.get_or_insert_with(Holders::look);
                let input = place.main.and_then(|main| self.places.get(&main)?.pipe);
                let Some(place) = self.places.get_mut(id) else {
                    continue;
                };
                let candidates = match (input, place.pipe) {
                    (Some(inode), _) => holders.reading(inode),
                    (None, Some(inode)) => holders.writing(inode),
                    (None, None) => &[],
                };
                let found = candidates
                    .iter()
                    .filter(|it| it.session == it.pid && it.started >= place.ended)
                    .filter(|it| !place.sessions.contains(&it.session))
                    .max_by_key(|it| (it.started, it.pid))
                    .filter(|_| role == Role::Run);
                let Some(found) = found.map(|found| found.identity()) else {
                    self.cannot_start_any(*id, role);
                    continue;
                };
                self.spawned(key(*id, role), found.pid);
                self.hold(key(*id, role), Some(found), found.pid);
            }
        }
    }

    /// What is said instead of a start.
    pub fn cannot_start_any(&mut self, id: ServiceId, role: Role) {
        if let Some(place) = self.places.get_mut(&id) {
            place.set_alive(role, None);
            place.words = Some(Box::new(Words {
                code: "no-keeper",
                message: "cannot start: the keeper was killed, and nobody else starts anything"
                    .into(),
                advice: format!("run: outlast supervise {}", self.settings.dir.display()),
                class: FailureClass::Elsewhere,
            }));
        }
        let failure = Failure {
            step: Step::Keeper.number(),
            errno: Errno::ESRCH as i32,
            detail: String::new(),
            class: FailureClass::Elsewhere,
        };
        self.queue
            .push_back((id, Event::SpawnFailed { role, failure }));
    }

    /// Refuses what can't be done any more. None: it was.
    pub fn without_keeper(&self, ask: Ask) -> Option<Ask> {
        let Some(bereft) = &self.bereft else {
            return Some(ask);
        };
        match ask.request.verb {
            Verb::Start | Verb::Restart | Verb::Once | Verb::Upgrade => {
                let answer = refusal(ask.request.id, "no-keeper", bereft.notice.clone());
                let _ = ask.answer.send(answer);
                None
            }
            Verb::Status
            | Verb::List
            | Verb::Why
            | Verb::Stop
            | Verb::Pause
            | Verb::Cont
            | Verb::Hup
            | Verb::Alarm
            | Verb::Interrupt
            | Verb::Quit
            | Verb::Usr1
            | Verb::Usr2
            | Verb::Term
            | Verb::Kill
            | Verb::Reload
            | Verb::Check
            | Verb::Shutdown
            | Verb::StepDown => Some(ask),
        }
    }

    /// Makes room for a new `outlast supervise` over the same directory, if there is no keeper.
    pub fn ask_step_down(&mut self, ask: &Ask) {
        let refuse = |code: &str, words: String| {
            let _ = ask.answer.send(refusal(ask.request.id, code, words));
        };
        if self.bereft.is_none() {
            return refuse("has-keeper", "its keeper lives; it stays".into());
        }
        if !matches!(self.stage, Stage::Serving) {
            return refuse("leaving", "the supervisor is ending".into());
        }
        let [dir] = ask.request.names.as_slice() else {
            return refuse("bad-request", "name the directory to be supervised".into());
        };
        let place = |dir: &Path| {
            let found = std::fs::metadata(dir).ok()?;
            Some((found.dev(), found.ino()))
        };
        let ours = place(&self.settings.dir);
        if ours.is_none() || place(Path::new(dir)) != ours {
            let ours = self.settings.dir.display();
            return refuse("other-directory", format!("it supervises {ours}"));
        }
        self.catch_up_now();
        tracing::warn!("making room for another supervisor; services go on");
        self.disk.end(LAST_WORDS);
        self.tell_unshown();
        // The scribe's link ends with us: it writes out what is in the pipes, and the next one waits
        // for that.
        super::upgrade::accept(ask);
        self.stage = Stage::Yielded;
    }
}
