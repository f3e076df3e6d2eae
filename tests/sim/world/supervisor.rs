//! The supervisor: hands events to the machine, carries actions out, and dies.

use super::wire::Word;
use super::{MS, Message, SECOND, World};
use outlast::machine::fleet::{Fleet, Out};
use outlast::machine::snapshot::Snapshot;
use outlast::machine::spec::Scope;
use outlast::machine::vocab::{Action, Event, Pid, Role, ServiceId, Tick};

impl World {
    pub(super) fn deliver(&mut self) -> Result<(), String> {
        let now = self.now;
        let Some(n) = self.messages.iter().position(|message| message.at <= now) else {
            return Ok(());
        };
        let n = (0..n)
            .chain(n..self.messages.len())
            .min_by_key(|n| self.messages[*n].at)
            .unwrap_or(n);
        let Message { id, event, .. } = self.messages.remove(n);
        if let Event::Exited { role, .. } = event {
            let pid = self
                .book
                .iter()
                .find(|b| b.id == id && b.role == role)
                .map(|b| b.pid);
            self.heard = pid.map(|pid| (id, role, pid));
        }
        self.hand(id, event)
    }

    /// One turn of the machine; its actions wait to be performed one by one.
    pub(super) fn hand(&mut self, id: ServiceId, event: Event) -> Result<(), String> {
        self.note(|| format!("{id:?} <- {event:?}"));
        let before = self.fleet.view(id);
        let told = event.clone();
        let successor = self.successor(id, &event)?;
        let outs = self.fleet.handle(Tick(self.now), id, event);
        if let Some(successor) = successor {
            self.compare(successor, id, &told, &outs)?;
        }
        let checks = self.fleet.spec(id).is_none_or(|spec| spec.has_check);
        let after = self.fleet.view(id);
        self.oracle
            .handled(self.now, id, &told, before.as_ref(), after.as_ref(), checks)?;
        self.todo.extend(outs);
        Ok(())
    }

    pub(super) fn perform_all(&mut self) -> Result<(), String> {
        while !self.todo.is_empty() {
            self.perform_next()?;
        }
        self.acknowledge()
    }

    pub(super) fn perform_next(&mut self) -> Result<(), String> {
        let Some(Out {
            service: id,
            action,
        }) = self.todo.pop_front()
        else {
            return Ok(());
        };
        let publishes = action == Action::Publish;
        if !publishes {
            self.acknowledge()?;
        }
        self.perform(id, action)?;
        // An exit is acknowledged when its consequences are known to a successor, and before a
        // new process can take its place under the same key.
        self.acknowledge()
    }

    pub(super) fn perform(&mut self, id: ServiceId, action: Action) -> Result<(), String> {
        self.note(|| format!("{id:?} -> {action:?}"));
        match action {
            Action::Spawn(program) => self.tell(Word::Spawn(id, program))?,
            Action::Signal { role, signal } => self.tell(Word::Signal(id, role, signal))?,
            Action::Sweep { signal } => self.sweep(id, signal),
            Action::SetTimer { .. } | Action::CancelTimer(_) => {
                return Err("a timer left the fleet".to_owned());
            }
            Action::Publish => {
                if let (Some(snapshot), Some(view)) = (self.fleet.snapshot(id), self.fleet.view(id))
                {
                    let blob = serde_json::to_string(&snapshot).map_err(|e| e.to_string())?;
                    let main = self.fleet.main_of(id);
                    self.oracle.wants(id, view.want);
                    let view = Box::new(view);
                    self.tell(Word::Blob {
                        id,
                        blob,
                        main,
                        view,
                    })?;
                }
            }
            Action::Reply { token, outcome } => {
                let left = match self.scope_of(id) {
                    Scope::Process => 0,
                    Scope::Group | Scope::Session | Scope::Tree => {
                        self.leftovers.get(&id).map_or(0, Vec::len)
                    }
                };
                self.ask(|oracle, world| oracle.replied(world, id, token, &outcome, left))?;
                self.answer(id, token, outcome);
            }
            Action::Note(_) => {}
            Action::EndInput => self.tell(Word::EndInput(id))?,
            Action::Forget => self.forgotten(id)?,
            Action::EndAll { code } => {
                let again = self.shutting_down;
                self.ask(|oracle, world| oracle.ended_all(world, id, code, again))?;
                self.begin_to_end();
            }
        }
        Ok(())
    }

    pub(super) fn end_input(&mut self, id: ServiceId) -> Result<(), String> {
        let main = self.fleet.main_of(id);
        if let Some(main) = main
            && !self.shutting_down
            && self.live.contains_key(&(main, Role::Run))
        {
            return Err(format!("{id:?} lost its input while its main runs"));
        }
        self.ended_input.push(id);
        let soon = self.now + self.dice.below(SECOND);
        let heeds = !self.dice.once_in(8);
        if let Some(process) = self.live.get_mut(&(id, Role::Run))
            && heeds
        {
            process.ends = process.ends.min(soon);
        }
        Ok(())
    }

