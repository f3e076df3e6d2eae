//! How a service stands, for those who come later: a successor (through the keeper's book), and sv
//! (through `supervise/`).

use super::quarantine::Suspicion;
use super::vocab::ServiceId;
use super::{Supervisor, disk, show};
use crate::ipc::wire::{BLOB_BYTES_MAX, ToKeeper};
use crate::machine::snapshot::Snapshot;
use crate::os::kill_point;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

/// What the keeper stores for a service, besides its processes: enough to go on from.
#[derive(Serialize, Deserialize)]
pub struct Blob {
    #[serde(rename = "n")]
    pub name: String,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub main: Option<u32>,
    /// The inode of its log pipe.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub pipe: Option<u64>,
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<i32>,
    /// Sessions outside its scope, and until when a run lived that was there when they were made.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub escaped: Vec<(i32, u64)>,
    /// It was started under another keeper.
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// Fingerprint of its definition, and since when that has been in force (CLOCK_MONOTONIC).
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<(u64, u64)>,
    /// Why that is left unread.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub suspicion: Option<Suspicion>,
    /// There is something wrong with its definition; what, a successor finds again.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub broken: bool,
    /// The time in `status`: a tick, and what the wall's clock showed then (nanoseconds both).
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub since: Option<(u64, u64)>,
    /// When the last run ended, in clock ticks from boot.
    #[serde(rename = "E", default)]
    pub ended: u64,
    /// Role, number and start (clock ticks from boot) of what lives, so that a successor need not
    /// look up each of them.
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<(u8, i32, u64)>,
    /// The control group that its run is in.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    #[serde(rename = "v", default, skip_serializing_if = "Face::is_plain")]
    pub face: Face,
    #[serde(rename = "z")]
    pub snapshot: Snapshot,
}

impl Blob {
    /// Short enough for the keeper: without what a look at the directory tells as well, and of very
    /// many sessions with the newest.
    fn bytes(mut self) -> Option<Vec<u8>> {
        loop {
            let bytes = serde_json::to_vec(&self).ok()?;
            if bytes.len() <= BLOB_BYTES_MAX {
                return Some(bytes);
            }
            let face = &mut self.face;
            if face.description.take().is_some()
                || face.log_dir.take().is_some()
                || self.cgroup.take().is_some()
            {
                continue;
            }
            let dropped = self.sessions.len().div_ceil(2);
            if dropped == 0 {
                return None;
            }
            self.sessions.drain(..dropped);
        }
    }
}

/// What people see of a definition: for answers of a successor that has not read it yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Face {
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "w", default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub log_dir: Option<String>,
}

impl Face {
    pub fn is_plain(&self) -> bool {
        *self == Face::default()
    }
}

/// To notice that a blob is the one that the keeper has.
pub fn print_of(blob: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    blob.hash(&mut hasher);
    hasher.finish()
}

impl Supervisor {
    /// Its state as a successor would need it, to the keeper, before anything follows from it.
    pub fn entrust(&mut self, id: ServiceId) {
        let (Some(snapshot), Some(view)) = (self.fleet.snapshot(id), self.fleet.view(id)) else {
            return;
        };
        let face = self.face(id);
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.dated(view.runit().since);
        // One that is not read again yet is as a predecessor knew it.
        place.broken = view.invalid.is_some() || place.reread && place.broken;
        let blob = Blob {
            name: place.name.to_string(),
            main: place.main.map(|main| main.0),
            pipe: place.pipe,
            sessions: place.sessions.clone(),
            escaped: place.escaped.clone(),
            foreign: place.foreign,
            definition: place.definition,
            suspicion: place.suspicion,
            broken: place.broken,
            since: place.since,
            ended: place.ended,
            starts: place.starts(),
            cgroup: place.cgroup.clone(),
            face,
            snapshot,
        };
        let Some(bytes) = blob.bytes() else {
            tracing::error!(
                service = &*place.name,
                "its state is too long for the keeper; a successor will know an older one"
            );
            return;
        };
        let print = print_of(&bytes);
        if std::mem::replace(&mut place.blob, print) != print {
            kill_point("blob-unsent");
            self.tell_keeper(&ToKeeper::Blob { id: id.0, bytes });
            kill_point("blob-sent");
        }
    }

