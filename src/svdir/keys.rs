//! The keys of service.toml as data: for suggestions, for the manual page and for the tests that
//! hold the reader, this table and the page together.

use crate::os::limits::LIMITS;

/// One key. A table within a table has a path with dots.
pub struct Key {
    pub path: &'static str,
    /// Type and unit, as the manual page has them.
    pub kind: &'static str,
    pub default: &'static str,
    /// A value that is accepted.
    pub example: &'static str,
}

const fn key(
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    Key {
        path,
        kind,
        default,
        example,
    }
}

pub const KEYS: [Key; 27] = [
    key("description", "string", "none", r#""Web server""#),
    key(
        "exec",
        "array of strings, or string",
        "./run",
        r#"["nginx", "-g", "daemon off;"]"#,
    ),
    key("user", "name or number", "unchanged", r#""www-data""#),
    key("group", "name or number", "the user's", r#""www-data""#),
    key(
        "groups",
        "array of names or numbers",
        "all of the user's groups",
        r#"["ssl-cert", 44]"#,
    ),
    key(
        "env",
        "table of strings, integers, booleans",
        "none",
        r#"{ PORT = 8080 }"#,
    ),
    key("clear-env", "boolean", "false", "true"),
    key(
        "env-file",
        "string, or array of strings",
        "none",
        r#""/etc/default/web""#,
    ),
    key(
        "directory",
        "string",
        "the service directory",
        r#""/srv/web""#,
    ),
    key("essential", "boolean", "false", "true"),
    key("umask", "octal string or integer", "unchanged", r#""027""#),
    key(
        "limits",
        "table",
        "unchanged",
        r#"{ nofile = 65536, core = "unlimited" }"#,
    ),
    key(
        "cgroup",
        "table of integers and strings",
        "none",
        r#"{ "memory.max" = "64M", "pids.max" = 100 }"#,
    ),
    key("stop.signal", "signal", "TERM", r#""QUIT""#),
    key("stop.timeout", "duration", "10s", r#""1m30s""#),
    key(
        "stop.scope",
        "process, group, session or tree",
        "session",
        r#""tree""#,
    ),
    key("stop.finish-timeout", "duration", "10s", "30"),
    key(
        "restart.policy",
        "always, on-failure or never",
        "always",
        r#""on-failure""#,
    ),
    key("restart.delay", "duration", "1s", "0.5"),
    key("restart.max", "duration", "60s", r#""5m""#),
    key(
        "log.dir",
        "string",
        "the service's name below the log root",
        r#""/var/log/web""#,
    ),
    key("log.size", "size in bytes", "1000000", r#""10M""#),
    key("log.keep", "integer", "10", "20"),
    key(
        "log.stamp",
        "iso, human, tai64n or none",
        "iso",
        r#""tai64n""#,
    ),
    key("log", "table", "as its keys say", "{ keep = 3 }"),
    key("restart", "table", "as its keys say", r#"{ delay = 2 }"#),
    key("stop", "table", "as its keys say", "{ timeout = 3 }"),
];

/// What people coming from elsewhere write, and what it is called here.
const ELSEWHERE: [(&str, &str); 26] = [
    ("cmd", "exec"),
    ("command", "exec"),
    ("execstart", "exec"),
    ("program", "exec"),
    ("run", "exec"),
    ("start", "exec"),
    ("uid", "user"),
    ("gid", "group"),
    ("supplementary-groups", "groups"),
    ("environment", "env"),
    ("environment-file", "env-file"),
    ("cwd", "directory"),
    ("chdir", "directory"),
    ("dir", "directory"),
    ("working-directory", "directory"),
    ("rlimits", "limits"),
    ("ulimit", "limits"),
    ("stop-signal", "stop.signal"),
    ("stop-timeout", "stop.timeout"),
    ("kill-mode", "stop.scope"),
    ("critical", "essential"),
    ("flag-essential", "essential"),
    ("autorestart", "restart.policy"),
    ("restart-delay", "restart.delay"),
    ("retention", "log.keep"),
    ("stdout", "log.dir"),
];

/// How alike two words must be (Jaro-Winkler, 1 is equal) to be taken for a slip.
const ALIKE: f64 = 0.8;

/// The word that was most likely meant.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&written.to_lowercase(), word), word))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// The key that was most likely meant by `written` in `table` (empty for the top).
pub(super) fn nearest_key(table: &str, written: &str) -> Option<&'static str> {
    let written = written.to_lowercase().replace('_', "-");
    if table == "limits" {
        return nearest(&written, LIMITS.iter().map(|limit| limit.name));
    }
    let here = KEYS
        .iter()
        .filter_map(|key| match key.path.split_once('.') {
            Some((above, name)) if above == table => Some(name),
            None if table.is_empty() => Some(key.path),
            Some(_) | None => None,
        });
    let elsewhere = || {
        let foreign = ELSEWHERE.iter().find(|(name, _)| *name == written);
        let same_name = |key: &&Key| key.path.rsplit('.').next() == Some(&written);
        let meant = foreign.map(|(_, path)| *path);
        meant.or_else(|| KEYS.iter().find(same_name).map(|key| key.path))
    };
    match nearest(&written, here) {
        // The very word, but for case and underscores; else the right word of the wrong table
        // comes before a word that only looks alike.
        Some(near) if near == written => Some(near),
        near => elsewhere().or(near),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_words_from_elsewhere_and_wrong_tables_find_their_key() {
        for (table, written, meant) in [
            ("", "usr", "user"),
            ("", "env_file", "env-file"),
            ("", "Exec", "exec"),
            ("", "command", "exec"),
            ("", "timeout", "stop.timeout"),
            ("stop", "timout", "timeout"),
            ("stop", "finish_timeout", "finish-timeout"),
            ("stop", "keep", "log.keep"),
            ("limits", "nofiles", "nofile"),
        ] {
            assert_eq!(
                nearest_key(table, written),
                Some(meant),
                "{table}.{written}"
            );
        }
        assert_eq!(nearest_key("", "zzz"), None);
    }
}
