//! Knows which lane writes which log, and keeps what is said about a log until it has one.
//!
//! Never touches a disk, and never waits.

use super::echo::Echo;
use super::journal::Journal;
use super::lane::{self, End, Job};
use super::link::Report;
use super::mail::Post;
use super::scout::{Errand, Scouts};
use crate::ipc::scribe::{Attach, FromScribe};
use crate::log::settings::Settings;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most lanes; further file systems share one each.
pub const LANES_MAX: usize = 64;
/// Messages kept for a log whose directory is still being looked up.
const WAITING_MAX: usize = 64;

#[derive(Debug, Default)]
struct Place {
    lane: Option<usize>,
    /// Boxed, since nearly all logs have arrived.
    coming: Option<Box<Coming>>,
}

/// A log on its way to a lane.
#[derive(Debug)]
struct Coming {
    /// The latest errand; answers to earlier ones are void.
    turn: u64,
    name: Box<str>,
    dir: PathBuf,
    settings: Settings,
    pipe: OwnedFd,
    /// What was said meanwhile, when no lane has the log yet.
    waiting: Vec<Job>,
    /// ... the last of it that it is to be detached.
    leaves: bool,
}

pub struct Router {
    places: HashMap<u32, Place>,
    lanes: Vec<Post<Job>>,
    by_device: HashMap<u64, usize>,
    turns: u64,
    /// Logs on their way.
    coming: usize,
    pub scouts: Scouts,
    reports: Post<Report>,
    echo: Option<Arc<Echo>>,
    /// Set before the first log is attached.
    pub journal: Option<Arc<Journal>>,
}

impl Router {
    pub fn new(reports: Post<Report>, echo: Option<Arc<Echo>>) -> Router {
        Router {
            places: HashMap::new(),
            lanes: Vec::new(),
            by_device: HashMap::new(),
            turns: 0,
            coming: 0,
            scouts: Scouts::new(reports.clone()),
            reports,
            echo,
            journal: None,
        }
    }

    pub fn attach(&mut self, attach: Attach, pipe: OwnedFd) {
        self.turns += 1;
        let dir = PathBuf::from(attach.dir);
        let place = self.places.entry(attach.id).or_default();
        let before = place.coming.take();
        self.coming += usize::from(before.is_none());
        place.coming = Some(Box::new(Coming {
            turn: self.turns,
            name: attach.name.into(),
            dir: dir.clone(),
            settings: Settings {
                stamp: attach.stamp,
                size: attach.size,
                keep: attach.keep,
                ..Settings::default()
            },
            pipe,
            waiting: before.map(|before| before.waiting).unwrap_or_default(),
            leaves: false,
        }));
        self.scouts.send(Errand {
            id: attach.id,
            turn: self.turns,
            dir,
        });
    }

    /// A scout is back.
    pub fn found(&mut self, id: u32, turn: u64, device: u64) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        let before = place.lane;
        let Some(coming) = place.coming.take_if(|coming| coming.turn == turn) else {
            return;
        };
        self.coming -= 1;
        let Some(lane) = self.lane(device) else {
            return;
        };
        if let Some(before) = before.filter(|before| *before != lane) {
            self.lanes[before].send(Job::Detach { id });
        }
        self.lanes[lane].send(Job::Attach {
            id,
            name: coming.name,
            dir: coming.dir.into(),
            settings: coming.settings,
            pipe: coming.pipe,
        });
        for job in coming.waiting {
            self.lanes[lane].send(job);
        }
        if coming.leaves {
            self.places.remove(&id);
        } else if let Some(place) = self.places.get_mut(&id) {
            place.lane = Some(lane);
        }
    }

    /// Passes a message on. False when no lane has the log yet and the message can't wait.
    pub fn pass(&mut self, id: u32, job: Job) -> bool {
        let detaches = matches!(job, Job::Detach { .. });
        let Some(place) = self.places.get_mut(&id) else {
            if detaches {
                let gone = FromScribe::Detached { id };
                self.reports.send(Report::Tell(gone));
            }
            return false;
        };
        let answers = matches!(job, Job::Tail { .. });
        match (place.lane, &mut place.coming) {
            (Some(lane), coming) => {
                self.lanes[lane].send(job);
                if detaches {
                    self.coming -= usize::from(coming.is_some());
                    self.places.remove(&id);
                }
            }
            (None, Some(coming)) if detaches || coming.waiting.len() < WAITING_MAX => {
                coming.leaves |= detaches;
                // A question waits with the rest: who asks has a patience of his own.
                coming.waiting.push(job);
            }
            (None, _) => return !answers,
        }
        true
    }

    /// Logs on their way read their `config` when they have arrived.
    pub fn reload(&self) {
        for lane in &self.lanes {
            lane.send(Job::Reload);
        }
    }

    /// To a lane that has asked something.
    pub fn answer(&self, lane: usize, job: Job) {
        self.lanes[lane].send(job);
    }

    /// Logs are on their way to a lane.
    pub fn is_busy(&self) -> bool {
        self.coming > 0
    }

    /// Has every lane write out what is in its pipes and end. Returns how many there are.
    pub fn finish(&self, end: End, within: Duration) -> usize {
        for lane in &self.lanes {
            lane.send(Job::Finish { end, within });
        }
        self.lanes.len()
    }

    fn lane(&mut self, device: u64) -> Option<usize> {
        if let Some(lane) = self.by_device.get(&device) {
            return Some(*lane);
        }
        let number = self.lanes.len();
        let lane = if number < LANES_MAX {
            let (reports, echo) = (self.reports.clone(), self.echo.clone());
            match lane::start(number, reports, echo, self.journal.clone()) {
                Ok(post) => {
                    self.lanes.push(post);
                    number
                }
                Err(error) if number == 0 => {
                    eprintln!("outlast-scribe: cannot start a writer: {error}");
                    return None;
                }
                Err(_) => number - 1,
            }
        } else {
            usize::try_from(device).unwrap_or(0) % number
        };
        self.by_device.insert(device, lane);
        Some(lane)
    }
}
