//! Service directories that Debian's packages bring, unchanged, under runit's programs and under
//! ours: the same services run, as the same users, and do their work.
//!
//! Each side runs in namespaces of its own (mounts, network, processes), over a throw-away layer of
//! /etc and /var, so that nothing of the machine is touched and nothing outlives the test.

use super::twin::{Seen, Whose, both, programs, run};
use crate::live::world::{BINARY, needs_root};
use std::path::Path;

/// The directories that the test starts; `.ci/run` installs their packages.
const SERVICES: &[&str] = &[
    "bcron-sched",
    "bcron-spool",
    "bcron-update",
    "dbus",
    "dbus.dep-fixer",
    "default-syslog",
    "git-daemon",
    "mini-httpd",
    "socklog-klog",
    "socklog-unix",
];

/// A machine as the packages expect it. `policy-rc.d` is asked by Debian's run scripts and may
/// forbid all starts where packages are installed without being run.
const MACHINE: &str = r#"
mount --make-rprivate /
ip link set lo up
mount -t tmpfs tmpfs /mnt
for dir in etc var; do
	mkdir -p /mnt/$dir.upper /mnt/$dir.work
	mount -t overlay overlay -o lowerdir=/$dir,upperdir=/mnt/$dir.upper,workdir=/mnt/$dir.work /$dir
done
mount -t tmpfs tmpfs /run
mkdir -p /run/runit/supervise /run/lock
mkdir /mnt/dev
mount -t tmpfs tmpfs /mnt/dev
for name in null zero full random urandom tty fd stdin stdout stderr; do
	cp -a /dev/$name /mnt/dev/
done
mkdir /mnt/dev/shm
mount --bind /mnt/dev /dev
printf '#!/bin/sh\nexit 0\n' >/mnt/policy
chmod 755 /mnt/policy
if [ -e /usr/sbin/policy-rc.d ]; then mount --bind /mnt/policy /usr/sbin/policy-rc.d; fi
rm -rf /etc/runit/runsvdir/current
mkdir /etc/runit/runsvdir/current
for name in $SERVICES; do ln -s /etc/sv/$name /etc/runit/runsvdir/current/; done
rm -rf /var/lib/git /var/log/runit /var/log/git-daemon
mkdir -p /var/lib/git /var/log/runit /var/www/html
# The packages' own; the others are made by the log services.
mkdir -p /var/log/runit/mini-httpd /var/log/runit/bcron-sched /var/log/runit/bcron-spool /var/log/runit/bcron-update
git init -q --bare /var/lib/git/sample.git
touch /var/lib/git/sample.git/git-daemon-export-ok
chown -R gitdaemon /var/lib/git/sample.git
echo hello >/var/www/html/index.html
# Waits until a command succeeds; says so when it never does.
until_true() {
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ $tries -gt 300 ]; then echo "never: $*"; return 0; fi
		sleep 0.1
	done
}
# socklog-klog's log ends at once and is started again each second: either may be seen.
states() { sv status /etc/service/* | sed 's/ [0-9]*s\b/ Ns/g; s/(pid [0-9]*)/(pid N)/g; /socklog-klog/s/;.*//'; }
settled() { [ "$(states | grep -c '^run: .*(pid')" = 9 ] && states | grep -q '^down: /etc/service/dbus.dep-fixer: Ns, normally up$'; }
get() { python3 -c 'import urllib.request as u; print(u.urlopen("http://localhost/").read())'; }
# Who runs what, without the programs under test and without this script.
people() {
	ps -eo ppid=,user:20=,args= | grep -vE ' (sh -eu|ps -eo|sort|sed|grep|timeout|sleep|runsv |runsvdir |outlast|\[)' |
		sed 's/^ *[0-9]* *//; s/--pid [0-9]*//' | sort
}
"#;

/// What is looked at once the services run.
const WORK: &str = r#"
until_true settled
states
until_true git ls-remote git://127.0.0.1/git/sample.git
until_true get
get
until_true test -S /dev/log
until_true sv check socklog-unix dbus
sv check dbus | sed 's/ [0-9]*s\b/ Ns/g'
logger -u /dev/log -t probe -p user.notice 'a word'
until_true grep -q 'a word' /var/log/runit/socklog/main/current
sed -n 's/^[^ ]* //; /a word/p' /var/log/runit/socklog/main/current | sed 's/: [A-Z][a-z][a-z] [ 0-9]*:[0-9]*:[0-9]* /: /'
until_true grep -q 'git-daemon starting' /var/log/git-daemon/current
grep -c 'git-daemon starting' /var/log/git-daemon/current
stat -c '%a %U %G %n' /var/log/git-daemon /var/log/git-daemon/current /var/log/runit/dbus /var/log/runit/dbus/current
ls -l /run/runit/supervise | awk 'NR > 1 { print $1, $3, $NF }'
# Ours keeps one more file there; see QUIRKS.md.
stat -c '%a %F %n' /run/runit/supervise/dbus/* | grep -v '/outlast$'
people
# Each line is printed when that one is done, whichever it is.
sv restart git-daemon mini-httpd | sort | sed 's/ [0-9]*s\b/ Ns/g; s/(pid [0-9]*)/(pid N)/g'
until_true git ls-remote git://127.0.0.1/git/sample.git
git ls-remote git://127.0.0.1/git/sample.git; echo "git $?"
until_true get
get
sv stop /etc/service/* | sed 's/ [0-9]*s\b/ Ns/g; s/(pid [0-9]*)/(pid N)/g' | sort
people | grep -v svlogd || :
"#;

/// `start` starts the services of /etc/service and ends with `&`.
fn script(start: &str) -> String {
    let services = SERVICES.join(" ");
    format!(
        "exec unshare --mount --net --pid --fork --kill-child --mount-proc \
         env SERVICES='{services}' sh -eu <<'SCRIPT'\n{MACHINE}\n{start}\n{WORK}\nSCRIPT\n"
    )
}

fn cannot() -> bool {
    let missing: Vec<_> = SERVICES
        .iter()
        .map(|name| format!("/etc/sv/{name}"))
        .filter(|dir| !Path::new(dir).is_dir())
        .collect();
    if !missing.is_empty() {
        println!("skipped: not installed: {}", missing.join(" "));
    }
    needs_root() || !missing.is_empty()
}

fn works(seen: &Seen) {
    assert_eq!(seen.code, Some(0), "{seen:#?}");
    assert!(!seen.stdout.contains("never: "), "{}", seen.stdout);
    assert!(seen.stdout.contains("a word"), "{}", seen.stdout);
}

#[test]
fn service_directories_of_debians_packages_run_unchanged() {
    if cannot() {
        return;
    }
    let (runit, ours) = both(&script("runsvdir -P /etc/service >/mnt/console 2>&1 &"));
    works(&ours);
    if let Some(runit) = runit {
        assert_eq!(
            runit.stdout, ours.stdout,
            "{}\n{}",
            runit.stderr, ours.stderr
        );
        assert_eq!(runit.code, ours.code);
    }
}

#[test]
fn the_same_directories_run_under_outlast_supervise() {
    if cannot() {
        return;
    }
    let start = format!(
        "'{BINARY}' supervise --socket /run/control --log-root /var/log/outlast /etc/service \
         >/mnt/console 2>&1 &"
    );
    let links = programs(Whose::Ours).expect("links");
    let seen = run(&script(&start), links);
    works(&seen);
}
