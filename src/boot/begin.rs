//! The built-in stage 1: what a small system needs before its services, step by step.
//!
//! The order is that of [`STEPS`] and stands in outlast-init(8). A step that fails is told; one that
//! nothing works without leads to a shell on the console.

use super::console::{PATH, ask_for_help, provide_if_missing};
use super::skip::Skip;
use super::{mounts, say};
use crate::os::halting::{REBOOT, STOPIT};
use crate::os::loopback_up;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

type Done = Result<(), String>;

struct Step {
    name: &'static str,
    /// Without it the boot does not go on by itself.
    needed: bool,
    /// Not in a container, whose host has done it.
    machine: bool,
    run: fn() -> Done,
}

const fn step(name: &'static str, run: fn() -> Done) -> Step {
    Step {
        name,
        needed: false,
        machine: false,
        run,
    }
}

impl Step {
    const fn needed(self) -> Step {
        Step {
            needed: true,
            ..self
        }
    }

    const fn of_a_machine(self) -> Step {
        Step {
            machine: true,
            ..self
        }
    }
}

const STEPS: [Step; 16] = [
    step("proc", proc).needed(),
    step("sys", sys).needed(),
    step("dev", dev).needed(),
    step("pts", pts),
    step("shm", shm),
    step("cgroup", cgroup),
    step("run", run_directory).needed(),
    step("hostname", hostname),
    step("loopback", loopback),
    step("sysctl", sysctl).of_a_machine(),
    step("fsck", fsck).needed().of_a_machine(),
    step("root", root).needed().of_a_machine(),
    step("fstab", fstab).needed().of_a_machine(),
    step("swap", swap).of_a_machine(),
    step("seed", seed).of_a_machine(),
    step("local", local),
];

const FSTAB: &str = "/etc/fstab";
const SEED: &str = "/var/lib/outlast/random-seed";
const SEED_BYTES: u64 = 512;
const LOCAL: &str = "/etc/outlast/boot";
/// runit's code for: no stage 2.
const SKIP_SERVICES: u8 = 100;

pub fn run() -> u8 {
    for step in &STEPS {
        // Each time anew: /proc comes with the first.
        if Skip::read().has(step.name) || (step.machine && !is_machine()) {
            continue;
        }
        let done = (step.run)();
        // With /dev there may be a console where there was none.
        provide_if_missing();
        let Err(trouble) = done else {
            continue;
        };
        say(&format!("stage 1: {}: {trouble}", step.name));
        if step.needed && !ask_for_help(&format!("{}: {trouble}", step.name)) {
            return SKIP_SERVICES;
        }
    }
    0
}

/// Whether this is the first pid namespace, whose number the kernel fixes (PROC_PID_INIT_INO). In a
/// container disks, mounts and settings of the kernel are its host's.
pub fn is_machine() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it == Path::new("pid:[4026531836]"))
}

const QUIET: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NODEV);

fn proc() -> Done {
    mounts::put("proc", "/proc", QUIET, None)
}

fn sys() -> Done {
    mounts::put("sysfs", "/sys", QUIET, None)
}

fn dev() -> Done {
    mounts::put("devtmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=0755"))
}

fn pts() -> Done {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mounts::put(
        "devpts",
        "/dev/pts",
        flags,
        Some("mode=0620,gid=5,ptmxmode=0666"),
    )
}

fn shm() -> Done {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mounts::put("tmpfs", "/dev/shm", flags, Some("mode=1777"))
}

fn cgroup() -> Done {
    mounts::put("cgroup2", "/sys/fs/cgroup", QUIET, None)
}

fn run_directory() -> Done {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mounts::put("tmpfs", "/run", flags, Some("mode=0755"))?;
    // Made now, so that the machine can be ended also when /run has become full.
    for path in STOPIT
        .iter()
        .chain(&REBOOT)
        .filter(|path| path.starts_with("/run"))
    {
        let mark = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o0)
            .open(path);
        mark.map_err(|error| format!("cannot make {path}: {error}"))?;
    }
    let _ = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o664)
        .open("/run/utmp");
    let _ = fs::create_dir("/run/lock");
    let _ = fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777));
    Ok(())
}

