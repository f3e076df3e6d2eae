//! outlast: a service supervisor for Linux.
//!
//! Three processes from one binary: the *keeper* holds every process, the *supervisor* decides,
//! the *scribe* writes the logs. ARCHITECTURE.md tells how they work together and why.
//!
//! Who may import whom (arrows point down only; tests/tidy reads the `use` lines):
//!
//! ```text
//! applets, cli      -> supervisor, keeper, scribe, svdir, launch, log, ipc, os
//! cli               -> applets::names
//! supervisor        -> machine, svdir, launch, ipc, os
//! scribe            -> log, ipc, os
//! keeper            -> ipc::wire, os, sys
//! boot              -> os
//! svdir, launch     -> machine::spec, machine::vocab, os, sys
//! log               -> os, sys
//! ipc               -> log::Stamp, os, sys
//! os                -> sys
//! machine, sys      -> nothing of ours
//! ```

#![deny(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]

pub mod applets;
pub mod boot;
pub mod cli;
pub mod ipc;
pub mod keeper;
pub mod launch;
pub mod log;
pub mod machine;
pub mod os;
pub mod scribe;
pub mod supervisor;
pub mod svdir;
pub mod sys;
