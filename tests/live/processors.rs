//! What becomes of a log whose `config` has changed, or whose processor fails or hangs.

use super::world::{World, eventually, lives};
use outlast::ipc::control::Verb;
use std::fs;

#[test]
fn a_changed_config_counts_after_a_reload_and_after_a_restart() {
    let world = World::new();
    world.run(
        "web",
        "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done",
    );
    world.until_line("web", "1");
    let config = |prefix: &str| {
        let path = world.path("log/web/config");
        fs::write(path, format!("p{prefix}: \n")).expect("a config");
    };
    config("reloaded");
    world.must(Verb::Reload, &[]);
    eventually("a line by the new config", || {
        let lines = world.lines("web");
        let new = lines.iter().any(|line| line.starts_with("reloaded: "));
        new.then_some(())
    });
    config("restarted");
    world.must(Verb::Restart, &["web"]);
    world.until_line("web", "restarted: 1");
}

#[test]
fn a_failing_processor_is_told_and_loses_no_line_at_the_end() {
    let mut world = World::new();
    fs::create_dir_all(world.path("log/web")).expect("mkdir");
    fs::write(world.path("log/web/config"), "s200\n!exit 3\n").expect("a config");
    world.run("web", "seq 1000; echo done; exec sleep 1000");
    world.until("web", "told of its processor", |web| {
        let problem = web.problem.as_ref();
        problem.is_some_and(|it| it.message.contains("failed with exit code 3"))
    });
    assert_eq!(world.end(), Some(0), "{}", world.said());
    let mut files: Vec<_> = fs::read_dir(world.path("log/web"))
        .expect("a log")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "u"))
        .collect();
    files.push(world.path("log/web/current"));
    let text: String = files
        .iter()
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect();
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, line)| line)
        .collect();
    let expected: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
    assert_eq!(lines[..1000], expected[..]);
    assert_eq!(lines[1000..], ["done"]);
}

#[test]
fn a_hung_processor_ends_with_the_supervisor() {
    let mut world = World::new();
    fs::create_dir_all(world.path("log/web")).expect("mkdir");
    let config = "s200\n!echo $$ >pid; sleep 1000; exit 1\n";
    fs::write(world.path("log/web/config"), config).expect("a config");
    world.run("web", "seq 100; exec sleep 1000");
    let pid = eventually("it hangs", || {
        let text = fs::read_to_string(world.path("log/web/pid")).ok()?;
        text.trim().parse::<i32>().ok()
    });
    let of_it: Vec<i32> = eventually("its child", || {
        let all = world.descendants();
        let of_it: Vec<i32> = all
            .into_iter()
            .filter(|one| super::world::children(pid).contains(one))
            .collect();
        (!of_it.is_empty()).then_some(of_it)
    });
    assert_eq!(world.end(), Some(0), "{}", world.said());
    for pid in of_it.into_iter().chain([pid]) {
        assert!(!lives(pid), "{}", world.said());
    }
}
