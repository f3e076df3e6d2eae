use super::super::Stamp;
use super::super::rotate::{Border, Old};
use super::super::settings::{SCRIBE, SVLOGD};
use super::super::stamp::Stamper;
use super::*;
use crate::os::clock;
use proptest::prelude::*;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

mod disk;
mod svlogd;

/// A log in a directory of its own, and a clock that only we move.
struct Bench {
    place: tempfile::TempDir,
    desk: Desk,
    log: Log,
    now: Now,
}

fn settings(size: u64) -> Settings {
    Settings {
        stamp: Stamp::None,
        size,
        ..Settings::default()
    }
}

impl Bench {
    fn with(settings: Settings, config: &str) -> Bench {
        let place = tempfile::tempdir().unwrap();
        if !config.is_empty() {
            fs::write(place.path().join("config"), config).unwrap();
        }
        Bench {
            log: Log::new(place.path(), settings, &SCRIBE),
            desk: Desk::default(),
            now: Now {
                wall: Duration::from_secs(1_795_168_800),
                mono_ns: 50_000_000_000,
            },
            place,
        }
    }

    fn take(&mut self, text: &str) -> Flow {
        self.log
            .take(&mut self.desk, text.as_bytes(), self.now, &mut Nobody)
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall += time;
        self.now.mono_ns += u64::try_from(time.as_nanos()).unwrap();
    }

    fn resume(&mut self) -> Flow {
        self.log.resume(&mut self.desk, self.now, &mut Nobody)
    }

    fn current(&self) -> String {
        fs::read_to_string(self.place.path().join("current")).unwrap()
    }

    fn olds(&self) -> Vec<String> {
        let mut olds = dir::list(self.place.path()).unwrap();
        olds.sort();
        let text = |old: Old| fs::read_to_string(self.place.path().join(old.name())).unwrap();
        olds.into_iter().map(text).collect()
    }
}

#[test]
fn a_line_is_stamped_with_the_time_of_its_first_byte_once_it_is_whole() {
    let mut bench = Bench::with(Settings::default(), "");
    assert_eq!(bench.take("one\ntw"), Flow::Going);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.current(), "2026-11-20T10:00:00.00000 one\n");
    bench.take("o\nthree\n");
    assert_eq!(
        bench.current(),
        "2026-11-20T10:00:00.00000 one\n2026-11-20T10:00:00.00000 two\n\
         2026-11-20T10:00:05.00000 three\n"
    );
}

#[test]
fn the_end_of_a_run_ends_its_line() {
    let mut bench = Bench::with(settings(0), "");
    bench.take("no newline");
    assert_eq!(
        bench
            .log
            .end_line(End::Line, &mut bench.desk, bench.now, &mut Nobody),
        Flow::Going
    );
    bench
        .log
        .end_line(End::Line, &mut bench.desk, bench.now, &mut Nobody);
    bench.take("next\n");
    assert_eq!(bench.current(), "no newline\nnext\n");
}

#[test]
fn where_all_are_kept_no_name_is_taken_twice_however_the_clock_runs() {
    let mut bench = Bench::with(
        Settings {
            keep: 0,
            ..settings(10)
        },
        "",
    );
    for number in 0..6 {
        assert_eq!(bench.take(&format!("line {number}\n")), Flow::Going);
        if number == 3 {
            bench.now.wall -= Duration::from_secs(100);
        }
    }
    let expected: Vec<String> = (0..5).map(|number| format!("line {number}\n")).collect();
    assert_eq!(bench.olds(), expected);
    // Somebody else has written here meanwhile.
    let later = Old {
        at: bench.now.wall + Duration::from_secs(500),
        kind: Kind::Saved,
    };
    fs::write(bench.place.path().join(later.name()), "theirs\n").unwrap();
    bench.log.open(&mut bench.desk, bench.now);
    bench.log.let_go();
    bench.take("line 6\n");
    bench.take("line 7\n");
    assert_eq!(bench.olds()[5..], ["theirs\n", "line 5\n", "line 6\n"]);
}

