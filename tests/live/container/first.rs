//! As the first process of a container: reaping, stop signals, bounds, read-only places.

use super::ship::{Ship, Who};
use crate::live::world::{children, eventually};
use std::fs;
use std::io::Read;
use std::process::Stdio;

const TERM: i32 = 15;

/// Says so when it is told to end, and so does its finish.
const POLITE: &str = "#!/bin/sh\ntrap 'echo last line; exit 0' TERM\necho ready\n\
                      while :; do sleep 0.02; done\n";
const FINISH: &str = "#!/bin/sh\necho finished\n";

fn ships() -> impl Iterator<Item = Ship> {
    Who::ALL.into_iter().filter_map(Ship::new)
}

#[test]
fn a_thousand_orphans_leave_no_zombie() {
    for mut ship in ships() {
        let run = "#!/bin/sh\ni=0\nwhile [ $i -lt 1000 ]; do (true &); i=$((i+1)); done\n\
                   echo all away\nexec sleep 1000\n";
        ship.service("busy", &[("run", run)]);
        ship.sail("");
        ship.until_line("all away");
        // The supervisor, the scribe and the service.
        eventually("only the living are left", || {
            (children(ship.first()).len() == 3).then_some(())
        });
        ship.signal(TERM);
        assert_eq!(ship.until_ended(), Some(0), "{}", ship.said());
    }
}

#[test]
fn every_stop_signal_of_engines_stops_all_in_order_with_the_last_lines() {
    // TERM, INT, QUIT, PWR and RTMIN+3.
    for (signal, who) in [2, 3, 15, 30, 37]
        .into_iter()
        .zip(Who::ALL.into_iter().cycle())
    {
        let Some(mut ship) = Ship::new(who) else {
            continue;
        };
        ship.service("one", &[("run", POLITE), ("finish", FINISH)]);
        ship.service("two", &[("run", POLITE), ("finish", FINISH)]);
        ship.sail("");
        ship.until_line("one          | ready");
        ship.until_line("two          | ready");
        ship.signal(signal);
        assert_eq!(ship.until_ended(), Some(0), "{signal}: {}", ship.said());
        let stdout = ship.stdout();
        for name in ["one", "two"] {
            for text in ["last line", "finished"] {
                let line = format!("{name:12} | {text}\n");
                assert!(stdout.contains(&line), "{signal}: {line} {stdout}");
            }
        }
    }
}

#[test]
fn other_signals_end_nothing() {
    for mut ship in ships().take(1) {
        ship.service("one", &[("run", POLITE)]);
        ship.sail("");
        ship.until_line("ready");
        // WINCH comes with each resize of a terminal; USR1 is nobody's order to us.
        for signal in [10, 12, 28] {
            ship.signal(signal);
        }
        ship.until_said("caught SIGUSR2: it means nothing");
        ship.until_said("caught SIGUSR1: it means nothing");
        assert!(!ship.said().contains("stopping"), "{}", ship.said());
        ship.signal(TERM);
        assert_eq!(ship.until_ended(), Some(0));
    }
}

#[test]
fn a_stop_as_a_whole_is_bounded_whatever_services_do() {
    for mut ship in ships() {
        let deaf = "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 0.02; done\n";
        let patient = "[stop]\ntimeout = \"never\"\nfinish-timeout = \"never\"\n";
        ship.service(
            "deaf",
            &[("run", deaf), ("service.toml", patient), ("finish", FINISH)],
        );
        let hanging = "#!/bin/sh\necho hangs\nexec sleep 1000\n";
        ship.service(
            "hanging",
            &[
                ("run", POLITE),
                ("service.toml", patient),
                ("finish", hanging),
            ],
        );
        // It left its session, so that no scope has it, and does not hear TERM.
        let stray = "trap '' TERM; echo astray; while :; do sleep 0.02; done";
        let run = format!("#!/bin/sh\nsetsid sh -c \"{stray}\" &\nexec sleep 1000\n");
        ship.service("strays", &[("run", &run)]);
        ship.sail("--stop-timeout 3");
        for line in ["deaf         | ready", "hanging      | ready", "astray"] {
            ship.until_line(line);
        }
        ship.signal(TERM);
        let code = ship.until_ended();
        let said = ship.said();
        // 1 where even that was not enough, on a machine that is busy with others.
        assert!(matches!(code, Some(0 | 1)), "{code:?} {said}");
        assert!(said.contains("--stop-timeout is nearly over"), "{said}");
    }
}

#[test]
fn an_essential_services_code_is_the_containers() {
    for (mut ship, (ending, code)) in ships().zip([("exit 7", 7), ("kill -9 $$", 137), ("", 0)]) {
        let run =
            format!("#!/bin/sh\nwhile [ ! -e /mnt/out/end ]; do sleep 0.02; done\n{ending}\n");
        ship.service(
            "app",
            &[("run", &run), ("service.toml", "essential = true\n")],
        );
        ship.service("other", &[("run", POLITE), ("finish", FINISH)]);
        ship.sail("");
        ship.until_line("other        | ready");
        fs::write(ship.path("out/end"), "").expect("end");
        assert_eq!(ship.until_ended(), Some(code), "{}", ship.said());
        assert!(ship.stdout().contains("other        | finished"));
    }
}

/// Asks from inside, where the sockets are.
fn prober(question: &str) -> String {
    format!(
        "#!/bin/sh\nuntil /mnt/outlast {question} >/dev/null 2>&1; do sleep 0.05; done\n\
         /mnt/outlast {question}\necho \"answered $?\"\nexec sleep 1000\n"
    )
}

