//! Whole commands against a fake supervisor: what is asked, what is printed, the exit code.

use super::super::fake::{self, Fake, React, down, failed, last_exit, reached, refusal, service};
use super::super::screen::Look;
use super::*;

/// Exit code, stdout, stderr.
type Said = (Exit, String, String);

fn order(server: &Fake, verb: &str, names: &[&str]) -> Order {
    let names = names.iter().map(|name| name.to_string()).collect();
    Order {
        socket: Some(server.path.clone()),
        ..Order::new(named(verb).expect("a verb"), names)
    }
}

fn said(order: &Order) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen {
        out: &mut out,
        err: &mut err,
        look: Look::default(),
    };
    let exit = carry_out(order, &mut screen).expect("printed");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (exit, text(out), text(err))
}

fn run(server: &Fake, verb: &str, names: &[&str]) -> Said {
    said(&order(server, verb, names))
}

/// A supervisor that knows these services and nothing else.
fn knowing(services: Vec<Service>) -> Fake {
    Fake::answering(move |_| React::Answer(services.clone()))
}

#[test]
fn a_command_asks_for_what_the_command_line_says() {
    let server = knowing(vec![service("web")]);
    let timeout = Some(Duration::from_millis(1500));
    said(&Order {
        wait: false,
        timeout,
        ..order(&server, "restart", &["web", "db-*"])
    });
    said(&Order {
        lines: Some(30),
        ..order(&server, "why", &["web"])
    });
    let requests = server.requests();
    let restart = Request {
        id: 1,
        wait: false,
        timeout_ms: Some(1500),
        ..fake::request(Verb::Restart, &["web", "db-*"])
    };
    assert_eq!(requests[0], restart);
    assert_eq!((requests[1].verb, requests[1].lines), (Verb::Why, Some(30)));
}

#[test]
fn success_is_a_line_for_each_service_and_code_zero() {
    let server = knowing(vec![
        Service {
            outcome: reached(),
            ..service("a")
        },
        Service {
            outcome: reached(),
            ..service("b")
        },
    ]);
    let (exit, out, err) = run(&server, "start", &["*"]);
    assert_eq!(out, "a: up (pid 123, 0.004 s)\nb: up (pid 123, 0.004 s)\n");
    assert_eq!((exit, err.as_str()), (Exit::Success, ""));
}

#[test]
fn one_failure_among_successes_is_told_on_stderr_and_makes_code_one() {
    let server = knowing(vec![
        Service {
            outcome: reached(),
            ..service("a")
        },
        Service {
            outcome: failed("timed-out", "b: still stopping after 10 s"),
            ..service("b")
        },
    ]);
    let (exit, out, err) = run(&server, "stop", &["a", "b"]);
    assert_eq!(exit, Exit::NotReached);
    assert!(out.starts_with("a: "), "{out}");
    assert_eq!(err, "b: still stopping after 10 s; see: outlast why b\n");
}

#[test]
fn the_exit_code_tells_the_kind_of_failure() {
    let code = |code: &'static str| {
        let request_level = Fake::answering(move |_| React::Respond(refusal(code, "no")));
        let service_level = knowing(vec![Service {
            outcome: failed(code, "no"),
            ..down("a")
        }]);
        let (exit, ..) = run(&request_level, "start", &["a"]);
        assert_eq!(run(&service_level, "start", &["a"]).0, exit, "{code}");
        exit
    };
    assert_eq!(code("no-such-service"), Exit::NoSuchService);
    assert_eq!(code("not-allowed"), Exit::NotAllowed);
    assert_eq!(code("bad-request"), Exit::Usage);
    assert_eq!(code("too-long"), Exit::Usage);
    assert_eq!(code("overruled"), Exit::NotReached);
    assert_eq!(code("a-code-of-the-future"), Exit::NotReached);
}

#[test]
fn commands_without_the_names_they_need_never_reach_the_supervisor() {
    let server = knowing(Vec::new());
    for row in super::super::verbs::ROWS
        .iter()
        .filter(|row| row.names == Names::Required)
    {
        let (exit, _, err) = run(&server, row.name, &[]);
        assert_eq!(exit, Exit::Usage);
        assert!(err.contains("outlast list") && err.contains("'*'"), "{err}");
    }
    let (exit, _, err) = run(&server, "shutdown", &["web"]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("outlast stop web"), "{err}");
    assert!(server.requests().is_empty());
}

