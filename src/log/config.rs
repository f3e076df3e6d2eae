//! svlogd's `config` file. Pure, and total: any bytes are a config; what is not understood is
//! ignored, as svlogd does.

use super::select::{Rule, Verdict};
use nix::errno::Errno;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Only so much of the file is read.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// svlogd's port for `u` and `U`.
const SYSLOG_PORT: u16 = 514;

/// Where lines are sent as datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// None: what was written is none.
    pub to: Option<SocketAddrV4>,
    /// `U`: sent only, not written; so it stays when the address is none.
    pub only: bool,
}

/// What is told about the file; it counts as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    Unreadable(Errno),
    Address(Box<[u8]>),
    Port(Box<[u8]>),
    /// Its processor is not started, since that user may have written it.
    Distrusted(u32),
}

/// What the file says; None where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Bytes of `current` before it is rotated; 0 never.
    pub size: Option<u64>,
    /// Rotated files that stay; 0 all.
    pub keep: Option<u32>,
    /// Rotated files that stay even when the disk is full.
    pub min: Option<u32>,
    /// Seconds after which a non-empty `current` is rotated; 0 never.
    pub age_s: Option<u64>,
    /// A shell command through which rotated files go.
    pub processor: Option<Box<[u8]>>,
    pub udp: Option<Udp>,
    /// Put between the stamp and the line.
    pub prefix: Option<Box<[u8]>>,
    /// For `current`, in order.
    pub rules: Vec<Rule>,
    /// For standard error, in order.
    pub error_rules: Vec<Rule>,
    pub flaws: Vec<Flaw>,
}

impl Config {
    pub fn parse(file: &[u8]) -> Config {
        let file = &file[..file.len().min(CONFIG_BYTES_MAX)];
        let mut config = Config::default();
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            // A last line of one byte without its newline is none to svlogd.
            if line.len() == 1 {
                continue;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            // svlogd's strings end at a NUL.
            let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some((key, value)) = line.split_first() {
                config.set(*key, value);
            }
        }
        config
    }

    fn set(&mut self, key: u8, value: &[u8]) {
        let rule = |verdict| Rule {
            verdict,
            pattern: value.into(),
        };
        match key {
            b's' => {
                let (number, suffix) = number(value);
                self.size = Some(match suffix {
                    Some(b'k') => number.saturating_mul(1024),
                    Some(b'm') => number.saturating_mul(1024 * 1024),
                    _ => number,
                });
            }
            b'n' => self.keep = Some(small(number(value).0)),
            b'N' => self.min = Some(small(number(value).0)),
            b't' => {
                let (number, suffix) = number(value);
                self.age_s = Some(match suffix {
                    Some(b'm') => number.saturating_mul(60),
                    Some(b'h') => number.saturating_mul(3600),
                    _ => number,
                });
            }
            // Without a text they leave what an earlier line said, as in svlogd.
            b'!' | b'p' if value.is_empty() => {}
            b'!' => self.processor = Some(value.into()),
            b'u' => self.send_to(value, false),
            b'U' => self.send_to(value, true),
            b'p' => self.prefix = Some(value.into()),
            b'+' => self.rules.push(rule(Verdict::Selected)),
            b'-' => self.rules.push(rule(Verdict::Deselected)),
            b'e' => self.error_rules.push(rule(Verdict::Selected)),
            b'E' => self.error_rules.push(rule(Verdict::Deselected)),
            _ => {}
        }
    }

    fn send_to(&mut self, value: &[u8], only: bool) {
        let udp = self.udp.get_or_insert_default();
        udp.only |= only;
        let Some((address, rest)) = address(value) else {
            self.flaws.push(Flaw::Address(value.into()));
            return;
        };
        let port = match rest.split_first() {
            Some((b':', port)) => match number(port).0 as u16 {
                0 => {
                    self.flaws.push(Flaw::Port(port.into()));
                    return;
                }
                port => port,
            },
            _ => SYSLOG_PORT,
        };
        udp.to = Some(SocketAddrV4::new(address, port));
    }
}

