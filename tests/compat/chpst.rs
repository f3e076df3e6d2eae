//! chpst and its daemontools names beside runit's.

use super::twin::{both, twin};
use crate::live::world::BINARY;
use nix::unistd::geteuid;
use std::process::Command;

/// `t COMMAND...` shows the command, its code and what it printed, less what QUIRKS.md excepts.
const TRY: &str = r#"
t() {
    printed=$("$@" 2>&1); code=$?
    printf '%s -> %s\n%s\n' "$*" $code "$printed" |
        sed 's/\[-C pwd\] //; s,programs-of-[a-z]*,programs,g'
}
"#;

fn tried(script: &str) -> String {
    twin(&format!("{TRY}{script}")).stdout
}

fn root() -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// Whether an ordinary user could run the program that is tested.
fn within_reach_of_others() -> bool {
    let asked = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["test", "-x", BINARY])
        .status();
    let within = asked.is_ok_and(|status| status.success());
    if !within {
        println!("skipped: needs setpriv, and the build where other users may enter");
    }
    within
}

#[test]
fn usage_and_complaints_are_runits_under_every_name() {
    let seen = tried(
        r#"
        for name in chpst envdir envuidgid setuidgid softlimit setlock pgrphack; do
            t $name
            for link in d$name web dweb; do
                ln -sf "$(command -v $name)" $link
            done
            t ./d$name
            t ./d$name -q
        done
        # Behind a name that is none of the others' it is chpst.
        ln -sf "$(command -v chpst)" web; ln -sf web dweb
        t ./web; t ./dweb; t ./dweb -q
        t chpst -Z true; t chpst -u; t chpst -vZ true; t chpst -v- true; t chpst -l
        t chpst -l a -L b true; t chpst -L a -L b true
        t softlimit -o; t softlimit -o =5 true; t softlimit -o x true; t softlimit -q true
        t setlock f; t setlock -nq f true; t envdir d; t setuidgid root
        "#,
    );
    assert!(seen.contains("usage: envdir dir child"), "{seen}");
    assert!(seen.contains("dsoftlimit: illegal option -- q"), "{seen}");
}

#[test]
fn the_version_is_a_line_before_the_usage_on_stderr() {
    let (runit, ours) = both("chpst -V true");
    assert_eq!((ours.code, ours.stdout.as_str()), (Some(100), ""));
    let rest = |text: &str| text.split_once('\n').expect("a line").1.to_owned();
    assert!(rest(&ours.stderr).starts_with("usage: chpst ["));
    if let Some(runit) = runit {
        assert_eq!((runit.code, runit.stdout.as_str()), (Some(100), ""));
        assert_eq!(
            rest(&runit.stderr),
            rest(&ours.stderr).replace("[-C pwd] ", "")
        );
    }
}

/// QUIRKS.md: Debian's runit is older than this option.
#[test]
fn c_enters_a_directory_behind_the_change_of_root() {
    let (runit, ours) =
        both("mkdir a; chpst -C a pwd; chpst -C nosuch pwd; chpst -C a -e . -/ / pwd; chpst -C");
    if let Some(runit) = runit {
        assert!(runit.stderr.contains("illegal option -- C"));
    }
    assert!(ours.stdout.starts_with("$HERE/a\n"), "{ours:?}");
    let unable = "chpst: fatal: unable to change directory: nosuch: file does not exist\n";
    assert!(ours.stderr.starts_with(unable), "{ours:?}");
    assert!(ours.stderr.contains("[-/ root] [-C pwd] [-n nice]"));
}

#[test]
fn options_end_at_the_program_or_behind_two_dashes() {
    tried(
        "t chpst -- echo -v; t chpst -v -- echo a; t chpst --anything echo b; t chpst -vP echo -u c
        t chpst - true; t chpst ''; t chpst -b; t chpst -bname -- sh -c 'echo $0'",
    );
}

#[test]
fn numbers_are_read_as_runit_reads_them() {
    tried(
        r#"
        for n in '' 5 +5 5x ' 5' + - x 19 25 4294967296 4294967301 18446744073709551621; do
            t chpst -n "$n" nice
        done
        ulimit -Sn 90
        for n in 80 '' +5 -5 5x 00070 9223372036854775807 9223372036854775808 \
            18446744073709551614 18446744073709551615 18446744073709551696; do
            t chpst -o "$n" sh -c 'ulimit -Sn'
        done
        "#,
    );
}

