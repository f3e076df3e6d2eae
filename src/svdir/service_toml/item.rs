//! One key with its value, and the readers of plain values: each returns what was meant, or
//! records what is wrong and returns None.

use super::{Finding, Range, Reader, nearest, nearest_key, quoted, values};
use std::fmt::Display;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

pub(super) struct Item<'a> {
    pub(super) name: &'a str,
    /// With the tables above it, for messages.
    pub(super) path: String,
    pub(super) key_span: Range<usize>,
    pub(super) span: Range<usize>,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    pub(super) fn of_table(
        above: &'a str,
        table: &'a DeTable<'a>,
    ) -> impl Iterator<Item = Item<'a>> + 'a {
        table.iter().map(move |(key, value)| {
            let name: &str = key.get_ref();
            let dot = if above.is_empty() { "" } else { "." };
            Item {
                name,
                path: format!("{above}{dot}{name}"),
                key_span: key.span(),
                span: value.span(),
                value: value.get_ref(),
            }
        })
    }

    /// None when it is no integer, or one that does not fit.
    pub(super) fn whole_number(&self) -> Option<i64> {
        match self.value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }
}

impl Reader<'_> {
    pub(super) fn wrong(
        &mut self,
        span: Range<usize>,
        title: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.findings.push(Finding {
            span,
            title: title.into(),
            label: String::new(),
            help: Some(help.into()).filter(|help| !help.is_empty()),
        });
    }

    pub(super) fn expected<T>(&mut self, item: &Item<'_>, what: &str) -> Option<T> {
        let found = match item.value {
            DeValue::Table(_) => "a table",
            DeValue::Array(_) => "an array",
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
        };
        self.findings.push(Finding {
            span: item.span.clone(),
            title: format!("{} must be {what}", item.path.escape_debug()),
            label: format!("this is {found}"),
            help: None,
        });
        None
    }

    pub(super) fn unknown(&mut self, table: &str, item: &Item<'_>) {
        let title = if table.is_empty() {
            format!("unknown key {}", quoted(item.name))
        } else {
            format!("unknown key {} in [{table}]", quoted(item.name))
        };
        let help = nearest_key(table, item.name).map(|near| match near.split_once('.') {
            Some((table, name)) => format!("did you mean {name} in [{table}]?"),
            None => format!("did you mean {near}?"),
        });
        // As in a systemd unit.
        let is_header = table.is_empty() && matches!(item.value, DeValue::Table(_));
        let help = help.or_else(|| {
            is_header.then(|| "the service's own keys stand at the top, under no header".to_owned())
        });
        self.wrong(item.key_span.clone(), title, help.unwrap_or_default());
    }

    /// A value that is none of those known.
    pub(super) fn not_one(&mut self, item: &Item<'_>, text: &str, what: &str, meant: Option<&str>) {
        let help = meant.map(|meant| format!("did you mean \"{meant}\"?"));
        let title = format!("{} is no {what}", quoted(text));
        self.wrong(item.span.clone(), title, help.unwrap_or_default());
    }

    pub(super) fn choice<T: Copy>(&mut self, item: &Item<'_>, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let DeValue::String(text) = item.value else {
            return self.expected(item, &format!("one of {}", names.join(", ")));
        };
        let found = choices.iter().find(|(name, _)| name == text);
        if found.is_none() {
            let title = format!("{} can't be {}", item.path, quoted(text));
            let help = match nearest(text, names.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("it is one of {}", names.join(", ")),
            };
            self.wrong(item.span.clone(), title, help);
        }
        found.map(|(_, value)| *value)
    }

    /// A string without NUL; empty only for a description, which may as well be left out.
    pub(super) fn text(&mut self, item: &Item<'_>, bytes_max: usize) -> Option<String> {
        let DeValue::String(text) = item.value else {
            let plain = match item.value {
                DeValue::Integer(number) => Some(number.as_str()),
                DeValue::Float(number) => Some(number.as_str()),
                DeValue::Boolean(true) => Some("true"),
                DeValue::Boolean(false) => Some("false"),
                _ => None,
            };
            let nothing = self.expected(item, "a string");
            if let (Some(plain), Some(finding)) = (plain, self.findings.last_mut()) {
                finding.help = Some(format!("write \"{plain}\""));
            }
            return nothing;
        };
        let path = item.path.escape_debug();
        if text.contains('\0') {
            let title = format!("{path} holds a NUL byte");
            self.wrong(item.span.clone(), title, "no program can be given one");
            return None;
        }
        if text.len() > bytes_max {
            let title = format!("{path} is longer than {bytes_max} bytes");
            self.wrong(item.span.clone(), title, "");
            return None;
        }
        Some(text.to_string())
    }

    pub(super) fn items<'a>(&mut self, item: &Item<'a>) -> Option<Vec<Item<'a>>> {
        let DeValue::Array(array) = item.value else {
            return self.expected(item, "an array");
        };
        let one = |value: &'a toml::Spanned<DeValue<'a>>| Item {
            name: item.name,
            path: item.path.clone(),
            key_span: item.key_span.clone(),
            span: value.span(),
            value: value.get_ref(),
        };
        Some(array.iter().map(one).collect())
    }

    /// An array of strings; None when one of them is wrong.
    pub(super) fn texts(&mut self, item: &Item<'_>, bytes_max: usize) -> Option<Vec<String>> {
        let items = self.items(item)?;
        let texts: Vec<_> = items
            .iter()
            .map(|item| self.text(item, bytes_max))
            .collect();
        texts.into_iter().collect()
    }

    pub(super) fn table<'a>(&mut self, item: &Item<'a>) -> Option<Vec<Item<'a>>> {
        match item.value {
            DeValue::Table(table) => Some(Item::of_table(item.name, table).collect()),
            _ => self.expected(item, "a table"),
        }
    }

    pub(super) fn boolean(&mut self, item: &Item<'_>) -> bool {
        match item.value {
            DeValue::Boolean(value) => *value,
            _ => self.expected(item, "true or false").unwrap_or_default(),
        }
    }

    pub(super) fn out_of_range<T>(
        &mut self,
        item: &Item<'_>,
        min: impl Display,
        max: impl Display,
    ) -> Option<T> {
        let title = format!("{} must be from {min} to {max}", item.path.escape_debug());
        self.wrong(item.span.clone(), title, "");
        None
    }

    pub(super) fn integer(&mut self, item: &Item<'_>, min: u64, max: u64) -> Option<u64> {
        if !matches!(item.value, DeValue::Integer(_)) {
            return self.expected(item, "an integer");
        }
        let number = item
            .whole_number()
            .and_then(|number| u64::try_from(number).ok());
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Some(number),
            None => self.out_of_range(item, min, max),
        }
    }

    pub(super) fn size(&mut self, item: &Item<'_>, min: u64, max: u64) -> Option<u64> {
        let DeValue::String(text) = item.value else {
            return match item.value {
                DeValue::Integer(_) => self.integer(item, min, max),
                _ => self.expected(item, "a size in bytes, such as 1000000 or \"1M\""),
            };
        };
        let size = self.checked(item, values::size(text))?;
        if (min..=max).contains(&size) {
            Some(size)
        } else {
            self.out_of_range(item, format!("{min} bytes"), format!("{max} bytes"))
        }
    }

    /// A duration; `Some(None)` is for ever.
    pub(super) fn patience(&mut self, item: &Item<'_>) -> Option<Option<Duration>> {
        let duration = match item.value {
            DeValue::Integer(_) => match item.whole_number() {
                Some(number) => values::seconds(number as f64).map(Some),
                None => values::seconds(f64::INFINITY).map(Some),
            },
            DeValue::Float(number) => {
                let number = number.as_str().parse().unwrap_or(f64::NAN);
                values::seconds(number).map(Some)
            }
            DeValue::String(text) => values::duration(text),
            _ => return self.expected(item, "a duration: seconds, or such as \"1m30s\""),
        };
        self.checked(item, duration)
    }

    /// A value read by `values`, whose error says what would be right.
    pub(super) fn checked<T>(&mut self, item: &Item<'_>, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|why| {
                let title = format!("{} has no good value", item.path.escape_debug());
                self.wrong(item.span.clone(), title, why);
            })
            .ok()
    }
}
