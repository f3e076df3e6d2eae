//! How a service stands, for those who come later: a successor (through the keeper's book), and sv
//! (through `supervise/`).

use super::vocab::ServiceId;
use super::{Supervisor, disk, show};
use crate::ipc::wire::ToKeeper;
use crate::machine::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};

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
    /// It was started under another keeper.
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// Fingerprint of its definition, and since when that has been in force (CLOCK_MONOTONIC).
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<(u64, u64)>,
    #[serde(rename = "z")]
    pub snapshot: Snapshot,
}

impl Supervisor {
    /// Its state as a successor would need it, to the keeper, before anything follows from it.
    pub fn entrust(&mut self, id: ServiceId) {
        let Some(snapshot) = self.fleet.snapshot(id) else {
            return;
        };
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        let blob = Blob {
            name: place.name.to_string(),
            main: place.main.map(|main| main.0),
            pipe: place.pipe,
            sessions: place.sessions.clone(),
            foreign: place.foreign,
            definition: place.definition,
            snapshot,
        };
        let Ok(bytes) = serde_json::to_vec(&blob) else {
            return;
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        if std::mem::replace(&mut place.blob, hasher.finish()) != place.blob {
            self.tell_keeper(&ToKeeper::Blob { id: id.0, bytes });
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

    /// Passes on what has changed to the disk thread, for sv's eyes.
    pub fn publish(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(view) = self.fleet.view(id) else {
                continue;
            };
            let down = self.fleet.spec(id).map(|spec| spec.down);
            let record = self.record(id);
            let Some(place) = self.places.get_mut(&id) else {
                continue;
            };
            place.dirty = false;
            if place.ok.is_some() {
                let status = show::runit_status(&view);
                place.paused = status.paused;
                let dir = place.dir.clone();
                let write = disk::Write {
                    dir,
                    status,
                    down,
                    record,
                };
                self.disk.write(id, write);
            }
        }
    }
}
