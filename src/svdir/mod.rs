//! Service directories: from files to a definition or to findings, never to half a definition.
//!
//! `scan` finds the services of a scan directory, `watch` tells when to look again, `load` reads
//! one directory (`service_toml` its service.toml), `supervise` keeps runit's files, `left` what a
//! supervisor leaves for its successor; `holders` finds processes by their log pipe. Everything here
//! is synchronous and may wait for a disk: the supervisor calls it from a worker thread only.
//! It starts nothing and signals nobody.

mod findings;
pub mod holders;
pub mod keys;
pub mod left;
pub mod load;
pub mod scan;
pub mod service_toml;
pub mod status;
pub mod supervise;
mod values;
pub mod watch;