    pub fn face(&self, id: ServiceId) -> Face {
        let Some(spec) = self.fleet.spec(id) else {
            let place = self.places.get(&id);
            return place
                .and_then(|place| place.face.as_deref().cloned())
                .unwrap_or_default();
        };
        let log = self.pen.attached.get(&id.0);
        Face {
            description: spec.description.clone(),
            down: spec.down,
            log_dir: log.map(|log| log.dir.to_string()),
        }
    }

    /// Something of it that people see has changed.
    pub fn mark(&mut self, id: ServiceId) {
        if let Some(place) = self.places.get_mut(&id)
            && !std::mem::replace(&mut place.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// Passes on what has changed to the disk thread, for sv's eyes; not before the keeper has what
    /// a successor needs to know of it.
    pub fn publish(&mut self) {
        if self.keeper.waiting() == 0 {
            self.publish_now();
        }
    }

    pub fn publish_now(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            self.publish_one(id);
        }
    }

    /// What has been passed on already is not passed on again.
    pub fn publish_one(&mut self, id: ServiceId) {
        let dirty = self.places.get(&id).is_some_and(|place| place.dirty);
        let Some(view) = self.fleet.view(id).filter(|_| dirty) else {
            return;
        };
        let down = self.fleet.spec(id).map(|spec| spec.down);
        let record = self.record(id);
        let exchanged = self.is_exchanged(id);
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.dirty = false;
        if (place.ok.is_some() || place.aside) && !exchanged {
            let since = place.dated(view.runit().since);
            let status = show::runit_status(&view, since);
            place.paused = status.paused;
            let dir = Arc::clone(&place.dir);
            let write = disk::Write {
                dir,
                status,
                down,
                record,
                aside: place.aside,
            };
            self.disk.write(id, write);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a definition may be called and whatever has become of it.
    #[test]
    fn the_longest_state_fits_the_keepers_book() {
        let name = "n".repeat(crate::machine::spec::NAME_BYTES_MAX);
        let detail = "d".repeat(48);
        let most = u64::MAX;
        let snapshot = format!(
            r#"{{"n":"{name}","s":"cf","w":"x","S":{most},"A":{most},"R":{most},"u":{most},"d":{most},
            "r":{most},"t":{most},"p":2147483647,"f":65535,"b":4294967295,"F":4294967295,
            "e":[65535,{most},{most},2147483647,false],
            "x":{{"step":255,"errno":2147483647,"detail":"{detail}","class":"Elsewhere"}},
            "g":[255,{most},{most},"p"]}}"#
        );
        let blob = Blob {
            name,
            main: Some(u32::MAX),
            pipe: Some(most),
            sessions: (0..1000).map(|number| i32::MAX - number).collect(),
            escaped: (0..8).map(|number| (i32::MAX - number, most)).collect(),
            foreign: true,
            definition: Some((most, most)),
            suspicion: Some(Suspicion {
                print: most,
                alone: u8::MAX,
                tried: false,
            }),
            broken: true,
            since: Some((most, most)),
            ended: most,
            starts: (0..4).map(|role| (role, i32::MAX, most)).collect(),
            cgroup: Some(PathBuf::from("g".repeat(4_096))),
            face: Face {
                description: Some("d".repeat(100_000)),
                down: true,
                log_dir: Some("l".repeat(100_000)),
            },
            snapshot: serde_json::from_str(&snapshot).expect("a snapshot"),
        };
        let bytes = blob.bytes().expect("short enough");
        let kept: Blob = serde_json::from_slice(&bytes).expect("whole");
        assert_eq!(kept.sessions.last(), Some(&(i32::MAX - 999)));
        let plain = Face {
            down: true,
            ..Face::default()
        };
        assert_eq!((kept.starts.len(), kept.face), (4, plain));
    }
}
