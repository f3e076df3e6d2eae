//! From the keeper's fresh child to the service's program.
//!
//! `plan` says what a process shall become, `carry` makes it so, `report` puts a start that failed
//! into words. Only a start that needs more than `./run` in its directory comes through here. chpst
//! takes the same steps in its own process and in its own order: `environment`, `env_dir`,
//! `credentials` and `effects`. A step that fails ends the start: nothing ever runs with more rights than it was given.

pub mod carry;
pub mod credentials;
pub mod effects;
pub mod env_dir;
pub mod environment;
pub mod plan;
mod refusal;
pub mod report;
mod script;
