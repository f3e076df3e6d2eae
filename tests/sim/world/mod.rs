//! Everything that is not the machine, small and honest: the keeper that holds processes and books
//! exits, processes that end when they like, directories, clients, and a supervisor that performs
//! one action at a time and may die before any of them.

mod dice;
mod directories;
mod keeper;
mod successor;
mod supervisor;
mod whims;
mod wire;

use super::oracle::Oracle;
use dice::Dice;
use directories::{Directory, directory, perhaps_essential};
use keeper::{Booked, Left, Process};
use outlast::machine::fleet::{Fleet, Out};
use outlast::machine::view::View;
use outlast::machine::vocab::{Event, Exit, Pid, Role, ServiceId, Signal, Tick};
use std::collections::{BTreeMap, VecDeque};
use wire::Wire;

pub const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
/// How long a shut-down may take before somebody presses the key a second time.
const PATIENCE: u64 = 30 * SECOND;
/// One world in so many has services with which everything ends.
pub const WORLDS_PER_ESSENTIAL: u64 = 4;
const FOREVER: u64 = u64::MAX / 4;
pub const ROLES: [Role; 4] = [Role::Run, Role::Finish, Role::Check, Role::Control];
const KILLED: Exit = Exit::Signal {
    signal: Signal::KILL,
    core: false,
};

struct Message {
    at: u64,
    id: ServiceId,
    event: Event,
}

pub struct World {
    pub now: u64,
    dice: Dice,
    pub fleet: Fleet,
    pub live: BTreeMap<(ServiceId, Role), Process>,
    leftovers: BTreeMap<ServiceId, Vec<Left>>,
    watched: BTreeMap<ServiceId, Vec<Pid>>,
    book: Vec<Booked>,
    blobs: BTreeMap<ServiceId, (String, Option<ServiceId>)>,
    directories: Vec<Directory>,
    names: BTreeMap<ServiceId, String>,
    messages: Vec<Message>,
    wire: Wire,
    rescans: Vec<(u64, usize)>,
    todo: VecDeque<Out>,
    /// What to acknowledge when `todo` is done.
    heard: Option<(ServiceId, Role, Pid)>,
    ended_input: Vec<ServiceId>,
    /// How often a successor was compared.
    pub compared: u64,
    shutting_down: bool,
    next_pid: i32,
    next_token: u64,
    next_whim: u64,
    press_at: u64,
    hurry_at: u64,
    /// Mean time between whims, and how often the supervisor dies, once in so many actions.
    restless: u64,
    mortal: u64,
    noted: bool,
    pub story: Vec<String>,
    pub oracle: Oracle,
}

impl World {
    pub fn new(seed: u64, noted: bool) -> World {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        // From dice of its own, so that the worlds without stay what they were.
        let mut fate = Dice(seed ^ 0x6573_7365_6e74_6961);
        let count = 1 + dice.below(4);
        let restless = dice.of(&[20 * MS, 300 * MS, 2 * SECOND, 15 * SECOND, 120 * SECOND]);
        let mortal = dice.of(&[40, 400, 3000, 3000, u64::MAX]);
        let mut world = World {
            now: SECOND,
            fleet: Fleet::new(seed),
            live: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            watched: BTreeMap::new(),
            book: Vec::new(),
            blobs: BTreeMap::new(),
            directories: (0..count)
                .map(|n| directory(&mut dice, n))
                .map(|found| match seed % WORLDS_PER_ESSENTIAL {
                    1 => perhaps_essential(&mut fate, found),
                    _ => found,
                })
                .collect(),
            names: BTreeMap::new(),
            messages: Vec::new(),
            wire: Wire::default(),
            rescans: Vec::new(),
            todo: VecDeque::new(),
            heard: None,
            ended_input: Vec::new(),
            compared: 0,
            shutting_down: false,
            next_pid: 100,
            next_token: 1,
            next_whim: 0,
            press_at: u64::MAX,
            hurry_at: u64::MAX,
            restless,
            mortal,
            noted,
            story: Vec::new(),
            oracle: Oracle::default(),
            dice,
        };
        world.scan();
        world
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.noted {
            self.story.push(format!(
                "{:>12.6} {}",
                self.now as f64 / SECOND as f64,
                line()
            ));
        }
    }