#[test]
fn status_of_named_services_exits_three_when_one_is_not_up() {
    let server = knowing(vec![service("web"), down("db")]);
    let (exit, out, _) = run(&server, "status", &["web", "db"]);
    assert_eq!(exit, Exit::NotUp);
    assert!(out.starts_with("NAME"), "{out}");
    assert_eq!(run(&server, "status", &[]).0, Exit::Success);
    assert_eq!(
        run(&knowing(vec![service("web")]), "status", &["web"]).0,
        Exit::Success
    );
}

#[test]
fn status_without_any_service_says_so() {
    let (exit, out, err) = run(&knowing(Vec::new()), "status", &[]);
    assert_eq!((exit, out.as_str()), (Exit::Success, ""));
    assert!(err.contains("no services yet"), "{err}");
}

#[test]
fn list_prints_names_that_a_script_can_read() {
    let server = knowing(vec![service("a"), service("b/log"), service("c\nd")]);
    assert_eq!(run(&server, "list", &[]).1, "a\nb/log\nc\\nd\n");
}

#[test]
fn json_is_the_same_array_for_every_command() {
    let server = knowing(vec![Service {
        outcome: failed("ended", "web: ended"),
        ..down("web")
    }]);
    for verb in ["status", "list", "why", "start", "check"] {
        let (_, out, _) = said(&Order {
            json: true,
            ..order(&server, verb, &["web"])
        });
        let parsed: serde_json::Value = serde_json::from_str(&out).expect(verb);
        assert_eq!(parsed[0]["outcome"]["trouble"]["code"], "ended", "{verb}");
    }
    let (exit, _, err) = said(&Order {
        json: true,
        ..order(&server, "start", &["web"])
    });
    assert_eq!(
        (exit, err.as_str()),
        (Exit::NotReached, "web: ended; see: outlast why web\n")
    );
}

#[test]
fn check_passes_only_what_is_up_and_ready() {
    let ready = || service("web");
    let unready = || Service {
        ready: false,
        ..service("slow")
    };
    assert_eq!(
        run(&knowing(vec![ready()]), "check", &["web"]).0,
        Exit::Success
    );
    let (exit, _, err) = run(&knowing(vec![ready(), unready()]), "check", &[]);
    assert_eq!(exit, Exit::NotReached);
    assert!(
        err.contains("slow: not up and ready: up, not ready yet"),
        "{err}"
    );
    let (exit, _, err) = run(&knowing(vec![down("db")]), "check", &["db"]);
    assert_eq!(exit, Exit::NotReached);
    assert!(err.contains("db: not up and ready: stopped"), "{err}");
    let told = Service {
        outcome: failed("not-ready", "web: ./check says 1"),
        ..service("web")
    };
    assert_eq!(
        run(&knowing(vec![told]), "check", &["web"]).0,
        Exit::NotReached
    );
}

#[test]
fn check_of_all_passes_over_what_is_not_wanted_up() {
    assert_eq!(
        run(&knowing(vec![service("web"), down("spare")]), "check", &[]).0,
        Exit::Success
    );
}

#[test]
fn a_wrong_name_is_answered_with_the_nearest_right_one() {
    let server = Fake::answering(|request| match request.verb {
        Verb::List => React::Answer(vec![service("mail"), service("website"), service("db")]),
        _ => React::Respond(refusal("no-such-service", "webiste: no such service")),
    });
    let (exit, _, err) = run(&server, "restart", &["webiste"]);
    assert_eq!(exit, Exit::NoSuchService);
    assert_eq!(
        err,
        "outlast: webiste: no such service\noutlast: did you mean 'website'?\n"
    );
    let (_, _, err) = run(&server, "restart", &["zzz"]);
    assert!(!err.contains("did you mean"), "{err}");
}

#[test]
fn a_suggestion_of_the_supervisor_is_not_made_twice() {
    let server = Fake::answering(|request| match request.verb {
        Verb::List => React::Answer(vec![service("website")]),
        _ => React::Respond(refusal("no-such-service", "no such; did you mean website?")),
    });
    let (_, _, err) = run(&server, "restart", &["webiste"]);
    assert_eq!(err, "outlast: no such; did you mean website?\n");
}

