//! The table `cgroup`: files of the service's control group and what is written into them, as the
//! kernel names and reads them: `"memory.max" = "64M"`, `"pids.max" = 100`.

use super::{Item, Reader};
use crate::machine::spec::Kind;
use toml::de::DeValue;

/// Longest value in bytes; the kernel's own are lines.
const VALUE_BYTES_MAX: usize = 256;

impl Reader<'_> {
    pub(super) fn cgroup(&mut self, item: &Item<'_>) {
        if self.spec.kind == Kind::Log {
            let title = "a log service has no cgroup of its own";
            return self.wrong(item.key_span.clone(), title, "remove the table");
        }
        for item in self.table(item).unwrap_or_default() {
            if !is_setting(item.name) {
                let title = format!("{} is no setting of a controller", super::quoted(item.name));
                let help = "write it as the kernel does, in quotes: \"memory.max\" = \"64M\"";
                self.wrong(item.key_span.clone(), title, help);
                continue;
            }
            let value = match item.value {
                DeValue::Integer(_) => {
                    let max = i64::MAX.unsigned_abs();
                    self.integer(&item, 0, max).map(|number| number.to_string())
                }
                DeValue::String(_) => self.text(&item, VALUE_BYTES_MAX),
                _ => self.expected(&item, "an integer or a string"),
            };
            if let Some(value) = value {
                let name = item.name.to_owned();
                self.spec.identity.cgroup.insert(name, value);
            }
        }
    }
}

/// `memory.max`, but not what moves or ends processes (`cgroup.procs`, `cgroup.kill`), and no path.
fn is_setting(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
    };
    match name.split_once('.') {
        Some((controller, file)) => controller != "cgroup" && plain(controller) && plain(file),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_setting;

    #[test]
    fn only_settings_of_controllers_pass() {
        for name in ["memory.max", "pids.max", "hugetlb.2MB.max", "io.bfq.weight"] {
            assert!(is_setting(name), "{name}");
        }
        for name in [
            "cgroup.procs",
            "cgroup.kill",
            "memory",
            ".max",
            "a.",
            "../x.y",
            "a/b.c",
            "",
        ] {
            assert!(!is_setting(name), "{name}");
        }
    }
}