#[test]
fn limits_are_soft_and_clipped_to_the_hard_ones() {
    let seen = tried(
        r#"
        ulimit -Sn 400; ulimit -Hn 500
        t chpst -o 600 sh -c 'ulimit -Sn; ulimit -Hn'
        t softlimit -o = sh -c 'ulimit -Sn'
        t chpst -m 300000000 sh -c 'ulimit -aS'
        t chpst -m 300000000 -d 250000000 -f 51200 -c 1024 -p 3000 -t 70 -r 90000 sh -c 'ulimit -aS'
        t chpst -d 250000000 -m 300000000 sh -c 'ulimit -dS'
        t softlimit -a 300000000 -s 2000000 -l 4096 -d 250000000 -f 51200 -c 0 -p 3000 -t 70 \
            -r 90000 sh -c 'ulimit -aS'
        t softlimit -m 300000000 sh -c 'ulimit -aS'
        t softlimit sh -c 'ulimit -Sn'
        "#,
    );
    assert!(seen.contains("\n500\n500\n"), "{seen}");
}

#[test]
fn an_environment_directory_sets_and_unsets_by_first_lines() {
    let seen = tried(
        r#"
        mkdir e
        printf 'a b \t\nsecond' >e/A; : >e/B; printf '\n' >e/C; printf ' \t ' >e/D
        printf 'x\0y \0' >e/N; printf 'v' >e/P=Q; : >e/R=S; echo no >e/.hidden
        printf '\377' >"$(printf 'e/\376')"; mkfifo e/FIFO; echo sub >e/PATH
        mkdir sub; printf '#!/bin/sh\necho found by the new PATH' >sub/prog; chmod +x sub/prog
        show='env -i A=old B=old C=old F=f FIFO=old PATH=/usr/bin:/bin'
        for way in "$(command -v chpst) -e" "$(command -v envdir)"; do
            t $show $way e /usr/bin/env | sort
            t $show $way e prog
            mkdir e/dir; t $show $way e /usr/bin/env | sort; rmdir e/dir
            t $way nosuch true; t $way sub/prog true; t $way '' true
        done
        mkdir e/dir; t chpst -v -e e -e sub true; t chpst -v -e sub -e e sh -c 'echo $A'
        mkdir gone; ln -s nowhere gone/X; t env X=1 chpst -e gone sh -c 'echo [$X]'
        "#,
    );
    assert!(seen.contains("warning: unable to read e/dir: is a directory"));
    assert!(seen.contains("fatal: unable to read e/dir: is a directory"));
    assert!(!seen.contains("found by the new PATH"), "{seen}");
}

#[test]
fn the_order_of_variables_is_runits() {
    tried(
        "mkdir e; echo 5 >e/A
        t env -i A=1 B=2 C=3 $(command -v chpst) -e e /usr/bin/env
        t env -i UID=x B=2 GID=y C=3 $(command -v chpst) -U root /usr/bin/env",
    );
}

#[test]
fn user_and_group_may_be_put_into_the_environment_alone() {
    tried(
        r#"
        for user in root root:daemon:adm :5:6:7 :5: : :5 :x :1:2x nosuch root:nosuch root: '' 0 \
            :4294967296:4294967297 "$(printf 'r\377')"; do
            t env -i $(command -v chpst) -U "$user" /usr/bin/env
            t env -i $(command -v envuidgid) "$user" /usr/bin/env
        done
        "#,
    );
}

#[test]
fn u_sets_user_and_exactly_the_named_groups() {
    if !root() {
        return;
    }
    let seen = tried(
        r#"
        ids='grep -E ^(Uid|Gid|Groups): /proc/self/status'
        groups() { i=0; while [ $i -lt $2 ]; do printf ':%s' $1; i=$((i+1)); done; }
        for user in daemon daemon:bin daemon:bin:adm:bin daemon:adm:bin :1:2 :1:2:4:3 :1: :: \
            nosuch daemon:nosuch nosuch:bin daemon: :daemon :1 :1:2x 1 '' \
            :4294967295:1 :1:4294967295 :1:4294967298; do
            t chpst -u "$user" $ids
            t setuidgid "$user" $ids
        done
        t chpst -udaemon $ids
        t chpst -u daemon -U bin -- sh -c 'echo $UID $GID; id -u'
        for count in 59 60 61; do
            t chpst -u daemon$(groups bin $count) $ids
            t chpst -u daemon$(groups bin $count):nosuch $ids
            t chpst -u :1$(groups 2 $count) $ids
            t chpst -u :1$(groups 2 $count): $ids
        done
        "#,
    );
    assert!(seen.contains("chpst: fatal: unknown user/group: daemon:nosuch"));
    assert!(seen.contains("chpst: fatal: invalid uid/gids: 1:2x"));
}

