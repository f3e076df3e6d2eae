//! The keeper is killed, alone or with others of the three: its services go on, nobody starts them a
//! second time, and the next `outlast supervise` over the directory has them in hand again.

use super::upgrade::gaps;
use super::world::{BINARY, World, eventually, kill, lives, needs_root, request};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use outlast::os::identity::Identity;
use outlast::svdir::left::{self, Living};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Numbered lines; as long as there is a file `hold` it is silent, and says in `held` since when.
const TALKER: &str = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01
[ ! -e hold ] || echo $n >held; while [ -e hold ]; do sleep 0.02; done; done";
/// Ends when it is told to, by itself.
pub const ENDING: &str = "while [ ! -e go ]; do sleep 0.02; done; rm go; exit 42";

/// Which of ours have just been started, told apart from those of other tests by the socket that
/// they were told to use.
pub fn part(world: &World, comm: &str) -> i32 {
    let socket = world.socket().to_string_lossy().into_owned();
    let of_world = |pid: i32| {
        let parent = stat_field(pid, 4);
        let line = |pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).into_owned()
        };
        line(pid).contains(&socket) || line(parent).contains(&socket)
    };
    eventually(&format!("{comm} runs"), || {
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let mut all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all.find(|pid| super::world::comm_of(*pid) == comm && lives(*pid) && of_world(*pid))
    })
}

