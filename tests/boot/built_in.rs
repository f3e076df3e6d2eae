//! A machine without scripts: the built-in stages, and the supervisor directly under process 1.

use super::machine::{Overlay, REBOOTED};

#[test]
fn without_scripts_a_machine_boots_to_a_login_and_the_supervisor_is_replaced_unnoticed() {
    let Some(overlay) = Overlay::new() else {
        return;
    };
    overlay
        .script("etc/service/web/run", "exec sleep 100000")
        .script(
            "etc/service/stubborn/run",
            "trap '' TERM; while :; do sleep 1; done",
        )
        .file(
            "etc/service/stubborn/service.toml",
            "[stop]\ntimeout = \"4s\"\n",
        )
        .file("etc/hostname", "builtin\n")
        .file("etc/sysctl.d/test.conf", "kernel.panic = 7\n")
        .file("etc/outlast/boot.skip", "sysctl # not here\n");
    let mut machine = overlay.boot(&[
        "--init",
        "/usr/bin/outlast",
        "--args",
        "init",
        "--append",
        "outlast.skip=loopback,swap",
    ]);
    machine.shows("builtin ");
    machine.logs_in();
    for place in [
        "/proc",
        "/sys",
        "/dev",
        "/dev/pts",
        "/run",
        "/sys/fs/cgroup",
    ] {
        let line = format!("grep -c ' {place} ' /proc/mounts");
        assert_eq!(machine.runs(&line), "1\n", "{place}");
    }
    assert_ne!(machine.runs("cat /proc/sys/kernel/panic"), "7\n");
    assert!(!machine.runs("ifconfig lo").contains(" UP "));
    assert_eq!(
        machine.runs("wc -c </var/lib/outlast/random-seed").trim(),
        "512"
    );
    let pids = "outlast status --json | grep -o '\"pid\":[0-9]*' | sort";
    let before = machine.runs(pids);
    machine.runs("kill -9 $(pidof outlast-super)");
    machine.comes_to("outlast check --timeout 20 web && echo is up", "is up");
    assert_eq!(machine.runs(pids), before);
    // The whole program is replaced in process 1.
    let answer = machine.comes_to("outlast upgrade", "upgraded to");
    assert!(answer.contains("upgraded to outlast"), "{answer}");
    assert_eq!(machine.runs(pids), before);
    machine.types("exec outlast init 6");
    machine.shows("stopping all services\n");
    machine.shows("waiting for stubborn");
    machine.shows("; KILL was sent");
    machine.shows("leave stage: 3\n");
    let (end, console) = machine.ends();
    assert_eq!(end, REBOOTED, "{console}");
}
