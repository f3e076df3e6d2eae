//! What goes over sockets, as data: the control protocol, the keeper's wire, the scribe's link. No
//! socket here.

pub mod control;
pub mod properties;
pub mod scribe;
pub mod told;
pub mod wire;
