//! What goes wrong while a machine boots: no console and no /dev, a step that fails, the keys.

use super::machine::{Overlay, POWERED_OFF, REBOOTED};
use std::os::unix::fs::symlink;

/// Seconds after the start at which Ctrl-Alt-Del is pressed, until somebody listens.
const PRESSED: [&str; 12] = [
    "20", "30", "40", "50", "60", "75", "90", "105", "120", "150", "180", "210",
];

#[test]
fn a_machine_without_a_console_boots_and_a_failed_step_leads_to_a_shell_that_may_go_on() {
    let Some(overlay) = Overlay::new() else {
        return;
    };
    let dev = overlay.path("dev");
    std::fs::create_dir(&dev).expect("directory");
    for name in ["console", "null"] {
        symlink("nowhere", dev.join(name)).expect("link");
    }
    overlay
        .file("etc/fstab", "nothing /mnt nosuchkind defaults 0 0\n")
        // No supervisor lives long on this machine.
        .script(
            "etc/service/zealot/run",
            "while :; do killall -9 outlast-super 2>/dev/null; done",
        );
    let mut options = vec!["--init", "/usr/bin/outlast", "--args", "init"];
    options.extend(PRESSED.iter().flat_map(|at| ["--cad", at]));
    let mut machine = overlay.boot(&options);
    machine.shows("the boot has stopped: fstab: ");
    machine.shows("# ");
    assert_eq!(
        machine.runs("tty </proc/self/fd/0 >/dev/null && echo a terminal"),
        "a terminal\n"
    );
    machine.types("exit");
    machine.shows("ctrl-alt-del: stopping all services\n");
    // In order, or without a supervisor if none could be.
    let (end, console) = machine.ends();
    assert_eq!(end, REBOOTED, "{console}");
}

#[test]
fn a_stage_1_that_crashes_leads_to_a_shell_and_its_failure_to_stage_3() {
    let Some(overlay) = Overlay::new() else {
        return;
    };
    overlay
        .script("etc/runit/1", "mount -t proc proc /proc; kill -9 $$")
        .script("etc/runit/2", "echo services; exit 0")
        .script("etc/runit/3", "echo the end comes");
    let mut machine = overlay.boot(&[]);
    machine.shows("child crashed: /etc/runit/1\n");
    machine.shows("the boot has stopped: stage 1 was killed by a signal\n");
    machine.shows("# ");
    machine.types("exit 1");
    machine.shows("the end comes\n");
    let (end, console) = machine.ends();
    assert_eq!(end, POWERED_OFF, "{console}");
    assert!(!console.contains("services"), "{console}");
}
