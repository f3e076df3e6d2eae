//! Who a program shall run as, the way chpst writes it: `user`, `user:group:group` or, all numbers,
//! `:uid:gid:gid`.

use super::options::scan;
use crate::os::users;

/// More are an error as numbers and passed over as names.
const GROUPS_MAX: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    /// The first is the process's own. Never empty.
    pub gids: Vec<u32>,
}

#[derive(Debug)]
pub enum Trouble {
    /// No such user or group.
    Unknown,
    /// `:uid:gid` that isn't.
    Invalid,
    Unreadable(users::Error),
}

pub fn find(text: &[u8], plain_account: bool) -> Result<Identity, Trouble> {
    match text {
        text if plain_account => account(text),
        [b':', numbers @ ..] => numeric(numbers).ok_or(Trouble::Invalid),
        text => named(text),
    }
}

/// The user's own group alone.
fn account(name: &[u8]) -> Result<Identity, Trouble> {
    let user = user(name)?;
    let gid = user.gid.ok_or(Trouble::Unknown)?;
    Ok(Identity {
        uid: user.uid,
        gids: vec![gid],
    })
}

fn user(name: &[u8]) -> Result<users::User, Trouble> {
    let name = std::str::from_utf8(name).map_err(|_| Trouble::Unknown)?;
    let found = users::named_user(name).map_err(Trouble::Unreadable)?;
    found.ok_or(Trouble::Unknown)
}

fn named(text: &[u8]) -> Result<Identity, Trouble> {
    let mut names = text.split(|byte| *byte == b':');
    let first = names.next().unwrap_or_default();
    let mut identity = account(first)?;
    let mut gids = Vec::new();
    for name in names.take(GROUPS_MAX) {
        let name = std::str::from_utf8(name).map_err(|_| Trouble::Unknown)?;
        let found = users::named_group(name).map_err(Trouble::Unreadable)?;
        gids.push(found.ok_or(Trouble::Unknown)?);
    }
    if !gids.is_empty() {
        identity.gids = gids;
    }
    Ok(identity)
}

/// What stands behind the first colon. A place without a number is 0, numbers wrap around.
pub fn numeric(text: &[u8]) -> Option<Identity> {
    // An id has 32 bits: runit lets the upper half go.
    let id = |number: u64| number as u32;
    let (uid, mut rest) = scan(text);
    rest = rest.strip_prefix(b":")?;
    let mut gids = Vec::new();
    while gids.len() < GROUPS_MAX {
        let (gid, after) = scan(rest);
        gids.push(id(gid));
        match after.strip_prefix(b":") {
            Some(more) => rest = more,
            None if after.is_empty() => {
                rest = after;
                break;
            }
            None => return None,
        }
    }
    rest.is_empty().then_some(Identity { uid: id(uid), gids })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Option<(u32, Vec<u32>)> {
        numeric(text.as_bytes()).map(|it| (it.uid, it.gids))
    }

    #[test]
    fn numbers_may_be_left_out_but_not_the_colon_before_the_group() {
        assert_eq!(ids("1:2:3"), Some((1, vec![2, 3])));
        assert_eq!(ids("1:"), Some((1, vec![0])));
        assert_eq!(ids(":"), Some((0, vec![0])));
        assert_eq!(ids("1:2:"), Some((1, vec![2, 0])));
        for bad in ["", "1", "x", "1:2x", "-1:1", "1:2,3"] {
            assert_eq!(ids(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_wrap_around() {
        assert_eq!(ids("4294967297:4294967298"), Some((1, vec![2])));
    }

    #[test]
    fn there_are_at_most_sixty_groups() {
        let groups = |count: usize| vec!["2"; count].join(":");
        let count = |text: String| ids(&text).map(|(_, gids)| gids.len());
        assert_eq!(count(format!("1:{}", groups(60))), Some(60));
        assert_eq!(count(format!("1:{}:", groups(60))), Some(60));
        assert_eq!(count(format!("1:{}", groups(61))), None);
    }
}
