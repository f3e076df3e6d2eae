//! Reads one service directory. Looks at names and at service.toml, and opens nothing else.

use super::findings::position;
use super::service_toml::{self, Around, FILE_BYTES_MAX};
use crate::machine::spec::{Kind, Policy, Restart, Rule, Scope, Spec, Stop};
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub use super::findings::Findings;

/// A service as its directory describes it now.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub spec: Spec,
    /// There when `log/` is a directory.
    pub log: Option<Spec>,
    /// What is odd but stops nothing, each a line.
    pub warnings: Vec<String>,
}

/// `dir` is absolute: the real path or one through links. `name` is the service's, for messages.
pub fn load(dir: &Path, name: &str) -> Result<Definition, Findings> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Err(Findings::plain(format!(
                "{} is no directory",
                dir.display()
            )));
        }
        Err(error) => return Err(unreadable(dir, &error)),
    }
    let mut warnings = Vec::new();
    let log_dir = dir.join("log");
    let has_log_service = is_directory(&log_dir, &mut warnings)?;
    let spec = Spec {
        down: there(&dir.join("down"))?,
        has_finish: opens(&dir.join("finish")),
        has_check: there(&dir.join("check"))?,
        has_control: is_directory(&dir.join("control"), &mut warnings)?,
        has_log_service,
        ..Spec::default()
    };
    let spec = with_service_toml(dir, name, spec, &mut warnings)?;
    warn_of_scripts(dir, &spec, &mut warnings);
    if has_log_service && spec.log != Spec::default().log {
        warnings.push(
            "service.toml: [log] is not used, since log/ has a service of its own".to_owned(),
        );
    }
    let log = has_log_service.then(|| load_log(&log_dir, name, &mut warnings));
    let log = log.transpose()?;
    Ok(Definition {
        spec,
        log,
        warnings,
    })
}

/// What counts in a service directory, apart from service.toml.
const SCRIPTS: [&str; 5] = ["run", "finish", "check", "down", "control"];

/// Of all that a definition is read from, without understanding any of it: to tell whether it is
/// the same as before.
pub fn fingerprint(dir: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let log = dir.join("log");
    for dir in [Some(dir), log.is_dir().then_some(&*log)] {
        let mut bytes = Vec::new();
        let Some(dir) = dir else {
            // As if each file had been looked for.
            bytes.hash(&mut hasher);
            for _ in SCRIPTS {
                None::<u32>.hash(&mut hasher);
            }
            continue;
        };
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
            .open(dir.join("service.toml"));
        if let Ok(file) = opened
            && file.metadata().is_ok_and(|found| found.is_file())
        {
            let _ = file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        }
        bytes.hash(&mut hasher);
        for entry in SCRIPTS {
            let mode = fs::metadata(dir.join(entry)).map(|found| found.permissions().mode());
            mode.ok().hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The same directory with runsv's eyes: its own rule and no time-outs, one process and nothing of
/// service.toml. `check` is sv's business.
pub fn load_as_runsv(dir: &Path) -> Result<Definition, Findings> {
    let mut unused = Vec::new();
    let log_dir = dir.join("log");
    let has_log_service = is_directory(&log_dir, &mut unused)?;
    let spec = Spec {
        down: there(&dir.join("down"))?,
        has_finish: opens(&dir.join("finish")),
        has_control: is_directory(&dir.join("control"), &mut unused)?,
        has_log_service,
        ..as_runsv()
    };
    let log = has_log_service.then(|| {
        Ok(Spec {
            kind: Kind::Log,
            down: there(&log_dir.join("down"))?,
            ..as_runsv()
        })
    });
    Ok(Definition {
        spec,
        log: log.transpose()?,
        warnings: Vec::new(),
    })
}

fn as_runsv() -> Spec {
    Spec {
        stop: Stop {
            timeout: None,
            scope: Scope::Process,
            finish_timeout: None,
            ..Stop::default()
        },
        restart: Restart {
            policy: Policy::Always,
            rule: Rule::Runit,
        },
        ..Spec::default()
    }
}

/// The reader of the service's output: ended by the end of its input, and after its stop time-out,
/// as any other service, by signals. Neither finish nor check is looked for.
fn load_log(dir: &Path, name: &str, warnings: &mut Vec<String>) -> Result<Spec, Findings> {
    let spec = Spec {
        kind: Kind::Log,
        down: there(&dir.join("down"))?,
        ..Spec::default()
    };
    with_service_toml(dir, &format!("{name}/log"), spec, warnings)
}

fn with_service_toml(
    dir: &Path,
    name: &str,
    mut spec: Spec,
    warnings: &mut Vec<String>,
) -> Result<Spec, Findings> {
    let Some(source) = read(&dir.join("service.toml"), name)? else {
        return Ok(spec);
    };
    let has_run = fs::symlink_metadata(dir.join("run")).is_ok();
    let around = Around { name, dir, has_run };
    warnings.extend(service_toml::read(&source, &around, &mut spec)?);
    Ok(spec)
}

/// The text of service.toml; None when there is none at all. A link that leads nowhere is an
/// error: without its settings the service could run as somebody else.
fn read(path: &Path, name: &str) -> Result<Option<String>, Findings> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(path, &error)),
    };
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(Findings::plain(format!(
            "{} is no regular file",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Findings::plain(format!(
            "{} is larger than {FILE_BYTES_MAX} bytes",
            path.display()
        )));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let source = String::from_utf8_lossy(error.as_bytes());
        not_utf8(name, &source, at)
    })
}

