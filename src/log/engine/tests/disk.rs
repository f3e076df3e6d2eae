//! Disks that are full, or may only be read.

use super::*;

/// A tiny file system of its own; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(options: &str) -> Option<Tmpfs> {
        use nix::mount::{MsFlags, mount};
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        let flags = MsFlags::empty();
        match mount(
            Some("tmpfs"),
            place.path(),
            Some("tmpfs"),
            flags,
            Some(options),
        ) {
            Ok(()) => Some(Tmpfs(place)),
            Err(error) => {
                println!("skipped: cannot mount: {error}");
                None
            }
        }
    }

    fn read_only(&self, yes: bool) {
        use nix::mount::{MsFlags, mount};
        let flag = if yes {
            MsFlags::MS_RDONLY
        } else {
            MsFlags::empty()
        };
        let none = None::<&str>;
        mount(none, self.0.path(), none, MsFlags::MS_REMOUNT | flag, none).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_pauses_the_log_and_loses_nothing() {
    let Some(disk) = Tmpfs::new("size=64k") else {
        return;
    };
    let mut bench = Bench::with(settings(0), "");
    let dir = disk.0.path().join("log");
    bench.log = Log::new(&dir, settings(0), &SCRIBE);
    bench.take("first\n");
    let ballast = disk.0.path().join("ballast");
    let _ = fs::write(&ballast, vec![0; 100_000]);
    let text: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(bench.take(&text), Flow::Stuck);
    assert_eq!(bench.log.trouble(), Some(&Halt::Full));
    assert_eq!(
        bench.log.wakes_at(),
        Some(bench.now.mono_ns + 3_000_000_000)
    );
    assert_eq!(bench.take("last\n"), Flow::Stuck);
    fs::remove_file(ballast).unwrap();
    assert_eq!(bench.resume(), Flow::Going);
    let found = fs::read_to_string(dir.join("current")).unwrap();
    assert_eq!(found, format!("first\n{text}last\n"));
}

#[test]
fn old_files_go_on_a_full_disk_when_the_config_allows_it() {
    let Some(disk) = Tmpfs::new("size=64k") else {
        return;
    };
    let mut bench = Bench::with(settings(0), "");
    let dir = disk.0.path().join("log");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("config"), "s8192\nn100\nN2\n").unwrap();
    bench.log = Log::new(&dir, settings(0), &SCRIBE);
    for n in 0..20_000 {
        // A deleted file keeps its blocks while the thread that syncs it is still at it.
        let mut flow = bench.take(&format!("line {n}\n"));
        while flow == Flow::Stuck {
            assert_eq!(bench.log.trouble(), Some(&Halt::Full));
            bench.pass(FULL_RETRY);
            flow = bench.resume();
        }
    }
    let olds = dir::list(&dir).unwrap().len();
    assert!((2..8).contains(&olds), "{olds}");
    assert!(
        fs::read_to_string(dir.join("current"))
            .unwrap()
            .ends_with("line 19999\n")
    );
}

#[test]
fn a_config_that_lets_files_go_is_heard_while_the_disk_is_full() {
    let Some(disk) = Tmpfs::new("size=64k") else {
        return;
    };
    let mut bench = Bench::with(settings(0), "");
    let dir = disk.0.path().join("log");
    bench.log = Log::new(&dir, settings(8192), &SCRIBE);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("config"), "n100\n").unwrap();
    let text = "x".repeat(99) + "\n";
    while bench.take(&text) == Flow::Going {}
    let olds = dir::list(&dir).unwrap().len();
    fs::write(dir.join("config"), "N1\n").unwrap();
    bench.pass(FULL_RETRY);
    bench.resume();
    assert!(dir::list(&dir).unwrap().len() < olds);
}

#[test]
fn a_read_only_file_system_is_waited_out() {
    let Some(disk) = Tmpfs::new("size=64k") else {
        return;
    };
    let mut bench = Bench::with(settings(0), "");
    bench.log = Log::new(&disk.0.path().join("log"), settings(0), &SCRIBE);
    disk.read_only(true);
    assert_eq!(bench.take("one\n"), Flow::Stuck);
    let words = bench.log.trouble().unwrap().words(bench.log.path());
    assert!(words.contains("EROFS"), "{words}");
    disk.read_only(false);
    assert_eq!(bench.resume(), Flow::Going);
    assert_eq!(
        fs::read_to_string(disk.0.path().join("log/current")).unwrap(),
        "one\n"
    );
}

#[test]
fn a_full_disk_is_told_with_what_would_help() {
    for (config, olds, advised) in [("", 0, false), ("", 1, true), ("N1\n", 1, false)] {
        let mut bench = Bench::with(settings(4), config);
        bench.log.open(&mut bench.desk, bench.now);
        for _ in 0..=olds {
            bench.take("one\n");
        }
        let words = bench.log.full_words();
        assert!(words.contains("make room"), "{words}");
        assert_eq!(
            words.contains("echo N2"),
            advised,
            "{config:?} {olds}: {words}"
        );
    }
}
