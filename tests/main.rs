//! The one test binary: runit's programs and ours side by side, what the program does, what its documents promise, the machine under
//! simulation, and the rules of the house, all in one link.

mod boot;
mod compat;
mod docs;
mod handover;
mod live;
mod sim;
mod tidy;
