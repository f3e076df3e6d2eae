//! The machine's actions, carried out.

use super::disk::Job;
use super::hear::key;
use super::manner::Manner;
use super::pen::Estate;
use super::place::Place;
use super::vocab::{Action, Notice, Program, Role, ServiceId};
use super::{Supervisor, cgroups, leftovers, words};
use crate::ipc::scribe::ToScribe;
use crate::ipc::wire::{SCRIBE, SCRIBE_SLOTS, SLOT_LOCK, SLOT_PIPE, Spawn, Stream, ToKeeper, What};
use crate::launch::plan::{self, Plan};
use crate::machine::spec::{Kind, Scope, Spec};
use crate::os::kill_point;
use crate::os::step::Step;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    pub fn perform(&mut self, id: ServiceId, action: Action) {
        match action {
            Action::Spawn(program) => self.spawn(id, program),
            Action::Signal { role, signal } => {
                if role == Role::Run {
                    self.remember_tree(id);
                }
                self.tell_keeper(&ToKeeper::Signal {
                    key: key(id, role),
                    signal: signal.0,
                });
                kill_point("signal-sent");
            }
            Action::Sweep { signal } => self.sweeps.push((id, signal)),
            // The fleet keeps these.
            Action::SetTimer { .. } | Action::CancelTimer(_) => {}
            Action::Publish => {
                self.entrust(id);
                self.mark(id);
            }
            Action::Reply { token, outcome } => self.reply(token, outcome),
            Action::Note(notice) => self.put_off(id, notice),
            Action::EndInput => {
                if let Some(main) = self.places.get(&id).and_then(|place| place.main) {
                    self.tell_keeper(&ToKeeper::Drop {
                        id: main.0,
                        slot: SLOT_PIPE,
                    });
                    if let Some(place) = self.places.get_mut(&main) {
                        place.piped = false;
                        place.kept_pipe = None;
                    }
                }
            }
            Action::Forget => {
                self.say_notices();
                self.note_left_behind(id);
                self.afterwards.forget(id);
                self.ends.forget(id);
                self.forget(id);
            }
            Action::EndAll { code } => self.end_all(id, code),
        }
    }

    fn spawn(&mut self, id: ServiceId, program: Program) {
        let role = program.role();
        if self.bereft.is_some() {
            return self.cannot_start_any(id, role);
        }
        if self.ends.park(id, program, self.now()) {
            return;
        }
        let Some(mut spec) = self.fleet.spec(id).cloned() else {
            return;
        };
        let group = self.group_for(id, &spec, role);
        let Some(place) = self.places.get(&id) else {
            return;
        };
        if role == Role::Run && group.is_none() && !spec.identity.cgroup.is_empty() {
            return self.cannot_spawn(id, role, Step::Cgroup, nix::errno::Errno::ENOENT);
        }
        let Some(directory) = &place.directory else {
            return self.cannot_spawn(id, role, Step::ServiceDirectory, nix::errno::Errno::ENOENT);
        };
        if spec.stop.scope == Scope::Tree && group.is_none() {
            let mark = (leftovers::MARK.to_owned(), place.name.to_string());
            spec.identity.env.extend([mark]);
            let home = place.inode.map(leftovers::home);
            let home = home.map(|home| (leftovers::HOME.to_owned(), home));
            spec.identity.env.extend(home);
        }
        let plan = match role {
            Role::Run => plan::plan(&spec, group.as_deref(), &place.dir.to_string_lossy()),
            Role::Finish | Role::Check | Role::Control => None,
        };
        let sheet = match plan.as_ref().map(write_plan).transpose() {
            Ok(sheet) => sheet,
            Err(error) => {
                let errno = error
                    .raw_os_error()
                    .map_or(nix::errno::Errno::EIO, nix::errno::Errno::from_raw);
                return self.cannot_spawn(id, role, Step::Plan, errno);
            }
        };
        let what = match program {
            Program::Run if sheet.is_some() => What::Launch,
            Program::Run => What::Run,
            Program::Finish { code, status } => What::Finish(code, status),
            Program::Check => What::Check,
            Program::Control(letter) => What::Control(letter),
        };
        if role == Role::Run && place.aside {
            let main = place.main.and_then(|main| self.places.get(&main));
            let (name, log) = (&main.unwrap_or(place).name, place.main.is_some());
            let name = name.to_string();
            self.disk.give(Job::OpenAgain { name, log });
        }
        let record = ToKeeper::Spawn(Spawn {
            key: key(id, role),
            what,
            session: self.settings.manner.new_session(),
            streams: match self.settings.manner {
                Manner::Own => streams(id, place, &spec, role),
                Manner::Runsv { .. } | Manner::Runsvdir { .. } => {
                    streams_as_runsv(id, place, &spec)
                }
            },
            directory: true,
            extra: sheet.is_some(),
        });
        if role == Role::Run {
            // Before the run can write: what comes after it is the run's. With a busy scribe or few
            // processors the end of the turn would be too late.
            self.pen.send(&ToScribe::RunStarts { id: id.0 }, None);
        }
        let mut attached = vec![directory.as_fd()];
        attached.extend(sheet.as_ref().map(AsFd::as_fd));
        kill_point("spawn-unsent");
        if let Err(error) = self.keeper.send(&record, &attached) {
            tracing::error!(
                service = &*place.name,
                "the keeper can't be reached: {error}"
            );
        }
        if let Some(place) = self.places.get_mut(&id) {
            place.ask_for(role);
        }
        let now = self.now();
        self.afterwards.asked_for(key(id, role), now);
        kill_point("spawn-sent");
    }

    /// A start that failed before the keeper was asked.
    fn cannot_spawn(&mut self, id: ServiceId, role: Role, step: Step, errno: nix::errno::Errno) {
        self.spawn_failed(key(id, role), 0, step.number(), errno as i32, String::new());
    }

    /// The cgroup that the next run is to join, for the scope `tree` and for settings of one, where
    /// there are cgroups.
    fn group_for(&mut self, id: ServiceId, spec: &Spec, role: Role) -> Option<String> {
        let settings = &spec.identity.cgroup;
        let wanted = spec.stop.scope == Scope::Tree || !settings.is_empty();
        if role != Role::Run || !wanted || spec.kind == Kind::Log {
            return None;
        }
        let place = self.places.get_mut(&id)?;
        let controllers = settings.keys().filter_map(|file| file.split('.').next());
        let controllers = controllers.collect();
        let cgroups = self.cgroups.as_ref()?;
        if let Some(old) = place.cgroup.take() {
            cgroups.leave_to_nobody(&old);
        }
        place.cgroup = cgroups.make(&place.name, &controllers);
        let group = place.cgroup.as_deref()?;
        place.oom_before = cgroups::oom_kills(group).unwrap_or(0);
        Some(group.to_string_lossy().into_owned())
    }

    /// A line for people.
    pub fn note(&mut self, id: ServiceId, notice: &Notice) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        let service = &*place.name;
        let text = words::notice(notice);
        match notice {
            Notice::Started { .. } => {
                tracing::info!(service, "{text}");
                place.words = None;
            }
            // A name that stood there for a moment, as ln and editors make them.
            Notice::Gone if place.directory.is_none() => tracing::debug!(service, "{text}"),
            Notice::Ready | Notice::Stopped { .. } | Notice::Gone => {
                tracing::info!(service, "{text}");
            }
            Notice::Ended { exit, .. } if exit.success() => tracing::info!(service, "{text}"),
            Notice::Ended { .. }
            | Notice::Killed { .. }
            | Notice::FinishKilled { .. }
            | Notice::FinishFailed { .. }
            | Notice::ControlKilled { .. }
            | Notice::Clearing { .. }
            | Notice::Unkillable { .. } => tracing::warn!(service, "{text}"),
            Notice::Invalid { .. } => {
                let full = self.desk.findings.get(&id).unwrap_or(&text);
                tracing::error!(service, "{full}");
            }
            Notice::CannotStart { next, over, .. } => {
                let said = place
                    .words
                    .as_ref()
                    .map(|found| words::cannot_start(found, *next, *over));
                tracing::error!(service, "{}", said.as_deref().unwrap_or(&text));
            }
        }
    }

    fn forget(&mut self, id: ServiceId) {
        let Some(place) = self.places.remove(&id) else {
            return;
        };
        self.caution.forget(id);
        self.capacity.forget(id);
        if self.settings.manner.is_runit() {
            return self.part(id, place);
        }
        if let Some(group) = &place.cgroup {
            cgroups::remove(group);
            if let Some(cgroups) = &self.cgroups {
                cgroups.leave_to_nobody(group);
            }
        }
        self.writes_out(id.0);
        let name = place.name.strip_suffix("/log").unwrap_or(&place.name);
        self.disk.give(super::Job::Forget {
            name: name.to_owned(),
            id,
            directory: place.directory.clone(),
        });
        self.desk.findings.remove(&id);
        let serving = matches!(self.stage, super::Stage::Serving);
        let main = serving && place.main.is_none();
        if main && !place.removed {
            // Told to end by sv.
            let now = self.now();
            self.names.let_go(&place.name, now);
        }
        let inode = place.inode.filter(|_| main);
        self.names.parts(id, inode);
        self.desk.parting.insert(id, main);
    }

    /// Nothing of it is on disk any more, so its directory may be somebody else's.
    pub fn forgotten(&mut self, id: ServiceId) {
        if self.settings.manner.is_runit() {
            return self.parted(id);
        }
        let Some(again) = self.desk.parting.remove(&id) else {
            return;
        };
        let slot = SLOT_LOCK;
        self.tell_keeper(&ToKeeper::Drop { id: id.0, slot });
        if again {
            // Answered when that is done; before, its directory would seem to be somebody else's.
            self.tell_keeper(&ToKeeper::Fetch { id: id.0, slot });
        }
        if !self.pen.leaving.contains(&id.0) {
            self.forget_page(id.0);
        }
    }

    pub fn start_scribe(&mut self) {
        match &self.pen.estate {
            Estate::Here(_) | Estate::Never => {}
            Estate::None => self.found_estate(),
            Estate::Kept => {
                self.pen.estate = Estate::Coming([None, None]);
                for slot in SCRIBE_SLOTS {
                    self.tell_keeper(&ToKeeper::Fetch { id: SCRIBE, slot });
                }
                return;
            }
            // Started when it is there.
            Estate::Coming(_) => return,
        }
        let theirs = match self.pen.connect(self.now()) {
            Ok(theirs) => theirs,
            Err(error) => {
                tracing::error!("cannot start the scribe: {error}; output stays in the pipes");
                return;
            }
        };
        let record = ToKeeper::Spawn(Spawn {
            key: crate::ipc::wire::Key {
                id: SCRIBE,
                role: 0,
            },
            what: What::Scribe {
                echo: (!self.settings.quiet).then_some(self.settings.format),
            },
            session: true,
            streams: [Stream::Null, Stream::Keep, Stream::Keep],
            directory: false,
            extra: true,
        });
        let _ = self.keeper.send(&record, &[theirs.as_fd()]);
    }
}

