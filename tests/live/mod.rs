//! The real binary with real processes, sockets, signals and files.

mod abroad;
mod alone;
mod applets;
mod aside;
mod chaos;
mod commands;
mod container;
mod crashes;
mod daemons;
mod faults;
mod keeperless;
mod lifelines;
mod logging;
mod many;
mod memory;
mod names;
mod points;
mod processors;
mod quarantine;
mod scribe;
mod serving;
mod shown;
mod stopping;
mod supervision;
mod times;
pub mod upgrade;
pub mod world;
