//! runit's programs and ours of the same names, side by side: the same script, run with the one and
//! with the other first on PATH, must show the same. Known differences stand in QUIRKS.md, each
//! with a test here that states both results.

mod chpst;
mod packages;
mod runsv;
mod runsvdir;
mod small;
mod sv;
mod svlogd;
pub mod twin;