#[test]
fn whole_lines_are_rotated_at_the_size_and_the_newest_are_kept() {
    let mut bench = Bench::with(
        Settings {
            keep: 2,
            ..settings(10)
        },
        "",
    );
    bench.take("aaaa\nbbbb\ncccc\ndddd\neeee\nffff\ngggg\nhh");
    assert_eq!(bench.olds(), ["cccc\ndddd\n", "eeee\nffff\n"]);
    assert_eq!(bench.current(), "gggg\n");
    bench.take("hhhhhhh\n");
    assert_eq!(bench.olds(), ["eeee\nffff\n", "gggg\n"]);
    let mode = fs::metadata(bench.place.path().join("current"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_line_longer_than_a_file_is_split_and_nothing_of_it_is_lost() {
    let mut bench = Bench::with(
        Settings {
            keep: 0,
            ..settings(100)
        },
        "",
    );
    let line: String = ('a'..='z').cycle().take(12_345).collect();
    for part in line.as_bytes().chunks(1000) {
        bench.take(std::str::from_utf8(part).unwrap());
    }
    bench.take("\nend\n");
    let olds = bench.olds();
    assert!(olds.iter().all(|old| old.len() <= 100));
    assert_eq!(olds.concat() + &bench.current(), line + "\nend\n");
}

#[test]
fn the_config_file_of_svlogd_is_honoured() {
    let mut bench = Bench::with(settings(1_000_000), "s9\nn1\nppre:\n-*\n+k*\n");
    bench.take("kept\ndropped\nk2\nk3\n");
    assert_eq!(bench.olds(), ["pre:k2\n"]);
    assert_eq!(bench.current(), "pre:k3\n");
}

#[test]
fn the_age_of_a_file_ends_it_unless_it_is_empty() {
    let mut bench = Bench::with(settings(0), "t10\n");
    bench.log.open(&mut bench.desk, bench.now);
    assert_eq!(
        bench.log.wakes_at(),
        None,
        "an empty log never wakes anybody"
    );
    bench.take("x\n");
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.log.wakes_at(), Some(bench.now.mono_ns));
    bench.resume();
    assert_eq!(bench.olds(), ["x\n"]);
    assert_eq!(bench.log.wakes_at(), None);
}

#[test]
fn a_removed_directory_is_made_anew_and_the_lines_go_on() {
    let mut bench = Bench::with(settings(0), "");
    bench.take("before\n");
    fs::remove_dir_all(bench.place.path()).unwrap();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.take("after\n"), Flow::Going);
    assert_eq!(bench.current(), "after\n");
}

#[test]
fn a_removed_current_is_noticed_at_the_end_of_a_run() {
    let mut bench = Bench::with(settings(0), "");
    bench.take("before\nhalf");
    fs::remove_file(bench.place.path().join("current")).unwrap();
    bench
        .log
        .end_line(End::Line, &mut bench.desk, bench.now, &mut Nobody);
    assert_eq!(bench.current(), "half\n");
}

#[test]
fn a_directory_that_cannot_be_made_is_tried_again_with_a_growing_delay_and_nothing_is_lost() {
    let mut bench = Bench::with(settings(0), "");
    let file = bench.place.path().join("file");
    fs::write(&file, "").unwrap();
    bench.log = Log::new(&file.join("log"), settings(0), &SCRIBE);
    assert_eq!(bench.take("one\ntw"), Flow::Stuck);
    assert_eq!(bench.take("o\n"), Flow::Stuck);
    let words = bench.log.trouble().unwrap().words(bench.log.path());
    assert!(words.contains("Not a directory (ENOTDIR)"), "{words}");
    let mut delays = Vec::new();
    for _ in 0..10 {
        let wait = bench.log.wakes_at().unwrap() - bench.now.mono_ns;
        delays.push(wait / 1_000_000);
        bench.pass(Duration::from_nanos(wait));
        assert_eq!(bench.resume(), Flow::Stuck);
    }
    assert_eq!(delays[..3], [100, 200, 400]);
    assert_eq!(delays[9], 10_000);
    fs::remove_file(&file).unwrap();
    assert_eq!(bench.resume(), Flow::Going);
    assert_eq!(bench.log.trouble(), None);
    assert_eq!(
        fs::read_to_string(file.join("log/current")).unwrap(),
        "one\ntwo\n"
    );
}

#[test]
fn a_line_that_its_writers_death_cut_goes_on_in_the_same_line() {
    let mut bench = Bench::with(
        Settings {
            line_bytes_max: 4,
            ..Settings::default()
        },
        "",
    );
    bench.take("long line");
    let before = bench.current();
    assert!(before.ends_with(" long line"), "{before}");
    let mut next = Log::new(bench.place.path(), Settings::default(), &SCRIBE);
    bench.log = Log::new(Path::new("/nonexistent"), Settings::default(), &SCRIBE);
    next.take(&mut bench.desk, b" goes on\n", bench.now, &mut Nobody);
    assert_eq!(bench.current(), before + " goes on\n");
}

#[test]
fn an_unfinished_line_can_be_handed_on_to_the_next_writer() {
    let mut bench = Bench::with(settings(0), "");
    bench.take("first\nhalf");
    let flow = bench
        .log
        .end_line(End::Open, &mut bench.desk, bench.now, &mut Nobody);
    assert_eq!(
        (flow, bench.current().as_str()),
        (Flow::Going, "first\nhalf")
    );
    let old = Log::new(Path::new("/nonexistent"), settings(0), &SCRIBE);
    assert_eq!(std::mem::replace(&mut bench.log, old).close(), 0);
    bench.log = Log::new(bench.place.path(), settings(0), &SCRIBE);
    bench.take(" and half\nlast\n");
    assert_eq!(bench.current(), "first\nhalf and half\nlast\n");
}

#[test]
fn a_run_is_found_by_its_positions_across_rotations() {
    let mut bench = Bench::with(settings(12), "");
    bench.take("run1 a\nrun1 b\n");
    let from = bench.log.position();
    bench.take("run2 a\nrun2 b\nrun2 c\n");
    let to = bench.log.position();
    bench.take("run3 a\n");
    let lines = |n| bench.log.lines_between(from, to, n, 100).unwrap();
    assert_eq!(lines(9), [b"run2 a", b"run2 b", b"run2 c"]);
    assert_eq!(lines(1), [b"run2 c"]);
}

/// Waits for the processor and lets the log see that it has ended.
fn let_processor_end(bench: &mut Bench) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    {
        let fd = bench.log.processor().expect("a processor is at work");
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
    }
    bench.resume();
}