    /// `steps` of life, then the shut-down, which must come to an end.
    pub fn live(&mut self, steps: u64) -> Result<u64, String> {
        let mut taken = 0;
        while taken < steps && !self.shutting_down {
            self.step()?;
            taken += 1;
        }
        if !self.shutting_down {
            self.perform_all()?;
        }
        if !self.shutting_down {
            self.note(|| "the supervisor is told to end".to_owned());
            self.begin_to_end();
            let outs = self.fleet.shut_down(Tick(self.now));
            self.todo.extend(outs);
        }
        let begun = self.now;
        while !(self.fleet.is_empty() && self.is_idle()) {
            self.step()?;
            taken += 1;
            let lasted = self.now.saturating_sub(begun);
            if lasted > 200 * SECOND {
                return Err(format!("the shut-down does not end: {:?}", self.views()));
            }
        }
        self.oracle.at_the_end(self.fleet.next_deadline())?;
        Ok(taken)
    }

    /// From here on nobody edits, commands or dies.
    fn begin_to_end(&mut self) {
        self.shutting_down = true;
        self.mortal = u64::MAX;
        self.press_at = self.now + PATIENCE / 2;
        self.hurry_at = self.now + PATIENCE;
    }

    fn views(&self) -> Vec<View> {
        self.fleet
            .ids()
            .filter_map(|id| self.fleet.view(id))
            .collect()
    }

    /// One action performed, or one thing happens.
    fn step(&mut self) -> Result<(), String> {
        if !self.todo.is_empty() {
            if self.dice.once_in(self.mortal) {
                self.die()?;
            } else {
                self.perform_next()?;
            }
            return self.judge();
        }
        self.acknowledge()?;
        let whim = if self.shutting_down {
            u64::MAX
        } else {
            self.next_whim
        };
        let message = self
            .messages
            .iter()
            .map(|message| message.at)
            .min()
            .unwrap_or(u64::MAX);
        let death = self.next_death();
        let timer = self.fleet.next_deadline().map_or(u64::MAX, |tick| tick.0);
        let rescan = self
            .rescans
            .iter()
            .map(|(at, _)| *at)
            .min()
            .unwrap_or(u64::MAX);
        let reading = self.wire.next_reading();
        let next = whim
            .min(message)
            .min(reading)
            .min(death)
            .min(timer)
            .min(rescan)
            .min(self.press_at)
            .min(self.hurry_at);
        if next == u64::MAX {
            return Err(format!(
                "nothing will ever happen again: {:?}",
                self.views()
            ));
        }
        self.now = self.now.max(next);
        // What has been amiss until now is to be seen before somebody interferes.
        self.judge()?;
        if next == reading {
            self.keeper_reads()?;
        } else if next == message {
            self.deliver()?;
        } else if next == death {
            self.let_die();
        } else if next == rescan {
            self.rescan();
        } else if next == self.press_at {
            self.press_at = u64::MAX;
            self.note(|| "press".to_owned());
            self.todo.extend(self.fleet.press(Tick(self.now)));
        } else if next == self.hurry_at {
            self.hurry_at = u64::MAX;
            self.note(|| "hurry".to_owned());
            self.todo.extend(self.fleet.hurry(Tick(self.now)));
        } else if next == timer {
            self.todo.extend(self.fleet.due(Tick(self.now)));
        } else {
            self.whim();
        }
        self.judge()
    }

    fn judge(&mut self) -> Result<(), String> {
        self.ask(|oracle, world| oracle.look(world))
    }

    fn ask(
        &mut self,
        question: impl FnOnce(&mut Oracle, &World) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut oracle = std::mem::take(&mut self.oracle);
        let verdict = question(&mut oracle, self);
        self.oracle = oracle;
        verdict
    }
}
