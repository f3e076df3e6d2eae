//! Process 1: in a virtual machine with a real kernel, and in a pid namespace beside runit's.
//!
//! The machine needs a program that boots one (`OUTLAST_VM` names it; .ci/run sets it where it is
//! there). A boot costs seconds, so one looks at many things; only one machine runs at a time.

mod built_in;
mod emergency;
mod hardships;
mod image;
mod machine;
mod stages;
mod trouble;