#[test]
fn a_processor_makes_the_rotated_file_and_hands_its_state_on() {
    let mut bench = Bench::with(settings(6), "!tr a-z A-Z; cat <&4 >&5; echo ran >&5\nn0\n");
    bench.take("one\ntwo\n");
    let_processor_end(&mut bench);
    assert_eq!(bench.olds(), ["ONE\n"]);
    bench.take("three\n");
    let_processor_end(&mut bench);
    assert_eq!(bench.olds(), ["ONE\n", "TWO\n"]);
    let state = fs::read_to_string(bench.place.path().join("state")).unwrap();
    assert_eq!(state, "ran\nran\n");
    assert!(bench.log.processor().is_none());
}

#[test]
fn only_the_next_rotation_waits_for_the_processor() {
    let mut bench = Bench::with(settings(6), "!read x < gate; cat\n");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&bench.place.path().join("gate"), mode).unwrap();
    bench.take("one\n");
    assert_eq!(bench.take("two\n"), Flow::Going);
    assert_eq!(bench.take("three\n"), Flow::Stuck);
    assert_eq!(bench.log.trouble(), Some(&Halt::Processing));
    assert_eq!(bench.log.wakes_at(), None, "its end is an event");
    fs::write(bench.place.path().join("gate"), "go\n").unwrap();
    let_processor_end(&mut bench);
    assert_eq!(bench.resume(), Flow::Going);
    assert_eq!(bench.current(), "three\n");
    fs::write(bench.place.path().join("gate"), "go\n").unwrap();
    let_processor_end(&mut bench);
    assert_eq!(bench.olds(), ["one\n", "two\n"]);
}

#[test]
fn a_failed_processor_is_tried_again_later() {
    let mut bench = Bench::with(settings(6), "!test -e ok && cat\n");
    bench.take("one\ntwo\n");
    let_processor_end(&mut bench);
    assert_eq!(
        bench.log.wakes_at(),
        Some(bench.now.mono_ns + 1_000_000_000)
    );
    fs::write(bench.place.path().join("ok"), "").unwrap();
    bench.pass(Duration::from_secs(1));
    bench.resume();
    let_processor_end(&mut bench);
    assert_eq!(bench.olds(), ["one\n"]);
}

