//! Which built-in steps are left out: `outlast.skip=NAME,NAME` on the kernel's command line, and the
//! names in a small file.

use std::fs;

const FILE: &str = "/etc/outlast/boot.skip";
const PARAMETER: &str = "outlast.skip=";

pub struct Skip(Vec<String>);

impl Skip {
    /// As far as it can be read now: before /proc is there, only the file.
    pub fn read() -> Skip {
        let file = fs::read_to_string(FILE).unwrap_or_default();
        let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Skip::of(&file, &line)
    }

    fn of(file: &str, command_line: &str) -> Skip {
        let plain = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
        let mut names: Vec<String> = file.lines().map(plain).collect();
        let lists = command_line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(PARAMETER));
        names.extend(lists.flat_map(|list| list.split(',')).map(str::to_owned));
        Skip(names)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|skipped| skipped == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_file_and_from_the_kernels_command_line() {
        let skip = Skip::of(
            "# no disks here\nfsck\n  swap  # none\n",
            "quiet outlast.skip=seed,sysctl console=ttyS0 outlast.skip=root",
        );
        for name in ["fsck", "swap", "seed", "sysctl", "root"] {
            assert!(skip.has(name), "{name}");
        }
        assert!(!skip.has("hostname") && !skip.has("none"));
    }
}
