//! Every line that a service writes is in its log, once.

use super::world::{World, eventually, kill, needs_root, write_script};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_line_is_stamped_and_its_file_is_not_for_everybody() {
    let world = World::new();
    world.run("web", "echo out; echo err >&2; exec sleep 1000");
    world.until_line("web", "out");
    world.until_line("web", "err");
    let current = world.path("log/web/current");
    let text = fs::read_to_string(&current).expect("current");
    let (stamp, _) = text.split_once(' ').expect("a stamp");
    assert_eq!(stamp.len(), "2026-11-20T10:00:00.00000".len(), "{stamp}");
    assert_eq!(
        fs::metadata(&current)
            .expect("current")
            .permissions()
            .mode()
            & 0o777,
        0o640
    );
}

#[test]
fn the_last_words_of_a_process_that_lives_for_a_moment_are_there_without_newline_too() {
    let world = World::new();
    let once = "[restart]\npolicy = \"never\"\n";
    for number in 0..40 {
        let run = format!("#!/bin/sh\nprintf 'last words {number}'\n");
        world.service(
            &format!("s{number}"),
            &[("run", &run), ("service.toml", once)],
        );
    }
    for number in 0..40 {
        world.until_line(&format!("s{number}"), &format!("last words {number}"));
        let current = world.path(&format!("log/s{number}/current"));
        eventually("the line has an end", || {
            fs::read(&current).ok().filter(|text| text.ends_with(b"\n"))
        });
    }
}

/// However busy the scribe is: here it does nothing until the next start waits for it.
#[test]
fn the_last_words_of_a_run_and_the_first_of_the_next_are_two_lines() {
    let world = World::new();
    let go = world.path("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let run = format!(
        "#!/bin/sh\necho first; read x <{}; printf last\n",
        go.display()
    );
    let toml = "[restart]\ndelay = \"100ms\"\nmax = \"100ms\"\n";
    world.service("web", &[("run", &run), ("service.toml", toml)]);
    let scribe = world.part("outlast-scribe");
    let waited = (0..50).any(|_| {
        let pid = world.until_up("web");
        // It waits for the word to go, and what it has said is read.
        eventually("it is read", || {
            (world.lines("web").last()? == "first").then_some(())
        });
        kill(scribe, Signal::SIGSTOP);
        fs::write(&go, "go\n").expect("gone");
        let next = world.until("web", "started again, or about to be", |web| {
            web.state == State::Starting || web.pid.is_some_and(|now| now != pid)
        });
        // A start that waits for nobody takes no time.
        let waits =
            next.pid.is_none() && (0..50).all(|_| world.show("web").state == State::Starting);
        kill(scribe, Signal::SIGCONT);
        waits
    });
    assert!(waited, "nothing waits for the scribe");
    eventually("the first words of the next run", || {
        let lines = world.lines("web");
        let (first, last) = (lines.len().checked_sub(1)?, lines.len().checked_sub(2)?);
        (lines[last] == "last" && lines[first] == "first").then_some(())
    });
}

#[test]
fn a_log_service_reads_through_a_pipe_that_survives_both() {
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\necho from $$\nexec sleep 1000\n"),
            (
                "log/run",
                "#!/bin/sh\nwhile read line; do echo \"$line\" >>lines; done\n",
            ),
        ],
    );
    let lines = || fs::read_to_string(world.path("services/web/log/lines")).unwrap_or_default();
    let pid = world.until_up("web");
    eventually("the first line", || {
        lines().contains(&format!("from {pid}\n")).then_some(())
    });
    let log = world.until_up("web/log");
    kill(log, Signal::SIGKILL);
    // Until it has gone it can take a byte of the next line with it.
    eventually("another reader", || {
        (world.until_up("web/log") != log).then_some(())
    });
    world.must(Verb::Restart, &["web"]);
    let pid = world.until_up("web");
    eventually("the second line", || {
        lines().contains(&format!("from {pid}\n")).then_some(())
    });
    assert_eq!(lines().lines().count(), 2);
    assert!(!world.path("log/web").exists());
}

