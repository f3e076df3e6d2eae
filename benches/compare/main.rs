//! Figures of outlast and of the supervisors it is measured against, side by side in one run.
//!
//! Each peer that is on the PATH gets the same services and the same treatment, one after the
//! other; then one table is printed. Nothing is asserted: figures depend on the machine, ratios
//! less so. Called by `cargo bench --bench compare`; README.md beside it tells how to read it.
//!
//! The same program is the service as well, when it is called as `run`, and the plainest of loggers.

mod figures;
mod loggers;
mod peers;
mod probe;
mod processes;
mod table;
mod world;

use loggers::Logger;
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
    /// How much each logger gets.
    pub log_bytes: usize,
    /// Only peers of these names; all when empty.
    pub only: Vec<String>,
}

const MB: usize = 1_000_000;

const USAGE: &str = "usage: cargo bench --bench compare -- [--many N] [--few N] [--idle SECONDS] \
[--repeats N] [--log-mb N] [PEER...]
peers: runit s6 dinit outlast; each is measured when it is on the PATH (outlast: as just built)
--many 0 measures only loggers, --log-mb 0 all but them";

fn main() -> ExitCode {
    if probe::is_asked_for() {
        return probe::run();
    }
    if loggers::plain_is_asked_for() {
        return loggers::plain();
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
    let outlast = Path::new(env!("CARGO_BIN_EXE_outlast"));
    let wanted = |name: &str| {
        let wanted = options.only.is_empty() || options.only.iter().any(|only| only == name);
        wanted && !world::interrupted()
    };
    let yard = match tempfile::Builder::new().prefix("compare-").tempdir() {
        Ok(yard) => yard,
        Err(error) => {
            eprintln!("compare: a folder to work in: {error}; TMPDIR says where");
            return ExitCode::FAILURE;
        }
    };
    let mut columns = Vec::new();
    for peer in Peer::present(outlast) {
        if options.many > 0 && wanted(peer.name()) {
            eprintln!("measuring {} ...", peer.name());
            columns.push((peer.name(), figures::measure(&peer, &options, yard.path())));
        }
    }
    if !columns.is_empty() {
        println!("{}", table::render(&columns, &options));
    }
    if options.log_bytes > 0 {
        let mut loggers = Logger::present(outlast);
        loggers.retain(|logger| matches!(logger, Logger::Plain) || wanted(logger.name()));
        eprintln!("measuring loggers ...");
        let columns = loggers::measure(&loggers, &options);
        println!("{}", table::render_loggers(&columns));
    }
    ExitCode::SUCCESS
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        many: 1000,
        few: 100,
        idle_seconds: 30,
        repeats: 5,
        log_bytes: 200 * MB,
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
            "--log-mb" => options.log_bytes = number()? * MB,
            "runit" | "s6" | "dinit" | "outlast" => options.only.push(argument),
            _ => return Err(format!("{argument}: not understood")),
        }
    }
    // Each repeated event takes a service of its own, three times, so that no back-off is due.
    let needed = 3 * options.repeats.max(1);
    let fits = options.many > options.few && options.few >= 1 && options.many >= needed;
    match fits || options.many == 0 {
        true => Ok(options),
        false => Err(format!(
            "--many must exceed --few, and be at least {needed}"
        )),
    }
}