fn hostname() -> Done {
    let Ok(text) = fs::read_to_string("/etc/hostname") else {
        return Ok(());
    };
    let lines = text.lines().map(str::trim);
    let Some(name) = lines
        .into_iter()
        .find(|line| !line.is_empty() && !line.starts_with('#'))
    else {
        return Ok(());
    };
    nix::unistd::sethostname(name).map_err(|errno| format!("cannot call it {name}: {errno}"))
}

fn loopback() -> Done {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let done = socket
        .map_err(io::Error::from)
        .and_then(|socket| loopback_up(socket.as_fd()));
    done.map_err(|error| format!("cannot switch on lo: {error}"))
}

fn sysctl() -> Done {
    let mut files: Vec<PathBuf> = fs::read_dir("/etc/sysctl.d")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "conf"))
        .collect();
    files.sort();
    files.push("/etc/sysctl.conf".into());
    let mut troubles = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (key, value, may_fail) in text.lines().filter_map(setting) {
            let path = format!("/proc/sys/{}", sysctl_path(&key));
            match fs::write(&path, &value) {
                Err(error) if !may_fail => troubles.push(format!("{key}: {error}")),
                Ok(()) | Err(_) => {}
            }
        }
    }
    match troubles.is_empty() {
        true => Ok(()),
        false => Err(troubles.join(", ")),
    }
}

/// Below /proc/sys. Where dots separate, a slash stands for the dot in an interface's name; where
/// slashes do, a dot is one (sysctl(8)).
fn sysctl_path(key: &str) -> String {
    let slashes = key
        .find(['.', '/'])
        .is_some_and(|at| key[at..].starts_with('/'));
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    match slashes {
        true => key.to_owned(),
        false => key.chars().map(swapped).collect(),
    }
}

/// `key = value`, and whether it may fail (sysctl.conf(5)).
fn setting(line: &str) -> Option<(String, String, bool)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let (key, may_fail) = match key.trim().strip_prefix('-') {
        Some(key) => (key.trim(), true),
        None => (key.trim(), false),
    };
    let safe = !key.is_empty() && !key.contains("..");
    safe.then(|| (key.to_owned(), value.trim().to_owned(), may_fail))
}

/// Each line of fstab(5): device, place, kind, options, dump, pass.
fn table() -> Vec<Vec<String>> {
    let text = fs::read_to_string(FSTAB).unwrap_or_default();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let fields = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    lines
        .map(fields)
        .filter(|fields| fields.len() >= 3)
        .collect()
}

fn fsck() -> Done {
    let checked = |fields: &Vec<String>| fields.get(5).is_some_and(|pass| pass != "0");
    if !table().iter().any(checked) {
        return Ok(());
    }
    let Some(status) = program("fsck", &["-A", "-T", "-a"])? else {
        return Ok(());
    };
    match status.code() {
        Some(0 | 1) => Ok(()),
        Some(code) if code & 6 == 2 => Err("the machine has to be rebooted now".into()),
        _ => Err(format!("errors are left ({status})")),
    }
}

/// The root is read-only until it has been looked at; it becomes writable if fstab says so.
fn root() -> Done {
    let writable = |fields: &Vec<String>| {
        let options = fields.get(3).map_or("", String::as_str);
        fields.get(1).is_some_and(|place| place == "/") && !options.split(',').any(|it| it == "ro")
    };
    let is_read_only = statvfs("/").is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    if !is_read_only || !table().iter().any(writable) {
        return Ok(());
    }
    // With the options of its line, which a system call alone would not know.
    if let Ok(Some(status)) = program("mount", &["-o", "remount,rw", "/"])
        && status.success()
    {
        return Ok(());
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REMOUNT, none)
        .map_err(|errno| format!("cannot make it writable: {errno}"))
}

