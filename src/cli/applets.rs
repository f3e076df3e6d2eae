//! `outlast applets DIR`: links by which outlast is called as runit's programs.
//!
//! All or nothing where something is in the way, and nothing of others is replaced unasked. Each
//! link appears by a rename, so that whoever calls `sv` meanwhile finds the one or the other.

use super::client::plain;
use super::exit::Exit;
use super::screen::Screen;
use super::words::{count, safe};
use crate::applets::names::{self, NAMES};
use serde::Serialize;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinksOrder {
    pub directory: PathBuf,
    /// Replace what is in the way, directories excepted.
    pub force: bool,
    /// Links relative to the directory, for trees that are moved or mounted elsewhere.
    pub relative: bool,
    pub json: bool,
}

/// What has become of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Done {
    Made,
    Replaced,
    Kept,
}

#[derive(Debug, Serialize)]
struct Link {
    name: &'static str,
    path: String,
    target: String,
    done: Done,
}

pub fn carry_out(order: &LinksOrder, screen: &mut Screen) -> io::Result<Exit> {
    let links = match links(order) {
        Ok(links) => links,
        Err(words) => {
            screen.complain(words)?;
            return Ok(Exit::NotReached);
        }
    };
    if order.json {
        let lines: Result<Vec<String>, _> = links.iter().map(serde_json::to_string).collect();
        writeln!(screen.out, "[\n{}\n]", lines?.join(",\n"))?;
        return Ok(Exit::Success);
    }
    for link in &links {
        let (path, target) = (safe(&link.path), safe(&link.target));
        match link.done {
            Done::Made => writeln!(screen.out, "made {path} -> {target}")?,
            Done::Replaced => writeln!(screen.out, "replaced {path} -> {target}")?,
            Done::Kept => writeln!(screen.out, "kept {path} -> {target}")?,
        }
    }
    let directory = order.directory.display().to_string();
    let names = count(links.len(), "name");
    writeln!(
        screen.out,
        "{names} in {}; they are used when it comes first on PATH",
        safe(&directory)
    )?;
    Ok(Exit::Success)
}

fn links(order: &LinksOrder) -> Result<Vec<Link>, String> {
    let shown = order.directory.display();
    let cannot = |what: &str, error: &io::Error| format!("cannot {what}: {}", plain(error));
    fs::create_dir_all(&order.directory)
        .map_err(|error| cannot(&format!("make {shown}"), &error))?;
    let directory = order
        .directory
        .canonicalize()
        .map_err(|error| cannot(&format!("find {shown}"), &error))?;
    let program = program().map_err(|error| cannot("find the program itself", &error))?;
    let target = if order.relative || program.parent() == Some(&directory) {
        relative(&program, &directory)
    } else {
        program.clone()
    };
    // Looked at before anything is changed.
    let mut planned = Vec::new();
    for name in NAMES {
        let path = directory.join(name);
        planned.push((*name, judge(&path, &target, &program, order.force)?, path));
    }
    let mut links = Vec::new();
    for (name, done, path) in planned {
        if done != Done::Kept {
            place(&path, &target)
                .map_err(|error| cannot(&format!("make {}", path.display()), &error))?;
        }
        links.push(Link {
            name,
            path: path.display().to_string(),
            target: target.display().to_string(),
            done,
        });
    }
    Ok(links)
}

/// The path by which the program was called, as long as it leads to this very file: a link such as
/// /usr/bin/outlast stays right over upgrades, the versioned place behind it does not.
fn program() -> io::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let running = exe.metadata()?;
    let called = std::env::args_os()
        .next()
        .and_then(|name| names::found(&name))
        .and_then(|path| std::path::absolute(path).ok())
        .filter(|path| path.metadata().is_ok_and(|it| same(&it, &running)));
    Ok(called.unwrap_or(exe))
}

fn same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn judge(path: &Path, target: &Path, program: &Path, force: bool) -> Result<Done, String> {
    let there = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Done::Made),
        Err(error) => {
            return Err(format!(
                "cannot look at {}: {}",
                path.display(),
                plain(&error)
            ));
        }
        Ok(there) => there,
    };
    let shown = path.display();
    if there.is_dir() {
        return Err(format!(
            "{shown} is a directory: remove it, or choose another directory for the links"
        ));
    }
    let leads_to = there.is_symlink().then(|| fs::read_link(path));
    let leads_to = leads_to.and_then(Result::ok);
    match &leads_to {
        Some(known) if known == target => return Ok(Done::Kept),
        // An earlier place of ours, be it there or gone.
        Some(known) if known.file_name() == Some(OsStr::new("outlast")) => {
            return Ok(Done::Replaced);
        }
        Some(_) | None => {}
    }
    let ours = path
        .metadata()
        .is_ok_and(|it| program.metadata().is_ok_and(|program| same(&it, &program)));
    if ours && path == program {
        return Err(format!(
            "{shown} is outlast itself: give it its own name first"
        ));
    }
    if ours || force {
        return Ok(Done::Replaced);
    }
    let what = match leads_to {
        Some(known) => format!("a link to {}", known.display()),
        None => "a file of its own".to_owned(),
    };
    Err(format!(
        "{shown} is {what} and not outlast's; nothing was changed: remove it, choose another \
         directory, or say --force to replace all that is in the way"
    ))
}

fn place(path: &Path, target: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = path.with_file_name(name);
    symlink(target, &new)?;
    fs::rename(&new, path).inspect_err(|_| {
        // The rename's error is the one that counts.
        let _ = fs::remove_file(&new);
    })
}

/// From `directory`, whose path has no links in it, to `program`. A link within the program's own
/// directories would make `..` lead elsewhere, so those are resolved; its own name is kept.
fn relative(program: &Path, directory: &Path) -> PathBuf {
    let parent = program.parent().and_then(|it| it.canonicalize().ok());
    let program = match (parent, program.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => program.to_owned(),
    };
    let to: Vec<Component> = program.components().collect();
    let from: Vec<Component> = directory.components().collect();
    let shared = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = from.iter().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.iter().skip(shared).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_link_goes_up_and_down_again() {
        let way = |program: &str, directory: &str| {
            let way = relative(Path::new(program), Path::new(directory));
            way.to_str().map(str::to_owned)
        };
        assert_eq!(way("/nowhere/bin/o", "/nowhere/bin"), Some("o".into()));
        assert_eq!(
            way("/nowhere/bin/o", "/nowhere/lib/runit"),
            Some("../../bin/o".into())
        );
        assert_eq!(way("/o", "/a"), Some("../o".into()));
    }

    #[test]
    fn no_name_is_there_twice() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