impl Supervisor {
    /// With the keeper before anything is noted there.
    fn found_estate(&mut self) {
        match self.pen.found() {
            Ok(parts) => {
                for (slot, part) in SCRIBE_SLOTS.into_iter().zip(&parts) {
                    let store = ToKeeper::Store { id: SCRIBE, slot };
                    let _ = self.keeper.send(&store, &[part.as_fd()]);
                }
                self.pen.estate = Estate::Here(parts);
            }
            Err(error) => {
                tracing::error!(
                    "cannot make the scribe's journal: {error}; lines may be lost if it is killed"
                );
                self.pen.estate = Estate::Never;
            }
        }
    }
}

/// A service's input, output and error output (runit-behaviour: stdout of run, finish and control
/// scripts goes to the log; with a log service stderr stays the supervisor's).
fn streams(id: ServiceId, place: &Place, spec: &Spec, role: Role) -> [Stream; 3] {
    if let Some(main) = place.main {
        return [Stream::PipeOut(main.0), Stream::Keep, Stream::Keep];
    }
    let pipe = if place.piped {
        // Where the scribe reads it is open for reading as well: else, were keeper and scribe killed
        // together, nobody would have the other end, and the next line would kill the service.
        match spec.has_log_service {
            true => Stream::PipeIn(id.0),
            false => Stream::PipeBoth(id.0),
        }
    } else {
        Stream::Keep
    };
    let stdout = if role == Role::Check {
        Stream::Null
    } else {
        pipe
    };
    let stderr = if spec.has_log_service {
        Stream::Keep
    } else {
        pipe
    };
    [Stream::Null, stdout, stderr]
}

/// Input and error output are runsv's own, output as well unless there is a log service.
fn streams_as_runsv(id: ServiceId, place: &Place, spec: &Spec) -> [Stream; 3] {
    match place.main {
        Some(main) => [Stream::PipeOut(main.0), Stream::Keep, Stream::Keep],
        None if place.piped && spec.has_log_service => {
            [Stream::Keep, Stream::PipeIn(id.0), Stream::Keep]
        }
        None => [Stream::Keep; 3],
    }
}

fn write_plan(plan: &Plan) -> std::io::Result<OwnedFd> {
    let sheet = memfd_create(c"outlast-plan", MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(sheet);
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.rewind()?;
    Ok(file.into())
}