    pub(super) fn forgotten(&mut self, id: ServiceId) -> Result<(), String> {
        let swept = self.scope_of(id) != Scope::Process;
        let left = swept && self.leftovers.contains_key(&id);
        self.ask(|oracle, world| oracle.forgotten(world, id, left))?;
        self.tell(Word::Forget(id))?;
        if !swept {
            self.leftovers.remove(&id);
        }
        if !self.shutting_down
            && let Some(n) = self
                .name_of(id)
                .and_then(|name| self.directory_named(&name))
            && self.directories[n].exists
        {
            let later = self.now + self.dice.below(2 * SECOND);
            self.rescans.push((later, n));
        }
        Ok(())
    }

    pub(super) fn acknowledge(&mut self) -> Result<(), String> {
        // A state that can't be stored any more is not known to a successor before all is done.
        let gone = |(id, _, _): &(ServiceId, Role, Pid)| self.fleet.name(*id).is_none();
        if !self.todo.is_empty() && self.heard.as_ref().is_some_and(gone) {
            return Ok(());
        }
        match self.heard.take() {
            Some((id, role, pid)) => self.tell(Word::Acknowledge(id, role, pid)),
            None => Ok(()),
        }
    }

    /// Between two actions. What was not yet said to the keeper is lost, and so is what it said
    /// and was not heard; its book and the blobs stay. Until the next one is there, services end
    /// and nobody hears of it.
    pub(super) fn die(&mut self) -> Result<(), String> {
        self.note(|| "the supervisor dies".to_owned());
        self.todo.clear();
        self.heard = None;
        self.watched.clear();
        self.rescans.clear();
        self.wire_breaks()?;
        self.oracle.supervisor_died(self.now);
        let long = self.dice.once_in(20);
        let gap = self.dice.below(if long { 10 * SECOND } else { 200 * MS });
        self.let_time_pass(self.now + gap);
        // A client may hear nothing of it, but its command died with the supervisor, as did all
        // that the keeper had said and nobody had heard.
        self.messages.clear();
        let seed = self.dice.next();
        self.fleet = Fleet::new(seed);
        let mut blobs: Vec<(ServiceId, String, Option<ServiceId>)> = self
            .blobs
            .iter()
            .map(|(id, (blob, of))| (*id, blob.clone(), *of))
            .collect();
        if self.dice.once_in(2) {
            blobs.reverse();
        }
        // As after an upgrade that was taken back: what is there was written by a later version.
        let newer = self.dice.once_in(4);
        for (id, blob, of) in blobs {
            let blob = if newer { from_later(&blob)? } else { blob };
            let snapshot: Snapshot = serde_json::from_str(&blob).map_err(|e| e.to_string())?;
            let mut alive: Vec<(Role, Pid)> = Vec::new();
            for role in [Role::Run, Role::Finish, Role::Check, Role::Control] {
                let living = self.live.get(&(id, role)).map(|p| p.pid);
                let booked = self
                    .book
                    .iter()
                    .find(|b| b.id == id && b.role == role)
                    .map(|b| b.pid);
                if booked.is_some() && living.is_some() {
                    return Err(format!(
                        "{id:?} {role:?}: spawned over an exit not acknowledged"
                    ));
                }
                if let Some(pid) = booked.or(living) {
                    alive.push((role, pid));
                }
            }
            let outs = self
                .fleet
                .restore(Tick(self.now), id, of, &snapshot, &alive);
            self.note(|| format!("{id:?} restored from {blob} with {alive:?}"));
            self.todo.extend(outs);
            let view = self.fleet.view(id).ok_or("restored and not there")?;
            self.oracle
                .restored(id, &view, self.live.get(&(id, Role::Run)).map(|p| p.pid))?;
        }
        let outs = self.fleet.restored(Tick(self.now));
        self.todo.extend(outs);
        for booked in self.book.clone() {
            let event = Event::Exited {
                role: booked.role,
                exit: booked.exit,
            };
            self.send(booked.id, event, 0);
        }
        self.scan();
        Ok(())
    }
}

/// The same state as a version would write it that knows more than we do.
fn from_later(blob: &str) -> Result<String, String> {
    let mut value: serde_json::Value = serde_json::from_str(blob).map_err(|e| e.to_string())?;
    let fields = value.as_object_mut().ok_or("no object")?;
    fields.insert("Z".to_owned(), serde_json::json!({"s": "d", "w": [1, {}]}));
    fields.insert("mood".to_owned(), serde_json::Value::Null);
    if let Some(flags) = fields.get("f").and_then(serde_json::Value::as_u64) {
        fields.insert("f".to_owned(), (flags | 1 << 15).into());
    }
    Ok(value.to_string())
}
