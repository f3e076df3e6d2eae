use super::*;
use crate::machine::spec::{Limit, LogChoice};
use crate::machine::vocab::Signal;
use crate::svdir::keys::KEYS;
use proptest::prelude::*;

fn read_text(source: &str) -> Result<(Spec, Vec<String>), Findings> {
    let around = Around {
        name: "web",
        dir: Path::new("/s/web"),
        has_run: false,
    };
    let mut spec = Spec::default();
    read(source, &around, &mut spec).map(|warnings| (spec, warnings))
}

fn spec(source: &str) -> Spec {
    match read_text(source) {
        Ok((spec, _)) => spec,
        Err(findings) => panic!("{}", findings.text),
    }
}

fn headline(source: &str) -> String {
    match read_text(source) {
        Ok(_) => panic!("accepted: {source}"),
        Err(findings) => findings.headline,
    }
}

const WHOLE: &str = r#"
description = "Web server"
exec = "nginx -g 'daemon off;'"
user = "www-data"
group = 33
groups = ["adm", 44]
env-file = ["/etc/default/web", "conf"]
directory = "/srv"
umask = 0o027
essential = true
clear-env = true
env = { PORT = 8080, DEBUG = false, NAME = "x y" }

[limits]
nofile = 65536
core = "unlimited"
stack = { soft = "8M", hard = "64M" }

[stop]
signal = "SIGQUIT"
timeout = "1m30s"
scope = "tree"
finish-timeout = "never"

[restart]
policy = "on-failure"
delay = 0.5
max = "5m"

[log]
dir = "/var/log/web"
size = "10M"
keep = 20
stamp = "tai64n"
"#;

#[test]
fn every_key_arrives_in_the_definition() {
    let spec = spec(WHOLE);
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(spec.description.as_deref(), Some("Web server"));
    assert_eq!(
        spec.start,
        Start::Exec(words(&["nginx", "-g", "daemon off;"]))
    );
    let identity = &spec.identity;
    assert_eq!(identity.user.as_deref(), Some("www-data"));
    assert_eq!(identity.group.as_deref(), Some("33"));
    assert_eq!(identity.groups, Some(words(&["adm", "44"])));
    assert_eq!(identity.env_files, words(&["/etc/default/web", "conf"]));
    assert_eq!(identity.directory.as_deref(), Some("/srv"));
    assert_eq!(identity.umask, Some(0o27));
    let env: Vec<_> = identity
        .env
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(env, ["DEBUG=false", "NAME=x y", "PORT=8080"]);
    let limit = |resource: &str, soft, hard| Limit {
        resource: resource.into(),
        soft,
        hard,
    };
    assert_eq!(
        identity.limits,
        [
            limit("core", None, None),
            limit("nofile", Some(65_536), Some(65_536)),
            limit("stack", Some(8 << 20), Some(64 << 20)),
        ]
    );
    assert_eq!(spec.stop.signal, Signal::QUIT);
    assert_eq!(spec.stop.timeout, Some(Duration::from_secs(90)));
    assert_eq!(
        (spec.stop.scope, spec.stop.finish_timeout),
        (Scope::Tree, None)
    );
    assert_eq!(spec.restart.policy, Policy::OnFailure);
    assert!(spec.essential && identity.clear_env);
    let (delay, max) = (Duration::from_millis(500), Duration::from_secs(300));
    assert_eq!(spec.restart.rule, Rule::BackOff { delay, max });
    let log = LogChoice {
        dir: Some("/var/log/web".into()),
        size: Some(10 << 20),
        keep: Some(20),
        stamp: Stamp::Tai64n,
    };
    assert_eq!(spec.log, log);
}

#[test]
fn an_essential_service_is_not_restarted_unless_the_file_says_so() {
    let policy = |source: &str| spec(source).restart.policy;
    assert_eq!(policy("essential = true"), Policy::Never);
    assert_eq!(policy("essential = false"), Policy::Always);
    let stated = "essential = true\n[restart]\npolicy = 'on-failure'";
    assert_eq!(policy(stated), Policy::OnFailure);
    let delayed = "restart = { delay = 5 }\nessential = true";
    assert_eq!(policy(delayed), Policy::Never);
}

#[test]
fn an_empty_file_changes_nothing() {
    assert_eq!(spec(""), Spec::default());
    assert_eq!(spec("# only a comment\n[stop]\n"), Spec::default());
}

