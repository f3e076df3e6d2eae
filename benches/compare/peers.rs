//! The supervisors and how each is spoken to. Every service is a copy of the probe, logged in the
//! way that a user of that supervisor would choose: stamped and rotated where it can do that.

use crate::world::{World, service_name};
use nix::sys::signal::Signal;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Debug)]
pub enum Peer {
    Runit,
    S6,
    Dinit,
    Outlast(PathBuf),
}

/// How a whole tree is told to stop.
pub enum Stop {
    Signal(Signal),
    Command(Command),
}

impl Peer {
    pub fn present(outlast: &Path) -> Vec<Peer> {
        let known = [
            (Peer::Runit, "runsvdir"),
            (Peer::S6, "s6-svscan"),
            (Peer::Dinit, "dinit"),
        ];
        let on_path = known.into_iter().filter(|(_, program)| is_on_path(program));
        on_path
            .map(|(peer, _)| peer)
            .chain([Peer::Outlast(outlast.to_owned())])
            .collect()
    }

    pub fn name(&self) -> &'static str {
        match self {
            Peer::Runit => "runit",
            Peer::S6 => "s6",
            Peer::Dinit => "dinit",
            Peer::Outlast(_) => "outlast",
        }
    }

    /// Whether somebody starts the supervisor again, with its services in hand.
    pub fn survives_its_supervisor(&self) -> bool {
        match self {
            Peer::Outlast(_) => true,
            Peer::Runit | Peer::S6 | Peer::Dinit => false,
        }
    }

    /// One service at `directory`.
    pub fn lay(&self, world: &World, directory: &Path, name: &str) -> io::Result<()> {
        fs::create_dir(directory)?;
        fs::hard_link(world.path().join("probe"), directory.join("run"))?;
        match self {
            Peer::Runit => lay_log(directory, "exec svlogd -tt ./main"),
            Peer::S6 => lay_log(directory, "exec s6-log t s1000000 n10 ./main"),
            Peer::Dinit => {
                let logs = world.path().join("logs").join(name);
                let definition = format!(
                    "type = process\ncommand = {run}\nworking-dir = {directory}\nlogfile = {logs}\n\
                     restart = true\nsmooth-recovery = true\nrestart-delay = 0\n",
                    run = directory.join("run").display(),
                    directory = directory.display(),
                    logs = logs.display(),
                );
                fs::write(world.path().join("definitions").join(name), definition)
            }
            Peer::Outlast(_) => Ok(()),
        }
    }

    /// What there is once, whatever the number of services.
    pub fn lay_rest(&self, world: &World, services: usize) -> io::Result<()> {
        match self {
            Peer::Dinit => {
                let mut boot = "type = internal\n".to_owned();
                for number in 0..services {
                    boot += &format!("waits-for = {}\n", service_name(number));
                }
                fs::write(world.path().join("definitions/boot"), boot)
            }
            Peer::Outlast(program) => std::os::unix::fs::symlink(program, sv_of_ours(world)),
            Peer::Runit | Peer::S6 => Ok(()),
        }
    }

    pub fn start(&self, world: &World) -> Command {
        match self {
            Peer::Runit => {
                let mut command = Command::new("runsvdir");
                command.arg(world.scan());
                command
            }
            Peer::S6 => {
                let mut command = Command::new("s6-svscan");
                // Services and their loggers both count.
                command.args(["-c", "4000", "-t", "0"]).arg(world.scan());
                command
            }
            Peer::Dinit => {
                let mut command = Command::new("dinit");
                command
                    .args(["--user", "--quiet", "-d"])
                    .arg(world.path().join("definitions"));
                command.arg("-p").arg(socket(world)).arg("boot");
                command
            }
            Peer::Outlast(program) => {
                let mut command = Command::new(program);
                command
                    .args(["supervise", "--quiet", "--socket"])
                    .arg(socket(world));
                command
                    .arg("--log-root")
                    .arg(world.path().join("logs"))
                    .arg(world.scan());
                command
            }
        }
    }

    pub fn stop(&self, world: &World) -> Stop {
        match self {
            Peer::Runit => Stop::Signal(Signal::SIGHUP),
            Peer::S6 => {
                let mut command = Command::new("s6-svscanctl");
                command.arg("-t").arg(world.scan());
                Stop::Command(command)
            }
            Peer::Dinit | Peer::Outlast(_) => Stop::Signal(Signal::SIGTERM),
        }
    }

    /// Returns when the service runs again, as far as this supervisor has such a command.
    pub fn restart(&self, world: &World, name: &str) -> Command {
        match self {
            Peer::Runit => {
                let mut command = Command::new("sv");
                command.arg("restart").arg(world.scan().join(name));
                command
            }
            Peer::S6 => {
                let mut command = Command::new("s6-svc");
                command.args(["-wr", "-r"]).arg(world.scan().join(name));
                command
            }
            Peer::Dinit => {
                let mut command = Command::new("dinitctl");
                command
                    .arg("-p")
                    .arg(socket(world))
                    .args(["restart", "--ignore-unstarted", name]);
                command
            }
            Peer::Outlast(program) => {
                let mut command = Command::new(program);
                command
                    .arg("--socket")
                    .arg(socket(world))
                    .args(["restart", name]);
                command
            }
        }
    }

    /// Whether it can be spoken to by a `sv`.
    pub fn has_sv(&self) -> bool {
        matches!(self, Peer::Runit | Peer::Outlast(_))
    }

    /// runit's sv over its runsv, ours over `outlast supervise`.
    pub fn sv(&self, world: &World, word: &str, name: &str) -> Command {
        let mut command = match self {
            Peer::Outlast(_) => Command::new(sv_of_ours(world)),
            Peer::Runit | Peer::S6 | Peer::Dinit => Command::new("sv"),
        };
        command.arg(word).arg(world.scan().join(name));
        command
    }

    /// The state of all services; s6 asks for one at a time.
    pub fn status(&self, world: &World, services: usize) -> Vec<Command> {
        let directories = (0..services).map(|number| world.scan().join(service_name(number)));
        match self {
            Peer::Runit => {
                let mut command = Command::new("sv");
                command.arg("status").args(directories);
                vec![command]
            }
            Peer::S6 => directories
                .map(|directory| {
                    let mut command = Command::new("s6-svstat");
                    command.arg(directory);
                    command
                })
                .collect(),
            Peer::Dinit => {
                let mut command = Command::new("dinitctl");
                command.arg("-p").arg(socket(world)).arg("list");
                vec![command]
            }
            Peer::Outlast(program) => {
                let mut command = Command::new(program);
                command.arg("--socket").arg(socket(world)).arg("status");
                vec![command]
            }
        }
    }

    /// Whether a new directory is noticed without being told.
    pub fn notices_directories(&self) -> bool {
        match self {
            Peer::Runit | Peer::Outlast(_) => true,
            Peer::S6 | Peer::Dinit => false,
        }
    }
}

fn sv_of_ours(world: &World) -> PathBuf {
    world.path().join("sv")
}

fn socket(world: &World) -> PathBuf {
    world.path().join("control")
}

fn lay_log(directory: &Path, line: &str) -> io::Result<()> {
    let log = directory.join("log");
    fs::create_dir_all(log.join("main"))?;
    fs::write(log.join("run"), format!("#!/bin/sh\n{line}\n"))?;
    fs::set_permissions(log.join("run"), fs::Permissions::from_mode(0o755))
}

pub fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
