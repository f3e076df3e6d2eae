//! Which program was called? The parts of the supervisor know each other by argv[0], runit's programs
//! are called by their names; everything else is the command line for people.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name);
    let rest = args.get(1..).unwrap_or_default();
    match called.and_then(|name| name.to_str()) {
        Some("outlast-keeper") => ExitCode::from(outlast::keeper::main(rest)),
        Some("outlast-super") => ExitCode::from(outlast::supervisor::main(rest)),
        Some("outlast-scribe") => {
            ExitCode::from(u8::try_from(outlast::scribe::run(rest)).unwrap_or(1))
        }
        Some("outlast-check") => ExitCode::from(outlast::supervisor::fitness::main(rest)),
        Some("outlast-stage") => ExitCode::from(outlast::boot::main(rest)),
        Some("outlast-launch") => outlast::launch::carry::main(),
        _ => match args.first().and_then(|name| outlast::applets::called(name)) {
            Some(applet) => ExitCode::from(applet(&args)),
            None => outlast::cli::main(args),
        },
    }
}
