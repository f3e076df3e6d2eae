//! Decides: what is to be done for each service, from what has happened to it. Pure.
//!
//! It knows no clock, descriptor, process table or file; of the standard library only collections
//! and arithmetic. The supervisor tells it events and carries its actions out, the simulation in
//! tests/sim does the same with a world of its own, and neither can see more than [`fleet::Fleet`].
//!
//! # What is wanted, and where it is
//!
//! Two things are kept apart: what is *wanted* (up, once, down, exit) changes at any moment by a
//! command; the *state* changes only by what has really happened. A command is therefore always
//! taken, in every state, and nothing waits in a queue to become true.
//!
//! ```text
//!                      start                  Spawned               told to end
//!      +-----> Down ---------> Starting ---------------> Up ------------------+
//!      |         |  ^            |   ^                    |                    v
//!      |  Invalid|  |want down   |   |           Exited   |               Stopping
//!      |         v  |            |   |                    |   Exited, KILL    |
//!      |       Broken <----------+   |                    v   after its time  |
//!      |     touched, asked: start   |                Clearing <--------------+
//!      |                             |   nobody left   |   ^
//!      |      Backoff ---------------+                 v   | leftovers of finish
//!      |        ^     its time, asked             Finishing
//!      |        |                                      |
//!      +--------+------------- rest <------------------+
//! ```
//!
//! - **Down** rests: nothing of the service lives. It says why.
//! - **Starting** has asked `control/u` (Announce) or the keeper (Spawn). From the moment the
//!   keeper is asked until it answers the run is *unknown*, and unknown is never "not running".
//! - **Up** has a run. It is *ready* when `./check` has passed once, or at once without one.
//! - **Stopping** has a run that was told to end in favour of down, exit or a restart, with a clock
//!   to KILL. It is not taken back: `up` given now means "and then again". A mere TERM or KILL from
//!   an operator leaves the service Up until the exit comes.
//! - **Clearing** ends what the run, or after it `finish`, left behind in its scope: the stop
//!   signal, KILL, three times, then it is told to be unkillable and waited for without a clock.
//! - **Finishing** runs `finish`, bounded as well.
//! - **Backoff** waits for the next start. **Broken** can't start until something is mended; only
//!   when the reason lies outside the directory is it tried again by itself, slowly.
//!
//! `rest` (in `ending`) is the one crossroads: it compares what is wanted with what has happened
//! and goes to Down, Backoff, Broken or straight to Starting.
//!
//! # Who may interrupt what
//!
//! | while             | down, exit             | up, once             | restart           | signals        |
//! |-------------------|------------------------|----------------------|-------------------|----------------|
//! | Down              | reached                | start                | start             | not running    |
//! | Backoff, Broken   | Down                   | start now (runit: its pause is kept) | start | not running |
//! | Starting/Announce | called off             | goes on              | joins             | not running    |
//! | Starting/Spawn    | stopped when it is up  | goes on              | joins             | not running    |
//! | Up                | Stopping               | reached when ready   | Stopping, again   | sent           |
//! | Stopping          | the signal once more   | again, after the end | joins             | sent           |
//! | Clearing, Finishing | wanted, so Down after | again, after the end | joins            | not running    |
//!
//! Before each signal `control/<c>` is asked; while a script runs other signals wait in a line of
//! bounded length, and a stop overtakes them. A script that outstays its time loses its say.
//!
//! # Leaving
//!
//! A service leaves when it was told `exit`, when its directory is gone, or when the supervisor
//! ends. It is stopped, and forgotten when nothing of it is left. The reader of its output (its log
//! service) ends after it, by the end of its input, and is forgotten first. A directory that comes
//! back meanwhile takes up where it was.
//!
//! # Ending with all
//!
//! An essential service that has ended for good (see `essential`) takes all others along: the fleet
//! answers `EndAll` with the code to exit with, and the actions of its shut-down behind it.
//!
//! # Dying in between
//!
//! The supervisor may die between any two actions. `Publish` is therefore the first action of a
//! turn: what is wanted and meant is stored before anything is done about it; the keeper's book
//! knows what was done. An exit has to be acknowledged to the keeper after that `Publish` and
//! before the actions that follow it, so that no process can take its place under the same key
//! while it is still to be told.
//!
//! # The doors
//!
//! `Service::handle` for events, `Service::enter` for states, `Service::start` for runs (`enter`
//! refuses a second), `Service::rest` for arrivals, `restored` for a predecessor's services.

mod answer;
mod command;
mod control;
mod ending;
mod essential;
#[cfg(test)]
mod exhaustive;
pub mod fleet;
mod leaving;
mod mending;
mod restart;
#[cfg(test)]
mod rig;
mod service;
pub mod snapshot;
pub mod spec;
mod starting;
pub mod view;
pub mod vocab;

pub use starting::CHECK_TIME_MAX;
