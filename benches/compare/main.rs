//! Figures of outlast and of the supervisors it is measured against, side by side in one run.
//!
//! Each peer that is on the PATH gets the same services and the same treatment, one after the
//! other; then one table is printed. Nothing is asserted: figures depend on the machine, ratios
//! less so. Called by `cargo bench --bench compare`; README.md beside it tells how to read it.
//!
//! The same program is the service as well: called as `run` it is the probe.

mod figures;
mod peers;
mod probe;
mod processes;
mod table;
mod world;

use peers::Peer;
use std::path::Path;
use std::process::ExitCode;

/// What the command line may change.
pub struct Options {
    /// Services of the large world.
    pub many: usize,
    /// Services of the small world.
    pub few: usize,
    /// How long wake-ups are counted.
    pub idle_seconds: u64,
    /// Times a single event is repeated; the median counts.
    pub repeats: usize,
    /// Only peers of these names; all when empty.
    pub only: Vec<String>,
}

const USAGE: &str = "usage: cargo bench --bench compare -- [--many N] [--few N] [--idle SECONDS] \
[--repeats N] [PEER...]
peers: runit s6 dinit outlast; each is measured when it is on the PATH (outlast: as just built)";

fn main() -> ExitCode {
    if probe::is_asked_for() {
        return probe::run();
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::from(100);
        }
    };
    if let Err(message) = world::prepare() {
        eprintln!("compare: {message}");
        return ExitCode::FAILURE;
    }
    let mut columns = Vec::new();
    for peer in Peer::present(Path::new(env!("CARGO_BIN_EXE_outlast"))) {
        let wanted = options.only.is_empty() || options.only.iter().any(|name| name == peer.name());
        if wanted && !world::interrupted() {
            eprintln!("measuring {} ...", peer.name());
            columns.push((peer.name(), figures::measure(&peer, &options)));
        }
    }
    print!("{}", table::render(&columns, &options));
    ExitCode::SUCCESS
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        many: 1000,
        few: 100,
        idle_seconds: 30,
        repeats: 5,
        only: Vec::new(),
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments
                .next()
                .ok_or(format!("{argument}: a number is missing"))?;
            text.parse::<usize>()
                .map_err(|_| format!("{argument} {text}: not a number"))
        };
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--many" => options.many = number()?,
            "--few" => options.few = number()?,
            "--idle" => options.idle_seconds = number()? as u64,
            "--repeats" => options.repeats = number()?,
            "runit" | "s6" | "dinit" | "outlast" => options.only.push(argument),
            _ => return Err(format!("{argument}: not understood")),
        }
    }
    // Each repeated event takes a service of its own, three times, so that no back-off is due.
    let needed = 3 * options.repeats.max(1);
    match options.many > options.few && options.few >= 1 && options.many >= needed {
        true => Ok(options),
        false => Err(format!(
            "--many must exceed --few, and be at least {needed}"
        )),
    }
}