fn stat_field(pid: i32, number: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = rest.split_whitespace().nth(number - 3);
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Waits until the supervisor says that it has no keeper.
fn until_bereft(world: &World) {
    eventually("it says that the keeper is gone", || {
        let notice = world.ask(Verb::Status, &[]).notice?;
        assert_eq!(notice.code, "no-keeper");
        Some(())
    });
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_supervisor_without_its_keeper_says_so_goes_on_serving_and_starts_nothing() {
    let mut world = World::new();
    world.run("web", "exec sleep 1000");
    world.run("dies", "exec sleep 1000");
    world.run("down", "exec sleep 1000");
    world.run(
        "hups",
        "trap 'echo got hup' HUP; echo ready; while :; do sleep 0.05; done",
    );
    let web = world.until_up("web");
    let dies = world.until_up("dies");
    world.until_line("hups", "ready");
    world.until_up("down");
    world.must(Verb::Stop, &["down"]);
    world.kill_keeper();
    until_bereft(&world);

    let status = world.outlast(&["status"]);
    assert!(status.status.success(), "{status:?}");
    let said = text(&status.stderr);
    assert!(
        said.contains("was killed") && said.contains("outlast supervise /"),
        "{said}"
    );
    eventually("its own diagnostics say so", || {
        world.said().contains("was killed").then_some(())
    });
    assert_eq!(world.show("web").pid, Some(web));
    assert!(world.outlast(&["list"]).status.success());

    world.must(Verb::Hup, &["hups"]);
    world.until_line("hups", "got hup");

    for order in [["start", "down"], ["restart", "web"], ["once", "down"]] {
        let refused = world.outlast(&order);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(
            text(&refused.stderr).contains("nothing can be started"),
            "{refused:?}"
        );
    }
    // Not by another way either.
    let control = world.path("services/down/supervise/control");
    fs::write(control, "u").expect("written");
    let down = world.until_state("down", State::Broken);
    assert_eq!(down.problem.expect("a reason").code, "no-keeper");
    kill(dies, Signal::SIGKILL);
    let dead = world.until_state("dies", State::Broken);
    let exit = dead.last_exit.expect("an exit");
    assert_eq!((exit.code, exit.signal, exit.pid), (None, None, dies));
    let why = world.outlast(&["why", "dies"]);
    assert!(text(&why.stdout).contains("how nobody can know"), "{why:?}");
    assert!(lives(web));

    let shutdown = world.outlast(&["shutdown"]);
    assert!(shutdown.status.success(), "{shutdown:?}");
    assert!(!lives(web));
    eventually("nothing is left", || {
        world.all_processes().is_empty().then_some(())
    });
}

#[test]
fn without_a_keeper_a_stop_has_its_time_out_and_takes_leftovers_along() {
    let mut world = World::new();
    let deaf = "trap '' TERM; sleep 1001 & while :; do sleep 0.05; done";
    let deaf = format!("#!/bin/sh\n{deaf}\n");
    let soon = "[stop]\ntimeout = \"100ms\"\n";
    world.service("deaf", &[("run", &deaf), ("service.toml", soon)]);
    let pid = world.until_up("deaf");
    world.kill_keeper();
    until_bereft(&world);
    world.must(Verb::Stop, &["deaf"]);
    assert!(!lives(pid));
    let in_session: Vec<i32> = world.all_processes();
    let left: Vec<i32> = in_session
        .into_iter()
        .filter(|it| stat_field(*it, 6) == pid)
        .collect();
    assert_eq!(left, Vec::<i32>::new(), "{}", world.said());
    assert!(world.outlast(&["shutdown"]).status.success());
}

/// Kills the keeper and those of the others, and starts another `outlast supervise`.
fn goes_on_after_the_death_of(others: &[&str]) {
    let mut world = World::new();
    world.run("talker", TALKER);
    world.run("web", "sleep 1002 & echo $$ >>starts; exec sleep 1000");
    world.run("down", "exec sleep 1000");
    world.run("ending", ENDING);
    let logged = format!("#!/bin/sh\n{TALKER}\n");
    let reader = "#!/bin/sh\nexec cat >>../lines\n";
    world.service("logged", &[("run", &logged), ("log/run", reader)]);
    let names = ["talker", "web", "logged", "logged/log"];
    let pids = names.map(|name| world.until_up_on_disk(name));
    let ending = world.until_up_on_disk("ending");
    world.until_up("down");
    world.must(Verb::Stop, &["down"]);
    world.until_line("talker", "line 10");
    let talker = world.path("services/talker");
    if others.contains(&"outlast-scribe") {
        // What it had read and not written would be lost with it.
        fs::write(talker.join("hold"), "").expect("hold");
        let last = eventually("it is silent", || {
            let held = fs::read_to_string(talker.join("held")).ok()?;
            held.ends_with('\n').then_some(held)
        });
        world.until_line("talker", &format!("line {}", last.trim()));
    }
    let doomed: Vec<i32> = others.iter().map(|other| part(&world, other)).collect();
    world.kill_keeper();
    for pid in doomed {
        kill(pid, Signal::SIGKILL);
    }
    let _ = fs::remove_file(talker.join("hold"));
    let ends_meanwhile = others.contains(&"outlast-super");
    if ends_meanwhile {
        fs::write(world.path("services/ending/go"), "").expect("go");
        eventually("it has ended", || (!lives(ending)).then_some(()));
    }
    world.supervise(&[]);
    for (name, pid) in names.iter().zip(pids) {
        let shown = world.until_state(name, State::Up);
        assert_eq!(
            (shown.pid, shown.restarts),
            (Some(pid), 0),
            "{name} {}",
            world.said()
        );
    }
    assert_eq!(world.until_state("down", State::Down).want, Want::Down);
    let starts = fs::read_to_string(world.path("services/web/starts")).expect("starts");
    assert_eq!(starts.lines().count(), 1);
    if ends_meanwhile {
        let again = world.until("ending", "started again", |it| it.last_exit.is_some());
        assert_eq!(again.last_exit.expect("an exit").pid, ending);
    }
    // It is in hand: what it leaves is ended before it is started again, and it is logged.
    kill(pids[1], Signal::SIGKILL);
    let again = world.until("web", "started again", |it| {
        it.state == State::Up && it.pid != Some(pids[1])
    });
    assert_eq!(again.restarts, 1);
    let left = world
        .all_processes()
        .into_iter()
        .filter(|pid| stat_field(*pid, 6) == pids[1]);
    assert_eq!(
        left.collect::<Vec<_>>(),
        Vec::<i32>::new(),
        "{}",
        world.said()
    );
    let so_far = world.lines("talker").len();
    eventually("its log goes on", || {
        (world.lines("talker").len() > so_far + 20).then_some(())
    });
    assert_eq!(gaps(&world, "talker"), Vec::<String>::new());
    assert_eq!(world.end(), Some(0), "{}", world.said());
    eventually("nothing is left", || {
        world.all_processes().is_empty().then_some(())
    });
    let lines = fs::read_to_string(world.path("services/logged/lines")).expect("lines");
    let numbers: Vec<&str> = lines.lines().collect();
    let whole = (1..=numbers.len()).map(|number| format!("line {number}"));
    assert_eq!(numbers, whole.collect::<Vec<_>>());
}

#[test]
fn the_next_supervisor_takes_over_when_the_keeper_was_killed() {
    goes_on_after_the_death_of(&[]);
}

#[test]
fn the_next_supervisor_takes_over_when_keeper_and_supervisor_were_killed() {
    goes_on_after_the_death_of(&["outlast-super"]);
}

#[test]
fn the_next_supervisor_takes_over_when_keeper_and_scribe_were_killed() {
    goes_on_after_the_death_of(&["outlast-scribe"]);
}

#[test]
fn the_next_supervisor_takes_over_when_all_three_were_killed() {
    goes_on_after_the_death_of(&["outlast-super", "outlast-scribe"]);
}

#[test]
fn a_run_that_nothing_was_written_about_is_known_by_its_log_pipe() {
    let mut world = World::new();
    world.run("web", "echo $$ >>starts; exec sleep 1000");
    let log = "#!/bin/sh\nexec cat >>../lines\n";
    world.service(
        "logged",
        &[("run", "#!/bin/sh\nexec sleep 1000\n"), ("log/run", log)],
    );
    let names = ["web", "logged", "logged/log"];
    let pids = names.map(|name| world.until_up_on_disk(name));
    let supervisor = part(&world, "outlast-super");
    world.kill_keeper();
    kill(supervisor, Signal::SIGKILL);
    for name in names {
        // As it stood before the start.
        let place = world.path("services").join(name).join("supervise/outlast");
        let text = fs::read_to_string(&place).expect("a record");
        let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let living = record.get_mut("living").expect("living");
        for field in ["run", "sessions"] {
            living.as_object_mut().expect("an object").remove(field);
        }
        living["state"] = "".into();
        fs::write(&place, record.to_string()).expect("written");
    }
    world.supervise(&[]);
    for (name, pid) in names.iter().zip(pids) {
        assert_eq!(world.until_up(name), pid, "{name} {}", world.said());
    }
    let starts = fs::read_to_string(world.path("services/web/starts")).expect("starts");
    assert_eq!(starts.lines().count(), 1);
    assert_eq!(world.end(), Some(0));
    eventually("nothing is left", || {
        world.all_processes().is_empty().then_some(())
    });
}

/// A process that is none of the services'.
struct Stranger(Child);

impl Stranger {
    fn new() -> Stranger {
        let mut sleep = Command::new("sleep");
        let sleep = sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
        Stranger(sleep.spawn().expect("sleep"))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("pid")
    }

    /// A record that says that it is this service's run.
    fn is_said_to_be(&self, service: &Path) {
        fs::create_dir_all(service.join("supervise")).expect("supervise");
        let living = Living {
            run: Identity::of(self.pid()),
            state: "{\"n\":\"x\"}".into(),
            ..Living::default()
        };
        left::write(service, &living).expect("written");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn edit(record: &Path, change: impl Fn(&mut serde_json::Value)) {
    let text = fs::read_to_string(record).expect("a record");
    let mut value = serde_json::from_str(&text).expect("JSON");
    change(&mut value);
    fs::write(record, value.to_string()).expect("written");
}

#[test]
fn a_forged_or_foreign_record_is_nobodys_proof() {
    type Forge = fn(&Path);
    let forgeries: &[(&str, Forge)] = &[
        ("none", |_| {}),
        ("another-start", |record| {
            edit(record, |it| {
                let started = it["living"]["run"]["started"].as_u64().expect("a number");
                it["living"]["run"]["started"] = (started - 1).into();
            });
        }),
        ("another-boot", |record| {
            edit(record, |it| it["realm"]["boot"] = "00000000-0000".into());
        }),
        ("another-namespace", |record| {
            edit(record, |it| it["realm"]["namespace"] = 1.into());
        }),
        ("another-directory", |record| {
            edit(record, |it| it["directory"] = serde_json::json!([1, 2]));
        }),
        ("open-to-others", |record| {
            let mode = fs::Permissions::from_mode(0o620);
            fs::set_permissions(record, mode).expect("mode");
        }),
        ("two-names", |record| {
            fs::hard_link(record, record.with_file_name("second")).expect("link");
        }),
        ("a-link", |record| {
            let real = record.with_file_name("real");
            fs::rename(record, &real).expect("renamed");
            symlink(real, record).expect("link");
        }),
        ("no-json", |record| fs::write(record, "{").expect("written")),
        ("of-another-user", |record| {
            if !needs_root() {
                std::os::unix::fs::chown(record, Some(65_534), None).expect("chown");
            }
        }),
    ];
    let mut world = World::quiet();
    let mut said: Vec<(&str, Stranger)> = Vec::new();
    for (name, forge) in forgeries {
        if *name == "of-another-user" && needs_root() {
            continue;
        }
        let service: PathBuf = world.run(name, "exec sleep 1000");
        let stranger = Stranger::new();
        stranger.is_said_to_be(&service);
        forge(&service.join("supervise/outlast"));
        said.push((name, stranger));
    }
    world.supervise(&[]);
    for (name, stranger) in &said {
        let pid = world.until_up(name);
        // The whole and true one is believed, or this test would see nothing.
        assert_eq!(
            pid == stranger.pid(),
            *name == "none",
            "{name}\n{}",
            world.said()
        );
    }
    world.must(Verb::Stop, &["*"]);
    for (name, stranger) in &said {
        assert_eq!(lives(stranger.pid()), *name != "none", "{name}");
    }
}

#[test]
fn a_keeperless_supervisor_makes_room_only_over_its_own_directory() {
    let mut world = World::new();
    world.run("web", "exec sleep 1000");
    let web = world.until_up_on_disk("web");
    let supervise = |world: &World, dir: &str| {
        Command::new(BINARY)
            .args(["supervise", "--socket"])
            .arg(world.socket())
            .arg("--log-root")
            .arg(world.path("log"))
            .arg(world.path(dir))
            .output()
            .expect("outlast")
    };
    // One that has its keeper stays in any case.
    let refused = supervise(&world, "services");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("is served by"),
        "{refused:?}"
    );
    world.kill_keeper();
    until_bereft(&world);
    fs::create_dir(world.path("elsewhere")).expect("mkdir");
    let refused = supervise(&world, "elsewhere");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("it supervises /"),
        "{refused:?}"
    );
    assert_eq!(world.show("web").pid, Some(web));
    let mut step_down = request(Verb::StepDown, &[]);
    step_down.names = vec![world.path("services").to_string_lossy().into_owned()];
    assert!(world.request(&step_down).ok);
    eventually("it has ended", || {
        std::os::unix::net::UnixStream::connect(world.socket())
            .is_err()
            .then_some(())
    });
    assert!(lives(web));
    world.supervise(&[]);
    assert_eq!(world.until_up("web"), web);
}

#[test]
fn nobody_else_gets_a_directory_of_a_keeperless_supervisor() {
    let mut world = World::new();
    world.run("web", "exec sleep 1000");
    let web = world.until_up_on_disk("web");
    world.kill_keeper();
    until_bereft(&world);
    eventually("its locks are taken again", || {
        let lock = fs::File::open(world.path("services/web/supervise/lock")).expect("lock");
        lock.try_lock().is_err().then_some(())
    });
    let mut other = Command::new(BINARY)
        .args(["supervise", "--socket"])
        .arg(world.path("other"))
        .arg("--log-root")
        .arg(world.path("log"))
        .arg(world.path("services"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("outlast");
    let names = |verb| {
        let socket = world.path("other");
        eventually("the other one answers", || {
            let answers = UnixStream::connect(&socket).is_ok();
            answers.then(|| super::world::ask(&socket, &request(verb, &[])))
        })
    };
    eventually("it is told who has it", || {
        let status = names(Verb::Status);
        let web = status.services.into_iter().find(|it| it.name == "web")?;
        (web.state == State::Broken && web.problem?.message.contains("is locked")).then_some(())
    });
    assert!(names(Verb::Shutdown).ok);
    other.wait().expect("ended");
    assert!(lives(web));
    assert!(world.outlast(&["shutdown"]).status.success());
    assert!(!lives(web));
}

/// Service directories in which more than one process leads a session.
pub fn doubled(world: &World) -> Vec<String> {
    let services = world.path("services");
    let mut leaders = std::collections::BTreeMap::<PathBuf, Vec<i32>>::new();
    for pid in world.all_processes() {
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        if stat_field(pid, 6) == pid && cwd.starts_with(&services) {
            leaders.entry(cwd).or_default().push(pid);
        }
    }
    let living = |pids: &Vec<i32>| pids.iter().filter(|pid| lives(**pid)).count();
    let double = leaders.into_iter().filter(|(_, pids)| living(pids) > 1);
    double
        .map(|(dir, pids)| format!("{}: {pids:?}", dir.display()))
        .collect()
}

/// Kills of an ordinary test run.
const KILLS: u64 = 8;

#[test]
fn the_keeper_may_die_at_any_moment() {
    use super::chaos::{Dice, number_from};
    let kills = number_from("OUTLAST_CHAOS_KEEPERS").unwrap_or(KILLS);
    let seed = number_from("OUTLAST_CHAOS_SEED").unwrap_or_else(|| std::process::id().into());
    println!("{kills} kills; again: OUTLAST_CHAOS_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    // A zombie, which nobody has reaped yet, is none that runs.
    let alone = "if grep -q '^State:.[^ZX]' /proc/$(cat pid)/status; then echo $$ >>doubled; fi
echo $$ >pid";
    let names = ["steady0", "steady1", "steady2", "talker"];
    for name in &names[..3] {
        world.run(name, &format!("echo $$ >>starts; {alone}; exec sleep 1000"));
    }
    world.run("talker", TALKER);
    let often = "restart = { delay = 0.1, max = 0.1 }\n";
    for name in ["crashing0", "crashing1"] {
        let run = format!("#!/bin/sh\n{alone}; sleep 0.02; exit 3\n");
        world.service(name, &[("run", &run), ("service.toml", often)]);
    }
    world.run("commanded", &format!("{alone}; exec sleep 1000"));
    let pids = names.map(|name| world.until_up_on_disk(name));
    for kill_number in 0..kills {
        let supervisor = part(&world, "outlast-super");
        let mut client = Command::new(BINARY)
            .args([
                ["start", "stop", "restart"][dice.below(3) as usize],
                "commanded",
            ])
            .env("OUTLAST_SOCKET", world.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("outlast");
        let ms = [2, 30, 200][dice.below(3) as usize];
        dice.pause(ms);
        let both = dice.below(2) == 0;
        // In either order.
        if both && dice.below(2) == 0 {
            kill(supervisor, Signal::SIGKILL);
            dice.pause(5);
        }
        world.kill_keeper();
        if both {
            kill(part_or(&world, supervisor), Signal::SIGKILL);
        }
        assert_eq!(doubled(&world), Vec::<String>::new());
        world.supervise(&[]);
        client.wait().expect("it ends, whatever it has to say");
        for (name, pid) in names.iter().zip(pids) {
            let shown = world.until_state(name, State::Up);
            let found = (shown.pid, shown.restarts);
            assert_eq!(
                found,
                (Some(pid), 0),
                "{name}, kill {kill_number}\n{}",
                world.said()
            );
        }
        assert_eq!(doubled(&world), Vec::<String>::new(), "{}", world.said());
    }
    world.must(Verb::Start, &["commanded"]);
    for name in ["crashing0", "crashing1"] {
        world.until(name, "started again", |it| it.restarts > 0);
    }
    for name in [
        "steady0",
        "steady1",
        "steady2",
        "crashing0",
        "crashing1",
        "commanded",
    ] {
        let file = |file: &str| world.path("services").join(name).join(file);
        let doubled = fs::read_to_string(file("doubled")).unwrap_or_default();
        assert_eq!(doubled, "", "{name}\n{}", world.said());
        if name.starts_with("steady") {
            let starts = fs::read_to_string(file("starts")).expect("starts");
            assert_eq!(starts.lines().count(), 1, "{name}");
        }
    }
    assert_eq!(world.end(), Some(0), "{}", world.said());
    eventually("nothing is left", || {
        world.all_processes().is_empty().then_some(())
    });
    assert_eq!(gaps(&world, "talker"), Vec::<String>::new());
}

/// The supervisor, or the successor that the keeper has started meanwhile.
fn part_or(world: &World, supervisor: i32) -> i32 {
    let all = world.all_processes();
    let found = all
        .into_iter()
        .find(|pid| super::world::comm_of(*pid) == "outlast-super");
    found.unwrap_or(supervisor)
}
