use super::*;
use crate::applets::properties;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn chpst(line: &str) -> Wishes {
    read(Called::Chpst, &words(line)).unwrap_or_else(|refused| panic!("{line}: {refused:?}"))
}

fn limits(wishes: &Wishes) -> Vec<(Resource, Option<u64>)> {
    let each = wishes.limits();
    each.map(|limit| (limit.resource, limit.soft)).collect()
}

#[test]
fn the_lines_of_real_run_scripts_are_understood() {
    let wishes = chpst("-ugitdaemon -U u -e ./env -b daemon -P -- git -x");
    assert_eq!(wishes.user, Some("gitdaemon".into()));
    assert_eq!(wishes.env_user, Some("u".into()));
    assert_eq!(wishes.env_dir, Some("./env".into()));
    assert_eq!(wishes.argv0, Some("daemon".into()));
    assert!(wishes.new_session);
    assert_eq!(wishes.program, ["git", "-x"]);
}

#[test]
fn m_sets_four_limits_and_the_last_word_counts() {
    let wishes = chpst("-d 5 -m 6 -d 7 prog");
    let wanted = [
        (Resource::RLIMIT_DATA, Some(7)),
        (Resource::RLIMIT_STACK, Some(6)),
        (Resource::RLIMIT_MEMLOCK, Some(6)),
        (Resource::RLIMIT_AS, Some(6)),
    ];
    assert_eq!(limits(&wishes), wanted);
}

#[test]
fn numbers_wrap_around_and_so_mean_the_hard_limit_or_none() {
    assert_eq!(
        limits(&chpst("-o 18446744073709551615 p")),
        [(Resource::RLIMIT_NOFILE, None)]
    );
    assert_eq!(limits(&chpst("-o 9223372036854775808 p")), []);
    assert_eq!(
        limits(&chpst("-o 18446744073709551621 p")),
        [(Resource::RLIMIT_NOFILE, Some(5))]
    );
}

#[test]
fn nice_values_have_a_sign_and_no_junk() {
    for (text, wanted) in [
        ("5", 5),
        ("+5", 5),
        ("-5", -5),
        ("-", 0),
        ("4294967291", -5),
    ] {
        assert_eq!(chpst(&format!("-n {text} p")).nice, wanted, "{text}");
    }
    for bad in ["5x", "+-5", "--5", "x"] {
        assert!(
            read(Called::Chpst, &words(&format!("-n {bad} p"))).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn mistakes_are_told_apart() {
    let mistake = |called, line: &str| {
        let refused = read(called, &words(line)).expect_err(line);
        (refused.mistake, refused.usage_of)
    };
    use Mistake::{Incomplete, Other, Unknown, Version};
    let chpst = |line| mistake(Called::Chpst, line);
    assert_eq!(chpst("-Z p"), (Unknown(b'Z'), Called::Chpst));
    assert_eq!(chpst("-u"), (Incomplete(b'u'), Called::Chpst));
    assert_eq!(chpst("-vV"), (Version, Called::Chpst));
    assert_eq!(chpst("-v"), (Other, Called::Chpst));
    assert_eq!(chpst("-l a -L b p"), (Other, Called::Chpst));
    assert_eq!(chpst("-o 5x p"), (Other, Called::Chpst));
    assert_eq!(
        mistake(Called::SoftLimit, "-o =5 p"),
        (Other, Called::Chpst)
    );
    assert_eq!(
        mistake(Called::SoftLimit, "-q"),
        (Unknown(b'q'), Called::SoftLimit)
    );
    assert_eq!(mistake(Called::SetLock, "f"), (Other, Called::SetLock));
    assert_eq!(mistake(Called::EnvDir, "d"), (Other, Called::EnvDir));
}

#[test]
fn setlock_takes_its_file_behind_its_flags() {
    let lock = |line: &str| {
        let wishes = read(Called::SetLock, &words(line)).expect(line);
        let lock = wishes.lock.expect("lock");
        (lock.file, lock.wait, wishes.silent)
    };
    assert_eq!(lock("f p"), ("f".into(), false, false));
    assert_eq!(lock("-nx f p"), ("f".into(), true, true));
    assert_eq!(lock("-nNxX f p"), ("f".into(), false, false));
}

#[test]
fn programs_without_options_take_a_dash_for_their_operand() {
    let wishes = read(Called::EnvDir, &words("-x p")).expect("understood");
    assert_eq!(wishes.env_dir, Some("-x".into()));
    assert!(!wishes.skip_directories);
}

proptest::proptest! {
    #[test]
    fn any_words_are_understood_or_refused(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)
    ) {
        properties::chpst_options(&bytes);
    }

    #[test]
    fn words_that_look_like_options_are_understood_or_refused(
        line in "(-[uUbemdopfcrtnlLCvP012V/asxXN=]{1,3}[0-9=+-]{0,4}\0|[a-z:/]{0,5}\0){0,6}"
    ) {
        properties::chpst_options(line.as_bytes());
    }

    #[test]
    fn any_file_of_an_environment_directory_is_a_value_or_unsets(
        bytes in proptest::collection::vec(proptest::sample::select(b"ab \t\n\0=\xff".as_slice()), 0..30)
    ) {
        properties::envdir_file(&bytes);
    }
}