#[test]
fn a_processor_that_fails_is_told_with_its_exit_code_until_it_does_not() {
    let mut bench = Bench::with(settings(6), "!test -e ok && cat || exit 3\n");
    bench.take("one\ntwo\n");
    assert_eq!(bench.log.processor_words(), None);
    let_processor_end(&mut bench);
    let words = bench.log.processor_words().expect("words");
    assert!(words.contains("failed with exit code 3"), "{words}");
    assert_eq!(bench.log.trouble(), None, "lines go on");
    assert_eq!(bench.take("three\n"), Flow::Stuck);
    let words = bench.log.processor_words().expect("words");
    assert!(words.contains("output waits in its pipe"), "{words}");
    fs::write(bench.place.path().join("ok"), "").unwrap();
    bench.pass(Duration::from_secs(1));
    bench.resume();
    assert!(bench.log.processor_words().is_some(), "not yet");
    let_processor_end(&mut bench);
    assert_eq!(bench.log.processor_words(), None);
}

#[test]
fn a_log_that_is_left_waits_for_no_processor() {
    let mut bench = Bench::with(settings(6), "!exit 3\n");
    bench.take("one\ntwo\n");
    let_processor_end(&mut bench);
    assert_eq!(bench.take("three\nfour\n"), Flow::Stuck);
    assert!(bench.log.keep_current());
    assert_eq!(bench.resume(), Flow::Going);
    assert_eq!(bench.take("five\n"), Flow::Going);
    assert!(!bench.log.keep_current());
    assert_eq!(bench.current(), "two\nthree\nfour\nfive\n");
    assert_eq!(bench.olds(), ["one\n"], "for the next time");
}

#[test]
fn a_failing_command_that_is_mended_or_taken_away_is_heard() {
    for (config, olds) in [
        ("!tr a-z A-Z\n", ["ONE\n", "TWO\n"]),
        ("s6\n", ["one\n", "two\n"]),
    ] {
        let mut bench = Bench::with(settings(6), "!exit 3\n");
        bench.take("one\ntwo\n");
        let_processor_end(&mut bench);
        assert_eq!(bench.take("three\n"), Flow::Stuck);
        fs::write(bench.place.path().join("config"), config).unwrap();
        bench.pass(Duration::from_secs(1));
        bench.resume();
        for _ in 0..2 {
            if bench.log.processor().is_some() {
                let_processor_end(&mut bench);
            }
            bench.resume();
        }
        assert_eq!(
            (bench.current().as_str(), bench.log.trouble()),
            ("three\n", None)
        );
        assert_eq!(bench.olds(), olds);
    }
}

#[test]
fn what_is_read_again_counts_from_the_next_line() {
    let mut bench = Bench::with(settings(0), "pa \n");
    bench.log.reload();
    bench.take("one\n");
    fs::write(bench.place.path().join("config"), "pb \n").unwrap();
    bench.take("two\n");
    bench.log.reload();
    bench.take("three\n");
    assert_eq!(bench.current(), "a one\na two\nb three\n");
}