fn fstab() -> Done {
    let wanted = |fields: &Vec<String>| fields.get(2).is_some_and(|kind| kind != "swap");
    if !table().iter().any(wanted) {
        return Ok(());
    }
    match program("mount", &["-a"])? {
        Some(status) if !status.success() => Err(format!("mount -a has failed ({status})")),
        Some(_) => Ok(()),
        None => Err("there is no program mount".into()),
    }
}

fn swap() -> Done {
    let wanted = |fields: &Vec<String>| fields.get(2).is_some_and(|kind| kind == "swap");
    if !table().iter().any(wanted) {
        return Ok(());
    }
    match program("swapon", &["-a"])? {
        Some(status) if !status.success() => Err(format!("swapon -a has failed ({status})")),
        Some(_) | None => Ok(()),
    }
}

fn seed() -> Done {
    let feed = || -> io::Result<()> {
        let old = fs::read(SEED).unwrap_or_default();
        OpenOptions::new()
            .write(true)
            .open("/dev/urandom")?
            .write_all(&old)
    };
    feed().map_err(|error| format!("cannot feed the kernel: {error}"))?;
    // The old one must not be used twice.
    save_seed()
}

/// What the next boot begins with.
pub fn save_seed() -> Done {
    let place = Path::new(SEED);
    let save = || -> io::Result<()> {
        let Some(directory) = place.parent() else {
            return Ok(());
        };
        fs::create_dir_all(directory)?;
        let mut bytes = Vec::new();
        fs::File::open("/dev/urandom")?
            .take(SEED_BYTES)
            .read_to_end(&mut bytes)?;
        let new = place.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, place)
    };
    match save() {
        // A machine that keeps nothing.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        other => other.map_err(|error| format!("cannot keep {SEED}: {error}")),
    }
}

fn local() -> Done {
    run_local(LOCAL)
}

/// What this machine needs besides, if somebody has written it down.
pub fn run_local(path: &str) -> Done {
    if !crate::os::halting::is_executable(path) {
        return Ok(());
    }
    match program(path, &[])? {
        Some(status) if !status.success() => Err(format!("{path} has failed ({status})")),
        Some(_) | None => Ok(()),
    }
}

/// None when there is no such program.
pub fn program(name: &str, args: &[&str]) -> Result<Option<ExitStatus>, String> {
    match Command::new(name).args(args).env("PATH", PATH).status() {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot run {name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_interface_with_a_dot_is_named_either_way() {
        for (key, path) in [
            ("kernel.panic", "kernel/panic"),
            ("net.ipv4.conf.eth0/100.x", "net/ipv4/conf/eth0.100/x"),
            ("net/ipv4/conf/eth0.100/x", "net/ipv4/conf/eth0.100/x"),
        ] {
            assert_eq!(sysctl_path(key), path);
        }
    }

    #[test]
    fn settings_of_the_kernel_are_read_as_sysctl_reads_them() {
        let read = |line| setting(line).map(|(key, value, may)| format!("{key}|{value}|{may}"));
        assert_eq!(
            read(" kernel.panic = 10 "),
            Some("kernel.panic|10|false".into())
        );
        assert_eq!(read("-net.a.b=1 2"), Some("net.a.b|1 2|true".into()));
        for none in ["# a = b", "; a = b", "", "a", "= b", "../../x = y"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn each_step_has_a_name_of_its_own_and_stands_in_the_manual_in_this_order() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let manual = include_str!("../../man/outlast-init.8");
        let table = manual
            .split(".SH BUILT-IN STAGES")
            .nth(1)
            .expect("a section");
        let mut rest = table;
        for name in names {
            let at = rest.find(&format!("\n.B {name}\n"));
            rest = &rest[at.unwrap_or_else(|| panic!("{name} is not in its place"))..];
        }
    }
}