/// Four numbers with dots between them, each counted modulo 256 as svlogd does, and what follows.
fn address(text: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let mut octets = [0; 4];
    let mut rest = text;
    for (place, octet) in octets.iter_mut().enumerate() {
        if place > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        *octet = number(rest).0 as u8;
        rest = &rest[digits..];
    }
    Some((octets.into(), rest))
}

/// The decimal number at the start, and the byte after it. No digits are a zero.
fn number(text: &[u8]) -> (u64, Option<u8>) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = text[..digits].iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    (number, text.get(digits).copied())
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_key_is_read() {
        let config = Config::parse(
            b"s20k\nn5\nN2\nt3h\n!gzip\nu127.0.0.1:99\nppre: \n-*\n+a*\ne*\nEb*\n# other\nxyz",
        );
        assert_eq!(config.size, Some(20 * 1024));
        assert_eq!((config.keep, config.min), (Some(5), Some(2)));
        assert_eq!(config.age_s, Some(3 * 3600));
        assert_eq!(config.processor.as_deref(), Some(&b"gzip"[..]));
        let udp = config.udp.unwrap();
        assert_eq!(udp.to, Some("127.0.0.1:99".parse().unwrap()));
        assert!(!udp.only);
        assert_eq!(config.prefix.as_deref(), Some(&b"pre: "[..]));
        let shown: Vec<_> = config
            .rules
            .iter()
            .map(|r| (r.verdict, &*r.pattern))
            .collect();
        assert_eq!(
            shown,
            [
                (Verdict::Deselected, &b"*"[..]),
                (Verdict::Selected, &b"a*"[..])
            ]
        );
        assert_eq!(config.error_rules.len(), 2);
    }

    #[test]
    fn junk_after_a_number_is_ignored_and_no_number_is_zero() {
        assert_eq!(Config::parse(b"s12x").size, Some(12));
        assert_eq!(Config::parse(b"s2m").size, Some(2 * 1024 * 1024));
        assert_eq!(Config::parse(b"s\n").size, Some(0));
        assert_eq!(
            Config::parse(b"n99999999999999999999999").keep,
            Some(u32::MAX)
        );
    }

    #[test]
    fn the_last_of_a_key_wins_and_an_empty_text_changes_nothing() {
        let config = Config::parse(b"pa\npb\n!x\n!\n");
        assert_eq!(config.prefix.as_deref(), Some(&b"b"[..]));
        assert_eq!(config.processor.as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn a_last_line_of_one_byte_needs_its_newline() {
        let config = Config::parse(b"n3\n-\nn");
        assert_eq!((config.keep, config.rules.len()), (Some(3), 1));
        assert_eq!(Config::parse(b"-"), Config::default());
        assert_eq!(Config::parse(b"s\n").size, Some(0));
    }

    #[test]
    fn a_port_or_address_that_is_none_is_told() {
        let config = Config::parse(b"u127.0.0.1:0\nU1.2.x\n");
        let told = [
            Flaw::Port(b"0"[..].into()),
            Flaw::Address(b"1.2.x"[..].into()),
        ];
        assert_eq!(config.flaws, told);
        assert_eq!(
            config.udp,
            Some(Udp {
                to: None,
                only: true
            })
        );
        let syslog = Config::parse(b"u127.0.0.1 x").udp.unwrap();
        assert_eq!(syslog.to, Some("127.0.0.1:514".parse().unwrap()));
    }

    #[test]
    fn an_empty_pattern_is_kept_since_it_matches_empty_lines() {
        assert_eq!(Config::parse(b"-\n").rules.len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_config(file in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Config::parse(&file);
        }

        #[test]
        fn any_lines_of_known_keys_are_a_config(file in "([snNtuUp!+eE-][0-9a-z:*+]{0,30}\n){0,20}") {
            let _ = Config::parse(file.as_bytes());
        }
    }
}