/// The bytes before `at` are the same in the lossy text, so the place is right in both.
fn not_utf8(name: &str, source: &str, at: usize) -> Findings {
    let (line, column) = position(source, at);
    let row = source.lines().nth(line - 1).unwrap_or_default();
    // As it stands there, but for what would steer a terminal.
    let steers = |c: char| c.is_control() && c != '\t';
    let row: String = row.chars().take(200).collect();
    let row = row.replace(steers, "\u{fffd}");
    let headline = format!("service.toml:{line}:{column}: this is not UTF-8");
    let text = format!(
        "error: this is not UTF-8\n --> {name}/service.toml:{line}:{column}\n  |\n{line} | {row}\n  |\n  \
         = help: save the file as UTF-8\n"
    );
    Findings { headline, text }
}

/// What runsv's stat(2) would find: a link that leads nowhere does not count. Other errors do not
/// mean "not there": a service must not be started because its `down` could not be looked at.
fn there(path: &Path) -> Result<bool, Findings> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(nix::libc::ENOENT | nix::libc::ELOOP | nix::libc::ENOTDIR) => Ok(false),
            Some(_) | None => Err(unreadable(path, &error)),
        },
    }
}

fn is_directory(path: &Path, warnings: &mut Vec<String>) -> Result<bool, Findings> {
    let there = there(path)?;
    if there && !path.is_dir() {
        let name = path.file_name().unwrap_or_default().display();
        warnings.push(format!("{name} is no directory, so it is not used"));
        return Ok(false);
    }
    Ok(there)
}

/// runit's rule for finish: it is there when it can be opened for reading, even as a directory.
/// Without waiting, since it could be a FIFO.
fn opens(path: &Path) -> bool {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .is_ok()
}

/// `run` itself needs no warning: a start that fails tells the reason.
fn warn_of_scripts(dir: &Path, spec: &Spec, warnings: &mut Vec<String>) {
    for (script, used) in [("finish", spec.has_finish), ("check", spec.has_check)] {
        let executable = |metadata: &fs::Metadata| {
            metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
        };
        if used && !fs::metadata(dir.join(script)).is_ok_and(|it| executable(&it)) {
            warnings.push(format!("{script} is not executable: chmod +x {script}"));
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Findings {
    Findings::plain(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
