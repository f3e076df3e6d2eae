//! A machine that was made for runit, with nothing exchanged but the program.

use super::machine::{Overlay, POWERED_OFF};

/// Stage scripts as such machines have them.
fn runits_stages(overlay: &Overlay) {
    overlay
        .script(
            "etc/runit/1",
            "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs run /run
            mount -t devtmpfs dev /dev; mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
            hostname runits
            for mark in stopit reboot; do : >/run/runit.$mark; chmod 0 /run/runit.$mark; done
            (: </dev/tty) && echo stage 1 has a terminal",
        )
        .script(
            "etc/runit/2",
            "exec env - PATH=$PATH runsvdir -P /etc/service 'log: ................................'",
        )
        .script(
            "etc/runit/3",
            "[ $(stat -c %a /run/runit.reboot) = 100 ] && echo stage 3: reboot
            sv -w 20 force-stop /etc/service/*; sv exit /etc/service/*",
        )
        .script(
            "etc/runit/ctrlaltdel",
            "echo the keys were pressed; touch /run/runit.stopit; chmod 100 /run/runit.stopit",
        );
}

#[test]
fn a_machine_made_for_runit_boots_and_services_outlive_what_stage_2_runs() {
    let Some(overlay) = Overlay::new() else {
        return;
    };
    runits_stages(&overlay);
    overlay.script("etc/service/web/run", "exec sleep 100000");
    let mut machine = overlay.boot(&[]);
    machine.shows("enter stage: /etc/runit/1\n");
    machine.shows("stage 1 has a terminal\n");
    machine.shows("leave stage: /etc/runit/1\n");
    machine.shows("enter stage: /etc/runit/2\n");
    machine.logs_in();
    let before = machine.comes_to("sv status web", "^run: web:");
    // The supervisor, then its keeper, then what stage 2 became: nobody else notices.
    machine.runs("kill -9 $(pidof outlast-super)");
    machine.comes_to("sv status web getty | grep -c ^run:", "^2");
    machine.types("kill -9 $(pidof runsvdir)");
    machine.shows("child crashed: /etc/runit/2\n");
    machine.shows("killing all processes in stage 2...\n");
    machine.shows("restarting.\n");
    let after = machine.comes_to("sv status web", "^run: web:");
    let pid = |line: &str| line.split(')').next().map(str::to_owned);
    assert_eq!(pid(&before), pid(&after));
    // As the package's halt and reboot do it.
    machine.types("exec /sbin/init 0");
    machine.shows("enter stage: /etc/runit/3\n");
    machine.shows("power off...\n");
    let (end, console) = machine.ends();
    assert_eq!(end, POWERED_OFF, "{console}");
    assert!(!console.contains("stage 3: reboot"), "{console}");
}
