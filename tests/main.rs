//! The one test binary: what the program does, what its documents promise, the machine under
//! simulation, and the rules of the house, all in one link.

mod docs;
mod live;
mod sim;
mod tidy;