#[test]
fn a_lost_answer_leaves_the_outcome_unknown_and_says_how_to_look() {
    let server = Fake::answering(|_| React::HangUp);
    let (exit, out, err) = run(&server, "restart", &["web", "db"]);
    assert_eq!((exit, out.as_str()), (Exit::NoSupervisor, ""));
    assert!(
        err.contains("whether 'restart web db' was carried out is unknown"),
        "{err}"
    );
    assert!(err.ends_with("look: outlast status web db\n"), "{err}");
    let restarts = server.requests().into_iter();
    let restarts = restarts.filter(|request| request.verb == Verb::Restart);
    assert_eq!(
        restarts.count(),
        1,
        "a second restart would be one too many"
    );
    let (_, _, err) = run(&server, "status", &[]);
    assert!(err.contains("nothing was changed"), "{err}");
}

#[test]
fn what_can_be_asked_twice_is_asked_of_the_successor() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let server =
        Fake::answering(
            move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => React::HangUp,
                _ => React::Answer(vec![service("web")]),
            },
        );
    let (exit, _, err) = run(&server, "stop", &["web"]);
    assert_eq!((exit, err.as_str()), (Exit::Success, ""));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_lost_restart_is_told_with_the_state_that_the_successor_knows() {
    let server = Fake::answering(|request| match request.verb {
        Verb::Restart => React::HangUp,
        _ => React::Answer(vec![service("web")]),
    });
    let (exit, out, err) = run(&server, "restart", &["web"]);
    assert_eq!((exit, out.as_str()), (Exit::NoSupervisor, ""));
    assert!(err.contains("the next supervisor says:\n"), "{err}");
    assert!(err.lines().any(|line| line.starts_with("web ")), "{err}");
}

#[test]
fn no_supervisor_is_code_five() {
    let dir = tempfile::tempdir().expect("tempdir");
    let nobody = Order {
        socket: Some(dir.path().join("control")),
        ..Order::new(named("status").expect("a verb"), Vec::new())
    };
    let (exit, _, err) = said(&nobody);
    assert_eq!(exit, Exit::NoSupervisor);
    assert!(
        err.starts_with("outlast: no supervisor answers at /"),
        "{err}"
    );
    assert!(
        err.contains("start one with 'outlast supervise DIR'"),
        "{err}"
    );
}

#[test]
fn reload_and_shutdown_speak_of_the_supervisor() {
    let server = knowing(vec![service("a"), service("b")]);
    assert_eq!(
        run(&server, "reload", &[]).1,
        "the service directories were read again: 2 services\n"
    );
    assert_eq!(
        run(&server, "reload", &["a"]).1.lines().next(),
        Some("a: SIGHUP sent; now up (pid 123, 0.004 s)")
    );
    let pid = fake::PID;
    assert_eq!(
        run(&server, "shutdown", &[]).1,
        format!("the supervisor (pid {pid}) has stopped its services and ends\n")
    );
    let hasty = Order {
        wait: false,
        ..order(&server, "shutdown", &[])
    };
    assert!(said(&hasty).1.contains("was told to"));
}

#[test]
fn what_a_supervisor_says_cannot_reach_the_terminal_as_a_command() {
    let evil = "x\x1b]52;c;\x07";
    let refusing = Fake::answering(move |_| React::Respond(refusal("bad-request", evil)));
    let (_, out, err) = run(&refusing, "start", &[evil]);
    assert!(!out.contains('\x1b') && !err.contains('\x1b'), "{err:?}");
    let named_so = knowing(vec![Service {
        outcome: failed("ended", evil),
        last_exit: Some(last_exit(1)),
        ..service(evil)
    }]);
    for verb in ["start", "status", "list", "why", "check"] {
        let (_, out, err) = run(&named_so, verb, &["x"]);
        assert!(
            !out.contains('\x1b') && !err.contains('\x1b'),
            "{verb}: {out:?} {err:?}"
        );
    }
}

#[test]
fn a_failure_that_nobody_explains_is_still_told() {
    let mute = Fake::answering(|_| {
        React::Respond(Response {
            v: VERSION,
            id: 0,
            ok: false,
            error: None,
            notice: None,
            services: Vec::new(),
        })
    });
    let (exit, _, err) = run(&mute, "start", &["web"]);
    assert_eq!(exit, Exit::NotReached);
    assert!(err.contains("start failed"), "{err}");
}

#[test]
fn a_broken_pipe_ends_a_command_with_that_error_and_no_panic() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let server = knowing(vec![service("web")]);
    let mut err = Vec::new();
    let mut screen = Screen {
        out: &mut Closed,
        err: &mut err,
        look: Look::default(),
    };
    let error = carry_out(&order(&server, "status", &[]), &mut screen).expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(err.is_empty());
}
