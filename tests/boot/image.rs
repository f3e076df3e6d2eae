//! A machine that was made for runit, with nothing exchanged but the program.

use super::machine::{Machine, Overlay, POWERED_OFF, REBOOTED};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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

/// Debian's package that has runit's own scripts, and services as its packages bring them.
const OF_DEBIAN: [&str; 6] = [
    "/etc/runit/1",
    "/lib/runit/async-timeout",
    "/etc/sv/socklog-unix/run",
    "/usr/bin/socklog",
    "/etc/sv/mini-httpd/run",
    "/usr/sbin/mini_httpd",
];

fn copy(overlay: &Overlay, path: &str) {
    let target = overlay.path(&path[1..]);
    fs::create_dir_all(target.parent().expect("a parent")).expect("directory");
    let done = Command::new("cp")
        .arg("-a")
        .args([path.as_ref(), target.as_os_str()])
        .status();
    assert!(done.expect("cp").success(), "{path}");
}

/// Debian's sshd and what goes with it.
const OF_SSH: [&str; 4] = [
    "/usr/sbin/sshd",
    "/etc/ssh/sshd_config",
    "/usr/bin/ssh",
    "/usr/bin/ssh-keygen",
];

/// A service as people write it by hand, since the package brings none. False, with a line to say so,
/// where sshd is not installed.
fn has_sshd(overlay: &Overlay) -> bool {
    if let Some(missing) = OF_SSH.iter().find(|path| !Path::new(path).exists()) {
        println!("skipped in part: {missing} is not installed");
        return false;
    }
    for path in OF_SSH {
        copy(overlay, path);
    }
    overlay
        .script(
            "etc/sv/sshd/run",
            "exec 2>&1
            key=/etc/ssh/ssh_host_ed25519_key
            [ -e $key ] || ssh-keygen -q -t ed25519 -N '' -f $key
            mkdir -p /run/sshd
            exec /usr/sbin/sshd -D -e",
        )
        .script(
            "etc/sv/sshd/log/run",
            "mkdir -p /var/log/sshd; exec svlogd -tt /var/log/sshd",
        )
        // PAM would want its modules and their settings.
        .file("etc/ssh/sshd_config.d/machine.conf", "UsePAM no\n")
        .file("etc/shells", "/bin/sh\n");
    true
}

/// A login with a key, which outlives a restart of sshd.
fn logs_in_by_ssh(machine: &mut Machine) {
    machine.comes_to("cat /var/log/sshd/current", "Server listening on ");
    let banner = machine.comes_to("nc -w 5 127.0.0.1 22 </dev/null", "^SSH-2.0-OpenSSH");
    assert!(banner.contains("Debian"), "{banner}");
    machine.runs(
        "mkdir -p -m 700 ~/.ssh; ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
        cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys",
    );
    let ssh = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new 127.0.0.1";
    let inside = machine.comes_to(&format!("{ssh} 'echo $USER at $(hostname)'"), "^root at ");
    assert!(inside.contains("root at debians"), "{inside}");
    machine.runs(&format!(
        "{ssh} 'echo $$; exec sleep 100000' >/tmp/inside &"
    ));
    machine.comes_to("cat /tmp/inside", "^[0-9]");
    machine.comes_to("sv restart sshd", "^ok: run: sshd: ");
    machine.comes_to(&format!("{ssh} echo anew"), "^anew");
    machine.comes_to("kill -0 $(cat /tmp/inside) && echo goes on", "goes on");
    machine.comes_to(
        "grep -c 'Accepted publickey for root' /var/log/sshd/current",
        "^3$",
    );
}

/// Those lines of this machine's file whose users services ask for.
fn users(file: &str) -> String {
    let text = fs::read_to_string(file).expect("read");
    let wanted = |line: &&str| {
        line.starts_with(['_', 'n']) || line.starts_with("adm:") || line.starts_with("sshd:")
    };
    text.lines()
        .filter(wanted)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn debians_stages_and_services_run_with_only_the_program_exchanged() {
    let Some(overlay) = Overlay::new() else {
        return;
    };
    if let Some(missing) = OF_DEBIAN.iter().find(|path| !Path::new(path).exists()) {
        println!("skipped: {missing} is not installed");
        return;
    }
    for path in [
        "/etc/runit",
        "/lib/runit",
        "/etc/sv/socklog-unix",
        "/etc/sv/mini-httpd",
    ] {
        copy(&overlay, path);
    }
    for path in [
        "/usr/bin/socklog",
        "/usr/sbin/mini_httpd",
        "/usr/bin/install",
        "/usr/bin/realpath",
    ] {
        copy(&overlay, path);
    }
    // What this machine has besides does not belong to that one.
    let sets = overlay.path("etc/runit/runsvdir");
    fs::remove_dir_all(&sets).expect("removed");
    let set = sets.join("default");
    fs::create_dir_all(&set).expect("directory");
    let mut names = vec!["socklog-unix", "mini-httpd"];
    let sshd = has_sshd(&overlay);
    names.extend(sshd.then_some("sshd"));
    for name in &names {
        symlink(format!("/etc/sv/{name}"), set.join(name)).expect("link");
    }
    fs::rename(overlay.path("etc/service/getty"), set.join("getty")).expect("moved");
    fs::remove_dir_all(overlay.path("etc/service")).expect("removed");
    symlink("default", sets.join("current")).expect("link");
    symlink("/etc/runit/runsvdir/current", overlay.path("etc/service")).expect("link");
    symlink("outlast", overlay.path("usr/bin/runsvchdir")).expect("link");
    overlay
        .script(
            "etc/rcS.d/S01system",
            "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs run /run
            mount -t devtmpfs dev /dev; mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
            hostname debians; ifconfig lo up",
        )
        .file("etc/runit/no.emulate.sysv", "")
        .file("etc/hosts", "127.0.0.1 localhost\n")
        .file(
            "etc/passwd",
            &format!("root::0:0:root:/root:/bin/sh\n{}", users("/etc/passwd")),
        )
        .file("etc/group", &format!("root:x:0:\n{}", users("/etc/group")))
        .file("var/www/html/index.html", "a page\n");
    let mut machine = overlay.boot(&[]);
    machine.shows("debians ");
    machine.logs_in();
    let all = format!("^{}$", names.len() + 1);
    machine.comes_to("sv status /etc/service/* | grep -c ^run:", &all);
    machine.comes_to(
        "logger -t tester a message; cat /var/log/runit/socklog/main/current",
        "tester: a message",
    );
    machine.comes_to("wget -q -O - http://127.0.0.1/index.html", "a page");
    if sshd {
        logs_in_by_ssh(&mut machine);
    }
    machine.types("exec /sbin/init 6");
    machine.shows("Waiting for services to stop...\n");
    machine.shows("ok: down: /etc/service/mini-httpd: ");
    let (end, console) = machine.ends();
    assert_eq!(end, REBOOTED, "{console}");
}