#[test]
fn the_table_of_keys_and_the_reader_know_the_same_keys() {
    for key in &KEYS {
        let user = if key.path == "groups" {
            "user = 1\n"
        } else {
            ""
        };
        let source = format!("{user}{} = {}\n", key.path, key.example);
        assert!(read_text(&source).is_ok(), "{}", headline(&source));
        // A slip in its name leads back to it.
        let slip = format!("{user}{}x = {}\n", key.path, key.example);
        let name = key.path.rsplit('.').next().expect("name");
        let headline = headline(&slip);
        assert!(headline.contains("unknown key"), "{headline}");
        assert!(
            headline.contains(&format!("did you mean {name}")),
            "{headline}"
        );
    }
}

#[test]
fn the_manual_page_names_every_key_with_its_default() {
    let page = include_str!("../../../man/service.toml.5");
    for key in &KEYS {
        let name = key.path.rsplit('.').next().expect("name");
        let head = format!(".TP\n.B {}\n", name.replace('-', "\\-"));
        let (_, about) = page.split_once(&head).expect(key.path);
        let about = about.split(".TP").next().expect("until the next key");
        let default = format!("Default: {}", key.default);
        assert!(
            about.replace('\n', " ").contains(&default) || key.path == "exec",
            "{}: {default}",
            key.path
        );
        let (_, example) = about.split_once("Example:\n.B ").expect(key.path);
        let example = example.lines().next().unwrap_or("");
        let example = example.replace("\\(dq", "\"").replace("\\-", "-");
        let table = key.path.strip_suffix(name).unwrap_or("");
        let user = if name == "groups" { "user = 1\n" } else { "" };
        spec(&format!("{user}{table}{example}\n"));
    }
    for limit in &LIMITS {
        assert!(
            page.contains(&format!(".TP\n.B {}\n", limit.name)),
            "{}",
            limit.name
        );
    }
}

