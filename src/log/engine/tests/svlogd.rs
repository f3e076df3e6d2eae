//! The same input to Debian's svlogd and to us.

use super::*;

/// Runs Debian's svlogd over the same input; None where it isn't installed.
fn real_svlogd(dir: &Path, arguments: &[&str], input: &[u8]) -> Option<()> {
    let child = Command::new("svlogd")
        .args(arguments)
        .arg(dir)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: svlogd is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait().unwrap();
    Some(())
}

/// Names without their times, modes and contents, the oldest first.
fn files(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('@') || name == "current")
        .collect();
    names.sort();
    let shown = |name: String| {
        let path = dir.join(&name);
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        let suffix = name.rsplit('.').next().unwrap_or_default().to_owned();
        (suffix, mode, fs::read(&path).unwrap())
    };
    names.into_iter().map(shown).collect()
}

#[test]
fn with_svlogds_habits_the_files_are_svlogds() {
    let short: Vec<u8> = (0..500)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    let mixed: Vec<u8> = (0..60usize)
        .flat_map(|n| {
            let mut line = vec![b'a' + (n % 26) as u8; n * 53 % 2500];
            line.push(b'\n');
            line
        })
        .collect();
    for (config, input) in [
        ("s3000\nn0\n", &short),
        ("s3000\nn3\nppre: \n-*7\n", &short),
        ("s1000\nn5\n", &short),
        ("s900\nn0\n", &short),
        ("s3000\nn0\n", &mixed),
        ("s2100\nn4\n-+a\n", &mixed),
    ] {
        let theirs = tempfile::tempdir().unwrap();
        fs::write(theirs.path().join("config"), config).unwrap();
        if real_svlogd(theirs.path(), &[], input).is_none() {
            return;
        }
        let mut bench = Bench::with(settings(0), config);
        let wanted = Settings {
            line_bytes_max: 1000,
            ..settings(1_000_000)
        };
        bench.log = Log::new(bench.place.path(), wanted, &SVLOGD);
        for chunk in input.chunks(1024) {
            bench
                .log
                .take(&mut bench.desk, chunk, bench.now, &mut Nobody);
        }
        bench
            .log
            .end_line(End::Line, &mut bench.desk, bench.now, &mut Nobody);
        let nothing = Log::new(Path::new("/nonexistent"), settings(0), &SVLOGD);
        assert_eq!(std::mem::replace(&mut bench.log, nothing).close(), 0);
        let (ours, theirs) = (files(bench.place.path()), files(theirs.path()));
        let sizes = |files: &[(String, u32, Vec<u8>)]| -> Vec<usize> {
            files.iter().map(|file| file.2.len()).collect()
        };
        assert_eq!(sizes(&ours), sizes(&theirs), "{config}");
        assert!(ours == theirs, "{config}");
    }
}

#[test]
fn stamps_are_those_of_svlogd() {
    for (option, stamp) in [
        ("-t", Stamp::Tai64n),
        ("-tt", Stamp::Human),
        ("-ttt", Stamp::Iso),
    ] {
        let place = tempfile::tempdir().unwrap();
        if real_svlogd(place.path(), &[option], b"text\n").is_none() {
            return;
        }
        let line = fs::read(place.path().join("current")).unwrap();
        let (at, rest) = super::super::super::stamp::parse(&line).unwrap();
        assert_eq!(rest, b"text\n");
        assert!(clock::wall() - at < Duration::from_secs(60));
        let ours = Stamper::default().text(stamp, at);
        assert_eq!(ours.as_bytes(), &line[..26]);
    }
}

#[test]
fn patterns_select_what_svlogd_selects() {
    // No `+c` that can be asked at a line's end: there svlogd compares with what a longer line
    // before left in its memory.
    let patterns = ["-*", "+a*", "-+ab", "+*b*c", "-", "+ab*", "-**", "++a+b*"];
    let mut text = String::new();
    for n in 0..4usize.pow(6) {
        let line: String = (0..6)
            .map(|k| ['a', 'b', 'c', '*'][n / 4usize.pow(k) % 4])
            .collect();
        text += &line[..1 + n % 6];
        text.push('\n');
    }
    for first in patterns {
        for second in patterns {
            let config = format!("{first}\n{second}\n");
            let mut bench = Bench::with(settings(0), &config);
            let theirs = tempfile::tempdir().unwrap();
            fs::write(theirs.path().join("config"), &config).unwrap();
            if real_svlogd(theirs.path(), &[], text.as_bytes()).is_none() {
                return;
            }
            bench.take(&text);
            let found = fs::read_to_string(theirs.path().join("current")).unwrap();
            assert!(bench.current() == found, "{config}");
        }
    }
}
