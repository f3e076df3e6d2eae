//! Nothing in the tree depends on where it was written: no paths of one machine, no address that
//! is not loopback, no link to a host that a reader has not heard of, no crate from elsewhere than
//! the public registry.

use super::{complains, no_complaints, tree};

/// Written in two halves, since this file is read as well.
const PATHS: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/tmp", "/wt/"),
    concat!("/root", "/."),
    concat!("/home", "/runner"),
];

/// Hosts that may be linked to; subdomains included.
const HOSTS: [&str; 16] = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "example.org",
    "github.com",
    "smarden.org",
    "skarnet.org",
    "kernel.org",
    "man7.org",
    "rust-lang.org",
    "rustup.rs",
    "debian.org",
    "davmac.org",
    "apache.org",
    "opensource.org",
    "no-color.org",
];

/// What Cargo.lock may name as the source of a crate.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn check(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = format!("{path}:{}", number + 1);
        for known in PATHS.iter().filter(|known| line.contains(**known)) {
            complaints.push(format!("{at}: `{known}` is a path of one machine"));
        }
        for host in hosts(line).filter(|host| !known(host)) {
            complaints.push(format!(
                "{at}: link to `{host}`, which is not in tests/tidy/place.rs"
            ));
        }
        if let Some(source) = line.strip_prefix("source = ")
            && path == "Cargo.lock"
            && source.trim_matches('"') != REGISTRY
        {
            complaints.push(format!("{at}: a crate from {source}"));
        }
    }
    complaints
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && !"-.[]:".contains(c));
        let host = &rest[..end.unwrap_or(rest.len())];
        match host.strip_prefix('[') {
            Some(address) => &host[..address.find(']').map_or(host.len(), |end| end + 2)],
            None => host.split(':').next().unwrap_or(host).trim_end_matches('.'),
        }
    })
}

fn known(host: &str) -> bool {
    // Placeholders such as `://$host` leave nothing to judge.
    host.is_empty()
        || HOSTS.iter().any(|known| {
            host == *known
                || host
                    .strip_suffix(known)
                    .is_some_and(|sub| sub.ends_with('.'))
        })
}

#[test]
fn the_tree_does_not_know_where_it_was_written() {
    let mut complaints = Vec::new();
    for path in tree::files_below(".") {
        let bytes = std::fs::read(tree::root().join(&path)).unwrap();
        complaints.extend(check(&path, &String::from_utf8_lossy(&bytes)));
    }
    no_complaints(complaints);
}

#[cfg(test)]
mod samples {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found() {
        let line = format!("see {}notes", PATHS[0]);
        complains(&check("README.md", &line), "path of one machine");
    }

    #[test]
    fn strange_hosts_are_found_and_loopback_is_not() {
        let strange = ["https:", "//mirror.intranet:8080/index"].concat();
        complains(&check("README.md", &strange), "`mirror.intranet`");
        let tail = ["http:", "//notgithub.com"].concat();
        complains(&check("README.md", &tail), "`notgithub.com`");
        let good =
            "http://127.0.0.1:8080/ https://www.kernel.org/doc. http://[::1]:80 http://$HOST/";
        assert_eq!(check("README.md", good), Vec::<String>::new());
    }

    #[test]
    fn a_crate_from_elsewhere_is_found() {
        let line = ["source = \"git+https:", "//github.com/a/b\""].concat();
        complains(&check("Cargo.lock", &line), "a crate from");
        assert_eq!(
            check("Cargo.lock", &format!("source = \"{REGISTRY}\"")),
            Vec::<String>::new()
        );
    }
}