#[test]
fn mistakes_have_line_column_and_a_way_out() {
    for (source, wanted) in [
        (
            "\nusr = 'x'",
            "service.toml:2:1: unknown key `usr`; did you mean user?",
        ),
        (
            "[stop]\ntimout = 3",
            "service.toml:2:1: unknown key `timout` in [stop]; did you mean timeout?",
        ),
        (
            "timeout = 3",
            "service.toml:1:1: unknown key `timeout`; did you mean timeout in [stop]?",
        ),
        (
            "essential = true\nrestart.policy = 'always'",
            "service.toml:2:18: essential is set, and restart.policy = \"always\" never lets it end; \
             write \"on-failure\", or remove the line: then it is not restarted",
        ),
        (
            "essential = 'yes'",
            "service.toml:1:13: essential must be true or false",
        ),
        (
            "critical = true",
            "service.toml:1:1: unknown key `critical`; did you mean essential?",
        ),
        (
            "user = true",
            "service.toml:1:8: user must be a name or a number",
        ),
        ("user = 'a b'", "service.toml:1:8: `a b` can't be a name"),
        (
            "user = -1",
            "service.toml:1:8: user must be from 0 to 4294967294",
        ),
        (
            "groups = ['adm']",
            "service.toml:1:1: groups is set without user; add user, or remove groups",
        ),
        ("exec = []", "service.toml:1:8: exec names no program"),
        ("exec = ''", "service.toml:1:8: exec names no program"),
        (
            "exec = \"a 'b\"",
            "service.toml:1:8: a quote in exec is not closed",
        ),
        (
            "exec = ['a', 1]",
            "service.toml:1:14: exec must be a string",
        ),
        (
            "exec = \"a\\u0000b\"",
            "service.toml:1:8: exec holds a NUL byte",
        ),
        (
            "umask = 27",
            "service.toml:1:9: umask is an integer that is not octal; write umask = \"027\"",
        ),
        (
            "umask = '888'",
            "service.toml:1:9: umask has no good value; a mask is three octal digits",
        ),
        (
            "umask = 0o1777",
            "service.toml:1:9: umask must be from 0 to 511",
        ),
        (
            "env.'A=B' = 1",
            "service.toml:1:5: `A=B` can't be the name of a variable",
        ),
        (
            "env.A = 1.5",
            "service.toml:1:9: env.A must be a string, an integer or a boolean",
        ),
        (
            "limits.nofiles = 3",
            "service.toml:1:8: unknown key `nofiles` in [limits]; did you mean nofile?",
        ),
        (
            "limits.xyz = 3",
            "service.toml:1:8: `xyz` is no limit; they are as, core",
        ),
        (
            "limits.nofile = '64K'",
            "service.toml:1:17: limits.nofile must be an integer, or \"unlimited\"",
        ),
        (
            "limits.nofile = -1",
            "service.toml:1:17: limits.nofile must be from 0",
        ),
        (
            "limits.nofile = { soft = 1 }",
            "service.toml:1:17: limits.nofile needs both soft and hard",
        ),
        (
            "limits.nofile = { soft = 2, hard = 1 }",
            "service.toml:1:17: limits.nofile: soft is above hard",
        ),
        (
            "limits.core = { soft = 'unlimited', hard = 1 }",
            "service.toml:1:15: limits.core: soft is above",
        ),
        ("stop = 3", "service.toml:1:8: stop must be a table"),
        ("[[stop]]", "service.toml:1:1: stop must be a table"),
        (
            "stop.signal = 'TREM'",
            "service.toml:1:15: `TREM` is no signal; did you mean \"TERM\"?",
        ),
        ("stop.signal = 0", "service.toml:1:15: `0` is no signal"),
        (
            "stop.signal = 'STOP'",
            "service.toml:1:15: SIGSTOP halts a process",
        ),
        (
            "stop.timeout = -1",
            "service.toml:1:16: stop.timeout has no good value; a duration can't be negative",
        ),
        (
            "stop.timeout = nan",
            "service.toml:1:16: stop.timeout has no good value; nan is no duration",
        ),
        (
            "directory = ''",
            "service.toml:1:13: directory names nothing",
        ),
        (
            "stop.timeout = '10 sec'",
            "service.toml:1:16: stop.timeout has no good value; a duration is",
        ),
        (
            "stop.timeout = 99999999999",
            "service.toml:1:16: stop.timeout has no good value; longer than a year",
        ),
        (
            "stop.scope = 'sesion'",
            "service.toml:1:14: stop.scope can't be `sesion`; did you mean \"session\"?",
        ),
        (
            "restart.policy = 1",
            "service.toml:1:18: restart.policy must be one of always, on-failure, never",
        ),
        (
            "restart.delay = 0",
            "service.toml:1:17: restart.delay is shorter than 100ms; the first restart",
        ),
        (
            "restart.max = 'never'",
            "service.toml:1:15: restart.max can't be endless; for no restart",
        ),
        (
            "restart.max = 0.5",
            "service.toml:1:15: restart.max is below restart.delay (1s)",
        ),
        (
            "log.size = 1000",
            "service.toml:1:12: log.size must be from 4096 to",
        ),
        (
            "log.size = '1K'",
            "service.toml:1:12: log.size must be from 4096 bytes to",
        ),
        (
            "log.size = '1MB'",
            "service.toml:1:12: log.size has no good value; write \"1M\"",
        ),
        (
            "log.dir = 'log'",
            "service.toml:1:11: log.dir can't be in log/, which makes a log service of it",
        ),
        (
            "log.dir = './x/../log/main'",
            "service.toml:1:11: log.dir can't be in log/, which makes a log service of it",
        ),
        (
            "log.dir = 'supervise/log'",
            "service.toml:1:11: log.dir can't be in supervise/, which is the supervisor's",
        ),
        (
            "log.keep = 0",
            "service.toml:1:12: log.keep must be from 1 to",
        ),
        (
            "log.stamp = 'ISO'",
            "service.toml:1:13: log.stamp can't be `ISO`; did you mean \"iso\"?",
        ),
        (
            "[log]\nkeep = 1\nsize = '1M'\nkeep = 2",
            "service.toml:4:1: duplicate key; line 2 sets it already; keep one of them",
        ),
        (
            "\nuser = 'a'\nuser = 'b'",
            "service.toml:3:1: duplicate key; line 2 sets it already; keep one of them",
        ),
        (
            "[service]\nexec = 'x'",
            "service.toml:1:2: unknown key `service`; the service's own keys stand at the top",
        ),
        (
            "user = 'root:adm'",
            "service.toml:1:8: `root:adm` can't be a name; write user = \"root\" and group = \"adm\"",
        ),
        (
            "stop.signal = 99",
            "service.toml:1:15: `99` is no signal; it is a name such as \"TERM\", or a number from 1 to 64",
        ),
        (
            "exec = ['sleep', 10]",
            "service.toml:1:18: exec must be a string; write \"10\"",
        ),
        ("user = ", "service.toml:1:8: "),
        ("umask = 022", "service.toml:1:9: "),
    ] {
        let headline = headline(source);
        assert!(
            headline.starts_with(wanted),
            "{source}\n  says    {headline}\n  wanted  {wanted}"
        );
    }
    assert!(headline("umask = 022").ends_with("write umask = \"027\""));
    for yaml in ["exec: 'a b'\nuser = 'a'", "exec: a b"] {
        assert!(headline(yaml).contains("write exec = 'a b'"), "{yaml}");
    }
}