#[test]
fn users_and_the_lock_belong_inside_the_new_root() {
    if !root() {
        return;
    }
    let seen = tried(
        r#"
        mkdir -p jail/etc bare; chmod 777 jail
        echo 'alice:x:77:88::/:' >jail/etc/passwd; echo 'staff:x:99:' >jail/etc/group
        t chpst -/ jail -u alice:staff -l /lock /nosuch
        stat -c '%n %a %u %g' jail/lock
        t chpst -/ jail -u daemon /nosuch; t chpst -/ jail -U alice:nosuch /nosuch
        t chpst -/ bare -u alice /nosuch; t chpst -/ nosuch true; t chpst -/ / pwd
        rm jail/etc/group; t chpst -/ jail -u alice:staff /nosuch
        mkdir e; echo out >e/WHERE; t chpst -/ jail -e e /nosuch
        "#,
    );
    assert!(seen.contains("jail/lock 600 77 99\n"), "{seen}");
}

#[test]
fn a_lock_is_made_0600_never_cut_and_stays_with_the_program() {
    tried(
        r#"
        umask 0; echo kept >full
        show='ls /proc/self/fd/3 /proc/self/fd/4'
        t chpst -l lock sh -c 'readlink /proc/$$/fd/3 | sed s,.*/,,; [ -e /proc/$$/fd/4 ]; echo $?'
        t chpst -l full cat full
        t chpst -l lock chpst -L lock true; t chpst -L lock setlock lock true
        t chpst -l lock setlock -N lock true; t chpst -l lock setlock -nN lock true
        t chpst -l lock setlock -x lock true; t chpst -l lock setlock -xX lock true
        t setlock -n lock echo got; t setlock -x lock nosuch; t setlock lock nosuch
        t setlock -x nosuch/lock true
        mkfifo fifo
        for file in nosuch/lock '' . fifo; do
            t chpst -L "$file" true; t setlock "$file" true
        done
        "#,
    );
}

#[test]
fn l_waits_for_the_lock() {
    let seen = twin(
        "mkfifo ready
        chpst -l lock sh -c 'echo >ready; cat ready; : >done' &
        read _ <ready
        chpst -l lock ls done >second &
        setlock -n lock ls done >third &
        echo >ready
        wait
        cat second third",
    );
    assert_eq!(seen.stdout, "\ndone\ndone\n", "{seen:?}");
}

#[test]
fn descriptors_are_closed_and_not_replaced() {
    twin(
        "fds='for fd in 0 1 2; do [ -e /proc/$$/fd/$fd ]; echo $? >>seen; done'
        chpst -0 sh -c \"$fds\"; chpst -1 sh -c \"$fds\"; chpst -2 sh -c \"$fds\"
        chpst -012 sh -c \"$fds\"; chpst -0 -0 true; echo $?
        chpst -0 chpst -0 true; echo $?; chpst -0 chpst sh -c \"$fds\"
        chpst -2 nosuch; echo $?; chpst -0 nosuch; echo $?; cat seen",
    );
}

/// Rust's start-up code opens /dev/null there, and ignores SIGPIPE.
#[test]
fn what_was_closed_or_ignored_at_the_start_still_is_for_the_program() {
    let seen = twin(
        "chpst true <&-; echo $?
        chpst sh -c '[ -e /proc/$$/fd/0 ]; echo $?' <&-
        chpst -l lock sh -c 'readlink /proc/$$/fd/0 | sed s,.*/,,' <&-
        chpst sh -c 'kill -s PIPE $$; echo survived'; echo $?
        (trap '' PIPE; chpst sh -c 'kill -s PIPE $$; echo survived'; echo $?)
        (trap '' CHLD; chpst -u nosuch true)",
    );
    assert_eq!(seen.stdout, "0\n1\nlock\n141\nsurvived\n0\n", "{seen:?}");
}

