//! Process 1 when everything goes wrong at once: signals, orphans, a full /run, a clock that jumps,
//! no forks to be had. And what control groups hold services to.

use super::machine::{Machine, Overlay, POWERED_OFF};

/// All but what cannot be caught, and PWR, which asks for the machine's end.
const STORM: &str = "n=0; while [ $n -lt 40 ]; do for s in 1 2 3 4 5 6 7 8 10 11 12 13 14 15 16 17 \
                     18 20 21 22 23 24 25 26 27 28 29 31 34 50 64; do kill -$s 1; done; n=$((n+1)); done";

/// The console shows more than the answer.
fn pid_of_web(machine: &mut Machine) -> String {
    let shown = machine.runs("outlast status web --json | grep -o '\"pid\":[0-9]*'");
    let line = shown.lines().find(|line| line.starts_with("\"pid\""));
    line.unwrap_or_else(|| panic!("no pid: {shown}")).to_owned()
}

#[test]
fn process_1_outlives_signals_orphans_a_full_run_clock_steps_and_refused_forks() {
    let Some(overlay) = Overlay::new() else {
        return;
    };
    overlay
        .script("etc/service/web/run", "exec sleep 100000")
        .script(
            "etc/service/hog/run",
            "x=0123456789abcdef; while :; do x=$x$x; done",
        )
        .file(
            "etc/service/hog/service.toml",
            "cgroup = { \"memory.max\" = \"16M\" }\nrestart = { policy = \"never\" }\n",
        )
        .script(
            "etc/service/forker/run",
            "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 100000 & done; wait",
        )
        .file(
            "etc/service/forker/service.toml",
            "cgroup = { \"pids.max\" = 5 }\nrestart = { policy = \"never\" }\n",
        )
        .script("etc/service/wrong/run", "exec sleep 100000")
        .file(
            "etc/service/wrong/service.toml",
            "cgroup = { \"nosuch.max\" = 1 }\n",
        )
        // Without it the keys end the machine.
        .script("etc/runit/ctrlaltdel", "exit 0");
    let mut machine = overlay.boot(&["--init", "/usr/bin/outlast", "--args", "init"]);
    machine.logs_in();

    let why = machine.comes_to("outlast why hog", "out of memory (OOM kill)");
    assert!(why.contains("its cgroup was out of memory"), "{why}");
    machine.comes_to(
        "cat /sys/fs/cgroup/outlast-1/forker/pids.events",
        "max [1-9]",
    );
    let current = machine.runs("cat /sys/fs/cgroup/outlast-1/forker/pids.current");
    let count = current
        .lines()
        .find_map(|line| line.trim().parse::<u32>().ok());
    assert!(count.is_some_and(|it| it <= 5), "{current}");
    let why = machine.comes_to("outlast why wrong", "nosuch.max");
    assert!(why.contains("cgroup"), "{why}");

    let pid = pid_of_web(&mut machine);
    let unharmed = |machine: &mut Machine| {
        machine.comes_to("outlast check --timeout 30 web && echo is up", "is up");
        assert_eq!(pid_of_web(machine), pid);
    };
    machine.runs(STORM);
    unharmed(&mut machine);
    machine.runs(
        &STORM
            .replace("kill -$s 1", "kill -$s $(pidof outlast-super) 2>/dev/null")
            .replace("40", "2"),
    );
    unharmed(&mut machine);

    machine.runs("n=0; while [ $n -lt 2000 ]; do (true & true &); n=$((n+1)); done");
    machine.comes_to("grep -l ') Z' /proc/[0-9]*/stat | wc -l", "^0$");
    unharmed(&mut machine);

    machine.runs("mount -o remount,size=256k /run; dd if=/dev/zero of=/run/full bs=4k 2>/dev/null");
    machine.runs("killall -9 outlast-super outlast-scribe");
    unharmed(&mut machine);
    // Not even its socket is left.
    machine.runs("rm /run/outlast/control; : >/run/more; dd if=/dev/zero of=/run/more bs=4k; killall -9 outlast-super");
    machine.runs("rm /run/full /run/more");
    machine.runs("killall -9 outlast-super");
    unharmed(&mut machine);

    machine.runs("date -s @$(($(date +%s) + 31536000))");
    machine.runs("kill -9 $(pidof outlast-super)");
    unharmed(&mut machine);
    let status = machine.runs("outlast status web | tail -n 1");
    assert!(!status.contains(" d "), "{status}");
    machine.runs("date -s @$(($(date +%s) - 63072000))");
    unharmed(&mut machine);
    // However many supervisors have crashed, what was lived with before is started again.
    machine
        .runs("kill -9 $(outlast status web --json | grep -o '\"pid\":[0-9]*' | grep -o '[0-9]*')");
    machine.comes_to("outlast check --timeout 30 web && echo is up", "is up");

    // What the shell does now it must do without a fork.
    machine.runs("super=$(pidof outlast-super); most=$(cat /proc/sys/kernel/threads-max)");
    machine.types("echo 20 >/proc/sys/kernel/threads-max; kill -9 $super");
    machine.shows("cannot start the supervisor: ");
    machine.types("echo $most >/proc/sys/kernel/threads-max");
    machine.comes_to("outlast check --timeout 30 web && echo is up", "is up");
    machine.types("echo 20 >/proc/sys/kernel/threads-max; kill -PWR 1");
    machine.shows("power failure: stopping all services\n");
    machine.shows("unable to fork for \"/etc/runit/3\" pausing: ");
    let (end, console) = machine.ends();
    assert_eq!(end, POWERED_OFF, "{console}");
}