#[test]
fn a_log_service_added_later_takes_over_without_a_restart() {
    let world = World::new();
    let place = world.run(
        "web",
        "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.02; done",
    );
    let pid = world.until_up("web");
    world.until_line("web", "line 3");
    let draft = world.path("draft-log");
    write_script(&draft.join("run"), "#!/bin/sh\nexec cat >>lines\n");
    fs::rename(&draft, place.join("log")).expect("log service");
    world.until_up("web/log");
    let lines = || fs::read_to_string(place.join("log/lines")).unwrap_or_default();
    eventually("it reads", || (lines().lines().count() > 3).then_some(()));
    assert_eq!(world.until_up("web"), pid);
    world.must(Verb::Stop, &["web"]);
    let mut all = world.lines("web");
    all.extend(lines().lines().map(str::to_owned));
    let expected: Vec<String> = (1..=all.len())
        .map(|number| format!("line {number}"))
        .collect();
    assert_eq!(all, expected, "a line is missing, doubled or out of place");
}

#[test]
fn why_shows_what_has_no_newline_yet_and_after_the_scribes_death_what_was_written_before() {
    let world = World::new();
    world.run("web", "echo ready; printf 'name: '; exec sleep 1000");
    world.until_up("web");
    let why = || {
        let output = world.outlast(&["why", "web"]);
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    eventually("both are shown", || {
        let text = why();
        let both = text.contains(" ready\n") && text.contains(" name: \n");
        (both && text.contains("no newline yet")).then_some(())
    });
    let old = world.part("outlast-scribe");
    kill(old, Signal::SIGKILL);
    eventually("another scribe knows it", || {
        let text = why();
        assert!(!text.contains("wrote nothing"), "{text}");
        let known = world.part("outlast-scribe") != old && text.contains(" ready\n");
        known.then_some(())
    });
    world.replace_supervisor();
    eventually("another supervisor's scribe knows it", || {
        let text = why();
        assert!(!text.contains("wrote nothing"), "{text}");
        text.contains(" ready\n").then_some(())
    });
}

#[test]
fn an_existing_log_is_added_to_never_removed() {
    let mut world = World::quiet();
    fs::create_dir_all(world.path("log/web")).expect("log directory");
    fs::write(
        world.path("log/web/current"),
        "2026-01-01T00:00:00.00000 of old\n",
    )
    .expect("old");
    world.run("web", "echo new; exec sleep 1000");
    world.supervise(&[]);
    eventually("old and new are there", || {
        let all: String = fs::read_dir(world.path("log/web"))
            .expect("log")
            .flatten()
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .collect();
        (all.contains("of old") && all.contains(" new\n")).then_some(())
    });
}

#[test]
fn why_shows_the_last_lines_of_that_very_run() {
    let world = World::new();
    world.service(
        "web",
        &[
            (
                "run",
                "#!/bin/sh\necho attempt $$\necho cause >&2\nexit 4\n",
            ),
            ("service.toml", "[restart]\npolicy = \"never\"\n"),
        ],
    );
    let web = world.until("web", "ended", |web| {
        web.state == State::Down && web.last_exit.is_some()
    });
    let pid = web.last_exit.expect("an exit").pid;
    let why = world
        .must(Verb::Why, &["web"])
        .services
        .remove(0)
        .why
        .expect("why");
    let text = why.log.join("\n");
    assert!(
        text.contains(&format!("attempt {pid}")) && text.contains("cause"),
        "{why:#?}"
    );
    assert!(
        why.story.iter().any(|line| line.contains("exit code 4")),
        "{why:#?}"
    );
    let shown = world.outlast(&["why", "web"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("exit code 4") && shown.contains("cause"),
        "{shown}"
    );
}

#[test]
fn a_hundred_megabytes_without_a_newline_are_written_and_nobody_grows() {
    let world = World::new();
    world.service("web", &[
        ("run", "#!/bin/sh\nhead -c 100000000 /dev/zero | tr '\\0' x\necho\necho done\nexec sleep 1000\n"),
        ("service.toml", "[log]\nsize = \"200M\"\n"),
    ]);
    let current = world.path("log/web/current");
    eventually("all of it is written", || {
        let long = fs::metadata(&current).ok()?.len() > 100_000_000;
        long.then(|| fs::read(&current).ok())
            .flatten()
            .filter(|all| all.ends_with(b" done\n"))
    });
    let scribe = world.part("outlast-scribe");
    let status = fs::read_to_string(format!("/proc/{scribe}/status")).expect("status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("number");
    assert!(peak < 20_000, "the scribe grew to {peak} kB");
}

#[test]
fn a_service_that_closes_its_output_makes_nobody_spin() {
    let world = World::new();
    world.run("web", "exec >&- 2>&-; exec sleep 1000");
    world.until_up("web");
    let scribe = world.part("outlast-scribe");
    let ticks = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let fields: Vec<String> = stat.split_whitespace().map(str::to_owned).collect();
        fields[13].parse::<u64>().expect("ticks") + fields[14].parse::<u64>().expect("ticks")
    };
    let before = ticks(scribe);
    for _ in 0..20 {
        world.must(Verb::Restart, &["web"]);
    }
    assert!(
        ticks(scribe) - before < 20,
        "the scribe is busy with nothing"
    );
}

#[test]
fn a_full_disk_under_a_log_delays_nobody_and_loses_nothing() {
    if needs_root() {
        return;
    }
    let mut world = World::quiet();
    let small = world.path("small");
    fs::create_dir(&small).expect("mount point");
    let mounted = mount(
        Some("none"),
        &small,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=64k"),
    );
    if mounted.is_err() {
        println!("skipped: needs to mount");
        return;
    }
    let toml = format!("[log]\ndir = \"{}/web\"\n", small.display());
    world.service("web", &[
        ("run", "#!/bin/sh\nfor i in $(seq 1 4000); do echo line $i of many that fill it; done\nexec sleep 1000\n"),
        ("service.toml", &toml),
    ]);
    world.run("other", "echo fine; exec sleep 1000");
    world.supervise(&[]);
    world.until_line("other", "fine");
    world.until("web", "known to be stuck", |web| {
        web.problem
            .as_ref()
            .is_some_and(|problem| problem.code == "log")
    });
    world.must(Verb::Restart, &["other"]);
    let grown = mount(
        Some("none"),
        &small,
        Some("tmpfs"),
        MsFlags::MS_REMOUNT,
        Some("size=4m"),
    );
    grown.expect("remounted");
    let current = small.join("web/current");
    let text = eventually("all lines are there", || {
        fs::read_to_string(&current)
            .ok()
            .filter(|text| text.contains("line 4000 of"))
    });
    for number in [1, 2, 1000, 2000, 3999] {
        let wanted = format!(" line {number} of");
        assert_eq!(text.matches(&wanted).count(), 1, "{wanted}");
    }
    world.until("web", "mended", |web| web.problem.is_none());
    assert_eq!(world.end(), Some(0));
    umount(&small).expect("unmounted");
}

#[test]
fn a_log_directory_that_is_removed_is_made_anew() {
    let world = World::new();
    world.run(
        "web",
        "trap 'echo again' HUP; echo first; while :; do sleep 0.02; done",
    );
    world.until_line("web", "first");
    world.until_up("web");
    fs::remove_dir_all(world.path("log/web")).expect("removed");
    eventually("lines are written again", || {
        world.must(Verb::Hup, &["web"]);
        world
            .lines("web")
            .contains(&"again".to_owned())
            .then_some(())
    });
}

#[test]
fn logs_shows_what_was_written() {
    let world = World::new();
    world.run("web", "echo one; echo two; exec sleep 1000");
    world.run("db", "echo three; exec sleep 1000");
    world.until_line("web", "two");
    world.until_line("db", "three");
    let shown = world.outlast(&["logs", "web"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        text.contains("one") && text.contains("two") && !text.contains("three"),
        "{text}"
    );
    let shown = world.outlast(&["logs"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("web") && text.contains("three"), "{text}");
}

/// Puts something in a log's place by which it can't be opened, however long is waited.
type Hinder = fn(&std::path::Path);

#[test]
fn a_log_that_can_never_be_opened_holds_nobody_up_and_is_told_until_it_can() {
    let ways: [(&str, Hinder, &str); 5] = [
        (
            "linked",
            |log| {
                fs::create_dir_all(log).expect("a directory");
                std::os::unix::fs::symlink("/dev/null", log.join("current")).expect("a link");
            },
            "it is a link, which is not followed (ELOOP)",
        ),
        (
            "piped",
            |log| {
                fs::create_dir_all(log).expect("a directory");
                let mode = nix::sys::stat::Mode::S_IRWXU;
                nix::unistd::mkfifo(&log.join("current"), mode).expect("a FIFO");
            },
            "it is not a plain file (EINVAL)",
        ),
        (
            "nested",
            |log| fs::create_dir_all(log.join("current")).expect("a directory"),
            "(EISDIR)",
        ),
        (
            "filed",
            |log| fs::write(log, "in the way").expect("a file"),
            "(ENOTDIR)",
        ),
        (
            // Nobody can make a directory there.
            "nowhere",
            |log| std::os::unix::fs::symlink("/proc/1/outlast", log).expect("a link"),
            "(ENOENT)",
        ),
    ];
    let world = World::new();
    fs::create_dir_all(world.path("log")).expect("a log root");
    // Far more than a pipe takes.
    let many = "n=0; while [ $n -lt 3000 ]; do n=$((n + 1)); echo \"line $n of very many, none of \
                which may hold it up\"; done; >finished; while :; do echo later; sleep 0.1; done";
    for (name, hinder, _) in &ways {
        hinder(&world.path("log").join(name));
        world.run(name, many);
    }
    for (name, _, why) in &ways {
        eventually("it gets through", || {
            let finished = world.path("services").join(name).join("finished");
            finished.exists().then_some(())
        });
        let told = world.until(name, "told", |it| it.problem.is_some());
        let told = told.problem.expect("a problem").message;
        assert!(told.contains(why), "{name}: {told}");
        assert!(told.contains("on standard output only"), "{name}: {told}");
        eventually("its lines are on standard output", || {
            let stdout = fs::read(world.path("stdout")).expect("stdout");
            let stdout = String::from_utf8_lossy(&stdout);
            let mut lines = stdout.lines().filter(|line| line.starts_with(name));
            lines.any(|line| line.ends_with("| later")).then_some(())
        });
    }
    for (name, _, _) in &ways {
        let log = world.path("log").join(name);
        fs::rename(&log, world.path("log").join(format!("not-{name}"))).expect("mended");
        world.until_line(name, "later");
        world.until(name, "mended", |it| it.problem.is_none());
    }
}

#[test]
fn what_a_log_held_by_another_writer_has_left_in_the_pipe_is_missed_at_the_end() {
    is_missed_at_the_end(&[]);
}

#[test]
fn it_is_missed_at_a_bounded_end_too() {
    is_missed_at_the_end(&["--stop-timeout", "2"]);
}

fn is_missed_at_the_end(options: &[&str]) {
    let mut world = World::quiet();
    let log = world.path("log/web");
    fs::create_dir_all(&log).expect("a directory");
    let lock = fs::File::create(log.join("lock")).expect("a lock");
    let held = nix::fcntl::FlockArg::LockExclusive;
    let lock = nix::fcntl::Flock::lock(lock, held).expect("locked");
    world.run("web", "echo 12345; exec sleep 1000");
    world.supervise(options);
    world.until("web", "told", |web| web.problem.is_some());
    world.end();
    let said = world.said();
    assert!(said.contains("web: 6 bytes of its output"), "{said}");
    drop(lock);
}

#[test]
fn at_the_end_it_is_said_whose_log_is_waited_for() {
    let mut world = World::new();
    world.run("web", "while :; do echo more; sleep 0.1; done");
    world.until_line("web", "more");
    // Another directory takes the place of its log, and another writer has it.
    let taken = world.path("taken");
    fs::create_dir(&taken).expect("a directory");
    let lock = fs::File::create(taken.join("lock")).expect("a lock");
    let held = nix::fcntl::FlockArg::LockExclusive;
    let lock = nix::fcntl::Flock::lock(lock, held).expect("locked");
    let log = world.path("log/web");
    fs::rename(&log, world.path("before")).expect("moved away");
    // A line may come in between, for which a directory is made.
    eventually("it is in its place", || {
        let _ = fs::remove_dir_all(&log);
        fs::rename(&taken, &log).ok()
    });
    // A line is held back from now on.
    world.until("web", "told", |web| web.problem.is_some());
    world.end();
    let said = world.said();
    assert!(
        said.contains("for the last lines to be written of web"),
        "{said}"
    );
    drop(lock);
}

/// What its user may write, root neither obeys nor follows.
#[test]
fn a_log_directory_of_another_users_makes_root_do_nothing_for_him() {
    if needs_root() {
        return;
    }
    let world = World::new();
    let nobody = Some(65_534);
    let home = world.path("home");
    let (log, secret, proof) = (home.join("log"), world.path("secret"), world.path("proof"));
    fs::create_dir_all(&log).expect("a directory");
    fs::create_dir(&secret).expect("a directory");
    let config = format!("s4096\n!id >{}; cat\n", proof.display());
    fs::write(log.join("config"), config).expect("a config");
    for path in [&home, &log, &log.join("config")] {
        std::os::unix::fs::chown(path, nobody, None).expect("given away");
    }
    let toml = format!("[log]\ndir = '{}'\nstamp = 'none'\n", log.display());
    let long = "x".repeat(100);
    let run = format!(
        "#!/bin/sh\nn=0; while [ $n -lt 200 ]; do n=$((n+1)); echo $n {long}; done\nread x <go; while :; do echo later; sleep 0.1; done\n"
    );
    let web = world.service("web", &[("run", &run), ("service.toml", &toml)]);
    let fifo = web.join("go");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&fifo, mode).expect("a FIFO");
    eventually("it is rotated, since the size in the config counts", || {
        let files = fs::read_dir(&log).ok()?.flatten();
        let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.any(|name| name.ends_with(".s")).then_some(())
    });
    let told = world.until("web", "told", |web| web.problem.is_some());
    let told = told.problem.expect("a problem").message;
    assert!(told.contains("processor"), "{told}");
    assert!(!proof.exists());
    fs::rename(&log, home.join("before")).expect("moved away");
    std::os::unix::fs::symlink(&secret, &log).expect("a link");
    std::os::unix::fs::lchown(&log, nobody, None).expect("given away");
    fs::write(&fifo, "go\n").expect("it goes on");
    world.until("web", "told of the link", |web| {
        let problem = web.problem.as_ref();
        problem.is_some_and(|told| told.message.contains("a link on the way"))
    });
    assert_eq!(fs::read_dir(&secret).expect("secret").count(), 0);
}

#[test]
fn of_two_services_with_one_log_directory_the_second_is_told_so() {
    let world = World::new();
    let dir = world.path("same");
    let toml = format!("[log]\ndir = '{}'\n", dir.display());
    let run = "#!/bin/sh\nexec sleep 1000\n";
    for name in ["one", "two"] {
        world.service(name, &[("run", run), ("service.toml", &toml)]);
        world.until_up(name);
    }
    eventually("one of them is told", || {
        let told = ["one", "two"].map(|name| world.show(name).problem);
        let told: Vec<_> = told.into_iter().flatten().collect();
        let same =
            |it: &outlast::ipc::control::Trouble| it.message.contains("the same log directory");
        told.iter().any(same).then_some(())
    });
}