#[test]
fn p_makes_a_session_and_takes_a_leaders_refusal_for_done() {
    let leads = r#"read -r _ _ _ _ group session _ </proc/$$/stat; [ $session = $$ ]; echo $?"#;
    twin(&format!(
        "chpst -P sh -c '{leads}'; pgrphack sh -c '{leads}'; chpst sh -c '{leads}'
        setsid -w chpst -P sh -c '{leads}'; chpst -P -P pgrphack sh -c '{leads}'"
    ));
}

#[test]
fn programs_are_searched_on_the_old_path_with_runits_rules() {
    tried(
        r#"
        mkdir -p a/dir b c; printf '#!/bin/sh\necho b\n' >b/prog; chmod +x b/prog
        printf 'echo no first line\n' >c/text; chmod +x c/text; : >a/prog; : >a/plain
        chpst=$(command -v chpst)
        for path in a:b b: : '' nosuch:b a a/plain:b c; do
            t env -i PATH="$path" $chpst prog; t env -i PATH="$path" $chpst dir
            t env -i PATH="$path" $chpst text; t env -i PATH="$path" $chpst plain
        done
        cp b/prog .; t env -i PATH= $chpst prog; t env -i $chpst true
        t chpst ./prog; t chpst b/nosuch; t chpst a/plain; t chpst a; t chpst ''; t chpst c/text
        t chpst -b name nosuch; t chpst -b '' nosuch; t chpst -b name sh -c 'echo $0'
        t chpst -b "$(printf '\377')" nosuch; t chpst "$(printf 'x\376')"
        "#,
    );
}

#[test]
fn a_step_that_fails_never_leads_to_the_program() {
    let seen = tried(
        "ran='touch ran'; mkdir e; mkdir e/dir
        t chpst -e nosuch $ran; t envdir e $ran; t chpst -/ nosuch $ran; t chpst -U nosuch $ran
        t chpst -u nosuch $ran; t chpst -u :x $ran; t setuidgid nosuch $ran; t envuidgid no $ran
        t chpst -l nosuch/l $ran; t chpst -0 chpst -0 $ran; t chpst -n 5x $ran; t chpst -o x $ran
        t setlock -x nosuch/l $ran; ls",
    );
    assert!(seen.ends_with("\ne\n"), "{seen}");
}

#[test]
fn an_ordinary_user_is_refused_what_only_root_may() {
    if !root() || !within_reach_of_others() {
        return;
    }
    let seen = tried(
        r#"
        chmod 755 .; mkdir e; echo v >e/A; mkdir secret; echo v >secret/A; chmod 700 secret
        touch theirs; echo x >e/B; chmod 600 e/B; mkdir listless; chmod 711 listless
        as='setpriv --reuid=65534 --regid=65534 --clear-groups'
        t $as chpst -u nobody touch ran; t $as chpst -u :65534:65534 touch ran
        t $as setuidgid nobody touch ran; t $as chpst -n -5 touch ran; t $as chpst -n 5 nice
        t $as chpst -/ . touch ran; t $as chpst -l lock touch ran; t $as chpst -l theirs touch ran
        t $as chpst -e secret touch ran; t $as chpst -e e touch ran; t $as chpst -e listless true
        t $as chpst -U root sh -c 'echo $UID $GID'; t $as chpst -P true; t $as chpst -o 50 true
        t $as sh -c 'ulimit -Hn 60; chpst -o 100 sh -c "ulimit -n"'
        cd secret; t $as chpst -e /etc/nosuch true; t $as chpst -e .. true
        "#,
    );
    assert!(seen.contains("unable to setgroups: permission denied"));
    assert!(!seen.contains("\nran"), "{seen}");
}

#[test]
fn the_calls_of_real_run_scripts_work() {
    if !root() {
        return;
    }
    tried(
        r#"
        mkdir env; echo 10 >env/LIMIT
        t chpst -udaemon -- id -u; t chpst -U daemon -u daemon sh -c 'echo $UID $GID'
        t sh -c 'exec 2>&1; exec chpst -e ./env -P -u daemon:adm -o 100 -d 300000000 sh -c "ulimit -n; id -G; echo \$LIMIT"'
        t chpst -b daemon-name sh -c 'echo $0'; t chpst -e "$PWD/env" sh -c 'echo $LIMIT'
        t chpst -P -u daemon -U daemon true; t chpst -n 10 -m 400000000 nice
        t envdir ./env setuidgid daemon softlimit -o 77 sh -c 'echo $LIMIT; id -un; ulimit -n'
        "#,
    );
}