#[test]
fn a_processor_ends_with_its_log_and_what_it_has_started_too() {
    let mut bench = Bench::with(
        settings(6),
        "!sleep 1000 & echo $! >pid; mkfifo gate; cat gate\n",
    );
    bench.take("one\ntwo\n");
    let pid = loop {
        let pid = fs::read_to_string(bench.place.path().join("pid")).unwrap_or_default();
        if pid.ends_with('\n') {
            break pid.trim().to_owned();
        }
        std::thread::yield_now();
    };
    let stat = format!("/proc/{pid}/stat");
    assert!(fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")));
    bench.log.close();
    // Whoever reaps it may be slow about it.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
}

#[test]
fn a_command_that_another_user_may_have_written_is_not_started() {
    use std::os::unix::fs::PermissionsExt;
    let config = "!touch obeyed; cat\npx \n";
    for (file, directory) in [(0o666, 0o700), (0o644, 0o777)] {
        let mut bench = Bench::with(settings(8), config);
        let path = bench.place.path().to_owned();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        mode(&path.join("config"), file);
        mode(&path, directory);
        bench.take("one\ntwo\n");
        assert!(bench.log.processor().is_none());
        assert_eq!(bench.olds(), ["x one\n"], "the rest counts");
        assert!(!path.join("obeyed").exists());
        let words = bench.log.processor_words().expect("words");
        assert!(words.contains("is not started"), "{words}");
        mode(&path.join("config"), 0o644);
        mode(&path, 0o700);
        bench.log.reload();
        assert_eq!(bench.log.processor_words(), None);
        bench.take("three\n");
        let_processor_end(&mut bench);
        assert!(path.join("obeyed").exists());
    }
}

#[test]
fn a_log_is_not_led_elsewhere_by_a_link_of_another_user() {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (link, cron) = (place.path().join("log"), place.path().join("cron.d"));
    fs::create_dir(&cron).unwrap();
    std::os::unix::fs::symlink(&cron, &link).unwrap();
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    nix::unistd::fchownat(AT_FDCWD, &link, Some(65534.into()), None, flags).unwrap();
    let mut bench = Bench::with(settings(0), "");
    bench.log = Log::new(&link, settings(0), &SCRIBE);
    assert_eq!(bench.take("* * * * * root id\n"), Flow::Stuck);
    let halt = bench.log.trouble().expect("trouble");
    assert!(halt.is_for_good());
    let words = halt.words(&link);
    assert!(words.contains("a link on the way is not root's"), "{words}");
    assert_eq!(fs::read_dir(&cron).unwrap().count(), 0);
}

#[test]
fn what_a_lost_processor_left_is_processed() {
    let mut bench = Bench::with(settings(0), "!tr a-z A-Z\n");
    let old = Old {
        at: Duration::from_secs(9),
        kind: Kind::Unprocessed,
    };
    fs::write(bench.place.path().join(old.name()), "left\n").unwrap();
    bench.log.open(&mut bench.desk, bench.now);
    let_processor_end(&mut bench);
    assert_eq!(bench.olds(), ["LEFT\n"]);
}

#[test]
fn an_idle_log_is_small() {
    let bytes = size_of::<Log>();
    assert!(bytes <= 300, "{bytes}");
    assert_eq!(SCRIBE.border, Border::WholeLines);
}

#[test]
fn a_hundred_megabytes_without_a_newline_need_no_memory() {
    let mut bench = Bench::with(settings(1_000_000), "");
    let block = vec![b'x'; 64 * 1024];
    for _ in 0..1600 {
        assert_eq!(
            bench
                .log
                .take(&mut bench.desk, &block, bench.now, &mut Nobody),
            Flow::Going
        );
        assert!(bench.log.lines.held_bytes() <= Settings::default().line_bytes_max);
        assert!(bench.desk.out.capacity() <= 2 * OUT_BYTES_MAX);
    }
    assert_eq!(bench.olds().len(), 10);
}

/// The files that the input makes when it comes in pieces of so many bytes, the oldest first.
fn files_of(input: &[u8], piece: usize, habits: &'static Habits) -> Vec<String> {
    let mut bench = Bench::with(Settings::default(), "");
    let settings = Settings {
        keep: 0,
        line_bytes_max: 20,
        ..settings(100)
    };
    bench.log = Log::new(bench.place.path(), settings, habits);
    for piece in input.chunks(piece) {
        bench
            .log
            .take(&mut bench.desk, piece, bench.now, &mut Nobody);
    }
    bench
        .log
        .end_line(End::Line, &mut bench.desk, bench.now, &mut Nobody);
    let mut files = bench.olds();
    files.push(bench.current());
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lines_that_come_at_once_are_written_as_those_that_come_byte_by_byte(
        lines in proptest::collection::vec("[a-z]{0,30}", 0..40),
        piece in 2usize..200,
    ) {
        let input = lines.join("\n");
        for habits in [&SCRIBE, &SVLOGD] {
            let slowly = files_of(input.as_bytes(), 1, habits);
            prop_assert_eq!(&files_of(input.as_bytes(), input.len().max(1), habits), &slowly);
            prop_assert_eq!(&files_of(input.as_bytes(), piece, habits), &slowly);
        }
    }
}
