//! service.toml: from its text to a definition, or to everything that is wrong with it.
//!
//! Pure. A file with one mistake gives no definition at all: half of one could start a service as
//! the wrong user or stop it the wrong way. All mistakes are found in one go, unless the syntax
//! itself is broken.

use super::findings::{Finding, Findings, position, quoted, show};
use super::keys::{nearest, nearest_key};
use super::values;
use crate::machine::spec::{Kind, Policy, Rule, Scope, Spec, Stamp, Start};
use crate::machine::vocab::Signal;
use crate::os::limits::LIMITS;
use crate::os::users;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

mod cgroup;
mod item;
mod limits;

use item::Item;

/// Largest service.toml in bytes.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
/// Longest description in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Longest path in bytes: PATH_MAX without its NUL.
const PATH_BYTES_MAX: usize = 4095;
/// Smallest log that is worth rotating: below it all but the last lines would be lost.
pub const LOG_SIZE_MIN: u64 = 4096;
pub const LOG_SIZE_MAX: u64 = 1 << 40;
pub const LOG_KEEP_MAX: u32 = 100_000;
/// Doubling starts from here, so less would let a crash loop eat a processor.
pub const RESTART_DELAY_MIN: Duration = Duration::from_millis(100);

/// What the reader has to know of the directory around the file.
pub(super) struct Around<'a> {
    pub(super) name: &'a str,
    pub(super) dir: &'a Path,
    /// Something called `run` is there.
    pub(super) has_run: bool,
}

/// Fills `spec` in, and returns what is odd but no mistake.
pub(super) fn read(
    source: &str,
    around: &Around<'_>,
    spec: &mut Spec,
) -> Result<Vec<String>, Findings> {
    let (table, errors) = DeTable::parse_recoverable(source);
    let mut reader = Reader {
        around,
        spec: spec.clone(),
        findings: syntax(source, &errors),
        warnings: Vec::new(),
    };
    // After a syntax error the rest is a guess, and findings about a guess would mislead.
    if reader.findings.is_empty() {
        reader.top(table.get_ref());
    }
    match show(around.name, source, reader.findings) {
        Some(findings) => Err(findings),
        None => {
            *spec = reader.spec;
            Ok(reader.warnings)
        }
    }
}

/// The first error of each line: the parser goes on where it guesses that sense begins again, and
/// complains of the same mistake once more.
fn syntax(source: &str, errors: &[toml::de::Error]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = errors
        .iter()
        .map(|error| syntax_error(source, error))
        .collect();
    findings.sort_by_key(|finding| finding.span.start);
    findings.dedup_by_key(|finding| position(source, finding.span.start).0);
    findings
}

fn syntax_error(source: &str, error: &toml::de::Error) -> Finding {
    let span = error.span().unwrap_or(source.len()..source.len());
    let before = source.get(..span.start).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = source.get(line..).unwrap_or_default();
    let title = error.message().replace(", expected nothing", "");
    Finding {
        help: syntax_help(&title, before, line),
        title,
        label: String::new(),
        span,
    }
}

/// What was most likely meant; `line` is the one with the error, `before` all that goes before that.
fn syntax_help(title: &str, before: &str, line: &str) -> Option<String> {
    let line = line.lines().next()?.trim();
    if line.starts_with("umask") {
        return Some("write umask = \"027\"".to_owned());
    }
    let key_end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    let (key, rest) = line.split_at(key_end?);
    if let Some(value) = rest
        .trim_start()
        .strip_prefix(':')
        .filter(|_| !key.is_empty())
    {
        let value = value.trim();
        let begins = |c: char| c.is_ascii_digit() || matches!(c, '"' | '\'' | '[' | '{');
        let is_value = value.starts_with(begins) || matches!(value, "true" | "false");
        return Some(match is_value {
            true => format!("write {key} = {value}"),
            false => format!("write {key} = '{value}'"),
        });
    }
    if title.starts_with("duplicate key") {
        // In the same table: what another header separates is another key.
        let lines: Vec<&str> = before.lines().collect();
        let first = lines
            .iter()
            .enumerate()
            .rev()
            .take_while(|(_, line)| !line.trim_start().starts_with('['))
            .filter(|(_, other)| {
                let other = other.trim_start().strip_prefix(key);
                other.is_some_and(|rest| rest.trim_start().starts_with('='))
            })
            .last()?;
        return Some(format!(
            "line {} sets it already; keep one of them",
            first.0 + 1
        ));
    }
    None
}

