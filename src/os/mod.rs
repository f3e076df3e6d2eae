//! The system, in types: clocks, users, limits, paths, descriptors over sockets.
//!
//! Small synchronous pieces that every room above may use. Nothing here decides anything about a
//! service.

pub mod clock;
pub mod draft;
pub mod fds;
pub mod halting;
pub mod identity;
mod kill_point;
pub mod limits;
pub mod locks;
pub mod paths;
pub mod pidfd;
pub mod step;
pub mod users;
pub mod vigil;
pub mod wording;

/// For what people put into a pipeline: a reader that goes ends it.
pub use crate::sys::default_sigpipe;
pub use crate::sys::{
    Child, Environment, changed_signals, control, environment, executed_as, give_back_memory,
    let_go_of_program, loopback_up, spawn,
};
pub use kill_point::{kill_point, kill_point_after};