#[test]
fn nothing_needs_to_be_writable() {
    for mut ship in ships() {
        ship.service("one", &[("run", POLITE), ("finish", FINISH)]);
        ship.service("two", &[("run", POLITE), ("finish", FINISH)]);
        // More than a pipe holds: it would wait for ever where nobody reads for want of a log.
        let loud = "#!/bin/sh\ni=0\nwhile [ $i -lt 2000 ]; do \
                    echo 'a line of some fifty bytes, so that many are a lot'; i=$((i+1)); done\n\
                    echo >/mnt/out/through\nexec sleep 1000\n";
        ship.service("loud", &[("run", loud)]);
        ship.service("probe", &[("run", &prober("status one"))]);
        // /run cannot execute anything and is full, /var and the services cannot be written.
        ship.prepare(
            "mount -t tmpfs -o ro,noexec tmpfs /run; mount -t tmpfs -o ro tmpfs /var\n\
             mount --bind /mnt/services /mnt/services; mount -o remount,bind,ro /mnt/services",
        );
        ship.sail("");
        ship.until_line("one          | ready");
        ship.until_line("two          | ready");
        ship.until_line("probe        | answered 0");
        eventually("who writes much gets through", || {
            ship.path("out/through").exists().then_some(())
        });
        ship.signal(TERM);
        let code = ship.until_ended();
        let (stdout, said) = (ship.stdout(), ship.said());
        assert_eq!(code, Some(0), "{said}");
        assert!(stdout.contains("one          | last line"), "{stdout}");
        assert!(stdout.contains("two          | finished"), "{stdout}");
        // Once for the logs where they are out of reach, once for supervise/.
        let unseen = said.matches("sv can't see it").count();
        assert_eq!(unseen, 1, "{said}");
        assert!(
            said.matches("on standard output only").count() <= 1,
            "{said}"
        );
    }
}

#[test]
fn a_log_root_that_cannot_be_written_is_told_once_and_stdout_has_all() {
    for mut ship in ships() {
        ship.service("one", &[("run", POLITE)]);
        ship.service("two", &[("run", POLITE)]);
        // Until what it has written is there to be told.
        let probe = "#!/bin/sh\nuntil case \"$(/mnt/outlast why one 2>&1)\" in *'| ready'*) ;; \
                     *) false ;; esac; do sleep 0.05; done\n/mnt/outlast why one\n\
                     exec sleep 1000\n";
        ship.service("probe", &[("run", probe)]);
        ship.prepare("mkdir /tmp/log; mount -t tmpfs -o ro tmpfs /tmp/log");
        ship.sail("--log-root /tmp/log");
        ship.until_line("one          | ready");
        ship.until_line("two          | ready");
        ship.until_said("on standard output only");
        // What it wrote can be seen all the same.
        ship.until_line("probe        | Its last lines");
        ship.until_line("probe        |   | ready");
        ship.signal(TERM);
        assert_eq!(ship.until_ended(), Some(0));
        let said = ship.said();
        let told = said.matches("on standard output only").count();
        assert_eq!(told, 1, "{said}");
        assert!(ship.stdout().contains("one          | last line"));
        assert!(ship.stdout().contains("two          | last line"));
    }
}

#[test]
fn a_low_limit_of_descriptors_and_proc_that_cannot_be_written_are_enough() {
    for mut ship in ships() {
        for n in 0..6 {
            ship.service(&format!("s{n}"), &[("run", POLITE)]);
        }
        ship.service("probe", &[("run", &prober("check --all"))]);
        ship.prepare("ulimit -n 64; mount -o remount,bind,ro /proc || true");
        ship.sail("");
        ship.until_line("probe        | answered 0");
        ship.signal(TERM);
        assert_eq!(ship.until_ended(), Some(0), "{}", ship.said());
    }
}

#[test]
fn as_json_every_line_of_many_writers_is_an_object_of_its_own() {
    const LINES: usize = 300;
    let Some(mut ship) = ships().next() else {
        return;
    };
    let run = format!(
        "#!/bin/sh\ni=0\nwhile [ $i -lt {LINES} ]; do echo \"line $i \\\"of many\\\"\"; \
         i=$((i+1)); done\necho complete\nexec sleep 1000\n"
    );
    for name in ["a", "b", "c", "d"] {
        ship.service(name, &[("run", &run)]);
    }
    ship.sail("--log-format json");
    eventually("all are complete", || {
        (ship.stdout().matches("complete").count() == 4).then_some(())
    });
    ship.signal(TERM);
    assert_eq!(ship.until_ended(), Some(0));
    let (stdout, said) = (ship.stdout(), ship.said());
    let mut counted = 0;
    for line in stdout.lines() {
        let told: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_eq!(told["stream"], "output", "{line}");
        assert!(
            told["time"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
        let text = told["text"].as_str().expect("a text");
        counted += usize::from(text.ends_with("\"of many\""));
    }
    assert_eq!(counted, 4 * LINES);
    for line in said.lines() {
        let told: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_eq!(told["stream"], "supervisor", "{line}");
    }
}

#[test]
fn standard_output_that_nobody_reads_holds_no_service_up() {
    let Some(mut ship) = ships().next() else {
        return;
    };
    let run = "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x | fold -w 99\n\
               echo >/mnt/out/through\nexec sleep 1000\n";
    ship.service("loud", &[("run", run)]);
    ship.prepare("mkdir /tmp/log; mount -t tmpfs -o ro tmpfs /tmp/log");
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    ship.sail_into("--log-root /tmp/log", Some(Stdio::from(writer)));
    eventually("it gets through", || {
        ship.path("out/through").exists().then_some(())
    });
    ship.signal(TERM);
    let mut all = String::new();
    let mut reader = fs::File::from(reader);
    reader.read_to_string(&mut all).expect("the rest");
    assert_eq!(ship.until_ended(), Some(0));
    assert!(all.contains("left out here"), "{} bytes", all.len());
}