struct Reader<'a> {
    around: &'a Around<'a>,
    spec: Spec,
    findings: Vec<Finding>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn top(&mut self, table: &DeTable<'_>) {
        for item in Item::of_table("", table) {
            match item.name {
                "description" => self.spec.description = self.text(&item, DESCRIPTION_BYTES_MAX),
                "exec" => self.exec(&item),
                "user" => self.spec.identity.user = self.who(&item),
                "group" => self.spec.identity.group = self.who(&item),
                "groups" => self.groups(&item, table),
                "clear-env" => self.spec.identity.clear_env = self.boolean(&item),
                "env" => self.env(&item),
                "env-file" => self.spec.identity.env_files = self.paths(&item),
                "directory" => self.spec.identity.directory = self.place(&item),
                "umask" => self.spec.identity.umask = self.umask(&item),
                "limits" => self.limits(&item),
                "cgroup" => self.cgroup(&item),
                "stop" => self.stop(&item),
                "restart" => self.restart(&item),
                "essential" => self.essential(&item, table),
                "log" => self.log(&item),
                _ => self.unknown("", &item),
            }
        }
    }

    fn exec(&mut self, item: &Item<'_>) {
        if self.around.has_run {
            self.wrong(
                item.key_span.clone(),
                "exec is set and ./run is there: which one is to be started?",
                "remove one of the two",
            );
        }
        let words = match item.value {
            DeValue::Array(_) => self.texts(item, PATH_BYTES_MAX * 16),
            DeValue::String(line) => self.command_line(item, line),
            _ => self.expected(item, "an array of strings, or a string"),
        };
        match words {
            Some(words) if words.first().is_none_or(String::is_empty) => self.wrong(
                item.span.clone(),
                "exec names no program",
                "write exec = [\"program\", \"argument\"]",
            ),
            Some(words) => self.spec.start = Start::Exec(words),
            None => {}
        }
    }

    fn command_line(&mut self, item: &Item<'_>, line: &str) -> Option<Vec<String>> {
        self.text(item, usize::MAX)?;
        let Ok(words) = shell_words::split(line) else {
            self.wrong(
                item.span.clone(),
                "a quote in exec is not closed",
                "close it; one that the program is to get is \\\\' or \\\\\\\" in \"...\", and \\\" in '...'",
            );
            return None;
        };
        if let Some(word) = values::shell_word(&words) {
            self.warnings.push(format!(
                "service.toml: exec is run without a shell, so {} is passed to the program as it \
                 is; if a shell is meant: exec = [\"sh\", \"-c\", \"...\"]",
                quoted(word)
            ));
        }
        Some(words)
    }

    fn groups(&mut self, item: &Item<'_>, table: &DeTable<'_>) {
        if !Item::of_table("", table).any(|other| other.name == "user") {
            self.wrong(
                item.key_span.clone(),
                "groups is set without user",
                "add user, or remove groups",
            );
        }
        let Some(items) = self.items(item) else {
            return;
        };
        let groups: Vec<String> = items.iter().filter_map(|item| self.who(item)).collect();
        self.spec.identity.groups = Some(groups);
    }

    /// A directory to work in.
    fn place(&mut self, item: &Item<'_>) -> Option<String> {
        let text = self.text(item, PATH_BYTES_MAX)?;
        if text.is_empty() {
            let help = "leave it out for the service directory";
            self.wrong(
                item.span.clone(),
                "directory names nothing".to_owned(),
                help,
            );
            return None;
        }
        Some(text)
    }

    /// A user or group: a name, or a number as integer or text.
    fn who(&mut self, item: &Item<'_>) -> Option<String> {
        let text = match item.value {
            DeValue::Integer(_) => self.integer(item, 0, u64::from(u32::MAX) - 1)?.to_string(),
            DeValue::String(_) => self.text(item, users::NAME_BYTES_MAX)?,
            _ => return self.expected(item, "a name or a number"),
        };
        if !users::could_be_name(&text) {
            let title = format!("{} can't be a name", quoted(&text));
            // As chpst has it.
            let help = match text.split_once(':') {
                Some((user, group)) if item.name == "user" => {
                    format!("write user = \"{user}\" and group = \"{group}\"")
                }
                Some(_) | None => String::new(),
            };
            self.wrong(item.span.clone(), title, help);
            return None;
        }
        Some(text)
    }

    fn env(&mut self, item: &Item<'_>) {
        let Some(items) = self.table(item) else {
            return;
        };
        for item in items {
            if item.name.is_empty() || item.name.contains(['=', '\0']) {
                let title = format!("{} can't be the name of a variable", quoted(item.name));
                self.wrong(item.key_span.clone(), title, "");
                continue;
            }
            let value = match item.value {
                DeValue::Integer(_) => match item.whole_number() {
                    Some(number) => Some(number.to_string()),
                    None => self.out_of_range(&item, i64::MIN, i64::MAX),
                },
                DeValue::Boolean(value) => Some(value.to_string()),
                DeValue::String(_) => self.text(&item, FILE_BYTES_MAX),
                _ => self.expected(&item, "a string, an integer or a boolean"),
            };
            if let Some(value) = value {
                self.spec.identity.env.insert(item.name.to_owned(), value);
            }
        }
    }

    fn paths(&mut self, item: &Item<'_>) -> Vec<String> {
        match item.value {
            DeValue::String(_) => self.text(item, PATH_BYTES_MAX).into_iter().collect(),
            DeValue::Array(_) => self.texts(item, PATH_BYTES_MAX).unwrap_or_default(),
            _ => self
                .expected(item, "a string, or an array of strings")
                .unwrap_or_default(),
        }
    }

    fn umask(&mut self, item: &Item<'_>) -> Option<u32> {
        match item.value {
            DeValue::String(text) => {
                let mask = values::umask(text);
                self.checked(item, mask)
            }
            // Ten and eight are as easily mixed up as the result is harmful.
            DeValue::Integer(number) if number.radix() != 8 && number.as_str() != "0" => {
                let octal = format!("write umask = \"{:0>3}\"", number.as_str());
                let title = "umask is an integer that is not octal";
                self.wrong(item.span.clone(), title, octal);
                None
            }
            DeValue::Integer(_) => {
                let mask = self.integer(item, 0, 0o777)?;
                u32::try_from(mask).ok()
            }
            _ => self.expected(item, "an octal string, such as \"027\""),
        }
    }

    fn stop(&mut self, item: &Item<'_>) {
        for item in self.table(item).unwrap_or_default() {
            match item.name {
                "signal" => self.signal(&item),
                "timeout" => {
                    if let Some(timeout) = self.patience(&item) {
                        self.spec.stop.timeout = timeout;
                    }
                }
                "finish-timeout" => {
                    if let Some(timeout) = self.patience(&item) {
                        self.spec.stop.finish_timeout = timeout;
                    }
                }
                "scope" => {
                    let scopes = [
                        ("process", Scope::Process),
                        ("group", Scope::Group),
                        ("session", Scope::Session),
                        ("tree", Scope::Tree),
                    ];
                    if let Some(scope) = self.choice(&item, &scopes) {
                        self.spec.stop.scope = scope;
                    }
                }
                _ => self.unknown("stop", &item),
            }
        }
    }

    fn signal(&mut self, item: &Item<'_>) {
        let text = match item.value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            _ => {
                return self
                    .expected(item, "a signal's name or number")
                    .unwrap_or_default();
            }
        };
        match values::signal(&text) {
            Some(Signal::STOP) => self.wrong(
                item.span.clone(),
                "SIGSTOP halts a process and does not end it",
                "TERM is the default",
            ),
            Some(signal) => self.spec.stop.signal = signal,
            None => {
                let known = [
                    "term", "quit", "int", "hup", "usr1", "usr2", "kill", "winch", "alrm",
                ];
                let bare = text.to_lowercase();
                let meant = nearest(bare.trim_start_matches("sig"), known).map(str::to_uppercase);
                match meant {
                    None => {
                        let title = format!("{} is no signal", quoted(&text));
                        let help = "it is a name such as \"TERM\", or a number from 1 to 64";
                        self.wrong(item.span.clone(), title, help);
                    }
                    meant => self.not_one(item, &text, "signal", meant.as_deref()),
                }
            }
        }
    }

    fn restart(&mut self, item: &Item<'_>) {
        let (mut delay, mut max, mut max_span) = (None, None, None);
        for item in self.table(item).unwrap_or_default() {
            match item.name {
                "policy" => {
                    let policies = [
                        ("always", Policy::Always),
                        ("on-failure", Policy::OnFailure),
                        ("never", Policy::Never),
                    ];
                    if let Some(policy) = self.choice(&item, &policies) {
                        self.spec.restart.policy = policy;
                    }
                }
                "delay" => delay = self.delay(&item),
                "max" => {
                    max = self.delay(&item);
                    max_span = Some(item.span.clone());
                }
                _ => self.unknown("restart", &item),
            }
        }
        let Rule::BackOff {
            delay: usual,
            max: usual_max,
        } = self.spec.restart.rule
        else {
            return;
        };
        let delay = delay.unwrap_or(usual);
        match (max, max_span) {
            (Some(max), Some(span)) if max < delay => {
                let title = format!("restart.max is below restart.delay ({delay:?})");
                self.wrong(span, title, "the delay doubles from delay up to max");
            }
            (max, _) => {
                // A delay longer than the usual maximum is its own maximum.
                let max = max.unwrap_or(usual_max.max(delay));
                self.spec.restart.rule = Rule::BackOff { delay, max };
            }
        }
    }

    /// An essential service is not restarted unless the file says so: else it would never end, and
    /// the word would mean nothing.
    fn essential(&mut self, item: &Item<'_>, table: &DeTable<'_>) {
        if self.spec.kind == Kind::Log {
            let title = "a log service can't be essential";
            let help = "write essential = true in its service's own service.toml";
            return self.wrong(item.key_span.clone(), title, help);
        }
        let essential = self.boolean(item);
        self.spec.essential = essential;
        let restart = Item::of_table("", table).find(|other| other.name == "restart");
        let policy = restart.and_then(|restart| match restart.value {
            DeValue::Table(keys) => {
                Item::of_table("restart", keys).find(|key| key.name == "policy")
            }
            _ => None,
        });
        match policy {
            None if essential => self.spec.restart.policy = Policy::Never,
            Some(policy) if essential && is_always(&policy) => {
                let title = "essential is set, and restart.policy = \"always\" never lets it end";
                let help = "write \"on-failure\", or remove the line: then it is not restarted";
                self.wrong(policy.span, title, help);
            }
            None | Some(_) => {}
        }
    }

    fn delay(&mut self, item: &Item<'_>) -> Option<Duration> {
        match self.patience(item)? {
            Some(delay) if delay < RESTART_DELAY_MIN => {
                let title = format!("{} is shorter than {RESTART_DELAY_MIN:?}", item.path);
                let help = "the first restart comes at once anyway; the delay is for the next ones";
                self.wrong(item.span.clone(), title, help);
                None
            }
            Some(delay) => Some(delay),
            None => {
                let title = format!("{} can't be endless", item.path);
                self.wrong(
                    item.span.clone(),
                    title,
                    "for no restart: policy = \"never\"",
                );
                None
            }
        }
    }

    fn log(&mut self, item: &Item<'_>) {
        if self.spec.kind == Kind::Log {
            let title = "a log service has no log of its own";
            self.wrong(item.key_span.clone(), title, "remove the table");
            return;
        }
        for item in self.table(item).unwrap_or_default() {
            match item.name {
                "dir" => {
                    let dir = self.text(&item, PATH_BYTES_MAX);
                    let dir = dir.and_then(|dir| self.absolute(&item, &dir));
                    self.spec.log.dir = dir.filter(|dir| self.may_hold_a_log(&item, dir));
                }
                "size" => self.spec.log.size = self.size(&item, LOG_SIZE_MIN, LOG_SIZE_MAX),
                "keep" => {
                    let keep = self.integer(&item, 1, LOG_KEEP_MAX.into());
                    self.spec.log.keep = keep.and_then(|keep| u32::try_from(keep).ok());
                }
                "stamp" => {
                    let stamps = [
                        ("iso", Stamp::Iso),
                        ("human", Stamp::Human),
                        ("tai64n", Stamp::Tai64n),
                        ("none", Stamp::None),
                    ];
                    if let Some(stamp) = self.choice(&item, &stamps) {
                        self.spec.log.stamp = stamp;
                    }
                }
                _ => self.unknown("log", &item),
            }
        }
    }

    /// The scribe has a working directory of its own: what is relative is so to the service.
    fn absolute(&mut self, item: &Item<'_>, path: &str) -> Option<String> {
        let whole = self.around.dir.join(path).into_os_string().into_string();
        if whole.is_err() {
            let title = "the service directory's own path is not UTF-8";
            self.wrong(item.span.clone(), title, "give an absolute path");
        }
        whole.ok()
    }

    /// The log would be made where it has a meaning of its own for the service directory: `log/` is a
    /// log service, and the output would wait for that for ever.
    fn may_hold_a_log(&mut self, item: &Item<'_>, dir: &str) -> bool {
        let first = first_below(self.around.dir, Path::new(dir));
        let taken = first.filter(|first| first == "log" || first == "supervise");
        if let Some(name) = &taken {
            let title = match name == "log" {
                true => "log.dir can't be in log/, which makes a log service of it",
                false => "log.dir can't be in supervise/, which is the supervisor's",
            };
            self.wrong(item.span.clone(), title, "write dir = \"logs\", say");
        }
        taken.is_none()
    }
}

/// The first name below that directory, if the path leads below it.
fn first_below(base: &Path, path: &Path) -> Option<OsString> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    let below = plain.strip_prefix(base).ok()?;
    Some(below.components().next()?.as_os_str().to_owned())
}

fn is_always(policy: &Item<'_>) -> bool {
    matches!(policy.value, DeValue::String(text) if text == "always")
}

#[cfg(test)]
mod tests;
