//! The table `limits`: `nofile = 1024`, `core = "unlimited"`, `stack = { soft = "8M", hard = "64M" }`.

use super::{Item, LIMITS, Reader};
use crate::machine::spec::Limit;
use crate::os::limits::{Unit, by_name};
use toml::de::DeValue;

impl Reader<'_> {
    pub(super) fn limits(&mut self, item: &Item<'_>) {
        for item in self.table(item).unwrap_or_default() {
            match by_name(item.name) {
                Some(known) => self.limit(&item, known.unit),
                None => self.unknown_limit(&item),
            }
        }
    }

    fn unknown_limit(&mut self, item: &Item<'_>) {
        if super::nearest_key("limits", item.name).is_some() {
            return self.unknown("limits", item);
        }
        let names: Vec<&str> = LIMITS.iter().map(|limit| limit.name).collect();
        let title = format!("{} is no limit", super::quoted(item.name));
        self.wrong(
            item.key_span.clone(),
            title,
            format!("they are {}", names.join(", ")),
        );
    }

    fn limit(&mut self, item: &Item<'_>, unit: Unit) {
        let both = match item.value {
            DeValue::Table(_) => self.soft_and_hard(item, unit),
            _ => self.bound(item, unit).map(|bound| (bound, bound)),
        };
        if let Some((soft, hard)) = both {
            self.spec.identity.limits.push(Limit {
                resource: item.name.to_owned(),
                soft,
                hard,
            });
        }
    }

    fn soft_and_hard(&mut self, item: &Item<'_>, unit: Unit) -> Option<(Option<u64>, Option<u64>)> {
        let (mut soft, mut hard) = (None, None);
        for part in self.table(item)? {
            match part.name {
                "soft" => soft = Some(self.bound(&part, unit)?),
                "hard" => hard = Some(self.bound(&part, unit)?),
                _ => {
                    let title = format!("unknown key {}", super::quoted(part.name));
                    self.wrong(part.key_span.clone(), title, "a limit has soft and hard");
                }
            }
        }
        let (Some(soft), Some(hard)) = (soft, hard) else {
            let title = format!("{} needs both soft and hard", item.path);
            self.wrong(item.span.clone(), title, "one plain value sets both");
            return None;
        };
        let above = match (soft, hard) {
            (Some(soft), Some(hard)) => soft > hard,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if above {
            let title = format!("{}: soft is above hard", item.path);
            self.wrong(item.span.clone(), title, "");
            return None;
        }
        Some((soft, hard))
    }

    /// One bound; `Some(None)` is unlimited.
    fn bound(&mut self, item: &Item<'_>, unit: Unit) -> Option<Option<u64>> {
        // RLIM_INFINITY is the largest u64, and TOML's integers end before it.
        let max = i64::MAX.unsigned_abs();
        match (item.value, unit) {
            (DeValue::String(text), _) if matches!(&**text, "unlimited" | "infinity") => Some(None),
            (DeValue::Integer(_), _) => self.integer(item, 0, max).map(Some),
            (DeValue::String(_), Unit::Bytes) => self.size(item, 0, max).map(Some),
            (_, Unit::Bytes) => {
                self.expected(item, "an integer, a size such as \"64M\", or \"unlimited\"")
            }
            (_, Unit::Seconds | Unit::Microseconds | Unit::Count) => {
                self.expected(item, "an integer, or \"unlimited\"")
            }
        }
    }
}
