//! What people do: they edit, remove, mend, hurry, and command.

use super::{Message, SECOND, World};
use outlast::machine::view::Phase;
use outlast::machine::vocab::{
    Command, Event, Failure, FailureClass, Role, ServiceId, Tick, Token,
};

const COMMANDS: &[Command] = &[
    Command::Up,
    Command::Up,
    Command::Up,
    Command::Once,
    Command::Down,
    Command::Down,
    Command::Exit,
    Command::Restart,
    Command::Restart,
    Command::Term,
    Command::Hup,
    Command::Alarm,
    Command::Interrupt,
    Command::Quit,
    Command::Usr1,
    Command::Usr2,
    Command::Kill,
    Command::Pause,
    Command::Cont,
    Command::Check,
];

impl World {
    pub(super) fn whim(&mut self) {
        self.next_whim = self.now + self.dice.below(2 * self.restless);
        let n = usize::try_from(self.dice.below(self.directories.len() as u64)).unwrap_or(0);
        match self.dice.below(40) {
            0 => self.directories[n].exists ^= true,
            1 => self.directories[n].valid ^= true,
            2 => self.change_spec(n),
            3..=4 => {
                let bads = [
                    None,
                    None,
                    Some(FailureClass::Local),
                    Some(FailureClass::Elsewhere),
                    Some(FailureClass::Passing),
                ];
                let was = self.directories[n].bad;
                self.directories[n].bad = self.dice.of(&bads);
                // What lies outside the directory changes unseen.
                let local = was == Some(FailureClass::Local);
                let mended = self.directories[n].bad.is_none() && !local;
                let unseen = mended && self.dice.once_in(2);
                let id = self.fleet.by_name(&self.directories[n].name);
                if let Some(id) = id.filter(|_| !unseen) {
                    let event = match self.dice.once_in(2) {
                        true => Event::Touched,
                        false => Event::Stirred,
                    };
                    self.send(id, event, 0);
                }
                self.oracle
                    .disturbed_name(&self.directories[n].name, self.now);
                return;
            }
            5 => return self.stampede(n),
            7 => return self.contradict(n),
            6 => {
                let id = self.fleet.by_name(&self.directories[n].name);
                if let Some(id) = id {
                    self.send(id, Event::Hurry, 0);
                }
                return;
            }
            _ => return self.someone_commands(n),
        }
        self.oracle
            .disturbed_name(&self.directories[n].name, self.now);
        self.note(|| format!("directory {n} changes"));
        self.rescan_one(n);
    }

    /// The keeper refuses what was asked long ago, or answers twice: it says nothing about a run
    /// that lives.
    pub(super) fn contradict(&mut self, n: usize) {
        if let Some(id) = self.fleet.by_name(&self.directories[n].name)
            && self.live.contains_key(&(id, Role::Run))
            && self
                .fleet
                .view(id)
                .is_some_and(|view| view.phase != Phase::Starting)
            && self.messages.iter().all(|message| message.id != id)
        {
            let class = FailureClass::Passing;
            let failure = Failure {
                step: 1,
                errno: 17,
                detail: String::new(),
                class,
            };
            self.send(
                id,
                Event::SpawnFailed {
                    role: Role::Run,
                    failure,
                },
                0,
            );
        }
    }

    pub(super) fn change_spec(&mut self, n: usize) {
        let directory = &mut self.directories[n];
        directory.spec.has_check = self.dice.once_in(2);
        directory.spec.has_finish = self.dice.once_in(2);
        directory.spec.has_control = self.dice.once_in(2);
        directory.spec.down = self.dice.once_in(3);
    }

    pub(super) fn someone_commands(&mut self, n: usize) {
        let mut name = self.directories[n].name.clone();
        if self.dice.once_in(8) {
            name.push_str("/log");
        }
        let Some(id) = self.fleet.by_name(&name) else {
            return;
        };
        let command = self.dice.of(COMMANDS);
        self.command(id, command);
    }

    /// Fifty clients that want the same thing at once.
    pub(super) fn stampede(&mut self, n: usize) {
        let Some(id) = self.fleet.by_name(&self.directories[n].name) else {
            return;
        };
        for _ in 0..50 {
            self.command(id, Command::Restart);
        }
    }

    pub(super) fn command(&mut self, id: ServiceId, command: Command) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let deadline =
            (!self.dice.once_in(10)).then(|| Tick(self.now + self.dice.below(30 * SECOND)));
        let token = (!self.dice.once_in(5)).then_some(token);
        if let Some(token) = token {
            self.oracle
                .commanded(id, token, command, deadline, self.now);
        }
        self.oracle.disturbed(id, self.now);
        self.messages.push(Message {
            at: self.now,
            id,
            event: Event::Command {
                command,
                token,
                deadline,
            },
        });
    }
}
