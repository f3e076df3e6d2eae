//! Services that live and are no children of our keeper: what we write down for whoever comes after a
//! kill, and how we take over what a predecessor has written down.

use super::disk::Record;
use super::hear::key;
use super::output::store_pipe;
use super::vocab::{Pid, Role, ServiceId};
use super::{Supervisor, watched::Woken};
use crate::ipc::wire::ToKeeper;
use crate::machine::snapshot::Snapshot;
use crate::os::step::Step;
use crate::svdir::left::{Left, Living};
use nix::sys::stat::fstat;
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    /// A service as a supervisor under another keeper has left it: its processes are held as if we
    /// had started them, and it stands as it stood.
    pub fn take_over(&mut self, id: ServiceId, left: Left) {
        let runit = self.settings.manner.is_runit();
        self.end_left_scripts(id, &left.scripts);
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        // What is known of it already is known better.
        if std::mem::replace(&mut place.restored, true) || place.alive.iter().any(Option::is_some) {
            return;
        }
        place.sessions.clone_from(&left.sessions);
        place.foreign = !left.sessions.is_empty();
        place.ended = left.ended;
        place.is_in(left.cgroup);
        let snapshot = serde_json::from_str::<Snapshot>(&left.state).ok();
        if snapshot.is_none() && left.run.is_none() {
            // Nothing was ever started, or what it is can't be known.
            return self.take_pipe(id, left.pipe);
        }
        let mut snapshot = snapshot.unwrap_or_default();
        snapshot.name = place.name.to_string();
        snapshot.stay();
        snapshot.try_again(Step::Keeper.number());
        let main = place.main;
        let mut alive = Vec::new();
        let found = [
            (Role::Run, "run", left.run),
            (Role::Finish, "finish", left.finish),
        ];
        let mut lines = Vec::new();
        for (role, script, process) in found {
            let Some((pid, pidfd)) = process else {
                continue;
            };
            place.took(role, pid);
            let adopt = ToKeeper::Adopt {
                key: key(id, role),
                pid,
            };
            let _ = self.keeper.send(&adopt, &[pidfd.as_fd()]);
            alive.push((role, Pid(pid)));
            let log = match main.is_some() && runit {
                true => "log/",
                false => "",
            };
            lines.push(format!(
                "{log}./{script} (pid {pid}) was left alive; it goes on"
            ));
        }
        let name = place.name.clone();
        self.note_abroad(id);
        self.take_pipe(id, left.pipe);
        for line in lines {
            match runit {
                true => self.complain(id, &format!("warning: {line}")),
                false => tracing::warn!(service = &*name, "{line}"),
            }
        }
        if let Some((pid, scribe)) = left.scribe {
            self.wait_for_elder(pid, scribe.into());
        }
        let outs = self.fleet.restore(self.now(), id, main, &snapshot, &alive);
        self.entrust(id);
        self.perform_all(outs);
    }

    /// Where its output goes from now on.
    pub fn take_pipe(&mut self, id: ServiceId, pipe: Option<OwnedFd>) {
        let (Some(place), Some(pipe)) = (self.places.get_mut(&id), pipe) else {
            return;
        };
        if place.piped {
            return;
        }
        place.pipe = fstat(&pipe).ok().map(|found| found.st_ino);
        place.piped = true;
        store_pipe(&mut self.keeper, id, &pipe);
        place.fresh_pipe = Some(pipe);
    }

    /// A scribe whose supervisor was killed writes out what it has read and ends; two of them must
    /// not write one log.
    fn wait_for_elder(&mut self, pid: i32, scribe: OwnedFd) {
        if self.pen.elder.is_none() && self.watched.add(&scribe, Woken::Elder).is_ok() {
            tracing::info!("the scribe of the killed keeper (pid {pid}) writes out what it has");
            self.pen.elder = Some(scribe);
        }
    }

    /// It has ended.
    pub fn elder_ended(&mut self) {
        self.pen.elder = None;
        self.attach_some();
    }

    /// What a successor under another keeper would need.
    pub fn record(&self, id: ServiceId) -> Record {
        let state = self.fleet.snapshot(id);
        let state = state.and_then(|state| serde_json::to_string(&state).ok());
        let (Some(place), Some(state)) = (self.places.get(&id), state) else {
            return Record::Nobody;
        };
        let (run, finish) = (place.living(Role::Run), place.living(Role::Finish));
        let nobody = run.is_none() && finish.is_none();
        let runit = self.settings.manner.is_runit();
        if nobody && runit {
            return Record::Nobody;
        }
        // Under runit's names they go on, as under runit.
        let scripts = [Role::Check, Role::Control].map(|role| place.living(role));
        let scripts = scripts.into_iter().flatten().filter(|_| !runit).collect();
        Record::Living(Box::new(Living {
            run,
            finish,
            scripts,
            pipe: place.pipe,
            sessions: place.sessions.clone(),
            ended: place.ended,
            cgroup: place.cgroup.clone(),
            scribe: self.pen.identity.filter(|_| place.scribed),
            state,
        }))
    }
}
