//! Each line of the config file.

use super::same;

#[test]
fn sizes_and_how_many_are_kept() {
    for config in [
        r"s0",
        r"s",
        r"s2000\ns\n",
        r"s2000\nn1\nn\n",
        r"s1000\nn0",
        r"s999\nn0",
        r"s1001\nn0",
        r"s2000\nn0",
        r"s2k\nn3",
        r"s2000x\nn2\nn",
        r"s3000\nn1",
        r"# s1\nxyz\n\ns2000",
        r"s500\nn0\n-*\n+1*",
    ] {
        same(&format!(
            r#"mkdir d; printf '{config}' > d/config; seq -f %09g 500 | svlogd -v d 2>&1 | tidy; all d"#
        ));
    }
}

#[test]
fn a_line_is_split_where_the_size_ends() {
    same(
        r#"mkdir d; printf 's2000\nn0\n' > d/config
           for n in 900 1200 2100 5000 3 990; do head -c $n /dev/zero | tr '\0' a; echo; done |
               svlogd -tt d; all d"#,
    );
}

#[test]
fn an_existing_directory_keeps_what_the_rules_say() {
    same(
        r#"mkdir d; printf 's2000\nn2\n' > d/config
           for n in 1 2 3 4 5; do echo old > d/@40000000000010000000000$n.s; done
           echo u > d/@400000000000100000000001.u; echo t > d/@400000000000100000000001.t
           echo x > d/@4000.s; seq -f %09g 200 | svlogd d; all d; ls d | tidy
           # Several modes under what is one name once the stamps are put in a common way.
           rm d/@*.s"#,
    );
}

#[test]
fn prefix_and_patterns() {
    for config in [
        r"ppre: ",
        r"pa\npb",
        r"pa\np",
        r"pa\np\n",
        r"p",
        r"-*\n+",
        r"-*\n+\n",
        r"-\n",
        r"e\n",
        r"-*\n+a*",
        r"-",
        r"+",
        r"-+a",
        r"-*b",
        r"-a*c*",
        r"-*\n+*b\n-xb",
        r"eb*\nppre ",
        r"e*\nEa*\n-*",
        r"-a\npx",
        r"-*x*",
    ] {
        same(&format!(
            r#"mkdir d; printf '{config}' > d/config
               printf 'a\nab\n\nabc\nxb\nb\nbxb\naaa\nxaxcx\n' | svlogd -tt -l 10 d 2> err
               tidy < err; all d; rm err"#
        ));
    }
}

#[test]
fn lines_for_standard_error_are_cut() {
    same(
        r#"mkdir d; printf 'e*\npP:\n' > d/config
           printf '12345\n123456\n1234567\n12345678901234567890\nend\n' | svlogd -t -l 6 -b 9 d 2>&1 | tidy
           all d"#,
    );
}

#[test]
fn a_processor_has_input_output_and_state() {
    same(
        r#"mkdir d; printf 's2000\nn2\n!tr 0 _; cat <&4 >> seen; date +%%Y >&5; pwd | sed "s,.*/,," >> seen\n' > d/config
           seq -f %09g 500 | svlogd -v d > out 2>&1; echo $?; tidy < out | sort; all d; cat d/seen; wc -l < d/state; rm out"#,
    );
}

#[test]
fn a_rotation_waits_for_the_processor_of_the_one_before() {
    let seen = same(
        r#"mkdir d; mkfifo in; printf 's2000\nn4\n!while ! [ -e ../go ]; do sleep 0.03; done; cat\n' > d/config
           svlogd d < in & p=$!; exec 3> in; seq -f %09g 9999 >&3 & feeder=$!
           await '[ -e d/@*.u ] && [ $(stat -c %s d/current) = 1000 ]'
           ls d | grep -c '\.u$'; : > go; wait $feeder; exec 3>&-; wait $p; echo $?; rm in go; all d"#,
    );
    assert!(seen.stdout.starts_with("1\n0\n"), "{}", seen.stdout);
}

#[test]
fn addresses_that_are_none_are_told() {
    for line in [
        "u1.2.x",
        "u127.0.0.1:0",
        "Ux127.0.0.1",
        "U",
        "U127.0.0.1:",
        "u127.0.0.1:70000x",
        "u1.2.3.4.5",
    ] {
        same(&format!(
            "mkdir d; echo '{line}' > d/config; echo hi | svlogd -v d 2>&1 | tidy; all d"
        ));
    }
}

#[test]
fn lines_that_cannot_be_sent_are_told_in_current() {
    for key in ["u", "U"] {
        same(&format!(
            r#"mkdir d; printf '{key}255.255.255.255\npPP:\n-x*\n' > d/config
               printf 'l1\nx\nl2345678901\n123456\n' | svlogd -tt -l 6 -b 9 d 2>&1; all d"#
        ));
    }
}

#[test]
fn lines_are_sent_to_a_listener() {
    let listener = r#"import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); s.settimeout(60)
open("port", "w").write(str(s.getsockname()[1]) + "\n")
for n in range(4): sys.stdout.write(repr(s.recv(2000)) + "\n")
"#;
    for key in ["u", "U"] {
        same(&format!(
            r#"command -v python3 > /dev/null || exit 0
               cat > listen.py << 'END'
{listener}END
               python3 listen.py > heard & await '[ -s port ]'; mkdir d
               printf "{key}127.0.0.1:$(cat port)\npPP:\n-x*\n" > d/config; rm port
               printf 'l1\nx\nl2345678901\n\n123456\n' | svlogd -tt -l 6 -b 9 d 2>&1
               wait; tidy < heard; rm heard; all d"#
        ));
    }
}

#[test]
fn a_config_that_cannot_be_read_is_told() {
    same("mkdir -p d/config; echo a | svlogd d 2>&1; all d");
}

#[test]
fn the_age_of_a_log_runs_on_whatever_rotates_it() {
    same(
        r#"exec 2>&1; mkdir d; echo t3 > d/config; mkfifo in; svlogd d < in & exec 3> in
           echo one >&3; await '[ -s d/current ]'; kill -ALRM $!; await '[ -e d/@*.s ]'
           echo two >&3; await '[ $(ls d | grep -c @) = 2 ]'; exec 3>&-; wait $!; all d"#,
    );
}

#[test]
fn on_a_full_disk_old_files_go_and_then_svlogd_waits() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    same(
        r#"exec 2>&1; mkdir d; mount -t tmpfs -o size=64k none d || exit 0
           trap 'umount d' EXIT
           printf 's16384\nn9\nN1\n' > d/config; mkfifo in; : > err; svlogd d < in 2>> err & p=$!
           exec 3> in; seq -f %099g 1600 >&3 & feeder=$!
           await 'grep -q delete: err'; wait $feeder; exec 3>&-; wait $p; echo $?
           tail -n 1 d/current; sed -e 's/@[0-9a-f]*/@STAMP/' err | sort -u; rm err in"#,
    );
    same(
        r#"exec 2>&1; mkdir d; mount -t tmpfs -o size=64k none d || exit 0
           trap 'umount d' EXIT
           echo s0 > d/config; head -c 40000 /dev/zero > d/fill; mkfifo in; : > err; svlogd d < in 2>> err & p=$!
           exec 3> in; seq -f %099g 400 >&3 & feeder=$!
           await 'grep -q pausing: err'; rm d/fill; wait $feeder; exec 3>&-; wait $p; echo $?
           seq -f %099g 400 | cmp - d/current; sort -u err; rm err in"#,
    );
}