#[test]
fn what_is_said_about_an_open_quote_works_when_it_is_typed() {
    let said = headline(r#"exec = "echo \"10""#);
    for (good, in_words) in [
        (r#"exec = "echo \\\"10""#, r#"\\\" in "...""#),
        (r#"exec = "echo \\'10""#, r#"\\' or"#),
        (r#"exec = 'echo \"10'"#, r#"\" in '...'"#),
    ] {
        assert!(said.contains(in_words), "{said}: {in_words}");
        let (spec, _) = read_text(good).expect(good);
        let Start::Exec(words) = spec.start else {
            panic!("{good} names a program");
        };
        assert!(matches!(&*words[1], "\"10" | "'10"), "{words:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let source = "usr = 1\n[stop]\nsignal = 'X'\n[restart]\npolicy = 'sometimes'\n";
    let findings = read_text(source).expect_err("three");
    let places = [
        "web/service.toml:1:1",
        "web/service.toml:3:10",
        "web/service.toml:5:10",
    ];
    let found: Vec<_> = places
        .iter()
        .map(|place| findings.text.find(place))
        .collect();
    assert!(found.iter().all(Option::is_some), "{}", findings.text);
    assert!(found.is_sorted(), "{}", findings.text);
    assert!(
        findings.headline.ends_with("(and 2 more)"),
        "{}",
        findings.headline
    );
    assert!(findings.text.contains("1 | usr = 1\n"), "{}", findings.text);
}

#[test]
fn a_command_that_only_a_shell_understands_is_warned_of() {
    for exec in ["a | b", "a > file", "a && b", "a $HOME", "a 2>&1"] {
        let (_, warnings) = read_text(&format!("exec = '{exec}'")).expect("accepted");
        assert_eq!(warnings.len(), 1, "{exec}");
    }
    let (spec, warnings) = read_text("exec = 'echo ${HOME} \"a b\"'").expect("accepted");
    assert_eq!(
        spec.start,
        Start::Exec(vec!["echo".into(), "${HOME}".into(), "a b".into()])
    );
    assert_eq!(warnings.len(), 1);
    let (_, warnings) = read_text("exec = ['sh', '-c', 'a | b']").expect("accepted");
    assert!(warnings.is_empty());
}

#[test]
fn a_long_delay_is_its_own_maximum() {
    let delay = Duration::from_secs(600);
    let rule = spec("restart.delay = '10m'").restart.rule;
    assert_eq!(rule, Rule::BackOff { delay, max: delay });
}

#[test]
fn tables_nested_without_end_do_not_exhaust_the_stack() {
    headline(&format!("exec = {}", "[".repeat(20_000)));
    headline(&format!(
        "exec = {}1{}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    ));
    headline(&format!("env = {}", "{a=".repeat(10_000)));
    headline(&vec!["a"; 20_000].join("."));
}

/// What every refusal must have.
fn check_findings(findings: &Findings) -> Result<(), TestCaseError> {
    let place = findings.headline.strip_prefix("service.toml:");
    let mut numbers = place.unwrap_or("").split(':').map(str::parse::<usize>);
    for number in [numbers.next(), numbers.next()] {
        prop_assert!(matches!(number, Some(Ok(1..))), "{}", findings.headline);
    }
    prop_assert!(
        findings.text.contains("web/service.toml:"),
        "{}",
        findings.text
    );
    prop_assert!(!findings.headline.contains('\n'));
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    prop_assert!(!findings.text.contains(control), "{:?}", findings.text);
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let source = String::from_utf8_lossy(&bytes);
        if let Err(findings) = read_text(&source) {
            check_findings(&findings)?;
        }
    }

    #[test]
    fn random_mutations_of_a_good_file_never_panic(
        edits in proptest::collection::vec((0..WHOLE.len(), 0..12usize, "\\PC{0,3}|[=\\[\\]{}\"'.\n0-9a-z-]{0,4}|\\x00"), 1..5)
    ) {
        let mut source = WHOLE.to_owned();
        for (at, gone, put) in edits {
            let at = (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
            let end = (at + gone..=source.len()).find(|at| source.is_char_boundary(*at)).unwrap_or(at);
            source.replace_range(at..end.max(at), &put);
        }
        if let Err(findings) = read_text(&source) {
            check_findings(&findings)?;
        }
    }
}
